/* See reader_parts.h: artifacts on their way, and their files. */
#include "daemon/store/reader_parts.h"

#include <errno.h>

#define FIELDS                                                                                     \
	"SELECT a.id, a.run, r.uid, a.lsn, a.time_us, a.state, a.type, a.name, a.mark, a.about, "  \
	"a.client_id, a.sequence_client_id, a.digest, a.server_id, a.base_id, a.manifest_id, "     \
	"a.expected, a.blob_bytes, coalesce((SELECT newest FROM collection c WHERE c.uid = r.uid " \
	"AND c.entity = r.entity AND c.project = r.project AND c.name = a.name), 0) "              \
	"FROM artifact a JOIN run r ON r.id = a.run "
/* numbers: enum artifact_state */
#define IS_UNDER_WAY(a) #a ".state BETWEEN 2 AND 7"

enum {
	SQL_ONE,
	SQL_ALL,
	SQL_DUE,
	SQL_NEXT,
	SQL_FILES,
	SQL_UNSENT,
	SQL_COUNTS,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_ONE] = FIELDS "WHERE a.id = ?1",
	[SQL_ALL] = FIELDS "WHERE a.id > ?1 ORDER BY a.id LIMIT ?2",
	/* held ones go when nobody is in the run any more */
	[SQL_DUE] = FIELDS "WHERE a.id > ?1 AND (" IS_UNDER_WAY(
		a) " OR a.state = 1 AND NOT EXISTS (SELECT 1 FROM "
		   "member m WHERE m.run = a.run AND m.state IN (0, 3))) AND r.server_id <> '' AND "
		   "r.parked "
		   "IS NULL AND NOT EXISTS (SELECT 1 FROM artifact b WHERE b.name = a.name AND "
		   "b.id < a.id "
		   "AND b.run = a.run AND " IS_UNDER_WAY(b) ") ORDER BY a.id LIMIT ?2",
	[SQL_NEXT] = FIELDS "WHERE a.name = ?1 AND a.id > ?2 AND a.run = ?3 AND " IS_UNDER_WAY(
		a) " AND r.parked IS NULL ORDER BY a.id LIMIT 1",
	[SQL_FILES] =
		"SELECT f.path, b.sha256, f.form, f.size, f.digest, f.ref, f.extra, f.birth, "
		"b.size, f.start FROM artifact_file f LEFT JOIN blob b ON b.id = f.blob WHERE "
		"f.artifact = ?1 AND f.path > ?2 ORDER BY f.path LIMIT ?3",
	[SQL_UNSENT] =
		"SELECT f.path, b.sha256, f.form, f.size, f.digest, f.ref, f.extra, f.birth, "
		"b.size, f.start FROM artifact_file f LEFT JOIN blob b ON b.id = f.blob WHERE "
		"f.artifact = "
		"?1 AND f.path > ?2 AND f.ref = '' AND f.birth = '' ORDER BY f.path LIMIT ?3",
	[SQL_COUNTS] =
		"SELECT (SELECT count(*) FROM artifact WHERE state BETWEEN 1 AND 7), "
		"(SELECT count(*) FROM artifact WHERE state = 0), "
		"(SELECT coalesce(sum(max(expected - blob_bytes, 0)), 0) FROM artifact WHERE state "
		"= 0)",
};

int reader_artifacts_prepare(struct reader *r)
{
	r->artifacts.handle = r->db.handle;
	return db_prepare(&r->artifacts, texts, SQL_COUNT);
}

static struct span filled(struct span text)
{
	return text.len > 0 ? text : (struct span){.at = NULL};
}

static int each(sqlite3_stmt *s, reader_on_artifact on_artifact, void *arg, unsigned *ret_count)
{
	int e;

	*ret_count = 0;
	while ((e = db_step(s)) == 1) {
		const struct artifact_info a = {
			.id = db_column_int(s, 0),
			.run = db_column_int(s, 1),
			.uid = (uint32_t)db_column_int(s, 2),
			.lsn = db_column_int(s, 3),
			.time_us = db_column_int(s, 4),
			.state = (enum artifact_state)db_column_int(s, 5),
			.type = db_column(s, 6),
			.name = db_column(s, 7),
			.mark = db_column(s, 8),
			.about = db_column(s, 9),
			.client_id = db_column(s, 10),
			.sequence_client_id = db_column(s, 11),
			.digest = db_column(s, 12),
			.server_id = db_column(s, 13),
			.base_id = db_column(s, 14),
			.manifest_id = db_column(s, 15),
			.expected = db_column_int(s, 16),
			.blob_bytes = db_column_int(s, 17),
			.newest = db_column_int(s, 18),
		};

		++*ret_count;
		e = on_artifact(arg, &a);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

static int one(sqlite3_stmt *s, reader_on_artifact on_artifact, void *arg)
{
	unsigned count;
	int e = each(s, on_artifact, arg, &count);

	return e == 0 && count == 0 ? -ENOENT : e;
}

int reader_artifact(struct reader *r, int64_t id, reader_on_artifact on_artifact, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->artifacts, SQL_ONE);

	db_bind_int(s, 1, id);
	return one(s, on_artifact, arg);
}

static int page(struct reader *r, unsigned sql, int64_t after, unsigned max,
		reader_on_artifact on_artifact, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->artifacts, sql);
	unsigned count;

	db_bind_int(s, 1, after);
	db_bind_int(s, 2, max);
	return each(s, on_artifact, arg, &count);
}

int reader_artifacts(struct reader *r, int64_t after, reader_on_artifact on_artifact, void *arg)
{
	return page(r, SQL_ALL, after, READER_PAGE, on_artifact, arg);
}

int reader_due_artifacts(struct reader *r, int64_t after, unsigned max,
			 reader_on_artifact on_artifact, void *arg)
{
	return page(r, SQL_DUE, after, max, on_artifact, arg);
}

int reader_next_artifact(struct reader *r, int64_t run, struct span name, int64_t after,
			 reader_on_artifact on_artifact, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->artifacts, SQL_NEXT);

	db_bind_text(s, 1, name);
	db_bind_int(s, 2, after);
	db_bind_int(s, 3, run);
	return one(s, on_artifact, arg);
}

int reader_artifact_files(struct reader *r, int64_t id, struct span after_path, unsigned max,
			  enum artifact_files which, reader_on_artifact_file on_file, void *arg)
{
	sqlite3_stmt *s =
		db_stmt(&r->artifacts, which == ARTIFACT_FILES_UNSENT ? SQL_UNSENT : SQL_FILES);
	int e;

	db_bind_int(s, 1, id);
	db_bind_text(s, 2, after_path);
	db_bind_int(s, 3, max);
	while ((e = db_step(s)) == 1) {
		const struct artifact_file f = {
			.path = db_column(s, 0),
			.blob = filled(db_column(s, 1)),
			.form = (enum artifact_form)db_column_int(s, 2),
			.size = db_column_int(s, 3),
			.digest = filled(db_column(s, 4)),
			.ref = filled(db_column(s, 5)),
			.extra = filled(db_column(s, 6)),
			.birth = filled(db_column(s, 7)),
			.blob_size = db_column_int(s, 8),
			.start = db_column_int(s, 9),
		};

		e = on_file(arg, &f);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_artifact_counts(struct reader *r, struct artifact_counts *ret)
{
	sqlite3_stmt *s = db_stmt(&r->artifacts, SQL_COUNTS);
	int e = reader_step_once(s);

	if (e < 0)
		return e;
	*ret = (struct artifact_counts){.waiting = db_column_int(s, 0),
					.collecting = db_column_int(s, 1),
					.missing_bytes = db_column_int(s, 2)};
	(void)sqlite3_reset(s); /* one row was wanted */
	return 0;
}
