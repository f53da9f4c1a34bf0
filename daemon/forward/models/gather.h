/* Which calls without a step are one row, for producers that ask for it (`merge_rows`): trainers
 * that log one value a call. A call joins the row before it
 *  - when that waits for more (commit=False); else
 *  - when none of its keys is in the row already, and it was made within GATHER_US of the row's
 *    newest call, or says the same value of a step metric as the row does.
 * Pure: from what is stored alone, so a backlog gathers as live would. One owner at a time. */
#pragma once

#include "daemon/forward/models/metric.h"

enum {
	GATHER_KEYS_MAX = 1024 /* of a row, and its calls; more begin another one */
};
#define GATHER_US ((int64_t)1000000)

struct row_key { /* both are hashes, the same on every machine: they are stored */
	uint64_t name;
	uint64_t value; /* of a step metric; else 0 */
};

struct row_keys {
	struct row_key *items;
	size_t count;
	size_t cap;
};

/* Adds the top-level keys of what a call logs. 0, -ENOMEM, -EBADMSG. */
int row_keys_of(struct mp data, const struct metrics *m, struct row_keys *ret);
void row_keys_done(struct row_keys *k);

struct gather { /* zeroed: an empty one */
	struct row_keys keys;
	size_t calls;
	int64_t call_us; /* when its newest call was made */
	int64_t due_us;  /* when it is complete, though nothing comes; by the store's time */
};

void gather_clear(struct gather *g); /* for the next row */
void gather_done(struct gather *g);
/* The call belongs to the same row as those before it; there is one at least. */
bool gather_takes(const struct gather *g, const struct row_keys *keys, int64_t call_us);
struct gather_call {
	const struct row_keys *keys;
	int64_t call_us;   /* when it was made */
	int64_t stored_us; /* when it was stored */
	bool is_open;      /* commit=False: the next one belongs to it */
};
/* Adds a call. merge_max_us: how long a row that says a step metric waits for more of the same. 0,
 * -ENOMEM. */
int gather_add(struct gather *g, const struct gather_call *call, int64_t merge_max_us);

/* State: four values of a list, and back. */
void gather_pack(const struct gather *g, struct pack *p);
int gather_read(struct gather *ret, struct mp *at); /* 0, -ENOMEM, -EBADMSG */
