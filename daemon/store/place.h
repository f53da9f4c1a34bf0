/* The directory of the store: that it is ours alone, on this machine, on a filesystem that can hold
 * it; and how much room is left. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct place {
	int dir_fd;
	int lock_fd; /* held for life: one wbxd per store */
};

enum {
	PLACE_ERROR_MAX = 512
};

/* Makes the directory when absent and takes its lock. 0, or -errno with a sentence: -EBUSY, -EXDEV,
 * -ENOTSUP, ... */
int place_open(struct place *ret, const char *dir, bool adopt, char ret_error[PLACE_ERROR_MAX]);
void place_close(struct place *p);

/* Bytes that this process may still write, and of the whole filesystem. 0, or -errno. */
int place_room(const struct place *p, uint64_t *ret_free, uint64_t *ret_total);
