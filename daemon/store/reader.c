/* The store's side of flow/reader.h: a read-only connection with its statements. Every call steps
 * its statement to the end or resets it, so no read transaction outlives it (an open one would keep
 * the log from starting again: measured). */
#include "daemon/flow/reader.h"

#include "daemon/base/fd.h"
#include "daemon/store/blob.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader {
	struct db db;
	int dir_fd;
};

#define RUN_COLUMNS                                                                                \
	"r.id, r.uid, r.state, r.exit_code, r.created_us, r.next_offset, r.done_offset, r.late, "  \
	"r.entity, r.project, r.name, "                                                            \
	"coalesce(r.display_name, ''), coalesce(r.server_id, ''), coalesce(r.server_entity, ''), " \
	"coalesce(r.server_project, ''), "                                                         \
	"coalesce(r.parked, ''), (SELECT count(*) FROM upload u WHERE u.run = r.id), (SELECT "     \
	"count(*) FROM dead d WHERE d.run = r.id), "                                               \
	"coalesce((SELECT e.time_us FROM extent e WHERE e.stream = r.id * 4 ORDER BY e.first "     \
	"DESC LIMIT 1), 0) "

/* How a stream stands: its newest extent against its cursor. The oldest that waits is in the extent
 * that holds done_lsn + 1, or the next; found by two seeks, because the extents before it may be
 * many. */
#define STREAM_COLUMNS                                                                             \
	"e.stream, e.last, coalesce(c.lsn, 0), coalesce(c.done_lsn, 0), e.records - "              \
	"coalesce(c.records, 0), e.bytes - coalesce(c.bytes, 0), "                                 \
	"e.blobs - coalesce(c.blobs, 0), e.blob_bytes - coalesce(c.blob_bytes, 0), "               \
	"coalesce((SELECT o.time_us FROM extent o WHERE o.stream = e.stream AND o.last > "         \
	"coalesce(c.done_lsn, 0) ORDER BY o.first LIMIT 1), 0) "

/* The newest extent of every stream, found by jumping from one stream to the next instead of
 * walking all extents. */
#define NEWEST_EXTENTS                                                                             \
	"WITH RECURSIVE s(stream) AS (SELECT min(stream) FROM extent UNION ALL "                   \
	"SELECT (SELECT min(stream) FROM extent WHERE stream > s.stream) FROM s WHERE s.stream "   \
	"IS NOT NULL) "                                                                            \
	"SELECT " STREAM_COLUMNS "FROM s JOIN extent e ON e.stream = s.stream AND e.first = "      \
	"(SELECT max(first) FROM extent x WHERE x.stream = s.stream) LEFT JOIN cursor c ON "       \
	"c.stream = s.stream "

enum {
	SQL_RUN,
	SQL_RUNS,
	SQL_NOTABLE_RUNS,
	SQL_OPEN_RUNS,
	SQL_PLANNER,
	SQL_MEMBERS,
	SQL_PRESENT,
	SQL_HELLO,
	SQL_PRODUCER_UID,
	SQL_RECORDS,
	SQL_RECORD,
	SQL_ALL_RECORDS,
	SQL_LAST_LSN,
	SQL_STREAM,
	SQL_WAITING,
	SQL_LINES,
	SQL_BLOB,
	SQL_DEAD,
	SQL_DEAD_LETTER,
	SQL_DEAD_RETRIES,
	SQL_DEAD_GROUPS,
	SQL_LATE,
	SQL_TOTALS,
	SQL_RUN_STATES,
	SQL_TALLIES,
	SQL_SINK,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_RUN] = "SELECT " RUN_COLUMNS "FROM run r WHERE r.id = ?1",
	[SQL_RUNS] = "SELECT " RUN_COLUMNS
		     "FROM run r WHERE r.id > ?1 AND r.name <> '' ORDER BY r.id LIMIT ?2",
	[SQL_NOTABLE_RUNS] =
		"SELECT " RUN_COLUMNS "FROM run r WHERE r.parked IS NOT NULL OR r.late > 0 OR "
		"r.state = 3 ORDER BY r.id DESC LIMIT ?1",
	/* the condition of the index run_open, word for word */
	[SQL_OPEN_RUNS] = "SELECT id FROM run WHERE (state < 4 OR reopened = 1) AND name <> '' "
			  "ORDER BY id",
	[SQL_PLANNER] = "SELECT state FROM planner WHERE run = ?1",
	[SQL_MEMBERS] = "SELECT state, count(*) FROM member WHERE run = ?1 GROUP BY state",
	[SQL_PRESENT] = "SELECT p.id, p.uid, p.name, m.name FROM member m JOIN producer p ON p.id "
			"= m.producer WHERE m.state = 0",
	[SQL_HELLO] = "SELECT hello FROM producer WHERE id = ?1",
	[SQL_PRODUCER_UID] = "SELECT uid FROM producer WHERE id = ?1",
	[SQL_RECORDS] = "SELECT r.lsn, r.producer, e.time_us, r.payload FROM extent e JOIN record "
			"r ON r.lsn BETWEEN e.first AND e.last "
			"WHERE e.stream = ?1 AND e.first >= coalesce((SELECT max(x.first) FROM "
			"extent x WHERE x.stream = ?1 AND x.first <= ?2 + 1), 0) "
			"AND r.lsn > ?2 ORDER BY e.first, r.lsn LIMIT ?3",
	[SQL_RECORD] = "SELECT r.lsn, r.producer, 0, r.payload FROM record r WHERE r.lsn = ?1",
	[SQL_ALL_RECORDS] = "SELECT r.lsn, r.producer, 0, r.payload FROM record r WHERE r.lsn > ?1 "
			    "ORDER BY r.lsn LIMIT ?2",
	[SQL_LAST_LSN] = "SELECT coalesce(max(lsn), 0) FROM record",
	[SQL_STREAM] =
		"SELECT " STREAM_COLUMNS "FROM extent e LEFT JOIN cursor c ON c.stream = e.stream "
		"WHERE e.stream = ?1 ORDER BY e.first DESC LIMIT 1",
	[SQL_WAITING] = NEWEST_EXTENTS
	"WHERE e.records > coalesce(c.records, 0) OR e.blobs > coalesce(c.blobs, 0)",
	[SQL_LINES] = "SELECT id - ?1, step, lsn, records, bytes, text FROM line WHERE id >= ?1 + "
		      "?2 AND id < ?3 ORDER BY id LIMIT ?4",
	[SQL_BLOB] = "SELECT size, data, data IS NULL FROM blob WHERE sha256 = ?1",
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
	[SQL_TOTALS] = "SELECT (SELECT count(*) FROM dead), (SELECT coalesce(sum(bytes), 0) FROM "
		       "dead), (SELECT count(*) FROM late), "
		       "(SELECT coalesce(sum(size), 0) FROM blob WHERE data IS NULL), (SELECT "
		       "count(*) FROM run WHERE parked IS NOT NULL)",
	[SQL_RUN_STATES] = "SELECT state, count(*) FROM run WHERE name <> '' GROUP BY state",
	[SQL_TALLIES] = "SELECT coalesce(sum(count) FILTER (WHERE name LIKE 'rejected:%'), 0), "
			"coalesce(sum(count) FILTER (WHERE name LIKE 'refused:%'), 0), "
			"coalesce(sum(count) FILTER (WHERE name LIKE 'lost:%'), 0) FROM tally",
	[SQL_SINK] = "SELECT paused_until_us, last_ok_us, sent FROM sink WHERE name = ?1",
};

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
	if (e < 0) {
		(void)reader_close(r);
		return e;
	}
	*ret = r;
	return 0;
}

struct reader *reader_close(struct reader *r)
{
	if (r == NULL)
		return NULL;
	db_close(&r->db);
	r->dir_fd = fd_close(r->dir_fd);
	return mem_free(r);
}

/* One row of numbers. 1, 0 when there is none, or -errno; the statement is at rest afterwards only
 * after db_run(). */
static int step_once(sqlite3_stmt *s)
{
	int r = db_step(s);

	return r == 0 ? -ENOENT : r < 0 ? r : 0;
}

/* --- runs --- */

static void take_run(sqlite3_stmt *s, struct run_info *ret)
{
	*ret = (struct run_info){
		.id = db_column_int(s, 0),
		.uid = (uint32_t)db_column_int(s, 1),
		.state = (enum run_state)db_column_int(s, 2),
		.has_exit_code = sqlite3_column_type(s, 3) != SQLITE_NULL,
		.exit_code = db_column_int(s, 3),
		.created_us = db_column_int(s, 4),
		.next_offset = db_column_int(s, 5),
		.done_offset = db_column_int(s, 6),
		.late = db_column_int(s, 7),
		.uploads = db_column_int(s, 16),
		.dead = db_column_int(s, 17),
		.last_us = db_column_int(s, 18),
	};
	db_column_copy(s, 8, ret->entity, sizeof(ret->entity));
	db_column_copy(s, 9, ret->project, sizeof(ret->project));
	db_column_copy(s, 10, ret->name, sizeof(ret->name));
	db_column_copy(s, 11, ret->display_name, sizeof(ret->display_name));
	db_column_copy(s, 12, ret->server_id, sizeof(ret->server_id));
	db_column_copy(s, 13, ret->server_entity, sizeof(ret->server_entity));
	db_column_copy(s, 14, ret->server_project, sizeof(ret->server_project));
	db_column_copy(s, 15, ret->parked, sizeof(ret->parked));
}

int reader_run(struct reader *r, int64_t run, struct run_info *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_RUN);
	int e;

	db_bind_int(s, 1, run);
	e = step_once(s);
	if (e < 0)
		return e;
	take_run(s, ret);
	return db_run(s);
}

static int each_run(sqlite3_stmt *s, reader_on_run on_run, void *arg)
{
	int e;

	while ((e = db_step(s)) == 1) {
		struct run_info run;

		take_run(s, &run);
		e = on_run(arg, &run);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_runs(struct reader *r, int64_t after, reader_on_run on_run, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_RUNS);

	db_bind_int(s, 1, after);
	db_bind_int(s, 2, READER_PAGE);
	return each_run(s, on_run, arg);
}

int reader_notable_runs(struct reader *r, reader_on_run on_run, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_NOTABLE_RUNS);

	db_bind_int(s, 1, READER_PAGE);
	return each_run(s, on_run, arg);
}

int reader_open_runs(struct reader *r, reader_on_number on_run, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_OPEN_RUNS);
	int e;

	while ((e = db_step(s)) == 1) {
		e = on_run(arg, db_column_int(s, 0));
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* as above */
	return e;
}

static int take_bytes(sqlite3_stmt *s, int column, struct buf *ret)
{
	struct span bytes;
	int e = step_once(s);

	if (e < 0)
		return e;
	bytes = db_column(s, column);
	e = buf_add(ret, bytes.at, bytes.len);
	(void)sqlite3_reset(s); /* one row was wanted */
	return e;
}

int reader_planner(struct reader *r, int64_t run, struct buf *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_PLANNER);

	db_bind_int(s, 1, run);
	return take_bytes(s, 0, ret);
}

int reader_hello(struct reader *r, int64_t producer, struct buf *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_HELLO);

	db_bind_int(s, 1, producer);
	return take_bytes(s, 0, ret);
}

static int one_number(sqlite3_stmt *s, int64_t *ret)
{
	int e = step_once(s);

	if (e < 0)
		return e;
	*ret = db_column_int(s, 0);
	return db_run(s);
}

int reader_producer_uid(struct reader *r, int64_t producer, uint32_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_PRODUCER_UID);
	int64_t uid = 0;
	int e;

	db_bind_int(s, 1, producer);
	e = one_number(s, &uid);
	if (e == 0)
		*ret = (uint32_t)uid;
	return e;
}

int reader_members(struct reader *r, int64_t run, int64_t ret_counts[3])
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_MEMBERS);
	int e;

	memset(ret_counts, 0, 3 * sizeof(*ret_counts));
	db_bind_int(s, 1, run);
	while ((e = db_step(s)) == 1) {
		int64_t state = db_column_int(s, 0);

		if (state >= 0 && state < 3)
			ret_counts[state] = db_column_int(s, 1);
	}
	return e;
}

int reader_present(struct reader *r, reader_on_present on_present, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_PRESENT);
	int e;

	while ((e = db_step(s)) == 1) {
		struct present_info present = {
			.producer_id = db_column_int(s, 0),
			.uid = (uint32_t)db_column_int(s, 1),
			.producer = db_column(s, 2),
			.run = db_column(s, 3),
		};

		e = on_present(arg, &present);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
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
	sqlite3_stmt *s = db_stmt(&r->db, SQL_RECORDS);

	db_bind_int(s, 1, stream);
	db_bind_int(s, 2, after);
	db_bind_int(s, 3, page_of(max));
	return each_record(s, on_record, arg, ret_count);
}

int reader_record(struct reader *r, int64_t lsn, reader_on_record on_record, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_RECORD);
	unsigned count = 0;
	int e;

	db_bind_int(s, 1, lsn);
	e = each_record(s, on_record, arg, &count);
	return e == 0 && count == 0 ? -ENOENT : e;
}

int reader_all_records(struct reader *r, int64_t after, unsigned max, reader_on_record on_record,
		       void *arg, unsigned *ret_count)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_ALL_RECORDS);

	db_bind_int(s, 1, after);
	db_bind_int(s, 2, page_of(max));
	return each_record(s, on_record, arg, ret_count);
}

int reader_last_lsn(struct reader *r, int64_t *ret)
{
	return one_number(db_stmt(&r->db, SQL_LAST_LSN), ret);
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
	sqlite3_stmt *s = db_stmt(&r->db, SQL_STREAM);
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

int reader_waiting_streams(struct reader *r, reader_on_stream on_stream, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_WAITING);
	int e;

	while ((e = db_step(s)) == 1) {
		struct stream_info stream;

		take_stream(s, &stream);
		e = on_stream(arg, &stream);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

/* --- plans --- */

int reader_lines(struct reader *r, int64_t run, int64_t from_offset, reader_on_line on_line,
		 void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_LINES);
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

/* --- blobs --- */

int reader_blob_size(struct reader *r, struct span digest, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_BLOB);

	db_bind_blob(s, 1, digest);
	return one_number(s, ret);
}

static int read_file(const struct reader *r, struct span digest, int64_t offset, void *ret_bytes,
		     size_t len, size_t *ret_len)
{
	auto_fd int fd = blob_file_open(r->dir_fd, digest);
	size_t have = 0;

	if (fd < 0)
		return fd;
	while (have < len) {
		ssize_t n = pread(fd, (uint8_t *)ret_bytes + have, len - have,
				  (off_t)(offset + (int64_t)have));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			have += (size_t)n;
	}
	*ret_len = have;
	return 0;
}

int reader_blob(struct reader *r, struct span digest, int64_t offset, void *ret_bytes, size_t len,
		size_t *ret_len)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_BLOB);
	struct span data;
	int e;

	db_bind_blob(s, 1, digest);
	e = step_once(s);
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

/* --- dead letters, late rows --- */

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
	sqlite3_stmt *s = db_stmt(&r->db, SQL_DEAD);
	unsigned count;

	db_bind_int(s, 1, after);
	db_bind_int(s, 2, READER_PAGE);
	return each_dead(s, on_dead, arg, &count);
}

int reader_dead_letter(struct reader *r, int64_t id, reader_on_dead on_dead, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_DEAD_LETTER);
	unsigned count;
	int e;

	db_bind_int(s, 1, id);
	e = each_dead(s, on_dead, arg, &count);
	return e == 0 && count == 0 ? -ENOENT : e;
}

int reader_dead_retries(struct reader *r, int64_t run, reader_on_dead on_dead, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_DEAD_RETRIES);
	unsigned count;

	db_bind_int(s, 1, run);
	return each_dead(s, on_dead, arg, &count);
}

int reader_dead_groups(struct reader *r, reader_on_dead_group on_group, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_DEAD_GROUPS);
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

int reader_late(struct reader *r, int64_t after_run, int64_t after_lsn, reader_on_late on_late,
		void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_LATE);
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
	int e = step_once(s);

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
	e = step_once(s);
	if (e < 0)
		return e;
	t.rejected = db_column_int(s, 0);
	t.refused = db_column_int(s, 1);
	t.lost = db_column_int(s, 2);
	*ret = t;
	return db_run(s);
}

int reader_sink(struct reader *r, const char *name, struct sink_info *ret)
{
	sqlite3_stmt *s = db_stmt(&r->db, SQL_SINK);
	int e;

	*ret = (struct sink_info){0};
	db_bind_text(s, 1, span_of_text(name));
	e = db_step(s);
	if (e != 1)
		return e;
	*ret = (struct sink_info){
		.paused_until_us = db_column_int(s, 0),
		.last_ok_us = db_column_int(s, 1),
		.sent = db_column_int(s, 2),
	};
	return db_run(s);
}
