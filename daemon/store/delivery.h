/* Applies what the sender and operators ask for (flow/change.h) inside a transaction. Store thread
 * only. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/store/commit.h"

struct delivery {
	struct db own; /* statements over the store's handle, which is borrowed */
	struct blobs *blobs;
	struct commit *commit; /* hears which runs are done */
};

int delivery_open(struct delivery *ret, struct db *db, struct blobs *blobs,
		  struct commit *commit); /* 0, or -errno */
void delivery_close(struct delivery *d);

/* All of the list, in order. 0; -ENOENT: something it names is not there; -ENOMEM or what the disk
 * says. The caller rolls back to where it began when it is not 0. */
int delivery_apply(struct delivery *d, const struct changes *list);
