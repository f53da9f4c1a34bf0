/* Values of traced calls that stand apart from their record (PROTOCOL.md section 4), and how they are put
 * back. One owner. */
#pragma once

#include "proto/base/buf.h"
#include "proto/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct traceblob {
	struct traceblob *next;
	uint8_t digest[DIGEST_BYTES];
	struct buf bytes;
	bool is_cut; /* it was more than is kept */
};

enum {
	TRACEBLOB_MAX = 256 << 20, /* of one */
	TRACEBLOBS_MAX = 1 << 30,  /* of all */
};

/* Zeroed means empty. */
struct traceblobs {
	struct traceblob *first;
	size_t bytes;
};

void traceblobs_done(struct traceblobs *b);
/* A piece of one, behind those before it; one that is whole already stays as it is. 0, -ENOMEM. */
int traceblobs_add(struct traceblobs *b, struct span digest, uint64_t offset, struct span piece);
/* Appends the msgpack value with what stands apart in its place; a blob that is not here stays as it
 * was. Errors stay in out. */
void traceblobs_expand(const struct traceblobs *b, struct span value, struct buf *out);
