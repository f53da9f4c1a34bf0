/* The blobs that a connection has begun and no record has named: in which order their parts may
 * come, and how many there may be (PROTOCOL.md section 3). The bytes are the store's business.
 * Loop thread. */
#pragma once

#include "proto/limits.h"
#include "proto/record.h"

struct parts_blob;

/* All zero: none. */
struct parts {
	struct parts_blob *blobs;
	size_t count;
	size_t cap;
};

/* A part of len bytes comes; digest is that of the whole blob with its last part, else .at is NULL.
 * 0; -ENOENT: a part before it did not come here; -ENODATA: it begins before the end of the one
 * before it; -EMFILE: BLOB_OPEN_MAX are open; -ENOMEM. */
int parts_add(struct parts *p, uint64_t blob, uint64_t offset, size_t len, struct span digest);
/* The record names them: they are open no longer. */
void parts_named(struct parts *p, const struct record *record);
void parts_done(struct parts *p);
