/* See db.h. The settings and why: docs/ARCHITECTURE.md, store. */
#include "daemon/store/db.h"

#include "proto/base/mem.h"
#include "schema.h" /* made from schema.sql */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	SCHEMA_VERSION = 3,
	MIGRATION_TEXTS = 3, /* of one step, at most: a compiler takes texts of 4095 bytes */
	APPLICATION_ID =
		0x77627830, /* "wbx0" in the file's header, so that file(1) and we know it */
	BUSY_TIMEOUT_MS = 5000,
};

int sqlite_errno(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE: return 0;
	case SQLITE_NOMEM: return -ENOMEM;
	case SQLITE_FULL: return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED: return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB: return -EUCLEAN;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY: return -EACCES;
	case SQLITE_CONSTRAINT: return -EEXIST;
	case SQLITE_IOERR: return code == SQLITE_IOERR_NOMEM ? -ENOMEM : -EIO;
	default: return -EIO;
	}
}

int db_exec(struct db *d, const char *sql)
{
	return sqlite_errno(sqlite3_exec(d->handle, sql, NULL, NULL, NULL));
}

static int explain(struct db *d, int r, const char *dir, char ret_error[DB_ERROR_MAX])
{
	const char *why = d->handle != NULL ? sqlite3_errmsg(d->handle) : strerror(-r);

	if (r == -EUCLEAN)
		(void)snprintf(ret_error, DB_ERROR_MAX,
			       "%s/" DB_FILE
			       " is damaged or is no database of wbx (%s). It was not touched: "
			       "move it away and keep it",
			       dir, why);
	else
		(void)snprintf(ret_error, DB_ERROR_MAX, "%s/" DB_FILE " cannot be opened: %s", dir,
			       why);
	return r;
}

static int read_number(struct db *d, const char *sql, int64_t *ret)
{
	sqlite3_stmt *s = NULL;
	int r = sqlite_errno(sqlite3_prepare_v2(d->handle, sql, -1, &s, NULL));

	if (r == 0) {
		r = sqlite_errno(sqlite3_step(s));
		*ret = sqlite3_column_int64(s, 0);
	}
	(void)sqlite3_finalize(s); /* repeats the step's error */
	return r;
}

/* An empty file, ours of this version, or something that is refused. */
static int check_identity(struct db *d, const char *dir, int64_t *ret_version,
			  char ret_error[DB_ERROR_MAX])
{
	int64_t id = 0;
	int64_t tables = 0;
	int r = read_number(d, "PRAGMA application_id", &id);

	if (r == 0)
		r = read_number(d, "PRAGMA user_version", ret_version);
	if (r == 0)
		r = read_number(d, "SELECT count(*) FROM sqlite_schema", &tables);
	if (r < 0)
		return explain(d, r, dir, ret_error);
	if (tables == 0 && *ret_version == 0)
		return 0;
	if (id != APPLICATION_ID) {
		(void)snprintf(ret_error, DB_ERROR_MAX,
			       "%s/" DB_FILE
			       " is a database of another program; it was not touched. "
			       "Choose another store.dir",
			       dir);
		return -EUCLEAN;
	}
	if (*ret_version > SCHEMA_VERSION) {
		(void)snprintf(ret_error, DB_ERROR_MAX,
			       "%s/" DB_FILE
			       " was made by a newer wbx (schema %lld, this one knows %d); it was "
			       "not touched. Install that version again",
			       dir, (long long)*ret_version, SCHEMA_VERSION);
		return -EPROTO;
	}
	return 0;
}

/* Version n's step is the texts of migrations[n - 1] and leads to n + 1: quick, whatever the store holds. */
static const char *const migrations[SCHEMA_VERSION - 1][MIGRATION_TEXTS] = {
	{"CREATE TABLE waypoint (run INTEGER NOT NULL, lsn INTEGER NOT NULL, time_us INTEGER NOT "
	 "NULL, next_step INTEGER NOT NULL, resteps INTEGER, resteps_to INTEGER, state BLOB NOT "
	 "NULL, PRIMARY KEY (run, lsn, time_us));"
	 /* output, system metrics and alerts are sent; those of runs that are done, too */
	 "CREATE TABLE side_line (run INTEGER NOT NULL, file INTEGER NOT NULL, line INTEGER NOT "
	 "NULL, text TEXT NOT NULL, PRIMARY KEY (run, file, line)) WITHOUT ROWID;"
	 "CREATE TABLE side (run INTEGER PRIMARY KEY, state BLOB NOT NULL);"
	 "ALTER TABLE run ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;"
	 "CREATE INDEX run_name ON run (name);"
	 "UPDATE run SET reopened = 1 WHERE state = 4 AND EXISTS "
	 "(SELECT 1 FROM extent e WHERE e.stream = run.id * 4 + 3);"
	 "CREATE TABLE token (run INTEGER PRIMARY KEY, sha256 BLOB NOT NULL);"
	 "CREATE INDEX token_sha256 ON token (sha256);"
	 "ALTER TABLE sink ADD COLUMN requests_per_s INTEGER; ALTER TABLE sink ADD COLUMN "
	 "bytes_per_s "
	 "INTEGER"},
	{/* artifacts are sent */
	 "CREATE TABLE artifact (id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, mark "
	 "TEXT NOT NULL, lsn INTEGER NOT NULL, time_us INTEGER NOT NULL, state INTEGER NOT NULL, "
	 "type TEXT NOT NULL, name TEXT NOT NULL, about BLOB NOT NULL, client_id TEXT NOT NULL, "
	 "sequence_client_id TEXT NOT NULL, digest TEXT NOT NULL DEFAULT '', server_id TEXT NOT "
	 "NULL DEFAULT '', base_id TEXT NOT NULL DEFAULT '', manifest_id TEXT NOT NULL DEFAULT '', "
	 "expected INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL, blobs "
	 "INTEGER NOT NULL, blob_bytes INTEGER NOT NULL, UNIQUE (run, mark));"
	 "CREATE INDEX artifact_name ON artifact (name, id);"
	 "CREATE TABLE artifact_file (artifact INTEGER NOT NULL, path TEXT NOT NULL, blob INTEGER "
	 "NOT NULL, form INTEGER NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL, digest "
	 "TEXT NOT NULL, ref TEXT "
	 "NOT NULL, extra TEXT NOT NULL, birth TEXT NOT NULL, PRIMARY KEY (artifact, path)) "
	 "WITHOUT ROWID;"
	 "CREATE TABLE collection (uid INTEGER NOT NULL, entity TEXT NOT NULL, project TEXT NOT "
	 "NULL, name TEXT NOT NULL, newest INTEGER NOT NULL, PRIMARY KEY (uid, entity, project, "
	 "name)) WITHOUT ROWID;"
	 /* files of runs are sent; those that are planned wait as uploads, no longer as blobs */
	 "ALTER TABLE upload ADD COLUMN state INTEGER NOT NULL DEFAULT 0;"
	 "ALTER TABLE upload ADD COLUMN nth INTEGER NOT NULL DEFAULT 0;"
	 "ALTER TABLE upload ADD COLUMN dead INTEGER;"
	 "CREATE TABLE sent_file (run INTEGER NOT NULL, key TEXT NOT NULL, blob BLOB NOT NULL, "
	 "path "
	 "TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL, client_id TEXT NOT NULL, "
	 "sequence_client_id TEXT NOT NULL, PRIMARY KEY (run, key, blob)) WITHOUT ROWID;"
	 "UPDATE cursor SET (blobs, blob_bytes) = (SELECT cursor.blobs + count(*), "
	 "cursor.blob_bytes + coalesce(sum(b.size), 0) FROM upload u JOIN blob b ON b.id = u.blob "
	 "WHERE u.run * 4 = cursor.stream);",
	 /* traces are sent */
	 "CREATE TABLE trace_run (run INTEGER PRIMARY KEY, metrics_lsn INTEGER NOT NULL DEFAULT 0, "
	 "state BLOB, parked TEXT);"
	 "CREATE TABLE call (run INTEGER NOT NULL, id TEXT NOT NULL, state INTEGER NOT NULL, loss "
	 "INTEGER NOT NULL, is_there INTEGER NOT NULL, is_error INTEGER NOT NULL, trace TEXT NOT "
	 "NULL, parent TEXT NOT NULL, producer INTEGER NOT NULL, lsn INTEGER NOT NULL, start_lsn "
	 "INTEGER NOT NULL, end_lsn INTEGER NOT NULL, started_us INTEGER NOT NULL, ended_us "
	 "INTEGER "
	 "NOT NULL, step INTEGER NOT NULL, time_us INTEGER NOT NULL, records INTEGER NOT NULL, "
	 "bytes INTEGER NOT NULL, "
	 "blobs INTEGER NOT NULL, blob_bytes INTEGER NOT NULL, ok_below INTEGER NOT NULL DEFAULT "
	 "0, "
	 "errors_below INTEGER NOT NULL DEFAULT 0, usage_below BLOB, PRIMARY KEY (run, id)) "
	 "WITHOUT "
	 "ROWID;"
	 "CREATE INDEX call_trace ON call (run, trace, id);"
	 "CREATE INDEX call_lsn ON call (run, lsn) WHERE lsn > 0;"
	 "CREATE INDEX call_open ON call (run, producer) WHERE end_lsn = 0;"
	 "CREATE TABLE trace (run INTEGER NOT NULL, id TEXT NOT NULL, calls INTEGER NOT NULL, open "
	 "INTEGER NOT NULL, roots INTEGER NOT NULL, opened_us INTEGER NOT NULL, last_us INTEGER "
	 "NOT "
	 "NULL, due_us INTEGER NOT NULL, is_long INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL "
	 "DEFAULT 0, PRIMARY KEY (run, id)) "
	 "WITHOUT ROWID;"
	 "CREATE INDEX trace_due ON trace (run, due_us);"
	 "CREATE TABLE trace_item (run INTEGER NOT NULL, lsn INTEGER NOT NULL, call TEXT NOT NULL, "
	 "bytes INTEGER NOT NULL, blobs INTEGER NOT NULL, blob_bytes INTEGER NOT NULL, PRIMARY KEY "
	 "(run, lsn)) WITHOUT ROWID;"
	 "CREATE TABLE trace_line (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, kind INTEGER NOT "
	 "NULL, loss INTEGER NOT NULL, trace TEXT NOT NULL, call TEXT NOT NULL, records INTEGER "
	 "NOT "
	 "NULL, bytes INTEGER NOT NULL, blobs INTEGER NOT NULL, blob_bytes INTEGER NOT NULL, lsn "
	 "INTEGER NOT NULL, text BLOB NOT NULL);"
	 "CREATE INDEX trace_line_run ON trace_line (run);"
	 "CREATE TABLE op (run INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, lsn "
	 "INTEGER NOT NULL, posted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run, name, digest)) "
	 "WITHOUT ROWID;"
	 "CREATE TABLE step_mark (run INTEGER NOT NULL, mode INTEGER NOT NULL, time_us INTEGER NOT "
	 "NULL, step INTEGER NOT NULL, PRIMARY KEY (run, mode, time_us)) WITHOUT ROWID;"
	 "CREATE TABLE trace_kept (run INTEGER NOT NULL, op TEXT NOT NULL, step INTEGER NOT "
	 "NULL, count INTEGER NOT NULL, PRIMARY KEY (run, op, step)) WITHOUT ROWID;"
	 "CREATE TABLE trace_day (run INTEGER NOT NULL, day INTEGER NOT NULL, bytes INTEGER NOT "
	 "NULL, calls INTEGER NOT NULL, PRIMARY KEY (run, day)) WITHOUT ROWID;"
	 "CREATE INDEX trace_day_day ON trace_day (day);"},
};

static int bring_up_to_date(struct db *d, int64_t version)
{
	char stamp[128];
	int r;

	if (version == SCHEMA_VERSION)
		return 0;
	(void)snprintf(stamp, sizeof(stamp),
		       "PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION_ID,
		       SCHEMA_VERSION);
	r = db_exec(d, "BEGIN IMMEDIATE");
	if (r == 0 && version == 0)
		r = db_exec(d, schema_sql);
	for (int64_t v = version; r == 0 && v > 0 && v < SCHEMA_VERSION; v++) {
		for (unsigned i = 0; r == 0 && i < MIGRATION_TEXTS; i++)
			r = migrations[v - 1][i] == NULL ? 0 : db_exec(d, migrations[v - 1][i]);
	}
	if (r == 0)
		r = db_exec(d, stamp);
	if (r == 0)
		r = db_exec(d, "COMMIT");
	if (r < 0)
		(void)db_exec(d, "ROLLBACK"); /* the first error is the one to tell */
	return r;
}

/* Without shared memory (some network and overlay filesystems) SQLite quietly keeps another journal
 * mode. */
static int check_wal(struct db *d, const char *dir, char ret_error[DB_ERROR_MAX])
{
	sqlite3_stmt *s = NULL;
	int r = sqlite_errno(sqlite3_prepare_v2(d->handle, "PRAGMA journal_mode", -1, &s, NULL));
	bool wal = r == 0 && sqlite3_step(s) == SQLITE_ROW && span_is(db_column(s, 0), "wal");

	(void)sqlite3_finalize(s); /* nothing was written */
	if (r == 0 && !wal) {
		(void)snprintf(ret_error, DB_ERROR_MAX,
			       "%s cannot hold a write-ahead log; choose a store.dir on a local "
			       "filesystem",
			       dir);
		return -ENOTSUP;
	}
	return r;
}

static int check_writable(struct db *d, const char *dir, char ret_error[DB_ERROR_MAX])
{
	if (sqlite3_db_readonly(d->handle, "main") != 1)
		return 0;
	(void)snprintf(ret_error, DB_ERROR_MAX,
		       "%s/" DB_FILE " cannot be written: the file or its filesystem is read-only",
		       dir);
	return -EROFS;
}

static int open_handle(struct db *d, const char *dir, int flags, char ret_error[DB_ERROR_MAX])
{
	char path[4096];
	int n = snprintf(path, sizeof(path), "%s/" DB_FILE, dir);
	int r;

	*d = (struct db){0};
	if (n < 0 || (size_t)n >= sizeof(path)) {
		(void)snprintf(ret_error, DB_ERROR_MAX, "the path of the store is too long");
		return -ENAMETOOLONG;
	}
	if ((flags & SQLITE_OPEN_CREATE) == 0 && access(path, F_OK) < 0 && errno == ENOENT) {
		(void)snprintf(ret_error, DB_ERROR_MAX, "%s does not exist", path);
		return -ENOENT;
	}
	r = sqlite_errno(sqlite3_open_v2(path, &d->handle, flags | SQLITE_OPEN_NOMUTEX, NULL));
	if (r < 0)
		return explain(d, r, dir, ret_error);
	(void)sqlite3_extended_result_codes(d->handle, 1); /* a valid handle */
	(void)sqlite3_busy_timeout(d->handle, BUSY_TIMEOUT_MS);
	return 0;
}

int db_open_writer(struct db *ret, const char *dir, char ret_error[DB_ERROR_MAX])
{
	int64_t version = 0;
	int r = open_handle(ret, dir, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, ret_error);

	if (r == 0)
		r = check_writable(ret, dir, ret_error);
	if (r == 0)
		r = check_identity(ret, dir, &version, ret_error);
	if (r == 0) {
		/* page_size and auto_vacuum count before the first table only; Debian turns
		 * secure_delete on, which makes deleting as dear as writing; checkpoints are ours
		 * (store.c). */
		r = db_exec(ret, "PRAGMA page_size = 16384; PRAGMA auto_vacuum = NONE; PRAGMA "
				 "journal_mode = WAL;"
				 "PRAGMA synchronous = FULL; PRAGMA secure_delete = OFF; PRAGMA "
				 "wal_autocheckpoint = 0;"
				 "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; PRAGMA "
				 "foreign_keys = OFF;");
		if (r == 0)
			r = bring_up_to_date(ret, version);
		if (r < 0)
			(void)explain(ret, r, dir, ret_error);
		else
			r = check_wal(ret, dir, ret_error);
	}
	if (r < 0)
		db_close(ret);
	return r;
}

int db_open_reader(struct db *ret, const char *dir, char ret_error[DB_ERROR_MAX])
{
	int64_t version = 0;
	int r = open_handle(ret, dir, SQLITE_OPEN_READONLY, ret_error);

	if (r == 0)
		r = check_identity(ret, dir, &version, ret_error);
	if (r == 0 && version != SCHEMA_VERSION) {
		(void)snprintf(ret_error, DB_ERROR_MAX,
			       "%s/" DB_FILE " is empty or of an older version; start wbxd once",
			       dir);
		r = -EPROTO;
	}
	if (r == 0)
		r = db_exec(ret, "PRAGMA cache_size = -1024; PRAGMA query_only = ON; PRAGMA "
				 "temp_store = MEMORY;");
	if (r < 0)
		db_close(ret);
	return r;
}

void db_close(struct db *d)
{
	for (size_t i = 0; i < d->stmt_count; i++)
		(void)sqlite3_finalize(d->stmts[i]); /* repeats an error that its step told */
	d->stmts = mem_free(d->stmts);
	d->stmt_count = 0;
	(void)sqlite3_close_v2(d->handle); /* every statement is gone: cannot fail */
	d->handle = NULL;
}

int db_prepare(struct db *d, const char *const *texts, size_t count)
{
	d->stmts = mem_zalloc(count * sizeof(sqlite3_stmt *));
	if (d->stmts == NULL)
		return -ENOMEM;
	d->stmt_count = count;
	for (size_t i = 0; i < count; i++) {
		int r = sqlite_errno(sqlite3_prepare_v3(
			d->handle, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &d->stmts[i], NULL));

		if (r < 0)
			return r;
	}
	return 0;
}

sqlite3_stmt *db_stmt(struct db *d, unsigned i)
{
	assert(i < d->stmt_count);
	(void)sqlite3_reset(d->stmts[i]); /* repeats an error that its step told */
	(void)sqlite3_clear_bindings(d->stmts[i]);
	return d->stmts[i];
}

int db_step(sqlite3_stmt *s)
{
	int code = sqlite3_step(s);

	if (code == SQLITE_ROW)
		return 1;
	(void)sqlite3_reset(s); /* repeats the error */
	return sqlite_errno(code);
}

int db_run(sqlite3_stmt *s)
{
	int r;

	do {
		r = db_step(s);
	} while (r == 1);
	return r;
}

void db_bind_int(sqlite3_stmt *s, int at, int64_t value)
{
	int code = sqlite3_bind_int64(s, at, value);

	assert(code == SQLITE_OK); /* fails only for parameters that do not exist */
}

/* Empty text is not NULL, so a length of 0 needs an address. */
static const void *address_of(struct span s)
{
	return s.at != NULL ? s.at : (const void *)"";
}

void db_bind_text(sqlite3_stmt *s, int at, struct span text)
{
	int code =
		sqlite3_bind_text64(s, at, address_of(text), text.len, SQLITE_STATIC, SQLITE_UTF8);

	assert(code ==
	       SQLITE_OK); /* fails only above SQLITE_MAX_LENGTH, a thousand times RECORD_MAX */
}

void db_bind_blob(sqlite3_stmt *s, int at, struct span bytes)
{
	int code = sqlite3_bind_blob64(s, at, address_of(bytes), bytes.len, SQLITE_STATIC);

	assert(code == SQLITE_OK); /* as above */
}

struct span db_column(sqlite3_stmt *s, int at)
{
	const void *bytes = sqlite3_column_blob(s, at);

	return (struct span){.at = bytes, .len = (size_t)sqlite3_column_bytes(s, at)};
}

int64_t db_column_int(sqlite3_stmt *s, int at)
{
	return sqlite3_column_int64(s, at);
}

void db_column_copy(sqlite3_stmt *s, int at, char *ret_text, size_t size)
{
	struct span from = db_column(s, at);
	size_t len = from.len < size - 1 ? from.len : size - 1;

	if (len != 0)
		memcpy(ret_text, from.at, len);
	ret_text[len] = '\0';
}
