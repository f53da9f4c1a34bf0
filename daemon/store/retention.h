/* Gives room back: delivered records older than retention.age, or the oldest ones when there are
 * too many. In slices of a few hundred records between commits, so that ingest does not feel it.
 * Store thread only. */
#pragma once

#include "daemon/store/blob.h"

struct retention_settings {
	int64_t keep_bytes; /* of delivered records */
	int64_t keep_us;
};

struct retention {
	struct db own; /* statements over the store's handle, which is borrowed */
	struct blobs *blobs;
	struct retention_settings settings;
	int64_t at_stream;       /* where the round goes on */
	int64_t prune_before_us; /* a person wants what is older to go, whatever the settings; 0: no */
	bool squeezed;           /* this round takes delivered records whatever their age */
};

enum retention_result {
	RETENTION_DID_SOMETHING,
	RETENTION_ROUND_DONE
};

int retention_open(struct retention *ret, struct db *db, struct blobs *blobs,
		   const struct retention_settings *settings); /* 0, or -errno */
void retention_close(struct retention *r);

/* One slice inside a transaction. next_lsn is kept in the database before the newest records can
 * go. short_of_space: the store is near its limit, so everything delivered may go. 0 and
 * *ret_result, or -errno. */
int retention_slice(struct retention *r, int64_t next_lsn, int64_t now_us, bool short_of_space,
		    enum retention_result *ret_result);
