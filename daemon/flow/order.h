/* What an operator or a reload asks of the sender. The mail comes back with the answer. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/base/stats.h"
#include "proto/limits.h"

enum {
	MAIL_ORDER = 40
};

enum order_kind {
	ORDER_FLUSH,      /* send now what waits, of one run or of all */
	ORDER_RETRY,      /* try again now: the wait of a sink (or all) and of parked runs ends */
	ORDER_SINKS,      /* pauses were changed in the store: look */
	ORDER_DEAD_RETRY, /* dead letters, by number or by HTTP status, go back into the queue */
	ORDER_DEAD_DROP,  /* ... or are given up */
	ORDER_LATE_DROP,  /* late rows of a run are given up */
};

enum {
	ORDER_IDS_MAX = 256
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
	/* out */
	int result;     /* 0; -ENOENT nothing like that; -EPERM; -EINVAL */
	int64_t count;  /* of what was touched */
	char text[200]; /* why not */
};
