/* The inside of a struct wbx_map: msgpack under construction. */
#pragma once

#include "client/lib/wbx.h"
#include "proto/limits.h"
#include "proto/pack.h"

enum {
	MAP_DEPTH_MAX = RECORD_DEPTH_MAX - 4,
	MAP_BYTES_MAX = 1 << 30,
	MAP_HEAD_BYTES = 5
};

/* An open map or list: where its head stands, and how many values it has. */
struct map_level {
	size_t head_at;
	uint32_t count;
	bool is_list;
};

/* Bytes too big for the record, a table or a file: a blob that goes before it. Kept until the map is
 * cleared. */
struct map_table {
	struct buf bytes;
	uint8_t digest[DIGEST_BYTES];
};
struct grow;

struct wbx_map {
	struct buf bytes; /* of the values; the outermost head is added when it is taken */
	struct pack p;
	struct map_level levels[MAP_DEPTH_MAX];
	unsigned depth; /* 0: the outermost */
	int error;
	struct map_table *tables; /* that its values name: sent as blobs before the record */
	size_t table_count;
	struct grow
		*grow; /* what tables of its run were logged before (grow.h); NULL: none is kept */
};

/* The map's or list's own head (5 bytes, map 32 or array 32) for what it holds. */
void map_head(const struct wbx_map *m, uint8_t ret[MAP_HEAD_BYTES]);
/* 0, or why it cannot be taken: an error on the way, a list or map that was not ended. */
int map_check(const struct wbx_map *m);

/* Takes `bytes`, which is empty afterwards, into m. digest: of the bytes, when it is known; else NULL.
 * 0; -E2BIG: the map has RECORD_BLOBS_MAX; -ENOMEM, -EMSGSIZE. */
int map_add_blob(struct wbx_map *m, struct buf *bytes, const uint8_t *digest,
		 uint8_t ret_digest[DIGEST_BYTES]);
int map_put_digest(struct wbx_map *m, const char *key, const uint8_t digest[DIGEST_BYTES]);
/* Leaves the error in m; the first one counts. Returns it. */
int map_fail(struct wbx_map *m, int error);

/* A value of a traced call that stands apart, as a blob: {"_type": type, "size", "head"?, "blob"} goes
 * into `value`, m itself or a list; head.at NULL: none. Takes `bytes`. Errors as map_add_blob(); an error stays in m. */
int map_put_apart(struct wbx_map *m, struct wbx_map *value, const char *type, struct buf *bytes,
		  struct span head);
