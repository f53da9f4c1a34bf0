/* See query_parts.h: traced calls. A list is briefs of a run's records in the order of the store, which
 * wbxctl puts together; one trace comes whole: its records, each followed by the bytes of the blobs
 * that it names. */
#include "daemon/ingest/call_brief.h"
#include "daemon/ingest/query_trace_parts.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <string.h>

enum {
	SEARCH_BYTES = 256 << 10, /* of a blob that are looked through at a time */
	SEARCH_MAX = 16 << 20,    /* of one blob */
};

struct query_trace *query_trace_free(struct query_trace *t)
{
	if (t == NULL)
		return NULL;
	trace_ids_done(t);
	buf_done(&t->blobs);
	buf_done(&t->piece);
	return mem_free(t);
}

int query_trace_open(struct query *q)
{
	int r;

	if (q->trace != NULL)
		return 0;
	q->trace = mem_zalloc(sizeof(*q->trace));
	if (q->trace == NULL)
		return -ENOMEM;
	query_search(q, &q->trace->search, &q->trace->run);
	buf_init(&q->trace->blobs, (size_t)RECORD_BLOBS_MAX * DIGEST_BYTES);
	buf_init(&q->trace->piece, SEARCH_BYTES);
	r = map_init(&q->trace->ids);
	if (r == 0)
		r = buf_reserve(&q->trace->piece, SEARCH_BYTES);
	return r;
}

/* --- which run --- */

static int search_run(struct query *q, struct reader *reader)
{
	struct run_search *s = &q->trace->search;
	int r = run_search_next(s, reader);

	q->more = r > 0 || s->found == 1;
	if (r != 0)
		return r < 0 ? r : 0;
	q->trace->run_is_known = s->found == 1;
	if (!q->trace->run_is_known)
		answer_error(&q->out, q->id, s->found == 0 ? "not_found" : "ambiguous",
			     run_search_failure(s));
	return 0;
}

/* --- does a record have this text? --- */

static bool has_text(struct span bytes, struct span text)
{
	return text.len == 0 || memmem(bytes.at, bytes.len, text.at, text.len) != NULL;
}

/* Piece by piece, the end of each once more with the next. */
static bool blob_has_text(struct reader *reader, struct buf *piece, struct span digest,
			  struct span text)
{
	for (int64_t at = 0; at < SEARCH_MAX; at += SEARCH_BYTES - (int64_t)text.len) {
		size_t len = 0;

		if (text.len >= SEARCH_BYTES / 2 ||
		    reader_blob(reader, digest, at, piece->data, SEARCH_BYTES, &len) < 0)
			return false;
		if (has_text((struct span){.at = piece->data, .len = len}, text))
			return true;
		if (len < SEARCH_BYTES)
			return false;
	}
	return false;
}

static bool is_hit(struct query *q, struct reader *reader, const struct record *record)
{
	struct span text = mp_get_str(mp_of(buf_span(&q->args)), "grep");
	struct span digest;

	if (text.at == NULL || has_text(record->body, text))
		return true;
	for (uint32_t i = 0; record_blob(record, i, &digest); i++) {
		if (blob_has_text(reader, &q->trace->piece, digest, text))
			return true;
	}
	return false;
}

/* --- the list --- */

struct listing {
	struct query *q;
	struct reader *reader;
};

static int on_listed(void *arg, const struct stored_record *stored)
{
	struct listing *l = arg;
	struct query *q = l->q;
	struct record record;
	struct record_fault fault;
	auto_buf struct buf pairs = {0};
	struct pack p;
	size_t count;
	size_t at;

	if (q->out.len >= QUERY_SLICE_BYTES)
		return 1;
	q->after = stored->lsn;
	if (record_parse_stored(stored->payload, &record, &fault) < 0)
		return 0; /* a daemon that takes more wrote it */
	buf_init(&pairs, CALL_BRIEF_MAX);
	pack_init(&p, &pairs);
	if (!call_brief_pack(&p, &record, &count))
		return 0;
	if (pairs.error != 0)
		return pairs.error;
	at = frame_open(&q->out, &p, "item", q->id, 2 + count);
	pack_pair_int(&p, "lsn", stored->lsn);
	pack_pair_bool(&p, "hit", is_hit(q, l->reader, &record));
	pack_raw(&p, buf_span(&pairs));
	frame_close(&q->out, at);
	q->shown++;
	return 0;
}

int query_traces(struct query *q, struct reader *reader)
{
	struct listing l = {.q = q, .reader = reader};
	unsigned count = 0;
	int r = query_trace_open(q);

	if (r < 0)
		return r;
	if (!q->trace->run_is_known)
		return search_run(q, reader);
	r = reader_records(reader, stream_of(q->trace->run.id, CLASS_TRACES), q->after, READER_PAGE,
			   on_listed, &l, &count);
	if (r < 0)
		return r;
	q->more = count > 0;
	if (!q->more)
		answer_done(&q->out, q->id, q->shown);
	return 0;
}
