/* Types of a table's columns, inferred from its cells as W&B's client does it (research: its
 * sdk/data_types/_dtypes.py): a cell that fits makes the type more precise; what the client would
 * refuse with a TypeError makes the column one of any type, and the cell stays. Memory is bounded:
 * a column with more structure than TYPE_NODES_MAX has any type, too. Pure, iterative. One owner at
 * a time. */
#pragma once

#include "proto/base/json.h"
#include "proto/mp.h"

enum {
	TYPE_NODES_MAX = 8192,        /* of a table */
	TYPE_DICT_KEYS_MAX = 256,     /* of a dict */
	TYPE_KEY_BYTES_MAX = 1 << 20, /* of all dicts' keys */
	CELL_EXT_TIME = 1, /* extension type of a time: 8 bytes (ms since 1970), its text */
	CELL_TIME_BYTES = 8,
};

struct type_node;

struct coltypes {
	struct type_node *nodes; /* the columns come first */
	uint32_t count;
	size_t cap;
	struct buf keys;
	uint32_t stamp;
};

void coltypes_init(struct coltypes *t);
void coltypes_done(struct coltypes *t);
/* One more column, of which nothing is known. optional: nil is one of its values. mixed: it is of any
 * type. 0, -ENOMEM. */
int coltypes_add(struct coltypes *t, bool optional, bool mixed);
/* A cell of that column, one whole value. 0, -ENOMEM. */
int coltypes_cell(struct coltypes *t, uint32_t column, struct span cell);
/* The type as W&B has it: {"wb_type": ...}. */
void coltypes_write(const struct coltypes *t, uint32_t column, struct json *j);

/* A map in a cell that stands for a file: `_type` is its first key, and it has `data`. Moves nothing;
 * true and *ret_type. */
bool cell_is_file(struct mp value, struct span *ret_type);
/* Milliseconds of a time. False: the value is none. */
bool cell_time(const struct mp_value *v, int64_t *ret_ms);
