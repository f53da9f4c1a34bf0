/* The files in which libwbx keeps frames until they are acknowledged, and from which the daemon
 * takes those of the dead: PROTOCOL.md section 6. A journal is a ring that its owner maps; a spool
 * file is append-only. Places count bytes of the producer's logical stream and only grow. Any
 * thread. */
#pragma once

#include "proto/limits.h"
#include "proto/mp.h"

enum {
	JOURNAL_HEADER = 4096,
	JOURNAL_HELLO_MAX = JOURNAL_HEADER - 128,
	JOURNAL_NAME_MAX = PRODUCER_BYTES * 2 + 32,
	JOURNAL_WRAP = 0xc1, /* where a frame should begin: the rest of the ring is not used */
};

/* Fixed places in the header, for the owner, who keeps these up to date in its mapping. */
enum {
	JOURNAL_AT_HEAD = 48,
	JOURNAL_AT_TAIL = 56,
	JOURNAL_AT_ACKED = 64
};

struct journal_header {
	bool is_spool;
	uint8_t producer[PRODUCER_BYTES];
	uint64_t capacity; /* of the ring; 0 for a spool */
	uint64_t start;    /* place of the first byte behind the header */
	uint64_t head;     /* first byte still needed */
	uint64_t tail;     /* behind the last whole frame (a ring; a spool's is its length) */
	uint64_t acked;    /* last seq acknowledged */
	struct span hello; /* payload of the hello frame; borrowed */
};

/* Fills all of ret. hello.len <= JOURNAL_HELLO_MAX. */
void journal_header_write(const struct journal_header *h, uint8_t ret[JOURNAL_HEADER]);
/* 0 and *ret, which borrows from bytes; -EBADMSG: no such file, or its numbers contradict one
 * another or file_size. */
int journal_header_read(const uint8_t bytes[JOURNAL_HEADER], uint64_t file_size,
			struct journal_header *ret);

/* "<producer>.journal", "<producer>.<number>.spool" */
void journal_name(const uint8_t producer[PRODUCER_BYTES], char ret[JOURNAL_NAME_MAX]);
void spool_name(const uint8_t producer[PRODUCER_BYTES], unsigned number,
		char ret[JOURNAL_NAME_MAX]);
/* True when name is one of these; *ret_is_spool and the producer. */
bool journal_name_parse(const char *name, uint8_t ret_producer[PRODUCER_BYTES], bool *ret_is_spool);

/* Where place p of a ring stands in its file. */
static inline uint64_t journal_offset(const struct journal_header *h, uint64_t place)
{
	uint64_t p = place - h->start;

	return JOURNAL_HEADER + (h->capacity == 0 ? p : p % h->capacity);
}

/* Bytes of a ring from the place to where it wraps. */
static inline uint64_t journal_run(const struct journal_header *h, uint64_t place)
{
	return h->capacity - (place - h->start) % h->capacity;
}

static inline void journal_put_u64(uint8_t *at, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

static inline uint64_t journal_get_u64(const uint8_t *at)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)at[i] << (8 * i);
	return v;
}
