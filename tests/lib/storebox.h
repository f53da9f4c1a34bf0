/* A store in a temporary directory and a loop's side of its boxes, for tests. */
#pragma once

#include "daemon/base/thread.h"
#include "daemon/flow/batch.h"
#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"
#include "daemon/store/store.h"

struct storebox {
	char dir[256];
	struct stats stats;
	struct mailbox replies;
	struct bell bell;
	struct store *store;
	struct store_settings settings;
	_Atomic unsigned commits;
};

/* Opens a store in a new directory below $TMPDIR. The test ends when it cannot. */
void storebox_open(struct storebox *b);
/* The settings may be changed between these two. 0, or what store_start() says. */
int storebox_start(struct storebox *b, char ret_error[STORE_ERROR_MAX]);
void storebox_stop(struct storebox *b);
void storebox_close(struct storebox *b); /* removes the directory */

/* Posts and waits until it comes back. */
int storebox_commit(struct storebox *b, struct batch *batch);
int storebox_part(struct storebox *b, struct part *part);
int storebox_change(struct storebox *b, struct changes *changes);

/* Fills a batch: a peer with its hello (once per batch and producer; the number is the first byte
 * of its name), records. */
unsigned storebox_peer(struct batch *batch, uint8_t number, void *session);
void storebox_run(struct batch *batch, unsigned peer, uint64_t seq, const char *run,
		  const char *project);
void storebox_log(struct batch *batch, unsigned peer, uint64_t seq, const char *run, double value);
/* A log record that names one blob. */
void storebox_log_blob(struct batch *batch, unsigned peer, uint64_t seq, const char *run,
		       const uint8_t digest[DIGEST_BYTES]);
/* Any record; entry fields from its parse. */
void storebox_add(struct batch *batch, unsigned peer, struct span payload);
