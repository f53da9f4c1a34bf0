/* What an operator or a reload asks of the sender. The mail comes back with the answer. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/base/stats.h"
#include "proto/base/buf.h"
#include "proto/limits.h"

enum {
	MAIL_ORDER = 40
};

enum order_kind {
	ORDER_FLUSH,       /* send now what waits, of one run or of all */
	ORDER_RETRY,       /* try again now: the wait of a sink (or all) and of parked runs ends */
	ORDER_SINKS,       /* pauses or limits were changed in the store: look */
	ORDER_DEAD_RETRY,  /* dead letters, by number or by HTTP status, go back into the queue */
	ORDER_DEAD_DROP,   /* ... or are given up */
	ORDER_LATE_DROP,   /* late rows of a run are given up */
	ORDER_TRACES_SEND, /* traces of a run that were left out are sent after all */
	ORDER_KEY_SET,     /* the asker's own W&B key, for his runs */
	ORDER_KEY_CHECK,   /* does W&B take the key of the asker's runs, and whose is it */
	ORDER_KEY_FORGET,  /* the asker's own key is deleted */
	ORDER_PROBE,       /* is W&B reached, and is the key of the asker's runs good? */
	ORDER_VERIFY,      /* does W&B have a run as the store says? */
};

enum {
	ORDER_IDS_MAX = 256,
	ORDER_KEY_MAX = 1024
};

struct order {
	struct mail mail; /* type MAIL_ORDER */
	enum order_kind kind;
	struct mailbox *reply_to;
	uint32_t uid; /* who asks; administrators may touch everything */
	bool is_admin;
	bool has_run;
	char run[NAME_MAX_BYTES + 1]; /* a run id, or entity/project/id */
	int sink;                     /* enum sink_id, -1: all */
	int status;                   /* of dead letters; 0: by number */
	int64_t ids[ORDER_IDS_MAX];
	size_t id_count;
	struct buf traces;           /* msgpack: a list of their ids; empty: all */
	char key[ORDER_KEY_MAX + 1]; /* wiped by whoever takes it, and before it is freed */
	bool is_quick;               /* a key is kept without asking W&B about it */
	/* out */
	int result;       /* 0; -ENOENT nothing like that; -EPERM; -EINVAL */
	int64_t count;    /* of what was touched */
	char text[200];   /* why not */
	struct buf pairs; /* more of the answer: packed keys and values */
	unsigned pair_count;
};

/* kind and reply_to stand, all else is empty. NULL: no memory. */
struct order *order_new(enum order_kind kind, struct mailbox *reply_to);
/* Overwrites the key. Returns NULL. */
struct order *order_free(struct order *o);
