/* See place.h. */
#include "daemon/store/place.h"

#include "daemon/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	MACHINE_ID_MAX = 64
};

/* f_type of filesystems that hold no write-ahead log (statfs(2), and each one's own headers). */
static const struct {
	long type;
	const char *name;
} remote[] = {
	{0x6969, "NFS"},
	{0x0bd00bd0, "Lustre"},
	{(long)0xff534d42, "CIFS"},
	{(long)0xfe534d42, "SMB2"},
	{0x517b, "SMB"},
	{0x01021997, "9p"},
	{0x5346414f, "AFS"},
	{0x00c36400, "Ceph"},
	{0x47504653, "GPFS"},
	{0x19830326, "BeeGFS"},
};

static int say(int r, char ret_error[PLACE_ERROR_MAX], const char *dir, const char *what)
{
	(void)snprintf(ret_error, PLACE_ERROR_MAX, "store %s: %s", dir,
		       what); /* a cut sentence still helps */
	return r;
}

static int check_filesystem(const struct place *p, const char *dir, char ret_error[PLACE_ERROR_MAX])
{
	struct statfs fs;
	char what[128];

	if (fstatfs(p->dir_fd, &fs) < 0)
		return say(-errno, ret_error, dir, strerror(errno));
	for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++) {
		if ((long)fs.f_type == remote[i].type) {
			(void)snprintf(what, sizeof(what),
				       "is on %s, where SQLite's log does not work; set store.dir "
				       "to a local disk",
				       remote[i].name);
			return say(-ENOTSUP, ret_error, dir, what);
		}
	}
	return 0;
}

static int take_lock(struct place *p, const char *dir, char ret_error[PLACE_ERROR_MAX])
{
	p->lock_fd = openat(p->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->lock_fd < 0)
		return say(-errno, ret_error, dir, strerror(errno));
	if (flock(p->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? say(-EBUSY, ret_error, dir, "another wbxd has it open")
			       : say(-errno, ret_error, dir, strerror(errno));
	return 0;
}

/* A line of text from a file, without its end; "" when there is none. */
static void read_line(int dir_fd, const char *path, char ret[MACHINE_ID_MAX])
{
	auto_fd int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, ret, MACHINE_ID_MAX - 1);

	ret[n > 0 ? n : 0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
}

static int write_line(int dir_fd, const char *name, const char *text)
{
	auto_fd int fd =
		openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_pwrite_all(fd, text, strlen(text), 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

/* A copied store would send the same backlog from two machines, over one another's lines. */
static int check_machine(const struct place *p, const char *dir, bool adopt,
			 char ret_error[PLACE_ERROR_MAX])
{
	char here[MACHINE_ID_MAX];
	char made[MACHINE_ID_MAX];
	int r;

	read_line(AT_FDCWD, "/etc/machine-id", here);
	read_line(p->dir_fd, "machine-id", made);
	if (here[0] == '\0' || strcmp(here, made) == 0)
		return 0;
	if (made[0] != '\0' && !adopt)
		return say(-EXDEV, ret_error, dir,
			   "was made on another machine. If it was moved here, and that machine no "
			   "longer uses it, "
			   "start once with --adopt-store");
	r = write_line(p->dir_fd, "machine-id", here);
	return r < 0 ? say(r, ret_error, dir, strerror(-r)) : 0;
}

int place_open(struct place *ret, const char *dir, bool adopt, char ret_error[PLACE_ERROR_MAX])
{
	int r = 0;

	*ret = (struct place){.dir_fd = -1, .lock_fd = -1};
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return say(-errno, ret_error, dir, strerror(errno));
	ret->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->dir_fd < 0)
		return say(-errno, ret_error, dir, strerror(errno));
	r = check_filesystem(ret, dir, ret_error);
	if (r == 0)
		r = take_lock(ret, dir, ret_error);
	if (r == 0)
		r = check_machine(ret, dir, adopt, ret_error);
	if (r < 0)
		place_close(ret);
	return r;
}

void place_close(struct place *p)
{
	p->lock_fd = fd_close(p->lock_fd);
	p->dir_fd = fd_close(p->dir_fd);
}

int place_room(const struct place *p, uint64_t *ret_free, uint64_t *ret_total)
{
	struct statvfs fs;

	if (fstatvfs(p->dir_fd, &fs) < 0)
		return -errno;
	*ret_free = (uint64_t)fs.f_bavail * fs.f_frsize;
	*ret_total = (uint64_t)fs.f_blocks * fs.f_frsize;
	return 0;
}
