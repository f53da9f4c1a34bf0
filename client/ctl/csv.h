/* Rows (msgpack maps) as CSV: RFC 4180's quoting, lines end with "\n". A column is a path of keys; its
 * name joins them with dots, as W&B's own tables do. Lists, media values (maps with "_type") and empty
 * maps are one cell of JSON. Missing and null are an empty cell, the empty string is "". Pure. */
#pragma once

#include "proto/base/buf.h"

struct column;

struct columns {
	struct column *items; /* in the order of their first appearance */
	size_t count;
	size_t cap;
	size_t *sorted; /* numbers of them, by path */
	size_t sorted_cap;
	struct span *cells; /* of the row under way, by column */
	size_t cells_cap;
	struct buf path;
};

enum {
	COLUMNS_MAX = 1 << 18
};

void columns_init(struct columns *c);
void columns_done(struct columns *c);
/* Adds those of the row that are new. 0; -EBADMSG: it is no map; -E2BIG: COLUMNS_MAX; -ENOMEM. */
int columns_add_row(struct columns *c, struct span row);
/* The line of names, _step, _timestamp and _runtime first. 0; -ENOMEM; what out says. */
int columns_print_names(const struct columns *c, struct buf *out);
/* One value as a cell, without a comma. 0, -EBADMSG, -ENOMEM; what out says. */
int csv_add_cell(struct buf *out, struct span value);
/* A row's line. 0; -ENOENT: it has a column that is not among them; as above; what out says. */
int columns_print_row(struct columns *c, struct span row, struct buf *out);
