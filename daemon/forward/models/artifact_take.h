/* Records of the kind `artifact`, and tables that rows name, become artifacts on their way. Pure but
 * for reading; what is planned is committed before anything of it is sent. One owner at a time. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"
#include "proto/record.h"

enum {
	ARTIFACT_CLIENT_ID_CHARS = 128, /* as W&B's client makes them */
	ARTIFACT_PATH_MAX = 4096,
	ARTIFACT_ALIASES_MAX = 100,
};

/* Adds what the record says to changes; a record that says nothing sensible becomes a dead letter.
 * 0; -ENOMEM, what the disk says. */
int artifact_take(struct reader *reader, struct changes *changes, int64_t run, int64_t lsn,
		  const struct record *record);

/* A table that a row names. */
struct artifact_table {
	int64_t run;
	const char *run_name;
	int64_t lsn;
	int64_t time_us;
	int64_t step;
	struct span key;
	struct span blob; /* its digest */
	const char *client_id;
	const char *sequence_client_id;
	bool is_held; /* only the last of a run is wanted */
};
/* 0, -ENOMEM. */
int artifact_of_table(struct changes *changes, const struct artifact_table *t);

/* A path that can be in an artifact: below its root, with no part that leads elsewhere. */
bool artifact_path_is_good(struct span path);
