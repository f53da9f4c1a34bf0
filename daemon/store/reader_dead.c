/* See reader_parts.h: what W&B refused for good, and rows that came after their step had gone. */
#include "daemon/store/reader_parts.h"

#include <errno.h>

enum {
	SQL_DEAD,
	SQL_DEAD_LETTER,
	SQL_DEAD_RETRIES,
	SQL_DEAD_GROUPS,
	SQL_LATE,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_DEAD] = "SELECT id, run, time_us, coalesce(step, -1), bytes, status, sink, what, "
		     "reason, request, '', '' FROM dead "
		     "WHERE id > ?1 ORDER BY id LIMIT ?2",
	[SQL_DEAD_LETTER] = "SELECT id, run, time_us, coalesce(step, -1), bytes, status, sink, "
			    "what, reason, request, answer, body "
			    "FROM dead WHERE id = ?1",
	[SQL_DEAD_RETRIES] = "SELECT id, run, time_us, coalesce(step, -1), bytes, status, sink, "
			     "what, reason, request, answer, body "
			     "FROM dead WHERE run = ?1 AND retry = 1 ORDER BY id LIMIT 100",
	[SQL_DEAD_GROUPS] = "SELECT count(*), status, sink, reason, min(run) FROM dead GROUP BY "
			    "sink, status, reason ORDER BY 1 DESC LIMIT 8",
	[SQL_LATE] =
		"SELECT run, lsn, step, time_us, payload FROM late WHERE (run, lsn) > (?1, ?2) "
		"ORDER BY run, lsn LIMIT 100",
};

/* --- its statements --- */

int reader_dead_prepare(struct reader *r)
{
	r->dead.handle = r->db.handle;
	return db_prepare(&r->dead, texts, SQL_COUNT);
}

/* --- dead letters --- */

static int each_dead(sqlite3_stmt *s, reader_on_dead on_dead, void *arg, unsigned *ret_count)
{
	int e;

	*ret_count = 0;
	while ((e = db_step(s)) == 1) {
		struct dead_info dead = {
			.id = db_column_int(s, 0),
			.run = db_column_int(s, 1),
			.time_us = db_column_int(s, 2),
			.step = db_column_int(s, 3),
			.bytes = db_column_int(s, 4),
			.status = (int)db_column_int(s, 5),
			.sink = db_column(s, 6),
			.what = db_column(s, 7),
			.reason = db_column(s, 8),
			.request = db_column(s, 9),
			.answer = db_column(s, 10),
			.body = db_column(s, 11),
		};

		++*ret_count;
		e = on_dead(arg, &dead);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_dead(struct reader *r, int64_t after, reader_on_dead on_dead, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->dead, SQL_DEAD);
	unsigned count;

	db_bind_int(s, 1, after);
	db_bind_int(s, 2, READER_PAGE);
	return each_dead(s, on_dead, arg, &count);
}

int reader_dead_letter(struct reader *r, int64_t id, reader_on_dead on_dead, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->dead, SQL_DEAD_LETTER);
	unsigned count;
	int e;

	db_bind_int(s, 1, id);
	e = each_dead(s, on_dead, arg, &count);
	return e == 0 && count == 0 ? -ENOENT : e;
}

int reader_dead_retries(struct reader *r, int64_t run, reader_on_dead on_dead, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->dead, SQL_DEAD_RETRIES);
	unsigned count;

	db_bind_int(s, 1, run);
	return each_dead(s, on_dead, arg, &count);
}

int reader_dead_groups(struct reader *r, reader_on_dead_group on_group, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->dead, SQL_DEAD_GROUPS);
	int e;

	while ((e = db_step(s)) == 1) {
		struct dead_group group = {
			.count = db_column_int(s, 0),
			.status = (int)db_column_int(s, 1),
			.sink = db_column(s, 2),
			.reason = db_column(s, 3),
			.run = db_column_int(s, 4),
		};

		e = on_group(arg, &group);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

/* --- late rows --- */

int reader_late(struct reader *r, int64_t after_run, int64_t after_lsn, reader_on_late on_late,
		void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->dead, SQL_LATE);
	int e;

	db_bind_int(s, 1, after_run);
	db_bind_int(s, 2, after_lsn);
	while ((e = db_step(s)) == 1) {
		struct late_info late = {
			.run = db_column_int(s, 0),
			.lsn = db_column_int(s, 1),
			.step = db_column_int(s, 2),
			.time_us = db_column_int(s, 3),
			.payload = db_column(s, 4),
		};

		e = on_late(arg, &late);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}
