/* The inside of a commit, for commit.c (producers, what is a duplicate, records), commit_run.c
 * (runs and who is in them) and commit_sum.c (extents and counts) alone. Each has its own
 * statements and its own cache, in struct commit. Store thread only, inside the transaction of a
 * batch. */
#pragma once

#include "daemon/store/commit.h"

/* Owned by c->producers, until commit_forget(). */
struct producer {
	struct map_node node;
	int64_t id;
	int64_t last_seq;
	int64_t run_count;
};

/* Records of a batch that go into one stream, and what they add to its sums. Chained by entry. */
struct group {
	int64_t stream;
	size_t first;
	size_t last;
	int64_t records;
	int64_t bytes;
	int64_t blobs;
	int64_t blob_bytes;
};

/* --- commit.c --- */
/* code and text are literals. */
void commit_reject(struct batch_entry *e, const char *code, const char *text);

/* --- commit_run.c --- */
int commit_runs_open(struct commit *c); /* 0, -errno; commit_runs_close() is fine after both */
void commit_runs_close(struct commit *c);
void commit_runs_forget(struct commit *c);
/* Finds the run that the entry belongs to, opens or leaves it when the entry says so, or rejects
 * the entry. A token in it is overwritten: the store keeps its digest. 0, -errno. */
int commit_find_run(struct commit *c, struct batch *b, struct batch_entry *e, struct producer *p,
		    int64_t *ret_run);

/* Counts records of the entry's run that will never be stored; without a run, of all runs of its
 * producer. A run that nobody knows is not counted. 0, -errno. */
int commit_count_missing(struct commit *c, const struct batch *b, const struct batch_entry *e,
			 uint64_t count);

/* --- commit_sum.c --- */
int commit_sums_open(struct commit *c); /* as commit_runs_open() */
void commit_sums_close(struct commit *c);
void commit_sums_forget(struct commit *c);
/* The records of g are stored, with lsns from `first` on. A run that was done opens again. 0,
 * -errno. */
int commit_insert_extent(struct commit *c, const struct group *g, int64_t first, int64_t now_us);
/* What has a seq and is not stored is counted for ever, by reason; and what a client gave up. 0,
 * -errno. */
int commit_count_refusals(struct commit *c, const struct batch *b);
