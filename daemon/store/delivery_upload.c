/* See delivery.h: files of runs on their way, and which of them need no second one. */
#include "daemon/store/delivery.h"

#include <assert.h>
#include <errno.h>

enum {
	SQL_ADD,
	SQL_OLDER,
	SQL_REMEMBER,
	SQL_HELD,
	SQL_FORGET,
	SQL_FIND,
	SQL_THERE,
	SQL_STATE,
	SQL_DROP,
	SQL_END,
	SQL_OF_DEAD,
	SQL_REVIVE,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_ADD] =
		"INSERT INTO upload (run, lsn, step, time_us, kind, key, path, blob, sha256, "
		"size, client_id, sequence_client_id, state, nth) VALUES (?1, ?2, ?3, ?4, ?5, ?6, "
		"?7, ?8, ?9, ?10, ?11, ?12, ?13, (SELECT count(*) FROM sent_file WHERE run = ?1 "
		"AND key = ?6))",
	/* of a path that nothing names the newest counts */
	[SQL_OLDER] =
		"SELECT id FROM upload WHERE run = ?1 AND path = ?2 AND state IN (0, 1) LIMIT 1",
	[SQL_REMEMBER] = "INSERT OR REPLACE INTO sent_file (run, key, blob, path, sha256, size, "
			 "client_id, sequence_client_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	[SQL_HELD] = "INSERT INTO tally (name, count) VALUES ('held:tables', 1) ON CONFLICT "
		     "(name) DO UPDATE SET count = count + 1",
	[SQL_FORGET] = "DELETE FROM sent_file WHERE run = ?1 AND key = ?2",
	[SQL_FIND] = "SELECT blob, state FROM upload WHERE id = ?1",
	[SQL_THERE] = "UPDATE upload SET state = 2, blob = 0 WHERE id = ?1",
	[SQL_STATE] = "UPDATE upload SET state = ?2, dead = ?3 WHERE id = ?1",
	[SQL_DROP] = "DELETE FROM upload WHERE id = ?1",
	[SQL_END] = "UPDATE upload SET state = 0 WHERE run = ?1 AND state = 1",
	[SQL_OF_DEAD] = "SELECT id FROM upload WHERE dead = ?1",
	[SQL_REVIVE] = "UPDATE upload SET state = 0, dead = NULL WHERE id = ?1",
};

static int run_id(struct delivery *d, unsigned sql, int64_t id)
{
	sqlite3_stmt *s = db_stmt(&d->own_upload, sql);

	db_bind_int(s, 1, id);
	return db_run(s);
}

/* The first column; *ret_found: whether there is such a row. */
static int find_number(sqlite3_stmt *s, int64_t *ret, bool *ret_found)
{
	int r = db_step(s);

	*ret_found = r == 1;
	if (r != 1)
		return r;
	*ret = db_column_int(s, 0);
	(void)sqlite3_reset(s); /* one row was wanted */
	return 0;
}

/* Gives the reference to its blob back. One that is gone meanwhile, or has none, is fine. */
static int release(struct delivery *d, int64_t id, bool *ret_found)
{
	sqlite3_stmt *s = db_stmt(&d->own_upload, SQL_FIND);
	int64_t blob = 0;
	int r;

	db_bind_int(s, 1, id);
	r = find_number(s, &blob, ret_found);
	return r < 0 || blob == 0 ? r : blobs_unref(d->blobs, blob);
}

static int drop(struct delivery *d, int64_t id)
{
	bool found;
	int r = release(d, id, &found);

	return r < 0 ? r : run_id(d, SQL_DROP, id);
}

static int drop_older(struct delivery *d, const struct change *c)
{
	bool found = true;
	int r = 0;

	while (r == 0 && found) {
		sqlite3_stmt *s = db_stmt(&d->own_upload, SQL_OLDER);
		int64_t id = 0;

		db_bind_int(s, 1, c->run);
		db_bind_text(s, 2, c->upload.path);
		r = find_number(s, &id, &found);
		if (r == 0 && found)
			r = drop(d, id);
	}
	return r;
}

/* Of a path that nothing names: what was sent before is not there any more. */
static int forget_older(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_upload, SQL_FORGET);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, c->upload.key);
	return db_run(s);
}

static int remember(struct delivery *d, const struct change *c)
{
	const struct change_upload *u = &c->upload;
	sqlite3_stmt *s = db_stmt(&d->own_upload, SQL_REMEMBER);

	db_bind_int(s, 1, c->run);
	db_bind_text(s, 2, u->key);
	db_bind_blob(s, 3, u->blob);
	db_bind_text(s, 4, u->path);
	db_bind_text(s, 5, u->sha256);
	db_bind_int(s, 6, u->size);
	db_bind_text(s, 7, u->client_id);
	db_bind_text(s, 8, u->sequence_client_id);
	return db_run(s);
}

static int add(struct delivery *d, const struct change *c)
{
	const struct change_upload *u = &c->upload;
	int64_t blob = 0;
	sqlite3_stmt *s;
	int r = u->blob.len > 0 ? blobs_ref(d->blobs, u->blob, &blob) : 0;

	if (r == 0 && u->kind == UPLOAD_FILE)
		r = drop_older(d, c);
	if (r < 0)
		return r;
	s = db_stmt(&d->own_upload, SQL_ADD);
	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, c->lsn);
	db_bind_int(s, 3, c->step);
	db_bind_int(s, 4, c->time_us);
	db_bind_text(s, 5, span_of_text(upload_kind_name(u->kind)));
	db_bind_text(s, 6, u->key);
	db_bind_text(s, 7, u->path);
	db_bind_int(s, 8, blob);
	db_bind_text(s, 9, u->sha256);
	db_bind_int(s, 10, u->size);
	db_bind_text(s, 11, u->client_id);
	db_bind_text(s, 12, u->sequence_client_id);
	db_bind_int(s, 13, (int64_t)u->state);
	r = db_run(s);
	if (r == 0 && u->kind == UPLOAD_FILE)
		r = forget_older(d, c);
	if (r == 0 && u->state == UPLOAD_HELD)
		return db_run(db_stmt(&d->own_upload, SQL_HELD));
	return r < 0 ? r : remember(d, c);
}

static int there(struct delivery *d, int64_t id)
{
	bool found;
	int r = release(d, id, &found);

	return r < 0 ? r : run_id(d, SQL_THERE, id);
}

/* The dead letter was just added, by the change before. */
static int set_state(struct delivery *d, const struct change *c, enum upload_state state)
{
	sqlite3_stmt *s = db_stmt(&d->own_upload, SQL_STATE);

	db_bind_int(s, 1, c->number);
	db_bind_int(s, 2, (int64_t)state);
	if (state == UPLOAD_REFUSED)
		db_bind_int(s, 3, sqlite3_last_insert_rowid(d->own_upload.handle));
	return db_run(s);
}

int delivery_upload_of_dead(struct delivery *d, int64_t dead, bool is_dropped, bool *ret_found)
{
	sqlite3_stmt *s = db_stmt(&d->own_upload, SQL_OF_DEAD);
	int64_t id = 0;
	int r;

	db_bind_int(s, 1, dead);
	r = find_number(s, &id, ret_found);
	if (r < 0 || !*ret_found)
		return r;
	return is_dropped ? drop(d, id) : run_id(d, SQL_REVIVE, id);
}

int delivery_apply_upload(struct delivery *d, const struct change *c)
{
	switch ((int)c->kind) {
	case CHANGE_UPLOAD_ADD: return add(d, c);
	case CHANGE_UPLOAD_THERE: return there(d, c->number);
	case CHANGE_UPLOAD_DONE: return drop(d, c->number);
	case CHANGE_UPLOAD_REFUSED: return set_state(d, c, UPLOAD_REFUSED);
	case CHANGE_UPLOAD_HOLD: return set_state(d, c, UPLOAD_HELD);
	case CHANGE_UPLOADS_END: return run_id(d, SQL_END, c->run);
	}
	assert(false && "a change of something else");
	return -EINVAL;
}

int delivery_prepare_upload(struct delivery *d)
{
	d->own_upload.handle = d->own.handle;
	return db_prepare(&d->own_upload, texts, SQL_COUNT);
}
