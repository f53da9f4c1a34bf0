/* One run on its way to W&B: plans its records, sends what is planned, marks what W&B has, one step
 * after the other. Sender thread only. How far W&B has it:
 *
 *   new ──created there──▶ created ──first answer to its stream──▶ live
 *                             │                                   │  ▲
 *                             │        every producer is gone ────▼  │ one came
 *                             └──────────────────────────────▶ finishing
 *                                     all sent, `complete` said ──▼
 *                                                               done ──a record came──▶ live
 *
 * A parked run stays in its state and waits for a person; `wbxctl retry` takes it back to new,
 * where what W&B has of it is asked for again. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"
#include "daemon/flow/send_rules.h"
#include "daemon/forward/models/digest.h"
#include "daemon/forward/sinks.h"

/* What runs need of the sender; one for all of them. */
struct run_host {
	struct reader *reader;
	struct mailbox *store;   /* changes go there ... */
	struct mailbox *worker;  /* ... and digests there, */
	struct mailbox *replies; /* and come back here */
	struct mailbox *loop;    /* notices; NULL: nobody wants them */
	const char *base_url;
	uint64_t interval_ms;
	uint64_t heartbeat_ms;
	int64_t merge_max_us;
	struct send_tables_rule send_tables;
	uint64_t self_report_ms; /* between lines about wbx itself; 0: none */
	enum table_artifacts tables;
	unsigned loaded; /* runs whose state is in memory */
	uint64_t served; /* requests so far */
};

struct models_run;
struct notice;

/* user: whose it is; borrowed. NULL: no memory. */
struct models_run *models_run_new(struct run_host *host, int64_t id, struct user *user);
/* Not while mails of it are with other threads. Returns NULL. */
struct models_run *models_run_free(struct models_run *r);

int64_t models_run_id(const struct models_run *r);
struct user *models_run_user(const struct models_run *r);
/* Number of its last request, of all runs' requests; 0: none yet. */
uint64_t models_run_served(const struct models_run *r);
/* When it wants its next turn. */
uint64_t models_run_next_ms(const struct models_run *r);
/* Does what is due, a few ms of it at most, when anything is. Returns when it wants its next turn
 * (UINT64_MAX: when something happens to it). */
uint64_t models_run_turn(struct models_run *r, uint64_t now_ms);
/* The way to W&B has opened, or a place on it is free. */
void models_run_wake(struct models_run *r);
/* There may be new records. */
void models_run_look(struct models_run *r);
/* Mails of it that came back. */
void models_run_on_changes(struct models_run *r, struct changes *list);
void models_run_on_digest(struct models_run *r, struct digest_job *job);
/* An operator wants: what waits sent now; another try, also when it is parked. */
void models_run_flush(struct models_run *r);
void models_run_retry(struct models_run *r);
/* All of it is with W&B: it can be freed. */
bool models_run_is_done(const struct models_run *r);
/* Another thread, or W&B, has something of it. */
bool models_run_is_away(const struct models_run *r);
/* Gives its state's memory back; it is read again when needed. Only when it is not away. */
void models_run_unload(struct models_run *r);
bool models_run_is_loaded(const struct models_run *r);
/* Records in the request under way. */
unsigned models_run_in_flight(const struct models_run *r);
/* How the run is, for those who log to it. run NULL: as the store (n->run) says it, for one that nobody
 * looks after any more. The frame stays empty when nothing can be said. */
void models_run_fill_notice(struct run_host *host, struct models_run *run, struct notice *n);
