/* A file of a run on its way to W&B, as the store has it. Moved by the sender alone
 * (forward/models/run_files.h draws it); states and the names of kinds are stored. */
#pragma once

#include <stdint.h>

enum upload_state {
	UPLOAD_WAITING,
	UPLOAD_AT_END,  /* waits for the end of its run */
	UPLOAD_THERE,   /* the storage has it; the run's stream has not said so yet */
	UPLOAD_REFUSED, /* a dead letter says why; a retry makes it wait again */
	UPLOAD_HELD,    /* not sent, for that is how the settings want it */
	UPLOAD_STATES
};

enum upload_kind {
	UPLOAD_TABLE, /* rendered from its blob, named by a row */
	UPLOAD_MEDIA, /* the blob as it is, named by a row */
	UPLOAD_FILE,  /* the blob as it is; nothing names it, and the newest of a path counts */
	UPLOAD_KINDS
};

static inline const char *upload_kind_name(enum upload_kind kind)
{
	static const char *const names[UPLOAD_KINDS] = {"table", "media", "file"};

	return (unsigned)kind < UPLOAD_KINDS ? names[kind] : "?";
}
