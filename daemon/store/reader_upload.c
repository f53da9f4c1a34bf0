/* See reader_parts.h: files of runs on their way. */
#include "daemon/store/reader_parts.h"

#include <errno.h>
#include <string.h>

#define UPLOAD_COLUMNS                                                                             \
	"u.id, u.kind, u.state, u.step, u.time_us, u.size, u.nth, u.key, u.path, u.sha256, "       \
	"b.sha256 "                                                                                \
	"FROM upload u LEFT JOIN blob b ON b.id = u.blob "

enum {
	SQL_OLDEST,
	SQL_NEWEST,
	SQL_THERE,
	SQL_COUNTS,
	SQL_SENT,
	SQL_OF_KEY,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_OLDEST] = "SELECT " UPLOAD_COLUMNS
		       "WHERE u.run = ?1 AND u.state = 0 AND u.id > ?2 ORDER BY u.id LIMIT ?3",
	[SQL_NEWEST] = "SELECT " UPLOAD_COLUMNS
		       "WHERE u.run = ?1 AND u.state = 0 AND u.id < ?2 ORDER BY u.id DESC LIMIT ?3",
	[SQL_THERE] = "SELECT " UPLOAD_COLUMNS
		      "WHERE u.run = ?1 AND u.state = 2 AND u.id > ?2 ORDER BY u.id LIMIT ?3",
	[SQL_COUNTS] =
		"SELECT state, count(*), sum(size), min(time_us) FROM upload WHERE ?1 < 0 OR run "
		"= ?1 GROUP BY state",
	[SQL_OF_KEY] = "SELECT (SELECT count(*) FROM sent_file WHERE run = ?1 AND key = ?2) + "
		       "(SELECT count(*) FROM upload WHERE run = ?1 AND key = ?2 AND state = 4)",
	[SQL_SENT] =
		"SELECT path, sha256, size, client_id, sequence_client_id FROM sent_file WHERE "
		"run = ?1 AND key = ?2 AND blob = ?3",
};

int reader_uploads_prepare(struct reader *r)
{
	r->uploads.handle = r->db.handle;
	return db_prepare(&r->uploads, texts, SQL_COUNT);
}

static enum upload_kind kind_of(struct span name)
{
	for (unsigned k = 0; k < UPLOAD_KINDS; k++) {
		if (span_is(name, upload_kind_name((enum upload_kind)k)))
			return (enum upload_kind)k;
	}
	return UPLOAD_FILE; /* of a newer wbx: its blob as it is */
}

static int each_upload(sqlite3_stmt *s, reader_on_upload on_upload, void *arg)
{
	int e;

	while ((e = db_step(s)) == 1) {
		const struct upload_info u = {
			.id = db_column_int(s, 0),
			.kind = kind_of(db_column(s, 1)),
			.state = (enum upload_state)db_column_int(s, 2),
			.step = db_column_int(s, 3),
			.time_us = db_column_int(s, 4),
			.size = db_column_int(s, 5),
			.nth = db_column_int(s, 6),
			.key = db_column(s, 7),
			.path = db_column(s, 8),
			.sha256 = db_column(s, 9),
			.blob = db_column(s, 10),
		};

		e = on_upload(arg, &u);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_uploads(struct reader *r, int64_t run, enum uploads_order order, int64_t from,
		   reader_on_upload on_upload, void *arg)
{
	static const unsigned sql[] = {
		[UPLOADS_OLDEST] = SQL_OLDEST,
		[UPLOADS_NEWEST] = SQL_NEWEST,
		[UPLOADS_THERE] = SQL_THERE,
	};
	sqlite3_stmt *s = db_stmt(&r->uploads, sql[order]);

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, from);
	db_bind_int(s, 3, READER_PAGE);
	return each_upload(s, on_upload, arg);
}

int reader_upload_counts(struct reader *r, int64_t run, struct upload_counts *ret)
{
	sqlite3_stmt *s = db_stmt(&r->uploads, SQL_COUNTS);
	int e;

	*ret = (struct upload_counts){.oldest_us = 0};
	db_bind_int(s, 1, run);
	while ((e = db_step(s)) == 1) {
		int64_t state = db_column_int(s, 0);

		if (state < 0 || state >= UPLOAD_STATES)
			continue;
		ret->files[state] = db_column_int(s, 1);
		ret->bytes[state] = db_column_int(s, 2);
		if (state == UPLOAD_WAITING)
			ret->oldest_us = db_column_int(s, 3);
	}
	return e;
}

int reader_sent_file(struct reader *r, int64_t run, struct span key, struct span blob,
		     reader_on_sent_file on_file, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->uploads, SQL_SENT);
	struct sent_file f;
	int e;

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, key);
	db_bind_blob(s, 3, blob);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	f = (struct sent_file){
		.path = db_column(s, 0),
		.sha256 = db_column(s, 1),
		.size = db_column_int(s, 2),
		.client_id = db_column(s, 3),
		.sequence_client_id = db_column(s, 4),
	};
	e = on_file(arg, &f);
	(void)sqlite3_reset(s); /* one row was wanted */
	return e;
}

int reader_uploads_of_key(struct reader *r, int64_t run, struct span key, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->uploads, SQL_OF_KEY);

	db_bind_int(s, 1, run);
	db_bind_text(s, 2, key);
	return reader_one_number(s, ret);
}
