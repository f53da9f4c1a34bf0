/* See claim.h. */
#include "client/lib/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_MODE = 0640,
	LOCK_TRIES = 200,
	LOCK_WAIT_MS = 5
};

int claim_open(const char *new_path)
{
	int fd = open(new_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fchmod(fd, FILE_MODE) < 0) { /* a umask may have taken bits away */
		r = -errno;
		(void)unlink(new_path); /* the first error is the one to tell */
		(void)close(fd);        /* an empty file */
	}
	return r < 0 ? r : fd;
}

/* The daemon looks at every file of the directory, and holds its lock for that moment. */
static int lock(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK || i == LOCK_TRIES)
			return -errno;
		(void)poll(NULL, 0, LOCK_WAIT_MS); /* a wait */
	}
	return 0;
}

static int write_header(int fd, const uint8_t header[JOURNAL_HEADER])
{
	ssize_t n = pwrite(fd, header, JOURNAL_HEADER, 0);

	if (n < 0)
		return -errno;
	return n == JOURNAL_HEADER ? 0 : -ENOSPC;
}

int claim_finish(int fd, const char *new_path, const char *path,
		 const uint8_t header[JOURNAL_HEADER])
{
	int r = lock(fd);

	if (r == 0)
		r = write_header(fd, header);
	if (r == 0 && rename(new_path, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(new_path); /* the first error is the one to tell */
	return r;
}
