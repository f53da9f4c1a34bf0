/* See reader_parts.h: records, how much of a stream waits, lines that are planned, blobs. */
#include "daemon/base/fd.h"
#include "daemon/store/blob.h"
#include "daemon/store/reader_parts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Files of runs that are planned and not sent wait as uploads; their blobs are confirmed then. */
#define UPLOADS_OF_STREAM                                                                          \
	"FROM upload u WHERE u.run = e.stream / 4 AND u.state < 2 AND e.stream % 4 = "             \
	"(u.kind = 'file')"
/* How a stream stands: its newest extent against its cursor. The oldest that waits is in the extent
 * that holds done_lsn + 1, or the next; found by two seeks, because the extents before it may be
 * many. */
#define STREAM_COLUMNS                                                                             \
	"e.stream, e.last, coalesce(c.lsn, 0), coalesce(c.done_lsn, 0), e.records - "              \
	"coalesce(c.records, 0), e.bytes - coalesce(c.bytes, 0), "                                 \
	"e.blobs - coalesce(c.blobs, 0) + (SELECT count(*) " UPLOADS_OF_STREAM "), "               \
	"e.blob_bytes - coalesce(c.blob_bytes, 0) + (SELECT coalesce(sum(u.size), "                \
	"0) " UPLOADS_OF_STREAM "), "                                                              \
	"coalesce((SELECT o.time_us FROM extent o WHERE o.stream = e.stream AND o.last > "         \
	"coalesce(c.done_lsn, 0) ORDER BY o.first LIMIT 1), "                                      \
	"(SELECT min(u.time_us) " UPLOADS_OF_STREAM "), 0) "

enum {
	SQL_RECORDS,
	SQL_RECORD,
	SQL_ALL_RECORDS,
	SQL_LAST_LSN,
	SQL_FIRST,
	SQL_STREAM,
	SQL_STREAMS,
	SQL_LINES,
	SQL_LINE_STEPS,
	SQL_BLOB,
	SQL_BLOB_UIDS,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_RECORDS] = "SELECT r.lsn, r.producer, e.time_us, r.payload FROM extent e JOIN record "
			"r ON r.lsn BETWEEN e.first AND e.last "
			"WHERE e.stream = ?1 AND e.first >= coalesce((SELECT max(x.first) FROM "
			"extent x WHERE x.stream = ?1 AND x.first <= ?2 + 1), 0) "
			"AND r.lsn > ?2 ORDER BY e.first, r.lsn LIMIT ?3",
	[SQL_RECORD] = "SELECT r.lsn, r.producer, 0, r.payload FROM record r WHERE r.lsn = ?1",
	[SQL_ALL_RECORDS] = "SELECT r.lsn, r.producer, 0, r.payload FROM record r WHERE r.lsn > ?1 "
			    "ORDER BY r.lsn LIMIT ?2",
	[SQL_LAST_LSN] = "SELECT coalesce(max(lsn), 0) FROM record",
	/* the sums of an extent count all that came up to it; retention leaves the newest extent
	   when its records are gone */
	[SQL_FIRST] = "SELECT e.first, e.records - (e.last - e.first + 1), e.records, EXISTS "
		      "(SELECT 1 FROM record r WHERE r.lsn = e.first) FROM extent e WHERE "
		      "e.stream = ?1 ORDER BY e.first LIMIT 1",
	[SQL_STREAM] =
		"SELECT " STREAM_COLUMNS "FROM extent e LEFT JOIN cursor c ON c.stream = e.stream "
		"WHERE e.stream = ?1 ORDER BY e.first DESC LIMIT 1",
	/* the newest extent of each stream has the sums of all; streams are found by steps along the
	 * index, not by reading it */
	[SQL_STREAMS] =
		"WITH RECURSIVE s(stream) AS (SELECT min(stream) FROM extent WHERE stream > ?1 "
		"UNION ALL SELECT (SELECT min(stream) FROM extent WHERE stream > s.stream) FROM s "
		"WHERE s.stream IS NOT NULL LIMIT ?2) "
		"SELECT " STREAM_COLUMNS
		", coalesce((SELECT uid FROM run WHERE id = e.stream / 4), 0) "
		"FROM s JOIN extent e ON e.stream = s.stream AND e.first = "
		"(SELECT max(first) FROM extent x WHERE x.stream = s.stream) LEFT JOIN cursor c ON "
		"c.stream = s.stream ORDER BY s.stream",
	[SQL_LINES] = "SELECT id - ?1, step, lsn, records, bytes, text FROM line WHERE id >= ?1 + "
		      "?2 AND id < ?3 ORDER BY id LIMIT ?4",
	[SQL_LINE_STEPS] = "SELECT min(step), max(step) FROM line WHERE id >= ?1 AND id < ?2",
	[SQL_BLOB] = "SELECT size, data, data IS NULL FROM blob WHERE sha256 = ?1",
	[SQL_BLOB_UIDS] = "SELECT DISTINCT p.uid FROM blob b JOIN blob_use u ON u.blob = b.id JOIN "
			  "record r ON r.lsn = u.lsn JOIN producer p ON p.id = r.producer WHERE "
			  "b.sha256 = ?1",
};

/* --- its statements --- */

int reader_records_prepare(struct reader *r)
{
	r->records.handle = r->db.handle;
	return db_prepare(&r->records, texts, SQL_COUNT);
}

/* --- records --- */

static int each_record(sqlite3_stmt *s, reader_on_record on_record, void *arg, unsigned *ret_count)
{
	unsigned count = 0;
	int e;

	while ((e = db_step(s)) == 1) {
		struct stored_record record = {
			.lsn = db_column_int(s, 0),
			.producer = db_column_int(s, 1),
			.time_us = db_column_int(s, 2),
			.payload = db_column(s, 3),
		};

		count++;
		e = on_record(arg, &record);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	if (ret_count != NULL)
		*ret_count = count;
	return e;
}

static unsigned page_of(unsigned max)
{
	return max < READER_PAGE ? max : READER_PAGE;
}

int reader_records(struct reader *r, int64_t stream, int64_t after, unsigned max,
		   reader_on_record on_record, void *arg, unsigned *ret_count)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_RECORDS);

	db_bind_int(s, 1, stream);
	db_bind_int(s, 2, after);
	db_bind_int(s, 3, page_of(max));
	return each_record(s, on_record, arg, ret_count);
}

int reader_record(struct reader *r, int64_t lsn, reader_on_record on_record, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_RECORD);
	unsigned count = 0;
	int e;

	db_bind_int(s, 1, lsn);
	e = each_record(s, on_record, arg, &count);
	return e == 0 && count == 0 ? -ENOENT : e;
}

int reader_all_records(struct reader *r, int64_t after, unsigned max, reader_on_record on_record,
		       void *arg, unsigned *ret_count)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_ALL_RECORDS);

	db_bind_int(s, 1, after);
	db_bind_int(s, 2, page_of(max));
	return each_record(s, on_record, arg, ret_count);
}

int reader_last_lsn(struct reader *r, int64_t *ret)
{
	return reader_one_number(db_stmt(&r->records, SQL_LAST_LSN), ret);
}

static void take_stream(sqlite3_stmt *s, struct stream_info *ret)
{
	*ret = (struct stream_info){
		.stream = db_column_int(s, 0),
		.last_lsn = db_column_int(s, 1),
		.planned_lsn = db_column_int(s, 2),
		.done_lsn = db_column_int(s, 3),
		.waiting = db_column_int(s, 4),
		.waiting_bytes = db_column_int(s, 5),
		.waiting_blobs = db_column_int(s, 6),
		.waiting_blob_bytes = db_column_int(s, 7),
		.oldest_us = db_column_int(s, 8),
	};
	if (ret->waiting == 0 && ret->waiting_blobs == 0)
		ret->oldest_us = 0;
}

int reader_stream(struct reader *r, int64_t stream, struct stream_info *ret)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_STREAM);
	int e;

	db_bind_int(s, 1, stream);
	e = db_step(s);
	if (e == 1) {
		take_stream(s, ret);
		return db_run(s);
	}
	if (e == 0)
		*ret = (struct stream_info){.stream = stream};
	return e;
}

int reader_first_record(struct reader *r, int64_t stream, int64_t *ret_lsn, int64_t *ret_gone)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_FIRST);
	bool is_here;
	int e;

	*ret_lsn = *ret_gone = 0;
	db_bind_int(s, 1, stream);
	e = db_step(s);
	if (e != 1)
		return e;
	is_here = db_column_int(s, 3) == 1;
	*ret_lsn = is_here ? db_column_int(s, 0) : 0;
	*ret_gone = db_column_int(s, is_here ? 1 : 2);
	return db_run(s);
}

/* A page of all streams; *after goes to the last of them. 0, its number in *ret_count; what on_stream
 * says of those where something waits. */
static int waiting_page(struct reader *r, int64_t *after, unsigned *ret_count,
			reader_on_stream on_stream, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_STREAMS);
	int e;

	*ret_count = 0;
	db_bind_int(s, 1, *after);
	db_bind_int(s, 2, READER_PAGE);
	while ((e = db_step(s)) == 1) {
		struct stream_info stream;

		take_stream(s, &stream);
		stream.uid = (uint32_t)db_column_int(s, 9);
		*after = stream.stream;
		++*ret_count;
		e = stream.waiting > 0 || stream.waiting_blobs > 0 ? on_stream(arg, &stream) : 0;
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_waiting_streams(struct reader *r, int64_t after, reader_on_stream on_stream, void *arg)
{
	unsigned count;
	int e;

	do
		e = waiting_page(r, &after, &count, on_stream, arg);
	while (e == 0 && count == READER_PAGE);
	return e;
}

/* --- plans --- */

int reader_lines(struct reader *r, int64_t run, int64_t from_offset, reader_on_line on_line,
		 void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_LINES);
	int e;

	db_bind_int(s, 1, line_id(run, 0));
	db_bind_int(s, 2, from_offset);
	db_bind_int(s, 3, line_id(run + 1, 0));
	db_bind_int(s, 4, READER_PAGE);
	while ((e = db_step(s)) == 1) {
		struct planned_line line = {
			.offset = db_column_int(s, 0),
			.step = db_column_int(s, 1),
			.lsn = db_column_int(s, 2),
			.records = db_column_int(s, 3),
			.bytes = db_column_int(s, 4),
			.text = db_column(s, 5),
		};

		e = on_line(arg, &line);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_line_steps(struct reader *r, int64_t run, int64_t from_offset, int64_t *ret_first,
		      int64_t *ret_last)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_LINE_STEPS);
	int e;

	db_bind_int(s, 1, line_id(run, from_offset));
	db_bind_int(s, 2, line_id(run + 1, 0));
	e = db_step(s);
	if (e == 1) {
		e = sqlite3_column_type(s, 0) == SQLITE_NULL ? -ENOENT : 0;
		*ret_first = db_column_int(s, 0);
		*ret_last = db_column_int(s, 1);
		(void)sqlite3_reset(s); /* ends the transaction; there is one row */
	}
	return e;
}

/* --- blobs --- */

int reader_blob_size(struct reader *r, struct span digest, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_BLOB);

	db_bind_blob(s, 1, digest);
	return reader_one_number(s, ret);
}

static int read_file(const struct reader *r, struct span digest, int64_t offset, void *ret_bytes,
		     size_t len, size_t *ret_len)
{
	auto_fd int fd = blob_file_open(r->dir_fd, digest);

	return fd < 0 ? fd : fd_pread_some(fd, ret_bytes, len, (off_t)offset, ret_len);
}

int reader_blob_uids(struct reader *r, struct span digest, reader_on_uid on_uid, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_BLOB_UIDS);
	int e;

	db_bind_blob(s, 1, digest);
	while ((e = db_step(s)) == 1) {
		e = on_uid(arg, (uint32_t)db_column_int(s, 0));
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* its error is e */
	return e;
}

int reader_blob(struct reader *r, struct span digest, int64_t offset, void *ret_bytes, size_t len,
		size_t *ret_len)
{
	sqlite3_stmt *s = db_stmt(&r->records, SQL_BLOB);
	struct span data;
	int e;

	db_bind_blob(s, 1, digest);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	if (db_column_int(s, 2) == 1) {
		(void)sqlite3_reset(s); /* the bytes are in a file */
		return read_file(r, digest, offset, ret_bytes, len, ret_len);
	}
	data = db_column(s, 1);
	*ret_len = 0;
	if ((size_t)offset < data.len) {
		*ret_len = data.len - (size_t)offset < len ? data.len - (size_t)offset : len;
		memcpy(ret_bytes, data.at + offset, *ret_len);
	}
	(void)sqlite3_reset(s); /* one row was wanted */
	return 0;
}
