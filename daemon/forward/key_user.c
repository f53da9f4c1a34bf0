/* See key.h: keys of users, a file each. Read and written by the sender thread, small and seldom. */
#include "daemon/base/fd.h"
#include "daemon/forward/key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char new_name[] = "new";

static void name_of(uint32_t uid, char ret[16])
{
	(void)snprintf(ret, 16, "%u", uid); /* ten digits at most */
}

/* The directory's descriptor, or -errno. */
static int open_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static int read_key(int dir_fd, const char *name, struct key *ret)
{
	char text[API_KEY_MAX + 64];
	auto_fd int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	size_t len = 0;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((st.st_mode & 077) != 0)
		return -EPERM;
	r = fd_pread_some(fd, text, sizeof(text), 0, &len);
	if (r == 0)
		r = key_take(ret, text, len);
	explicit_bzero(text, sizeof(text));
	return r;
}

int key_of_user(struct key *ret, const char *dir, uint32_t uid, char ret_error[256])
{
	struct key found = {.text = ""};
	auto_fd int dir_fd = open_dir(dir);
	char name[16];
	int r = dir_fd;

	name_of(uid, name);
	if (dir_fd >= 0)
		r = read_key(dir_fd, name, &found);
	if (r == -ENOENT)
		return r;
	if (r < 0) {
		(void)snprintf(ret_error, 256, "%.150s/%s: %s", dir, name,
			       r == -EPERM    ? "others may read it; chmod 600"
			       : r == -EINVAL ? "what stands there is no API key"
					      : strerror(-r));
		return -EINVAL;
	}
	(void)snprintf(found.source, sizeof(found.source), "wbxctl key set");
	*ret = found;
	key_forget(&found);
	return 0;
}

static int write_key(int dir_fd, const struct key *k)
{
	auto_fd int fd = openat(dir_fd, new_name,
				O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = fchmod(fd, 0600) < 0 ? -errno : 0;
	if (r == 0)
		r = fd_pwrite_all(fd, k->text, strlen(k->text), 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

int key_keep(const struct key *k, const char *dir, uint32_t uid)
{
	int made = mkdir(dir, 0700) < 0 && errno != EEXIST ? -errno : 0;
	auto_fd int dir_fd = made < 0 ? made : open_dir(dir);
	char name[16];
	int r = dir_fd < 0 ? dir_fd : write_key(dir_fd, k);

	name_of(uid, name);
	if (r == 0 && renameat(dir_fd, new_name, dir_fd, name) < 0)
		r = -errno;
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
	if (r < 0 && dir_fd >= 0)
		(void)unlinkat(dir_fd, new_name, 0); /* a key is not left about */
	return r;
}

int key_remove(const char *dir, uint32_t uid)
{
	auto_fd int dir_fd = open_dir(dir);
	char name[16];

	name_of(uid, name);
	if (dir_fd < 0)
		return dir_fd;
	if (unlinkat(dir_fd, name, 0) < 0)
		return -errno;
	return fsync(dir_fd) < 0 ? -errno : 0;
}
