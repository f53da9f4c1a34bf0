/* Reads msgpack without building anything: a cursor that yields one token at a time, and a skip
 * over a whole value that checks it on the way. Bounded, iterative, no allocation; 3 times as fast
 * as a tree here (docs/BENCHMARKS.md). Writing msgpack is msgpack-c's (pack.h). Any thread. Format:
 * the msgpack specification, msgpack.org. */
#pragma once

#include "proto/base/buf.h"

enum mp_type {
	MP_NIL,
	MP_BOOL,
	MP_INT,
	MP_UINT,
	MP_FLOAT,
	MP_STR,
	MP_BIN,
	MP_EXT,
	MP_ARRAY,
	MP_MAP
};

/* One token. An array or map is only its head: `count` values, or pairs, follow. */
struct mp_value {
	enum mp_type type;
	union {
		bool boolean;
		int64_t integer;  /* MP_INT: below zero */
		uint64_t natural; /* MP_UINT */
		double real;
		uint32_t count;
		struct span bytes; /* MP_STR, MP_BIN, MP_EXT: borrowed from the input */
	};
	int8_t ext_type;
};

/* A cursor over borrowed bytes. */
struct mp {
	const uint8_t *at;
	const uint8_t *end;
};

struct mp mp_of(struct span s);
static inline size_t mp_left(const struct mp *m)
{
	return (size_t)(m->end - m->at);
}

/* Reads one token and moves behind it. 0; -ENODATA: the input ends inside it; -EBADMSG: not msgpack
 * (the byte 0xc1). The cursor stays where it was on error. */
int mp_read(struct mp *m, struct mp_value *ret);

/* What mp_skip() lets pass. */
struct mp_limits {
	unsigned depth; /* <= MP_DEPTH_MAX */
	size_t items;   /* values, keys included */
	size_t keys;    /* pairs of all maps */
	size_t key_bytes;
};
enum {
	MP_DEPTH_MAX = 64
};

/* Moves over one whole value. 0; -ENODATA, -EBADMSG as above; -E2BIG: deeper or more than the
 * limits allow, or a key is longer. The cursor stays on error. limits NULL: only depth is checked
 * (trusted bytes). */
int mp_skip(struct mp *m, const struct mp_limits *limits);

/* The bytes of the next whole value, and the cursor behind it. As mp_skip() without limits. */
int mp_take(struct mp *m, struct span *ret);

/* In the map at the cursor (not moved), the value of key. 0 and ret_value; -ENOENT: a map without
 * it; -EBADMSG: no map. */
int mp_find(struct mp map, const char *key, struct mp_value *ret_value);
/* The same, the value's bytes whole. */
int mp_find_span(struct mp map, const char *key, struct span *ret);

/* Reads of single fields of a map: the value when it is there and of the type, else the fallback.
 */
struct span mp_get_str(struct mp map, const char *key); /* fallback: .at == NULL */
struct span mp_get_bin(struct mp map, const char *key); /* the same */
uint64_t mp_get_uint(struct mp map, const char *key, uint64_t fallback);
int64_t mp_get_int(struct mp map, const char *key, int64_t fallback);
bool mp_get_bool(struct mp map, const char *key, bool fallback);

/* Numbers of any of the three number types. */
bool mp_is_number(const struct mp_value *v);
double mp_to_double(const struct mp_value *v);
/* True and *ret when v is an integer that fits. */
bool mp_to_int64(const struct mp_value *v, int64_t *ret);
