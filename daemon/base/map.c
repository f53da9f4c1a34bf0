/* See map.h. */
#include "daemon/base/map.h"

#include "proto/base/mem.h"
#include "proto/base/rng.h"

#include <errno.h>
#include <string.h>

enum {
	FIRST_BUCKETS = 16
};

int map_init(struct map *m)
{
	*m = (struct map){0};
	return rng_bytes(&m->seed, sizeof(m->seed));
}

void map_done(struct map *m)
{
	m->buckets = mem_free(m->buckets);
	m->bucket_count = 0;
}

uint64_t map_hash(const struct map *m, const void *key, size_t len)
{
	const uint8_t *at = key;
	uint64_t h = m->seed ^ len;

	while (len >
	       0) { /* the state goes through the generator's mixer with every 8 bytes of key */
		uint64_t word = 0;
		size_t n = len < sizeof(word) ? len : sizeof(word);
		struct rng mixer;

		memcpy(&word, at, n);
		mixer.state = h ^ word;
		h = rng_next(&mixer);
		at += n;
		len -= n;
	}
	return h;
}

static size_t bucket_number(const struct map *m, uint64_t hash)
{
	return (size_t)hash & (m->bucket_count - 1);
}

static struct map_node **bucket_of(const struct map *m, uint64_t hash)
{
	return &m->buckets[bucket_number(m, hash)];
}

struct map_node *map_find(const struct map *m, uint64_t hash, map_match match, const void *key)
{
	if (m->bucket_count == 0)
		return NULL;
	for (struct map_node *n = *bucket_of(m, hash); n != NULL; n = n->next) {
		if (n->hash == hash && match(n, key))
			return n;
	}
	return NULL;
}

static void map_put(struct map *m, struct map_node *node)
{
	size_t number = bucket_number(m, node->hash);

	node->next = m->buckets[number];
	m->buckets[number] = node;
	if (number < m->first)
		m->first = number;
}

static int map_grow(struct map *m)
{
	struct map old = *m;
	size_t want = old.bucket_count == 0 ? FIRST_BUCKETS : old.bucket_count * 2;

	m->buckets = mem_zalloc(want * sizeof(struct map_node *));
	if (m->buckets == NULL) {
		m->buckets = old.buckets;
		return -ENOMEM;
	}
	m->bucket_count = m->first = want;
	for (size_t i = 0; i < old.bucket_count; i++) {
		while (old.buckets[i] != NULL) {
			struct map_node *node = old.buckets[i];

			old.buckets[i] = node->next;
			map_put(m, node);
		}
	}
	(void)mem_free(old.buckets);
	return 0;
}

int map_add(struct map *m, struct map_node *node, uint64_t hash)
{
	if (m->count >= m->bucket_count) {
		int r = map_grow(m);

		if (r < 0)
			return r;
	}
	node->hash = hash;
	map_put(m, node);
	m->count++;
	return 0;
}

void map_remove(struct map *m, struct map_node *node)
{
	struct map_node **at = bucket_of(m, node->hash);

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	m->count--;
}

struct map_node *map_pop(struct map *m)
{
	for (; m->first < m->bucket_count; m->first++) { /* emptying looks at each bucket once */
		struct map_node *node = m->buckets[m->first];

		if (node != NULL) {
			m->buckets[m->first] = node->next;
			m->count--;
			return node;
		}
	}
	return NULL;
}
