/* The inside of an artifact, for artifact.c (what is in it), artifact_emit.c (its records) and
 * handover.c (what goes over later) alone; and what wbxctl asks of the last. */
#pragma once

#include "client/lib/emit.h"
#include "client/lib/map.h"

enum {
	ARTIFACT_BLOBS_A_RECORD = 60,
	ARTIFACT_ENTRIES_BYTES = 256 << 10, /* of a record */
	ARTIFACT_ID_CHARS = 16,
	STAGE_PATH_MAX = 4096,
};
/* So much goes over at once; more by a thread. */
#define ARTIFACT_AT_ONCE_BYTES ((int64_t)64 << 20)

struct artifact_entry {
	char *path;
	struct buf bytes; /* when they are here */
	char *source;     /* else the file that has them; NULL: a reference, or `bytes` */
	bool is_own;      /* the file is ours: it goes with the artifact */
	bool is_table;
	int64_t size; /* -1: not known */
	char *ref;
	char *digest;
};

struct wbx_artifact {
	char *name;
	char *type;
	char *stage; /* directory of our copies; NULL: none yet */
	char id[ARTIFACT_ID_CHARS + 1];
	struct artifact_entry *entries;
	size_t count;
	size_t cap;
	int64_t copied; /* bytes */
	int64_t total;
	bool is_handed_over; /* the files belong to the thread now */
};

/* The pairs of a record besides files and blobs, packed. */
struct artifact_head {
	struct buf pairs;
	unsigned count;
};

/* --- artifact.c --- */
int artifact_add(struct wbx_artifact *a, const char *path, struct artifact_entry **ret);
/* So many bytes of files will come, at least: when they are too many to be copied, none of the large ones is. */
void artifact_expect(struct wbx_artifact *a, int64_t bytes);
/* The directory for copies, made when there is none. 0, -errno. */
int artifact_stage(struct wbx_artifact *a);
/* The user's directory for all of them. 0, -ENAMETOOLONG, -ENOENT: there is none. */
int artifact_root(char ret[STAGE_PATH_MAX]);
/* Removes its copies and the directory. */
void artifact_remove_stage(struct wbx_artifact *a);

/* --- artifact_emit.c --- */
int artifact_head_of(struct artifact_head *ret, const struct wbx_artifact *a,
		     const struct wbx_artifact_options *o);
/* Says that there will be one. */
int artifact_announce(struct wbx_run *run, const struct wbx_artifact *a);
/* All of it, in as many records as it takes. flush_ms: 0, or how long to wait after each record until the
 * daemon has it. 0, -ETIMEDOUT, the errors of wbx_log(). */
int artifact_emit(struct wbx_run *run, const struct wbx_artifact *a,
		  const struct artifact_head *head, int flush_ms);

/* --- handover.c --- */
/* Writes down what is to be done, and begins it. 0: it is done later; -errno. */
int handover_begin(struct wbx_run *run, struct wbx_artifact *a, const struct artifact_head *head);
/* For wbxctl. Each that waits in the user's directory, and is nobody's business right now. */
struct handover_info {
	const char *dir;
	const char *run;
	const char *name;
	int64_t bytes;
	bool is_busy; /* a process is at it */
};
typedef int (*handover_on_waiting)(void *arg, const struct handover_info *info);
int handover_list(handover_on_waiting on_waiting, void *arg);
/* Hands it over and removes it. 0; -EBUSY: a process is at it; -ETIMEDOUT, -ENOENT, -errno. */
int handover_send(const char *dir);
