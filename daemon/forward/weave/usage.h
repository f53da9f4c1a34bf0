/* Tokens used, by model: what a call used itself and what the calls below it did. Whole numbers
 * only, for the server takes no others. One owner at a time. */
#pragma once

#include "proto/base/json.h"
#include "proto/mp.h"

enum {
	USAGE_ENTRIES_MAX = 256 /* numbers, all models together; more are not counted */
};

struct usage_entry {
	char model[128]; /* may be cut */
	char field[48];
	int64_t value;
};

/* Embeddable, all 0 at first. */
struct usage {
	struct usage_entry *entries;
	size_t count;
	size_t cap;
};

void usage_done(struct usage *u);
/* Adds {model: {field: number}}; what is something else is passed over. 0, or -ENOMEM. */
int usage_add_map(struct usage *u, struct mp map);
int usage_add(struct usage *u, const struct usage *more);
/* As such a map again. */
void usage_pack(const struct usage *u, struct buf *out);
void usage_to_json(const struct usage *u, struct json *j);
