/* See limit.h. */
#include "daemon/forward/limit.h"

#include <math.h>

static void fill(struct limit *l, uint64_t now_ms)
{
	if (now_ms <= l->filled_ms)
		return;
	l->tokens += (double)(now_ms - l->filled_ms) * l->per_s / 1000;
	l->filled_ms = now_ms;
	if (l->tokens > l->burst)
		l->tokens = l->burst;
}

void limit_set(struct limit *l, double per_s, double burst, uint64_t now_ms)
{
	if (l->per_s > 0)
		fill(l, now_ms);
	else
		*l = (struct limit){.tokens = burst, .filled_ms = now_ms};
	l->per_s = per_s;
	l->burst = burst;
	if (l->tokens > burst)
		l->tokens = burst;
}

uint64_t limit_wait_ms(struct limit *l, double n, uint64_t now_ms)
{
	if (l->per_s <= 0)
		return 0;
	fill(l, now_ms);
	if (n > l->burst)
		n = l->burst;
	/* a hair of tolerance: a bucket filled in thirds must not lack 1e-16 of a token */
	return l->tokens + 1e-9 >= n ? 0 : (uint64_t)ceil((n - l->tokens) * 1000 / l->per_s);
}

uint64_t limit_take(struct limit *l, double n, uint64_t now_ms)
{
	uint64_t wait_ms = limit_wait_ms(l, n, now_ms);

	if (wait_ms == 0 && l->per_s > 0)
		l->tokens -= n < l->tokens ? n : l->tokens;
	return wait_ms;
}

size_t limit_take_some(struct limit *l, size_t max, uint64_t now_ms)
{
	size_t n;

	if (l->per_s <= 0)
		return max;
	fill(l, now_ms);
	n = l->tokens >= (double)max ? max : (size_t)l->tokens;
	l->tokens -= (double)n;
	return n;
}
