/* Which producers are in which runs, and when one is gone: its connection ended, its journal is
 * free, and 60 s of the daemon's life passed without its return. A `gone` record then goes into
 * each of its runs, so that planning sees it in its place. A start of the daemon ends nothing:
 * everybody the store knows gets the same time to come back. Loop thread. */
#pragma once

#include "daemon/base/map.h"
#include "daemon/flow/batch.h"

struct ingest;

struct presence {
	struct map producers;
	struct ingest *ingest;
	uint64_t gone_after_ms;
};

int presence_init(struct presence *p, struct ingest *ingest,
		  uint64_t gone_after_ms); /* 0, or -errno */
void presence_done(struct presence *p);

/* A producer opened, or left, a run, and that is on disk. run_id: the store's number. */
void presence_joined(struct presence *p, const struct batch_peer *peer, struct span run,
		     int64_t run_id);
void presence_left(struct presence *p, const struct batch_peer *peer, struct span run);
/* Gives a frame to all who are connected and opened the run, also when they have left it. */
void presence_tell(struct presence *p, int64_t run_id, struct span frame);
/* Its connection (or replay) began, or ended. */
void presence_connected(struct presence *p, uint32_t uid, const uint8_t producer[PRODUCER_BYTES]);
void presence_disconnected(struct presence *p, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
			   uint64_t now_ms);
/* From a look at the journals: this producer's is held by a living process (its time starts again).
 */
void presence_alive(struct presence *p, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
		    uint64_t now_ms);
/* Once a second. journals_seen_ms: when the last look at the journals began; nobody goes before one
 * that began after it left. */
void presence_tick(struct presence *p, uint64_t now_ms, uint64_t journals_seen_ms);
