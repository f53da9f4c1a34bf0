/* File descriptors that close themselves, and whole writes. */
#pragma once

#include "proto/base/buf.h"

#include <sys/types.h>

/* Closes and yields -1; a negative fd is fine. Not for files that were written: their close() can
 * fail and must be looked at. */
int fd_close(int fd);

static inline void fd_close_at(int *fd)
{
	*fd = fd_close(*fd);
}
#define auto_fd __attribute__((cleanup(fd_close_at)))

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Writes or reads all of it at the offset, whatever pieces the kernel takes. 0, or -errno; read:
 * -ENODATA when the file ends before. */
int fd_pwrite_all(int fd, const void *bytes, size_t len, off_t offset);
int fd_pread_all(int fd, void *ret_bytes, size_t len, off_t offset);
/* Reads len bytes, or what there is before the end of the file: *ret_len. 0, or -errno. */
int fd_pread_some(int fd, void *ret_bytes, size_t len, off_t offset, size_t *ret_len);

/* Opens the directory at path, syncs it, closes it: what makes a rename or a new file last. 0, or
 * -errno. */
int fd_sync_dir(int dir_fd);
