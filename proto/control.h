/* The verbs of the control socket: one table for the daemon (who may, which thread), for wbxctl,
 * and for PROTOCOL.md section 7, which a test compares with it. */
#pragma once

#include "proto/base/buf.h"

enum verb {
	VERB_STATUS,
	VERB_BACKLOG,
	VERB_RUNS,
	VERB_TAIL,
	VERB_EXPORT,
	VERB_BLOB,
	VERB_FLUSH,
	VERB_RETRY,
	VERB_PAUSE,
	VERB_UNPAUSE,
	VERB_DEAD_LIST,
	VERB_DEAD_SHOW,
	VERB_DEAD_RETRY,
	VERB_DEAD_DROP,
	VERB_LATE_LIST,
	VERB_LATE_DROP,
	VERB_TRACES,
	VERB_TRACE,
	VERB_TRACES_SEND,
	VERB_LIMIT,
	VERB_KEY_SET,
	VERB_KEY_CHECK,
	VERB_KEY_FORGET,
	VERB_PROBE,
	VERB_VERIFY,
	VERB_DISK,
	VERB_CHECK,
	VERB_PRUNABLE,
	VERB_PRUNE,
	VERB_COUNT,
	VERB_UNKNOWN = VERB_COUNT,
};

/* Who may use it. The owner of a thing is the uid that logged it; administrators are root, the
 * daemon's own user and group wbx-admin. */
enum verb_who {
	WHO_OWN,   /* everybody, about what is theirs; administrators about everything */
	WHO_ADMIN, /* administrators */
};

/* Which thread answers. */
enum verb_thread {
	AT_WORKER, /* reads the store */
	AT_SENDER, /* steers delivery */
	AT_STORE,  /* changes the store */
};

struct verb_info {
	const char *name;
	enum verb_who who;
	enum verb_thread thread;
	bool offline; /* can be answered from the store when no daemon runs */
};

const struct verb_info *verb_info(enum verb verb); /* verb < VERB_COUNT */
enum verb verb_by_name(struct span name);
