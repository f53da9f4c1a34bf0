/* The inside of a struct wbx_map: msgpack under construction. */
#pragma once

#include "client/lib/wbx.h"
#include "proto/limits.h"
#include "proto/pack.h"

enum {
	MAP_DEPTH_MAX = RECORD_DEPTH_MAX - 4,
	MAP_BYTES_MAX = 1 << 30
};

/* An open map or list: where its head stands, and how many values it has. */
struct map_level {
	size_t head_at;
	uint32_t count;
	bool is_list;
};

struct wbx_map {
	struct buf bytes; /* of the values; the outermost head is added when it is taken */
	struct pack p;
	struct map_level levels[MAP_DEPTH_MAX];
	unsigned depth; /* 0: the outermost */
	int error;
	/* blobs that its values name: their numbers, and their digests one after the other */
	uint64_t *blobs;
	uint8_t *digests;
	size_t blob_count;
};

/* The map's or list's own head (5 bytes, map 32 or array 32) for what it holds. */
void map_head(const struct wbx_map *m, uint8_t ret[5]);
/* 0, or why it cannot be taken: an error on the way, a list or map that was not ended. */
int map_check(const struct wbx_map *m);
/* The value that stands for the blob. */
int map_put_digest(struct wbx_map *m, const char *key, const uint8_t digest[DIGEST_BYTES]);
int map_name_blob(struct wbx_map *m, uint64_t id, const uint8_t digest[DIGEST_BYTES]);
/* Sends a table (both msgpack: an array of strings, an array of arrays) as a blob of run, puts the
 * value that stands for it into `value`, a list, and names the blob in m. */
int map_table_value(struct wbx_run *run, struct wbx_map *value, struct wbx_map *m,
		    struct span columns, struct span rows);
