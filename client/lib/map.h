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

/* A table under construction: the bytes of its blob, kept until the map is cleared. */
struct map_table {
	struct buf bytes;
	uint8_t digest[DIGEST_BYTES];
};

struct wbx_map {
	struct buf bytes; /* of the values; the outermost head is added when it is taken */
	struct pack p;
	struct map_level levels[MAP_DEPTH_MAX];
	unsigned depth; /* 0: the outermost */
	int error;
	struct map_table *tables; /* that its values name: sent as blobs before the record */
	size_t table_count;
};

/* The map's or list's own head (5 bytes, map 32 or array 32) for what it holds. */
void map_head(const struct wbx_map *m, uint8_t ret[MAP_HEAD_BYTES]);
/* 0, or why it cannot be taken: an error on the way, a list or map that was not ended. */
int map_check(const struct wbx_map *m);

/* What the bytes of a table's blob are: {"columns": [...], "data": [[...] ...]}. */
struct map_table_size {
	uint32_t columns;
	uint32_t rows;
};
/* The bytes begin (`out` needs buf_done()); the columns follow, then map_table_data() and the rows,
 * each a msgpack array. */
void map_table_begin(struct buf *out, struct pack *p);
void map_table_data(struct pack *p);
/* Takes `bytes`, which is empty afterwards, into m and puts the value that stands for the table
 * into `value`, m itself or a list. 0; -E2BIG: the map has RECORD_BLOBS_MAX tables; -ENOMEM and so
 * on. An error stays in m. */
int map_put_table(struct wbx_map *m, struct wbx_map *value, const char *key, struct buf *bytes,
		  struct map_table_size size);

/* A value of a traced call that stands apart, as a blob: {"_type": type, "size", "head"?, "blob"} goes
 * into `value`, m itself or a list; head.at NULL: none. Takes `bytes`. Errors as map_put_table(). */
int map_put_apart(struct wbx_map *m, struct wbx_map *value, const char *type, struct buf *bytes,
		  struct span head);
