/* The state of a question about traced calls, for query_trace.c (lists) and query_trace_one.c (one
 * trace whole) alone. Worker thread. */
#pragma once

#include "daemon/base/map.h"
#include "daemon/ingest/query_parts.h"

enum trace_phase {
	TRACE_FIND,    /* which trace has the call */
	TRACE_COLLECT, /* which calls it has: a call's end does not name its trace */
	TRACE_TELL,
};

struct query_trace {
	/* a list */
	struct run_info run;
	struct run_search search;
	bool run_is_known;
	/* one trace */
	enum trace_phase phase;
	bool is_from_start; /* nothing was found where its time says */
	bool has_begun;
	char trace_id[NAME_MAX_BYTES + 1];
	int64_t from_lsn;
	int64_t until_lsn;
	uint64_t last_us; /* of what is known of it */
	struct map ids;   /* calls of the trace */
	/* both */
	struct buf blobs; /* digests that are still to be told, or in the list the piece */
	size_t blob_at;   /* of them, the one that is being told */
	int64_t blob_offset;
	struct buf piece; /* of a blob */
};

int query_trace_open(struct query *q); /* 0, -ENOMEM, -errno */
void trace_ids_done(struct query_trace *t);
