/* See delivery.h. One function per change, found by its kind. */
#include "daemon/store/delivery.h"

#include <assert.h>
#include <errno.h>

enum {
	SQL_CURSOR,
	SQL_LINE_ADD,
	SQL_RUN_NEXT_OFFSET,
	SQL_PLANNER,
	SQL_WAYPOINT,
	SQL_LATE_ADD,
	SQL_RUN_LATE,
	SQL_LINES_DONE,
	SQL_RUN_DONE_OFFSET,
	SQL_LINE_DROP,
	SQL_LINES_AWAY,
	SQL_LINES_BACK,
	SQL_RUN_OFFSET_BACK,
	SQL_LINES_MOVED,
	SQL_LINE_STEP,
	SQL_RUN_OFFSETS,
	SQL_CONFIRM,
	SQL_LINES_LSN,
	SQL_RUN_STATE,
	SQL_RUN_MORE,
	SQL_RUN_SERVER,
	SQL_RUN_EXIT,
	SQL_RUN_PARK,
	SQL_DEAD_ADD,
	SQL_SINK_OK,
	SQL_SINK_PAUSE,
	SQL_SINK_LIMIT,
	SQL_DEAD_DROP,
	SQL_DEAD_RETRY,
	SQL_DEAD_KEEP,
	SQL_RUN_OF_DEAD,
	SQL_LATE_DROP,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_CURSOR] = "INSERT INTO cursor (stream, lsn) VALUES (?1, ?2) ON CONFLICT (stream) DO "
		       "UPDATE SET lsn = max(lsn, ?2)",
	[SQL_LINE_ADD] = "INSERT INTO line (id, step, lsn, time_us, records, bytes, text) VALUES "
			 "(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[SQL_RUN_NEXT_OFFSET] =
		"UPDATE run SET next_offset = ?2 WHERE id = ?1 AND next_offset = ?2 - 1",
	[SQL_PLANNER] = "INSERT OR REPLACE INTO planner (run, state) VALUES (?1, ?2)",
	[SQL_WAYPOINT] = "INSERT OR REPLACE INTO waypoint (run, lsn, time_us, next_step, state, "
			 "resteps, resteps_to) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[SQL_LATE_ADD] = "INSERT OR IGNORE INTO late (run, lsn, step, time_us, payload) VALUES "
			 "(?1, ?2, ?3, ?4, ?5)",
	[SQL_RUN_LATE] =
		"UPDATE run SET late = (SELECT count(*) FROM late WHERE run = ?1) WHERE id = ?1",
	[SQL_LINES_DONE] = "DELETE FROM line WHERE id >= ?1 AND id < ?2",
	[SQL_RUN_DONE_OFFSET] = "UPDATE run SET done_offset = max(done_offset, ?2) WHERE id = ?1",
	[SQL_LINE_DROP] = "DELETE FROM line WHERE id = ?1",
	/* two steps, because ids must stay unique while they move: away below zero, then to one
	   less */
	[SQL_LINES_AWAY] = "UPDATE line SET id = -id WHERE id > ?1 AND id < ?2",
	[SQL_LINES_BACK] = "UPDATE line SET id = -id - 1 WHERE id < 0",
	[SQL_RUN_OFFSET_BACK] = "UPDATE run SET next_offset = next_offset - 1 WHERE id = ?1",
	[SQL_LINES_MOVED] = "UPDATE line SET id = -id + ?2 - (SELECT done_offset FROM run WHERE id "
			    "= ?1) WHERE id < 0",
	[SQL_LINE_STEP] = "UPDATE line SET step = ?2, text = ?3 WHERE id = ?1",
	[SQL_RUN_OFFSETS] = "UPDATE run SET next_offset = next_offset - done_offset + ?2, "
			    "done_offset = ?2 WHERE id = ?1",
	[SQL_CONFIRM] = "INSERT INTO cursor (stream, done_lsn, records, bytes, blobs, blob_bytes) "
			"VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
			"ON CONFLICT (stream) DO UPDATE SET done_lsn = max(done_lsn, ?2), records "
			"= records + ?3, bytes = bytes + ?4, "
			"blobs = blobs + ?5, blob_bytes = blob_bytes + ?6",
	/* of tables in parts the store keeps the parts for as long as the record that names them */
	[SQL_LINES_LSN] = "SELECT min(lsn) FROM (SELECT min(lsn) AS lsn FROM line WHERE id >= ?1 "
			  "AND id < ?2 UNION ALL SELECT min(lsn) FROM upload WHERE run = ?3 AND "
			  "state < 2 UNION ALL SELECT min(lsn) FROM artifact WHERE run = ?3)",
	[SQL_RUN_STATE] = "UPDATE run SET state = ?2, reopened = 0 WHERE id = ?1",
	[SQL_RUN_MORE] =
		"UPDATE run SET reopened = 1 WHERE id = ?1 AND ("
		"(SELECT last FROM extent WHERE stream = ?1 * 4 ORDER BY first DESC LIMIT 1) > "
		"coalesce((SELECT lsn FROM cursor WHERE stream = ?1 * 4), 0) "
		"OR (SELECT last FROM extent WHERE stream = ?1 * 4 + 3 ORDER BY first DESC LIMIT "
		"1) > coalesce((SELECT lsn FROM cursor WHERE stream = ?1 * 4 + 3), 0) "
		"OR (SELECT last FROM extent WHERE stream = ?1 * 4 + 1 ORDER BY first DESC LIMIT "
		"1) > coalesce((SELECT lsn FROM cursor WHERE stream = ?1 * 4 + 1), 0) "
		"OR EXISTS (SELECT 1 FROM dead WHERE run = ?1 AND retry = 1))",
	[SQL_RUN_SERVER] = "UPDATE run SET display_name = ?2, server_id = ?3, server_entity = ?4, "
			   "server_project = ?5 WHERE id = ?1",
	[SQL_RUN_EXIT] = "UPDATE run SET exit_code = ?2 WHERE id = ?1",
	[SQL_RUN_PARK] = "UPDATE run SET parked = nullif(?2, '') WHERE id = ?1",
	[SQL_DEAD_ADD] = "INSERT INTO dead (run, sink, time_us, status, what, step, reason, "
			 "request, answer, body, bytes) "
			 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
	[SQL_SINK_OK] = "INSERT INTO sink (name, last_ok_us, sent) VALUES (?1, ?2, ?3) "
			"ON CONFLICT (name) DO UPDATE SET last_ok_us = ?2, sent = sent + ?3",
	[SQL_SINK_PAUSE] = "INSERT INTO sink (name, paused_until_us) VALUES (?1, ?2) ON CONFLICT "
			   "(name) DO UPDATE SET paused_until_us = ?2",
	[SQL_SINK_LIMIT] =
		"INSERT INTO sink (name, requests_per_s, bytes_per_s) VALUES (?1, CASE WHEN ?2 >= "
		"0 "
		"THEN ?2 END, CASE WHEN ?3 >= 0 THEN ?3 END) ON CONFLICT (name) DO UPDATE SET "
		"requests_per_s = CASE ?2 WHEN -1 THEN requests_per_s WHEN -2 THEN NULL ELSE ?2 "
		"END, "
		"bytes_per_s = CASE ?3 WHEN -1 THEN bytes_per_s WHEN -2 THEN NULL ELSE ?3 END",
	[SQL_DEAD_DROP] = "DELETE FROM dead WHERE id = ?1",
	[SQL_DEAD_RETRY] = "UPDATE dead SET retry = 1 WHERE id = ?1",
	[SQL_DEAD_KEEP] = "UPDATE dead SET retry = 0 WHERE id = ?1",
	[SQL_RUN_OF_DEAD] = "UPDATE run SET reopened = 1 WHERE state = 4 AND id = (SELECT run FROM "
			    "dead WHERE id = ?1)",
	[SQL_LATE_DROP] = "DELETE FROM late WHERE run = ?1",
};

/* Runs a statement with two numbers. */
static int run_numbers(struct delivery *d, unsigned sql, int64_t first, int64_t second)
{
	sqlite3_stmt *s = db_stmt(&d->own, sql);

	if (sqlite3_bind_parameter_count(s) > 0)
		db_bind_int(s, 1, first);
	if (sqlite3_bind_parameter_count(s) > 1)
		db_bind_int(s, 2, second);
	return db_run(s);
}

/* The same, and something must have changed. */
static int change_numbers(struct delivery *d, unsigned sql, int64_t first, int64_t second)
{
	int r = run_numbers(d, sql, first, second);

	if (r < 0)
		return r;
	return sqlite3_changes(d->own.handle) == 0 ? -ENOENT : 0;
}

static int apply_cursor(struct delivery *d, const struct change *c)
{
	return run_numbers(d, SQL_CURSOR, c->stream, c->lsn);
}

static int apply_line_add(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_LINE_ADD);
	int r;

	db_bind_int(s, 1, line_id(c->run, c->offset));
	db_bind_int(s, 2, c->step);
	db_bind_int(s, 3, c->lsn);
	db_bind_int(s, 4, c->time_us);
	db_bind_int(s, 5, c->records);
	db_bind_int(s, 6, c->bytes);
	db_bind_text(s, 7, c->text);
	r = db_run(s);
	if (r < 0)
		return r;
	return change_numbers(d, SQL_RUN_NEXT_OFFSET, c->run,
			      c->offset + 1); /* -ENOENT: the offset is not the next one */
}

static int apply_planner(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_PLANNER);

	db_bind_int(s, 1, c->run);
	db_bind_blob(s, 2, c->text);
	return db_run(s);
}

static int apply_waypoint(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_WAYPOINT);

	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, c->lsn);
	db_bind_int(s, 3, c->time_us);
	db_bind_int(s, 4, c->step);
	db_bind_blob(s, 5, c->text);
	if (c->number > 0) {
		db_bind_int(s, 6, c->offset);
		db_bind_int(s, 7, c->number);
	}
	return db_run(s);
}

static int apply_late_add(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_LATE_ADD);
	int r;

	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, c->lsn);
	db_bind_int(s, 3, c->step);
	db_bind_int(s, 4, c->time_us);
	db_bind_blob(s, 5, c->text);
	r = db_run(s);
	return r < 0 ? r : change_numbers(d, SQL_RUN_LATE, c->run, 0);
}

/* A run that is done is opened again for it. The letter of a file goes at once: the file waits again. */
static int apply_dead_retry(struct delivery *d, const struct change *c)
{
	bool is_file = false;
	int r = delivery_revive_artifact(d, c->number);

	if (r != -ENOENT)
		return r < 0 ? r : run_numbers(d, SQL_DEAD_DROP, c->number, 0);
	r = run_numbers(d, SQL_DEAD_RETRY, c->number, 0); /* it may be gone meanwhile */
	if (r == 0)
		r = run_numbers(d, SQL_RUN_OF_DEAD, c->number, 0);
	if (r == 0)
		r = delivery_upload_of_dead(d, c->number, false, &is_file);
	return r < 0 || !is_file ? r : run_numbers(d, SQL_DEAD_DROP, c->number, 0);
}

static int apply_lines_done(struct delivery *d, const struct change *c)
{
	int r = run_numbers(d, SQL_LINES_DONE, line_id(c->run, 0), line_id(c->run, c->offset));

	return r < 0 ? r : change_numbers(d, SQL_RUN_DONE_OFFSET, c->run, c->offset);
}

static int apply_line_dead(struct delivery *d, const struct change *c)
{
	int64_t id = line_id(c->run, c->offset);
	int r = change_numbers(d, SQL_LINE_DROP, id, 0);

	if (r == 0)
		r = run_numbers(d, SQL_LINES_AWAY, id, line_id(c->run + 1, 0));
	if (r == 0)
		r = run_numbers(d, SQL_LINES_BACK, 0, 0);
	return r < 0 ? r : change_numbers(d, SQL_RUN_OFFSET_BACK, c->run, 0);
}

static int apply_line_step(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_LINE_STEP);

	db_bind_int(s, 1, line_id(c->run, c->offset));
	db_bind_int(s, 2, c->step);
	db_bind_text(s, 3, c->text);
	return db_run(s);
}

static int apply_run_offset(struct delivery *d, const struct change *c)
{
	int r = run_numbers(d, SQL_LINES_AWAY, line_id(c->run, 0) - 1, line_id(c->run + 1, 0));

	if (r == 0)
		r = run_numbers(d, SQL_LINES_MOVED, c->run, c->offset);
	return r < 0 ? r : change_numbers(d, SQL_RUN_OFFSETS, c->run, c->offset);
}

/* done_lsn must also stay below what is planned and not confirmed: its records are what a re-plan
 * needs, and have the files of uploads. */
static int lowest_line_lsn(struct delivery *d, int64_t run, int64_t *lsn)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_LINES_LSN);
	int r;

	db_bind_int(s, 1, line_id(run, 0));
	db_bind_int(s, 2, line_id(run + 1, 0));
	db_bind_int(s, 3, run);
	r = db_step(s);
	if (r != 1)
		return r;
	if (sqlite3_column_type(s, 0) != SQLITE_NULL && db_column_int(s, 0) <= *lsn)
		*lsn = db_column_int(s, 0) - 1;
	return db_run(s);
}

static int apply_confirm(struct delivery *d, const struct change *c)
{
	int64_t done_lsn = c->lsn;
	int r = 0;
	sqlite3_stmt *s;

	if (stream_class(c->stream) == CLASS_METRICS)
		r = lowest_line_lsn(d, stream_run(c->stream), &done_lsn);
	if (r < 0)
		return r;
	s = db_stmt(&d->own, SQL_CONFIRM);
	db_bind_int(s, 1, c->stream);
	db_bind_int(s, 2, done_lsn);
	db_bind_int(s, 3, c->records);
	db_bind_int(s, 4, c->bytes);
	db_bind_int(s, 5, c->blobs);
	db_bind_int(s, 6, c->blob_bytes);
	return db_run(s);
}

static int apply_run_state(struct delivery *d, const struct change *c)
{
	int r = change_numbers(d, SQL_RUN_STATE, c->run, (int64_t)c->state);

	if (r < 0 || c->state != RUN_DONE)
		return r;
	commit_note_done(d->commit, c->run);
	return run_numbers(
		d, SQL_RUN_MORE, c->run,
		0); /* a record, or a person's wish, may have come since the sender looked */
}

static int apply_run_server(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_RUN_SERVER);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	db_bind_text(s, 3, c->text2);
	db_bind_text(s, 4, c->text3);
	db_bind_text(s, 5, c->text4);
	return db_run(s);
}

static int apply_run_exit(struct delivery *d, const struct change *c)
{
	return change_numbers(d, SQL_RUN_EXIT, c->run, c->number);
}

static int apply_run_park(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_RUN_PARK);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	return db_run(s);
}

static int apply_dead_add(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_DEAD_ADD);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->text);
	db_bind_int(s, 3, c->time_us);
	db_bind_int(s, 4, c->dead.status);
	db_bind_text(s, 5, span_of_text(c->dead.what));
	if (c->dead.step >= 0)
		db_bind_int(s, 6, c->dead.step);
	db_bind_text(s, 7, c->dead.reason);
	db_bind_text(s, 8, c->dead.request);
	db_bind_blob(s, 9, c->dead.answer);
	db_bind_blob(s, 10, c->dead.body);
	db_bind_int(s, 11, (int64_t)c->dead.body.len);
	return db_run(s);
}

static int apply_sink_ok(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_SINK_OK);

	db_bind_text(s, 1, c->text);
	db_bind_int(s, 2, c->time_us);
	db_bind_int(s, 3, c->records);
	return db_run(s);
}

static int apply_sink_pause(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_SINK_PAUSE);

	db_bind_text(s, 1, c->text);
	db_bind_int(s, 2, c->time_us);
	return db_run(s);
}

static int apply_sink_limit(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own, SQL_SINK_LIMIT);

	db_bind_text(s, 1, c->text);
	db_bind_int(s, 2, c->requests_per_s);
	db_bind_int(s, 3, c->bytes_per_s);
	return db_run(s);
}

static int apply_dead_drop(struct delivery *d, const struct change *c)
{
	bool is_file = false;
	int r = delivery_drop_artifact(d, c->number);

	if (r == 0)
		r = delivery_upload_of_dead(d, c->number, true, &is_file);

	return r < 0 ? r
		     : run_numbers(d, SQL_DEAD_DROP, c->number, 0); /* it may be gone meanwhile */
}

static int apply_late_drop(struct delivery *d, const struct change *c)
{
	int r = run_numbers(d, SQL_LATE_DROP, c->run, 0);

	return r < 0 ? r : change_numbers(d, SQL_RUN_LATE, c->run, 0);
}

static int apply(struct delivery *d, const struct change *c)
{
	switch (c->kind) {
	case CHANGE_CURSOR: return apply_cursor(d, c);
	case CHANGE_LINE_ADD: return apply_line_add(d, c);
	case CHANGE_PLANNER: return apply_planner(d, c);
	case CHANGE_WAYPOINT: return apply_waypoint(d, c);
	case CHANGE_LATE_ADD: return apply_late_add(d, c);
	case CHANGE_UPLOAD_ADD:
	case CHANGE_UPLOAD_THERE:
	case CHANGE_UPLOAD_DONE:
	case CHANGE_UPLOAD_REFUSED:
	case CHANGE_UPLOAD_HOLD:
	case CHANGE_UPLOADS_END: return delivery_apply_upload(d, c);
	case CHANGE_LINES_DONE: return apply_lines_done(d, c);
	case CHANGE_LINE_DEAD: return apply_line_dead(d, c);
	case CHANGE_LINE_STEP: return apply_line_step(d, c);
	case CHANGE_RUN_OFFSET: return apply_run_offset(d, c);
	case CHANGE_CONFIRM: return apply_confirm(d, c);
	case CHANGE_RUN_STATE: return apply_run_state(d, c);
	case CHANGE_RUN_SERVER: return apply_run_server(d, c);
	case CHANGE_RUN_EXIT: return apply_run_exit(d, c);
	case CHANGE_RUN_PARK: return apply_run_park(d, c);
	case CHANGE_DEAD_ADD: return apply_dead_add(d, c);
	case CHANGE_SINK_OK: return apply_sink_ok(d, c);
	case CHANGE_SINK_PAUSE: return apply_sink_pause(d, c);
	case CHANGE_SINK_LIMIT: return apply_sink_limit(d, c);
	case CHANGE_DEAD_RETRY: return apply_dead_retry(d, c);
	case CHANGE_DEAD_KEEP: return run_numbers(d, SQL_DEAD_KEEP, c->number, 0);
	case CHANGE_DEAD_DROP: return apply_dead_drop(d, c);
	case CHANGE_LATE_DROP: return apply_late_drop(d, c);
	case CHANGE_SIDE_ADD:
	case CHANGE_SIDE_STATE:
	case CHANGE_SIDE_DONE:
	case CHANGE_SIDE_DROP:
	case CHANGE_SIDE_MOVE: return delivery_apply_side(d, c);
	case CHANGE_ARTIFACT_ADD:
	case CHANGE_ARTIFACT_FILE:
	case CHANGE_ARTIFACT_MOVE:
	case CHANGE_ARTIFACT_FILE_SET:
	case CHANGE_ARTIFACT_AFRESH:
	case CHANGE_ARTIFACT_DONE:
	case CHANGE_ARTIFACT_DROP: return delivery_apply_artifact(d, c);
	case CHANGE_TRACE_CALL:
	case CHANGE_TRACE_LOST:
	case CHANGE_TRACE_ITEM:
	case CHANGE_TRACE_STATE:
	case CHANGE_TRACE_STEP:
	case CHANGE_TRACE_OP:
	case CHANGE_TRACE_OP_SENT:
	case CHANGE_TRACE_LINE:
	case CHANGE_TRACE_BELOW:
	case CHANGE_TRACE_DUE:
	case CHANGE_TRACE_ITEM_DONE:
	case CHANGE_TRACE_DONE:
	case CHANGE_TRACE_REFUSED:
	case CHANGE_TRACE_DROP:
	case CHANGE_TRACE_HOLD:
	case CHANGE_TRACE_WANT:
	case CHANGE_TRACE_KEPT:
	case CHANGE_TRACE_PARK: return delivery_apply_trace(d, c);
	case CHANGE_PRUNE: d->prune_before_us = c->time_us; return 0;
	}
	assert(false && "a kind of change that nobody applies");
	return -EINVAL;
}

int delivery_apply(struct delivery *d, const struct changes *list)
{
	for (size_t i = 0; i < list->count; i++) {
		int r = apply(d, &list->items[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

int delivery_open(struct delivery *ret, struct db *db, struct blobs *blobs, struct commit *commit)
{
	int r;

	*ret = (struct delivery){.own = {.handle = db->handle}, .blobs = blobs, .commit = commit};
	r = db_prepare(&ret->own, texts, SQL_COUNT);
	if (r == 0)
		r = delivery_prepare_side(ret);
	if (r == 0)
		r = delivery_prepare_artifact(ret);
	if (r == 0)
		r = delivery_prepare_upload(ret);
	if (r == 0)
		r = delivery_prepare_trace(ret);
	if (r < 0)
		delivery_close(ret);
	return r;
}

void delivery_close(struct delivery *d)
{
	d->own.handle = NULL; /* db's to close, here and below */
	db_close(&d->own);
	d->own_side.handle = NULL;
	db_close(&d->own_side);
	d->own_upload.handle = NULL;
	db_close(&d->own_upload);
	d->own_artifact.handle = NULL;
	db_close(&d->own_artifact);
	d->own_trace.handle = NULL;
	db_close(&d->own_trace);
}
