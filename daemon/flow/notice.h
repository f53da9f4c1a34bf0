/* What those who log to a run are told about it: how W&B has it. The loop asks with an empty one,
 * the sender fills it and sends it back; when something changes the sender sends one unasked. The
 * loop frees them. */
#pragma once

#include "daemon/base/mailbox.h"
#include "proto/base/buf.h"

enum {
	MAIL_NOTICE = 50
};

struct notice {
	struct mail mail;
	int64_t run;      /* the store's number */
	bool is_asked;    /* by the loop */
	struct buf frame; /* a whole frame for the clients; empty: nothing is known */
};

/* NULL: no memory. */
struct notice *notice_new(int64_t run);
struct notice *notice_free(struct notice *n); /* NULL */
