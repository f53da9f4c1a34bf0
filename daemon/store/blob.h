/* Blobs: bytes too big for a record. Parts arrive one by one and are synced as they come, in tmp/;
 * when a record names the whole, the file gets its place under blobs/ and a row in the record's
 * transaction. Up to BLOB_INLINE_MAX in one part they stay in memory until then and become a row
 * alone. Store thread only. */
#pragma once

#include "daemon/base/map.h"
#include "daemon/flow/batch.h"
#include "daemon/store/db.h"

enum {
	BLOB_INLINE_MAX = 256 << 10
};

struct blobs {
	struct db own; /* statements over the store's handle, which is borrowed */
	int tmp_dir;
	int blob_dir;
	struct map open; /* by (session, client's id) */
	uint64_t next_tmp;
	int64_t file_bytes; /* of all files under blobs/ */
	struct unlink_later *doomed;
};

/* Opens the two directories in the store's directory (made when absent) and removes what no row
 * names. db is borrowed for the life of `ret`. 0, or -errno. */
int blobs_open(struct blobs *ret, struct db *db, int store_dir);
void blobs_close(struct blobs *b);

/* Writes one part and syncs it; the part stays the caller's. part->result: 0; -ENODATA: it is not
 * the next part of its blob; -EBADMSG: the last part's digest is wrong; else -errno of the disk or
 * memory. */
void blobs_take_part(struct blobs *b, struct part *part);
/* Drops what the session began and no record named. */
void blobs_forget(struct blobs *b, const void *session);

/* True when a blob with this digest came whole on the session. */
bool blobs_has(const struct blobs *b, const void *session, struct span digest);
/* Inside the transaction of the record that names it: the row, one reference, and for big ones the
 * file in its place. 0 and the row's id and size; -ENOENT: no such whole blob came on this session;
 * else -errno. */
int blobs_adopt(struct blobs *b, const void *session, struct span digest, int64_t *ret_id,
		int64_t *ret_size);
/* After the commit: what was adopted is no longer open. */
void blobs_settle(struct blobs *b, bool committed);

/* One reference more to a row that exists. 0, -ENOENT, or -errno. */
int blobs_ref(struct blobs *b, struct span digest, int64_t *ret_id);
/* Inside a transaction: one reference less; the file goes after the commit that dropped the last
 * one. */
int blobs_unref(struct blobs *b, int64_t id);

/* Opens a blob's file for reading. Any thread. The fd, or -errno. */
int blob_file_open(int store_dir, struct span digest);
