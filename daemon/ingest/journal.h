/* Journals and spools on disk, from the daemon's side: which belong to the living, and the frames
 * of a dead one, chunk by chunk. Worker thread, but for the two *_job_new and *_job_free. */
#pragma once

#include "daemon/flow/worker.h"
#include "proto/base/rng.h"

enum {
	MAIL_SCAN = 30,
	MAIL_REPLAY
};

enum {
	SCAN_MAX = 65536,       /* files that one look takes in */
	SCAN_OF_UID_MAX = 1024, /* and of one user, chosen anew each time when there are more */
	REPLAY_CHUNK = RECORD_MAX +
		       (64 << 10), /* bytes of whole frames that one step hands over, at most */
	STALE_NEW_FILE_S =
		3600, /* a file that never got its final name is somebody's accident after this */
};

struct scan_entry {
	uint32_t uid;
	uint32_t gid; /* of the file: a group that its owner is in */
	uint8_t producer[PRODUCER_BYTES];
	bool alive; /* somebody holds its lock */
};

/* One look at both directories. */
struct scan_job {
	struct job job; /* mail type MAIL_SCAN */
	const char *journal_dir;
	const char *spool_dir;
	uint64_t began_ms;
	struct scan_entry *entries; /* out; one per file, so a producer may stand there twice */
	size_t count;
	size_t cap;
	uint64_t bytes;      /* out: in files of the dead */
	int64_t oldest_us;   /* out: when the oldest of these was written last, 0: none */
	uint64_t bad;        /* out: files that were put aside as *.bad */
	uint64_t unreadable; /* out: files that the daemon's user may not read */
	struct rng rng;
};
struct scan_job *scan_job_new(const char *journal_dir, const char *spool_dir,
			      struct mailbox *reply_to); /* NULL: no memory */
struct scan_job *scan_job_free(struct scan_job *j);

enum replay_step {
	REPLAY_OPEN,   /* find and lock the files; out: uid, hello in chunk, or result < 0 */
	REPLAY_READ,   /* out: chunk, whole frames; is_end */
	REPLAY_REMOVE, /* all of it is on disk: unlink */
	REPLAY_SPOIL,  /* it holds what nobody can read: put aside as *.bad */
	REPLAY_CLOSE,  /* leave it for later */
};

struct replay_files;
struct replay_job {
	struct job job; /* mail type MAIL_REPLAY */
	const char *journal_dir;
	const char *spool_dir;
	enum replay_step next; /* in */
	uint8_t producer[PRODUCER_BYTES];
	uint32_t uid;     /* out, of REPLAY_OPEN: the owner of the files */
	struct buf chunk; /* out */
	bool is_end;      /* out: nothing comes after this chunk */
	int result; /* out: -EAGAIN the owner lives; -ENOENT no files; -EBADMSG not readable; 0 */
	struct replay_files *files;
};
struct replay_job *replay_job_new(const char *journal_dir, const char *spool_dir,
				  struct mailbox *reply_to); /* NULL: no memory */
struct replay_job *replay_job_free(struct replay_job *j);
