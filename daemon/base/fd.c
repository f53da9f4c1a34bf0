/* See fd.h. */
#include "daemon/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int fd_close(int fd)
{
	if (fd >= 0)
		(void)close(fd); /* nothing was written through it, or it was synced before */
	return -1;
}

int fd_pwrite_all(int fd, const void *bytes, size_t len, off_t offset)
{
	const uint8_t *at = bytes;

	while (len > 0) {
		ssize_t n = pwrite(fd, at, len, offset);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
			offset += n;
		}
	}
	return 0;
}

int fd_pread_all(int fd, void *ret_bytes, size_t len, off_t offset)
{
	uint8_t *at = ret_bytes;

	while (len > 0) {
		ssize_t n = pread(fd, at, len, offset);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
			offset += n;
		}
	}
	return 0;
}

int fd_sync_dir(int dir_fd)
{
	return fsync(dir_fd) < 0 ? -errno : 0;
}
