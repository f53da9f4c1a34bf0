/* See delivery.h: artifacts on their way, their files, and which of a name W&B has. */
#include "daemon/store/delivery.h"

#include <assert.h>
#include <errno.h>

enum {
	SQL_ADD,
	SQL_FIND,
	SQL_UNHELD,
	SQL_FILE,
	SQL_FILE_OLD,
	SQL_MOVE,
	SQL_FILE_SET,
	SQL_BIRTHS_FORGET,
	SQL_AFRESH,
	SQL_NEWEST,
	SQL_CONFIRM,
	SQL_BLOBS,
	SQL_FILES_DROP,
	SQL_DROP,
	SQL_OF_LETTER,
	SQL_REVIVE,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	/* a mark that is known: its client says more of it, or says it again */
	[SQL_ADD] = "INSERT INTO artifact (run, mark, lsn, time_us, state, type, name, about, "
		    "client_id, sequence_client_id, expected, records, bytes, blobs, blob_bytes) "
		    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) "
		    "ON CONFLICT (run, mark) DO UPDATE SET "
		    "state = CASE state WHEN 0 THEN ?5 ELSE state END, "
		    "about = CASE state WHEN 0 THEN ?8 ELSE about END, "
		    "expected = max(expected, ?11), records = records + ?12, bytes = bytes + ?13, "
		    "blobs = blobs + ?14, blob_bytes = blob_bytes + ?15",
	[SQL_FIND] = "SELECT id, state FROM artifact WHERE run = ?1 AND mark = ?2",
	/* of those that wait for their run's end the newest is wanted */
	[SQL_UNHELD] = "SELECT id FROM artifact WHERE run = ?1 AND name = ?2 AND state = 1 AND "
		       "mark <> ?3",
	[SQL_FILE] =
		"INSERT OR REPLACE INTO artifact_file (artifact, path, blob, form, start, size, "
		"digest, ref, extra, birth) VALUES (?1, ?2, ?3, ?4, ?9, ?5, ?6, ?7, ?8, '')",
	[SQL_FILE_OLD] = "SELECT blob FROM artifact_file WHERE artifact = ?1 AND path = ?2",
	[SQL_MOVE] = "UPDATE artifact SET state = ?2, digest = coalesce(?3, digest), server_id = "
		     "coalesce(?4, server_id), base_id = coalesce(?5, base_id), manifest_id = "
		     "coalesce(?6, manifest_id) WHERE id = ?1",
	[SQL_FILE_SET] = "UPDATE artifact_file SET size = CASE WHEN ?3 < 0 THEN size ELSE ?3 END, "
			 "digest = coalesce(?4, digest), birth = coalesce(?5, birth), extra = "
			 "coalesce(?6, extra) WHERE "
			 "artifact = ?1 AND path = ?2",
	[SQL_BIRTHS_FORGET] = "UPDATE artifact_file SET birth = '' WHERE artifact = ?1",
	[SQL_AFRESH] = "UPDATE artifact SET state = 3, server_id = '', base_id = '', manifest_id = "
		       "'' WHERE id = ?1",
	[SQL_NEWEST] = "INSERT INTO collection (uid, entity, project, name, newest) "
		       "SELECT r.uid, r.entity, r.project, a.name, a.id FROM artifact a JOIN run r "
		       "ON r.id = a.run WHERE a.id = ?1 "
		       "ON CONFLICT (uid, entity, project, name) DO UPDATE SET newest = "
		       "max(newest, excluded.newest)",
	[SQL_CONFIRM] =
		"INSERT INTO cursor (stream, records, bytes, blobs, blob_bytes) "
		"SELECT run * 4 + 1, records, bytes, blobs, blob_bytes FROM artifact "
		"WHERE id = ?1 AND records > 0 "
		"ON CONFLICT (stream) DO UPDATE SET records = records + excluded.records, bytes = "
		"bytes + excluded.bytes, blobs = blobs + excluded.blobs, blob_bytes = blob_bytes + "
		"excluded.blob_bytes",
	[SQL_BLOBS] = "SELECT blob FROM artifact_file WHERE artifact = ?1 AND blob <> 0",
	[SQL_FILES_DROP] = "DELETE FROM artifact_file WHERE artifact = ?1",
	[SQL_DROP] = "DELETE FROM artifact WHERE id = ?1",
	/* a letter about an artifact says which in its body */
	[SQL_OF_LETTER] = "SELECT id FROM artifact WHERE state = 8 AND id = (SELECT "
			  "json_extract(CAST(body AS TEXT), '$.artifact') FROM dead WHERE id = ?1 "
			  "AND what = 'artifact')",
	[SQL_REVIVE] = "UPDATE artifact SET state = 2 WHERE id = ?1",
};

static sqlite3_stmt *stmt(struct delivery *d, unsigned sql)
{
	return db_stmt(&d->own_artifact, sql);
}

static void bind_known(sqlite3_stmt *s, int at, struct span text)
{
	if (text.at != NULL)
		db_bind_text(s, at, text);
}

static struct span text_or_none(struct span text)
{
	return text.at != NULL ? text : SPAN_LITERAL("");
}

static int run_id(struct delivery *d, unsigned sql, int64_t id)
{
	sqlite3_stmt *s = stmt(d, sql);

	db_bind_int(s, 1, id);
	return db_run(s);
}

/* Its blobs lose a reference each; a page of them at a time, for a statement may not run meanwhile. */
static int drop_files(struct delivery *d, int64_t id)
{
	sqlite3_stmt *s = stmt(d, SQL_BLOBS);
	int r;

	db_bind_int(s, 1, id);
	while ((r = db_step(s)) == 1) {
		int e = blobs_unref(d->blobs, db_column_int(s, 0));

		if (e < 0) {
			(void)sqlite3_reset(s); /* the first error is the one to tell */
			return e;
		}
	}
	return r < 0 ? r : run_id(d, SQL_FILES_DROP, id);
}

static int drop(struct delivery *d, int64_t id)
{
	int r = run_id(d, SQL_CONFIRM, id);

	if (r == 0)
		r = drop_files(d, id);
	return r < 0 ? r : run_id(d, SQL_DROP, id);
}

/* 0 and the older one that waits for the run's end; -ENOENT: there is none. */
static int find_held(struct delivery *d, const struct change *c, int64_t *ret)
{
	sqlite3_stmt *s = stmt(d, SQL_UNHELD);
	int r;

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->artifact.name);
	db_bind_text(s, 3, c->artifact.mark);
	r = db_step(s);
	if (r == 1)
		*ret = db_column_int(s, 0);
	(void)sqlite3_reset(s); /* one was wanted */
	return r == 1 ? 0 : r == 0 ? -ENOENT : r;
}

static int drop_held(struct delivery *d, const struct change *c)
{
	int64_t id = 0;
	int r;

	while ((r = find_held(d, c, &id)) == 0) {
		r = drop(d, id);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

static int add(struct delivery *d, const struct change *c)
{
	const struct change_artifact *a = &c->artifact;
	sqlite3_stmt *s;
	int r = a->state == ARTIFACT_HELD ? drop_held(d, c) : 0;

	if (r < 0)
		return r;
	s = stmt(d, SQL_ADD);
	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, a->mark);
	db_bind_int(s, 3, c->lsn);
	db_bind_int(s, 4, c->time_us);
	db_bind_int(s, 5, (int64_t)a->state);
	db_bind_text(s, 6, a->type);
	db_bind_text(s, 7, a->name);
	db_bind_blob(s, 8, a->about);
	db_bind_text(s, 9, a->client_id);
	db_bind_text(s, 10, a->sequence_client_id);
	db_bind_int(s, 11, a->expected);
	db_bind_int(s, 12, c->records);
	db_bind_int(s, 13, c->bytes);
	db_bind_int(s, 14, c->blobs);
	db_bind_int(s, 15, c->blob_bytes);
	return db_run(s);
}

static int find(struct delivery *d, const struct change *c, int64_t *ret_id, int64_t *ret_state)
{
	sqlite3_stmt *s = stmt(d, SQL_FIND);
	int r;

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->artifact.mark);
	r = db_step(s);
	if (r == 1) {
		*ret_id = db_column_int(s, 0);
		*ret_state = db_column_int(s, 1);
	}
	(void)sqlite3_reset(s); /* one was wanted */
	return r == 1 ? 0 : r == 0 ? -ENOENT : r;
}

/* A file of that path that was there before makes way. */
static int drop_old_file(struct delivery *d, int64_t id, struct span path)
{
	sqlite3_stmt *s = stmt(d, SQL_FILE_OLD);
	int64_t blob = 0;
	int r;

	db_bind_int(s, 1, id);
	db_bind_text(s, 2, path);
	r = db_step(s);
	if (r == 1)
		blob = db_column_int(s, 0);
	(void)sqlite3_reset(s); /* one was wanted */
	return r < 0 || blob == 0 ? (r < 0 ? r : 0) : blobs_unref(d->blobs, blob);
}

static int add_file(struct delivery *d, const struct change *c)
{
	const struct change_artifact *a = &c->artifact;
	int64_t id = 0;
	int64_t state = 0;
	int64_t blob = 0;
	sqlite3_stmt *s;
	int r = 0;

	if (c->number != 0)
		id = c->number;
	else
		r = find(d, c, &id, &state);
	if (r < 0 || state > ARTIFACT_READY)
		return r;
	if (a->file.blob.at != NULL)
		r = blobs_ref(d->blobs, a->file.blob, &blob);
	if (r == 0)
		r = drop_old_file(d, id, a->file.path);
	if (r < 0)
		return r;
	s = stmt(d, SQL_FILE);
	db_bind_int(s, 1, id);
	db_bind_text(s, 2, a->file.path);
	db_bind_int(s, 3, blob);
	db_bind_int(s, 4, (int64_t)a->file.form);
	db_bind_int(s, 5, a->file.size);
	db_bind_text(s, 6, text_or_none(a->file.digest));
	db_bind_text(s, 7, text_or_none(a->file.ref));
	db_bind_text(s, 8, text_or_none(a->file.extra));
	db_bind_int(s, 9, a->file.start);
	return db_run(s);
}

static int move(struct delivery *d, const struct change *c)
{
	const struct change_artifact *a = &c->artifact;
	sqlite3_stmt *s = stmt(d, SQL_MOVE);
	int r;

	db_bind_int(s, 1, c->number);
	db_bind_int(s, 2, (int64_t)a->state);
	bind_known(s, 3, a->digest);
	bind_known(s, 4, a->server_id);
	bind_known(s, 5, a->base_id);
	bind_known(s, 6, a->manifest_id);
	r = db_run(s);
	return r == 0 && sqlite3_changes(d->own_artifact.handle) == 0 ? -ENOENT : r;
}

static int set_file(struct delivery *d, const struct change *c)
{
	const struct change_artifact *a = &c->artifact;
	sqlite3_stmt *s = stmt(d, SQL_FILE_SET);

	db_bind_int(s, 1, c->number);
	db_bind_text(s, 2, a->file.path);
	db_bind_int(s, 3, a->file.size);
	bind_known(s, 4, a->file.digest);
	bind_known(s, 5, a->file.birth);
	bind_known(s, 6, a->file.extra);
	return db_run(s);
}

/* 0 and the artifact; -ENOENT: the letter is about something else. */
static int of_letter(struct delivery *d, int64_t letter, int64_t *ret)
{
	sqlite3_stmt *s = stmt(d, SQL_OF_LETTER);
	int r;

	db_bind_int(s, 1, letter);
	r = db_step(s);
	if (r == 1)
		*ret = db_column_int(s, 0);
	(void)sqlite3_reset(s); /* one was wanted */
	return r == 1 ? 0 : r == 0 ? -ENOENT : r;
}

int delivery_revive_artifact(struct delivery *d, int64_t letter)
{
	int64_t id = 0;
	int r = of_letter(d, letter, &id);

	return r < 0 ? r : run_id(d, SQL_REVIVE, id);
}

int delivery_drop_artifact(struct delivery *d, int64_t letter)
{
	int64_t id = 0;
	int r = of_letter(d, letter, &id);

	return r == -ENOENT ? 0 : r < 0 ? r : drop(d, id);
}

int delivery_apply_artifact(struct delivery *d, const struct change *c)
{
	int r;

	switch ((int)c->kind) {
	case CHANGE_ARTIFACT_ADD: return add(d, c);
	case CHANGE_ARTIFACT_FILE: return add_file(d, c);
	case CHANGE_ARTIFACT_MOVE: return move(d, c);
	case CHANGE_ARTIFACT_FILE_SET: return set_file(d, c);
	case CHANGE_ARTIFACT_AFRESH:
		r = run_id(d, SQL_BIRTHS_FORGET, c->number);
		return r < 0 ? r : run_id(d, SQL_AFRESH, c->number);
	case CHANGE_ARTIFACT_DONE:
		r = run_id(d, SQL_NEWEST, c->number);
		return r < 0 ? r : drop(d, c->number);
	case CHANGE_ARTIFACT_DROP: return drop(d, c->number);
	}
	assert(false && "a change of something else");
	return -EINVAL;
}

int delivery_prepare_artifact(struct delivery *d)
{
	d->own_artifact.handle = d->own.handle;
	return db_prepare(&d->own_artifact, texts, SQL_COUNT);
}
