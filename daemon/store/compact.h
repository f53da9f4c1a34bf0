/* Writes the database anew without its free pages, so that the disk gets them back. For a store that
 * nobody has open: `wbxd --compact`. */
#pragma once

#include <stdint.h>

enum {
	COMPACT_ERROR_MAX = 512
};

/* *ret_before and *ret_after: bytes of wbx.db. 0; -EBUSY: a wbxd has it; -ENOSPC: there is no room for
 * a second database; -errno, each with a sentence in ret_error. The store is as it was after a failure,
 * and after a crash at any point. */
int store_compact(const char *dir, int64_t *ret_before, int64_t *ret_after,
		  char ret_error[COMPACT_ERROR_MAX]);
