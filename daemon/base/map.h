/* A hash table whose entries embed their node: no allocation per entry. Keys are bytes; hashing is
 * seeded, so that nobody outside can choose collisions. One thread. */
#pragma once

#include "proto/base/buf.h"

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

typedef bool (*map_match)(struct map_node *node, const void *key);

struct map {
	struct map_node **buckets;
	size_t bucket_count; /* a power of two, or 0 before the first add */
	size_t count;
	size_t first; /* buckets below it are empty */
	uint64_t seed;
};

int map_init(struct map *m);  /* 0, or -errno when the kernel gives no random bytes */
void map_done(struct map *m); /* frees the buckets, not the entries */

uint64_t map_hash(const struct map *m, const void *key, size_t len);
/* The first entry with this hash for which match(node, key) holds, or NULL. */
struct map_node *map_find(const struct map *m, uint64_t hash, map_match match, const void *key);
/* 0 and the node is in, under hash; or -ENOMEM. Does not look for an equal one. */
int map_add(struct map *m, struct map_node *node, uint64_t hash);
void map_remove(struct map *m, struct map_node *node);
/* Takes any entry out; NULL when there is none. For emptying. */
struct map_node *map_pop(struct map *m);
