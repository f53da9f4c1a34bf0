/* See rows.h: the lists, and what calls do to them. What comes out is in rows_next.c. */
#include "daemon/forward/models/rows_parts.h"

#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void rows_init(struct rows *r, int64_t merge_max_us)
{
	*r = (struct rows){.merge_max_us = merge_max_us};
}

static void free_rows_done(struct free_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		(void)mem_free(rows->items[i].parts.items);
	(void)mem_free(rows->items);
}

static void producer_done(struct row_producer *p)
{
	(void)mem_free(p->partial.items);
	gather_done(&p->gather);
}

void rows_done(struct rows *r)
{
	for (size_t i = 0; i < r->producer_count; i++)
		producer_done(&r->producers[i]);
	for (size_t i = 0; i < r->open_count; i++)
		(void)mem_free(r->open[i].parts.items);
	free_rows_done(&r->implicit);
	free_rows_done(&r->late);
	(void)mem_free(r->producers);
	(void)mem_free(r->open);
	*r = (struct rows){.merge_max_us = r->merge_max_us};
}

/* --- lists --- */

int row_parts_add(struct parts *p, struct part part)
{
	int e = mem_room(p->items, p->count, p->cap);

	if (e == 0)
		p->items[p->count++] = part;
	return e;
}

static int row_parts_add_all(struct parts *to, const struct parts *from)
{
	for (size_t i = 0; i < from->count; i++) {
		if (row_parts_add(to, from->items[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

int free_rows_add(struct free_rows *rows, int64_t step, struct parts parts)
{
	int e = mem_room(rows->items, rows->count, rows->cap);

	if (e == 0)
		rows->items[rows->count++] = (struct free_row){.step = step, .parts = parts};
	return e;
}

struct row_producer *rows_producer(const struct rows *r, int64_t id)
{
	for (size_t i = 0; i < r->producer_count; i++) {
		if (r->producers[i].id == id)
			return &r->producers[i];
	}
	return NULL;
}

int rows_join(struct rows *r, int64_t producer, bool is_guest)
{
	struct row_producer *p = rows_producer(r, producer);

	if (p != NULL) {
		p->is_guest &= is_guest;
		return 0;
	}
	if (r->producer_count == ROWS_PRODUCERS_MAX)
		return -E2BIG;
	if (mem_room(r->producers, r->producer_count, r->producer_cap) < 0)
		return -ENOMEM;
	r->producers[r->producer_count++] =
		(struct row_producer){.id = producer, .is_guest = is_guest, .is_silent = !is_guest};
	return 0;
}

bool rows_has(const struct rows *r, int64_t producer)
{
	return rows_producer(r, producer) != NULL;
}

void rows_spoke(struct rows *r, int64_t producer, int64_t call_us)
{
	struct row_producer *p = rows_producer(r, producer);

	if (p != NULL && call_us > p->spoke_us)
		p->spoke_us = call_us;
}

int64_t rows_spoke_us(const struct rows *r, int64_t producer)
{
	const struct row_producer *p = rows_producer(r, producer);

	return p == NULL ? 0 : p->spoke_us;
}

void rows_merge(struct rows *r, int64_t producer)
{
	struct row_producer *p = rows_producer(r, producer);

	if (p == NULL || p->merges)
		return;
	p->merges = true;
	p->gather.due_us =
		INT64_MAX; /* what it has not committed waits for more, if there is any */
}

bool rows_merges(const struct rows *r, int64_t producer)
{
	const struct row_producer *p = rows_producer(r, producer);

	return p != NULL && p->merges;
}

bool rows_is_guest(const struct rows *r, int64_t producer)
{
	const struct row_producer *p = rows_producer(r, producer);

	return p != NULL && p->is_guest;
}

/* The place of the open row with this step, or where it would be. */
static size_t open_place(const struct rows *r, int64_t step)
{
	size_t at = r->open_count; /* mostly the last */

	while (at > 0 && r->open[at - 1].step >= step)
		at--;
	return at;
}

static struct open_row *find_open(const struct rows *r, int64_t step)
{
	size_t at = open_place(r, step);

	return at < r->open_count && r->open[at].step == step ? &r->open[at] : NULL;
}

int rows_make_open(struct rows *r, int64_t step, struct open_row **ret)
{
	size_t at = open_place(r, step);

	if (at < r->open_count && r->open[at].step == step) {
		*ret = &r->open[at];
		return 0;
	}
	if (mem_room(r->open, r->open_count, r->open_cap) < 0)
		return -ENOMEM;
	*ret = &r->open[at];
	memmove(*ret + 1, *ret, (r->open_count - at) * sizeof(**ret));
	r->open_count++;
	**ret = (struct open_row){.step = step};
	return 0;
}

/* --- calls --- */

/* A producer is beyond the rows below `step`. */
static void note_passed(struct rows *r, int64_t step, int64_t now_us)
{
	for (size_t i = 0; i < r->open_count && r->open[i].step < step; i++) {
		if (r->open[i].passed_us == 0)
			r->open[i].passed_us = now_us;
	}
}

/* What a producer logged without a step, and left open, is a row now. */
static int close_partial(struct rows *r, struct row_producer *p)
{
	if (p->partial.count == 0)
		return 0;
	if (free_rows_add(&r->implicit, -1, p->partial) < 0)
		return -ENOMEM;
	p->partial = (struct parts){.items = NULL};
	gather_clear(&p->gather);
	return 0;
}

void rows_close_due(struct rows *r)
{
	for (size_t i = 0; i < r->producer_count; i++) {
		struct row_producer *p = &r->producers[i];

		if (p->merges && p->gather.due_us <= r->clock_us)
			(void)close_partial(r, p); /* without memory: at the next look */
	}
}

/* A step is given while the producer has a partial row: when that would have got the same number,
 * it is the same row, as in W&B's client. */
static int settle_partial(struct rows *r, struct row_producer *p, int64_t step,
			  struct open_row *row)
{
	bool alone = r->open_count == 1 && r->implicit.count == 0; /* the one is `row` */

	if (p->partial.count == 0)
		return 0;
	if (!alone || step != r->next_step || (p->merges && p->gather.due_us != INT64_MAX))
		return close_partial(r, p);
	if (row_parts_add_all(&row->parts, &p->partial) < 0)
		return -ENOMEM;
	p->partial.items = mem_free(p->partial.items);
	p->partial = (struct parts){.items = NULL};
	gather_clear(&p->gather);
	return 0;
}

static int log_late(struct rows *r, const struct row_call *call)
{
	struct parts parts = {.items = NULL};

	for (size_t i = 0; i < r->late.count; i++) {
		if (r->late.items[i].step == call->step)
			return row_parts_add(&r->late.items[i].parts, call->part);
	}
	if (row_parts_add(&parts, call->part) < 0)
		return -ENOMEM;
	if (free_rows_add(&r->late, call->step, parts) < 0) {
		(void)mem_free(parts.items);
		return -ENOMEM;
	}
	return 0;
}

static int log_explicit(struct rows *r, struct row_producer *p, const struct row_call *call)
{
	struct open_row *row;

	if (call->step < r->next_step || call->step > ROWS_STEP_MAX)
		return log_late(r, call);
	if (rows_make_open(r, call->step, &row) < 0 || settle_partial(r, p, call->step, row) < 0 ||
	    row_parts_add(&row->parts, call->part) < 0)
		return -ENOMEM;
	if (!p->is_explicit || call->step >= p->step) {
		p->step = call->step;
		p->in_row = true;
	}
	p->is_explicit = true;
	if (call->has_commit && call->commit && p->step == call->step) {
		p->step++;
		p->in_row = false;
	}
	note_passed(r, p->step, call->time_us);
	return 0;
}

/* Makes place for the call in the row that is gathered, or in the next one. */
static int gather(struct rows *r, struct row_producer *p, const struct row_call *call)
{
	const struct gather_call c = {
		.keys = &call->keys,
		.call_us = call->call_us,
		.stored_us = call->time_us,
		.is_open = call->has_commit && !call->commit,
	};

	if (p->partial.count == 0)
		gather_clear(&p->gather);
	else if (!gather_takes(&p->gather, &call->keys, call->call_us) && close_partial(r, p) < 0)
		return -ENOMEM;
	return gather_add(&p->gather, &c, r->merge_max_us);
}

static int log_implicit(struct rows *r, struct row_producer *p, const struct row_call *call)
{
	bool commit = !call->has_commit || call->commit;
	struct open_row *row = p->in_row ? find_open(r, p->step) : NULL;

	if (row != NULL) {
		if (row_parts_add(&row->parts, call->part) < 0)
			return -ENOMEM;
		if (commit) {
			p->step++;
			p->in_row = false;
			note_passed(r, p->step, call->time_us);
		}
		return 0;
	}
	if (p->merges && gather(r, p, call) < 0)
		return -ENOMEM;
	if (row_parts_add(&p->partial, call->part) < 0)
		return -ENOMEM;
	if (!commit && p->partial.count < ROWS_PARTS_MAX)
		return 0;
	p->is_explicit = p->in_row = false; /* until it gives a step again */
	return p->merges && !(call->has_commit && commit) ? 0 : close_partial(r, p);
}

int rows_log(struct rows *r, const struct row_call *call)
{
	struct row_producer *p;
	int result = rows_join(r, call->producer, true);

	if (result < 0)
		return result;
	p = rows_producer(r, call->producer);
	assert(p != NULL); /* it has joined */
	r->clock_us = p->last_us = call->time_us;
	p->is_silent = false;
	result = call->has_step ? log_explicit(r, p, call) : log_implicit(r, p, call);
	if (result == 0)
		r->held++;
	return result;
}

int rows_leave(struct rows *r, int64_t producer, int64_t now_us)
{
	struct row_producer *p = rows_producer(r, producer);
	int result;

	r->clock_us = now_us;
	if (p == NULL)
		return 0;
	result = close_partial(r, p);
	if (result < 0)
		return result;
	if (p->is_explicit)
		note_passed(r, INT64_MAX, now_us);
	producer_done(p);
	*p = r->producers[--r->producer_count];
	return 0;
}
