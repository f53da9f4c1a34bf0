/* Puts records together and into what is kept. */
#pragma once

#include "client/lib/state.h"
#include "proto/pack.h"

enum {
	PART_BYTES = 256 << 10,
	EXTRA_PIECES_MAX = 2
};

/* A record under way: `lock` is held between emit_begin() and emit_end(), so keep it short. */
struct emit {
	struct wbx *w;
	struct pack p; /* for the body's pairs */
	size_t at;
	const uint64_t *blobs; /* numbers of the blobs that the record names; borrowed */
	size_t blob_count;
};

/* Takes lock and begins [kind, next seq, {run, t, `pairs` more}] (run NULL: without a run). 0;
 * -ESHUTDOWN the handle or the run is closed; -errno: a forked child could not begin anew. Not 0:
 * lock is not held and emit_end() must not be called. */
int emit_begin(struct emit *e, struct wbx *w, struct wbx_run *run, const char *kind, size_t pairs);
/* Keeps the record: what was packed, then `rest` (whole msgpack values, borrowed; the last ones of
 * the body). Lets lock go and pushes it out. 0 and *ret_seq (may be NULL), -EMSGSIZE, -ENOBUFS
 * (counted), -ENOMEM. */
int emit_end(struct emit *e, struct span rest, uint64_t *ret_seq);

/* A flush record that also tells of `lost` records. lock held; nothing is pushed. 0, or as
 * emit_end(). */
int emit_flush(struct wbx *w, uint64_t lost, uint64_t *ret_seq);

/* Sends bytes as a blob, part by part; other threads' records may pass between. 0 and the digest
 * and number, which the emit of the record that names it is given. -ENOBUFS, -ENOMEM, -ESHUTDOWN.
 * No lock held. */
int emit_blob(struct wbx *w, const struct span *pieces, size_t count,
	      uint8_t ret_digest[DIGEST_BYTES], uint64_t *ret_blob);
/* No record will name it: its parts need not be kept. Takes lock. */
void emit_drop_blob(struct wbx *w, uint64_t blob);
