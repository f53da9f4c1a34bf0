/* The JSON of a call for W&B's trace server, from its records. Pure but for the blobs that the
 * renderer reads. */
#pragma once

#include "daemon/flow/trace.h"
#include "daemon/forward/weave/render.h"
#include "daemon/forward/weave/usage.h"
#include "proto/limits.h"

struct calltext {
	const char *entity;
	const char *project;
	const char *run; /* "": none */
	const char *op;  /* a name or a ref */
	const struct call_row *row;
	struct span start; /* maps: bodies of its records; empty: there is none */
	struct span end;
	struct span inputs; /* of these, with what stands apart in its place: maps, or empty */
	struct span start_attributes;
	struct span end_attributes;
	struct span output; /* a value, or empty */
	int64_t step;       /* -1: not known, as the next two */
	int64_t step_end;
	int64_t rank;
	const char *exception;     /* of one that nobody ended; NULL: what the record says */
	const struct usage *usage; /* with that of the calls below it */
	int64_t well;              /* calls, itself and those below it */
	int64_t errors;
};

/* One item of calls/complete. 0; -EBADMSG; -ENOMEM; -EMSGSIZE: longer than out may get. */
int calltext_whole(struct buf *out, const struct calltext *c, struct render *r);
/* The body of call/start, and of call/end. As above. */
int calltext_start(struct buf *out, const struct calltext *c, struct render *r);
int calltext_end(struct buf *out, const struct calltext *c, struct render *r);
/* RFC 3339 in UTC with microseconds. */
void calltext_time(int64_t time_us, char ret[32]);
