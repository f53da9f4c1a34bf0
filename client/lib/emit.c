/* See emit.h. */
#include "client/lib/emit.h"

#include "client/lib/link.h"
#include "proto/base/clock.h"
#include "proto/frame.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

/* Counts a record that nothing could hold, and tells the user now and then. lock held. */
static void give_up(struct wbx *w)
{
	w->given_up++;
	if (w->given_up != 1 && w->given_up < w->given_up_shown * 2)
		return;
	w->given_up_shown = w->given_up;
	state_say(w, 0,
		  "%llu records were given up: journal and spool are full, and the daemon does not "
		  "take them",
		  (unsigned long long)w->given_up);
}

static int keep_frame(struct wbx *w, const struct span *pieces, size_t count, uint64_t seq,
		      uint64_t blob)
{
	const struct keep_frame f = {
		.pieces = pieces, .piece_count = count, .seq = seq, .blob = blob};

	return keep_add(w->keep, &f);
}

/* The frame in scratch, with `rest` behind it, as record number last_seq + 1. lock held. */
static int keep_record(struct wbx *w, size_t at, struct span rest, uint64_t *ret_seq)
{
	struct span pieces[2] = {{0}, rest};
	size_t len = w->scratch.len - at - FRAME_HEAD + rest.len;
	int r;

	if (w->scratch.error != 0)
		return w->scratch.error;
	if (len > RECORD_MAX)
		return -EMSGSIZE;
	for (unsigned i = 0; i < 4; i++) /* the length, as frame_close() would, but with the rest */
		w->scratch.data[at + 1 + i] = (uint8_t)(len >> (24 - 8 * i));
	pieces[0] = (struct span){.at = w->scratch.data + at, .len = w->scratch.len - at};
	r = keep_frame(w, pieces, rest.len > 0 ? 2 : 1, w->last_seq + 1, 0);
	if (r < 0) {
		give_up(w);
		return r;
	}
	w->last_seq++;
	w->records++;
	if (ret_seq != NULL)
		*ret_seq = w->last_seq;
	return 0;
}

/* A forked child is another producer: it joins the run before its first record to it. lock held. */
static int join_run(struct wbx *w, struct wbx_run *run)
{
	struct pack p;
	size_t at;
	int r;

	if (run->generation == w->generation)
		return 0;
	buf_clear(&w->scratch);
	at = frame_open(&w->scratch, &p, "attach", w->last_seq + 1, 4);
	pack_pair_text(&p, "run", run->id);
	pack_pair_uint(&p, "t", clock_wall_us());
	pack_pair_text(&p, "project", run->project);
	pack_pair_text(&p, "entity", run->entity);
	r = keep_record(w, at, (struct span){0}, NULL);
	if (r == 0)
		run->generation = w->generation;
	return r;
}

int emit_begin(struct emit *e, struct wbx *w, struct wbx_run *run, const char *kind, size_t pairs)
{
	int r;

	(void)pthread_mutex_lock(&w->lock);
	r = state_after_fork(w);
	if (r == 0 && w->closed)
		r = -ESHUTDOWN;
	if (r == 0 && run != NULL && run->finished)
		r = -ESHUTDOWN;
	if (r == 0 && run != NULL)
		r = join_run(w, run);
	if (r < 0) {
		(void)pthread_mutex_unlock(&w->lock);
		return r;
	}
	*e = (struct emit){.w = w};
	buf_clear(&w->scratch);
	e->at = frame_open(&w->scratch, &e->p, kind, w->last_seq + 1,
			   pairs + (run == NULL ? 1 : 2));
	if (run != NULL)
		pack_pair_text(&e->p, "run", run->id);
	pack_pair_uint(&e->p, "t", clock_wall_us());
	return 0;
}

/* From now on the blobs' parts wait for the record's ack; without a record nobody needs them. */
static void settle_blobs(const struct emit *e, bool kept)
{
	for (size_t i = 0; i < e->blob_count; i++) {
		if (kept)
			keep_blob_named(e->w->keep, e->blobs[i], e->w->last_seq);
		else
			keep_blob_dropped(e->w->keep, e->blobs[i]);
	}
}

int emit_end(struct emit *e, struct span rest, uint64_t *ret_seq)
{
	struct wbx *w = e->w;
	int r = keep_record(w, e->at, rest, ret_seq);

	settle_blobs(e, r == 0);
	(void)pthread_mutex_unlock(&w->lock);
	if (r == 0)
		link_push(w);
	return r;
}

int emit_flush(struct wbx *w, uint64_t lost, uint64_t *ret_seq)
{
	struct pack p;
	size_t at;

	buf_clear(&w->scratch);
	at = frame_open(&w->scratch, &p, "flush", w->last_seq + 1, lost == 0 ? 1 : 2);
	pack_pair_uint(&p, "t", clock_wall_us());
	if (lost != 0)
		pack_pair_uint(&p, "lost", lost);
	return keep_record(w, at, (struct span){0}, ret_seq);
}

/* --- blobs --- */

/* A cursor over the pieces of a blob. */
struct blob_walk {
	const struct span *pieces;
	size_t count;
	size_t at;
	size_t offset;
};

static int digest_of(const struct span *pieces, size_t count, uint8_t ret[DIGEST_BYTES])
{
	EVP_MD_CTX *sha = EVP_MD_CTX_new();
	int ok = sha != NULL && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1;

	for (size_t i = 0; ok && i < count; i++)
		ok = EVP_DigestUpdate(sha, pieces[i].at, pieces[i].len) == 1;
	ok = ok && EVP_DigestFinal_ex(sha, ret, NULL) == 1;
	EVP_MD_CTX_free(sha);
	return ok ? 0 : -ENOMEM;
}

/* Up to PART_BYTES of the blob as spans of its pieces; returns how many spans, *ret_len how many
 * bytes. */
static size_t next_part(struct blob_walk *b, struct span ret[EXTRA_PIECES_MAX], size_t *ret_len)
{
	size_t n = 0;

	*ret_len = 0;
	while (b->at < b->count && n < EXTRA_PIECES_MAX && *ret_len < PART_BYTES) {
		const struct span *piece = &b->pieces[b->at];
		size_t len = piece->len - b->offset;

		if (len > PART_BYTES - *ret_len)
			len = PART_BYTES - *ret_len;
		if (len > 0)
			ret[n++] = (struct span){.at = piece->at + b->offset, .len = len};
		*ret_len += len;
		b->offset += len;
		if (b->offset == piece->len) {
			b->at++;
			b->offset = 0;
		}
	}
	return n;
}

/* One `blob` frame: {id, off, [sha256], data}; data comes last, so its bytes need not be copied
 * into scratch. lock held. */
static int keep_part(struct wbx *w, uint64_t blob, uint64_t offset, const struct span *data,
		     size_t count, size_t data_len, const uint8_t *digest)
{
	struct span pieces[1 + EXTRA_PIECES_MAX];
	struct pack p;
	size_t at;
	size_t len;

	buf_clear(&w->scratch);
	at = frame_open(&w->scratch, &p, "blob", 0, digest == NULL ? 3 : 4);
	pack_pair_uint(&p, "id", blob);
	pack_pair_uint(&p, "off", offset);
	if (digest != NULL)
		pack_pair_bin(&p, "sha256", (struct span){.at = digest, .len = DIGEST_BYTES});
	pack_text(&p, "data");
	(void)msgpack_pack_bin(&p.to, data_len); /* its failure is scratch's */
	if (w->scratch.error != 0)
		return w->scratch.error;
	len = w->scratch.len - at - FRAME_HEAD + data_len;
	for (unsigned i = 0; i < 4; i++)
		w->scratch.data[at + 1 + i] = (uint8_t)(len >> (24 - 8 * i));
	pieces[0] = (struct span){.at = w->scratch.data + at, .len = w->scratch.len - at};
	for (size_t i = 0; i < count; i++)
		pieces[1 + i] = data[i];
	return keep_frame(w, pieces, 1 + count, 0, blob);
}

static int begin_blob(struct wbx *w, uint64_t *ret_blob)
{
	int r;

	(void)pthread_mutex_lock(&w->lock);
	r = state_after_fork(w);
	if (r == 0 && w->closed)
		r = -ESHUTDOWN;
	if (r == 0)
		r = keep_blob_begin(w->keep, w->last_blob + 1);
	if (r == 0)
		*ret_blob = ++w->last_blob;
	(void)pthread_mutex_unlock(&w->lock);
	return r;
}

int emit_blob(struct wbx *w, const struct span *pieces, size_t count,
	      uint8_t ret_digest[DIGEST_BYTES], uint64_t *ret_blob)
{
	struct blob_walk walk = {.pieces = pieces, .count = count};
	uint64_t offset = 0;
	bool is_last = false;
	int r = digest_of(pieces, count, ret_digest);

	if (r == 0)
		r = begin_blob(w, ret_blob);
	while (r == 0 && !is_last) {
		struct span data[EXTRA_PIECES_MAX];
		size_t len;
		size_t n = next_part(&walk, data, &len);

		is_last = walk.at == walk.count;
		(void)pthread_mutex_lock(&w->lock);
		r = keep_part(w, *ret_blob, offset, data, n, len, is_last ? ret_digest : NULL);
		if (r < 0) {
			keep_blob_dropped(w->keep, *ret_blob);
			give_up(w);
		}
		(void)pthread_mutex_unlock(&w->lock);
		offset += len;
		if (r == 0)
			link_push(w);
	}
	return r;
}

void emit_drop_blob(struct wbx *w, uint64_t blob)
{
	(void)pthread_mutex_lock(&w->lock);
	keep_blob_dropped(w->keep, blob);
	(void)pthread_mutex_unlock(&w->lock);
}
