/* The inside of the loop, for ingest.c (its state, mails, timers, start and stop), ingest_session.c
 * (what sessions ask of it) and loop.c (what connections share) alone: the calls of ingest.h and
 * loop.h are about this one object. Loop thread. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/ingest/batcher.h"
#include "daemon/ingest/listener.h"
#include "daemon/ingest/loop.h"
#include "daemon/ingest/presence.h"

enum {
	READ_BYTES = 64 << 10,
	OVER_MAX = 64 /* users above store.user_limit that are looked at */
};

/* Moved in ingest.c alone. */
enum ingest_state {
	INGEST_NEW,
	INGEST_RUNNING,
	INGEST_STOPPING,
	INGEST_CLOSING,
	INGEST_STATES
};

/* A run about which the sender was asked and has not answered; who joins it meanwhile is not told by
 * that answer alone. */
enum {
	ASKED_MAX = 64
};
struct asked {
	int64_t run; /* 0: none */
	bool again;
};

struct ingest {
	struct ingest_settings settings;
	struct ingest_neighbours neighbours;
	enum ingest_state state;
	uv_loop_t loop;
	uv_async_t wake;
	uv_check_t after_io;
	uv_timer_t commit_timer;
	uv_timer_t tick_timer;
	uv_timer_t stop_timer;
	uv_signal_t signals[3];
	struct listener ingest_listener;
	struct listener control_listener;
	struct mailbox box;
	struct batcher batcher;
	struct map sessions;  /* by uid and producer; not owned */
	struct session *held; /* in the order in which they are fed again */
	struct session **held_end;
	bool resume_held; /* the next turn feeds them again */
	const struct conn *budget_turn;
	struct conn *conns;
	struct map uids;
	size_t partial_bytes;
	size_t parts_bytes; /* at the store */
	size_t parts_out;
	size_t notices_out; /* asked of the sender */
	struct asked asked[ASKED_MAX];
	struct presence presence;
	struct replay *replay;
	struct control *control;
	struct monitor *monitor; /* NULL: nothing is asked of it */
	struct user_usage over[OVER_MAX];
	size_t over_count;
	uint64_t busy_ms; /* when there was a client or backlog last */
	char base_url[512];
	char read_bytes[READ_BYTES];
};

/* --- ingest_session.c --- */
/* Feeds everybody who was held once more; who still cannot go on is held again. */
void ingest_resume_held(struct ingest *in);

/* The sender's answer came. */
void ingest_notice_came(struct ingest *in, int64_t run);

/* --- loop.c --- */
/* No connection is left. */
void loop_forget_uids(struct ingest *in);
