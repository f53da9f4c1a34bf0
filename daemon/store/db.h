/* SQLite behind one door: opening with our settings and schema, statements, and the only place that
 * turns SQLite's codes into ours. Every struct db belongs to one thread. */
#pragma once

#include "proto/base/buf.h"

#include <sqlite3.h>

/* -ENOMEM, -ENOSPC, -EBUSY, -EUCLEAN (corrupt or not a database), -EACCES (cannot open, read-only),
 * -EEXIST (a constraint), -EIO for the rest; 0 for SQLITE_OK, SQLITE_ROW and SQLITE_DONE. */
int sqlite_errno(int code);

/* A file in a directory, open, with a room's statements prepared. Embeddable. */
struct db {
	sqlite3 *handle;
	sqlite3_stmt **stmts;
	size_t stmt_count;
};

enum {
	DB_ERROR_MAX = 256
};
#define DB_FILE "wbx.db"

/* Opens dir/wbx.db for writing and brings its schema up to date; makes both when they are not
 * there. 0, or -errno with a sentence for the operator in ret_error: -EUCLEAN no wbx database or
 * corrupt, -EPROTO made by a newer wbx. */
int db_open_writer(struct db *ret, const char *dir, char ret_error[DB_ERROR_MAX]);
/* Opens an existing one for reading only. -ENOENT when there is none. */
int db_open_reader(struct db *ret, const char *dir, char ret_error[DB_ERROR_MAX]);
void db_close(struct db *d); /* statements too; fine on a zeroed or half-opened one */

/* Prepares texts[0 .. count-1]; db_stmt(d, i) then gives statement i, reset and without bindings.
 * 0, or -errno. */
int db_prepare(struct db *d, const char *const *texts, size_t count);
sqlite3_stmt *db_stmt(struct db *d, unsigned i);

/* 1 a row, 0 the end, or -errno. The statement is reset after the end and after an error. */
int db_step(sqlite3_stmt *s);
/* Runs to the end. 0, or -errno. */
int db_run(sqlite3_stmt *s);
/* SQL without results. 0, or -errno. */
int db_exec(struct db *d, const char *sql);

/* Bindings: parameters count from 1, bytes are borrowed until the statement is reset. */
void db_bind_int(sqlite3_stmt *s, int at, int64_t value);
void db_bind_text(sqlite3_stmt *s, int at, struct span text);
void db_bind_blob(sqlite3_stmt *s, int at, struct span bytes);
/* Columns count from 0; bytes are borrowed until the next step or reset. */
struct span db_column(sqlite3_stmt *s, int at);
int64_t db_column_int(sqlite3_stmt *s, int at);
/* The column's text with a NUL, cut to size. */
void db_column_copy(sqlite3_stmt *s, int at, char *ret_text, size_t size);
