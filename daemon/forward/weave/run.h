/* The traces of one run on their way to W&B's trace server. Their records become rows about calls
 * (the store's tables `call` and `trace`), traces that are whole become lines, lines become requests;
 * each of these is committed before the next begins. Sender thread only. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"
#include "daemon/flow/sample_rules.h"
#include "daemon/forward/sinks.h"

/* What they need of the sender; one for all of them. */
struct weave_host {
	struct reader *reader;
	struct mailbox *store;            /* changes go there ... */
	struct mailbox *replies;          /* ... and come back here */
	const char *base_url;             /* of the trace server */
	const struct sample_rules *rules; /* which traces are left out */
	bool is_old;                      /* it does not know the routes of today */
	uint64_t served;                  /* requests so far */
};

struct weave_run;

/* user: whose it is; borrowed. NULL: no memory. */
struct weave_run *weave_run_new(struct weave_host *host, int64_t id, struct user *user);
/* Not while mails of it are with other threads. Returns NULL. */
struct weave_run *weave_run_free(struct weave_run *r);

int64_t weave_run_id(const struct weave_run *r);
struct user *weave_run_user(const struct weave_run *r);
/* When it wants its next turn. */
uint64_t weave_run_next_ms(const struct weave_run *r);
/* Does what is due, a few ms of it. Returns when it wants its next turn. */
uint64_t weave_run_turn(struct weave_run *r, uint64_t now_ms);
/* The way has opened, or there may be new records. */
void weave_run_wake(struct weave_run *r);
void weave_run_look(struct weave_run *r);
void weave_run_on_changes(struct weave_run *r, struct changes *list);
/* An operator wants: what waits sent now; another try, also when they are parked. */
void weave_run_flush(struct weave_run *r);
void weave_run_retry(struct weave_run *r);
/* Nothing of it waits: it can be freed. */
bool weave_run_is_done(const struct weave_run *r);
/* Records in the request under way. */
unsigned weave_run_in_flight(const struct weave_run *r);
