/* See flow/history.h. The planner itself runs once more over the records, with rows going to whoever
 * asks instead of the store. It begins at the run's first record; when that is gone, at the first
 * waypoint whose records are all there; without one, where planning is. What moved numbers besides
 * records (rows of another writer, a dead letter sent again) is in the waypoints on the way. */
#include "daemon/flow/history.h"

#include "daemon/forward/models/plan.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>

enum {
	SLICE_MS = 3,
	SLICE_RECORDS = 64,
	STATE_MAX = 64 << 20,
	VALUES_MAX = 64 << 20, /* of a row: its line is at most 10 MiB */
};

/* Rows that were planned and not sent when somebody else wrote got other numbers: those from step
 * at.resteps on, planned before this waypoint. */
struct restep {
	struct waypoint_info at;
	int64_t to; /* the lowest number that is free */
};

struct history {
	struct plan plan;
	struct history_wish wish;
	struct history_sums sums;
	struct changes *changes; /* what the planner has for the store; nobody wants it */
	struct waypoint_info next;
	bool has_next;         /* a waypoint comes */
	int64_t next_start_us; /* as there: a run that W&B had before has a clock that goes on */
	int64_t begun_lsn;     /* where it began, and how many records were gone then */
	int64_t gone;
	struct restep *resteps; /* in their order */
	size_t restep_count;
	size_t restep_cap;
	size_t restep_at; /* those before it are passed */
	struct buf values;
	struct buf *out; /* during a step */
};

/* --- rows --- */

static void pack_leaf(struct pack *p, const struct node *leaf)
{
	pack_raw(p, buf_span(&leaf->value));
}

/* The step that W&B has the row under. */
static int64_t final_step(struct history *h, int64_t step)
{
	for (size_t i = h->restep_at; i < h->restep_count; i++) {
		struct restep *s = &h->resteps[i];

		if (step < s->at.resteps)
			continue;
		step = step > s->to ? step : s->to;
		s->to = step + 1;
	}
	return step;
}

static int put_step(struct history *h, int64_t step)
{
	struct node *leaf;
	struct pack p;
	int r = tree_leaf(&h->plan.row, NULL, SPAN_LITERAL("_step"), &leaf);

	buf_clear(&h->values);
	pack_init(&p, &h->values);
	pack_int(&p, step);
	return r < 0 ? r : tree_set(leaf, buf_span(&h->values));
}

static int add_frame(struct history *h, int64_t planned_step)
{
	int64_t step = final_step(h, planned_step);
	struct pack p;
	int r = 0;

	buf_clear(&h->values);
	if (h->wish.form == HISTORY_LINES && step == planned_step)
		return frame_add(h->out, buf_span(&h->plan.text));
	if (h->wish.form == HISTORY_LINES) {
		r = plan_restep(buf_span(&h->plan.text), step, &h->values);
		return r < 0 ? r : frame_add(h->out, buf_span(&h->values));
	}
	if (step != planned_step)
		r = put_step(h, step);
	if (r < 0)
		return r;
	buf_clear(&h->values);
	pack_init(&p, &h->values);
	tree_to_msgpack(&h->plan.row, &p, pack_leaf);
	return h->values.error < 0 ? h->values.error : frame_add(h->out, buf_span(&h->values));
}

static int on_row(void *arg, struct plan *p, const struct row *row, enum row_fate fate)
{
	struct history *h = arg;

	(void)p;
	switch (fate) {
	case ROW_READY: h->sums.rows++; return add_frame(h, row->step);
	case ROW_LATE: h->sums.late++; return 0;
	case ROW_NONE: h->sums.monsters++; return 0;
	}
	return 0;
}

/* --- where it begins --- */

/* Finds the waypoint that comes next. */
static int look_ahead(struct history *h, struct reader *reader, int64_t lsn, int64_t time_us)
{
	struct buf state;
	int r;

	buf_init(&state, STATE_MAX);
	r = reader_waypoint(reader, h->wish.run, lsn, time_us, &h->next, &state);
	h->has_next = r == 0;
	if (r == 0)
		h->next_start_us = mp_get_int(mp_of(buf_span(&state)), "start", 0);
	buf_done(&state);
	return r == -ENOENT ? 0 : r;
}

static int take_state(struct history *h, int64_t lsn, const struct buf *state)
{
	plan_done(&h->plan);
	if (plan_init(&h->plan, h->wish.run, h->wish.merge_max_us) < 0)
		return -ENOMEM;
	h->plan.may_write = true;
	h->plan.on_row = on_row;
	h->plan.on_row_arg = h;
	return state == NULL ? 0 : plan_load_state(&h->plan, lsn, buf_span(state));
}

/* The first waypoint from which everything is there. 0, -ENOENT, -errno. */
static int begin_at_waypoint(struct history *h, struct reader *reader, int64_t first_lsn)
{
	struct waypoint_info at = {.lsn = first_lsn - 2, .time_us = INT64_MAX};
	struct buf state;
	int r;

	buf_init(&state, STATE_MAX);
	do {
		buf_clear(&state);
		r = reader_waypoint(reader, h->wish.run, at.lsn, at.time_us, &at, &state);
		if (r == 0)
			r = take_state(h, at.lsn, &state);
	} while (r == 0 && rows_oldest_lsn(&h->plan.rows) < first_lsn);
	buf_done(&state);
	return r == 0 ? look_ahead(h, reader, at.lsn, at.time_us) : r;
}

/* What is not confirmed is never removed, so planning can always go on from where it is. */
static int begin_at_cursor(struct history *h, struct reader *reader)
{
	int r = take_state(h, 0, NULL);

	return r == 0 ? plan_load(&h->plan, reader) : r;
}

/* Reads what changes the numbers of rows behind the place where it begins. */
static int read_resteps(struct history *h, struct reader *reader)
{
	struct waypoint_info at = h->next;
	int r = h->has_next ? 0 : -ENOENT;

	while (r == 0) {
		if (at.resteps_to > 0) {
			r = mem_room(h->resteps, h->restep_count, h->restep_cap);
			if (r < 0)
				return r;
			h->resteps[h->restep_count++] =
				(struct restep){.at = at, .to = at.resteps_to};
		}
		r = reader_waypoint(reader, h->wish.run, at.lsn, at.time_us, &at, NULL);
	}
	return r == -ENOENT ? 0 : r;
}

static int begin(struct history *h, struct reader *reader)
{
	struct stream_info stream;
	int64_t first_lsn = 0;
	int64_t gone = 0;
	int64_t id = stream_of(h->wish.run, CLASS_METRICS);
	int r = reader_stream(reader, id, &stream);

	if (r == 0)
		r = reader_first_record(reader, id, &first_lsn, &gone);
	if (r < 0)
		return r;
	if (h->wish.until_lsn == 0)
		h->wish.until_lsn = stream.last_lsn;
	h->sums.until_lsn = h->wish.until_lsn;
	h->sums.is_part = gone > 0;
	h->gone = gone;
	if (gone == 0) {
		r = take_state(h, 0, NULL);
		return r == 0 ? look_ahead(h, reader, -1, 0) : r;
	}
	r = first_lsn > 0 ? begin_at_waypoint(h, reader, first_lsn) : -ENOENT;
	if (r == -ENOENT)
		r = begin_at_cursor(h, reader);
	h->sums.first_step = h->plan.rows.next_step;
	h->begun_lsn = h->plan.cursor;
	return r;
}

int history_open(struct history **ret, struct reader *reader, const struct history_wish *wish)
{
	struct history *h = mem_zalloc(sizeof(*h));
	int r;

	if (h == NULL)
		return -ENOMEM;
	h->wish = *wish;
	buf_init(&h->values, VALUES_MAX);
	r = plan_init(&h->plan, wish->run, wish->merge_max_us);
	h->changes = changes_new(h, NULL);
	if (r == 0 && h->changes == NULL)
		r = -ENOMEM;
	if (r == 0)
		r = begin(h, reader);
	if (r == 0)
		r = read_resteps(h, reader);
	if (r < 0) {
		(void)history_close(h);
		return r;
	}
	*ret = h;
	return 0;
}

struct history *history_close(struct history *h)
{
	if (h == NULL)
		return NULL;
	plan_done(&h->plan);
	buf_done(&h->values);
	(void)mem_free(h->resteps);
	h->changes = changes_free(h->changes);
	return mem_free(h);
}

/* --- going on --- */

enum stop {
	STOP_NOT,
	STOP_FULL,     /* enough rows for now */
	STOP_WAYPOINT, /* one is next */
	STOP_END
};

struct page {
	struct history *h;
	struct reader *reader;
	enum stop stop;
};

static int on_record(void *arg, const struct stored_record *record)
{
	struct page *page = arg;
	struct history *h = page->h;
	enum plan_outcome outcome = PLAN_IDLE;
	int r = 0;

	if (record->lsn > h->wish.until_lsn)
		page->stop = STOP_END;
	else if (h->has_next && h->next.lsn < record->lsn)
		page->stop = STOP_WAYPOINT;
	else
		r = plan_take(&h->plan, page->reader, h->changes, record, &outcome, NULL);
	if (outcome == PLAN_FULL)
		page->stop = STOP_FULL;
	return r < 0 ? r : page->stop != STOP_NOT;
}

static int on_kept(void *arg, const struct stored_record *record)
{
	(void)arg;
	(void)record;
	return 0;
}

/* Retention removes from the front: as long as the record before a page is there, the page was whole.
 */
static int check_kept(const struct history *h, struct reader *reader, int64_t before)
{
	int64_t first;
	int64_t gone;
	int r;

	if (before > h->begun_lsn) {
		r = reader_record(reader, before, on_kept, NULL);
		return r == -ENOENT ? -ESTALE : r;
	}
	r = reader_first_record(reader, stream_of(h->wish.run, CLASS_METRICS), &first, &gone);
	return r == 0 && gone != h->gone ? -ESTALE : r;
}

/* Rows that the planner of then had found when its numbers moved, then the numbers and the clock. */
static int pass_waypoint(struct history *h, struct reader *reader)
{
	struct waypoint_info at = h->next;
	enum plan_outcome outcome;
	int r = plan_rows(&h->plan, reader, h->changes, at.time_us, &outcome, NULL);

	if (r < 0 || outcome == PLAN_FULL)
		return r;
	if (h->plan.rows.next_step < at.next_step)
		h->plan.rows.next_step = at.next_step;
	while (h->restep_at < h->restep_count &&
	       (h->resteps[h->restep_at].at.lsn < at.lsn ||
		(h->resteps[h->restep_at].at.lsn == at.lsn &&
		 h->resteps[h->restep_at].at.time_us <= at.time_us)))
		h->restep_at++;
	h->plan.start_us = h->next_start_us;
	return look_ahead(h, reader, at.lsn, at.time_us);
}

static int finish(struct history *h, struct reader *reader)
{
	enum plan_outcome outcome;
	int r = plan_rows(&h->plan, reader, h->changes, h->wish.now_us, &outcome, NULL);

	h->sums.open = (int64_t)h->plan.rows.held;
	return r < 0 ? r : outcome == PLAN_FULL;
}

/* 1: there is more; 0; -errno. */
static int advance(struct history *h, struct reader *reader)
{
	struct page page = {.h = h, .reader = reader, .stop = STOP_NOT};
	int64_t before = h->plan.cursor;
	unsigned count = 0;
	int r = reader_records(reader, stream_of(h->wish.run, CLASS_METRICS), before, SLICE_RECORDS,
			       on_record, &page, &count);

	plan_begin(&h->plan);
	changes_reset(h->changes);
	if (r >= 0)
		r = check_kept(h, reader, before);
	if (r < 0)
		return r;
	if (page.stop == STOP_NOT && count < SLICE_RECORDS)
		page.stop =
			h->has_next && h->next.lsn <= h->wish.until_lsn ? STOP_WAYPOINT : STOP_END;
	switch (page.stop) {
	case STOP_NOT:
	case STOP_FULL: return 1;
	case STOP_WAYPOINT: r = pass_waypoint(h, reader); return r < 0 ? r : 1;
	case STOP_END: return finish(h, reader);
	}
	return 0;
}

int history_step(struct history *h, struct reader *reader, struct buf *out)
{
	uint64_t until_ms = clock_mono_ms() + SLICE_MS;
	int r;

	h->out = out;
	do {
		r = advance(h, reader);
		plan_begin(&h->plan);
	} while (r == 1 && out->len < PLAN_BYTES_MAX && clock_mono_ms() < until_ms);
	return out->error < 0 ? out->error : r;
}

const struct history_sums *history_sums(const struct history *h)
{
	return &h->sums;
}
