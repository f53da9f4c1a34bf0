/* All runs that have traces to send, and the way to W&B's trace server: for sender.c. Sender thread
 * only. */
#pragma once

#include "daemon/forward/weave/run.h"

struct traces {
	struct weave_host host;
	struct sinks sinks;
	struct weave_run **runs; /* by number, rising */
	size_t count;
	size_t cap;
};

/* host: reader and base_url come later. 0, or -ENOMEM. */
int traces_init(struct traces *t, const struct weave_host *host, const struct sink_pool *pool);
/* After http, and after the mails of its runs are back. */
void traces_done(struct traces *t);
/* The run may have traces: it is looked after from now on, when it has. */
void traces_offer(struct traces *t, int64_t run, uint32_t uid);
/* There may be new records. */
void traces_look(struct traces *t);
void traces_wake(struct traces *t);
/* What is due, a few ms of it. Returns when it wants to be called again. */
uint64_t traces_turn(struct traces *t, uint64_t now_ms);
/* run 0: of all. */
void traces_flush(struct traces *t, int64_t run);
void traces_retry(struct traces *t, int64_t run);
