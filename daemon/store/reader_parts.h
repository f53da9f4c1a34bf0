/* The inside of a reader, for reader.c (life, sums), reader_run.c, reader_record.c,
 * reader_side.c, reader_trace.c and reader_dead.c alone. Each has its own statements over the one connection. One thread uses it, as
 * flow/reader.h says. */
#pragma once

#include "daemon/flow/reader.h"
#include "daemon/store/db.h"

struct reader {
	struct db db;   /* the connection, and reader.c's statements */
	struct db runs; /* statements; the handle is borrowed, here and below */
	struct db records;
	struct db side;
	struct db artifacts;
	struct db uploads;
	struct db dead;
	struct db check;
	struct db trace;
	int dir_fd; /* of the store */
};

/* --- reader.c --- */
/* The first row. 0, -ENOENT when there is none, or -errno; after 0 the statement has to be run to
 * its end, or reset. */
int reader_step_once(sqlite3_stmt *s);
/* The first column of the only row. 0, -ENOENT, -errno. */
int reader_one_number(sqlite3_stmt *s, int64_t *ret);

/* --- reader_run.c --- */
/* 0, -errno; reader_close() is fine after both. So are the three below. */
int reader_runs_prepare(struct reader *r);

/* --- reader_record.c --- */
int reader_records_prepare(struct reader *r);

/* --- reader_side.c --- */
int reader_side_prepare(struct reader *r);
/* --- reader_trace.c --- */
int reader_trace_prepare(struct reader *r);

/* --- reader_check.c --- */
int reader_check_prepare(struct reader *r);

/* --- reader_dead.c --- */
int reader_dead_prepare(struct reader *r);

/* --- reader_artifact.c --- */
int reader_artifacts_prepare(struct reader *r);

/* --- reader_upload.c --- */
int reader_uploads_prepare(struct reader *r);
