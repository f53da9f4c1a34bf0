/* The open batch and when it goes to the store: at once when the store is idle and somebody waits,
 * or it has grown, or 5 ms have passed since the last one went; so a busy socket makes few big
 * commits and a quiet one a prompt small one.
 *
 * When a batch fails, the sessions in it end, and what was put together before that was known goes
 * to the store and back (-ESTALE) before anything new fills: a session in it ends then too. Were
 * its later records stored meanwhile, the earlier ones would be taken for known when they come
 * again. Loop thread. */
#pragma once

#include "daemon/base/stats.h"
#include "daemon/ingest/session.h"

enum {
	BATCHES = 3, /* one fills, one is written, one waits */
	COMMIT_RECORDS = 100,
	COMMIT_BYTES = 64 << 10,
	COMMIT_EVERY_MS = 5,
	BATCH_KEEP_BYTES = 256 << 10, /* memory that an idle batch keeps */
	/* of a batch, one user's part while several are connected: whoever logs little waits for
	 * small commits, however much somebody else logs */
	SHARE_RECORDS = 200,
	SHARE_BYTES = 128 << 10,
	SHARES_MAX = 64, /* users of a batch that are looked at so */
};

/* What one user has in the batch that fills. */
struct share {
	uint32_t uid;
	unsigned records;
	size_t bytes;
};

struct batcher {
	struct batch pool[BATCHES];
	struct batch *open; /* fills; NULL: all are at the store */
	struct batch *spare[BATCHES];
	unsigned spare_count;
	struct share shares[SHARES_MAX];
	unsigned share_count;
	unsigned at_store;
	uint64_t number;   /* of the open batch, from 1 */
	uint64_t failures; /* of batches, as far as they are back */
	bool draining;     /* one failed, and those of its time are not all back: none fills */
	uint64_t last_post_ms;
	uint64_t first_ns[BATCHES]; /* when the first entry of each came */
	struct mailbox *store;
	struct stats *stats;
};

void batcher_init(struct batcher *b, struct mailbox *store, struct stats *stats);
void batcher_done(struct batcher *b);

/* All: 0; -EAGAIN the batch, or the user's share of it, is full, or none fills now, hold and try again when one comes back; -ENOMEM. */
int batcher_hello(struct batcher *b, struct session *s, struct span payload);
int batcher_add(struct batcher *b, struct session *s, struct batch_entry *e, struct span payload,
		struct span run);
/* A record of the daemon's own about a producer that is not connected; peer->session is NULL. */
int batcher_gone(struct batcher *b, const struct batch_peer *peer, struct batch_entry *e,
		 struct span payload, struct span run);
/* What fills goes out at the next pump. */
void batcher_hurry(struct batcher *b);

/* Posts what is due. Returns after how many ms it wants to be asked again, UINT64_MAX: when
 * something changes. */
uint64_t batcher_pump(struct batcher *b, uint64_t now_ms);
/* A batch came back: tells its sessions and makes it free again. Presence learns of runs opened and
 * left. */
struct presence;
void batcher_take_back(struct batcher *b, struct batch *batch, struct presence *presence);
/* Nothing is filling and nothing is at the store. */
bool batcher_is_idle(const struct batcher *b);
