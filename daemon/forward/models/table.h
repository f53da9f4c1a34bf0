/* Renders a table's blob, the msgpack map {"columns": [..], "data": [[..] ..]}, as the run file
 * that W&B takes, {"columns":[..],"data":[[..],..]}: piece by piece, so that a table of any size
 * needs the memory of one row. The same blob always gives the same bytes. One owner at a time. */
#pragma once

#include "proto/base/json.h"

enum {
	TABLE_FILE_ROWS_MAX = 10000,   /* W&B's bound for the run file */
	TABLE_ROW_MAX = 32 << 20,      /* bytes of one row */
	TABLE_PIECE_BYTES = 256 << 10, /* about what one table_step() renders */
};

/* Reads up to len bytes of the blob from offset; *ret_len less than len only at its end. 0 or
 * -errno. */
typedef int (*table_read)(void *arg, int64_t offset, void *ret_bytes, size_t len, size_t *ret_len);

enum table_stage {
	TABLE_HEAD,
	TABLE_ROWS,
	TABLE_DONE
};

struct table {
	table_read read;
	void *arg;
	enum table_stage stage;
	int64_t offset; /* of the blob, behind what is in `in` */
	bool at_end;    /* of the blob */
	struct buf in;
	size_t used; /* of in */
	uint64_t rows_left;
	struct json json;
	/* out */
	struct buf out; /* what was rendered; the caller takes it and empties it */
	uint64_t columns;
	uint64_t rows; /* in the blob */
	uint64_t rows_written;
};

void table_init(struct table *t, table_read read, void *arg);
void table_done(struct table *t);
/* Renders a piece into t->out. 1: there is more; 0: that was all; -EBADMSG: the blob is no table;
 * -EMSGSIZE: a row above TABLE_ROW_MAX; what read says; -ENOMEM. */
int table_step(struct table *t);
