/* See reader_parts.h: lines beside the history that are planned, and their planner's state. */
#include "daemon/store/reader_parts.h"

#include <errno.h>
#include <string.h>

enum {
	SQL_COUNTS,
	SQL_LINES,
	SQL_STATE,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_COUNTS] = "SELECT file, min(line), count(*) FROM side_line WHERE run = ?1 GROUP BY "
		       "file",
	[SQL_LINES] = "SELECT line, text FROM side_line WHERE run = ?1 AND file = ?2 AND line >= "
		      "?3 ORDER BY line LIMIT ?4",
	[SQL_STATE] = "SELECT state FROM side WHERE run = ?1",
};

int reader_side_prepare(struct reader *r)
{
	r->side.handle = r->db.handle;
	return db_prepare(&r->side, texts, SQL_COUNT);
}

int reader_side_counts(struct reader *r, int64_t run, struct side_count ret[SIDE_FILES])
{
	sqlite3_stmt *s = db_stmt(&r->side, SQL_COUNTS);
	int e;

	memset(ret, 0, SIDE_FILES * sizeof(*ret));
	db_bind_int(s, 1, run);
	while ((e = db_step(s)) == 1) {
		int64_t file = db_column_int(s, 0);

		if (file >= 0 && file < SIDE_FILES)
			ret[file] = (struct side_count){.first = db_column_int(s, 1),
							.count = db_column_int(s, 2)};
	}
	return e;
}

int reader_side_lines(struct reader *r, int64_t run, enum side_file file, int64_t from_offset,
		      reader_on_side_line on_line, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->side, SQL_LINES);
	int e;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, (int64_t)file);
	db_bind_int(s, 3, from_offset);
	db_bind_int(s, 4, READER_PAGE);
	while ((e = db_step(s)) == 1) {
		struct side_line line = {.offset = db_column_int(s, 0), .text = db_column(s, 1)};

		e = on_line(arg, &line);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_side(struct reader *r, int64_t run, struct buf *ret)
{
	sqlite3_stmt *s = db_stmt(&r->side, SQL_STATE);
	struct span bytes;
	int e;

	db_bind_int(s, 1, run);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	bytes = db_column(s, 0);
	e = buf_add(ret, bytes.at, bytes.len);
	(void)sqlite3_reset(s); /* one row was wanted */
	return e;
}
