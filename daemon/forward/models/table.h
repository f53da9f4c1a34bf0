/* Renders a table's blob (PROTOCOL.md section 9) as one of the two files that W&B takes of it: piece
 * by piece, so that a table of any size needs the memory of one row. The same blob always gives the
 * same bytes. One owner at a time. */
#pragma once

#include "daemon/forward/models/cell.h"
#include "daemon/forward/models/coltype.h"
#include "proto/limits.h"

enum {
	TABLE_FILE_ROWS_MAX = 10000,      /* W&B's bound for the run file */
	TABLE_ARTIFACT_ROWS_MAX = 200000, /* and for the artifact */
	TABLE_COLUMNS_MAX = 1 << 16,
	TABLE_ROW_MAX = 32 << 20,      /* bytes of one row */
	TABLE_PIECE_BYTES = 256 << 10, /* about what one table_step() renders */
};

/* Reads up to len bytes from offset, of the table's blob (part NULL), or of the blob of its rows with
 * that digest; *ret_len less than len only at its end. 0 or -errno. */
typedef int (*table_read)(void *arg, const uint8_t *part, int64_t offset, void *ret_bytes,
			  size_t len, size_t *ret_len);

/* A file that stands in a cell, to go into the artifact beside the table. */
struct table_file {
	struct span path;   /* in the artifact; borrowed, like the others */
	struct span bytes;  /* whole */
	const char *sha256; /* hex */
	const uint8_t
		*part; /* where the bytes are stored: as of table_read, `offset` and their number */
	int64_t offset;
};
/* 0 or -errno, which ends the table. The same path may come again, for it is made of the bytes'
 * digest. */
typedef int (*table_on_file)(void *arg, const struct table_file *file);

enum table_stage {
	TABLE_HEAD,
	TABLE_ROWS,
	TABLE_DONE
};

struct table {
	enum table_form form;
	table_read read;
	table_on_file on_file; /* set by the owner, who wants to know; NULL: nobody does */
	void *arg;
	enum table_stage stage;
	int64_t offset; /* of the blob that is read, behind what is in `in` */
	bool at_end;    /* of it */
	struct buf in;
	size_t used; /* of in */
	uint64_t rows_left;
	uint64_t own_rows; /* in the table's own blob, from own_offset on */
	int64_t own_offset;
	uint8_t parts[RECORD_BLOBS_MAX][DIGEST_BYTES]; /* with the rows before those */
	uint32_t part_count;
	uint32_t parts_done;
	bool in_own; /* the rows that come are the table's own blob's */
	struct json json;
	struct buf names; /* of the columns, msgpack; artifact only, like the next two */
	struct coltypes types;
	struct buf log_mode;
	/* out */
	struct buf out; /* what was rendered; the caller takes it and empties it */
	uint64_t columns;
	uint64_t rows; /* in all its blobs, as far as they were read */
	uint64_t rows_written;
};

/* arg is that of read and on_file. */
void table_init(struct table *t, enum table_form form, table_read read, void *arg);
void table_done(struct table *t);
/* Renders a piece into t->out. 1: there is more; 0: that was all; -EBADMSG: the blob is no table;
 * -EMSGSIZE: a row above TABLE_ROW_MAX, more columns than TABLE_COLUMNS_MAX in the artifact; what read
 * and on_file say; -ENOMEM. */
int table_step(struct table *t);
