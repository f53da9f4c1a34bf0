/* Compares what we think a config or a summary is with what W&B says. Pure. */
#pragma once

#include "proto/pack.h"

enum {
	DIFFERENCES_MAX = 100, /* told; more are counted */
	DIFFERENT_TEXT_MAX = 200
};

struct differences {
	struct pack to; /* maps {what, key, here, there}; there nil: W&B does not have the key */
	size_t told;
	size_t count;
	size_t keys; /* compared */
};

/* Adds a difference for each key of `here`, but for those that begin with "_" (W&B's own), that is not
 * the same in `there`: two JSON objects, NaN and the infinities as bare words or as text. Keys that only
 * W&B has belong to others. 0; -EBADMSG: one of them cannot be read; -ENOMEM. */
int compare_objects(struct differences *d, const char *what, struct span here, struct span there);
