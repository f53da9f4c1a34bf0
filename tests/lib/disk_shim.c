/* Preloaded into wbxd or a trainer: a disk that fails when it is told to, and a log of what reached
 * it.
 *
 * WBX_DISK_RULES names a file of struct rule, mapped and shared with the test, which turns rules on
 * and off while the process runs. WBX_DISK_LOG names a file to which everything is appended that
 * changes files below WBX_DISK_ROOT, and every sync of them: from it the test builds what a disk
 * holds after a power cut. What SQLite writes through a mapping (the -shm file) is never seen here;
 * it has no meaning after a crash. tests/lib/disk.py is the other side. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	RULES = 8,
	PATH_BYTES = 4096,
	RULE_PATH_BYTES = 96
};

enum op {
	OP_OPEN,
	OP_WRITE,
	OP_SYNC,
	OP_TRUNCATE,
	OP_RENAME,
	OP_UNLINK,
	OP_ALLOCATE,
	OP_READ,
	OP_MKDIR,
};

struct rule {
	uint32_t active;
	uint32_t ops; /* 1 << enum op */
	uint32_t error;
	uint32_t skip;              /* so many go well first */
	int32_t count;              /* then so many fail; -1: all */
	uint32_t bytes;             /* a write with error 0 takes only so many */
	_Atomic uint32_t hits;      /* for the test to wait for */
	uint32_t delay_us;          /* ... after so long; with error 0 and all bytes only slow */
	char path[RULE_PATH_BYTES]; /* what the path must hold; see matches() */
};

enum entry_kind {
	ENTRY_WRITE,
	ENTRY_TRUNCATE,
	ENTRY_SYNC,
	ENTRY_SYNC_FAILED,
	ENTRY_SYNC_DIR,
	ENTRY_CREATE,
	ENTRY_RENAME,
	ENTRY_UNLINK,
	ENTRY_MKDIR,
};

struct entry {
	uint32_t kind;
	uint32_t path_len; /* of the path, or of two with a NUL between them */
	uint64_t inode;
	uint64_t at; /* offset, or size */
	uint64_t len;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule *rules;
static int log_fd = -1;
static char root[PATH_BYTES];

__attribute__((constructor)) static void begin(void)
{
	const char *rules_path = getenv("WBX_DISK_RULES");
	const char *log_path = getenv("WBX_DISK_LOG");
	const char *root_path = getenv("WBX_DISK_ROOT");
	int fd;

	if (rules_path != NULL) {
		fd = (int)syscall(SYS_openat, AT_FDCWD, rules_path, O_RDWR | O_CLOEXEC, 0);
		rules = mmap(NULL, RULES * sizeof(struct rule), PROT_READ | PROT_WRITE, MAP_SHARED,
			     fd, 0);
		if (rules == MAP_FAILED)
			abort();
		(void)close(fd);
	}
	if (log_path != NULL && root_path != NULL) {
		(void)snprintf(root, sizeof(root), "%s/", root_path);
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, log_path,
				      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		if (log_fd < 0)
			abort();
	}
}

/* --- paths --- */

static void path_of_fd(int fd, char ret[PATH_BYTES])
{
	char link[32];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, ret, PATH_BYTES - 1);
	ret[n < 0 ? 0 : n] = '\0';
}

static void path_at(int dir, const char *name, char ret[PATH_BYTES])
{
	size_t len = 0;

	if (name[0] != '/' && dir != AT_FDCWD) {
		path_of_fd(dir, ret);
		len = strlen(ret);
		ret[len++] = '/';
	}
	(void)snprintf(ret + len, PATH_BYTES - len, "%s", name);
}

static bool is_watched(const char *path)
{
	size_t len = strlen(path);

	return log_fd >= 0 && strncmp(path, root, strlen(root)) == 0 &&
	       (len < 4 || strcmp(path + len - 4, "-shm") != 0);
}

static bool is_on(void)
{
	for (int i = 0; rules != NULL && i < RULES; i++) {
		if (rules[i].active != 0)
			return true;
	}
	return log_fd >= 0;
}

/* --- rules --- */

/* A '$' at the end of a rule's path stands for the end. */
static bool matches(const struct rule *r, const char *path)
{
	size_t want = strnlen(r->path, RULE_PATH_BYTES);
	size_t len = strlen(path);

	if (want == 0 || r->path[want - 1] != '$')
		return strstr(path, r->path) != NULL;
	return len >= want - 1 && strncmp(path + len - (want - 1), r->path, want - 1) == 0;
}

/* 0, or the errno that this operation ends with; may cut *len. lock held. */
static int judge(enum op op, const char *path, size_t *len)
{
	for (int i = 0; rules != NULL && i < RULES; i++) {
		struct rule *r = &rules[i];

		if (r->active == 0 || (r->ops & 1u << op) == 0 || !matches(r, path) ||
		    r->count == 0)
			continue;
		if (r->skip > 0) {
			r->skip--;
			continue;
		}
		if (r->count > 0)
			r->count--;
		r->hits++;
		if (r->delay_us > 0)
			(void)usleep(r->delay_us); /* with the lock held: it is one disk */
		if (r->error != 0)
			return (int)r->error;
		if (len != NULL && *len > r->bytes)
			*len = r->bytes;
	}
	return 0;
}

static int judge_path(enum op op, const char *path)
{
	return judge(op, path, NULL);
}

/* --- log --- */

static void put(const void *bytes, size_t len)
{
	if (len > 0 && syscall(SYS_write, log_fd, bytes, len) != (long)len)
		abort(); /* the test's own disk */
}

static void note(enum entry_kind kind, const char *path, const char *to, uint64_t inode,
		 uint64_t at, const struct iovec *data)
{
	size_t to_len = to == NULL ? 0 : strlen(to) + 1;
	struct entry e = {.kind = kind,
			  .path_len = (uint32_t)(strlen(path) + to_len),
			  .inode = inode,
			  .at = at,
			  .len = data == NULL ? 0 : data->iov_len};

	put(&e, sizeof(e));
	put(path, strlen(path));
	put("", to == NULL ? 0 : 1);
	put(to, to == NULL ? 0 : strlen(to));
	if (data != NULL)
		put(data->iov_base, data->iov_len);
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

/* --- the operations --- */

static int open_at(int dir, const char *name, int flags, mode_t mode)
{
	char path[PATH_BYTES];
	struct stat st;
	bool is_new;
	int e;
	int fd;

	if (!is_on())
		return (int)syscall(SYS_openat, dir, name, flags, mode);
	path_at(dir, name, path);
	(void)pthread_mutex_lock(&lock);
	e = (flags & (O_WRONLY | O_RDWR)) != 0 ? judge_path(OP_OPEN, path) : 0;
	is_new = (flags & O_CREAT) != 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
	fd = e != 0 ? -1 : (int)syscall(SYS_openat, dir, name, flags, mode);
	if (e == 0)
		e = errno;
	if (fd >= 0 && is_watched(path)) {
		if (is_new)
			note(ENTRY_CREATE, path, NULL, inode_of(fd), 0, NULL);
		if ((flags & O_TRUNC) != 0)
			note(ENTRY_TRUNCATE, path, NULL, inode_of(fd), 0, NULL);
	}
	(void)pthread_mutex_unlock(&lock);
	if (fd < 0)
		errno = e;
	return fd;
}

/* flags of a write() without an offset: -1. */
static ssize_t write_at(int fd, const struct iovec *iov, int count, off_t offset)
{
	char path[PATH_BYTES];
	struct iovec one = {.iov_len = 0};
	char *bytes = NULL;
	ssize_t n = -1;
	int e;

	for (int i = 0; i < count; i++)
		one.iov_len += iov[i].iov_len;
	one.iov_base = bytes = malloc(one.iov_len + 1);
	if (bytes == NULL)
		abort();
	for (int i = 0; i < count; i++) {
		memcpy(bytes, iov[i].iov_base, iov[i].iov_len);
		bytes += iov[i].iov_len;
	}
	path_of_fd(fd, path);
	(void)pthread_mutex_lock(&lock);
	e = judge(OP_WRITE, path, &one.iov_len);
	if (e == 0 && offset < 0 && is_watched(path))
		offset = (off_t)lseek(fd, 0, SEEK_CUR);
	if (e == 0) {
		n = offset < 0 ? syscall(SYS_write, fd, one.iov_base, one.iov_len)
			       : syscall(SYS_pwrite64, fd, one.iov_base, one.iov_len, offset);
		e = errno;
	}
	if (n >= 0 && is_watched(path)) {
		one.iov_len = (size_t)n;
		note(ENTRY_WRITE, path, NULL, inode_of(fd), (uint64_t)offset, &one);
	}
	(void)pthread_mutex_unlock(&lock);
	free(one.iov_base);
	if (n < 0)
		errno = e;
	return n;
}

static int sync_fd(int fd, long call)
{
	char path[PATH_BYTES];
	struct stat st = {0};
	int e;
	int r = -1;

	if (!is_on())
		return (int)syscall(call, fd);
	path_of_fd(fd, path);
	(void)fstat(fd, &st);
	(void)pthread_mutex_lock(&lock);
	e = judge_path(OP_SYNC, path);
	if (e == 0) {
		r = (int)syscall(call, fd);
		e = errno;
	}
	if (S_ISDIR(st.st_mode))
		(void)strcat(path, "/"); /* NOLINT: paths of tests are short */
	if (is_watched(path) && (r == 0 || !S_ISDIR(st.st_mode)))
		note(S_ISDIR(st.st_mode) ? ENTRY_SYNC_DIR
		     : r == 0            ? ENTRY_SYNC
					 : ENTRY_SYNC_FAILED,
		     path, NULL, (uint64_t)st.st_ino, 0, NULL);
	(void)pthread_mutex_unlock(&lock);
	if (r < 0)
		errno = e;
	return r;
}

static int truncate_fd(int fd, off_t size)
{
	char path[PATH_BYTES];
	int e;
	int r = -1;

	if (!is_on())
		return (int)syscall(SYS_ftruncate, fd, size);
	path_of_fd(fd, path);
	(void)pthread_mutex_lock(&lock);
	e = judge_path(OP_TRUNCATE, path);
	if (e == 0) {
		r = (int)syscall(SYS_ftruncate, fd, size);
		e = errno;
	}
	if (r == 0 && is_watched(path))
		note(ENTRY_TRUNCATE, path, NULL, inode_of(fd), (uint64_t)size, NULL);
	(void)pthread_mutex_unlock(&lock);
	if (r < 0)
		errno = e;
	return r;
}

static int rename_at(int from_dir, const char *from, int to_dir, const char *to)
{
	char from_path[PATH_BYTES];
	char to_path[PATH_BYTES];
	struct stat st;
	int e;
	int r = -1;

	path_at(from_dir, from, from_path);
	path_at(to_dir, to, to_path);
	(void)pthread_mutex_lock(&lock);
	e = judge_path(OP_RENAME, to_path);
	if (e == 0) {
		r = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
		e = errno;
	}
	if (r == 0 && is_watched(to_path))
		note(ENTRY_RENAME, from_path, to_path,
		     fstatat(to_dir, to, &st, 0) < 0 ? 0 : (uint64_t)st.st_ino, 0, NULL);
	(void)pthread_mutex_unlock(&lock);
	if (r < 0)
		errno = e;
	return r;
}

static int name_op(enum op op, int dir, const char *name, unsigned more)
{
	char path[PATH_BYTES];
	int e;
	int r = -1;

	path_at(dir, name, path);
	(void)pthread_mutex_lock(&lock);
	e = judge_path(op, path);
	if (e == 0) {
		r = (int)syscall(op == OP_MKDIR ? SYS_mkdirat : SYS_unlinkat, dir, name, more);
		e = errno;
	}
	if (r == 0 && is_watched(path))
		note(op == OP_MKDIR ? ENTRY_MKDIR : ENTRY_UNLINK, path, NULL, 0, 0, NULL);
	(void)pthread_mutex_unlock(&lock);
	if (r < 0)
		errno = e;
	return r;
}

/* --- what the C library calls them; with 64-bit offsets open() is open64(), and so on --- */

#define SHIM __attribute__((visibility("default")))
#define MODE_OF(flags)                                                                             \
	va_list args;                                                                              \
	mode_t mode = 0;                                                                           \
	va_start(args, flags);                                                                     \
	if (((flags) & (O_CREAT | O_TMPFILE)) != 0)                                                \
		mode = va_arg(args, mode_t);                                                       \
	va_end(args)

SHIM int open(const char *path, int flags, ...)
{
	MODE_OF(flags);
	return open_at(AT_FDCWD, path, flags, mode);
}

SHIM int openat(int dir, const char *path, int flags, ...)
{
	MODE_OF(flags);
	return open_at(dir, path, flags, mode);
}

SHIM ssize_t write(int fd, const void *bytes, size_t len)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
	struct stat st;

	/* a signal handler writes to a pipe, perhaps on a thread that holds the lock */
	if (!is_on() || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return syscall(SYS_write, fd, bytes, len);
	return write_at(fd, &iov, 1, -1);
}

SHIM ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

	return is_on() ? write_at(fd, &iov, 1, offset)
		       : syscall(SYS_pwrite64, fd, bytes, len, offset);
}

SHIM ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	return write_at(fd, iov, count, offset);
}

SHIM ssize_t pread(int fd, void *bytes, size_t len, off_t offset)
{
	char path[PATH_BYTES];
	int e = 0;

	if (is_on()) {
		path_of_fd(fd, path);
		(void)pthread_mutex_lock(&lock);
		e = judge(OP_READ, path, &len);
		(void)pthread_mutex_unlock(&lock);
	}
	if (e == 0)
		return syscall(SYS_pread64, fd, bytes, len, offset);
	errno = e;
	return -1;
}

SHIM int fsync(int fd)
{
	return sync_fd(fd, SYS_fsync);
}

SHIM int fdatasync(int fd)
{
	return sync_fd(fd, SYS_fdatasync);
}

SHIM int ftruncate(int fd, off_t size)
{
	return truncate_fd(fd, size);
}

SHIM int posix_fallocate(int fd, off_t offset, off_t len)
{
	char path[PATH_BYTES];
	int e;

	path_of_fd(fd, path);
	(void)pthread_mutex_lock(&lock);
	e = judge_path(OP_ALLOCATE, path);
	(void)pthread_mutex_unlock(&lock);
	if (e == 0 && syscall(SYS_fallocate, fd, 0, offset, len) < 0)
		e = errno;
	return e;
}

SHIM int rename(const char *from, const char *to)
{
	return rename_at(AT_FDCWD, from, AT_FDCWD, to);
}

SHIM int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return rename_at(from_dir, from, to_dir, to);
}

SHIM int unlink(const char *path)
{
	return name_op(OP_UNLINK, AT_FDCWD, path, 0);
}

SHIM int unlinkat(int dir, const char *name, int flags)
{
	return name_op(OP_UNLINK, dir, name, (unsigned)flags);
}

SHIM int mkdir(const char *path, mode_t mode)
{
	return name_op(OP_MKDIR, AT_FDCWD, path, mode);
}

SHIM int mkdirat(int dir, const char *name, mode_t mode)
{
	return name_op(OP_MKDIR, dir, name, mode);
}
