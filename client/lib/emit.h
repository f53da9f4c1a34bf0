/* Puts records together and into what is kept. */
#pragma once

#include "client/lib/state.h"
#include "proto/pack.h"

enum {
	PART_BYTES = 256 << 10
};
/* What a record holds beside its data, at most: ids, times, digests of blobs. */
enum {
	RECORD_ROOM = 8192
};

/* The tables of a record, sent as blobs before it. One record at a time has some: so no more than
 * RECORD_BLOBS_MAX wait for the record that names them. */
struct emit_blobs {
	struct wbx *w;
	bool is_locked; /* w->blobs */
	size_t count;
	uint64_t ids[RECORD_BLOBS_MAX];
	uint8_t digests[RECORD_BLOBS_MAX][DIGEST_BYTES];
};

/* May this map be logged at all? 0; -EINVAL it is a list or not closed; -EMSGSIZE a pair (with tables:
 * the whole) is above what a record holds; what its own error is. */
int emit_check_map(const struct wbx_map *m);

/* A record under way: `lock` is held between emit_begin() and emit_end(), so keep it short. */
struct emit {
	struct wbx *w;
	struct pack p; /* for the body's pairs */
	size_t at;
	const struct emit_blobs *blobs; /* that the record names; NULL: none */
};

/* Takes lock and begins [kind, next seq, {run, t, `pairs` more}] (run NULL: without a run; of a
 * project: {project, entity, t ...}). 0; -EINVAL a project does not take this kind; -ESHUTDOWN the handle or the run is closed; -errno: a forked child could not begin anew. Not 0:
 * lock is not held and emit_end() must not be called. */
int emit_begin(struct emit *e, struct wbx *w, struct wbx_run *run, const char *kind, size_t pairs);
/* Keeps the record: what was packed, then `rest` (whole msgpack values, borrowed; the last ones of
 * the body). Lets lock go and pushes it out. 0 and *ret_seq (may be NULL), -EMSGSIZE, -ENOBUFS
 * (counted), -ENOMEM. */
int emit_end(struct emit *e, struct span rest, uint64_t *ret_seq);

/* A flush record that also tells of `lost` records. lock held; nothing is pushed. 0, or as
 * emit_end(), but not counted. */
int emit_flush(struct wbx *w, uint64_t lost, uint64_t *ret_seq);

/* Sends the tables of both maps (second may be NULL). 0: emit_blobs_end() is to be called; -E2BIG:
 * they are too many for one record; -ENOBUFS (counted), -ENOMEM, -ESHUTDOWN: nothing is left of
 * them. No lock held. */
int emit_blobs_begin(struct emit_blobs *b, struct wbx *w, const struct wbx_map *first,
		     const struct wbx_map *second);
/* The same of any number of maps, each of which may be NULL. */
int emit_blobs_begin_all(struct emit_blobs *b, struct wbx *w, const struct wbx_map *const *maps,
			 size_t map_count);
/* After emit_end(), or instead of it with kept false. */
void emit_blobs_end(struct emit_blobs *b, bool kept);
/* The pair "blobs" of the record. */
void emit_blobs_pack(const struct emit_blobs *b, struct pack *p);

/* Blobs one by one, of any size, instead of emit_blobs_begin(): open, add each, the record, end. read
 * fills up to len bytes; *ret_len less than len only at the end. An empty blob is none: -EINVAL. The
 * digest stands in b->digests. 0; -E2BIG; what read says; -ENOBUFS (counted), -ENOMEM, -ESHUTDOWN. */
typedef int (*emit_read)(void *arg, void *ret_bytes, size_t len, size_t *ret_len);
void emit_blobs_open(struct emit_blobs *b, struct wbx *w);
int emit_blobs_add(struct emit_blobs *b, emit_read read, void *arg);
