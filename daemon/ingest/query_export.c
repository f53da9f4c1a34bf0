/* See query_parts.h: the rows of one run, told again (flow/history.h). An answer is items {"rows":
 * bytes}, whose bytes one behind the other are frames with a row each, and an item with the sums. */
#include "daemon/ingest/query_parts.h"

#include "daemon/flow/history.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <stdio.h>

enum {
	PIECE_BYTES = 256 << 10,
	ROWS_BYTES_MAX = 96 << 20, /* of a slice; one row is the most of it */
	ROWS_BYTES_KEPT = 1 << 20,
};

struct query_export {
	struct run_info run; /* the one that is meant */
	struct run_search search;
	struct history *history;
	int64_t now_us;
	struct buf rows; /* told, and not handed out yet */
	bool is_over;    /* there are no more */
};

struct query_export *query_export_free(struct query_export *e)
{
	if (e == NULL)
		return NULL;
	e->history = history_close(e->history);
	buf_done(&e->rows);
	return mem_free(e);
}

/* --- which run --- */

static int open_history(struct query *q, struct reader *reader)
{
	struct query_export *e = q->export;
	struct mp args = mp_of(buf_span(&q->args));
	struct history_wish wish = {
		.run = e->run.id,
		.form = mp_get_bool(args, "values", false) ? HISTORY_VALUES : HISTORY_LINES,
		.merge_max_us = q->facts.merge_max_us,
		.until_lsn = mp_get_int(args, "until", 0),
		.now_us = mp_get_int(args, "now_us", 0),
	};

	if (wish.now_us == 0)
		wish.now_us = (int64_t)clock_wall_us();
	e->now_us = wish.now_us;
	return history_open(&e->history, reader, &wish);
}

/* A page of runs. 0; then the run is found, or there is more, or the answer is complete. */
static int search(struct query *q, struct reader *reader)
{
	struct run_search *s = &q->export->search;
	int r = run_search_next(s, reader);

	q->more = r > 0 || s->found == 1;
	if (r != 0)
		return r < 0 ? r : 0;
	if (s->found == 1)
		return open_history(q, reader);
	answer_error(&q->out, q->id, s->found == 0 ? "not_found" : "ambiguous",
		     run_search_failure(s));
	return 0;
}

/* --- rows --- */

static void hand_out(struct query *q)
{
	struct query_export *e = q->export;
	size_t len = e->rows.len < PIECE_BYTES ? e->rows.len : PIECE_BYTES;
	struct pack p;
	size_t at;

	if (len == 0)
		return;
	at = frame_open(&q->out, &p, "item", q->id, 1);
	pack_pair_bin(&p, "rows", (struct span){.at = e->rows.data, .len = len});
	frame_close(&q->out, at);
	buf_drop_front(&e->rows, len);
	if (e->rows.len == 0)
		buf_trim(&e->rows, ROWS_BYTES_KEPT);
}

static void end(struct query *q)
{
	const struct query_export *e = q->export;
	const struct history_sums *sums = history_sums(e->history);
	struct pack p;
	size_t at = frame_open(&q->out, &p, "item", q->id, 10);

	pack_pair_int(&p, "row_count", sums->rows);
	pack_pair_int(&p, "until", sums->until_lsn);
	pack_pair_int(&p, "now_us", e->now_us);
	pack_pair_bool(&p, "is_part", sums->is_part);
	pack_pair_int(&p, "first_step", sums->first_step);
	pack_pair_int(&p, "open", sums->open);
	pack_pair_int(&p, "late", sums->late);
	pack_pair_int(&p, "too_big", sums->monsters);
	pack_pair_int(&p, "dead", e->run.dead);
	pack_pair_bool(&p, "is_new", e->run.state == RUN_NEW);
	frame_close(&q->out, at);
	answer_done(&q->out, q->id, sums->rows);
}

static int tell(struct query *q, struct reader *reader)
{
	struct query_export *e = q->export;
	int r = 1;

	if (e->rows.len == 0 && !e->is_over)
		r = history_step(e->history, reader, &e->rows);
	if (r == -ESTALE) {
		answer_error(&q->out, q->id, "removed",
			     "records of the run were removed meanwhile (store.keep, "
			     "store.keep_age): what was written is not whole; try again");
		return 0;
	}
	if (r < 0)
		return r;
	e->is_over |= r == 0;
	hand_out(q);
	q->more = !e->is_over || e->rows.len > 0;
	if (!q->more)
		end(q);
	return 0;
}

int query_export(struct query *q, struct reader *reader)
{
	if (q->export == NULL) {
		if (mp_get_str(mp_of(buf_span(&q->args)), "run").at == NULL) {
			answer_error(&q->out, q->id, "usage", "which run?");
			return 0;
		}
		q->export = mem_zalloc(sizeof(*q->export));
		if (q->export == NULL)
			return -ENOMEM;
		buf_init(&q->export->rows, ROWS_BYTES_MAX);
		query_search(q, &q->export->search, &q->export->run);
	}
	return q->export->history == NULL ? search(q, reader) : tell(q, reader);
}
