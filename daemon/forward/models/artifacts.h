/* All artifacts that are on their way, a few at a time: of each run and name the oldest first, one of
 * a collection at a time. Sender thread only. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/forward/models/artifact_send.h"

enum {
	ARTIFACTS_AT_ONCE = 4
};

struct artifacts {
	struct artifact_host host;
	struct sinks *sinks;
	struct mailbox box; /* changes and digests come back here */
	/* One of this run is over: it may end, perhaps. */
	void (*on_over)(void *arg, int64_t run);
	void *arg;
	struct artifact_send *slots[ARTIFACTS_AT_ONCE];
	int64_t after; /* they take turns: the number of the one that began last */
	uint64_t next_look_ms;
	bool wants_look;
	bool has_waiting; /* some are on their way: a look may find that more may begin */
};

/* wake: the sender sleeps no more; any thread. 0, -errno. */
int artifacts_init(struct artifacts *a, struct sinks *sinks, void (*wake)(void *arg), void *arg);
/* After http, so that nothing is in flight; and after store and worker, so that nothing is away. */
void artifacts_done(struct artifacts *a);
/* Does what is due. When it wants its next turn. host.reader may be NULL: then nothing. */
uint64_t artifacts_turn(struct artifacts *a, uint64_t now_ms);
/* There may be new ones. */
void artifacts_look(struct artifacts *a);
/* The way has opened, or there is room. */
void artifacts_wake(struct artifacts *a);
/* An operator wants another try, now. */
void artifacts_retry(struct artifacts *a);
