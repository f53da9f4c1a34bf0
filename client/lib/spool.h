/* One append-only file of frames. What it needs to know for freeing is kept in steps of SPOOL_STEP
 * bytes, so a long file costs little memory. */
#pragma once

#include "proto/journal.h"

enum {
	SPOOL_STEP = 256 << 10,
	SPOOL_FILE_MAX = 64 << 20
};

/* The file's bytes up to `end` are free when seq is acknowledged and no blob up to `blob` is in
 * work. */
struct spool_step {
	uint64_t end; /* place */
	uint64_t seq;
	uint64_t blob;
	uint64_t records;
	bool is_lost; /* it cannot be read */
};

struct spool {
	struct spool *next; /* newer */
	int fd;             /* holds the lock */
	char path[1200];
	uint64_t start;
	uint64_t head;
	uint64_t tail;
	struct spool_step *steps; /* oldest first; the last one grows */
	size_t step_count;
	size_t step_cap;
	size_t first_step; /* those before are freed */
};

/* Makes and locks the file, gives it its final name. 0 and *ret, or -errno. */
int spool_open(struct spool **ret, const char *dir, unsigned number,
	       const uint8_t producer[PRODUCER_BYTES], struct span hello, uint64_t start);
struct spool *spool_close(struct spool *s, bool remove);
/* Appends one frame, whole or not at all. 0, or -errno. */
int spool_add(struct spool *s, const struct span *pieces, size_t count, size_t len, uint64_t seq,
	      uint64_t blob);
/* Reads up to size bytes from place, which is not lost; fewer when the next ones cannot be read. 0
 * and *ret_len, or -errno. */
int spool_read(const struct spool *s, uint64_t place, void *ret_bytes, size_t size,
	       size_t *ret_len);
/* The step at place cannot be read: it is passed over from now on. How many of its records are not
 * acknowledged. */
uint64_t spool_lose(struct spool *s, uint64_t place, uint64_t acked);
/* The first place from `place` on that is not lost. */
uint64_t spool_pass_lost(const struct spool *s, uint64_t place);
/* Moves head over the steps that are done. lowest_blob: the first blob in work. True when the whole
 * file is. */
bool spool_free_acked(struct spool *s, uint64_t acked, uint64_t lowest_blob);
static inline bool spool_is_done(const struct spool *s)
{
	return s->head == s->tail;
}
