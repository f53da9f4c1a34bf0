/* See store.h.
 *
 *   open ──ENOSPC──▶ full ──room──▶ open
 *     └──EIO, sync──▶ broken ──reopened and checkpointed whole──▶ open
 *
 * While full, nothing is taken: it waits in journals and spools. A turn of the thread is one
 * transaction: the changes that wait, then one batch. Between two commits at most one part of a
 * blob is written. After a failed sync the handle is never used again: what the kernel has of the
 * file is then anybody's guess. */
#include "daemon/store/store.h"

#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/base/thread.h"
#include "daemon/store/commit.h"
#include "daemon/store/delivery.h"
#include "daemon/store/place.h"
#include "daemon/store/retention.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	BATCHES_WAITING = 2,
	CHECKPOINT_PAGES = 256,     /* 4 MiB of log: write it back when nobody waits */
	CHECKPOINT_PAGES_MAX = 512, /* ... and whoever waits at this */
	ROOM_EVERY_MS = 1000,
	REOPEN_AFTER_MS = 5000,
	RETENTION_PAUSE_MS = 5, /* between slices */
	LIMIT_TIGHT_PERCENT = 95,
};

enum store_state {
	STORE_OPEN,
	STORE_FULL,
	STORE_BROKEN,
	STORE_STATES
};

struct store {
	struct store_settings settings;
	char dir[4096];
	enum store_state state;
	struct place place;
	struct db db;
	struct blobs blobs;
	struct commit commit;
	struct delivery delivery;
	struct retention retention;
	int log_pages; /* in the write-ahead log after the last commit */
	uint64_t next_room_ms;
	uint64_t full_until_ms; /* not tried before: statfs may see room that is not ours, of a
				   quota */
	uint64_t next_reopen_ms;
	uint64_t next_retention_ms;
	uint64_t failures; /* batches that were undone */
	struct mailbox batches;
	struct mailbox parts;
	struct mailbox changes;
	struct bell bell;
	struct thread thread;
	_Atomic bool stopping;
};

static const struct {
	const char *name;
	unsigned allowed;
} states[STORE_STATES] = {
	[STORE_OPEN] = {"open", 1u << STORE_FULL | 1u << STORE_BROKEN},
	[STORE_FULL] = {"full", 1u << STORE_OPEN | 1u << STORE_BROKEN},
	[STORE_BROKEN] = {"broken", 1u << STORE_OPEN},
};

static void store_move(struct store *s, enum store_state to, const char *why)
{
	assert(states[s->state].allowed & 1u << to);
	if (to == STORE_OPEN)
		log_info("store", "from=%s to=open taking records again", states[s->state].name);
	else
		log_error("store", "from=%s to=%s %s", states[s->state].name, states[to].name, why);
	s->state = to;
	stats_set_store_fault(s->settings.stats, to == STORE_OPEN ? "" : why);
}

/* --- open, close --- */

static int on_wal(void *data, sqlite3 *handle, const char *name, int pages)
{
	struct store *s = data;

	(void)handle;
	(void)name;
	s->log_pages = pages;
	return SQLITE_OK;
}

static void close_rooms(struct store *s)
{
	retention_close(&s->retention);
	delivery_close(&s->delivery);
	commit_close(&s->commit);
	blobs_close(&s->blobs);
	db_close(&s->db);
}

static const char *words_for(int r)
{
	return r == -EUCLEAN ? "wbx.db is damaged; it was not touched: move it away and keep it"
			     : strerror(-r);
}

static int open_rooms(struct store *s, char ret_error[DB_ERROR_MAX])
{
	const struct retention_settings keep = {.keep_bytes = s->settings.keep_bytes,
						.keep_us = s->settings.keep_us};
	int r = db_open_writer(&s->db, s->dir, ret_error);

	if (r < 0)
		return r;
	(void)sqlite3_wal_hook(s->db.handle, on_wal, s); /* gives back the hook before: none */
	r = blobs_open(&s->blobs, &s->db, s->place.dir_fd);
	if (r == 0)
		r = commit_open(&s->commit, &s->db, &s->blobs);
	if (r == 0)
		r = delivery_open(&s->delivery, &s->db, &s->blobs, &s->commit);
	if (r == 0)
		r = retention_open(&s->retention, &s->db, &s->blobs, &keep);
	if (r < 0) {
		(void)snprintf(ret_error, DB_ERROR_MAX, "store %.100s cannot be used: %s", s->dir,
			       words_for(r));
		close_rooms(s);
	}
	return r;
}

/* Everything in the log goes into the database, and both are synced: what was written before a
 * fault is then there or is not. */
static int checkpoint_whole(struct store *s)
{
	int log = -1;
	int copied = -1;
	int r = sqlite_errno(sqlite3_wal_checkpoint_v2(s->db.handle, NULL, SQLITE_CHECKPOINT_FULL,
						       &log, &copied));

	if (r == 0 && log != copied)
		r = -EBUSY;
	if (r == 0)
		s->log_pages = 0;
	return r;
}

static void try_reopen(struct store *s, uint64_t now_ms)
{
	char error[DB_ERROR_MAX] = "";
	int r;

	s->next_reopen_ms = now_ms + REOPEN_AFTER_MS;
	r = open_rooms(s, error);
	if (r == 0) {
		r = checkpoint_whole(s);
		if (r < 0) {
			(void)snprintf(error, sizeof(error), "the log cannot be written back: %s",
				       strerror(-r));
			close_rooms(s);
		}
	}
	if (r == 0) {
		store_move(s, STORE_OPEN, "");
		return;
	}
	log_error("store", "errno=%d still closed: %s", -r, error);
	stats_set_store_fault(s->settings.stats, error);
}

static void break_store(struct store *s, int r, const char *doing)
{
	char why[200];

	if (r == -EUCLEAN)
		(void)snprintf(
			why, sizeof(why),
			"%s failed: wbx.db is damaged. Nothing is acknowledged or written any "
			"more: stop wbxd, move the store away and keep it",
			doing);
	else
		(void)snprintf(why, sizeof(why),
			       "%s failed: %s. Nothing is acknowledged until the store can be "
			       "opened and checkpointed again",
			       doing, strerror(-r));
	close_rooms(s);
	store_move(s, STORE_BROKEN, why);
	/* a damaged database is not written to again: a person has to look */
	s->next_reopen_ms = r == -EUCLEAN ? UINT64_MAX : clock_mono_ms() + REOPEN_AFTER_MS;
}

/* What a failed transaction means for the store: some errors are the moment's, some end the handle.
 */
static void take_fault(struct store *s, int r, const char *doing)
{
	stats_add(s->settings.stats, COUNT_COMMIT_FAILURES, 1);
	switch (r) {
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EBUSY:
		log_warn("store", "errno=%d %s was undone; clients send again", -r, doing);
		return;
	case -ENOSPC:
		s->next_room_ms = 0; /* the loop has to know at once */
		s->full_until_ms = clock_mono_ms() + ROOM_EVERY_MS;
		if (s->state == STORE_OPEN)
			store_move(s, STORE_FULL, "the disk of the store is full");
		return;
	default: break_store(s, r, doing); return;
	}
}

/* --- room --- */

static int64_t pragma_number(struct store *s, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	int64_t value = 0;

	if (sqlite3_prepare_v2(s->db.handle, sql, -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		value = db_column_int(stmt, 0);
	(void)sqlite3_finalize(
		stmt); /* the value is for display and limits; the next turn asks again */
	return value;
}

static int64_t used_bytes(struct store *s)
{
	int64_t page = pragma_number(s, "PRAGMA page_size");
	int64_t pages =
		pragma_number(s, "PRAGMA page_count") - pragma_number(s, "PRAGMA freelist_count");

	return page * (pages + s->log_pages) + s->blobs.file_bytes;
}

static enum space judge_room(const struct store *s, int64_t used, uint64_t free_bytes)
{
	uint64_t reserve = (uint64_t)s->settings.reserve_bytes;

	if (used >= s->settings.limit_bytes || free_bytes < reserve / 2 || s->state == STORE_FULL)
		return SPACE_NONE;
	if (used >= s->settings.limit_bytes / 100 * LIMIT_TIGHT_PERCENT || free_bytes < reserve)
		return SPACE_TIGHT;
	return SPACE_FINE;
}

static void look_at_room(struct store *s, uint64_t now_ms)
{
	uint64_t free_bytes = 0;
	uint64_t total = 0;
	int64_t used;
	int before = atomic_load(&s->settings.stats->space);
	enum space now;

	if (now_ms < s->next_room_ms)
		return;
	s->next_room_ms = now_ms + ROOM_EVERY_MS;
	if (place_room(&s->place, &free_bytes, &total) < 0)
		return; /* the last look stands */
	if (s->state == STORE_FULL && now_ms >= s->full_until_ms &&
	    free_bytes >= (uint64_t)s->settings.reserve_bytes / 2 + (16 << 20))
		store_move(s, STORE_OPEN, "");
	used = used_bytes(s);
	now = judge_room(s, used, free_bytes);
	atomic_store(&s->settings.stats->disk_free_bytes, free_bytes);
	atomic_store(&s->settings.stats->disk_total_bytes, total);
	atomic_store(&s->settings.stats->store_bytes, (uint64_t)used);
	atomic_store(&s->settings.stats->space, (int)now);
	if ((int)now != before && now != SPACE_FINE)
		log_error("store", "free_bytes=%llu used_bytes=%lld %s",
			  (unsigned long long)free_bytes, (long long)used,
			  now == SPACE_TIGHT
				  ? "the reserve is reached: tables, files and traces are refused"
				  : "no room: records wait in journals and spools");
	else if ((int)now != before)
		log_info("store", "free_bytes=%llu used_bytes=%lld room again",
			 (unsigned long long)free_bytes, (long long)used);
}

/* --- work --- */

static int begin(struct store *s)
{
	return db_exec(&s->db, "BEGIN IMMEDIATE");
}

static void undo(struct store *s)
{
	(void)db_exec(&s->db, "ROLLBACK"); /* SQLite may have done it already */
}

/* One list; what is wrong with it undoes it alone. 0, or -errno that ends the whole transaction. */
static int apply_list(struct store *s, struct changes *list)
{
	int r = db_exec(&s->db, "SAVEPOINT list");

	if (r < 0)
		return r;
	list->result = delivery_apply(&s->delivery, list);
	if (list->result == 0)
		return db_exec(&s->db, "RELEASE list");
	if (list->result != -ENOENT && list->result != -EEXIST)
		return list->result;
	r = db_exec(&s->db, "ROLLBACK TO list");
	return r < 0 ? r : db_exec(&s->db, "RELEASE list");
}

static int apply_all(struct store *s, struct mail *lists, struct batch *batch)
{
	int r = begin(s);

	for (struct mail *m = lists; r == 0 && m != NULL; m = m->next)
		r = apply_list(s, container_of(m, struct changes, mail));
	if (r == 0 && batch != NULL)
		r = commit_batch(&s->commit, batch);
	if (r == 0)
		r = db_exec(&s->db, "COMMIT");
	if (r < 0)
		undo(s);
	return r;
}

static void reply(struct mailbox *box, struct mail *mail)
{
	int r = mailbox_post(box, mail);

	assert(r == 0); /* reply boxes have a place for every mail there is */
}

static void answer(struct store *s, struct mail *lists, struct batch *batch, int r)
{
	while (lists != NULL) {
		struct changes *list = container_of(lists, struct changes, mail);

		lists = lists->next;
		if (r < 0)
			list->result = r;
		reply(list->reply_to, &list->mail);
	}
	if (batch != NULL) {
		s->failures += r < 0 && r != -ESTALE;
		batch->result = r;
		reply(s->settings.to_loop, &batch->mail);
	}
}

/* A person wants delivered records to go now: a round from the beginning, at once. */
static void begin_pruning(struct store *s)
{
	if (s->delivery.prune_before_us == 0)
		return;
	s->retention.prune_before_us = s->delivery.prune_before_us;
	s->retention.at_stream = 0;
	s->delivery.prune_before_us = 0;
	s->next_retention_ms = 0;
}

static void after_commit(struct store *s)
{
	begin_pruning(s);
	stats_add(s->settings.stats, COUNT_COMMITS, 1);
	fault_point("commit.done");
	s->settings.on_commit(s->settings.on_commit_arg);
}

/* All changes that wait and one batch, as one transaction. False when there was neither. */
static bool turn(struct store *s)
{
	struct mail *lists = NULL;
	struct mail **last = &lists;
	struct mail *mail;
	struct batch *batch = NULL;
	int r = s->state == STORE_OPEN ? 0 : -EIO;

	while ((mail = mailbox_take(&s->changes)) != NULL) {
		*last = mail;
		last = &mail->next;
	}
	mail = mailbox_take(&s->batches);
	if (mail != NULL)
		batch = container_of(mail, struct batch, mail);
	if (lists == NULL && batch == NULL)
		return false;
	if (batch != NULL && batch->failures_known < s->failures) {
		/* A connection's later records must not be stored when its earlier ones were not:
		 * what comes again would be taken for known. */
		answer(s, NULL, batch, -ESTALE);
		batch = NULL;
		if (lists == NULL)
			return true;
	}
	if (s->state == STORE_FULL) { /* changes go on: marks make room */
		answer(s, NULL, batch, -ENOSPC);
		batch = NULL;
		r = 0;
		if (lists == NULL)
			return true;
	}
	if (r == 0)
		r = apply_all(s, lists, batch);
	if (s->state != STORE_BROKEN) {
		blobs_settle(&s->blobs, r == 0);
		if (r < 0) {
			(void)commit_forget(&s->commit); /* next_lsn stays a good bound when the
							    database cannot say */
			take_fault(s, r, "a commit");
		} else {
			after_commit(s);
		}
	}
	answer(s, lists, batch, r);
	return true;
}

/* One part of a blob, or a session's end. False when there was none. */
static bool take_part(struct store *s)
{
	struct mail *mail = mailbox_take(&s->parts);
	struct part *part;

	if (mail == NULL)
		return false;
	part = container_of(mail, struct part, mail);
	if (mail->type == MAIL_FORGET) {
		if (s->state != STORE_BROKEN) /* nothing is open then */
			blobs_forget(&s->blobs, part->session);
	} else if (s->state != STORE_OPEN) {
		part->result = s->state == STORE_FULL ? -ENOSPC : -EIO;
	} else {
		blobs_take_part(&s->blobs, part);
	}
	if (part->result == -EIO && s->state == STORE_OPEN)
		take_fault(s, -EIO, "writing a blob");
	reply(s->settings.to_loop, mail);
	return true;
}

static void checkpoint(struct store *s, bool idle)
{
	int r;

	if (s->state != STORE_OPEN ||
	    s->log_pages < (idle ? CHECKPOINT_PAGES : CHECKPOINT_PAGES_MAX))
		return;
	r = sqlite_errno(sqlite3_wal_checkpoint_v2(s->db.handle, NULL, SQLITE_CHECKPOINT_PASSIVE,
						   NULL, NULL));
	s->log_pages = 0; /* the hook says how many there are after the next commit */
	if (r < 0 && r != -EBUSY)
		take_fault(s, r, "a checkpoint");
}

static void retain(struct store *s, uint64_t now_ms)
{
	enum retention_result result = RETENTION_ROUND_DONE;
	bool tight = atomic_load(&s->settings.stats->space) != SPACE_FINE;
	int r;

	if (s->state == STORE_BROKEN || now_ms < s->next_retention_ms)
		return;
	r = begin(s);
	if (r == 0) {
		r = retention_slice(&s->retention, commit_next_lsn(&s->commit),
				    (int64_t)clock_wall_us(), tight, &result);
		if (r == 0)
			r = db_exec(&s->db,
				    result == RETENTION_DID_SOMETHING ? "COMMIT" : "ROLLBACK");
		if (r < 0)
			undo(s);
	}
	blobs_settle(&s->blobs, r == 0 && result == RETENTION_DID_SOMETHING);
	if (r < 0)
		take_fault(s, r, "giving room back");
	s->next_retention_ms = now_ms + (result == RETENTION_DID_SOMETHING ? RETENTION_PAUSE_MS
					 : tight                           ? ROOM_EVERY_MS
						 : s->settings.retention_round_ms);
}

static uint64_t sleep_ms(const struct store *s, uint64_t now_ms)
{
	uint64_t until = s->next_room_ms;

	if (s->state == STORE_BROKEN)
		until = s->next_reopen_ms;
	else if (s->next_retention_ms < until)
		until = s->next_retention_ms;
	if (until == UINT64_MAX)
		return until;
	return until > now_ms ? until - now_ms : 0;
}

/* What is done when no mail waits. */
static void idle(struct store *s)
{
	uint64_t now_ms = clock_mono_ms();

	if (s->state == STORE_BROKEN) {
		if (now_ms >= s->next_reopen_ms)
			try_reopen(s, now_ms);
		return;
	}
	checkpoint(s, true);
	look_at_room(s, now_ms);
	if (s->state != STORE_BROKEN)
		retain(s, now_ms);
}

static void beat(struct store *s, bool busy)
{
	uint64_t now_ms = clock_mono_ms();

	atomic_store(&s->settings.stats->store_beat_ms, now_ms);
	atomic_store(&s->settings.stats->store_busy_ms, busy ? now_ms : 0);
}

static void store_main(void *data)
{
	struct store *s = data;

	for (;;) {
		bool worked;

		beat(s, true);
		fault_point("store.step");
		worked = turn(s);
		worked |= take_part(s);
		if (worked) {
			checkpoint(s, false);
			if (clock_mono_ms() >= s->next_room_ms && s->state != STORE_BROKEN)
				look_at_room(s, clock_mono_ms());
			continue;
		}
		if (atomic_load(&s->stopping))
			break;
		idle(s);
		beat(s, false);
		bell_wait(&s->bell, sleep_ms(s, clock_mono_ms()));
	}
	if (s->state != STORE_BROKEN) {
		/* the sender's reader may be the last to close, and cannot do it; what stays in the
		 * log is as safe there */
		(void)sqlite3_wal_checkpoint_v2(s->db.handle, NULL, SQLITE_CHECKPOINT_TRUNCATE,
						NULL, NULL);
		close_rooms(s);
	}
}

/* --- life --- */

static void on_mail(void *data)
{
	bell_ring(data);
}

static int open_boxes(struct store *s)
{
	int r = bell_init(&s->bell);

	if (r == 0)
		r = mailbox_init(&s->batches, BATCHES_WAITING, on_mail, &s->bell);
	if (r == 0)
		r = mailbox_init(&s->parts, SIZE_MAX, on_mail, &s->bell);
	if (r == 0)
		r = mailbox_init(&s->changes, SIZE_MAX, on_mail, &s->bell);
	return r;
}

int store_start(struct store **ret, const struct store_settings *settings,
		char ret_error[STORE_ERROR_MAX])
{
	struct store *s = mem_zalloc(sizeof(*s));
	int r = -ENOMEM;
	int n;

	(void)snprintf(ret_error, STORE_ERROR_MAX, "the store cannot start: out of memory");
	if (s == NULL)
		return r;
	s->settings = *settings;
	n = snprintf(s->dir, sizeof(s->dir), "%s", settings->dir);
	if (n < 0 || (size_t)n >= sizeof(s->dir)) {
		(void)snprintf(ret_error, STORE_ERROR_MAX, "the path of the store is too long");
		r = -ENAMETOOLONG;
		goto fail;
	}
	r = open_boxes(s);
	if (r < 0)
		goto fail;
	r = place_open(&s->place, s->dir, settings->adopt, ret_error);
	if (r < 0)
		goto fail;
	r = open_rooms(s, ret_error);
	if (r < 0)
		goto fail_place;
	look_at_room(s, clock_mono_ms());
	r = thread_start(&s->thread, "wbx-store", store_main, s);
	if (r < 0)
		goto fail_rooms;
	*ret = s;
	return 0;
fail_rooms:
	close_rooms(s);
fail_place:
	place_close(&s->place);
fail:
	(void)mem_free(s);
	return r;
}

struct store *store_stop(struct store *s)
{
	if (s == NULL)
		return NULL;
	atomic_store(&s->stopping, true);
	bell_ring(&s->bell);
	thread_join(&s->thread);
	place_close(&s->place);
	mailbox_done(&s->batches);
	mailbox_done(&s->parts);
	mailbox_done(&s->changes);
	bell_done(&s->bell);
	return mem_free(s);
}

struct mailbox *store_batches(struct store *s)
{
	return &s->batches;
}

struct mailbox *store_parts(struct store *s)
{
	return &s->parts;
}

struct mailbox *store_changes(struct store *s)
{
	return &s->changes;
}
