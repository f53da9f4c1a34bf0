/* The inside of an artifact on its way, for artifact_send.c (what next), artifact_answer.c (what
 * answers mean) and artifact_files.c (its bytes) alone. */
#pragma once

#include "daemon/forward/models/artifact_send.h"
#include "daemon/forward/models/wire_artifact.h"

enum {
	ARTIFACT_BATCH_FILES = 25, /* whose URLs are asked for at once, as W&B's client does */
};

/* What it is at; one thing at a time. */
enum artifact_work {
	ARTIFACT_IDLE,
	ARTIFACT_DIGESTING,  /* the worker has it */
	ARTIFACT_COMMITTING, /* the store has a->changes */
	ARTIFACT_ASKING,     /* W&B has a request */
	ARTIFACT_PUTTING,    /* bytes go to the storage, or wait to */
};

enum put_state {
	PUT_WAITS,
	PUT_GOES,
	PUT_DONE,
	PUT_URL, /* it needs another URL */
};

/* A file of the batch under way, or the manifest. */
struct artifact_put {
	struct artifact_send *a;
	enum put_state state;
	char *path; /* NULL: the manifest */
	uint8_t blob[DIGEST_BYTES];
	enum artifact_form form;
	int64_t start; /* in the blob */
	int64_t size;
	char digest[MD5_BASE64_MAX];
	char *part_digests; /* hex; NULL: it goes in one piece */
	char birth[WIRE_ID_MAX];
	char *url;
	char *headers;
	struct span header[WIRE_HEADERS_MAX + 1]; /* into headers; one place is for a part's MD5 */
	size_t header_count;
	uint64_t not_before_ms;
	unsigned attempt; /* that failed, of the piece under way */
	/* in parts */
	char *storage_path;
	char *upload_id;
	char **part_urls;
	char **etags; /* of those that are there */
	size_t part_count;
	size_t part; /* the one under way */
};

struct artifact_send {
	struct artifact_host *host;
	struct user *user;
	int64_t id;
	int64_t run;
	int64_t newest; /* of its collection, when it was read */
	enum artifact_state state;
	enum artifact_work work;
	bool is_done;
	bool is_afresh; /* W&B had forgotten it, and it began again */
	uint64_t next_ms;
	uint64_t not_before_ms;
	unsigned attempt;  /* that failed, of the request under way */
	unsigned doubts;   /* 401 or 403 since the last success */
	unsigned urls;     /* new ones in a row */
	char refusal[200]; /* why the storage will not have it; "": it has not said so */
	size_t batch_max;  /* files, while a refused one is looked for */
	bool asks_features;
	char entity[NAME_MAX_BYTES + 1];
	char project[NAME_MAX_BYTES + 1];
	char run_name[NAME_MAX_BYTES + 1];
	char own_entity[NAME_MAX_BYTES + 1]; /* as its run has them here */
	char own_project[NAME_MAX_BYTES + 1];
	char name[ARTIFACT_NAME_MAX + 1];
	char type[ARTIFACT_NAME_MAX + 1];
	char client_id[WIRE_ID_MAX];
	char sequence_client_id[WIRE_ID_MAX];
	char digest[ARTIFACT_DIGEST_MAX];
	char server_id[WIRE_ID_MAX];
	char base_id[WIRE_ID_MAX];
	char manifest_id[WIRE_ID_MAX];
	struct buf about;
	struct buf manifest; /* its JSON, between asking for its place and putting it there */
	char manifest_md5[MD5_BASE64_MAX];
	struct artifact_put puts[ARTIFACT_BATCH_FILES];
	size_t put_count;
	unsigned going; /* of them */
	/* under way */
	struct changes *changes;
	struct artifact_digest *digest_job;
	/* what the answer changed, taken over when it is committed */
	enum artifact_state next_state;
};

/* --- artifact_send.c --- */
void artifact_to_work(struct artifact_send *a, enum artifact_work to);
/* Makes a->changes. False: no memory; it tries again later. */
bool artifact_changes(struct artifact_send *a);
/* Posts a->changes; afterwards it is in that state. */
void artifact_commit(struct artifact_send *a, enum artifact_state next);
/* The same, with a change of the state in it. `more`: what else is known now; may be NULL. */
void artifact_move(struct artifact_send *a, enum artifact_state next,
		   const struct change_artifact *more);
/* W&B has it. */
void artifact_end(struct artifact_send *a);
/* Something failed on this side; it is tried again. */
void artifact_give_up(struct artifact_send *a, const char *what, int error);
/* Refused for good: a dead letter. http NULL: found here. */
void artifact_refuse(struct artifact_send *a, const struct http_answer *http, const char *reason,
		     const char *request);
struct wire_name artifact_wire_name(const struct artifact_send *a);

/* --- artifact_answer.c --- */
void artifact_on_answer(void *arg, struct sink *sink, const struct http_answer *http);

/* --- artifact_files.c --- */
/* Reads the next files that W&B does not have. 0 and *ret_count; -errno. */
int artifact_next_files(struct artifact_send *a, size_t *ret_count);
void artifact_files_body(struct artifact_send *a, struct buf *body);
/* The answer to that: 0, -EBADMSG, -EREMOTEIO, -ENOMEM. */
int artifact_take_places(struct artifact_send *a, struct span body);
/* Makes the manifest's text. 0, -errno. */
int artifact_make_manifest(struct artifact_send *a);
/* Where it goes is known. 0, -ENOMEM. */
int artifact_put_manifest(struct artifact_send *a, const struct wire_place *place);
/* Starts what can be started; when all is over, goes on. When it wants its next turn. */
uint64_t artifact_put_turn(struct artifact_send *a, uint64_t now_ms);
/* A file in parts is to be completed: all its parts are there. NULL: none. */
struct artifact_put *artifact_whole_parts(struct artifact_send *a);
void artifact_forget_puts(struct artifact_send *a);
