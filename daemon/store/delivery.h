/* Applies what the sender and operators ask for (flow/change.h) inside a transaction. Store thread
 * only. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/store/commit.h"

struct delivery {
	struct db own; /* statements over the store's handle, which is borrowed */
	struct db own_side;
	struct db own_upload;
	struct db own_artifact;
	struct db own_trace;
	struct blobs *blobs;
	struct commit *commit;   /* hears which runs are done */
	int64_t prune_before_us; /* CHANGE_PRUNE: for retention; the store takes it from here */
};

int delivery_open(struct delivery *ret, struct db *db, struct blobs *blobs,
		  struct commit *commit); /* 0, or -errno */
void delivery_close(struct delivery *d);

/* All of the list, in order. 0; -ENOENT: something it names is not there; -ENOMEM or what the disk
 * says. The caller rolls back to where it began when it is not 0. */
int delivery_apply(struct delivery *d, const struct changes *list);

/* --- delivery_side.c, for delivery.c alone: what goes beside the history --- */
int delivery_prepare_side(struct delivery *d); /* 0, -errno */
/* One change of those whose kind begins with CHANGE_SIDE. As delivery_apply(). */
int delivery_apply_side(struct delivery *d, const struct change *c);

/* --- delivery_artifact.c, for delivery.c alone --- */
int delivery_prepare_artifact(struct delivery *d); /* 0, -errno */
/* One change of those whose kind begins with CHANGE_ARTIFACT. As delivery_apply(). */
int delivery_apply_artifact(struct delivery *d, const struct change *c);

/* --- delivery_upload.c, for delivery.c alone: files of runs on their way --- */
int delivery_prepare_upload(struct delivery *d); /* 0, -errno */
/* One change of those whose kind begins with CHANGE_UPLOAD. As delivery_apply(). */
int delivery_apply_upload(struct delivery *d, const struct change *c);
/* A dead letter goes, and is sent again or dropped; *ret_found: it is that of a file, which waits again
 * or goes with it. 0, -errno. */
int delivery_upload_of_dead(struct delivery *d, int64_t dead, bool is_dropped, bool *ret_found);

/* A person wants the artifact that this dead letter is about sent again: 0; -ENOENT: it is about
 * something else. Or not any more: then it goes. */
int delivery_revive_artifact(struct delivery *d, int64_t letter);
int delivery_drop_artifact(struct delivery *d, int64_t letter);

/* --- delivery_trace.c, for delivery.c alone: calls and their traces --- */
int delivery_prepare_trace(struct delivery *d); /* 0, -errno */
/* One change of those whose kind begins with CHANGE_TRACE. As delivery_apply(). */
int delivery_apply_trace(struct delivery *d, const struct change *c);
