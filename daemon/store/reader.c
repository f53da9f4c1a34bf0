/* The store's side of flow/reader.h: a read-only connection with its statements. Every call steps
 * its statement to the end or resets it, so no read transaction outlives it (an open one would keep
 * the log from starting again: measured). */
#include "daemon/base/fd.h"
#include "daemon/store/reader_parts.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum {
	SQL_TOTALS,
	SQL_RUN_STATES,
	SQL_TALLIES,
	SQL_SINK,
	SQL_SINK_TOTAL,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_TOTALS] =
		"SELECT (SELECT count(*) FROM dead), (SELECT coalesce(sum(bytes), 0) FROM "
		"dead), (SELECT count(*) FROM late), "
		"(SELECT coalesce(sum(size), 0) FROM blob WHERE data IS NULL), (SELECT "
		"count(*) FROM run WHERE parked IS NOT NULL) + (SELECT count(*) FROM trace_run "
		"WHERE parked IS NOT NULL)",
	[SQL_RUN_STATES] = "SELECT state, count(*) FROM run WHERE name <> '' GROUP BY state",
	[SQL_TALLIES] = "SELECT coalesce(sum(count) FILTER (WHERE name LIKE 'rejected:%'), 0), "
			"coalesce(sum(count) FILTER (WHERE name LIKE 'refused:%'), 0), "
			"coalesce(sum(count) FILTER (WHERE name LIKE 'lost:%'), 0), "
			"coalesce(sum(count) FILTER (WHERE name = 'held:tables'), 0) FROM tally",
	[SQL_SINK] = "SELECT paused_until_us, last_ok_us, sent, coalesce(requests_per_s, -1), "
		     "coalesce(bytes_per_s, -1) FROM sink WHERE name = ?1",
	[SQL_SINK_TOTAL] = "SELECT coalesce(sum(paused_until_us) FILTER (WHERE name = ?1), 0), "
			   "coalesce(max(last_ok_us), 0), coalesce(sum(sent), 0), -1, -1 FROM sink "
			   "WHERE name = ?1 OR "
			   "name GLOB ?1 || ':*'",
};

/* --- life --- */

int reader_open(struct reader **ret, const char *store_dir)
{
	char error[DB_ERROR_MAX];
	struct reader *r = mem_zalloc(sizeof(*r));
	int e;

	if (r == NULL)
		return -ENOMEM;
	r->dir_fd = open(store_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	e = r->dir_fd < 0 ? -errno : db_open_reader(&r->db, store_dir, error);
	if (e == 0)
		e = db_prepare(&r->db, texts, SQL_COUNT);
	if (e == 0)
		e = reader_runs_prepare(r);
	if (e == 0)
		e = reader_records_prepare(r);
	if (e == 0)
		e = reader_side_prepare(r);
	if (e == 0)
		e = reader_artifacts_prepare(r);
	if (e == 0)
		e = reader_uploads_prepare(r);
	if (e == 0)
		e = reader_dead_prepare(r);
	if (e == 0)
		e = reader_trace_prepare(r);
	if (e == 0)
		e = reader_check_prepare(r);
	if (e < 0) {
		(void)reader_close(r);
		return e;
	}
	*ret = r;
	return 0;
}

static void drop_statements(struct db *d)
{
	d->handle = NULL; /* closed once, with r->db */
	db_close(d);
}

struct reader *reader_close(struct reader *r)
{
	if (r == NULL)
		return NULL;
	drop_statements(&r->runs);
	drop_statements(&r->records);
	drop_statements(&r->side);
	drop_statements(&r->artifacts);
	drop_statements(&r->uploads);
	drop_statements(&r->dead);
	drop_statements(&r->check);
	drop_statements(&r->trace);
	db_close(&r->db);
	r->dir_fd = fd_close(r->dir_fd);
	return mem_free(r);
}

/* --- what the others use --- */

int reader_step_once(sqlite3_stmt *s)
{
	int r = db_step(s);

	return r == 0 ? -ENOENT : r < 0 ? r : 0;
}

int reader_one_number(sqlite3_stmt *s, int64_t *ret)
{
	int e = reader_step_once(s);

	if (e < 0)
		return e;
	*ret = db_column_int(s, 0);
	return db_run(s);
}

/* --- sums --- */

static int64_t file_size(const struct reader *r, const char *name)
{
	struct stat st;

	return fstatat(r->dir_fd, name, &st, 0) == 0 ? st.st_size : 0;
}

int reader_totals(struct reader *r, struct store_totals *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_TOTALS);
	struct store_totals t = {.database_bytes = file_size(r, DB_FILE),
				 .wal_bytes = file_size(r, DB_FILE "-wal")};
	int e = reader_step_once(s);

	if (e < 0)
		return e;
	t.dead = db_column_int(s, 0);
	t.dead_bytes = db_column_int(s, 1);
	t.late = db_column_int(s, 2);
	t.blob_bytes = db_column_int(s, 3);
	t.parked = db_column_int(s, 4);
	(void)sqlite3_reset(s); /* one row was wanted */
	s = db_stmt(&r->db, SQL_RUN_STATES);
	while ((e = db_step(s)) == 1) {
		if (db_column_int(s, 0) >= 0 && db_column_int(s, 0) < RUN_STATES)
			t.runs[db_column_int(s, 0)] = db_column_int(s, 1);
	}
	if (e < 0)
		return e;
	s = db_stmt(&r->db, SQL_TALLIES);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	t.rejected = db_column_int(s, 0);
	t.refused = db_column_int(s, 1);
	t.lost = db_column_int(s, 2);
	t.held = db_column_int(s, 3);
	*ret = t;
	return db_run(s);
}

static int read_sink(struct reader *r, unsigned sql, const char *name, struct sink_info *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, sql);
	int e;

	*ret = (struct sink_info){.requests_per_s = -1, .bytes_per_s = -1};
	db_bind_text(s, 1, span_of_text(name));
	e = db_step(s);
	if (e != 1)
		return e;
	*ret = (struct sink_info){
		.paused_until_us = db_column_int(s, 0),
		.last_ok_us = db_column_int(s, 1),
		.sent = db_column_int(s, 2),
		.requests_per_s = db_column_int(s, 3),
		.bytes_per_s = db_column_int(s, 4),
	};
	return db_run(s);
}

int reader_sink(struct reader *r, const char *name, struct sink_info *ret)
{
	return read_sink(r, SQL_SINK, name, ret);
}

int reader_sink_total(struct reader *r, const char *name, struct sink_info *ret)
{
	return read_sink(r, SQL_SINK_TOTAL, name, ret);
}
