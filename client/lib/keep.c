/* See keep.h. Where the next frame goes: into the ring while the ring is the last of the stream and
 * it fits, else into the last spool file. */
#include "client/lib/keep.h"

#include "client/lib/ring.h"
#include "client/lib/spool.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	READ_BYTES = 256 << 10, /* of a spool, for sending */
	READ_TRIES = 5,         /* of a place in a spool that cannot be read */
	RING_REUSE_BYTES =
		64
		<< 10, /* an empty ring that has come so far begins again: fewer pages stay warm */
};

/* A blob whose parts were added and whose record is not acknowledged. */
struct live_blob {
	uint64_t id;
	uint64_t seq; /* of the record that names it; 0: not logged yet */
};

struct keep {
	struct keep_settings settings;
	char spool_dir[1024];
	struct buf hello;
	struct ring ring;
	struct spool *spools; /* oldest first */
	unsigned next_spool;
	uint64_t spool_bytes;
	uint64_t acked;
	uint64_t sent;        /* place */
	uint64_t lent;        /* place of the bytes that keep_unsent() gave out last */
	size_t lent_len;      /* 0: they were sent */
	bool held;            /* something was not freed because it is being sent */
	uint64_t dropped_end; /* place behind the last part of a dropped blob; 0: there is none */
	uint64_t tail;        /* place behind the newest frame */
	struct live_blob *blobs;
	size_t blob_count;
	size_t blob_cap;
	uint8_t *read_bytes; /* what was read of a spool last */
	uint64_t read_place;
	size_t read_len;
	uint64_t failed_place; /* where reading failed last */
	unsigned failed_tries;
	uint64_t lost; /* records that were passed over and not told */
};

/* --- which part of the stream holds what --- */

static struct spool *last_spool(const struct keep *k)
{
	struct spool *s = k->spools;

	while (s != NULL && s->next != NULL)
		s = s->next;
	return s;
}

/* The ring takes frames when nothing newer is in a spool. */
static bool ring_is_last(const struct keep *k)
{
	return k->ring.map != NULL && k->ring.tail == k->tail;
}

static struct spool *spool_at(const struct keep *k, uint64_t place)
{
	for (struct spool *s = k->spools; s != NULL; s = s->next) {
		if (place >= s->start && place < s->tail)
			return s;
	}
	return NULL;
}

/* --- adding --- */

static size_t frame_len(const struct keep_frame *f)
{
	size_t len = 0;

	for (size_t i = 0; i < f->piece_count; i++)
		len += f->pieces[i].len;
	return len;
}

static int new_spool(struct keep *k, struct spool **ret)
{
	struct spool **end = &k->spools;
	struct spool *s;
	int r;

	if (k->spool_dir[0] == '\0')
		return -ENOBUFS;
	r = spool_open(&s, k->spool_dir, k->next_spool, k->settings.producer, buf_span(&k->hello),
		       k->tail);
	if (r < 0)
		return r;
	k->next_spool++;
	while (*end != NULL)
		end = &(*end)->next;
	*end = s;
	*ret = s;
	return 0;
}

static int add_to_spool(struct keep *k, const struct keep_frame *f, size_t len)
{
	struct spool *s = last_spool(k);
	int r = 0;

	if (len > k->settings.spool_max_bytes - k->spool_bytes)
		return -ENOBUFS;
	if (s == NULL || s->tail != k->tail || s->tail - s->start >= SPOOL_FILE_MAX)
		r = new_spool(k, &s);
	if (r == 0)
		r = spool_add(s, f->pieces, f->piece_count, len, f->seq, f->blob);
	if (r < 0)
		return -ENOBUFS; /* a full or broken disk: the caller counts what is given up */
	k->spool_bytes += len;
	k->tail = s->tail;
	return 0;
}

/* An empty ring may take over behind the spools, when all of them are sent: nothing newer may
 * overtake them. */
static void let_ring_take_over(struct keep *k)
{
	if (k->ring.map == NULL || !ring_is_empty(&k->ring) || k->sent != k->tail)
		return;
	if (k->ring.tail != k->tail || k->ring.tail - k->ring.start > RING_REUSE_BYTES)
		ring_restart(&k->ring, k->tail);
}

int keep_add(struct keep *k, const struct keep_frame *f)
{
	size_t len = frame_len(f);

	let_ring_take_over(k);
	if (!ring_is_last(k) || !ring_fits(&k->ring, len))
		return add_to_spool(k, f, len);
	ring_add(&k->ring, f->pieces, f->piece_count, len);
	k->tail = k->ring.tail;
	return 0;
}

/* --- blobs --- */

static struct live_blob *find_blob(const struct keep *k, uint64_t id)
{
	for (size_t i = 0; i < k->blob_count; i++) {
		if (k->blobs[i].id == id)
			return &k->blobs[i];
	}
	return NULL;
}

int keep_blob_begin(struct keep *k, uint64_t blob)
{
	int r = mem_room(k->blobs, k->blob_count, k->blob_cap);

	if (r == 0)
		k->blobs[k->blob_count++] = (struct live_blob){.id = blob};
	return r;
}

void keep_blob_named(struct keep *k, uint64_t blob, uint64_t seq)
{
	struct live_blob *b = find_blob(k, blob);

	if (b != NULL)
		b->seq = seq;
}

void keep_blob_dropped(struct keep *k, uint64_t blob)
{
	struct live_blob *b = find_blob(k, blob);

	if (b == NULL)
		return;
	*b = k->blobs[--k->blob_count];
	k->dropped_end = k->tail;
}

/* Forgets those whose record is acknowledged; the lowest of the others, or UINT64_MAX. */
static uint64_t settle_blobs(struct keep *k)
{
	uint64_t lowest = UINT64_MAX;
	size_t left = 0;

	for (size_t i = 0; i < k->blob_count; i++) {
		if (k->blobs[i].seq != 0 && k->blobs[i].seq <= k->acked)
			continue;
		if (k->blobs[i].id < lowest)
			lowest = k->blobs[i].id;
		k->blobs[left++] = k->blobs[i];
	}
	k->blob_count = left;
	return lowest;
}

/* --- acknowledgement --- */

/* kind, seq and blob id of a frame that we wrote ourselves. */
static void read_own_frame(struct span payload, uint64_t *ret_seq, uint64_t *ret_blob)
{
	struct mp m = mp_of(payload);
	struct mp_value v;

	*ret_seq = *ret_blob = 0;
	for (int i = 0; i < 3; i++) {
		if (mp_read(&m, &v) < 0)
			return;
	}
	*ret_seq = v.natural;
	if (*ret_seq == 0)
		*ret_blob = mp_get_uint(m, "id", 0);
}

/* Some bytes between these places are sent, or about to be, and some are not: what follows on the
 * connection must be the rest. Only parts of dropped blobs are not needed and not sent whole. */
static bool is_in_flight(const struct keep *k, uint64_t from, uint64_t to)
{
	if (k->sent > from && k->sent < to)
		return true;
	return k->lent_len > 0 && k->lent < to && k->lent + k->lent_len > from;
}

/* Frees whole frames from the ring's head while they are not needed any more. */
static void free_ring(struct keep *k, uint64_t lowest_blob)
{
	uint64_t place = k->ring.head;

	for (;;) {
		uint64_t skip;
		struct span bytes = ring_bytes(&k->ring, place, &skip);
		struct span payload;
		size_t size;
		uint64_t seq;
		uint64_t blob;

		if (frame_next(bytes, RECORD_MAX, &payload, &size) != FRAME_READY)
			break;
		read_own_frame(payload, &seq, &blob);
		if (seq > k->acked || (seq == 0 && blob >= lowest_blob))
			break;
		if (seq == 0 && is_in_flight(k, place + skip, place + skip + size)) {
			k->held = true;
			break;
		}
		if (place + skip + size >
		    k->sent) /* acknowledged before it was sent: by an earlier connection */
			k->sent = place + skip + size;
		place += skip + size;
	}
	if (place != k->ring.head)
		ring_free_to(&k->ring, place);
}

static void free_spools(struct keep *k, uint64_t lowest_blob)
{
	while (k->spools != NULL && spool_free_acked(k->spools, k->acked, lowest_blob)) {
		struct spool *gone = k->spools;

		if (is_in_flight(k, gone->start, gone->tail)) {
			k->held = true;
			break;
		}
		if (gone->tail > k->sent)
			k->sent = gone->tail;
		k->spool_bytes -= gone->tail - gone->start;
		k->spools = gone->next;
		(void)spool_close(gone, true);
	}
}

void keep_acked(struct keep *k, uint64_t seq)
{
	uint64_t lowest_blob;

	if (seq > k->acked)
		k->acked = seq;
	lowest_blob = settle_blobs(k);
	if (k->ring.map != NULL) {
		free_ring(k, lowest_blob);
		ring_note_acked(&k->ring, k->acked);
	}
	free_spools(k, lowest_blob);
	let_ring_take_over(k);
}

/* --- sending --- */

/* The oldest place that is still kept. */
static uint64_t head_of(const struct keep *k)
{
	uint64_t head = k->tail;

	if (k->ring.map != NULL && !ring_is_empty(&k->ring) && k->ring.head < head)
		head = k->ring.head;
	for (const struct spool *s = k->spools; s != NULL; s = s->next) {
		if (!spool_is_done(s) && s->head < head)
			head = s->head;
	}
	return head;
}

/* Over what cannot be read. */
static void pass_lost(struct keep *k)
{
	const struct spool *s = spool_at(k, k->sent);

	if (s != NULL)
		k->sent = spool_pass_lost(s, k->sent);
}

void keep_rewind(struct keep *k)
{
	k->sent = head_of(k);
	k->lent_len = 0;
	if (k->dropped_end <= k->sent)
		k->dropped_end = 0;
	pass_lost(k);
}

static int read_spool(struct keep *k, const struct spool *s, struct span *ret)
{
	int r = 0;

	if (k->read_bytes == NULL) {
		k->read_bytes = mem_alloc(READ_BYTES);
		if (k->read_bytes == NULL)
			return -ENOMEM;
		k->read_len = 0;
	}
	if (k->sent < k->read_place || k->sent >= k->read_place + k->read_len) {
		k->read_place = k->sent;
		k->read_len = 0;
		r = spool_read(s, k->sent, k->read_bytes, READ_BYTES, &k->read_len);
	}
	if (r == 0)
		*ret = (struct span){.at = k->read_bytes + (k->sent - k->read_place),
				     .len = k->read_len - (k->sent - k->read_place)};
	return r;
}

/* The step cannot be read, and those behind it neither until one can. */
static void lose_steps(struct keep *k, struct spool *s)
{
	uint64_t place = k->sent;

	do {
		k->lost += spool_lose(s, place, k->acked);
		place = spool_pass_lost(s, place);
	} while (place < s->tail &&
		 spool_read(s, place, k->read_bytes, READ_BYTES, &k->read_len) < 0);
	k->read_len = 0;
}

static void note_unreadable(struct keep *k, struct spool *s)
{
	if (k->failed_place != k->sent)
		k->failed_tries = 0;
	k->failed_place = k->sent;
	if (++k->failed_tries < READ_TRIES)
		return;
	k->failed_tries = 0;
	lose_steps(k, s);
}

static int find_unsent(struct keep *k, struct span *ret)
{
	while (k->sent < k->tail) {
		struct spool *s;
		uint64_t skip;

		pass_lost(k);
		s = spool_at(k, k->sent);
		if (s != NULL) {
			int r = read_spool(k, s, ret);

			if (r < 0 && r != -ENOMEM)
				note_unreadable(k, s);
			return r;
		}
		if (k->ring.map != NULL && k->sent >= k->ring.head && k->sent < k->ring.tail) {
			*ret = ring_bytes(&k->ring, k->sent, &skip);
			k->sent += skip;
			if (ret->len > 0)
				return 0;
			continue;
		}
		k->sent = k->sent < head_of(k) ? head_of(k) : k->tail; /* freed meanwhile */
	}
	return 0;
}

int keep_unsent(struct keep *k, struct span *ret)
{
	int r;

	*ret = (struct span){0};
	r = find_unsent(k, ret);
	k->lent = k->sent;
	k->lent_len = ret->len;
	return r;
}

void keep_sent(struct keep *k, size_t len)
{
	/* Their ack may have come before send() returned, and moved k->sent. */
	if (k->lent + len > k->sent)
		k->sent = k->lent + len;
	k->lent_len = 0;
	if (k->held) {
		k->held = false;
		keep_acked(k, k->acked);
	}
	if (k->sent == k->tail && k->spools == NULL) {
		k->read_bytes = mem_free(k->read_bytes);
		k->read_len = 0;
	}
	let_ring_take_over(k);
}

/* --- questions --- */

uint64_t keep_take_lost(struct keep *k)
{
	uint64_t lost = k->lost;

	k->lost = 0;
	return lost;
}

bool keep_wants_connection_anew(const struct keep *k)
{
	return k->dropped_end != 0 && head_of(k) >= k->dropped_end;
}

bool keep_is_durable(const struct keep *k)
{
	return k->ring.map != NULL && !k->ring.in_heap;
}

bool keep_is_empty(const struct keep *k)
{
	return head_of(k) == k->tail;
}

uint64_t keep_unsent_bytes(const struct keep *k)
{
	return k->sent < k->tail ? k->tail - k->sent : 0;
}

uint64_t keep_waiting_bytes(const struct keep *k)
{
	return k->tail - head_of(k);
}

/* --- life --- */

int keep_open(struct keep **ret, const struct keep_settings *settings)
{
	struct keep *k = mem_zalloc(sizeof(*k));
	int r;

	if (k == NULL)
		return -ENOMEM;
	k->settings = *settings;
	buf_init(&k->hello, JOURNAL_HELLO_MAX);
	k->ring.fd = -1;
	if (buf_add(&k->hello, settings->hello.at, settings->hello.len) < 0) {
		(void)keep_free(k);
		return -ENOMEM;
	}
	if (access(settings->spool_dir, W_OK | X_OK) == 0)
		(void)snprintf(
			k->spool_dir, sizeof(k->spool_dir), "%s",
			settings->spool_dir); /* a cut path cannot be opened, and counts as none */
	r = ring_open(&k->ring, settings->journal_dir, settings->journal_bytes, settings->producer,
		      buf_span(&k->hello));
	if (r < 0)
		r = ring_open_heap(&k->ring, settings->heap_bytes);
	if (r < 0) {
		(void)keep_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

struct keep *keep_free(struct keep *k)
{
	if (k == NULL)
		return NULL;
	while (k->spools != NULL) {
		struct spool *gone = k->spools;

		k->spools = gone->next;
		(void)spool_close(gone, false);
	}
	(void)mem_free(k->blobs);
	(void)mem_free(k->read_bytes);
	buf_done(&k->hello);
	return mem_free(k);
}

struct keep *keep_close(struct keep *k)
{
	bool empty;

	if (k == NULL)
		return NULL;
	empty = keep_is_empty(k);
	while (k->spools != NULL) {
		struct spool *gone = k->spools;

		k->spools = gone->next;
		(void)spool_close(gone, empty || spool_is_done(gone));
	}
	ring_close(&k->ring, empty || ring_is_empty(&k->ring));
	return keep_free(k);
}

void keep_abandon(struct keep *k)
{
	if (k == NULL)
		return;
	ring_abandon(&k->ring);
	for (struct spool *s = k->spools; s != NULL; s = s->next) {
		if (s->fd >= 0)
			(void)close(s->fd); /* our copy only; the lock is the parent's */
		s->fd = -1;
	}
}
