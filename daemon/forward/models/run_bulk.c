/* See run_parts.h: planning of what is neither a row nor beside the history: artifacts and files. The records
 * of the stream `bulk` are handed out by their kind; each takes a slice and a transaction of its own. */
#include "daemon/base/log.h"
#include "daemon/forward/models/artifact_take.h"
#include "daemon/forward/models/file_take.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/mem.h"

#include <errno.h>

enum {
	SLICE_RECORDS = 16, /* of up to 1 MiB each: in one transaction */
	SLICE_BYTES = 1 << 20,
};

struct slice {
	struct models_run *r;
	int64_t lsn;
	size_t bytes;
};

static int take(struct slice *s, const struct stored_record *stored)
{
	struct models_run *r = s->r;
	struct record record;
	struct record_fault fault;

	if (record_parse_stored(stored->payload, &record, &fault) < 0)
		return 0; /* it was checked when it came */
	switch ((int)record.kind) {
	case KIND_ARTIFACT:
		return artifact_take(r->host->reader, r->changes, r->id, stored->lsn, &record);
	case KIND_FILE:
		return file_take(r->host->reader, r->changes, stored, &record, r->id,
				 r->info->state >= RUN_FINISHING);
	default: return 0; /* kept, and counted as waiting */
	}
}

static int on_record(void *arg, const struct stored_record *stored)
{
	struct slice *s = arg;
	int e;

	if (s->bytes >= SLICE_BYTES)
		return 1;
	e = take(s, stored);
	s->lsn = stored->lsn;
	s->bytes += stored->payload.len;
	return e;
}

bool run_has_bulk(struct models_run *r)
{
	r->bulk_lsn = -1;
	return run_has_more(r, CLASS_BULK, &r->bulk_lsn, &r->may_have_bulk);
}

void run_bulk_plan(struct models_run *r)
{
	struct slice s = {.r = r, .lsn = r->bulk_lsn};
	struct change cursor = {.kind = CHANGE_CURSOR, .stream = stream_of(r->id, CLASS_BULK)};
	unsigned count = 0;
	int e;

	if (!run_changes(r))
		return;
	e = reader_records(r->host->reader, cursor.stream, r->bulk_lsn, SLICE_RECORDS, on_record,
			   &s, &count);
	if (e < 0) {
		run_give_up(r, "planning", e);
		return;
	}
	cursor.lsn = s.lsn;
	changes_add(r->changes, &cursor);
	run_commit(r);
}
