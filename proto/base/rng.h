/* Random bytes for identities, random numbers for jitter. Tests seed the second kind. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Fills with bytes from the kernel. 0, or -errno. Any thread. */
int rng_bytes(void *ret_bytes, size_t len);

/* len characters of [0-9a-z] and a NUL (ret_text holds len + 1). 0, or -errno. Any thread. */
int rng_base36(char *ret_text, size_t len);

/* A UUID of version 7 (RFC 9562): the time, then random bits. 0, or -errno. Any thread. */
enum {
	UUID_CHARS = 36
};
int rng_uuid7(char ret_text[UUID_CHARS + 1], uint64_t wall_ms);

/* A small generator whose state belongs to its user (splitmix64, Steele et al. 2014). */
struct rng {
	uint64_t state;
};
uint64_t rng_next(struct rng *r);
/* Evenly in 0 .. below-1; 0 when below is 0. */
uint64_t rng_below(struct rng *r, uint64_t below);
