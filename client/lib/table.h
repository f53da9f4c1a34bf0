/* Tables, and other values with bytes of their own, in a map (PROTOCOL.md section 9). */
#pragma once

#include "client/lib/map.h"

/* A table under construction: one buf, which is its blob: {"columns", "types"?, "data"}. */
struct table_draft {
	struct buf bytes;
	struct pack p;
	bool has_types;
	size_t options_end; /* "data" stands here */
	size_t rows_at;     /* the first row; before it the head of their array, 5 bytes */
	uint32_t columns;
	uint32_t rows;
};

enum {
	TABLE_ARRAY_HEAD = 5
};

/* What its value says beside. Zeroed: of an ordinary table. */
struct table_says {
	const char *log_mode; /* NULL: IMMUTABLE */
	bool has_increment;
	uint64_t increment;
	uint64_t rows_in_all; /* 0: as many as there are here */
};

/* It begins (d needs table_draft_done()); its columns follow, an array, then the types when it has
 * some, a map. */
void table_draft_begin(struct table_draft *d, bool has_types);
/* Now an array of 32 bits' length follows, with the rows. */
void table_draft_rows(struct table_draft *d);
void table_draft_done(struct table_draft *d);
/* The head of an array of rows. */
void table_array_head(uint8_t ret[TABLE_ARRAY_HEAD], uint32_t rows);

/* Takes the draft into m, and puts the value that stands for the table into `value`: m itself, or a
 * list. 0; -E2BIG: too many blobs; -ENOMEM and so on. An error stays in m. */
int map_put_table(struct wbx_map *m, struct wbx_map *value, const char *key, struct table_draft *d,
		  const struct table_says *says);
