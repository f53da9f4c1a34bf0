/* A job for the worker: renders a table in slices and keeps only what its history value needs, the
 * SHA-256 and the size of the run file. */
#pragma once

#include "daemon/flow/worker.h"
#include "daemon/forward/models/table.h"

struct digest_job {
	struct job job;
	void *owner;
	uint8_t blob[DIGEST_BYTES];
	/* out */
	int result; /* 0; -ENOENT: there is no such blob; -EAGAIN: the store cannot be read now; as
		       table_step() */
	char sha256[2 * DIGEST_BYTES + 1]; /* hex, of the run file */
	int64_t size;
	uint64_t rows;
	uint64_t columns;
	/* the worker's */
	struct table table;
	struct reader *reader;
	void *hash;
};

/* NULL: no memory. */
struct digest_job *digest_new(void *owner, struct mailbox *reply_to, struct span blob);
struct digest_job *digest_free(struct digest_job *d);
