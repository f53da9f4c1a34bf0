/* See presence.h. */
#include "daemon/ingest/presence.h"

#include "daemon/base/log.h"
#include "daemon/ingest/ingest.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <string.h>

struct joined_run {
	struct joined_run *next;
	int64_t id;
	bool has_left; /* kept while it is connected: it is told of the run */
	size_t len;
	uint8_t name[];
};

struct present {
	struct map_node node;
	uint32_t uid;
	uint8_t producer[PRODUCER_BYTES];
	int64_t producer_id;
	bool connected;
	uint64_t away_since_ms;
	struct joined_run *runs;
};

struct present_key {
	uint32_t uid;
	const uint8_t *producer;
};

static bool matches(struct map_node *node, const void *key)
{
	const struct present *p = container_of(node, struct present, node);
	const struct present_key *k = key;

	return p->uid == k->uid && memcmp(p->producer, k->producer, PRODUCER_BYTES) == 0;
}

static uint64_t hash_of(const struct presence *p, const struct present_key *key)
{
	return map_hash(&p->producers, key->producer, PRODUCER_BYTES) ^ key->uid;
}

static struct present *find(const struct presence *p, uint32_t uid, const uint8_t *producer)
{
	struct present_key key = {.uid = uid, .producer = producer};
	struct map_node *node = map_find(&p->producers, hash_of(p, &key), matches, &key);

	return node == NULL ? NULL : container_of(node, struct present, node);
}

static void drop_runs(struct present *m)
{
	while (m->runs != NULL) {
		struct joined_run *gone = m->runs;

		m->runs = gone->next;
		(void)mem_free(gone);
	}
}

static void drop(struct presence *p, struct present *m)
{
	map_remove(&p->producers, &m->node);
	drop_runs(m);
	(void)mem_free(m);
}

static struct present *make(struct presence *p, const struct batch_peer *peer)
{
	struct present_key key = {.uid = peer->uid, .producer = peer->producer};
	struct present *m = mem_zalloc(sizeof(*m));

	if (m == NULL)
		return NULL;
	m->uid = peer->uid;
	memcpy(m->producer, peer->producer, PRODUCER_BYTES);
	m->producer_id = peer->producer_id;
	m->connected = ingest_is_connected(p->ingest, peer->uid, peer->producer);
	m->away_since_ms =
		clock_mono_ms(); /* its connection may have ended before its record was stored */
	if (map_add(&p->producers, &m->node, hash_of(p, &key)) < 0)
		return mem_free(m);
	return m;
}

static struct joined_run **find_run(struct present *m, struct span run)
{
	struct joined_run **at = &m->runs;

	while (*at != NULL && !span_equal((struct span){.at = (*at)->name, .len = (*at)->len}, run))
		at = &(*at)->next;
	return at;
}

void presence_joined(struct presence *p, const struct batch_peer *peer, struct span run,
		     int64_t run_id)
{
	struct present *m = find(p, peer->uid, peer->producer);
	struct joined_run **at;

	if (m == NULL)
		m = make(p, peer);
	if (m == NULL) {
		log_warn("presence",
			 "out of memory: a producer will not be missed before the next start");
		return;
	}
	at = find_run(m, run);
	if (*at == NULL) {
		*at = mem_alloc(sizeof(**at) + run.len);
		if (*at == NULL)
			return; /* the same */
		(*at)->next = NULL;
		(*at)->id = run_id;
		(*at)->len = run.len;
		memcpy((*at)->name, run.at, run.len);
	}
	(*at)->has_left = false;
	if (m->connected)
		ingest_ask_notice(p->ingest, run_id);
}

/* True when it is in no run any more. Those that it has left are forgotten. */
static bool drop_left(struct present *m)
{
	struct joined_run **at = &m->runs;

	while (*at != NULL) {
		struct joined_run *run = *at;

		if (run->has_left) {
			*at = run->next;
			(void)mem_free(run);
		} else {
			at = &run->next;
		}
	}
	return m->runs == NULL;
}

void presence_left(struct presence *p, const struct batch_peer *peer, struct span run)
{
	struct present *m = find(p, peer->uid, peer->producer);
	struct joined_run **at;

	if (m == NULL)
		return;
	at = find_run(m, run);
	if (*at != NULL)
		(*at)->has_left = true;
	if (!m->connected && drop_left(m))
		drop(p, m);
	else if (m->connected && *at != NULL)
		ingest_ask_notice(p->ingest, (*at)->id); /* it may wait for the last word */
}

void presence_tell(struct presence *p, int64_t run_id, struct span frame)
{
	for (size_t i = 0; i < p->producers.bucket_count; i++) {
		for (struct map_node *node = p->producers.buckets[i]; node != NULL;
		     node = node->next) {
			const struct present *m = container_of(node, struct present, node);

			for (const struct joined_run *r = m->runs; m->connected && r != NULL;
			     r = r->next) {
				if (r->id == run_id)
					ingest_tell(p->ingest, m->uid, m->producer, frame);
			}
		}
	}
}

void presence_connected(struct presence *p, uint32_t uid, const uint8_t producer[PRODUCER_BYTES])
{
	struct present *m = find(p, uid, producer);

	if (m == NULL)
		return;
	m->connected = true;
	for (const struct joined_run *run = m->runs; run != NULL; run = run->next)
		ingest_ask_notice(p->ingest, run->id);
}

void presence_disconnected(struct presence *p, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
			   uint64_t now_ms)
{
	struct present *m = find(p, uid, producer);

	if (m == NULL)
		return;
	m->connected = false;
	m->away_since_ms = now_ms;
	if (drop_left(m))
		drop(p, m);
}

void presence_alive(struct presence *p, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
		    uint64_t now_ms)
{
	struct present *m = find(p, uid, producer);

	if (m != NULL && !m->connected)
		m->away_since_ms = now_ms;
}

/* Posts `gone` into every run; what cannot be posted now is tried again at the next tick. A run is
 * left when that is on disk (presence_left); a batch that failed is made up for as for one that
 * goes away anew. */
static void declare_gone(struct presence *p, struct present *m, uint64_t now_ms)
{
	if (m->runs == NULL) { /* no memory for its name */
		drop(p, m);
		return;
	}
	for (const struct joined_run *run = m->runs; run != NULL; run = run->next) {
		int r = ingest_post_gone(p->ingest, m->uid, m->producer, m->producer_id,
					 (struct span){.at = run->name, .len = run->len});

		if (r < 0)
			return;
		log_info("presence", "run=%.*s a producer is gone without finish", (int)run->len,
			 (const char *)run->name);
	}
	m->away_since_ms = now_ms;
}

void presence_tick(struct presence *p, uint64_t now_ms, uint64_t journals_seen_ms)
{
	for (size_t i = 0; i < p->producers.bucket_count; i++) {
		struct map_node *node = p->producers.buckets[i];

		while (node != NULL) {
			struct present *m = container_of(node, struct present, node);

			node = node->next;
			if (!m->connected && now_ms - m->away_since_ms >= p->gone_after_ms &&
			    journals_seen_ms > m->away_since_ms)
				declare_gone(p, m, now_ms);
		}
	}
}

int presence_init(struct presence *p, struct ingest *ingest, uint64_t gone_after_ms)
{
	*p = (struct presence){.ingest = ingest, .gone_after_ms = gone_after_ms};
	return map_init(&p->producers);
}

void presence_done(struct presence *p)
{
	struct map_node *node;

	while ((node = map_pop(&p->producers)) != NULL) {
		struct present *m = container_of(node, struct present, node);

		drop_runs(m);
		(void)mem_free(m);
	}
	map_done(&p->producers);
}
