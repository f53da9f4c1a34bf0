/* The journal: a ring of frames in a file that its owner maps, or in the heap when there is no
 * directory for it. Frames never wrap. Places count up for ever. */
#pragma once

#include "proto/journal.h"

struct ring {
	uint8_t *map; /* header and data; NULL: there is no ring */
	size_t map_len;
	bool in_heap;
	int fd;          /* holds the lock */
	char path[1200]; /* "" in the heap */
	uint64_t capacity;
	uint64_t start;
	uint64_t head;
	uint64_t tail;
	uint64_t wrap; /* place of the last unused end; UINT64_MAX: none yet */
};

/* Makes and locks the file, gives it its final name, maps it. 0, or -errno: there is no ring then.
 */
int ring_open(struct ring *ret, const char *dir, size_t bytes,
	      const uint8_t producer[PRODUCER_BYTES], struct span hello);
int ring_open_heap(struct ring *ret, size_t bytes);
/* Unlinks the file when asked to; unmaps, closes, unlocks. */
void ring_close(struct ring *r, bool remove);
/* In a forked child, where the mapping is not: closes the descriptor; the lock is the parent's and
 * stays. */
void ring_abandon(struct ring *r);

/* True when len bytes fit, as they must, in one piece. */
bool ring_fits(const struct ring *r, size_t len);
/* Copies the pieces in and moves the tail behind them, in this order: a death between the two
 * leaves no half frame. ring_fits() holds. */
void ring_add(struct ring *r, const struct span *pieces, size_t count, size_t len);
/* The bytes from place to the tail or the end of the piece; *ret_skip is what to pass over first
 * (an unused end). */
struct span ring_bytes(const struct ring *r, uint64_t place, uint64_t *ret_skip);
/* Everything before place is free. */
void ring_free_to(struct ring *r, uint64_t place);
/* An empty ring goes on at another place, at the beginning of its memory. */
void ring_restart(struct ring *r, uint64_t place);
void ring_note_acked(struct ring *r, uint64_t seq);
static inline bool ring_is_empty(const struct ring *r)
{
	return r->head == r->tail;
}
