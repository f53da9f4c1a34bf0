/* The store: its thread, its boxes, and what it does when the disk says no. Everything that is
 * committed goes through here and is synced before anybody hears of it. Neighbours: ingest posts
 * batches and parts, forward posts changes; both get their mails back. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/base/stats.h"

struct store;

struct store_settings {
	const char *dir;       /* made when absent, mode 0700; borrowed */
	int64_t limit_bytes;   /* of everything together */
	int64_t reserve_bytes; /* of the filesystem, left free */
	int64_t keep_bytes;    /* of delivered records */
	int64_t keep_us;
	unsigned retention_round_ms; /* between looks for what may go; 10000 */
	bool adopt;                  /* open a store that another machine made */
	struct stats *stats;         /* borrowed */
	struct mailbox *to_loop;     /* batches and parts come back here; borrowed */
	void (*on_commit)(void *);   /* on the store thread, after each commit: wakes the sender */
	void *on_commit_arg;
};

enum {
	STORE_ERROR_MAX = 512
};

/* Opens or makes the store, then starts its thread. 0 and *ret; or -errno with a sentence for the
 * operator: -EBUSY another wbxd has it, -EXDEV made on another machine, -ENOTSUP no local
 * filesystem, -EUCLEAN, -EPROTO, -EROFS as db.h says, -ENOSPC, -EIO. */
int store_start(struct store **ret, const struct store_settings *settings,
		char ret_error[STORE_ERROR_MAX]);
/* Commits what is in the boxes, gives every mail back, closes. Returns NULL. */
struct store *store_stop(struct store *s);

/* Where to post. Batches: room for two, so that one fills while one is written. Parts: as many as
 * ingest cares to have waiting. Changes: never full. */
struct mailbox *store_batches(struct store *s);
struct mailbox *store_parts(struct store *s);
struct mailbox *store_changes(struct store *s);
