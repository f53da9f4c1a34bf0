/* See query_trace_parts.h: one trace, whole. Ids of calls have their time in them (UUIDs of version 7), so
 * it is looked for where the store was at that time, and only else from its start. */
#include "daemon/ingest/query_trace_parts.h"
#include "proto/base/mem.h"
#include "proto/frame.h"
#include "proto/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	PIECE_BYTES = 64 << 10,
	UUID_LEN = 36,
	SUFFIX_LEAST = 8, /* characters of an id's end that name it */
	IDS_MAX = 2000000,
};
/* What belongs to a trace comes within this time behind the last of it, or is not found. */
#define QUIET_US ((uint64_t)3600 * 1000000)
/* Clocks, and records that waited elsewhere. */
#define BEFORE_US ((uint64_t)120 * 1000000)

/* --- the calls of a trace --- */

struct id_node {
	struct map_node node;
	size_t len;
	uint8_t text[];
};

static bool id_matches(struct map_node *node, const void *key)
{
	const struct id_node *n = container_of(node, struct id_node, node);

	return span_equal((struct span){.at = n->text, .len = n->len}, *(const struct span *)key);
}

static bool has_id(const struct query_trace *t, struct span id)
{
	return id.at != NULL &&
	       map_find(&t->ids, map_hash(&t->ids, id.at, id.len), id_matches, &id) != NULL;
}

static int add_id(struct query_trace *t, struct span id)
{
	struct id_node *n;
	int r;

	if (id.at == NULL || has_id(t, id))
		return 0;
	if (t->ids.count >= IDS_MAX)
		return -E2BIG;
	n = mem_alloc(sizeof(*n) + id.len);
	if (n == NULL)
		return -ENOMEM;
	n->len = id.len;
	memcpy(n->text, id.at, id.len);
	r = map_add(&t->ids, &n->node, map_hash(&t->ids, id.at, id.len));
	if (r < 0)
		(void)mem_free(n);
	return r;
}

void trace_ids_done(struct query_trace *t)
{
	struct map_node *node;

	while ((node = map_pop(&t->ids)) != NULL)
		(void)mem_free(container_of(node, struct id_node, node));
	map_done(&t->ids);
}

/* --- where it is --- */

/* Milliseconds since 1970 that a UUID of version 7 begins with; 0: it is none. */
static uint64_t uuid_us(struct span id)
{
	uint64_t ms = 0;

	if (id.len != UUID_LEN || id.at[14] != '7')
		return 0;
	for (size_t i = 0; i < 13; i++) {
		uint8_t c = id.at[i];

		if (i == 8)
			continue;
		if (c >= '0' && c <= '9')
			ms = ms << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			ms = ms << 4 | (uint64_t)(c - 'a' + 10);
		else
			return 0;
	}
	return ms * 1000;
}

struct probe {
	int64_t lsn; /* 0: there is none */
	uint64_t time_us;
};

static int on_probe(void *arg, const struct stored_record *stored)
{
	struct probe *found = arg;
	struct record record;
	struct record_fault fault;

	if (record_parse_stored(stored->payload, &record, &fault) < 0 || record.time_us == 0)
		return 0;
	*found = (struct probe){.lsn = stored->lsn, .time_us = record.time_us};
	return 1;
}

/* About the last record of which those before were made before that time. */
static int seek(struct reader *reader, uint64_t time_us, int64_t *ret_lsn)
{
	int64_t low = 0;
	int64_t high = 0;
	int r = reader_last_lsn(reader, &high);

	while (r >= 0 && low < high) {
		int64_t middle = low + (high - low) / 2;
		struct probe probe = {.lsn = 0};
		unsigned count;

		r = reader_all_records(reader, middle, 8, on_probe, &probe, &count);
		if (r >= 0 && (probe.lsn == 0 || probe.time_us >= time_us))
			high = middle;
		else if (r >= 0)
			low = probe.lsn;
	}
	*ret_lsn = low;
	return r < 0 ? r : 0;
}

static int begin_at(struct query *q, struct reader *reader, struct span id)
{
	uint64_t time_us = q->trace->is_from_start ? 0 : uuid_us(id);

	q->after = 0;
	return time_us <= BEFORE_US ? 0 : seek(reader, time_us - BEFORE_US, &q->after);
}

/* --- records --- */

struct walk {
	struct query *q;
	struct reader *reader;
	bool is_over;
	bool has_found;
};

/* May who asks see it? 1, 0, -errno. */
static int is_visible(const struct walk *w, const struct stored_record *stored)
{
	uint32_t uid;
	int r;

	if (w->q->is_admin)
		return 1;
	r = reader_producer_uid(w->reader, stored->producer, &uid);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return uid == w->q->uid;
}

static struct span wanted_id(const struct query *q)
{
	return mp_get_str(mp_of(buf_span(&q->args)), "id");
}

static bool is_named(struct span id, struct span wanted)
{
	if (id.at == NULL || wanted.len > id.len)
		return false;
	if (wanted.len < UUID_LEN && wanted.len >= SUFFIX_LEAST)
		id = (struct span){.at = id.at + id.len - wanted.len, .len = wanted.len};
	return span_equal(id, wanted);
}

static int on_find(struct walk *w, const struct stored_record *stored, const struct record *record)
{
	struct mp body = mp_of(record->body);
	struct span trace_id = mp_get_str(body, "trace_id");
	struct span wanted = wanted_id(w->q);
	int r;

	if (record->kind != KIND_CALL || trace_id.at == NULL || trace_id.len > NAME_MAX_BYTES ||
	    (!is_named(mp_get_str(body, "id"), wanted) && !is_named(trace_id, wanted)))
		return 0;
	r = is_visible(w, stored);
	if (r <= 0)
		return r;
	(void)snprintf(w->q->trace->trace_id, sizeof(w->q->trace->trace_id), "%.*s",
		       (int)trace_id.len, (const char *)trace_id.at); /* fits */
	w->has_found = true;
	return 1;
}

static bool is_of_trace(const struct query_trace *t, const struct record *record)
{
	struct mp body = mp_of(record->body);

	if (record->kind == KIND_FEEDBACK)
		return has_id(t, mp_get_str(body, "call_id"));
	return record->kind == KIND_CALL && (span_is(mp_get_str(body, "trace_id"), t->trace_id) ||
					     has_id(t, mp_get_str(body, "id")));
}

static int on_collect(struct walk *w, const struct stored_record *stored,
		      const struct record *record)
{
	struct query_trace *t = w->q->trace;
	int r;

	if (t->last_us != 0 && record->time_us > t->last_us + QUIET_US) {
		w->is_over = true;
		return 1;
	}
	if (!is_of_trace(t, record))
		return 0;
	r = is_visible(w, stored);
	if (r <= 0)
		return r;
	if (record->time_us > t->last_us)
		t->last_us = record->time_us;
	t->until_lsn = stored->lsn;
	return record->kind == KIND_CALL ? add_id(t, mp_get_str(mp_of(record->body), "id")) : 0;
}

static int on_tell(struct walk *w, const struct stored_record *stored, const struct record *record)
{
	struct query_trace *t = w->q->trace;
	struct span digest;
	struct pack p;
	size_t at;
	int r;

	if (stored->lsn > t->until_lsn) {
		w->is_over = true;
		return 1;
	}
	if (!is_of_trace(t, record))
		return 0;
	r = is_visible(w, stored);
	if (r <= 0)
		return r;
	at = frame_open(&w->q->out, &p, "item", w->q->id, 2);
	pack_pair_int(&p, "lsn", stored->lsn);
	pack_text(&p, "record");
	pack_raw(&p, stored->payload);
	frame_close(&w->q->out, at);
	w->q->shown++;
	for (uint32_t i = 0; record_blob(record, i, &digest); i++)
		(void)buf_add(&t->blobs, digest.at, digest.len); /* at most RECORD_BLOBS_MAX */
	t->blob_at = 0;
	t->blob_offset = 0;
	return t->blobs.len > 0;
}

static int on_record(void *arg, const struct stored_record *stored)
{
	struct walk *w = arg;
	struct record record;
	struct record_fault fault;

	if (w->q->out.len >= QUERY_SLICE_BYTES)
		return 1;
	w->q->after = stored->lsn;
	if (record_parse_stored(stored->payload, &record, &fault) < 0)
		return 0; /* a daemon that takes more wrote it */
	switch (w->q->trace->phase) {
	case TRACE_FIND: return on_find(w, stored, &record);
	case TRACE_COLLECT: return on_collect(w, stored, &record);
	case TRACE_TELL: return on_tell(w, stored, &record);
	}
	abort(); /* GCC wants an end here; a value outside the enum is our bug */
}

/* --- blobs --- */

/* A piece of the blob that is being told. */
static int tell_blob(struct query *q, struct reader *reader)
{
	struct query_trace *t = q->trace;
	struct span digest = {.at = t->blobs.data + t->blob_at * DIGEST_BYTES, .len = DIGEST_BYTES};
	size_t len = 0;
	struct pack p;
	size_t at;
	int r = reader_blob(reader, digest, t->blob_offset, t->piece.data, PIECE_BYTES, &len);

	if (r < 0 && r != -ENOENT)
		return r;
	at = frame_open(&q->out, &p, "item", q->id, 3);
	pack_pair_bin(&p, "blob", digest);
	pack_pair_int(&p, "off", t->blob_offset);
	pack_pair_bin(&p, "data", (struct span){.at = t->piece.data, .len = r < 0 ? 0 : len});
	frame_close(&q->out, at);
	t->blob_offset += (int64_t)len;
	if (len == PIECE_BYTES)
		return 0;
	t->blob_at++;
	t->blob_offset = 0;
	if (t->blob_at * DIGEST_BYTES >= t->blobs.len)
		buf_clear(&t->blobs);
	return 0;
}

/* --- the question --- */

static void not_found(struct query *q)
{
	q->more = false;
	answer_error(
		&q->out, q->id, "not_found",
		"no call that is yours has that id: the whole id, or the last eight characters "
		"of it or more: wbxctl traces RUN");
}

/* A pass through the store has come to its end. */
static int next_phase(struct query *q, struct reader *reader, bool has_found)
{
	struct query_trace *t = q->trace;

	q->more = true;
	switch (t->phase) {
	case TRACE_FIND:
		if (has_found) {
			t->phase = TRACE_COLLECT;
			return begin_at(q, reader, span_of_text(t->trace_id));
		}
		if (t->is_from_start || uuid_us(wanted_id(q)) == 0) {
			not_found(q);
			return 0;
		}
		t->is_from_start = true;
		q->after = 0;
		return 0;
	case TRACE_COLLECT:
		t->phase = TRACE_TELL;
		return begin_at(q, reader, span_of_text(t->trace_id));
	case TRACE_TELL:
		q->more = false;
		answer_done(&q->out, q->id, q->shown);
		return 0;
	}
	abort(); /* GCC wants an end here; a value outside the enum is our bug */
}

int query_trace_one(struct query *q, struct reader *reader)
{
	struct walk w = {.q = q, .reader = reader};
	unsigned count = 0;
	int r = query_trace_open(q);

	if (r < 0)
		return r;
	q->more = true;
	if (!q->trace->has_begun) {
		q->trace->has_begun = true;
		if (wanted_id(q).len < SUFFIX_LEAST) {
			not_found(q);
			return 0;
		}
		r = begin_at(q, reader, wanted_id(q));
		return r;
	}
	if (q->trace->blobs.len > 0)
		return tell_blob(q, reader);
	r = reader_all_records(reader, q->after, READER_PAGE, on_record, &w, &count);
	if (r < 0)
		return r;
	if (w.is_over || w.has_found || count == 0)
		return next_phase(q, reader, w.has_found);
	return 0;
}
