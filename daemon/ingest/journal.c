/* See journal.h. The files are other people's: they are opened by directory, never followed, never
 * mapped (a file cut under a mapping is SIGBUS), and nothing in them is believed. A free lock means
 * that the owner and all its forks are dead. */
#include "daemon/ingest/journal.h"

#include "daemon/base/fd.h"
#include "daemon/base/log.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"
#include "proto/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens dir/name when it is a plain file with one name. The fd, or -errno. */
static int open_plain(int dir, const char *name, struct stat *ret_stat)
{
	auto_fd int fd =
		openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_stat) < 0)
		return -errno;
	if (!S_ISREG(ret_stat->st_mode) || ret_stat->st_nlink != 1)
		return -EINVAL;
	return take_fd(&fd);
}

/* --- a look at the directories --- */

/* The place of a new entry of this user when he has all that one look takes of him: a random one of
 * his, so that in time each has its turn. NULL: he has fewer. */
static struct scan_entry *place_of_crowd(struct scan_job *j, uint32_t uid)
{
	size_t count = 0;
	size_t chosen;

	for (size_t i = 0; i < j->count; i++)
		count += j->entries[i].uid == uid;
	if (count < SCAN_OF_UID_MAX)
		return NULL;
	chosen = (size_t)rng_below(&j->rng, count);
	for (size_t i = 0; i < j->count; i++) {
		if (j->entries[i].uid == uid && chosen-- == 0)
			return &j->entries[i];
	}
	return NULL;
}

static int add_entry(struct scan_job *j, const struct scan_entry *e)
{
	struct scan_entry *place = j->count < SCAN_OF_UID_MAX ? NULL : place_of_crowd(j, e->uid);
	int r;

	if (place != NULL) {
		*place = *e;
		return 0;
	}
	if (j->count == SCAN_MAX)
		return 0; /* of more users than a machine has */
	r = mem_room(j->entries, j->count, j->cap);
	if (r == 0)
		j->entries[j->count++] = *e;
	return r;
}

static void count_dead(struct scan_job *j, const struct stat *st, bool is_spool)
{
	int64_t written_us = (int64_t)st->st_mtim.tv_sec * 1000000;

	if (is_spool)
		j->bytes += (uint64_t)st->st_size;
	if (j->oldest_us == 0 || written_us < j->oldest_us)
		j->oldest_us = written_us;
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name);
	size_t m = strlen(end);

	return n >= m && strcmp(name + n - m, end) == 0;
}

static void look_at_file(struct scan_job *j, int dir, const char *name)
{
	struct scan_entry e = {0};
	bool is_spool = false;
	bool is_new;
	struct stat st = {0};
	auto_fd int fd = -1;

	if (ends_with(name, ".bad"))
		j->bad++;
	if (!journal_name_parse(name, e.producer, &is_spool) && !ends_with(name, ".new"))
		return;
	fd = open_plain(dir, name, &st);
	if (fd == -EACCES)
		j->unreadable++;
	if (fd < 0)
		return; /* gone in between, or not ours to read */
	is_new = ends_with(name, ".new");
	if (is_new && (int64_t)(clock_wall_us() / 1000000) - st.st_mtim.tv_sec <= STALE_NEW_FILE_S)
		return; /* its owner is about to lock it */
	e.uid = st.st_uid;
	e.gid = st.st_gid;
	/* shared, so that two looks do not see one another */
	e.alive = flock(fd, LOCK_SH | LOCK_NB) < 0;
	if (is_new) {
		if (!e.alive)
			(void)unlinkat(dir, name, 0); /* next look tries again */
		return;
	}
	if (!e.alive)
		count_dead(j, &st, is_spool);
	if (add_entry(j, &e) < 0)
		log_warn("journal", "out of memory: some journals wait for the next look");
}

static void look_at_dir(struct scan_job *j, const char *path)
{
	DIR *list = opendir(path);
	const struct dirent *entry;

	if (list == NULL) {
		log_warn("journal", "dir=%s errno=%d cannot be read", path, errno);
		return;
	}
	while ((entry = readdir(list)) != NULL)
		look_at_file(j, dirfd(list), entry->d_name);
	(void)closedir(list); /* read only */
}

static enum job_result scan_step(struct job *job, struct reader *reader)
{
	struct scan_job *j = container_of(job, struct scan_job, job);

	(void)reader;
	j->count = 0;
	j->bytes = 0;
	j->oldest_us = 0;
	j->bad = j->unreadable = 0;
	look_at_dir(j, j->journal_dir);
	look_at_dir(j, j->spool_dir);
	return JOB_DONE;
}

struct scan_job *scan_job_new(const char *journal_dir, const char *spool_dir,
			      struct mailbox *reply_to)
{
	struct scan_job *j = mem_zalloc(sizeof(*j));

	if (j == NULL)
		return NULL;
	j->job = (struct job){.mail = {.type = MAIL_SCAN}, .step = scan_step, .reply_to = reply_to};
	j->journal_dir = journal_dir;
	j->spool_dir = spool_dir;
	j->rng.state = clock_wall_us();
	return j;
}

struct scan_job *scan_job_free(struct scan_job *j)
{
	if (j == NULL)
		return NULL;
	(void)mem_free(j->entries);
	return mem_free(j);
}

/* --- one dead producer --- */

struct replay_file {
	int fd;
	int dir_fd; /* borrowed */
	char name[JOURNAL_NAME_MAX];
	struct journal_header header;
	uint8_t head_bytes[JOURNAL_HEADER];
};

struct replay_files {
	int journal_dir;
	int spool_dir;
	struct replay_file **items; /* by start */
	size_t count;
	size_t at;      /* the one being read */
	uint64_t place; /* in it */
};

static struct replay_files *files_free(struct replay_files *f)
{
	if (f == NULL)
		return NULL;
	for (size_t i = 0; i < f->count; i++) {
		f->items[i]->fd = fd_close(f->items[i]->fd);
		(void)mem_free(f->items[i]);
	}
	(void)mem_free(f->items);
	f->journal_dir = fd_close(f->journal_dir);
	f->spool_dir = fd_close(f->spool_dir);
	return mem_free(f);
}

static int by_start(const void *a, const void *b)
{
	uint64_t x = (*(struct replay_file *const *)a)->header.start;
	uint64_t y = (*(struct replay_file *const *)b)->header.start;

	return x < y ? -1 : x > y;
}

static int read_header(struct replay_file *file, const struct stat *st)
{
	int r = fd_pread_all(file->fd, file->head_bytes, JOURNAL_HEADER, 0);

	if (r < 0)
		return r == -ENODATA ? -EBADMSG : r;
	return journal_header_read(file->head_bytes, (uint64_t)st->st_size, &file->header);
}

static int add_file(struct replay_job *j, struct replay_files *f, int dir, const char *name)
{
	struct replay_file *file = mem_zalloc(sizeof(*file));
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
	struct replay_file **grown = mem_realloc(f->items, (f->count + 1) * sizeof(*grown));
	struct stat st = {0};
	int r;

	if (grown != NULL)
		f->items = grown;
	if (file == NULL || grown == NULL) {
		(void)mem_free(file);
		return -ENOMEM;
	}
	f->items[f->count++] = file;
	file->dir_fd = dir;
	(void)snprintf(file->name, sizeof(file->name), "%s", name); /* it parsed, so it fits */
	file->fd = open_plain(dir, name, &st);
	if (file->fd < 0)
		return file->fd;
	if (flock(file->fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (f->count > 1 && st.st_uid != j->uid)
		return -EBADMSG; /* somebody else's file under this producer's name */
	j->uid = st.st_uid;
	r = read_header(file, &st);
	if (r == 0 && memcmp(file->header.producer, j->producer, PRODUCER_BYTES) != 0)
		r = -EBADMSG;
	return r;
}

static int add_files_of(struct replay_job *j, struct replay_files *f, int dir)
{
	int copy = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;
	int r = 0;

	if (list == NULL) {
		(void)fd_close(copy);
		return -errno;
	}
	rewinddir(list);
	while (r == 0 && (entry = readdir(list)) != NULL) {
		uint8_t producer[PRODUCER_BYTES];
		bool is_spool;

		if (journal_name_parse(entry->d_name, producer, &is_spool) &&
		    memcmp(producer, j->producer, PRODUCER_BYTES) == 0)
			r = add_file(j, f, dir, entry->d_name);
	}
	(void)closedir(list); /* read only */
	return r;
}

static int open_files(struct replay_job *j)
{
	struct replay_files *f = mem_zalloc(sizeof(*f));
	int r;

	if (f == NULL)
		return -ENOMEM;
	j->files = f;
	f->journal_dir = open(j->journal_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->spool_dir = open(j->spool_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->journal_dir < 0 || f->spool_dir < 0)
		return -errno;
	r = add_files_of(j, f, f->journal_dir);
	if (r == 0)
		r = add_files_of(j, f, f->spool_dir);
	if (r == 0 && f->count == 0)
		r = -ENOENT;
	if (r < 0)
		return r;
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
	qsort(f->items, f->count, sizeof(*f->items), by_start);
	f->place = f->items[0]->header.head;
	buf_clear(&j->chunk);
	return buf_add(&j->chunk, f->items[0]->header.hello.at, f->items[0]->header.hello.len);
}

/* Whole frames from the front of what was read at f->place; the place moves behind them. */
static void take_whole_frames(struct replay_files *f, struct buf *chunk, bool to_end)
{
	const struct journal_header *h = &f->items[f->at]->header;
	size_t used = 0;

	while (used < chunk->len) {
		struct span payload;
		size_t size;

		if (!h->is_spool && chunk->data[used] == JOURNAL_WRAP) {
			f->place += journal_run(h, f->place + used) + used;
			chunk->len = used;
			return;
		}
		switch (frame_next(
			(struct span){.at = chunk->data + used, .len = chunk->len - used},
			RECORD_MAX, &payload, &size)) {
		case FRAME_READY: used += size; continue;
		case FRAME_NEED_MORE: break;
		case FRAME_TOO_BIG:
		case FRAME_BAD:
			used = chunk->len;
			continue; /* the session will see it and say so */
		}
		break;
	}
	f->place += used;
	if (to_end && h->is_spool && used < chunk->len)
		f->place = h->tail; /* a frame that its writer did not finish: that call never
				       returned */
	chunk->len = used;
}

static int read_chunk(struct replay_job *j)
{
	struct replay_files *f = j->files;
	const struct replay_file *file;
	uint64_t from;
	uint64_t left;
	int r;

	buf_clear(&j->chunk);
	while (f->at < f->count && f->place >= f->items[f->at]->header.tail) {
		f->at++;
		if (f->at < f->count)
			f->place = f->items[f->at]->header.head;
	}
	j->is_end = f->at == f->count;
	if (j->is_end)
		return 0;
	file = f->items[f->at];
	from = f->place;
	left = file->header.tail - f->place;
	if (!file->header.is_spool && left > journal_run(&file->header, f->place))
		left = journal_run(&file->header, f->place);
	if (left > REPLAY_CHUNK)
		left = REPLAY_CHUNK;
	r = buf_reserve(&j->chunk, (size_t)left);
	if (r == 0)
		r = fd_pread_all(file->fd, j->chunk.data, (size_t)left,
				 (off_t)journal_offset(&file->header, f->place));
	if (r < 0)
		return r == -ENODATA ? -EBADMSG : r;
	j->chunk.len = (size_t)left;
	take_whole_frames(f, &j->chunk, f->place + left == file->header.tail);
	return f->place == from ? -EBADMSG : 0; /* a frame that would reach beyond its ring */
}

static void remove_files(const struct replay_files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		if (unlinkat(f->items[i]->dir_fd, f->items[i]->name, 0) < 0 && errno != ENOENT)
			log_warn("journal",
				 "file=%s errno=%d cannot be removed; its records will come again "
				 "and be dropped as duplicates",
				 f->items[i]->name, errno);
	}
}

static void spoil_files(const struct replay_files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		char bad[JOURNAL_NAME_MAX + 8];

		(void)snprintf(bad, sizeof(bad), "%s.bad", f->items[i]->name); /* fits */
		if (renameat(f->items[i]->dir_fd, f->items[i]->name, f->items[i]->dir_fd, bad) < 0)
			log_warn("journal", "file=%s errno=%d cannot be put aside",
				 f->items[i]->name, errno);
		else
			log_error("journal", "file=%s cannot be read as records; kept as %s",
				  f->items[i]->name, bad);
	}
}

static enum job_result replay_step(struct job *job, struct reader *reader)
{
	struct replay_job *j = container_of(job, struct replay_job, job);

	(void)reader;
	switch (j->next) {
	case REPLAY_OPEN: j->result = open_files(j); return JOB_DONE;
	case REPLAY_READ: j->result = read_chunk(j); return JOB_DONE;
	case REPLAY_REMOVE: remove_files(j->files); break;
	case REPLAY_SPOIL: spoil_files(j->files); break;
	case REPLAY_CLOSE: break;
	}
	j->files = files_free(j->files);
	j->result = 0;
	return JOB_DONE;
}

struct replay_job *replay_job_new(const char *journal_dir, const char *spool_dir,
				  struct mailbox *reply_to)
{
	struct replay_job *j = mem_zalloc(sizeof(*j));

	if (j == NULL)
		return NULL;
	j->job = (struct job){
		.mail = {.type = MAIL_REPLAY}, .step = replay_step, .reply_to = reply_to};
	j->journal_dir = journal_dir;
	j->spool_dir = spool_dir;
	buf_init(&j->chunk, REPLAY_CHUNK);
	return j;
}

struct replay_job *replay_job_free(struct replay_job *j)
{
	if (j == NULL)
		return NULL;
	j->files = files_free(j->files);
	buf_done(&j->chunk);
	return mem_free(j);
}
