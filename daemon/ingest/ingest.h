/* The loop thread: sockets, the open batch, journals of the dead, presence, control, signals. It
 * owns the event loop and never waits: files, the database and names on the network are other
 * threads' work. */
#pragma once

#include "daemon/base/stats.h"
#include "daemon/flow/allow_list.h"
#include "daemon/flow/batch.h"

#include <sys/types.h>

struct ingest;
struct session;

struct ingest_settings {
	const char *ingest_path; /* where to listen, unless the fd below is given */
	const char *control_path;
	int ingest_fd; /* listening sockets inherited from systemd, or -1 */
	int control_fd;
	mode_t socket_mode;
	const char *journal_dir; /* made when absent, mode 3733 */
	const char *spool_dir;
	const char *metrics; /* where monitors ask, and the file for them: see monitor.h */
	const char *metrics_file;
	const char *store_dir;  /* for queries about its files */
	uint64_t gone_after_ms; /* presence: 60000 */
	uint64_t idle_exit_ms;  /* a user's own daemon ends after so long without clients and
				   backlog; 0: never */
	uid_t own_uid;          /* of the daemon: an administrator */
	const struct allow_list *allow; /* who may log; borrowed for its life */
	gid_t admin_gid;                /* members administrate; (gid_t)-1: no such group */
	int64_t limit_bytes;            /* of the store, and the disk reserve: for display */
	int64_t reserve_bytes;
	int64_t user_limit_bytes; /* what may wait of one user; 0: no limit */
	const char *base_url;     /* for display */
	int64_t merge_max_us;
	const char *version;
	struct stats *stats;
	/* What the loop cannot do itself; called on the loop thread. */
	void (*on_reload)(void *arg); /* SIGHUP */
	void (*on_tick)(void *arg);   /* once a second: the loop turns. May be NULL */
	void *arg;
};

/* Boxes of the other threads, known only once they run. */
struct ingest_neighbours {
	struct mailbox *store_batches;
	struct mailbox *store_parts;
	struct mailbox *store_changes;
	struct mailbox *worker;
	struct mailbox *sender; /* orders; NULL: no sender */
};

/* Makes the loop and its box. 0, or -errno. Settings' texts are borrowed for its life. */
int ingest_new(struct ingest **ret, const struct ingest_settings *settings);
struct ingest *ingest_free(struct ingest *in);
/* Where the store and the worker send mails back. */
struct mailbox *ingest_box(struct ingest *in);
/* Binds and listens. 0, or -errno with a sentence in ret_error. */
int ingest_listen(struct ingest *in, const struct ingest_neighbours *neighbours,
		  char ret_error[256]);
/* A producer that the store knows as present in a run: it has the usual time to come back. Before
 * ingest_run(). */
struct batch_peer;
void ingest_restore_present(struct ingest *in, const struct batch_peer *peer, struct span run,
			    int64_t run_id);
/* Runs until SIGTERM, SIGINT, or idle_exit. Then: stops reading, commits what it has, sends the
 * acks (1 s at most), returns. */
void ingest_run(struct ingest *in);
/* Asks ingest_run() to end, from the loop thread. */
void ingest_stop(struct ingest *in);
/* Takes new display settings after a reload. Loop thread. */
void ingest_set_base_url(struct ingest *in, const char *base_url);
/* For exports. Loop thread. */
void ingest_set_merge_max(struct ingest *in, int64_t merge_max_us);

/* --- for session.c and presence.c --- */
struct stats *ingest_stats(struct ingest *in);
const struct allow_list *ingest_allow_list(const struct ingest *in);
/* For everybody, and for this user. */
enum space ingest_space(const struct ingest *in);
enum space ingest_space_of(const struct ingest *in, uint32_t uid);
/* 0; -EAGAIN: full, or nothing is taken now: hold; -ENOMEM. */
int ingest_add(struct ingest *in, struct session *s, struct batch_entry *e, struct span payload,
	       struct span run);
/* A session has its producer's name: supersedes an older one and asks the store for a welcome. 0,
 * -EAGAIN, -ENOMEM. */
int ingest_session_opens(struct ingest *in, struct session *s, struct span hello);
void ingest_session_closed(struct ingest *in, struct session *s);
void ingest_hold(struct ingest *in, struct session *s);
void ingest_unhold(struct ingest *in, struct session *s);
bool ingest_part_fits(const struct ingest *in, size_t len);
void ingest_post_part(struct ingest *in, struct part *part); /* gives it away */
void ingest_count_refusal(struct ingest *in, enum counter counter);
/* A connection, or the replay of a journal, of this producer is open. */
bool ingest_is_connected(const struct ingest *in, uint32_t uid,
			 const uint8_t producer[PRODUCER_BYTES]);
/* Who logs to the run wants to know how W&B has it: asks the sender. */
void ingest_ask_notice(struct ingest *in, int64_t run);
/* A notice for one who logs to the run; dropped when he is not connected. */
void ingest_tell(struct ingest *in, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
		 struct span frame);
/* A `gone` record of a producer without a connection. 0, -EAGAIN, -ENOMEM. */
int ingest_post_gone(struct ingest *in, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
		     int64_t producer_id, struct span run);
