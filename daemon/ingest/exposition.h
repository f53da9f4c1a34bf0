/* The state of the daemon as Prometheus reads it (text format 0.0.4): counters and gauges of the
 * stats, sums of the store. A job of the worker, which also writes it to a file when one is named.
 * Labels hold words of our own only: no names of users, runs or files. */
#pragma once

#include "daemon/ingest/query.h"

enum {
	MAIL_EXPOSITION = 33,
	EXPOSITION_MAX = 64 << 10, /* bytes; it is about 9 KiB */
};

struct exposition {
	struct job job; /* mail type MAIL_EXPOSITION */
	struct query_facts facts;
	uint64_t started_us; /* wall time of the daemon's start */
	const char *file;    /* written anew by rename; NULL: none. Borrowed */
	int error;           /* out: of the file, 0 or -errno */
	struct buf out;      /* out: the text. Its own error says when it is not whole */
};

/* NULL: no memory. */
struct exposition *exposition_new(const struct query_facts *facts, uint64_t started_us,
				  const char *file);
struct exposition *exposition_free(struct exposition *e);
/* What the job does. reader may be NULL: then the store's part is missing and wbx_store_up is 0. */
void exposition_render(struct exposition *e, struct reader *reader);
