/* See sidebox.h. */
#include "tests/lib/sidebox.h"

#include <stdlib.h>

/* What does not hold ends the process: a test without memory fails, and does not crash. */
static void need(bool holds)
{
	if (!holds)
		exit(EXIT_FAILURE);
}

/* --- the reader that the planner has --- */

int reader_stream(struct reader *r, int64_t stream, struct stream_info *ret)
{
	need(stream == stream_of(SIDEBOX_RUN, CLASS_REST));
	*ret = (struct stream_info){.planned_lsn = r->planned_lsn};
	return 0;
}

int reader_side_counts(struct reader *r, int64_t run, struct side_count ret[SIDE_FILES])
{
	need(run == SIDEBOX_RUN);
	for (unsigned f = 0; f < SIDE_FILES; f++) {
		ret[f] = (struct side_count){0};
		for (int64_t i = 0; i < SIDEBOX_LINES_MAX; i++) {
			if (r->files[f].planned[i].data == NULL)
				continue;
			if (ret[f].count == 0)
				ret[f].first = i;
			need(i == ret[f].first + ret[f].count); /* one block */
			ret[f].count++;
		}
	}
	return 0;
}

int reader_side(struct reader *r, int64_t run, struct buf *ret)
{
	need(run == SIDEBOX_RUN);
	return r->state.len == 0 ? -ENOENT : buf_add(ret, r->state.data, r->state.len);
}

/* --- the store --- */

static void set(struct buf *line, struct span text)
{
	int r;

	buf_done(line);
	buf_init(line, 16 << 20);
	r = buf_reserve(line, text.len + 1); /* data is not NULL, also of an empty one */
	if (r == 0)
		r = buf_add(line, text.at, text.len);
	need(r == 0);
}

static void shift(struct sidebox_file *f, int64_t from, int64_t by)
{
	struct buf *moved = mem_zalloc(sizeof(f->planned));

	need(moved != NULL);
	for (int64_t i = 0; i < SIDEBOX_LINES_MAX; i++) {
		int64_t to = i >= from ? i + by : i;

		if (f->planned[i].data == NULL)
			continue;
		need(to >= 0 && to < SIDEBOX_LINES_MAX && moved[to].data == NULL);
		moved[to] = f->planned[i];
	}
	memcpy(f->planned, moved, sizeof(f->planned));
	(void)mem_free(moved);
}

static void apply(struct reader *r, const struct change *c)
{
	struct sidebox_file *f = &r->files[c->file];

	switch ((int)c->kind) {
	case CHANGE_SIDE_ADD:
		need(c->offset >= 0 && c->offset < SIDEBOX_LINES_MAX);
		set(&f->planned[c->offset], c->text);
		return;
	case CHANGE_SIDE_STATE:
		buf_done(&r->state);
		buf_init(&r->state, 64 << 20);
		need(buf_add(&r->state, c->text.at, c->text.len) == 0);
		return;
	case CHANGE_SIDE_DONE:
		for (int64_t i = 0; i < c->offset; i++)
			buf_done(&f->planned[i]);
		return;
	case CHANGE_SIDE_DROP:
		need(f->planned[c->offset].data != NULL);
		buf_done(&f->planned[c->offset]);
		shift(f, c->offset, -1);
		return;
	case CHANGE_SIDE_MOVE: shift(f, 0, c->number); return;
	case CHANGE_CURSOR: r->planned_lsn = c->lsn; return;
	case CHANGE_CONFIRM:
		r->confirmed += c->records;
		r->confirmed_lsn = c->lsn;
		return;
	case CHANGE_DEAD_ADD: r->dead++; return;
	case CHANGE_DEAD_DROP: r->letters_gone++; return;
	}
	need(false && "a change that is none of these");
}

void sidebox_apply(struct sidebox *b)
{
	need(b->changes->error == 0);
	for (size_t i = 0; i < b->changes->count; i++)
		apply(b->reader, &b->changes->items[i]);
	changes_reset(b->changes);
}

/* --- the planner --- */

void sidebox_open(struct sidebox *b)
{
	*b = (struct sidebox){.reader = mem_zalloc(sizeof(*b->reader)),
			      .changes = changes_new(b, NULL)};
	need(b->reader != NULL && b->changes != NULL);
	side_init(&b->side, SIDEBOX_RUN);
	b->side.is_structured = true;
}

void sidebox_close(struct sidebox *b)
{
	for (unsigned f = 0; f < SIDE_FILES; f++) {
		for (int64_t i = 0; i < SIDEBOX_LINES_MAX; i++) {
			buf_done(&b->reader->files[f].planned[i]);
			buf_done(&b->reader->files[f].there[i]);
		}
	}
	buf_done(&b->reader->state);
	b->reader = mem_free(b->reader);
	b->changes = changes_free(b->changes);
	side_done(&b->side);
}

void sidebox_take(struct sidebox *b, const struct stored_record *record)
{
	int r;

	side_begin(&b->side);
	r = side_take(&b->side, b->changes, record);
	need(r == 0);
}

void sidebox_commit(struct sidebox *b)
{
	int r = side_end(&b->side, b->changes);

	need(r == 0);
	sidebox_apply(b);
}

void sidebox_send(struct sidebox *b, int64_t max, bool is_answered)
{
	int64_t counts[SIDE_FILES] = {0};

	for (unsigned i = 0; i < SIDE_FILES; i++) {
		struct sidebox_file *f = &b->reader->files[i];
		const struct side_count *unsent = &b->side.unsent[i];

		for (; counts[i] < unsent->count && max > 0; counts[i]++, max--) {
			int64_t at = unsent->first + counts[i];

			need(at <= f->count); /* no gap */
			need(f->planned[at].data != NULL);
			set(&f->there[at], buf_span(&f->planned[at]));
			if (at == f->count)
				f->count++;
		}
	}
	if (!is_answered)
		return;
	side_sent(&b->side, b->changes, counts);
	sidebox_apply(b);
}

void sidebox_say(struct sidebox *b, const struct stored_record *record)
{
	while (b->side.cursor < record->lsn) {
		sidebox_take(b, record);
		sidebox_commit(b);
		sidebox_send(b, INT64_MAX, true);
	}
}

void sidebox_restart(struct sidebox *b)
{
	bool is_structured = b->side.is_structured;
	int64_t start_us = b->side.start_us;
	int r;

	side_done(&b->side);
	side_init(&b->side, SIDEBOX_RUN);
	r = side_load(&b->side, b->reader);
	need(r == 0);
	b->side.is_structured = is_structured;
	b->side.start_us = start_us;
}
