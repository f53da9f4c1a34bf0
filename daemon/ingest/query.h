/* Answers the questions of wbxctl from the store and the stats: facts, in frames; what they mean is
 * for wbxctl to say. Runs as a job on the worker, a slice at a time, and without a daemon in `wbxd
 * --answer`. */
#pragma once

#include "daemon/base/stats.h"
#include "daemon/flow/worker.h"
#include "daemon/ingest/replay.h"
#include "proto/control.h"

enum {
	MAIL_QUERY = 32
};
enum {
	QUERY_SLICE_BYTES = 128 << 10
};

/* What is not in the store. Copied into each query. */
struct query_facts {
	const char *version;
	char base_url[512]; /* for display; may be cut */
	const char *store_dir;
	int64_t limit_bytes;
	int64_t reserve_bytes;
	int64_t user_limit_bytes;
	struct stats *stats; /* NULL: no daemon runs, only the store answers */
	int pid;
	int64_t merge_max_us;    /* models.merge_max */
	struct replay_sums left; /* by processes that ended */
};

struct query {
	struct job job; /* mail type MAIL_QUERY */
	struct query_facts facts;
	enum verb verb;
	uint64_t id;  /* of the request: stands in every frame of the answer */
	uint32_t uid; /* who asks */
	bool is_admin;
	struct buf args; /* the request's body: a map */
	struct buf out;  /* frames of this slice */
	int64_t after;   /* where the next slice goes on */
	int64_t after_run;
	int64_t shown;
	struct query_export *export; /* query_export.c's own */
	struct query_check *check;   /* query_check.c's own */
	struct query_trace *trace;   /* query_trace.c's own */
	bool more;                   /* out: ask again when out is written */
	bool idle;                   /* out: nothing new (a tail that follows) */
};

/* NULL: no memory. args is copied. */
struct query *query_new(enum verb verb, uint64_t id, struct span args,
			const struct query_facts *facts);
struct query *query_free(struct query *q);
/* One slice: fills out. */
void query_step(struct query *q, struct reader *reader);

/* [verb, id, {arguments}], checked. */
struct control_request {
	enum verb verb; /* VERB_UNKNOWN: one that this build does not know */
	uint64_t id;
	struct span body; /* borrowed from the payload */
};
int control_request_parse(struct span payload, struct control_request *ret); /* 0, -EBADMSG */
extern const char CONTROL_UNKNOWN_VERB_TEXT[];

/* ["error", id, {code, text}] and ["done", id, {count, ...}] */
struct packed_pairs { /* keys and values of a map, packed */
	struct span bytes;
	unsigned count;
};
void answer_error(struct buf *out, uint64_t id, const char *code, const char *text);
void answer_done(struct buf *out, uint64_t id, int64_t count);
void answer_done_with(struct buf *out, uint64_t id, int64_t count, const struct packed_pairs *more);
