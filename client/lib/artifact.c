/* See wbx.h: what is in an artifact. Small files are read at once; larger ones are copied, cloned or
 * linked, so that the caller may delete them. */
#include "client/lib/artifact.h"

#include "proto/base/mem.h"
#include "proto/base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	READ_AT_ONCE = 1 << 20, /* smaller files stay in memory until they are logged */
	NAME_CHARS_MAX = 128,
	PATH_BYTES_MAX = 4096,
	BASE_NAME_MAX = 16,
};

/* --- names --- */

static bool is_name(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= NAME_CHARS_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
		       len;
}

static bool is_path(const char *path)
{
	const char *at = path;

	if (*at == '\0' || *at == '/' || strlen(path) > PATH_BYTES_MAX)
		return false;
	while (at != NULL) {
		size_t len = strcspn(at, "/");

		if (len == 0 || (len == 1 && at[0] == '.') ||
		    (len == 2 && at[0] == '.' && at[1] == '.'))
			return false;
		at = at[len] == '/' ? at + len + 1 : NULL;
	}
	return true;
}

static int64_t limit_of(const char *name, int64_t fallback)
{
	const char *text = getenv(name);
	long long value = text == NULL ? -1 : strtoll(text, NULL, 10);

	return value < 0 ? fallback : value;
}

/* --- entries --- */

static void entry_done(struct artifact_entry *e)
{
	if (e->is_own && e->source != NULL)
		(void)unlink(e->source); /* it may be gone */
	buf_done(&e->bytes);
	e->path = mem_free(e->path);
	e->source = mem_free(e->source);
	e->ref = mem_free(e->ref);
	e->digest = mem_free(e->digest);
}

int artifact_add(struct wbx_artifact *a, const char *path, struct artifact_entry **ret)
{
	struct artifact_entry *e = NULL;

	if (a == NULL || path == NULL || !is_path(path))
		return -EINVAL;
	for (size_t i = 0; i < a->count && e == NULL; i++)
		e = strcmp(a->entries[i].path, path) == 0 ? &a->entries[i] : NULL;
	if (e != NULL) {
		a->total -= e->size > 0 && e->ref == NULL ? e->size : 0;
		entry_done(e);
	} else if (mem_room(a->entries, a->count, a->cap) < 0) {
		return -ENOMEM;
	} else {
		e = &a->entries[a->count++];
	}
	*e = (struct artifact_entry){.size = -1};
	buf_init(&e->bytes, (size_t)BLOB_MAX);
	e->path = mem_strdup(path);
	if (e->path == NULL) {
		a->count--;
		*e = a->entries[a->count];
		return -ENOMEM;
	}
	*ret = e;
	return 0;
}

static void drop_entry(struct wbx_artifact *a, struct artifact_entry *e)
{
	entry_done(e);
	a->count--;
	*e = a->entries[a->count];
}

int wbx_artifact_add_bytes(struct wbx_artifact *a, const char *path, const void *bytes, size_t len)
{
	struct artifact_entry *e = NULL;
	int r = bytes == NULL && len > 0 ? -EINVAL : artifact_add(a, path, &e);

	if (r < 0)
		return r;
	r = len == 0 ? 0 : buf_add(&e->bytes, bytes, len);
	if (r < 0) {
		drop_entry(a, e);
		return r;
	}
	e->size = (int64_t)len;
	a->total += e->size;
	return 0;
}

int wbx_artifact_add_table(struct wbx_artifact *a, const char *path, const void *columns,
			   size_t columns_len, const void *rows, size_t rows_len)
{
	struct artifact_entry *e = NULL;
	struct pack p;
	int r = columns == NULL || rows == NULL ? -EINVAL : artifact_add(a, path, &e);

	if (r < 0)
		return r;
	pack_init(&p, &e->bytes);
	pack_map(&p, 2);
	pack_text(&p, "columns");
	pack_raw(&p, (struct span){.at = columns, .len = columns_len});
	pack_text(&p, "data");
	pack_raw(&p, (struct span){.at = rows, .len = rows_len});
	r = e->bytes.error;
	if (r < 0) {
		drop_entry(a, e);
		return r;
	}
	e->is_table = true;
	e->size = (int64_t)e->bytes.len;
	a->total += e->size;
	return 0;
}

int wbx_artifact_add_reference(struct wbx_artifact *a, const char *path, const char *uri,
			       const char *digest, int64_t size)
{
	struct artifact_entry *e = NULL;
	int r = uri == NULL || uri[0] == '\0' ? -EINVAL : artifact_add(a, path, &e);

	if (r < 0)
		return r;
	e->ref = mem_strdup(uri);
	e->digest = mem_strdup(digest == NULL || digest[0] == '\0' ? uri : digest);
	e->size = size;
	if (e->ref != NULL && e->digest != NULL)
		return 0;
	drop_entry(a, e);
	return -ENOMEM;
}

/* --- taking files --- */

int artifact_root(char ret[STAGE_PATH_MAX])
{
	const char *own = getenv("WBX_ARTIFACTS");
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int n;

	if (own != NULL && own[0] == '/')
		n = snprintf(ret, STAGE_PATH_MAX, "%s", own);
	else if (state != NULL && state[0] == '/')
		n = snprintf(ret, STAGE_PATH_MAX, "%s/wbx/artifacts", state);
	else if (home != NULL && home[0] == '/')
		n = snprintf(ret, STAGE_PATH_MAX, "%s/.local/state/wbx/artifacts", home);
	else
		return -ENOENT;
	return n < 0 || n >= STAGE_PATH_MAX - 64 ? -ENAMETOOLONG : 0;
}

/* Each directory of the path, for the user alone. */
static int make_dirs(char *path)
{
	for (char *at = path + 1; *at != '\0'; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST) {
			*at = '/';
			return -errno;
		}
		*at = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int artifact_stage(struct wbx_artifact *a)
{
	char path[STAGE_PATH_MAX];
	size_t len;
	int r;

	if (a->stage != NULL)
		return 0;
	r = artifact_root(path);
	if (r < 0)
		return r;
	len = strlen(path);
	(void)snprintf(path + len, sizeof(path) - len, "/%s", a->id); /* there is room */
	r = make_dirs(path);
	if (r == 0)
		a->stage = mem_strdup(path);
	return r == 0 && a->stage == NULL ? -ENOMEM : r;
}

static int copy_all(int from, int to, int64_t size)
{
	while (size > 0) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, (size_t)size, 0);

		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
			static _Thread_local char room[1 << 16];

			n = read(from, room, sizeof(room));
			if (n > 0 && write(to, room, (size_t)n) != n)
				return -ENOSPC;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO; /* it became shorter */
		size -= n > 0 ? n : 0;
	}
	return 0;
}

/* A copy in the stage: a clone when the filesystem can, which costs nothing. */
static int copy_file(struct wbx_artifact *a, struct artifact_entry *e, int fd, bool only_clone)
{
	char path[STAGE_PATH_MAX];
	int r = artifact_stage(a);
	int to;

	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%.4000s/%zu", a->stage,
		       (size_t)(e - a->entries)); /* fits */
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = ioctl(to, FICLONE, fd) == 0 ? 0 : only_clone ? -EOPNOTSUPP : copy_all(fd, to, e->size);
	if (close(to) < 0 && r == 0)
		r = -errno;
	if (r == 0) {
		e->source = mem_strdup(path);
		e->is_own = true;
		r = e->source == NULL ? -ENOMEM : 0;
	}
	if (r < 0)
		(void)unlink(path); /* what is half is of no use */
	return r;
}

/* A link beside the file keeps its bytes when it is deleted or replaced. */
static int link_file(struct wbx_artifact *a, struct artifact_entry *e, const char *local_path)
{
	char real[PATH_MAX];
	char path[PATH_MAX + 64];
	char *slash;

	if (realpath(local_path, real) == NULL)
		return -errno;
	slash = strrchr(real, '/');
	(void)snprintf(path, sizeof(path), "%.*s/.wbx-%s-%zu", (int)(slash - real), real, a->id,
		       (size_t)(e - a->entries)); /* fits */
	e->is_own = link(real, path) == 0;
	e->source = mem_strdup(e->is_own ? path : real); /* else by its name: it must stay */
	return e->source == NULL ? -ENOMEM : 0;
}

static int read_file(struct artifact_entry *e, int fd)
{
	int r = buf_reserve(&e->bytes, (size_t)e->size + 1);

	while (r == 0) {
		ssize_t n = read(fd, e->bytes.data + e->bytes.len, e->bytes.cap - e->bytes.len);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		e->bytes.len += (size_t)n;
		if (e->bytes.len == e->bytes.cap)
			r = buf_reserve(&e->bytes, READ_AT_ONCE);
	}
	e->size = (int64_t)e->bytes.len;
	return r;
}

static int refer_to(struct artifact_entry *e, const char *local_path, const struct stat *st)
{
	char real[PATH_MAX];
	char text[PATH_MAX + 64];

	if (realpath(local_path, real) == NULL)
		return -errno;
	(void)snprintf(text, sizeof(text), "file://%s", real); /* fits */
	e->ref = mem_strdup(text);
	(void)snprintf(text, sizeof(text), "file://%s?size=%lld&mtime=%lld.%09ld", real,
		       (long long)st->st_size, (long long)st->st_mtim.tv_sec,
		       st->st_mtim.tv_nsec); /* fits */
	e->digest = mem_strdup(text);
	return e->ref == NULL || e->digest == NULL ? -ENOMEM : 0;
}

static int64_t copy_max(void)
{
	return limit_of("WBX_ARTIFACT_COPY_MAX", (int64_t)1 << 30);
}

void artifact_expect(struct wbx_artifact *a, int64_t bytes)
{
	if (bytes > copy_max() - a->copied)
		a->copied = copy_max() + 1;
}

static int take_file(struct wbx_artifact *a, struct artifact_entry *e, int fd,
		     const struct stat *st, const char *local_path)
{
	int64_t most = copy_max();
	bool may_copy;
	int r;

	e->size = st->st_size;
	if (e->size > limit_of("WBX_ARTIFACT_MAX", (int64_t)BLOB_MAX))
		return refer_to(e, local_path, st);
	if (e->size <= READ_AT_ONCE)
		return read_file(e, fd);
	may_copy = a->copied <= most && e->size <= most - a->copied;
	r = copy_file(a, e, fd, !may_copy);
	if (r == 0 && may_copy)
		a->copied += e->size;
	return r == 0 || may_copy ? r : link_file(a, e, local_path);
}

int wbx_artifact_add_file(struct wbx_artifact *a, const char *path, const char *local_path)
{
	struct artifact_entry *e = NULL;
	struct stat st;
	int fd;
	int r;

	if (a == NULL || local_path == NULL)
		return -EINVAL;
	fd = open(local_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) ? -EINVAL : 0;
	if (r == 0)
		r = artifact_add(a, path, &e);
	if (r == 0) {
		r = take_file(a, e, fd, &st, local_path);
		if (r == 0)
			a->total += e->ref == NULL ? e->size : 0;
		else
			drop_entry(a, e);
	}
	(void)close(fd); /* read only */
	return r;
}

/* --- life --- */

int wbx_artifact_new(struct wbx_artifact **ret, const char *name, const char *type)
{
	struct wbx_artifact *a;
	int r;

	if (ret == NULL || name == NULL || type == NULL || !is_name(name) || type[0] == '\0' ||
	    strlen(type) > NAME_CHARS_MAX || strpbrk(type, "/:") != NULL)
		return -EINVAL;
	a = mem_zalloc(sizeof(*a));
	if (a == NULL)
		return -ENOMEM;
	a->name = mem_strdup(name);
	a->type = mem_strdup(type);
	r = rng_base36(a->id, ARTIFACT_ID_CHARS);
	if (r == 0 && (a->name == NULL || a->type == NULL))
		r = -ENOMEM;
	if (r < 0) {
		wbx_artifact_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void artifact_remove_stage(struct wbx_artifact *a)
{
	for (size_t i = 0; i < a->count; i++) {
		if (a->entries[i].is_own && a->entries[i].source != NULL)
			(void)unlink(a->entries[i].source); /* it may be gone */
	}
	if (a->stage != NULL)
		(void)rmdir(a->stage); /* it may hold what somebody else put there */
}

void wbx_artifact_free(struct wbx_artifact *a)
{
	if (a == NULL)
		return;
	if (!a->is_handed_over)
		artifact_remove_stage(a);
	for (size_t i = 0; i < a->count; i++) {
		a->entries[i].is_own = false;
		entry_done(&a->entries[i]);
	}
	(void)mem_free(a->entries);
	(void)mem_free(a->stage);
	(void)mem_free(a->name);
	(void)mem_free(a->type);
	(void)mem_free(a);
}
