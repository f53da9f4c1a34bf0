/* Takes the frames of a dead producer from its files and feeds them to a session, as if it were
 * connected. One producer at a time, looked for every few seconds and right after a connection
 * ended. Loop thread; the files themselves are read by the worker (journal.h). */
#pragma once

#include "daemon/ingest/journal.h"
#include "daemon/ingest/presence.h"
#include "daemon/ingest/session.h"

enum {
	SCAN_EVERY_MS = 5000
};

struct replay;

struct replay *replay_new(struct ingest *ingest, struct presence *presence, struct mailbox *worker,
			  const char *journal_dir, const char *spool_dir);
/* Only when idle or when the worker has given everything back. */
struct replay *replay_free(struct replay *r);

/* Looks when it is time; soon: as soon as possible. */
void replay_tick(struct replay *r, uint64_t now_ms);
void replay_look_soon(struct replay *r);
/* Takes no new producer from now on. */
void replay_stop(struct replay *r);
bool replay_is_idle(const struct replay *r); /* the worker holds nothing of it */
/* Mails that came back. */
void replay_on_scan(struct replay *r, struct scan_job *job);
void replay_on_job(struct replay *r, struct replay_job *job);

struct replay_sums {
	uint64_t producers; /* that are dead and left something to be read in */
	uint64_t bytes;
	int64_t oldest_us;
	uint64_t bad;        /* files that held what nobody can read, put aside as *.bad */
	uint64_t unreadable; /* files that the daemon's user may not open */
};
/* What the last look saw. */
uint64_t replay_seen_ms(const struct replay *r); /* when it began; 0: none yet */
void replay_sums(const struct replay *r, struct replay_sums *ret);
