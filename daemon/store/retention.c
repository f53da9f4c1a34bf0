/* See retention.h. A round visits the streams in order; a slice deletes at most one extent's worth
 * or RECORDS_A_SLICE. The newest extent of each stream stays: its sums are where the stream goes
 * on. */
#include "daemon/store/retention.h"

#include "daemon/flow/run.h"

#include <errno.h>

enum {
	RECORDS_A_SLICE = 256
};

enum {
	SQL_KEEP_NEXT_LSN,
	SQL_NEXT_EXTENT,
	SQL_DELIVERED,
	SQL_BLOBS_OF,
	SQL_DROP_USES,
	SQL_DROP_RECORDS,
	SQL_DROP_EXTENT,
	SQL_CUT_EXTENT,
	SQL_DROP_WAYPOINTS,
	SQL_DROP_HELD_CALLS,
	SQL_DROP_HELD_TRACES,
	SQL_RETIRED,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_KEEP_NEXT_LSN] = "INSERT OR REPLACE INTO meta (key, value) VALUES ('next_lsn', ?1)",
	/* the first extent, of the first stream from ?1 on, that is delivered whole, is old enough
	   and still has its records */
	[SQL_NEXT_EXTENT] =
		"SELECT c.stream, e.first, e.last FROM cursor c JOIN extent e ON e.stream = "
		"c.stream "
		"WHERE c.stream >= ?1 AND e.last <= c.done_lsn AND e.time_us < ?2 AND e.first <= "
		"e.last "
		"AND e.first = (SELECT min(x.first) FROM extent x WHERE x.stream = c.stream) "
		"AND EXISTS (SELECT 1 FROM record r WHERE r.lsn BETWEEN e.first AND e.last) "
		"ORDER BY c.stream LIMIT 1",
	[SQL_DELIVERED] = "SELECT coalesce(sum(bytes), 0) - coalesce((SELECT count FROM tally "
			  "WHERE name = 'retired_bytes'), 0) FROM cursor",
	[SQL_BLOBS_OF] = "SELECT blob FROM blob_use WHERE lsn BETWEEN ?1 AND ?2",
	[SQL_DROP_USES] = "DELETE FROM blob_use WHERE lsn BETWEEN ?1 AND ?2",
	[SQL_DROP_RECORDS] = "DELETE FROM record WHERE lsn BETWEEN ?1 AND ?2",
	[SQL_DROP_EXTENT] =
		"DELETE FROM extent WHERE stream = ?1 AND first = ?2 "
		"AND EXISTS (SELECT 1 FROM extent n WHERE n.stream = ?1 AND n.first > ?2)",
	[SQL_CUT_EXTENT] = "UPDATE extent SET first = ?3 WHERE stream = ?1 AND first = ?2",
	/* one below the newest record that is gone is no place to begin at */
	[SQL_DROP_WAYPOINTS] = "DELETE FROM waypoint WHERE run = ?1 AND lsn < ?2",
	/* a trace that was left out can be sent as long as its records are here */
	[SQL_DROP_HELD_CALLS] =
		"DELETE FROM call WHERE run = ?1 AND state = 2 AND min(start_lsn, end_lsn) <= ?2",
	[SQL_DROP_HELD_TRACES] = "DELETE FROM trace WHERE run = ?1 AND held = 1 AND ?2 > 0 AND NOT "
				 "EXISTS (SELECT 1 FROM call c WHERE c.run = ?1 AND c.trace = "
				 "trace.id)",
	[SQL_RETIRED] = "INSERT INTO tally (name, count) VALUES ('retired_bytes', ?1) ON CONFLICT "
			"(name) DO UPDATE SET count = count + ?1",
};

struct doomed_extent {
	int64_t stream;
	int64_t first;
	int64_t last;
};

static int run_range(struct retention *t, unsigned sql, int64_t first, int64_t last)
{
	sqlite3_stmt *s = db_stmt(&t->own, sql);

	db_bind_int(s, 1, first);
	db_bind_int(s, 2, last);
	return db_run(s);
}

/* 1 and the extent, 0 when there is none from the stream on, or -errno. */
static int next_extent(struct retention *t, int64_t before_us, struct doomed_extent *ret)
{
	sqlite3_stmt *s = db_stmt(&t->own, SQL_NEXT_EXTENT);
	int r;

	db_bind_int(s, 1, t->at_stream);
	db_bind_int(s, 2, before_us);
	r = db_step(s);
	if (r != 1)
		return r;
	*ret = (struct doomed_extent){.stream = db_column_int(s, 0),
				      .first = db_column_int(s, 1),
				      .last = db_column_int(s, 2)};
	r = db_run(s);
	return r < 0 ? r : 1;
}

static int release_blobs(struct retention *t, int64_t first, int64_t last)
{
	sqlite3_stmt *s = db_stmt(&t->own, SQL_BLOBS_OF);
	int r;

	db_bind_int(s, 1, first);
	db_bind_int(s, 2, last);
	while ((r = db_step(s)) == 1) {
		int e = blobs_unref(t->blobs, db_column_int(s, 0));

		if (e < 0)
			return e;
	}
	return r < 0 ? r : run_range(t, SQL_DROP_USES, first, last);
}

static int count_retired(struct retention *t, int64_t bytes)
{
	sqlite3_stmt *s = db_stmt(&t->own, SQL_RETIRED);

	db_bind_int(s, 1, bytes);
	return db_run(s);
}

static int bytes_between(struct retention *t, int64_t first, int64_t last, int64_t *ret)
{
	sqlite3_stmt *s = NULL;
	int r = sqlite_errno(sqlite3_prepare_v2(
		t->own.handle,
		"SELECT coalesce(sum(length(payload)), 0) FROM record WHERE lsn BETWEEN ?1 AND ?2",
		-1, &s, NULL));

	if (r < 0)
		return r;
	db_bind_int(s, 1, first);
	db_bind_int(s, 2, last);
	r = db_step(s);
	if (r == 1) {
		*ret = db_column_int(s, 0);
		r = 0;
	}
	(void)sqlite3_finalize(s); /* repeats the step's error */
	return r;
}

static int drop_extent(struct retention *t, const struct doomed_extent *e)
{
	int64_t last =
		e->last - e->first >= RECORDS_A_SLICE ? e->first + RECORDS_A_SLICE - 1 : e->last;
	int64_t bytes = 0;
	sqlite3_stmt *s;
	int r = bytes_between(t, e->first, last, &bytes);

	if (r == 0)
		r = release_blobs(t, e->first, last);
	if (r == 0)
		r = run_range(t, SQL_DROP_RECORDS, e->first, last);
	if (r == 0)
		r = count_retired(t, bytes);
	if (r == 0 && stream_class(e->stream) == CLASS_METRICS)
		r = run_range(t, SQL_DROP_WAYPOINTS, stream_run(e->stream), last);
	if (r == 0 && stream_class(e->stream) == CLASS_TRACES)
		r = run_range(t, SQL_DROP_HELD_CALLS, stream_run(e->stream), last);
	if (r == 0 && stream_class(e->stream) == CLASS_TRACES)
		r = run_range(t, SQL_DROP_HELD_TRACES, stream_run(e->stream), last);
	if (r < 0)
		return r;
	if (last == e->last)
		return run_range(t, SQL_DROP_EXTENT, e->stream, e->first);
	s = db_stmt(&t->own, SQL_CUT_EXTENT);
	db_bind_int(s, 1, e->stream);
	db_bind_int(s, 2, e->first);
	db_bind_int(s, 3, last + 1);
	return db_run(s);
}

static int delivered_bytes(struct retention *t, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&t->own, SQL_DELIVERED);
	int r = db_step(s);

	if (r != 1)
		return r < 0 ? r : -EIO;
	*ret = db_column_int(s, 0);
	return db_run(s);
}

int retention_slice(struct retention *r, int64_t next_lsn, int64_t now_us, bool short_of_space,
		    enum retention_result *ret_result)
{
	struct doomed_extent e = {0};
	int64_t delivered = 0;
	int64_t before_us;
	sqlite3_stmt *s;
	int n;

	if (r->at_stream == 0) {
		n = delivered_bytes(r, &delivered);
		if (n < 0)
			return n;
		r->squeezed = short_of_space || delivered > r->settings.keep_bytes;
	}
	before_us = r->squeezed ? now_us + 1 : now_us - r->settings.keep_us;
	if (r->prune_before_us > before_us)
		before_us = r->prune_before_us;
	n = next_extent(r, before_us, &e);
	if (n < 0)
		return n;
	if (n == 0) {
		r->at_stream = 0;
		r->prune_before_us = 0;
		*ret_result = RETENTION_ROUND_DONE;
		return 0;
	}
	s = db_stmt(&r->own, SQL_KEEP_NEXT_LSN);
	db_bind_int(s, 1, next_lsn);
	n = db_run(s);
	if (n == 0)
		n = drop_extent(r, &e);
	if (n < 0)
		return n;
	r->at_stream =
		r->squeezed
			? 0
			: e.stream; /* too much delivered: look at the sum again after each slice */
	*ret_result = RETENTION_DID_SOMETHING;
	return 0;
}

int retention_open(struct retention *ret, struct db *db, struct blobs *blobs,
		   const struct retention_settings *settings)
{
	int r;

	*ret = (struct retention){
		.own = {.handle = db->handle}, .blobs = blobs, .settings = *settings};
	r = db_prepare(&ret->own, texts, SQL_COUNT);
	if (r < 0)
		retention_close(ret);
	return r;
}

void retention_close(struct retention *r)
{
	r->own.handle = NULL; /* db's to close */
	db_close(&r->own);
}
