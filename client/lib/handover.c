/* See artifact.h: artifacts that are too big to go at once. What is to be done stands in a file beside the
 * copies, written before anything is promised: so another process can go on where this one ended. A thread
 * of its own hands the bytes over, through a connection of its own; the file is locked as long as a
 * process is at it. */
#include "client/lib/artifact.h"
#include "proto/base/mem.h"
#include "proto/base/rng.h"
#include "proto/mp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_VERSION = 1,
	FILE_BYTES_MAX = 64 << 20,
	FLUSH_MS = 600000,
	CLOSE_MS = 10000,
	TRIES = 60,
	TRY_S = 5,
};
#define FILE_NAME "artifact"

/* One after the other, so that a process hands over its artifacts in their order. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

/* --- the file --- */

static void pack_entry(struct pack *p, const struct artifact_entry *e)
{
	pack_map(p, 7);
	pack_pair_text(p, "path", e->path);
	pack_pair_text(p, "source", e->source);
	pack_pair_bool(p, "own", e->is_own);
	pack_pair_bool(p, "table", e->is_table);
	pack_pair_int(p, "size", e->size);
	pack_pair_text(p, "ref", e->ref);
	pack_pair_text(p, "digest", e->digest);
}

static int pack_file(struct buf *ret, const struct wbx_run *run, const struct wbx_artifact *a,
		     const struct artifact_head *head)
{
	struct pack p;

	pack_init(&p, ret);
	pack_map(&p, 12);
	pack_pair_uint(&p, "v", FILE_VERSION);
	pack_pair_text(&p, "socket", run->w->place.socket);
	pack_pair_text(&p, "run", run->id);
	pack_pair_text(&p, "project", run->project);
	pack_pair_text(&p, "entity", run->entity);
	pack_pair_text(&p, "token", run->token);
	pack_pair_text(&p, "id", a->id);
	pack_pair_text(&p, "name", a->name);
	pack_pair_text(&p, "type", a->type);
	pack_pair_uint(&p, "pairs", head->count);
	pack_pair_bin(&p, "head", buf_span(&head->pairs));
	pack_text(&p, "entries");
	pack_array(&p, a->count);
	for (size_t i = 0; i < a->count; i++)
		pack_entry(&p, &a->entries[i]);
	return ret->error;
}

static int write_whole(const char *path, const struct buf *bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = buf_write(bytes, fd);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

/* Small files, which are in memory, become files of the stage. */
static int stage_bytes(struct wbx_artifact *a)
{
	char path[STAGE_PATH_MAX];

	for (size_t i = 0; i < a->count; i++) {
		struct artifact_entry *e = &a->entries[i];
		int r;

		if (e->source != NULL || e->ref != NULL || e->size == 0)
			continue;
		(void)snprintf(path, sizeof(path), "%.4000s/%zu", a->stage, i); /* fits */
		r = write_whole(path, &e->bytes);
		if (r == 0)
			e->source = mem_strdup(path);
		if (r < 0 || e->source == NULL)
			return r < 0 ? r : -ENOMEM;
		e->is_own = true;
		buf_done(&e->bytes);
	}
	return 0;
}

static int write_file(const struct wbx_run *run, const struct wbx_artifact *a,
		      const struct artifact_head *head)
{
	char path[STAGE_PATH_MAX];
	char new_path[STAGE_PATH_MAX];
	auto_buf struct buf bytes;
	int r;

	buf_init(&bytes, FILE_BYTES_MAX);
	r = pack_file(&bytes, run, a, head);
	(void)snprintf(path, sizeof(path), "%.4000s/" FILE_NAME, a->stage); /* fits */
	(void)snprintf(new_path, sizeof(new_path), "%.4000s/" FILE_NAME ".new",
		       a->stage); /* fits */
	if (r == 0)
		r = write_whole(new_path, &bytes);
	if (r == 0 && rename(new_path, path) < 0)
		r = -errno;
	return r;
}

/* --- reading it --- */

struct waiting {
	struct wbx_artifact *a;
	struct artifact_head head;
	char *socket;
	char *run;
	char *project;
	char *entity;
	char *token;
};

static void waiting_done(struct waiting *w)
{
	if (w->a != NULL)
		w->a->is_handed_over = true; /* what is there stays until it is over */
	wbx_artifact_free(w->a);
	buf_done(&w->head.pairs);
	w->socket = mem_free(w->socket);
	w->run = mem_free(w->run);
	w->project = mem_free(w->project);
	w->entity = mem_free(w->entity);
	w->token = mem_free(w->token);
}

static char *text_of(struct mp map, const char *key)
{
	struct span s = mp_get_str(map, key);

	return s.at == NULL ? NULL : mem_strndup((const char *)s.at, s.len);
}

static int read_entry_of(struct wbx_artifact *a, struct mp map)
{
	auto_free char *path = text_of(map, "path");
	struct artifact_entry *e = NULL;
	int r = path == NULL ? -EBADMSG : artifact_add(a, path, &e);

	if (r < 0)
		return r;
	e->source = text_of(map, "source");
	e->ref = text_of(map, "ref");
	e->digest = text_of(map, "digest");
	e->is_own = mp_get_bool(map, "own", false);
	e->is_table = mp_get_bool(map, "table", false);
	e->size = mp_get_int(map, "size", -1);
	a->total += e->ref == NULL && e->size > 0 ? e->size : 0;
	return 0;
}

static int read_entries(struct wbx_artifact *a, struct mp map)
{
	struct mp_value list;
	struct span span;
	struct mp m;
	int r = mp_find_span(map, "entries", &span) < 0 ? -EBADMSG : 0;

	if (r < 0)
		return r;
	m = mp_of(span);
	if (mp_read(&m, &list) < 0 || list.type != MP_ARRAY)
		return -EBADMSG;
	for (uint32_t i = 0; r == 0 && i < list.count; i++) {
		struct span entry;

		r = mp_take(&m, &entry) < 0 ? -EBADMSG : read_entry_of(a, mp_of(entry));
	}
	return r;
}

static int read_map(struct waiting *w, struct mp map, const char *dir)
{
	auto_free char *name = text_of(map, "name");
	auto_free char *type = text_of(map, "type");
	struct span id = mp_get_str(map, "id");
	struct span head = mp_get_bin(map, "head");
	int r;

	if (mp_get_uint(map, "v", 0) != FILE_VERSION)
		return -EPROTO;
	if (name == NULL || type == NULL || id.len != ARTIFACT_ID_CHARS)
		return -EBADMSG;
	r = wbx_artifact_new(&w->a, name, type);
	if (r < 0)
		return r;
	memcpy(w->a->id, id.at, id.len);
	w->a->stage = mem_strdup(dir);
	w->head.count = (unsigned)mp_get_uint(map, "pairs", 0);
	w->socket = text_of(map, "socket");
	w->run = text_of(map, "run");
	w->project = text_of(map, "project");
	w->entity = text_of(map, "entity");
	w->token = text_of(map, "token");
	if (w->a->stage == NULL || w->run == NULL || w->project == NULL)
		return -ENOMEM;
	r = buf_add(&w->head.pairs, head.at, head.len);
	return r == 0 ? read_entries(w->a, map) : r;
}

static int read_bytes(int fd, struct buf *ret)
{
	char room[4096];
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = read(fd, room, sizeof(room))) > 0)
		r = buf_add(ret, room, (size_t)n);
	return r < 0 ? r : n < 0 ? -errno : 0;
}

/* Opens the file of that directory, and takes its lock unless only looking. *ret_fd, to be closed;
 * *ret_busy: a process has the lock. */
static int open_file(const char *dir, int *ret_fd, bool *ret_busy)
{
	char path[STAGE_PATH_MAX];
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int n = snprintf(path, sizeof(path), "%s/" FILE_NAME, dir);
	int fd;

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	*ret_busy = fcntl(fd, F_OFD_SETLK, &lock) < 0;
	*ret_fd = fd;
	return 0;
}

static int waiting_read(struct waiting *w, const char *dir, int fd)
{
	auto_buf struct buf bytes;
	struct mp check;
	int r;

	*w = (struct waiting){.a = NULL};
	buf_init(&w->head.pairs, RECORD_MAX);
	buf_init(&bytes, FILE_BYTES_MAX);
	r = read_bytes(fd, &bytes);
	check = mp_of(buf_span(&bytes));
	if (r == 0 && mp_skip(&check, NULL) < 0)
		r = -EBADMSG;
	if (r == 0)
		r = read_map(w, mp_of(buf_span(&bytes)), dir);
	if (r < 0)
		waiting_done(w);
	return r;
}

/* --- handing over --- */

static int hand_over(const struct waiting *w)
{
	const struct wbx_options options = {.socket = w->socket, .daemon = ""};
	const struct wbx_run_options run_options = {
		.id = w->run, .project = w->project, .entity = w->entity, .token = w->token};
	struct wbx *handle = NULL;
	struct wbx_run *run = NULL;
	int r = wbx_open(&handle, &options);

	if (r < 0)
		return r;
	r = wbx_attach(handle, &run_options, &run);
	if (r == 0)
		r = artifact_emit(run, w->a, &w->head, FLUSH_MS);
	if (run != NULL)
		(void)wbx_finish(run, 0); /* its end is the others' affair */
	if (r == 0)
		r = wbx_close(handle, CLOSE_MS);
	else
		(void)wbx_close(handle, 0); /* the first error is the one to tell */
	return r;
}

static void remove_all(struct waiting *w)
{
	char path[STAGE_PATH_MAX];

	(void)snprintf(path, sizeof(path), "%.4000s/" FILE_NAME, w->a->stage); /* fits */
	(void)unlink(path);
	artifact_remove_stage(w->a);
}

int handover_send(const char *dir)
{
	struct waiting w;
	bool is_busy = false;
	int fd = -1;
	int r = open_file(dir, &fd, &is_busy);

	if (r < 0)
		return r;
	r = is_busy ? -EBUSY : waiting_read(&w, dir, fd);
	if (r == 0) {
		r = hand_over(&w);
		if (r == 0)
			remove_all(&w);
		waiting_done(&w);
	}
	(void)close(fd); /* and with it the lock */
	return r;
}

static void *thread_main(void *arg)
{
	char *dir = arg;
	int r = -ETIMEDOUT;

	(void)pthread_mutex_lock(&one_at_a_time);
	for (unsigned i = 0; i < TRIES && r < 0 && r != -ENOENT && r != -EBUSY; i++) {
		if (i > 0)
			(void)sleep(TRY_S); /* a daemon that is away comes back, perhaps */
		r = handover_send(dir);
	}
	(void)pthread_mutex_unlock(&one_at_a_time);
	(void)mem_free(dir);
	return NULL;
}

int handover_begin(struct wbx_run *run, struct wbx_artifact *a, const struct artifact_head *head)
{
	pthread_t thread;
	char *dir;
	int r = artifact_stage(a);

	if (r == 0)
		r = stage_bytes(a);
	if (r == 0)
		r = write_file(run, a, head);
	if (r == 0)
		r = artifact_announce(run, a);
	if (r < 0)
		return r;
	a->is_handed_over = true;
	dir = mem_strdup(a->stage);
	if (dir != NULL && pthread_create(&thread, NULL, thread_main, dir) == 0) {
		(void)pthread_detach(thread); /* it ends with its work, or with the process */
		return 0;
	}
	state_say(run->w, 1, "artifact %s waits in %s: wbxctl artifact send %s %s", a->name,
		  a->stage, run->id, a->name);
	(void)mem_free(dir);
	return 0;
}

/* --- what waits --- */

static int tell(handover_on_waiting on_waiting, void *arg, const char *dir)
{
	struct handover_info info = {.dir = dir};
	struct waiting w;
	int fd = -1;
	int r = open_file(dir, &fd, &info.is_busy);

	if (r < 0)
		return 0; /* none, or one that is just over */
	r = waiting_read(&w, dir, fd);
	(void)close(fd); /* and with it the lock */
	if (r < 0)
		return 0;
	info.run = w.run;
	info.name = w.a->name;
	info.bytes = w.a->total;
	r = on_waiting(arg, &info);
	waiting_done(&w);
	return r;
}

int handover_list(handover_on_waiting on_waiting, void *arg)
{
	char root[STAGE_PATH_MAX];
	char dir[STAGE_PATH_MAX];
	struct dirent *entry;
	DIR *list;
	int r = artifact_root(root);

	if (r < 0)
		return r;
	list = opendir(root);
	if (list == NULL)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(list)) != NULL) {
		int n = snprintf(dir, sizeof(dir), "%s/%s", root, entry->d_name);

		if (entry->d_name[0] != '.' && n > 0 && (size_t)n < sizeof(dir) - 32)
			r = tell(on_waiting, arg, dir);
	}
	(void)closedir(list);
	return r;
}
