/* See emit.h. */
#include "client/lib/emit.h"

#include "client/lib/link.h"
#include "client/lib/map.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

/* Counts a record that nothing could hold, and tells the user now and then. lock held. */
static void count_given_up(struct wbx *w, int r)
{
	if (r != -ENOBUFS)
		return;
	w->given_up++;
	if (w->given_up_shown != 0 && w->given_up < w->given_up_shown * 2)
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
	frame_set_length(w->scratch.data + at, len);
	pieces[0] = (struct span){.at = w->scratch.data + at, .len = w->scratch.len - at};
	r = keep_frame(w, pieces, rest.len > 0 ? 2 : 1, w->last_seq + 1, 0);
	if (r < 0)
		return r;
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

	if (run->generation == w->generation || run->is_project)
		return 0;
	buf_clear(&w->scratch);
	at = frame_open(&w->scratch, &p, "attach", w->last_seq + 1, 6);
	pack_pair_text(&p, "run", run->id);
	pack_pair_uint(&p, "t", clock_wall_us());
	pack_pair_text(&p, "project", run->project);
	pack_pair_text(&p, "entity", run->entity);
	pack_pair_bool(&p, "merge_rows", run->merge_rows);
	pack_pair_text(&p, "token", run->token);
	r = keep_record(w, at, (struct span){0}, NULL);
	count_given_up(w, r); /* for the record that it makes way for */
	if (r == 0)
		run->generation = w->generation;
	return r;
}

/* What may belong to no run. */
static bool is_of_project(const char *kind)
{
	static const char *const kinds[] = {"call", "feedback", "object", "cost"};

	for (size_t i = 0; i < array_len(kinds); i++) {
		if (strcmp(kind, kinds[i]) == 0)
			return true;
	}
	return false;
}

static size_t run_pairs(const struct wbx_run *run)
{
	if (run == NULL)
		return 0;
	return run->is_project ? 2 : 1;
}

static void pack_run(struct pack *p, const struct wbx_run *run)
{
	if (run == NULL)
		return;
	if (!run->is_project) {
		pack_pair_text(p, "run", run->id);
		return;
	}
	pack_pair_text(p, "project", run->project);
	pack_pair_text(p, "entity", run->entity);
}

int emit_begin(struct emit *e, struct wbx *w, struct wbx_run *run, const char *kind, size_t pairs)
{
	int r;

	if (run != NULL && run->is_project && !is_of_project(kind))
		return -EINVAL;
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
	e->at = frame_open(&w->scratch, &e->p, kind, w->last_seq + 1, pairs + 1 + run_pairs(run));
	pack_run(&e->p, run);
	pack_pair_uint(&e->p, "t", clock_wall_us());
	return 0;
}

/* From now on the blobs' parts wait for the record's ack; without a record nobody needs them. */
static void settle_blobs(const struct emit *e, bool kept)
{
	for (size_t i = 0; e->blobs != NULL && i < e->blobs->count; i++) {
		if (kept)
			keep_blob_named(e->w->keep, e->blobs->ids[i], e->w->last_seq);
		else
			keep_blob_dropped(e->w->keep, e->blobs->ids[i]);
	}
}

int emit_end(struct emit *e, struct span rest, uint64_t *ret_seq)
{
	struct wbx *w = e->w;
	int r = keep_record(w, e->at, rest, ret_seq);
	bool is_pushed;

	count_given_up(w, r);
	settle_blobs(e, r == 0);
	is_pushed = r == 0 && !link_may_wait(w);
	(void)pthread_mutex_unlock(&w->lock);
	if (is_pushed)
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

/* One `blob` frame: {id, off, [sha256], data}; data comes last, so its bytes need not be copied
 * into scratch. lock held. */
static int keep_part(struct wbx *w, uint64_t blob, uint64_t offset, struct span data,
		     const uint8_t *digest)
{
	struct span pieces[2] = {{0}, data};
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
	(void)msgpack_pack_bin(&p.to, data.len); /* its failure is scratch's */
	if (w->scratch.error != 0)
		return w->scratch.error;
	len = w->scratch.len - at - FRAME_HEAD + data.len;
	frame_set_length(w->scratch.data + at, len);
	pieces[0] = (struct span){.at = w->scratch.data + at, .len = w->scratch.len - at};
	return keep_frame(w, pieces, 2, 0, blob);
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

/* Part by part: other threads' records may pass between. No lock held but `blobs`. */
static int emit_blob(struct wbx *w, const struct map_table *t, uint64_t *ret_blob)
{
	struct span rest = buf_span(&t->bytes);
	uint64_t offset = 0;
	int r = begin_blob(w, ret_blob);

	while (r == 0 && rest.len > 0) {
		struct span part = {.at = rest.at,
				    .len = rest.len < PART_BYTES ? rest.len : PART_BYTES};
		bool is_last = part.len == rest.len;

		(void)pthread_mutex_lock(&w->lock);
		r = keep_part(w, *ret_blob, offset, part, is_last ? t->digest : NULL);
		if (r < 0) {
			keep_blob_dropped(w->keep, *ret_blob);
			count_given_up(w, r);
		}
		(void)pthread_mutex_unlock(&w->lock);
		offset += part.len;
		rest.at += part.len;
		rest.len -= part.len;
		if (r == 0)
			link_push(w);
	}
	return r;
}

static void drop_blobs(struct emit_blobs *b)
{
	(void)pthread_mutex_lock(&b->w->lock);
	for (size_t i = 0; i < b->count; i++)
		keep_blob_dropped(b->w->keep, b->ids[i]);
	(void)pthread_mutex_unlock(&b->w->lock);
	b->count = 0;
}

int emit_blobs_begin(struct emit_blobs *b, struct wbx *w, const struct wbx_map *first,
		     const struct wbx_map *second)
{
	const struct wbx_map *const maps[] = {first, second};

	return emit_blobs_begin_all(b, w, maps, array_len(maps));
}

int emit_blobs_begin_all(struct emit_blobs *b, struct wbx *w, const struct wbx_map *const *maps,
			 size_t map_count)
{
	size_t count = 0;
	int r = 0;

	b->w = w;
	b->count = 0;
	for (size_t i = 0; i < map_count; i++)
		count += maps[i] == NULL ? 0 : maps[i]->table_count;
	b->is_locked = false;
	if (count == 0)
		return 0;
	if (count > RECORD_BLOBS_MAX)
		return -E2BIG;
	b->is_locked = true;
	(void)pthread_mutex_lock(&w->blobs);
	for (size_t i = 0; i < map_count; i++) {
		for (size_t j = 0; r == 0 && maps[i] != NULL && j < maps[i]->table_count; j++) {
			memcpy(b->digests[b->count], maps[i]->tables[j].digest, DIGEST_BYTES);
			r = emit_blob(w, &maps[i]->tables[j], &b->ids[b->count]);
			b->count += r == 0;
		}
	}
	if (r < 0)
		emit_blobs_end(b, false);
	return r;
}

void emit_blobs_end(struct emit_blobs *b, bool kept)
{
	if (!b->is_locked)
		return;
	if (!kept)
		drop_blobs(b);
	(void)pthread_mutex_unlock(&b->w->blobs);
	b->is_locked = false;
}

void emit_blobs_pack(const struct emit_blobs *b, struct pack *p)
{
	pack_text(p, "blobs");
	pack_array(p, b->count);
	for (size_t i = 0; i < b->count; i++)
		pack_bin(p, (struct span){.at = b->digests[i], .len = DIGEST_BYTES});
}

/* --- blobs of any size --- */

void emit_blobs_open(struct emit_blobs *b, struct wbx *w)
{
	b->w = w;
	b->count = 0;
	b->is_locked = true;
	(void)pthread_mutex_lock(&w->blobs);
}

struct stream {
	emit_read read;
	void *arg;
	EVP_MD_CTX *hash;
	uint8_t *now; /* the part that goes next, and the one behind it */
	uint8_t *then;
	size_t now_len;
	size_t then_len;
};

/* The part under way, with the digest when none follows. */
static int stream_part(struct wbx *w, struct stream *s, uint64_t blob, uint64_t offset,
		       uint8_t digest[DIGEST_BYTES])
{
	struct span part = {.at = s->now, .len = s->now_len};
	int r = 0;

	if (EVP_DigestUpdate(s->hash, s->now, s->now_len) != 1 ||
	    (s->then_len == 0 && EVP_DigestFinal_ex(s->hash, digest, NULL) != 1))
		return -ENOMEM;
	(void)pthread_mutex_lock(&w->lock);
	r = keep_part(w, blob, offset, part, s->then_len == 0 ? digest : NULL);
	count_given_up(w, r);
	(void)pthread_mutex_unlock(&w->lock);
	if (r == 0)
		link_push(w);
	return r;
}

static int stream_blob(struct wbx *w, struct stream *s, uint64_t blob, uint8_t digest[DIGEST_BYTES])
{
	uint64_t offset = 0;
	int r = s->read(s->arg, s->now, PART_BYTES, &s->now_len);

	if (r == 0 && s->now_len == 0)
		return -EINVAL;
	while (r == 0 && s->now_len > 0) {
		uint8_t *used = s->now;

		s->then_len = 0;
		if (s->now_len == PART_BYTES)
			r = s->read(s->arg, s->then, PART_BYTES, &s->then_len);
		if (r == 0)
			r = stream_part(w, s, blob, offset, digest);
		offset += s->now_len;
		s->now = s->then;
		s->now_len = s->then_len;
		s->then = used;
	}
	return r;
}

int emit_blobs_add(struct emit_blobs *b, emit_read read, void *arg)
{
	uint8_t *room = mem_alloc((size_t)2 * PART_BYTES);
	struct stream s = {.read = read, .arg = arg, .hash = EVP_MD_CTX_new(), .now = room};
	uint64_t blob = 0;
	bool is_begun = false;
	int r = b->count == RECORD_BLOBS_MAX ? -E2BIG : 0;

	if (r == 0 &&
	    (room == NULL || s.hash == NULL || EVP_DigestInit_ex(s.hash, EVP_sha256(), NULL) != 1))
		r = -ENOMEM;
	if (r == 0)
		r = begin_blob(b->w, &blob);
	if (r == 0) {
		is_begun = true;
		s.then = room + PART_BYTES;
		r = stream_blob(b->w, &s, blob, b->digests[b->count]);
	}
	if (r == 0) {
		b->ids[b->count++] = blob;
	} else if (is_begun) {
		(void)pthread_mutex_lock(&b->w->lock);
		keep_blob_dropped(b->w->keep, blob);
		(void)pthread_mutex_unlock(&b->w->lock);
	}
	EVP_MD_CTX_free(s.hash);
	(void)mem_free(room);
	return r;
}
