/* See delivery.h: lines of output, system metrics and alerts that are planned and not confirmed. */
#include "daemon/store/delivery.h"

#include <assert.h>
#include <errno.h>

enum {
	SQL_ADD,
	SQL_STATE,
	SQL_DONE,
	SQL_DROP,
	SQL_AWAY,
	SQL_BACK,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_ADD] = "INSERT OR REPLACE INTO side_line (run, file, line, text) VALUES (?1, ?2, ?3, "
		    "?4)",
	[SQL_STATE] = "INSERT OR REPLACE INTO side (run, state) VALUES (?1, ?2)",
	[SQL_DONE] = "DELETE FROM side_line WHERE run = ?1 AND file = ?2 AND line < ?3",
	[SQL_DROP] = "DELETE FROM side_line WHERE run = ?1 AND file = ?2 AND line = ?3",
	/* two steps, because lines must stay unique while they move: away below zero, and back */
	[SQL_AWAY] = "UPDATE side_line SET line = -line - 1 WHERE run = ?1 AND file = ?2 AND line "
		     ">= ?3",
	[SQL_BACK] = "UPDATE side_line SET line = -line - 1 + ?3 WHERE run = ?1 AND file = ?2 AND "
		     "line < 0",
};

static int run_place(struct delivery *d, unsigned sql, const struct change *c, int64_t number)
{
	sqlite3_stmt *s = db_stmt(&d->own_side, sql);

	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, (int64_t)c->file);
	db_bind_int(s, 3, number);
	return db_run(s);
}

static int add(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_side, SQL_ADD);

	db_bind_int(s, 1, c->run);
	db_bind_int(s, 2, (int64_t)c->file);
	db_bind_int(s, 3, c->offset);
	db_bind_text(s, 4, c->text);
	return db_run(s);
}

static int save_state(struct delivery *d, const struct change *c)
{
	sqlite3_stmt *s = db_stmt(&d->own_side, SQL_STATE);

	db_bind_int(s, 1, c->run);
	db_bind_blob(s, 2, c->text);
	return db_run(s);
}

static int move(struct delivery *d, const struct change *c, int64_t from, int64_t by)
{
	int r = run_place(d, SQL_AWAY, c, from);

	return r < 0 ? r : run_place(d, SQL_BACK, c, by);
}

static int drop(struct delivery *d, const struct change *c)
{
	int r = run_place(d, SQL_DROP, c, c->offset);

	if (r == 0 && sqlite3_changes(d->own_side.handle) == 0)
		r = -ENOENT;
	return r < 0 ? r : move(d, c, c->offset, -1);
}

int delivery_apply_side(struct delivery *d, const struct change *c)
{
	switch ((int)c->kind) {
	case CHANGE_SIDE_ADD: return add(d, c);
	case CHANGE_SIDE_STATE: return save_state(d, c);
	case CHANGE_SIDE_DONE: return run_place(d, SQL_DONE, c, c->offset);
	case CHANGE_SIDE_DROP: return drop(d, c);
	case CHANGE_SIDE_MOVE: return move(d, c, 0, c->number);
	}
	assert(false && "a change of something else");
	return -EINVAL;
}

int delivery_prepare_side(struct delivery *d)
{
	d->own_side.handle = d->own.handle;
	return db_prepare(&d->own_side, texts, SQL_COUNT);
}
