/* See rows.h: which row is next, and what it waits for. */
#include "daemon/forward/models/rows_parts.h"

#include "proto/base/mem.h"

#include <assert.h>
#include <string.h>

static bool somebody_is_silent(const struct rows *r)
{
	for (size_t i = 0; i < r->producer_count; i++) {
		if (r->producers[i].is_silent)
			return true;
	}
	return false;
}

/* The lowest step that a present producer may still log to; with active_only, one that logged
 * within ROWS_IDLE_US. */
static int64_t horizon(const struct rows *r, int64_t now_us, bool active_only)
{
	int64_t lowest = INT64_MAX;

	for (size_t i = 0; i < r->producer_count; i++) {
		const struct row_producer *p = &r->producers[i];

		if (p->is_explicit && p->step < lowest &&
		    !(active_only && now_us - p->last_us >= ROWS_IDLE_US))
			lowest = p->step;
	}
	return lowest;
}

static bool is_overdue(const struct rows *r, const struct open_row *row, int64_t now_us)
{
	return row->passed_us != 0 && now_us - row->passed_us >= r->merge_max_us;
}

static enum row_fate give_free(struct row *ret, struct free_row *row, enum row_fate fate,
			       int64_t step, bool is_late)
{
	*ret = (struct row){
		.step = fate == ROW_LATE ? row->step : step,
		.parts = &row->parts,
		.from = is_late ? ROW_FROM_LATE : ROW_FROM_IMPLICIT,
	};
	return fate;
}

/* The lowest open row can be written; first what fits before it. */
static enum row_fate peek_closing(struct rows *r, struct row *ret)
{
	struct open_row *first = &r->open[0];
	bool gap = first->step > r->next_step;

	if (r->late.count > 0)
		return give_free(ret, &r->late.items[0], gap ? ROW_READY : ROW_LATE, r->next_step,
				 true);
	if (r->implicit.count > 0 && gap)
		return give_free(ret, &r->implicit.items[0], ROW_READY, r->next_step, false);
	*ret = (struct row){.step = first->step, .parts = &first->parts, .from = ROW_FROM_OPEN};
	return ROW_READY;
}

/* An open row that is complete, or has waited long enough. A row without a number that waits does
 * not wait for producers who have fallen silent. */
static bool is_closing(const struct rows *r, const struct open_row *row, int64_t now_us)
{
	if (is_overdue(r, row, now_us) || r->held > ROWS_PARTS_MAX)
		return true;
	if (row->step < horizon(r, now_us, false))
		return !somebody_is_silent(r);
	return r->implicit.count > 0 && row->step < horizon(r, now_us, true);
}

static enum row_fate peek_at(struct rows *r, int64_t now_us, struct row *ret)
{
	int64_t limit = horizon(r, now_us, true);
	bool too_many = r->held > ROWS_PARTS_MAX;

	if (r->open_count > 0) {
		struct open_row *first = &r->open[0];

		if (is_closing(r, first, now_us))
			return peek_closing(r, ret);
		limit = first->step < limit ? first->step : limit;
	}
	if (r->implicit.count > 0 && (r->next_step < limit || too_many)) {
		if (r->late.count > 0) /* the next row takes the next number: no gap */
			return give_free(ret, &r->late.items[0], ROW_LATE, 0, true);
		return give_free(ret, &r->implicit.items[0],
				 r->next_step < limit ? ROW_READY : ROW_LATE, r->next_step, false);
	}
	if (r->late.count > 0 && (rows_are_deserted(r) || too_many))
		return give_free(ret, &r->late.items[0], ROW_LATE, 0, true);
	return ROW_NONE;
}

enum row_fate rows_peek(struct rows *r, int64_t now_us, struct row *ret)
{
	for (;;) {
		enum row_fate fate;
		int64_t next_us;

		rows_close_due(r);
		fate = peek_at(r, r->clock_us, ret);
		next_us = rows_next_us(r);
		if (fate != ROW_NONE || next_us > now_us || next_us == INT64_MAX)
			return fate;
		r->clock_us = next_us;
	}
}

static void free_rows_drop_first(struct free_rows *rows)
{
	(void)mem_free(rows->items[0].parts.items);
	memmove(rows->items, rows->items + 1, --rows->count * sizeof(*rows->items));
}

static void drop_first_open(struct rows *r)
{
	int64_t step = r->open[0].step;

	(void)mem_free(r->open[0].parts.items);
	memmove(r->open, r->open + 1, --r->open_count * sizeof(*r->open));
	/* whoever was still at it is out of step: it holds nothing back until it logs again */
	for (size_t i = 0; i < r->producer_count; i++) {
		struct row_producer *p = &r->producers[i];

		p->is_silent = false;
		if (p->is_explicit && p->step <= step)
			p->is_explicit = p->in_row = false;
	}
}

void rows_pop(struct rows *r, const struct row *row, enum row_fate fate)
{
	assert(r->held >= row->parts->count);
	r->held -= row->parts->count;
	if (fate == ROW_READY)
		r->next_step = row->step + 1;
	switch (row->from) {
	case ROW_FROM_OPEN: drop_first_open(r); return;
	case ROW_FROM_IMPLICIT: free_rows_drop_first(&r->implicit); return;
	case ROW_FROM_LATE: free_rows_drop_first(&r->late); return;
	}
}

bool rows_are_deserted(const struct rows *r)
{
	return r->producer_count == 0;
}

bool rows_have_no_owner(const struct rows *r)
{
	for (size_t i = 0; i < r->producer_count; i++) {
		if (!r->producers[i].is_guest)
			return false;
	}
	return true;
}

bool rows_are_empty(const struct rows *r)
{
	return r->held == 0;
}

static int64_t oldest_of(const struct parts *parts, int64_t oldest)
{
	for (size_t i = 0; i < parts->count; i++) {
		if (parts->items[i].lsn < oldest)
			oldest = parts->items[i].lsn;
	}
	return oldest;
}

int64_t rows_oldest_lsn(const struct rows *r)
{
	int64_t oldest = INT64_MAX;

	for (size_t i = 0; i < r->producer_count; i++)
		oldest = oldest_of(&r->producers[i].partial, oldest);
	for (size_t i = 0; i < r->open_count; i++)
		oldest = oldest_of(&r->open[i].parts, oldest);
	for (size_t i = 0; i < r->implicit.count; i++)
		oldest = oldest_of(&r->implicit.items[i].parts, oldest);
	for (size_t i = 0; i < r->late.count; i++)
		oldest = oldest_of(&r->late.items[i].parts, oldest);
	return oldest;
}

int64_t rows_next_us(const struct rows *r)
{
	int64_t now_us = r->clock_us;
	int64_t next = INT64_MAX;

	if (r->open_count > 0 && r->open[0].passed_us != 0 &&
	    r->open[0].passed_us + r->merge_max_us > now_us)
		next = r->open[0].passed_us + r->merge_max_us;
	for (size_t i = 0; i < r->producer_count; i++) {
		const struct row_producer *p = &r->producers[i];
		int64_t idle_us = p->last_us + ROWS_IDLE_US;

		if (r->implicit.count > 0 && p->is_explicit && idle_us > now_us && idle_us < next)
			next = idle_us;
		if (p->partial.count > 0 && p->merges && p->gather.due_us > now_us &&
		    p->gather.due_us < next)
			next = p->gather.due_us;
	}
	return next;
}

bool rows_is_free(const struct rows *r, int64_t step)
{
	for (size_t i = 0; i < r->producer_count; i++) {
		if (r->producers[i].is_explicit && r->producers[i].step <= step)
			return false;
	}
	return step >= r->next_step && (r->open_count == 0 || r->open[0].step > step);
}
