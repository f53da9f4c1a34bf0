/* The inside of a run's files, for run_files.c (which, sending, marking) and run_files_ask.c (places
 * for them at W&B) alone. */
#pragma once

#include "daemon/forward/models/run_parts.h"

enum {
	FILES_AT_ONCE = 8, /* of a run */
	URL_MAX = 16 << 10,
	BODY_MAX = 1 << 20,
	STORE_RETRY_MS = 1000,
};

enum file_state {
	FILE_NONE,
	FILE_WANTED,
	FILE_READY,
	FILE_SENDING,
	FILE_SENT,
	FILE_REFUSED,
	FILE_MARKED /* the store is being told */
};

struct run_file {
	struct models_run *run;
	enum file_state state;
	int64_t id;
	int64_t step;
	int64_t size;
	enum upload_kind kind;
	bool has_blob;
	bool is_asked_for; /* in the request under way */
	bool is_refused;   /* marked: so, not sent */
	uint8_t blob[DIGEST_BYTES];
	struct buf path;  /* a NUL at its end */
	struct buf url;   /* signed; never told to anybody */
	unsigned attempt; /* that failed */
	uint64_t not_before_ms;
	int status;
	char reason[WIRE_REASON_MAX];
};

struct run_files {
	struct run_file items[FILES_AT_ONCE];
	struct buf headers; /* of the places, each with a NUL at its end */
	bool may_have;      /* files that are not in items */
	bool is_asking;
	unsigned attempt; /* of asking, that failed */
	unsigned ask_max; /* files in a request, while a refused one is looked for; 0: all */
	unsigned fills;
	uint64_t not_before_ms;
	struct changes *changes; /* with the store */
};

/* --- run_files.c --- */
void files_move(struct run_file *f, enum file_state to);
unsigned files_count(const struct run_files *files, enum file_state state);
/* It becomes a dead letter. */
void files_refuse(struct run_file *f, int status, const char *reason);

/* --- run_files_ask.c --- */
/* Asks for places of those that want one. Returns when to try again: 0 when nothing has to be. */
uint64_t files_ask(struct models_run *r, uint64_t now_ms);
