/* One artifact on its way to W&B: one step after the other, each committed before the next request.
 * Sender thread only. Its states (daemon/flow/artifact.h), and what leads from one to the next:
 *
 *   ready ──the worker digests──▶ digested ──createArtifact──▶ created ──createArtifactManifest──▶
 *   opened ──its files are put──▶ filed ──the manifest is put──▶ sealed ──commitArtifact──▶ gone
 *
 * W&B answers createArtifact with "committed" when it has this content: then that is all. What it
 * refuses for good becomes a dead letter, and the artifact waits for a person. After a kill it goes on
 * in its state: every request may be repeated, for W&B knows the artifact by its client id, bytes by
 * their digest, and a commit that was done is done. */
#pragma once

#include "daemon/flow/reader.h"
#include "daemon/forward/models/artifact_digest.h"
#include "daemon/forward/sinks.h"

/* What they need of the sender; one for all of them. */
struct artifact_host {
	struct reader *reader;
	struct mailbox *store;   /* changes go there ... */
	struct mailbox *worker;  /* ... and digests there, */
	struct mailbox *replies; /* and come back here */
	const char *base_url;
	int64_t multipart_bytes; /* files from this size on go in parts; 0: W&B's own bound */
	int64_t part_bytes;
};

struct artifact_send;

/* user: whose it is; borrowed. run: copied. 0; -ENOMEM, -E2BIG (a text that is longer than it may be). */
int artifact_send_new(struct artifact_send **ret, struct artifact_host *host,
		      const struct artifact_info *info, const struct run_info *run,
		      struct user *user);
/* Not while mails of it are with other threads, or requests under way. Returns NULL. */
struct artifact_send *artifact_send_free(struct artifact_send *a);

/* Does what is due. When it wants its next turn (UINT64_MAX: when something happens to it). */
uint64_t artifact_send_turn(struct artifact_send *a, uint64_t now_ms);
/* There may be room, or the way is open again. */
void artifact_send_wake(struct artifact_send *a);
/* Try again now. */
void artifact_send_retry(struct artifact_send *a);
/* Mails of it that came back. */
void artifact_send_on_changes(struct artifact_send *a, struct changes *list);
void artifact_send_on_digest(struct artifact_send *a, struct artifact_digest *job);

int64_t artifact_send_id(const struct artifact_send *a);
int64_t artifact_send_run(const struct artifact_send *a);
struct user *artifact_send_user(const struct artifact_send *a);
struct span artifact_send_name(const struct artifact_send *a);
/* W&B has it, or has refused it: it can be freed. */
bool artifact_send_is_done(const struct artifact_send *a);
/* Nothing of it is with another thread, or with W&B: it can be freed, and begun again later. */
bool artifact_send_is_idle(const struct artifact_send *a);
/* Both write to the same collection: one after the other. */
bool artifact_send_shares(const struct artifact_send *a, const struct run_info *run,
			  struct span name);
