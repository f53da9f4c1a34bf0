/* See compact.h. The new database is written beside the old one, synced, and put in its place by a
 * rename: VACUUM in place would send every page through the log first. */
#include "daemon/store/compact.h"

#include "daemon/base/fd.h"
#include "daemon/store/db.h"
#include "daemon/store/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SPARE_BYTES = 64 << 20
};
static const char new_name[] = DB_FILE ".compact";

_Static_assert((int)COMPACT_ERROR_MAX >= (int)PLACE_ERROR_MAX &&
		       (int)COMPACT_ERROR_MAX >= (int)DB_ERROR_MAX,
	       "their sentences fit");

static int say(int r, char ret_error[COMPACT_ERROR_MAX], const char *doing)
{
	(void)snprintf(ret_error, COMPACT_ERROR_MAX, "%s: %s; the store is as it was", doing,
		       strerror(-r)); /* a cut sentence still helps */
	return r;
}

static int number(struct db *db, const char *sql, int64_t *ret)
{
	sqlite3_stmt *s = NULL;
	int r = sqlite_errno(sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL));

	if (r == 0)
		r = db_step(s);
	if (r == 1)
		*ret = db_column_int(s, 0);
	(void)sqlite3_finalize(s); /* repeats the step's error */
	return r == 1 ? 0 : r < 0 ? r : -EIO;
}

static int check_room(const struct place *p, struct db *db, char ret_error[COMPACT_ERROR_MAX])
{
	int64_t pages = 0;
	int64_t unused = 0;
	int64_t size = 0;
	uint64_t room = 0;
	uint64_t total = 0;
	int r = number(db, "PRAGMA page_count", &pages);

	if (r == 0)
		r = number(db, "PRAGMA freelist_count", &unused);
	if (r == 0)
		r = number(db, "PRAGMA page_size", &size);
	if (r == 0)
		r = place_room(p, &room, &total);
	if (r < 0)
		return say(r, ret_error, "the store cannot be read");
	if ((uint64_t)((pages - unused) * size) + SPARE_BYTES <= room)
		return 0;
	(void)snprintf(
		ret_error, COMPACT_ERROR_MAX,
		"%lld MiB are needed for the new database and %llu MiB are free on that disk; the "
		"store is as it was",
		(long long)(((pages - unused) * size + SPARE_BYTES) >> 20),
		(unsigned long long)(room >> 20)); /* fits */
	return -ENOSPC;
}

static int write_copy(struct db *db, const char *dir)
{
	sqlite3_stmt *s = NULL;
	char path[4096];
	int r;

	if (snprintf(path, sizeof(path), "%s/%s", dir, new_name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	r = db_exec(db, "PRAGMA temp_store = FILE; PRAGMA wal_checkpoint(TRUNCATE)");
	if (r == 0)
		r = sqlite_errno(sqlite3_prepare_v2(db->handle, "VACUUM INTO ?1", -1, &s, NULL));
	if (r == 0) {
		db_bind_text(s, 1, span_of_text(path));
		r = db_run(s);
	}
	(void)sqlite3_finalize(s); /* repeats the step's error */
	return r;
}

/* The new file is the old one's owner's, when root makes it. */
static int settle_copy(const struct place *p, const struct stat *old)
{
	auto_fd int fd = openat(p->dir_fd, new_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fchmod(fd, old->st_mode & 0777) < 0 ||
	    fchown(fd, old->st_uid, old->st_gid) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

static int replace(const struct place *p)
{
	/* the log is empty and went with the last connection; one that was left would be another
	   database's */
	if ((unlinkat(p->dir_fd, DB_FILE "-wal", 0) < 0 && errno != ENOENT) ||
	    (unlinkat(p->dir_fd, DB_FILE "-shm", 0) < 0 && errno != ENOENT))
		return -errno;
	if (renameat(p->dir_fd, new_name, p->dir_fd, DB_FILE) < 0)
		return -errno;
	return fd_sync_dir(p->dir_fd);
}

static int compact(const struct place *p, const char *dir, const struct stat *old,
		   char ret_error[COMPACT_ERROR_MAX])
{
	struct db db;
	int64_t log_bytes = 1;
	struct stat log;
	int r = db_open_writer(&db, dir, ret_error);

	if (r < 0)
		return r;
	r = check_room(p, &db, ret_error);
	if (r < 0) {
		db_close(&db);
		return r;
	}
	r = write_copy(&db, dir);
	db_close(&db);
	if (r == 0)
		r = settle_copy(p, old);
	if (fstatat(p->dir_fd, DB_FILE "-wal", &log, 0) < 0)
		log_bytes = 0;
	else
		log_bytes = log.st_size;
	if (r == 0 && log_bytes > 0) /* somebody reads it: then its log is still needed */
		r = -EBUSY;
	if (r == 0)
		r = replace(p);
	return r < 0 ? say(r, ret_error, "the database cannot be written anew") : 0;
}

int store_compact(const char *dir, int64_t *ret_before, int64_t *ret_after,
		  char ret_error[COMPACT_ERROR_MAX])
{
	struct stat old;
	struct stat fresh;
	struct place place;
	int r = access(dir, F_OK) < 0 ? -errno : 0;

	if (r < 0)
		return say(r, ret_error, dir);
	r = place_open(&place, dir, false, ret_error);
	if (r < 0)
		return r;
	if (fstatat(place.dir_fd, DB_FILE, &old, AT_SYMLINK_NOFOLLOW) < 0) {
		r = say(-errno, ret_error, DB_FILE);
	} else {
		(void)unlinkat(place.dir_fd, new_name, 0); /* of one that was killed; mostly none */
		r = compact(&place, dir, &old, ret_error);
		if (r < 0)
			(void)unlinkat(place.dir_fd, new_name, 0); /* half a database is none */
	}
	if (r == 0 && fstatat(place.dir_fd, DB_FILE, &fresh, 0) == 0) {
		*ret_before = old.st_size;
		*ret_after = fresh.st_size;
	}
	place_close(&place);
	return r;
}
