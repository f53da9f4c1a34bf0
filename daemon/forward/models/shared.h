/* W&B's shared mode (research: wire/wandb-models 3.4): several writers, each on a machine of its own,
 * log metrics to one run. Every writer has an id, counts its lines and steps from 0 in a line space of
 * its own, and says which it is in headers of its requests; so nobody can write over anybody. Here the
 * writer is the run in this store: all its processes funnel into it. Chosen by the first `run` record,
 * and kept: it is part of the planner's state. One owner at a time. */
#pragma once

#include "proto/base/rng.h"
#include "proto/limits.h"
#include "proto/mp.h"
#include "proto/pack.h"

struct shared {
	bool is_on;
	bool is_primary;             /* of any process; W&B's client keeps some files to that one */
	bool updates_end;            /* says how the run ended; else another writer does */
	bool derives_summary;        /* W&B makes the summary of the rows itself */
	bool is_asked_late;          /* a process wants it, and the run had begun without */
	bool is_settled;             /* a person has looked: it goes on, whatever W&B has */
	char writer[UUID_CHARS + 1]; /* "": none yet; there is one before the first request */
	char label[NAME_MAX_BYTES + 1]; /* of the writer's own lines; "": none */
};

enum { /* numbers of W&B's telemetry, that tell it from an ordinary run */
	SHARED_FEATURE = 67,
	SHARED_FEATURE_DERIVED = 68,
	SHARED_FEATURE_LABEL = 69,
};

/* A `run` record. can_begin: nothing of the run was planned before. */
void shared_run(struct shared *s, struct mp body, bool can_begin);
/* Somebody who only adds to a run that is shared. */
void shared_join(struct shared *s);
/* Needs an id before the next request. */
bool shared_wants_writer(const struct shared *s);
int shared_make_writer(struct shared *s, uint64_t wall_ms); /* 0, -errno */

/* State: a map, and back. */
void shared_to_msgpack(const struct shared *s, struct pack *p);
void shared_from_msgpack(struct shared *ret, struct mp map);
