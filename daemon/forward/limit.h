/* A token bucket: so many a second, so many at once. Time comes in, so tests turn it. One owner at
 * a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct limit {
	double per_s; /* 0: no limit */
	double burst; /* tokens it holds when full */
	double tokens;
	uint64_t filled_ms; /* up to then */
};

/* Takes the rate from now on; a bucket that had none starts full. */
void limit_set(struct limit *l, double per_s, double burst, uint64_t now_ms);
/* Takes n tokens (more than the bucket holds: all of them, once it is full). 0: taken; else
 * nothing was taken, ask again after so many ms. */
uint64_t limit_take(struct limit *l, double n, uint64_t now_ms);
/* Takes what there is, up to max whole tokens. 0: none now. */
size_t limit_take_some(struct limit *l, size_t max, uint64_t now_ms);
/* How long until n tokens are there. */
uint64_t limit_wait_ms(struct limit *l, double n, uint64_t now_ms);
