/* The inside of a struct wbx, shared by the files of the library.
 *
 * Three locks. `lock` guards everything that has no other note, and is held for short memory work
 * (and a write to the page cache when a spool is in use). `io` is held by whoever sends: the
 * caller's thread when it finds it free, else the library's own. `blobs` is held by who keeps a
 * record with tables. They are taken in the order blobs, io, lock. */
#pragma once

#include "client/lib/keep.h"
#include "client/lib/place.h"
#include "client/lib/wbx.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum link_state {
	LINK_AWAY,  /* not connected; tried again after a while */
	LINK_HELLO, /* connected, hello sent, no welcome yet */
	LINK_OPEN,  /* records go out */
	LINK_STATES,
};

struct link {
	enum link_state state; /* moved by the library's thread, or under io by who sees an error */
	int fd;                /* changed by the library's thread alone, under io and lock */
	int wake_fd;           /* eventfd: the thread looks at everything */
	pthread_t thread;
	bool running;
	bool wants_out; /* the socket was full: wait for room */
	bool stopping;
	bool wants_anew;   /* the daemon keeps what only a new connection makes it forget */
	struct buf in;     /* the library's thread's */
	uint64_t sent_seq; /* everything up to here went out on this connection */
	uint64_t retry_ms;
	uint64_t next_try_ms;
	unsigned tries;
	unsigned read_errors; /* of the spool, since it could be read last */
	bool spawned; /* the user's own daemon was started, or that failed; no welcome since */
	uint64_t spawned_ms;
	uint64_t spawn_wait_ms; /* after spawned_ms, before the next start */
};

struct wbx {
	pthread_mutex_t lock;
	pthread_mutex_t io;
	pthread_mutex_t blobs;
	pthread_cond_t acked_cond;
	struct wbx *next; /* all of the process, for fork() */
	pid_t pid;        /* whose threads and files these are */
	struct wbx_options options;
	char *socket_option;
	char *daemon_option;
	struct place place;
	uint8_t producer[PRODUCER_BYTES];
	struct buf hello; /* payload */
	struct keep *keep;
	struct link link;
	uint64_t last_seq;
	uint64_t last_blob;
	_Atomic uint64_t durable_seq;
	uint64_t records;
	uint64_t given_up;
	uint64_t given_up_told;  /* of these, the daemon knows */
	uint64_t given_up_shown; /* and the user */
	uint64_t rejected;
	uint64_t rejected_shown;
	uint64_t reconnects;
	uint64_t generation; /* rises with every fork that made this a new producer */
	bool closed;
	bool warned_heap;
	bool is_silent; /* $WANDB_SILENT: nothing but errors is said on standard error */
	struct wbx_run *runs;
	struct buf scratch; /* a record's head while it is put together */
};

struct wbx_run {
	struct wbx_run *next;
	struct wbx *w;
	char *id;
	char *project;
	char *entity; /* "" when none was given */
	char *label;  /* NULL: none */
	char *token;  /* NULL: none */
	bool merge_rows;
	uint64_t generation; /* of w that opened it: a forked child has to attach first */
	bool finished;
	bool attached;
	bool is_project;      /* it is none: what belongs to no run goes to a project */
	_Atomic bool stopped; /* somebody pressed Stop in W&B */
	struct grow *grow;    /* tables it logged last; NULL: no memory for that */
	struct news *news;    /* what the daemon said; NULL: nothing yet */
	uint64_t news_before; /* of its words, those that came before the run was finished here */
};

/* In a forked child, the first call makes a new producer of w. Called with lock held. 0, or -errno.
 */
int state_after_fork(struct wbx *w);
/* Tells the user; level as in wbx_options. Without locks or with `lock`. */
void state_say(struct wbx *w, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
