/* See batcher.h. */
#include "daemon/ingest/batcher.h"

#include "daemon/ingest/presence.h"
#include "proto/base/clock.h"

#include <assert.h>
#include <errno.h>

void batcher_init(struct batcher *b, struct mailbox *store, struct stats *stats)
{
	*b = (struct batcher){.store = store, .stats = stats};
	for (unsigned i = 0; i < BATCHES; i++) {
		batch_init(&b->pool[i]);
		b->spare[b->spare_count++] = &b->pool[i];
	}
}

void batcher_done(struct batcher *b)
{
	for (unsigned i = 0; i < BATCHES; i++)
		batch_done(&b->pool[i]);
}

static uint64_t *first_of(struct batcher *b, const struct batch *batch)
{
	return &b->first_ns[batch - b->pool];
}

/* The batch that fills, with room; NULL when there is none. */
static struct batch *fillable(struct batcher *b)
{
	if (b->open == NULL && b->spare_count > 0 && !b->draining) {
		b->open = b->spare[--b->spare_count];
		b->number++;
		b->share_count = 0;
		b->open->failures_known = b->failures;
		*first_of(b, b->open) = clock_mono_ns();
	}
	return b->open == NULL || batch_is_full(b->open) ? NULL : b->open;
}

/* The session's place among the batch's peers; taken at its first entry. */
static int peer_of(struct batcher *b, struct session *s, unsigned *ret)
{
	struct batch_peer peer = {.session = s,
				  .uid = s->uid,
				  .producer_id = s->producer_id,
				  .durable_seq = s->durable_seq};
	int r;

	if (s->batch_number == b->number) {
		*ret = s->peer;
		return 0;
	}
	for (unsigned i = 0; i < PRODUCER_BYTES; i++)
		peer.producer[i] = s->producer[i];
	r = batch_add_peer(b->open, &peer, &s->peer);
	if (r < 0)
		return r;
	s->batch_number = b->number;
	s->in_batches++;
	*ret = s->peer;
	return 0;
}

/* NULL: he has none in this batch, or there are more users than are looked at. */
static struct share *share_of(struct batcher *b, uint32_t uid)
{
	for (unsigned i = 0; i < b->share_count; i++) {
		if (b->shares[i].uid == uid)
			return &b->shares[i];
	}
	return NULL;
}

static bool has_share_left(struct batcher *b, uint32_t uid)
{
	const struct share *share = share_of(b, uid);

	return share == NULL || stats_get(b->stats, COUNT_USERS) < 2 ||
	       (share->records < SHARE_RECORDS && share->bytes < SHARE_BYTES);
}

static void count_share(struct batcher *b, uint32_t uid, size_t bytes)
{
	struct share *share = share_of(b, uid);

	if (share == NULL && b->share_count < SHARES_MAX) {
		share = &b->shares[b->share_count++];
		*share = (struct share){.uid = uid};
	}
	if (share == NULL)
		return;
	share->records++;
	share->bytes += bytes;
}

int batcher_hello(struct batcher *b, struct session *s, struct span payload)
{
	unsigned peer;
	int r;

	if (fillable(b) == NULL)
		return -EAGAIN;
	r = peer_of(b, s, &peer);
	if (r < 0)
		return r;
	r = batch_add_hello(b->open, peer, payload);
	if (r < 0) { /* without a hello the store would make the producer up; it is a session's
			first */
		batch_drop_peer(b->open);
		s->batch_number = 0;
		s->in_batches--;
	}
	return r;
}

int batcher_add(struct batcher *b, struct session *s, struct batch_entry *e, struct span payload,
		struct span run)
{
	int r;

	if (fillable(b) == NULL || !has_share_left(b, s->uid))
		return -EAGAIN;
	r = peer_of(b, s, &e->peer);
	if (r < 0)
		return r;
	r = batch_add(b->open, e, payload, run);
	if (r == 0)
		count_share(b, s->uid, payload.len);
	if (r == 0 && e->kind == KIND_FLUSH)
		b->open->wanted = true;
	return r;
}

int batcher_gone(struct batcher *b, const struct batch_peer *peer, struct batch_entry *e,
		 struct span payload, struct span run)
{
	int r;

	if (fillable(b) == NULL)
		return -EAGAIN;
	r = batch_add_peer(b->open, peer, &e->peer);
	return r < 0 ? r : batch_add(b->open, e, payload, run);
}

void batcher_hurry(struct batcher *b)
{
	if (b->open != NULL)
		b->open->wanted = true;
}

static void post(struct batcher *b, uint64_t now_ms)
{
	int r = mailbox_post(b->store, &b->open->mail);

	assert(r == 0); /* the box has room for all but the one that fills */
	b->open = NULL;
	b->at_store++;
	b->last_post_ms = now_ms;
}

uint64_t batcher_pump(struct batcher *b, uint64_t now_ms)
{
	const struct batch *open = b->open;

	if (open == NULL || batch_is_empty(open))
		return UINT64_MAX;
	if (b->at_store > 0) { /* the store works: fill up, and queue one that is full */
		if (batch_is_full(open) && b->spare_count > 0)
			post(b, now_ms);
		return UINT64_MAX;
	}
	if (open->wanted || open->entry_count >= COMMIT_RECORDS ||
	    open->bytes.len >= COMMIT_BYTES || now_ms - b->last_post_ms >= COMMIT_EVERY_MS) {
		post(b, now_ms);
		return UINT64_MAX;
	}
	return b->last_post_ms + COMMIT_EVERY_MS - now_ms;
}

static void count(struct batcher *b, const struct batch *batch, uint64_t now_ms)
{
	uint64_t stored = 0;
	uint64_t bytes = 0;
	uint64_t duplicates = 0;
	uint64_t rejected = 0;

	for (size_t i = 0; i < batch->entry_count; i++) {
		const struct batch_entry *e = &batch->entries[i];

		stored += e->fate == ENTRY_STORE;
		bytes += e->fate == ENTRY_STORE ? e->len : 0;
		duplicates += e->fate == ENTRY_DUPLICATE;
		rejected += e->fate == ENTRY_REJECTED;
	}
	stats_add(b->stats, COUNT_RECORDS, stored);
	stats_add(b->stats, COUNT_RECORD_BYTES, bytes);
	stats_add(b->stats, COUNT_DUPLICATES, duplicates);
	stats_add(b->stats, COUNT_REJECTED, rejected);
	rate_add(&b->stats->records, now_ms, stored);
	rate_add(&b->stats->record_bytes, now_ms, bytes);
	if (batch->entry_count > 0)
		latency_add(&b->stats->ack, now_ms, clock_mono_ns() - b->first_ns[batch - b->pool]);
}

static void tell_presence(const struct batch *batch, struct presence *presence)
{
	for (size_t i = 0; i < batch->entry_count; i++) {
		const struct batch_entry *e = &batch->entries[i];
		const struct batch_peer *peer = &batch->peers[e->peer];
		struct span run = batch_bytes(batch, e->run_at, e->run_len);

		if (e->fate != ENTRY_STORE)
			continue;
		if (e->kind == KIND_RUN || e->kind == KIND_ATTACH) {
			if (peer->session != NULL)
				session_opened_run(peer->session, run, !e->run_is_new);
			presence_joined(presence, peer, run, e->run);
		}
		if (e->kind == KIND_FINISH || e->kind == KIND_GONE)
			presence_left(presence, peer, run);
	}
}

static void tell_rejected(const struct batch *batch)
{
	for (size_t i = 0; i < batch->entry_count; i++) {
		const struct batch_entry *e = &batch->entries[i];
		struct session *session = batch->peers[e->peer].session;

		if (e->fate != ENTRY_REJECTED || session == NULL)
			continue;
		session_rejected(session, e);
		if (e->kind == KIND_RUN || e->kind == KIND_ATTACH)
			session_refused_run(session, batch_bytes(batch, e->run_at, e->run_len),
					    e->text);
	}
}

/* A batch failed: what fills was begun before that was known, and goes the way of those under way.
 */
static void drain(struct batcher *b, uint64_t now_ms)
{
	b->failures++;
	if (b->open != NULL)
		post(b, now_ms);
	b->draining = b->at_store > 0;
}

void batcher_take_back(struct batcher *b, struct batch *batch, struct presence *presence)
{
	b->at_store--;
	if (batch->result < 0 && batch->result != -ESTALE)
		drain(b, clock_mono_ms());
	else if (b->at_store == 0)
		b->draining = false;
	if (batch->result == 0) {
		count(b, batch, clock_mono_ms());
		tell_presence(batch, presence);
		tell_rejected(batch);
	}
	for (size_t i = 0; i < batch->peer_count; i++) {
		if (batch->peers[i].session != NULL)
			session_settled(batch->peers[i].session, &batch->peers[i], batch->result);
	}
	batch_reset(batch, BATCH_KEEP_BYTES);
	b->spare[b->spare_count++] = batch;
}

bool batcher_is_idle(const struct batcher *b)
{
	return b->at_store == 0 && (b->open == NULL || batch_is_empty(b->open));
}
