/* See turns.h. */
#include "daemon/forward/turns.h"

#include "daemon/forward/sinks.h"

#include <stdlib.h>

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_user(const void *first, const void *second)
{
	const struct turn *a = first;
	const struct turn *b = second;
	int r = compare(models_run_user(a->run)->uid, models_run_user(b->run)->uid);

	if (r == 0)
		r = compare(models_run_served(a->run), models_run_served(b->run));
	return r != 0 ? r
		      : compare((uint64_t)models_run_id(a->run), (uint64_t)models_run_id(b->run));
}

static int by_rank(const void *first, const void *second)
{
	const struct turn *a = first;
	const struct turn *b = second;
	int r = compare(a->rank, b->rank);

	if (r == 0)
		r = compare(models_run_user(a->run)->served, models_run_user(b->run)->served);
	return r != 0 ? r : by_user(first, second);
}

void turns_order(struct turn *turns, size_t count)
{
	if (count < 2)
		return;
	qsort(turns, count, sizeof(*turns), by_user);
	turns[0].rank = 0;
	for (size_t i = 1; i < count; i++)
		turns[i].rank = models_run_user(turns[i].run) == models_run_user(turns[i - 1].run)
					? turns[i - 1].rank + 1
					: 0;
	qsort(turns, count, sizeof(*turns), by_rank);
}
