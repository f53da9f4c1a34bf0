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

int fd_pread_some(int fd, void *ret_bytes, size_t len, off_t offset, size_t *ret_len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n =
			pread(fd, (uint8_t *)ret_bytes + have, len - have, offset + (off_t)have);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			have += (size_t)n;
	}
	*ret_len = have;
	return 0;
}

int fd_pread_all(int fd, void *ret_bytes, size_t len, off_t offset)
{
	size_t have = 0;
	int r = fd_pread_some(fd, ret_bytes, len, offset, &have);

	return r < 0 || have == len ? r : -ENODATA;
}

int fd_sync_dir(int dir_fd)
{
	return fsync(dir_fd) < 0 ? -errno : 0;
}
