/* An artifact on its way to W&B, as the store has it. Moved by the sender alone
 * (forward/models/artifact.h draws it); stored as these numbers. */
#pragma once

#include "proto/base/buf.h"

enum artifact_state {
	ARTIFACT_COLLECTING, /* its client has more of it */
	ARTIFACT_HELD,       /* goes when its run ends, unless a newer one takes its place */
	ARTIFACT_READY,      /* whole; its digest is not known */
	ARTIFACT_DIGESTED,   /* its digest is: W&B is to be told of it */
	ARTIFACT_CREATED,    /* W&B has given it an id */
	ARTIFACT_OPENED,     /* and one to its manifest: files go */
	ARTIFACT_FILED,      /* W&B has its files */
	ARTIFACT_SEALED,     /* and its manifest */
	ARTIFACT_REFUSED,    /* a dead letter says why; a retry makes it ready again */
	ARTIFACT_STATES
};

static inline const char *artifact_state_name(enum artifact_state state)
{
	static const char *const names[ARTIFACT_STATES] = {
		"collecting", "held",  "ready",  "digested", "created",
		"opened",     "filed", "sealed", "refused",
	};

	return (unsigned)state < ARTIFACT_STATES ? names[state] : "?";
}

/* Of which of the tables that rows name an artifact is made. */
enum table_artifacts {
	TABLE_ARTIFACTS_ALWAYS,
	TABLE_ARTIFACTS_LAST, /* of each key, at the run's end */
	TABLE_ARTIFACTS_NEVER
};

enum artifact_form {
	ARTIFACT_AS_IT_IS, /* the file is the blob */
	ARTIFACT_TABLE,    /* the blob is a table, the file its rendering */
	ARTIFACT_EMPTY,    /* no blob, and no bytes */
};
