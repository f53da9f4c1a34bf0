/* The calls of a trace as trees: what may go now, and in which order. Pure; one owner at a time. */
#pragma once

#include "daemon/flow/trace.h"

enum {
	FOREST_MAX = 20000 /* calls of one trace in memory at a time */
};

struct forest_node {
	struct call_row row;
	struct buf usage; /* row.usage_below is of this */
	size_t parent;    /* its place, or SIZE_MAX: it is not here */
	size_t pending;   /* children that were not looked at */
	bool is_blocked;  /* something below it is open */
	bool is_ready;    /* it has ended, and so has all below it */
};

/* Embeddable, all 0 at first. */
struct forest {
	struct forest_node *nodes; /* by id, rising, after forest_order() */
	size_t count;
	size_t cap;
	size_t *order; /* places: every call stands behind those below it */
	size_t ready;  /* how many are */
};

/* Copies. 0; -ENOMEM; -E2BIG: there is no more room. */
int forest_add(struct forest *f, const struct call_row *row);
/* After the last forest_add(). 0, or -ENOMEM. */
int forest_order(struct forest *f);
void forest_done(struct forest *f);
