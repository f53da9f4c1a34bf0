/* Tables that grow: a trainer that logs all earlier rows again costs disk for what is new. What a run
 * logged as tables last is known by digests; a table that begins with all of one of them, byte for
 * byte, names those rows as parts (PROTOCOL.md section 9), which the daemon has once. Eight parts of
 * a size become one, so that there are few: rows are written again as often as the logarithm of their
 * number says, not as often as they are logged. Any thread. */
#pragma once

#include "client/lib/table.h"

enum {
	GROW_TABLES = 8,           /* that a run remembers */
	GROW_BYTES_MIN = 16 << 10, /* of rows; smaller tables stay whole */
	GROW_FAN = 8,
	GROW_PARTS_MAX = 64,
};

struct grow;

/* NULL: no memory; tables stay whole then. */
struct grow *grow_new(void);
struct grow *grow_free(struct grow *g);

/* Takes the draft into m as one blob, or as its new rows and parts, and tells the blob's digest. g NULL:
 * as one. 0, as map_add_blob(). */
int grow_add(struct grow *g, struct wbx_map *m, struct table_draft *d,
	     uint8_t ret_digest[DIGEST_BYTES]);
