/* What an answer, or the lack of one, means for what was sent. Pure: facts in, verdict out; the
 * only place where an HTTP status is judged. Rules: research/wire wandb-models 1.1 and 1.2 (what
 * W&B's own client retries), and docs/ARCHITECTURE.md, "when W&B says no". */
#pragma once

#include "proto/base/rng.h"

#include <stdbool.h>

enum endpoint {
	ENDPOINT_GRAPHQL, /* queries: who am I, how is a run */
	ENDPOINT_UPSERT,  /* creating or changing a run */
	ENDPOINT_STREAM,  /* file_stream */
	ENDPOINT_STORAGE, /* a signed URL */
	ENDPOINT_WEAVE,   /* the trace server */
};

/* How the transfer itself ended. */
enum transport {
	TRANSPORT_ANSWERED, /* a whole answer came: its status counts */
	TRANSPORT_NO_NAME,  /* DNS */
	TRANSPORT_NO_CONNECTION,
	TRANSPORT_BAD_TLS, /* no trust in the certificate, or no common cipher */
	TRANSPORT_STALLED, /* nothing moved for too long */
	TRANSPORT_BROKEN,  /* reset, or an answer that is cut off or none of HTTP */
	TRANSPORT_LOCAL,   /* out of memory, a proxy setting that is none: not the link's fault */
};

struct retry_facts {
	enum endpoint endpoint;
	enum transport transport;
	int status;
	bool has_errors;        /* 2xx of GraphQL whose body lists errors instead of data */
	unsigned attempt;       /* of this request; the first is 1 */
	unsigned parts;         /* things in it that could go apart: lines, summary, config */
	int64_t retry_after_ms; /* -1: the answer had none */
	int64_t reset_ms;       /* RateLimit-Reset, -1: none */
	uint64_t backoff_max_ms;
};

enum retry_action {
	RETRY_SENT,     /* it is there */
	RETRY_AGAIN,    /* the same again, after wait_ms */
	RETRY_SPLIT,    /* half of it, at once: one part is refused, or it is too much */
	RETRY_REFUSED,  /* this one part is refused for good: a dead letter */
	RETRY_PARK_RUN, /* the run waits for a person */
	RETRY_KEY,      /* ask who we are: either the key is bad, or this run is not its business */
	RETRY_URL, /* storage: a new signed URL, after wait_ms; this one has expired, or was cut */
};

/* What is to blame: who waits besides the run. */
enum retry_blame {
	BLAME_NOTHING,
	BLAME_LINK,   /* the sink: nobody gets through */
	BLAME_LIMIT,  /* we were too fast */
	BLAME_SERVER, /* it is ill */
	BLAME_KEY,
	BLAME_REQUEST,
};

enum {
	/* So many new URLs in a row, then it was not the URL. A storage says 403 of one that has
	   expired, 400 of one whose bytes came too slowly. */
	RETRY_URLS_MAX = 20,
	RETRY_BAD_URLS_MAX = 5
};

struct retry_verdict {
	enum retry_action action;
	enum retry_blame blame;
	uint64_t wait_ms;
};

struct retry_verdict retry_decide(const struct retry_facts *f, struct rng *jitter);

/* The wait before attempt number `attempt` + 1: doubles from 1 s to max_ms, +- a quarter. */
uint64_t retry_backoff_ms(unsigned attempt, uint64_t max_ms, struct rng *jitter);
/* One line for people. */
const char *transport_text(enum transport t);
