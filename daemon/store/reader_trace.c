/* See reader_parts.h: calls and traces that wait for W&B's trace server. */
#include "daemon/store/reader_parts.h"

#include <errno.h>

enum {
	SQL_RUN,
	SQL_DUE,
	SQL_CALLS,
	SQL_STRAYS,
	SQL_LINES,
	SQL_ITEMS,
	SQL_OPS,
	SQL_OP_POSTED,
	SQL_STEP,
	SQL_BYTES,
	SQL_KEPT,
	SQL_HELD,
	SQL_RUN_HELD,
	SQL_COUNT,
};

#define CALL_COLUMNS                                                                               \
	"id, trace, parent, state, loss, is_there, is_error, producer, start_lsn, end_lsn, "       \
	"started_us, ended_us, records, bytes, blobs, blob_bytes, ok_below, errors_below, "        \
	"usage_below, step "

static const char *const texts[SQL_COUNT] = {
	[SQL_RUN] =
		"SELECT coalesce(t.metrics_lsn, 0), coalesce(t.parked, ''), t.state, "
		"coalesce((SELECT min(due_us) FROM trace WHERE run = ?1 AND calls > "
		"0), ?2), (SELECT count(*) FROM trace_line WHERE run = ?1), (SELECT count(*) FROM "
		"trace_item WHERE run = ?1) FROM (SELECT 1) LEFT JOIN trace_run t ON t.run = ?1",
	[SQL_DUE] = "SELECT id, calls, open, roots, opened_us, last_us, due_us, is_long, held FROM "
		    "trace "
		    "WHERE run = ?1 AND due_us < ?2 AND calls > 0 ORDER BY due_us "
		    "LIMIT ?3",
	[SQL_CALLS] = "SELECT " CALL_COLUMNS
		      "FROM call WHERE run = ?1 AND trace = ?2 AND id < ?3 AND state = 0 ORDER BY "
		      "id DESC LIMIT ?4",
	[SQL_STRAYS] = "SELECT " CALL_COLUMNS
		       "FROM call WHERE run = ?1 AND trace = '' AND time_us < ?2 LIMIT ?3",
	[SQL_LINES] = "SELECT id, kind, trace, call, records, bytes, blobs, blob_bytes, text FROM "
		      "trace_line WHERE run = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
	[SQL_ITEMS] = "SELECT i.lsn, 1, i.bytes, i.blobs, i.blob_bytes FROM trace_item i WHERE "
		      "i.run = ?1 AND i.lsn > ?2 AND NOT EXISTS (SELECT 1 FROM call c WHERE c.run "
		      "= ?1 AND c.id = i.call AND c.state IN (0, 2) AND c.is_there = 0) ORDER BY "
		      "i.lsn LIMIT ?3",
	[SQL_OPS] = "SELECT name, digest, lsn FROM op WHERE run = ?1 AND posted = 0 LIMIT ?2",
	[SQL_OP_POSTED] =
		"SELECT EXISTS (SELECT 1 FROM run r JOIN run o ON o.uid = r.uid AND "
		"o.server_entity = r.server_entity AND o.server_project = r.server_project AND "
		"o.id <> r.id JOIN op p ON p.run = o.id AND p.name = ?2 AND p.digest = ?3 AND "
		"p.posted = 1 WHERE r.id = ?1)",
	[SQL_STEP] = "SELECT step FROM step_mark WHERE run = ?1 AND mode = ?2 AND time_us < ?3 "
		     "ORDER BY time_us DESC LIMIT 1",
	[SQL_BYTES] = "SELECT coalesce(sum(d.bytes), 0) FROM trace_day d WHERE (?1 = 0 OR d.run = "
		      "?1) AND (?2 < 0 OR (SELECT uid FROM run WHERE id = d.run) = ?2) AND d.day "
		      "BETWEEN ?3 AND ?4",
	[SQL_KEPT] = "SELECT coalesce((SELECT count FROM trace_kept WHERE run = ?1 AND op = ?2 "
		     "AND step = ?3), 0)",
	[SQL_RUN_HELD] = "SELECT count(*) FROM trace WHERE run = ?1 AND held = 1",
	[SQL_HELD] = "SELECT count(*) FROM trace t WHERE t.held = 1 AND (?1 < 0 OR (SELECT uid "
		     "FROM run WHERE id = t.run) = ?1)",
};

int reader_trace_prepare(struct reader *r)
{
	r->trace.handle = r->db.handle;
	return db_prepare(&r->trace, texts, SQL_COUNT);
}

int reader_trace_run(struct reader *r, int64_t run, struct trace_run_info *ret,
		     struct buf *ret_state)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_RUN);
	struct span state;
	int e;

	*ret = (struct trace_run_info){.due_us = INT64_MAX};
	db_bind_int(s, 1, run);
	db_bind_int(s, 2, INT64_MAX);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	ret->metrics_lsn = db_column_int(s, 0);
	db_column_copy(s, 1, ret->parked, sizeof(ret->parked));
	ret->due_us = db_column_int(s, 3);
	ret->lines = db_column_int(s, 4);
	ret->items = db_column_int(s, 5);
	state = db_column(s, 2);
	if (ret_state != NULL && state.len > 0)
		e = buf_add(ret_state, state.at, state.len);
	(void)sqlite3_reset(s); /* one row was wanted */
	return e;
}

int reader_due_traces(struct reader *r, int64_t run, int64_t before_us, reader_on_trace on_trace,
		      void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_DUE);
	int e;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, before_us);
	db_bind_int(s, 3, READER_PAGE);
	while ((e = db_step(s)) == 1) {
		struct trace_row trace = {
			.calls = db_column_int(s, 1),
			.open = db_column_int(s, 2),
			.roots = db_column_int(s, 3),
			.opened_us = db_column_int(s, 4),
			.last_us = db_column_int(s, 5),
			.due_us = db_column_int(s, 6),
			.is_long = db_column_int(s, 7) == 1,
			.held = (enum trace_held)db_column_int(s, 8),
		};

		db_column_copy(s, 0, trace.id, sizeof(trace.id));
		e = on_trace(arg, &trace);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

static int each_call(sqlite3_stmt *s, reader_on_call on_call, void *arg)
{
	int e;

	while ((e = db_step(s)) == 1) {
		struct call_row call = {
			.state = (enum call_state)db_column_int(s, 3),
			.loss = (enum call_loss)db_column_int(s, 4),
			.is_there = db_column_int(s, 5) == 1,
			.is_error = db_column_int(s, 6) == 1,
			.producer = db_column_int(s, 7),
			.start_lsn = db_column_int(s, 8),
			.end_lsn = db_column_int(s, 9),
			.started_us = db_column_int(s, 10),
			.ended_us = db_column_int(s, 11),
			.share = {db_column_int(s, 12), db_column_int(s, 13), db_column_int(s, 14),
				  db_column_int(s, 15)},
			.ok_below = db_column_int(s, 16),
			.errors_below = db_column_int(s, 17),
			.usage_below = db_column(s, 18),
			.step = db_column_int(s, 19),
		};

		db_column_copy(s, 0, call.id, sizeof(call.id));
		db_column_copy(s, 1, call.trace, sizeof(call.trace));
		db_column_copy(s, 2, call.parent, sizeof(call.parent));
		e = on_call(arg, &call);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_calls(struct reader *r, int64_t run, const char *trace, const char *before,
		 reader_on_call on_call, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_CALLS);

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, span_of_text(trace));
	db_bind_text(s, 3, span_of_text(before));
	db_bind_int(s, 4, READER_PAGE);
	return each_call(s, on_call, arg);
}

int reader_stray_ends(struct reader *r, int64_t run, int64_t before_us, reader_on_call on_call,
		      void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_STRAYS);

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, before_us);
	db_bind_int(s, 3, READER_PAGE);
	return each_call(s, on_call, arg);
}

int reader_trace_lines(struct reader *r, int64_t run, int64_t after, reader_on_trace_line on_line,
		       void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_LINES);
	int e;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, after);
	db_bind_int(s, 3, READER_PAGE);
	while ((e = db_step(s)) == 1) {
		struct trace_line line = {
			.id = db_column_int(s, 0),
			.kind = (enum trace_line_kind)db_column_int(s, 1),
			.trace = db_column(s, 2),
			.call = db_column(s, 3),
			.share = {db_column_int(s, 4), db_column_int(s, 5), db_column_int(s, 6),
				  db_column_int(s, 7)},
			.text = db_column(s, 8),
		};

		e = on_line(arg, &line);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* as above */
	return e;
}

int reader_trace_items(struct reader *r, int64_t run, int64_t after, reader_on_trace_item on_item,
		       void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_ITEMS);
	int e;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, after);
	db_bind_int(s, 3, READER_PAGE);
	while ((e = db_step(s)) == 1) {
		struct trace_item item = {
			.lsn = db_column_int(s, 0),
			.share = {db_column_int(s, 1), db_column_int(s, 2), db_column_int(s, 3),
				  db_column_int(s, 4)},
		};

		e = on_item(arg, &item);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* as above */
	return e;
}

int reader_ops(struct reader *r, int64_t run, reader_on_op on_op, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_OPS);
	int e;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, READER_PAGE);
	while ((e = db_step(s)) == 1) {
		struct op_row op = {
			.name = db_column(s, 0),
			.digest = db_column(s, 1),
			.lsn = db_column_int(s, 2),
		};

		e = on_op(arg, &op);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* as above */
	return e;
}

int reader_op_is_posted(struct reader *r, int64_t run, struct span name, struct span digest)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_OP_POSTED);
	int64_t is_posted = 0;
	int e;

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, name);
	db_bind_text(s, 3, digest);
	e = reader_one_number(s, &is_posted);
	return e < 0 ? e : is_posted == 1;
}

int reader_step_before(struct reader *r, int64_t run, int64_t mode, int64_t time_us, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_STEP);

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, mode);
	db_bind_int(s, 3, time_us);
	return reader_one_number(s, ret);
}

int reader_trace_bytes(struct reader *r, int64_t run, int64_t uid, int64_t first_day,
		       int64_t last_day, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_BYTES);

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, uid);
	db_bind_int(s, 3, first_day);
	db_bind_int(s, 4, last_day);
	return reader_one_number(s, ret);
}

int reader_trace_kept(struct reader *r, int64_t run, const char *op, int64_t step, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_KEPT);

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, span_of_text(op));
	db_bind_int(s, 3, step);
	return reader_one_number(s, ret);
}

int reader_traces_held(struct reader *r, int64_t uid, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_HELD);

	db_bind_int(s, 1, uid);
	return reader_one_number(s, ret);
}

int reader_run_traces_held(struct reader *r, int64_t run, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->trace, SQL_RUN_HELD);

	db_bind_int(s, 1, run);
	return reader_one_number(s, ret);
}
