/* Writes msgpack with msgpack-c's packer into a buf. The buf remembers the first failure, so a
 * message is written whole and checked once. One owner at a time. */
#pragma once

#include "proto/base/buf.h"

#include <limits.h> /* msgpack/pack.h needs CHAR_MIN */
#include <msgpack/pack.h>

/* Embeddable; `out` is borrowed for the life of the packer. */
struct pack {
	msgpack_packer to;
	struct buf *out;
};

void pack_init(struct pack *p, struct buf *out);

void pack_map(struct pack *p, size_t pairs);
void pack_array(struct pack *p, size_t values);
void pack_nil(struct pack *p);
void pack_bool(struct pack *p, bool value);
void pack_int(struct pack *p, int64_t value);
void pack_uint(struct pack *p, uint64_t value);
void pack_double(struct pack *p, double value);
void pack_str(struct pack *p, struct span text);
void pack_text(struct pack *p, const char *text);
void pack_bin(struct pack *p, struct span bytes);
void pack_raw(struct pack *p, struct span whole_value); /* already msgpack */

/* Key and value at once. A text of NULL is packed as nil. */
void pack_pair_text(struct pack *p, const char *key, const char *value);
void pack_pair_str(struct pack *p, const char *key, struct span value);
void pack_pair_uint(struct pack *p, const char *key, uint64_t value);
void pack_pair_int(struct pack *p, const char *key, int64_t value);
void pack_pair_double(struct pack *p, const char *key, double value);
void pack_pair_bool(struct pack *p, const char *key, bool value);
void pack_pair_bin(struct pack *p, const char *key, struct span value);
