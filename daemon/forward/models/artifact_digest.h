/* A job for the worker: reads an artifact's files, renders its tables, in slices, and finds out what
 * W&B knows them by: sizes, MD5s, of big ones those of their parts, and the artifact's own digest. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/worker.h"
#include "daemon/forward/models/artifact_take.h"
#include "daemon/forward/models/manifest.h"
#include "daemon/forward/models/table.h"

/* Files from this size on go to the storage in parts of this size (W&B's bounds), larger ones when
 * there were more than 10,000 of them; ours are at most 8 GiB. */
#define ARTIFACT_MULTIPART_BYTES ((int64_t)2 << 30)
#define ARTIFACT_PART_BYTES      ((int64_t)100 << 20)

struct artifact_digest {
	struct job job;
	void *owner;
	int64_t artifact;
	int64_t multipart_bytes; /* for tests: ARTIFACT_MULTIPART_BYTES */
	int64_t part_bytes;
	/* out */
	int result; /* 0; -ENOENT: bytes are not here; -EBADMSG, -EMSGSIZE: a table is none; -EAGAIN: the
		       store cannot be read now; -ENOMEM, what the disk says */
	struct changes *changes; /* what was found out; the owner takes it */
	size_t found; /* files in cells of tables, which are among the changes: then the digest
				   is not that of the artifact, which is to be digested again */
	char digest[ARTIFACT_DIGEST_MAX];
	/* the worker's */
	struct reader *reader;
	struct md5 whole; /* of the artifact */
	struct md5 file;
	struct md5 part;
	struct buf path; /* of the file under way, or the last */
	bool is_open;
	bool is_table;
	uint8_t blob[DIGEST_BYTES];
	int64_t offset; /* of the file's bytes */
	int64_t part_left;
	int64_t blob_size;
	struct buf parts; /* hex MD5s of its parts */
	struct table table;
};

/* changes are made for who answers to reply_to. NULL: no memory. */
struct artifact_digest *artifact_digest_new(void *owner, struct mailbox *reply_to,
					    int64_t artifact);
struct artifact_digest *artifact_digest_free(struct artifact_digest *d);
