/* See delivery.h: calls as their records come in, traces, what is planned of them for W&B's trace
 * server, and what it has. */
#include "daemon/flow/run.h"
#include "daemon/store/delivery.h"

#include <assert.h>
#include <errno.h>

enum {
	SQL_CALL,
	SQL_CALL_ADD,
	SQL_CALL_SET,
	SQL_CALL_DROP,
	SQL_TRACE_ADD,
	SQL_TRACE_DUE,
	SQL_LOSE,
	SQL_LOSE_TRACES,
	SQL_ITEM_ADD,
	SQL_ITEM_DROP,
	SQL_STATE,
	SQL_STEP,
	SQL_OP,
	SQL_OP_SENT,
	SQL_LINE_ADD,
	SQL_CALL_PLANNED,
	SQL_BELOW,
	SQL_SET_DUE,
	SQL_TRACE_SWEEP,
	SQL_LINES,
	SQL_LINES_DROP,
	SQL_CONFIRM,
	SQL_MIN_LSN,
	SQL_DAY,
	SQL_PARK,
	SQL_HELD_SHARE,
	SQL_HOLD_CALLS,
	SQL_HOLD,
	SQL_WANT_CALLS,
	SQL_WANT,
	SQL_KEPT,
	SQL_COUNT,
};

/* When somebody should look at a trace: see flow/trace.h. */
#define DUE                                                                                        \
	"CASE WHEN open = 0 AND roots > 0 THEN last_us + 200000 "                                  \
	"WHEN open = 0 THEN last_us + 5000000 "                                                    \
	"WHEN is_long = 1 THEN min(due_us, last_us + 2000000) "                                    \
	"ELSE opened_us + 30000000 END"
_Static_assert(TRACE_SETTLE_US == 200000 && TRACE_GRACE_US == 5000000 &&
		       TRACE_AGAIN_US == 2000000 && TRACE_LONG_US == 30000000,
	       "what the texts below say");

static const char *const texts[SQL_COUNT] = {
	[SQL_CALL] = "SELECT state, loss, is_there, trace, parent, producer, lsn, start_lsn, "
		     "end_lsn, started_us, ended_us, is_error, records, bytes, blobs, blob_bytes, "
		     "step FROM call WHERE run = ?1 AND id = ?2",
	[SQL_CALL_ADD] =
		"INSERT OR REPLACE INTO call (run, id, state, loss, is_there, is_error, trace, "
		"parent, producer, lsn, start_lsn, end_lsn, started_us, ended_us, time_us, "
		"records, bytes, blobs, blob_bytes, step) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
		"?9, "
		"?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
	[SQL_CALL_SET] =
		"UPDATE call SET state = ?3, loss = ?4, is_there = ?5, is_error = ?6, trace = ?7, "
		"parent = ?8, producer = ?9, lsn = ?10, start_lsn = ?11, end_lsn = ?12, "
		"started_us = ?13, ended_us = ?14, time_us = ?15, records = ?16, bytes = ?17, "
		"blobs = ?18, blob_bytes = ?19, step = ?20 WHERE run = ?1 AND id = ?2",
	[SQL_CALL_DROP] = "DELETE FROM call WHERE run = ?1 AND id = ?2",
	[SQL_TRACE_ADD] =
		"INSERT INTO trace (run, id, calls, open, roots, opened_us, last_us, due_us) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?7, ?6, 0) ON CONFLICT (run, id) DO UPDATE SET "
		"calls = calls + ?3, open = open + ?4, roots = roots + ?5, last_us = max(last_us, "
		"?6)",
	[SQL_TRACE_DUE] = "UPDATE trace SET due_us = " DUE " WHERE run = ?1 AND id = ?2",
	[SQL_LOSE] = "UPDATE call SET end_lsn = ?3, loss = ?4, is_error = 1, ended_us = "
		     "max(started_us, ?5), time_us = ?6 WHERE run = ?1 AND producer = ?2 AND "
		     "end_lsn = 0 AND start_lsn > 0 AND state = 0",
	[SQL_LOSE_TRACES] =
		"UPDATE trace SET open = (SELECT count(*) FROM call WHERE run = ?1 AND trace = "
		"trace.id AND end_lsn = 0 AND state = 0), last_us = max(last_us, ?4), due_us = "
		"max(last_us, ?4) + 5000000 WHERE run = ?1 AND id IN (SELECT trace FROM call WHERE "
		"run = ?1 AND producer = ?2 AND end_lsn = ?3)",
	[SQL_ITEM_ADD] = "INSERT OR IGNORE INTO trace_item (run, lsn, call, bytes, blobs, "
			 "blob_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[SQL_ITEM_DROP] = "DELETE FROM trace_item WHERE run = ?1 AND lsn = ?2",
	[SQL_STATE] = "INSERT INTO trace_run (run, metrics_lsn, state) VALUES (?1, ?2, ?3) ON "
		      "CONFLICT (run) DO UPDATE SET metrics_lsn = ?2, state = ?3",
	[SQL_STEP] = "INSERT OR REPLACE INTO step_mark (run, mode, time_us, step) VALUES (?1, ?2, "
		     "?3, ?4)",
	[SQL_OP] = "INSERT INTO op (run, name, digest, lsn) VALUES (?1, ?2, ?3, ?4) ON CONFLICT "
		   "(run, name, digest) DO UPDATE SET lsn = max(lsn, ?4)",
	[SQL_OP_SENT] = "UPDATE op SET posted = 1 WHERE run = ?1 AND name = ?2 AND digest = ?3",
	[SQL_LINE_ADD] = "INSERT INTO trace_line (run, kind, loss, trace, call, records, bytes, "
			 "blobs, blob_bytes, lsn, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
			 "?9, ?10, ?11)",
	[SQL_CALL_PLANNED] = "UPDATE call SET state = 1 WHERE run = ?1 AND id = ?2",
	[SQL_BELOW] = "UPDATE call SET ok_below = ?3, errors_below = ?4, usage_below = ?5 WHERE "
		      "run = ?1 AND id = ?2",
	[SQL_SET_DUE] =
		"UPDATE trace SET due_us = ?3, is_long = max(is_long, ?4) WHERE run = ?1 AND id = "
		"?2",
	[SQL_TRACE_SWEEP] = "DELETE FROM trace WHERE run = ?1 AND id = ?2 AND calls <= 0 "
			    "AND held <> 1",
	[SQL_LINES] = "SELECT id, kind, loss, trace, call, records, bytes, blobs, blob_bytes FROM "
		      "trace_line WHERE run = ?1 AND id >= ?2 AND id <= ?3 ORDER BY id",
	[SQL_LINES_DROP] = "DELETE FROM trace_line WHERE run = ?1 AND id >= ?2 AND id <= ?3",
	[SQL_CONFIRM] = "INSERT INTO cursor (stream, done_lsn, records, bytes, blobs, blob_bytes) "
			"VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (stream) DO UPDATE SET "
			"done_lsn = max(done_lsn, ?2), records = records + ?3, bytes = bytes + ?4, "
			"blobs = blobs + ?5, blob_bytes = blob_bytes + ?6",
	[SQL_MIN_LSN] =
		"SELECT min(coalesce((SELECT min(lsn) FROM call WHERE run = ?1 AND lsn > 0), ?3), "
		"coalesce((SELECT min(lsn) FROM trace_item WHERE run = ?1), ?3), "
		"coalesce((SELECT min(lsn) FROM trace_line WHERE run = ?1 AND lsn > 0), ?3), "
		"coalesce((SELECT lsn FROM cursor WHERE stream = ?2), 0) + 1)",
	[SQL_DAY] = "INSERT INTO trace_day (run, day, bytes, calls) VALUES (?1, ?2, ?3, ?4) ON "
		    "CONFLICT (run, day) DO UPDATE SET bytes = bytes + ?3, calls = calls + ?4",
	[SQL_HELD_SHARE] = "SELECT coalesce(sum(records), 0), coalesce(sum(bytes), 0), "
			   "coalesce(sum(blobs), 0), coalesce(sum(blob_bytes), 0) FROM call WHERE "
			   "run = ?1 AND (?2 = '' OR trace = ?2) AND state = ?3",
	[SQL_HOLD_CALLS] =
		"UPDATE call SET state = 2, lsn = 0 WHERE run = ?1 AND trace = ?2 AND state = 0",
	[SQL_HOLD] = "UPDATE trace SET held = 1, calls = 0, open = 0, roots = 0 WHERE run = ?1 AND "
		     "id = ?2",
	[SQL_WANT] =
		"UPDATE trace SET held = 2, due_us = 0, last_us = 0, calls = (SELECT count(*) FROM "
		"call c WHERE c.run = ?1 AND c.trace = trace.id AND c.state = 2), roots = (SELECT "
		"count(*) FROM call c WHERE c.run = ?1 AND c.trace = trace.id AND c.state = 2 AND "
		"c.parent = '') WHERE run = ?1 AND held = 1 AND (?2 = '' OR id = ?2)",
	[SQL_WANT_CALLS] =
		"UPDATE call SET state = 0, lsn = CASE WHEN start_lsn > 0 AND start_lsn < end_lsn "
		"THEN start_lsn ELSE end_lsn END WHERE run = ?1 AND (?2 = '' OR trace = ?2) AND "
		"state = 2",
	[SQL_KEPT] = "INSERT INTO trace_kept (run, op, step, count) VALUES (?1, ?2, ?3, 1) ON "
		     "CONFLICT (run, op, step) DO UPDATE SET count = count + 1",
	[SQL_PARK] = "INSERT INTO trace_run (run, parked) VALUES (?1, nullif(?2, '')) ON CONFLICT "
		     "(run) DO UPDATE SET parked = nullif(?2, '')",
};

/* As it is stored, but for what borrows. */
struct call {
	int64_t state;
	int64_t loss;
	int64_t is_there;
	int64_t is_error;
	int64_t producer;
	int64_t lsn;
	int64_t start_lsn;
	int64_t end_lsn;
	int64_t started_us;
	int64_t ended_us;
	int64_t step;
	int64_t time_us;
	struct trace_share share;
	struct span trace;
	struct span parent;
	char trace_room[CALL_ID_MAX + 1];
	char parent_room[CALL_ID_MAX + 1];
};

/* How many calls, open ones and roots a trace gets more. */
struct touch {
	int64_t calls;
	int64_t open;
	int64_t roots;
	int64_t opened_us; /* of the call, when it is the first of its trace */
};

static int run_numbers(struct delivery *d, unsigned sql, const int64_t *numbers, int count)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, sql);

	for (int i = 0; i < count; i++)
		db_bind_int(s, i + 1, numbers[i]);
	return db_run(s);
}

static int run_named(struct delivery *d, unsigned sql, int64_t run, struct span name)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, sql);

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, name);
	return db_run(s);
}

/* --- the stream --- */

/* Adds to what is confirmed; nothing below the oldest record that a call or an item needs, or that is
 * not looked at yet, is needed any more. */
static int confirm(struct delivery *d, int64_t run, const struct trace_share *share)
{
	int64_t stream = stream_of(run, CLASS_TRACES);
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_MIN_LSN);
	int64_t lsn = 0;
	int r;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, stream);
	db_bind_int(s, 3, INT64_MAX);
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -EIO;
	lsn = db_column_int(s, 0) - 1;
	r = db_run(s);
	if (r < 0)
		return r;
	return run_numbers(d, SQL_CONFIRM,
			   (const int64_t[]){stream, lsn, share->records, share->bytes,
					     share->blobs, share->blob_bytes},
			   6);
}

/* --- calls --- */

static struct span keep_id(sqlite3_stmt *s, int column, char room[CALL_ID_MAX + 1])
{
	db_column_copy(s, column, room, CALL_ID_MAX + 1);
	return span_of_text(room);
}

/* 0, -ENOENT, -errno. */
static int read_call(struct delivery *d, int64_t run, struct span id, struct call *ret)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_CALL);
	int r;

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, id);
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -ENOENT;
	ret->state = db_column_int(s, 0);
	ret->loss = db_column_int(s, 1);
	ret->is_there = db_column_int(s, 2);
	ret->trace = keep_id(s, 3, ret->trace_room);
	ret->parent = keep_id(s, 4, ret->parent_room);
	ret->producer = db_column_int(s, 5);
	ret->lsn = db_column_int(s, 6);
	ret->start_lsn = db_column_int(s, 7);
	ret->end_lsn = db_column_int(s, 8);
	ret->started_us = db_column_int(s, 9);
	ret->ended_us = db_column_int(s, 10);
	ret->is_error = db_column_int(s, 11);
	ret->share = (struct trace_share){db_column_int(s, 12), db_column_int(s, 13),
					  db_column_int(s, 14), db_column_int(s, 15)};
	ret->step = db_column_int(s, 16);
	return db_run(s);
}

static int write_call(struct delivery *d, unsigned sql, int64_t run, struct span id,
		      const struct call *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, sql);

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, id);
	db_bind_int(s, 3, c->state);
	db_bind_int(s, 4, c->loss);
	db_bind_int(s, 5, c->is_there);
	db_bind_int(s, 6, c->is_error);
	db_bind_text(s, 7, c->trace);
	db_bind_text(s, 8, c->parent);
	db_bind_int(s, 9, c->producer);
	db_bind_int(s, 10, c->lsn);
	db_bind_int(s, 11, c->start_lsn);
	db_bind_int(s, 12, c->end_lsn);
	db_bind_int(s, 13, c->started_us);
	db_bind_int(s, 14, c->ended_us);
	db_bind_int(s, 15, c->time_us);
	db_bind_int(s, 16, c->share.records);
	db_bind_int(s, 17, c->share.bytes);
	db_bind_int(s, 18, c->share.blobs);
	db_bind_int(s, 19, c->share.blob_bytes);
	db_bind_int(s, 20, c->step);
	return db_run(s);
}

static int touch_trace(struct delivery *d, int64_t run, struct span trace, const struct touch *t,
		       int64_t time_us)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_TRACE_ADD);
	int r;

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, trace);
	db_bind_int(s, 3, t->calls);
	db_bind_int(s, 4, t->open);
	db_bind_int(s, 5, t->roots);
	db_bind_int(s, 6, time_us);
	db_bind_int(s, 7, t->opened_us);
	r = db_run(s);
	return r < 0 ? r : run_named(d, SQL_TRACE_DUE, run, trace);
}

static void add_share(struct trace_share *to, const struct trace_share *more, int64_t sign)
{
	to->records += sign * more->records;
	to->bytes += sign * more->bytes;
	to->blobs += sign * more->blobs;
	to->blob_bytes += sign * more->blob_bytes;
}

static void take_start(struct call *call, const struct change *c, struct touch *t)
{
	const struct call_fact *f = &c->call;

	call->start_lsn = c->lsn;
	call->started_us = f->started_us;
	call->trace = f->trace;
	call->parent = f->parent;
	call->producer = f->producer;
	call->step = f->step;
	t->calls++;
	t->opened_us = f->started_us < c->time_us ? f->started_us : c->time_us;
	t->open += call->end_lsn == 0;
	t->roots += f->parent.len == 0;
}

static void take_end(struct call *call, const struct change *c, struct touch *t)
{
	if (call->start_lsn > 0 && call->end_lsn == 0 && call->state != CALL_PLANNED)
		t->open--;
	call->end_lsn = c->lsn;
	call->ended_us = c->call.ended_us;
	call->is_error = c->call.is_error;
	call->loss = LOSS_NONE;
	if (call->start_lsn == 0)
		call->producer = c->call.producer;
}

/* A record of a call. What is known already, and what comes after W&B has the call, is confirmed and
 * no more. */
static int apply_call(struct delivery *d, const struct change *c)
{
	const struct call_fact *f = &c->call;
	struct call call = {.state = CALL_COLLECTED, .step = -1};
	struct touch touch = {0};
	int r = read_call(d, c->run, f->id, &call);
	bool is_new = r == -ENOENT;
	bool was_presumed = call.state == CALL_PRESUMED;
	bool takes_start = f->has_start && call.start_lsn == 0;
	bool takes_end = f->has_end && (call.end_lsn == 0 || call.loss != LOSS_NONE);

	if (r < 0 && !is_new)
		return r;
	if (!takes_start && !takes_end)
		return confirm(d, c->run, &c->share);
	if (takes_end && !f->has_start)
		take_end(&call, c, &touch);
	if (takes_start)
		take_start(&call, c, &touch);
	if (f->has_start && takes_end)
		take_end(&call, c, &touch);
	if (was_presumed && takes_end) { /* W&B has it otherwise */
		call.state = CALL_COLLECTED;
		touch.calls++;
		touch.roots += call.parent.len == 0;
	}
	if (call.lsn == 0 || call.lsn > c->lsn)
		call.lsn = c->lsn;
	call.time_us = c->time_us;
	add_share(&call.share, &c->share, 1);
	r = write_call(d, is_new ? SQL_CALL_ADD : SQL_CALL_SET, c->run, f->id, &call);
	if (r == 0 && call.state == CALL_HELD)
		r = confirm(d, c->run, &c->share);
	if (r < 0 || call.trace.len == 0 || call.state != CALL_COLLECTED)
		return r;
	return touch_trace(d, c->run, call.trace, &touch, c->time_us);
}

static int apply_lost(struct delivery *d, const struct change *c)
{
	const int64_t numbers[] = {c->run,           c->number, c->lsn,
				   (int64_t)c->loss, c->offset, c->time_us};
	const int64_t traces[] = {c->run, c->number, c->lsn, c->time_us};
	int r = run_numbers(d, SQL_LOSE, numbers, 6);

	return r < 0 ? r : run_numbers(d, SQL_LOSE_TRACES, traces, 4);
}

/* --- plans --- */

static int apply_line(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_LINE_ADD);
	struct touch touch = {.calls = -1};
	struct call call = {0};
	int r;

	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, (int64_t)c->line_kind);
	db_bind_int(s, 3, (int64_t)c->loss);
	db_bind_text(s, 4, c->text2);
	db_bind_text(s, 5, c->text3);
	db_bind_int(s, 6, c->share.records);
	db_bind_int(s, 7, c->share.bytes);
	db_bind_int(s, 8, c->share.blobs);
	db_bind_int(s, 9, c->share.blob_bytes);
	db_bind_int(s, 10, c->lsn);
	db_bind_blob(s, 11, c->text);
	r = db_run(s);
	if (r < 0 || c->line_kind > TRACE_END)
		return r;
	r = read_call(d, c->run, c->text3, &call);
	if (r == 0)
		r = run_named(d, SQL_CALL_PLANNED, c->run, c->text3);
	if (r < 0)
		return r;
	touch.open = call.end_lsn == 0 ? -1 : 0;
	touch.roots = call.parent.len == 0 ? -1 : 0;
	return touch_trace(d, c->run, c->text2, &touch, 0);
}

static int apply_below(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_BELOW);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	db_bind_int(s, 3, c->number);
	db_bind_int(s, 4, c->offset);
	db_bind_blob(s, 5, c->text2);
	return db_run(s);
}

static int apply_due(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_SET_DUE);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	db_bind_int(s, 3, c->time_us);
	db_bind_int(s, 4, c->number);
	return db_run(s);
}

static int apply_item(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_ITEM_ADD);

	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, c->lsn);
	db_bind_text(s, 3, c->text);
	db_bind_int(s, 4, c->share.bytes);
	db_bind_int(s, 5, c->share.blobs);
	db_bind_int(s, 6, c->share.blob_bytes);
	return db_run(s);
}

static int apply_state(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_STATE);

	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, c->lsn);
	db_bind_blob(s, 3, c->text);
	return db_run(s);
}

static int apply_op(struct delivery *d, unsigned sql, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, sql);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	db_bind_text(s, 3, c->text2);
	if (sql == SQL_OP)
		db_bind_int(s, 4, c->lsn);
	return db_run(s);
}

/* --- marks --- */

/* W&B has what a line says of the call, or never will: is_over. */
static int settle_call(struct delivery *d, int64_t run, const struct trace_line *line,
		       enum call_loss loss, bool is_over)
{
	struct call call = {0};
	struct touch touch = {.calls = 1};
	int r = read_call(d, run, line->call, &call);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	add_share(&call.share, &line->share, -1);
	call.lsn = call.share.records > 0 ? call.end_lsn : 0;
	call.is_there |= !is_over;
	if (is_over || (line->kind != TRACE_START && call.loss == LOSS_NONE && loss == LOSS_NONE))
		return run_named(d, SQL_CALL_DROP, run, line->call);
	if (line->kind != TRACE_START && call.loss != LOSS_NONE) {
		call.state = CALL_PRESUMED;
		return write_call(d, SQL_CALL_SET, run, line->call, &call);
	}
	/* it is open, or its end came while the line was under way */
	call.state = CALL_COLLECTED;
	touch.open = call.end_lsn == 0;
	touch.roots = call.parent.len == 0;
	r = write_call(d, SQL_CALL_SET, run, line->call, &call);
	return r < 0 ? r : touch_trace(d, run, call.trace, &touch, 0);
}

struct settled {
	struct trace_share share;
	int64_t calls;
};

/* Lines are few: as many as one request has. */
static int settle_line(struct delivery *d, int64_t run, sqlite3_stmt *s, bool is_over,
		       struct settled *sum)
{
	char trace[CALL_ID_MAX + 1];
	char call[CALL_ID_MAX + 1];
	const struct trace_line line = {
		.kind = (enum trace_line_kind)db_column_int(s, 1),
		.trace = keep_id(s, 3, trace),
		.call = keep_id(s, 4, call),
		.share = {db_column_int(s, 5), db_column_int(s, 6), db_column_int(s, 7),
			  db_column_int(s, 8)},
	};
	enum call_loss loss = (enum call_loss)db_column_int(s, 2);
	int r;

	add_share(&sum->share, &line.share, 1);
	sum->calls += line.kind <= TRACE_END;
	if (line.kind > TRACE_END)
		return 0;
	r = settle_call(d, run, &line, loss, is_over);
	return r < 0 ? r : run_named(d, SQL_TRACE_SWEEP, run, line.trace);
}

static int settle_lines(struct delivery *d, int64_t run, int64_t first, int64_t last, bool is_over,
			struct settled *sum)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_LINES);
	int r;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, first);
	db_bind_int(s, 3, last);
	while ((r = db_step(s)) == 1) {
		r = settle_line(d, run, s, is_over, sum);
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = run_numbers(d, SQL_LINES_DROP, (const int64_t[]){run, first, last}, 3);
	return r < 0 ? r : confirm(d, run, &sum->share);
}

static int apply_done(struct delivery *d, const struct change *c)
{
	struct settled sum = {.calls = 0};
	int r = settle_lines(d, c->run, 0, c->number, false, &sum);
	const int64_t day[] = {c->run, c->time_us / 86400000000, c->bytes, sum.calls};

	return r < 0 ? r : run_numbers(d, SQL_DAY, day, 4);
}

static int apply_refused(struct delivery *d, const struct change *c)
{
	struct settled sum = {.calls = 0};

	return settle_lines(d, c->run, c->number, c->number, true, &sum);
}

/* It cannot be sent: what it stands for is confirmed. */
static int apply_drop(struct delivery *d, const struct change *c)
{
	struct call call = {0};
	struct touch touch = {.calls = -1};
	int r = read_call(d, c->run, c->text, &call);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = run_named(d, SQL_CALL_DROP, c->run, c->text);
	if (r == 0 && call.trace.len > 0 && call.state == CALL_COLLECTED) {
		touch.open = call.end_lsn == 0 ? -1 : 0;
		touch.roots = call.parent.len == 0 ? -1 : 0;
		r = touch_trace(d, c->run, call.trace, &touch, 0);
		if (r == 0)
			r = run_named(d, SQL_TRACE_SWEEP, c->run, call.trace);
	}
	return r < 0 ? r : confirm(d, c->run, &call.share);
}

static int share_of(struct delivery *d, const struct change *c, enum call_state state,
		    struct trace_share *ret)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_HELD_SHARE);
	int r;

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	db_bind_int(s, 3, (int64_t)state);
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -EIO;
	*ret = (struct trace_share){db_column_int(s, 0), db_column_int(s, 1), db_column_int(s, 2),
				    db_column_int(s, 3)};
	return db_run(s);
}

/* It does not wait any more: its records go when they are old enough, as those of what was sent. */
static int apply_hold(struct delivery *d, const struct change *c)
{
	struct trace_share share = {0};
	int r = share_of(d, c, CALL_COLLECTED, &share);

	if (r == 0)
		r = run_named(d, SQL_HOLD_CALLS, c->run, c->text);
	if (r == 0)
		r = run_named(d, SQL_HOLD, c->run, c->text);
	return r < 0 ? r : confirm(d, c->run, &share);
}

/* It waits again. */
static int apply_want(struct delivery *d, const struct change *c)
{
	struct trace_share none = {0};
	struct trace_share share = {0};
	int r = share_of(d, c, CALL_HELD, &share);

	add_share(&none, &share, -1);
	if (r == 0)
		r = run_named(d, SQL_WANT, c->run, c->text);
	if (r == 0)
		r = run_named(d, SQL_WANT_CALLS, c->run, c->text);
	return r < 0 ? r : confirm(d, c->run, &none);
}

static int apply_kept(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_trace, SQL_KEPT);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	db_bind_int(s, 3, c->step);
	return db_run(s);
}

static int apply_park(struct delivery *d, const struct change *c)
{
	return run_named(d, SQL_PARK, c->run, c->text);
}

int delivery_apply_trace(struct delivery *d, const struct change *c)
{
	switch ((int)c->kind) {
	case CHANGE_TRACE_CALL: return apply_call(d, c);
	case CHANGE_TRACE_LOST: return apply_lost(d, c);
	case CHANGE_TRACE_ITEM: return apply_item(d, c);
	case CHANGE_TRACE_STATE: return apply_state(d, c);
	case CHANGE_TRACE_STEP:
		return run_numbers(d, SQL_STEP,
				   (const int64_t[]){c->run, c->number, c->time_us, c->step}, 4);
	case CHANGE_TRACE_OP: return apply_op(d, SQL_OP, c);
	case CHANGE_TRACE_OP_SENT: return apply_op(d, SQL_OP_SENT, c);
	case CHANGE_TRACE_LINE: return apply_line(d, c);
	case CHANGE_TRACE_BELOW: return apply_below(d, c);
	case CHANGE_TRACE_DUE: return apply_due(d, c);
	case CHANGE_TRACE_ITEM_DONE:
		return run_numbers(d, SQL_ITEM_DROP, (const int64_t[]){c->run, c->lsn}, 2);
	case CHANGE_TRACE_DONE: return apply_done(d, c);
	case CHANGE_TRACE_REFUSED: return apply_refused(d, c);
	case CHANGE_TRACE_DROP: return apply_drop(d, c);
	case CHANGE_TRACE_HOLD: return apply_hold(d, c);
	case CHANGE_TRACE_WANT: return apply_want(d, c);
	case CHANGE_TRACE_KEPT: return apply_kept(d, c);
	case CHANGE_TRACE_PARK: return apply_park(d, c);
	}
	assert(false && "a change of something else");
	return -EINVAL;
}

int delivery_prepare_trace(struct delivery *d)
{
	d->own_trace.handle = d->own.handle;
	return db_prepare(&d->own_trace, texts, SQL_COUNT);
}
