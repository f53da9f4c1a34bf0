/* Turns a batch into rows: who sent it, what is a duplicate, which stream each record belongs to,
 * lsn and extents. Runs inside a transaction that store.c begins and ends. Store thread only. */
#pragma once

#include "daemon/base/map.h"
#include "daemon/base/stats.h"
#include "daemon/flow/batch.h"
#include "daemon/store/blob.h"

struct commit {
	struct db own;      /* statements over the store's handle, which is borrowed: commit.c's */
	struct db own_runs; /* commit_run.c's */
	struct db own_sums; /* commit_sum.c's */
	struct blobs *blobs;
	int64_t next_lsn;
	struct map producers; /* what the database says, kept while it holds true */
	struct map members;
	struct map tails;
};

/* 0, or -errno. db and blobs are borrowed for the life of `ret`. */
int commit_open(struct commit *ret, struct db *db, struct blobs *blobs);
void commit_close(struct commit *c);

/* Puts the batch into the open transaction and says in it what became of each entry. 0, or -errno:
 * the caller rolls back and then calls commit_forget(), because what is cached is no longer what
 * the database holds. */
int commit_batch(struct commit *c, struct batch *b);
int commit_forget(struct commit *c);

/* The run was marked done: its next record opens it again. */
void commit_note_done(struct commit *c, int64_t run);

/* The lsn that the next record gets, for retention (which must not let it sink: see schema.sql,
 * meta). */
int64_t commit_next_lsn(const struct commit *c);
