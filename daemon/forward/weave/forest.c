/* See forest.h. Calls without children that wait are taken from a queue, and each makes its parent
 * one child poorer: so no recursion, and parents in a circle do no harm. */
#include "daemon/forward/weave/forest.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <stdlib.h>

int forest_add(struct forest *f, const struct call_row *row)
{
	struct forest_node *n;
	int r;

	if (f->count == FOREST_MAX)
		return -E2BIG;
	if (mem_room(f->nodes, f->count, f->cap) < 0)
		return -ENOMEM;
	n = &f->nodes[f->count];
	*n = (struct forest_node){.row = *row, .parent = SIZE_MAX};
	buf_init(&n->usage, 1 << 20);
	r = buf_add(&n->usage, row->usage_below.at, row->usage_below.len);
	if (r < 0)
		return r;
	n->row.usage_below = buf_span(&n->usage);
	f->count++;
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const struct forest_node *x = a;
	const struct forest_node *y = b;

	return strcmp(x->row.id, y->row.id);
}

static size_t find(const struct forest *f, const char *id)
{
	size_t low = 0;
	size_t high = f->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(f->nodes[middle].row.id, id);

		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return SIZE_MAX;
}

static bool has_ended(const struct forest_node *n)
{
	return n->row.end_lsn > 0 && (n->row.start_lsn > 0 || n->row.is_there);
}

/* Calls whose parents form a circle have no order; they go as they are. */
static size_t add_circles(struct forest *f, size_t ordered)
{
	for (size_t i = 0; ordered < f->count && i < f->count; i++) {
		struct forest_node *n = &f->nodes[i];

		if (n->pending == 0 || n->pending == SIZE_MAX)
			continue;
		n->pending = SIZE_MAX;
		n->is_ready = has_ended(n);
		f->order[ordered++] = i;
	}
	return ordered;
}

static void find_parents(struct forest *f)
{
	for (size_t i = 0; i < f->count; i++) {
		struct forest_node *n = &f->nodes[i];

		n->parent = n->row.parent[0] == '\0' ? SIZE_MAX : find(f, n->row.parent);
		if (n->parent == i)
			n->parent = SIZE_MAX;
		if (n->parent != SIZE_MAX)
			f->nodes[n->parent].pending++;
	}
}

int forest_order(struct forest *f)
{
	size_t tail = 0;

	if (f->count == 0)
		return 0;
	f->order = mem_zalloc(f->count * sizeof(*f->order));
	if (f->order == NULL)
		return -ENOMEM;
	qsort(f->nodes, f->count, sizeof(*f->nodes), by_id);
	find_parents(f);
	for (size_t i = 0; i < f->count; i++) {
		if (f->nodes[i].pending == 0)
			f->order[tail++] = i;
	}
	for (size_t head = 0; head < tail; head++) {
		struct forest_node *n = &f->nodes[f->order[head]];
		struct forest_node *parent = n->parent == SIZE_MAX ? NULL : &f->nodes[n->parent];

		n->is_ready = !n->is_blocked && has_ended(n);
		if (parent == NULL)
			continue;
		parent->is_blocked |= !n->is_ready;
		if (--parent->pending == 0)
			f->order[tail++] = n->parent;
	}
	(void)add_circles(f, tail);
	for (size_t i = 0; i < f->count; i++)
		f->ready += f->nodes[i].is_ready;
	return 0;
}

void forest_done(struct forest *f)
{
	for (size_t i = 0; i < f->count; i++)
		buf_done(&f->nodes[i].usage);
	f->nodes = mem_free(f->nodes);
	f->order = mem_free(f->order);
	f->count = f->cap = f->ready = 0;
}
