/* A planner of what goes beside the history, a store of its lines, and a W&B that takes them: for
 * its unit test and its fuzz target. */
#pragma once

#include "daemon/forward/models/side.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>

enum {
	SIDEBOX_RUN = 7,
	SIDEBOX_LINES_MAX = 1 << 13, /* of a file */
};

struct sidebox_file {
	struct buf planned[SIDEBOX_LINES_MAX]; /* by offset; data NULL: none */
	struct buf there[SIDEBOX_LINES_MAX];   /* at W&B */
	int64_t count;                         /* of those there */
};

struct reader {
	struct sidebox_file files[SIDE_FILES];
	struct buf state; /* as stored */
	int64_t planned_lsn;
	int64_t confirmed; /* records */
	int64_t confirmed_lsn;
	int64_t dead;
	int64_t letters_gone;
};

struct sidebox {
	struct side side;
	struct reader *reader;
	struct changes *changes;
};

void sidebox_open(struct sidebox *b);
void sidebox_close(struct sidebox *b);
/* Takes the record in, in as many plans as it needs; W&B takes what each of them holds. */
void sidebox_say(struct sidebox *b, const struct stored_record *record);
/* Begins a plan; takes the record in as far as it fits. */
void sidebox_take(struct sidebox *b, const struct stored_record *record);
/* Ends the plan and commits it. */
void sidebox_commit(struct sidebox *b);
/* Commits what is in changes. */
void sidebox_apply(struct sidebox *b);
/* W&B gets the first lines of each file, up to max of all together, and they are marked when its
 * answer arrives. */
void sidebox_send(struct sidebox *b, int64_t max, bool is_answered);
/* What is in memory is forgotten and read again. */
void sidebox_restart(struct sidebox *b);
