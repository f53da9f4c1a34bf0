/* See reader_parts.h: whether the database is well, in slices, so that no read transaction is open for
 * long: one would keep the log from starting again. What SQLite's own check would need one go for, the
 * big tables, is walked through instead; a damaged page on the way says so. */
#include "daemon/store/reader_parts.h"
#include "proto/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	SLICE_MS = 3,
	TABLE_MS =
		250, /* a small table that takes longer is left half looked at, and that is said */
	STEPS_A_LOOK = 2000,
	EXTENTS_A_SLICE = 64,
};

enum {
	SQL_TABLE,
	SQL_TOTAL,
	SQL_EXTENTS,
	SQL_SUMS,
	SQL_DONE_LSN,
	SQL_BAD_CURSORS,
	SQL_PAGES,
	SQL_FREE_PAGES,
	SQL_PAGE_SIZE,
	SQL_PRUNABLE,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_TABLE] = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN "
		      "('record', 'extent', 'blob', 'line') AND name > ?1 ORDER BY name LIMIT 1",
	[SQL_TOTAL] = "SELECT coalesce(max(lsn) - min(lsn) + 1, 0) FROM record",
	[SQL_EXTENTS] = "SELECT stream, first, last, records, bytes FROM extent WHERE (stream, "
			"first) > (?1, ?2) ORDER BY stream, first LIMIT ?3",
	[SQL_SUMS] = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM record WHERE lsn "
		     "BETWEEN ?1 AND ?2",
	[SQL_DONE_LSN] = "SELECT done_lsn FROM cursor WHERE stream = ?1",
	[SQL_BAD_CURSORS] =
		"SELECT count(*) FROM cursor c JOIN extent e ON e.stream = c.stream AND e.first = "
		"(SELECT max(x.first) FROM extent x WHERE x.stream = c.stream) WHERE c.records > "
		"e.records OR c.bytes > e.bytes OR c.lsn > e.last",
	[SQL_PAGES] = "PRAGMA page_count",
	[SQL_FREE_PAGES] = "PRAGMA freelist_count",
	[SQL_PAGE_SIZE] = "PRAGMA page_size",
	/* of each stream, from its oldest record that is here to the newest extent that is delivered
	   whole and old enough */
	[SQL_PRUNABLE] =
		"SELECT coalesce(sum(n.records - f.records + f.last - f.first + 1), 0), "
		"coalesce(sum(n.bytes - f.bytes + (SELECT coalesce(sum(length(payload)), 0) FROM "
		"record WHERE lsn BETWEEN f.first AND f.last)), 0) "
		"FROM cursor c JOIN extent f ON f.stream = c.stream AND f.first = (SELECT "
		"min(x.first) FROM extent x WHERE x.stream = c.stream) "
		"JOIN extent n ON n.stream = c.stream AND n.first = (SELECT max(x.first) FROM "
		"extent x WHERE x.stream = c.stream AND x.last <= c.done_lsn AND x.time_us < ?1) "
		"WHERE EXISTS (SELECT 1 FROM record r WHERE r.lsn = f.first)",
};

int reader_check_prepare(struct reader *r)
{
	r->check.handle = r->db.handle;
	return db_prepare(&r->check, texts, SQL_COUNT);
}

static void note_damage(struct store_check *c, const char *what)
{
	if (c->damage[0] == '\0')
		(void)snprintf(c->damage, sizeof(c->damage), "%s", what); /* may be cut */
}

/* --- the small tables --- */

static int on_steps(void *until_ms)
{
	return clock_mono_ms() > *(const uint64_t *)until_ms;
}

/* The check's answer: "ok", or lines of what is wrong. */
static int read_verdict(sqlite3_stmt *s, struct store_check *c)
{
	int code;

	while ((code = sqlite3_step(s)) == SQLITE_ROW) {
		char line[sizeof(c->damage)];

		db_column_copy(s, 0, line, sizeof(line));
		if (strcmp(line, "ok") != 0)
			note_damage(c, line);
	}
	if (code == SQLITE_INTERRUPT) {
		c->tables_cut++;
		return 0;
	}
	return code == SQLITE_DONE ? 0 : sqlite_errno(code);
}

static int check_table(struct reader *r, struct store_check *c)
{
	uint64_t until_ms = clock_mono_ms() + TABLE_MS;
	sqlite3_stmt *s = NULL;
	char sql[160];
	int e;

	(void)snprintf(sql, sizeof(sql), "PRAGMA quick_check('%.100s')",
		       c->table); /* a name of our schema */
	e = sqlite_errno(sqlite3_prepare_v2(r->db.handle, sql, -1, &s, NULL));
	if (e < 0)
		return e;
	sqlite3_progress_handler(r->db.handle, STEPS_A_LOOK, on_steps, &until_ms);
	e = read_verdict(s, c);
	sqlite3_progress_handler(r->db.handle, 0, NULL, NULL);
	(void)sqlite3_finalize(s); /* repeats the step's error */
	return e;
}

static int next_table(struct reader *r, struct store_check *c)
{
	sqlite3_stmt *s = db_stmt(&r->check, SQL_TABLE);
	int e;

	db_bind_text(s, 1, span_of_text(c->table));
	e = db_step(s);
	if (e == 1)
		db_column_copy(s, 0, c->table, sizeof(c->table));
	(void)sqlite3_reset(s); /* one row was wanted */
	if (e != 1) {
		c->part = e == 0 ? CHECK_RECORDS : c->part;
		return e;
	}
	c->tables++;
	return check_table(r, c);
}

/* --- records against the sums of extents --- */

struct extent {
	int64_t stream;
	int64_t first;
	int64_t last;
	int64_t records; /* from the stream's beginning, this one included */
	int64_t bytes;
};

static int number_of(sqlite3_stmt *s, int64_t *ret)
{
	*ret = 0;
	return reader_one_number(s, ret);
}

/* Retention leaves the newest extent of a stream when it has removed its records. */
static bool is_retired(struct reader *r, const struct extent *e)
{
	sqlite3_stmt *s = db_stmt(&r->check, SQL_DONE_LSN);
	int64_t done_lsn;

	db_bind_int(s, 1, e->stream);
	return number_of(s, &done_lsn) == 0 && done_lsn >= e->last;
}

static int check_extent(struct reader *r, struct store_check *c, const struct extent *e)
{
	sqlite3_stmt *s = db_stmt(&r->check, SQL_SUMS);
	bool follows = c->stream == e->stream; /* the extent before it is known */
	int64_t records;
	int64_t bytes;
	int x;

	db_bind_int(s, 1, e->first);
	db_bind_int(s, 2, e->last);
	x = reader_step_once(s);
	if (x < 0)
		return x;
	records = db_column_int(s, 0);
	bytes = db_column_int(s, 1);
	(void)sqlite3_reset(s); /* one row was wanted */
	if (!(records == 0 && is_retired(r, e)) &&
	    (records != e->last - e->first + 1 ||
	     (follows &&
	      (e->records - c->sum_records != records || e->bytes - c->sum_bytes != bytes))))
		c->wrong_sums++;
	c->stream = e->stream;
	c->first = e->first;
	c->sum_records = e->records;
	c->sum_bytes = e->bytes;
	c->records += records;
	c->bytes += bytes;
	return 0;
}

static int read_extents(struct reader *r, const struct store_check *c,
			struct extent ret[EXTENTS_A_SLICE], size_t *ret_count)
{
	sqlite3_stmt *s = db_stmt(&r->check, SQL_EXTENTS);
	int e;

	*ret_count = 0;
	db_bind_int(s, 1, c->stream);
	db_bind_int(s, 2, c->first);
	db_bind_int(s, 3, EXTENTS_A_SLICE);
	while ((e = db_step(s)) == 1) {
		ret[(*ret_count)++] = (struct extent){
			.stream = db_column_int(s, 0),
			.first = db_column_int(s, 1),
			.last = db_column_int(s, 2),
			.records = db_column_int(s, 3),
			.bytes = db_column_int(s, 4),
		};
	}
	return e;
}

static int check_extents(struct reader *r, struct store_check *c)
{
	uint64_t until_ms = clock_mono_ms() + SLICE_MS;
	struct extent page[EXTENTS_A_SLICE];
	size_t count;
	int e = read_extents(r, c, page, &count);

	for (size_t i = 0; e == 0 && i < count && clock_mono_ms() < until_ms; i++)
		e = check_extent(r, c, &page[i]);
	if (e == 0 && count == 0)
		c->part = CHECK_CURSORS;
	return e;
}

/* --- all --- */

static int check_cursors(struct reader *r, struct store_check *c)
{
	int e = number_of(db_stmt(&r->check, SQL_BAD_CURSORS), &c->wrong_cursors);

	c->part = CHECK_DONE;
	return e;
}

int reader_check(struct reader *r, struct store_check *c)
{
	int e = 0;

	switch (c->part) {
	case CHECK_TABLES: e = next_table(r, c); break;
	case CHECK_RECORDS: e = check_extents(r, c); break;
	case CHECK_CURSORS: e = check_cursors(r, c); break;
	case CHECK_DONE: break;
	}
	if (e == -EUCLEAN || e == -EIO) {
		note_damage(c, sqlite3_errmsg(r->db.handle));
		c->part = CHECK_DONE;
		e = 0;
	}
	return e < 0 ? e : c->part != CHECK_DONE;
}

int reader_pages(struct reader *r, struct store_pages *ret)
{
	int e = number_of(db_stmt(&r->check, SQL_PAGES), &ret->pages);

	if (e == 0)
		e = number_of(db_stmt(&r->check, SQL_FREE_PAGES), &ret->free_pages);
	if (e == 0)
		e = number_of(db_stmt(&r->check, SQL_TOTAL), &ret->records);
	return e < 0 ? e : number_of(db_stmt(&r->check, SQL_PAGE_SIZE), &ret->page_bytes);
}

int reader_prunable(struct reader *r, int64_t before_us, int64_t *ret_records, int64_t *ret_bytes)
{
	sqlite3_stmt *s = db_stmt(&r->check, SQL_PRUNABLE);
	int e;

	db_bind_int(s, 1, before_us);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	*ret_records = db_column_int(s, 0);
	*ret_bytes = db_column_int(s, 1);
	return db_run(s);
}
