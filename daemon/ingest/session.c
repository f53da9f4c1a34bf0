/* See session.h. */
#include "daemon/ingest/session.h"

#include "daemon/base/log.h"
#include "daemon/ingest/ingest.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"
#include "proto/record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned allowed;
} states[SESSION_STATES] = {
	[SESSION_HELLO] = {"hello", 1u << SESSION_OPEN | 1u << SESSION_ENDED},
	[SESSION_OPEN] = {"open", 1u << SESSION_ENDED},
	[SESSION_ENDED] = {"ended", 0},
};

static void session_move(struct session *s, enum session_state to)
{
	assert(states[s->state].allowed & 1u << to);
	log_debug("session", "session=%p from=%s to=%s", (void *)s, states[s->state].name,
		  states[to].name);
	s->state = to;
}

struct session *session_new(struct ingest *ingest, uint32_t uid, const struct session_source *ops,
			    void *source)
{
	struct session *s = mem_zalloc(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->ingest = ingest;
	s->uid = uid;
	s->ops = ops;
	s->source = source;
	s->forget.mail.type = MAIL_FORGET;
	s->forget.session = s;
	return s;
}

/* Freed in two steps: nothing at the store any more, then the store forgets its blobs, and that
 * mail comes back. */
static void maybe_free(struct session *s)
{
	if (s->state == SESSION_ENDED && s->in_batches == 0 && s->parts_out == 0)
		ingest_post_part(s->ingest, &s->forget);
}

void session_end(struct session *s)
{
	if (s->state == SESSION_ENDED)
		return;
	ingest_unhold(s->ingest, s);
	if (s->state == SESSION_OPEN)
		ingest_session_closed(s->ingest, s);
	session_move(s, SESSION_ENDED);
	s->ops = NULL;
	s->source = NULL;
	parts_done(&s->parts);
	maybe_free(s);
}

/* The session's own wish: the source is told, and from then on there is none. */
static void end_source(struct session *s)
{
	const struct session_source *ops = s->ops;
	void *source = s->source;

	session_end(s);
	ops->end(source);
}

/* What the dead left is on the disk already, and is let in. */
static enum space space_for(const struct session *s)
{
	return s->is_live ? ingest_space_of(s->ingest, s->uid) : ingest_space(s->ingest);
}

static void send_frame(struct session *s, struct buf *frame)
{
	if (frame->error == 0 && s->ops != NULL)
		s->ops->send(s->source, buf_span(frame));
}

static void send_reject(struct session *s, uint64_t seq, const char *code, const char *text,
			bool final)
{
	auto_buf struct buf out;
	struct pack p;
	size_t at;

	buf_init(&out, RECORD_MAX);
	at = frame_open(&out, &p, "reject", seq, 3);
	pack_pair_text(&p, "code", code);
	pack_pair_text(&p, "text", text);
	pack_pair_bool(&p, "final", final);
	frame_close(&out, at);
	send_frame(s, &out);
}

/* Without it the client would wait for ever. */
static void must_send(struct session *s, struct buf *frame)
{
	if (frame->error != 0)
		end_source(s);
	else
		send_frame(s, frame);
}

static void send_ack(struct session *s)
{
	auto_buf struct buf out;
	struct pack p;
	size_t at;

	buf_init(&out, 256);
	at = frame_open(&out, &p, "ack", s->durable_seq, 0);
	frame_close(&out, at);
	must_send(s, &out);
}

static void send_welcome(struct session *s)
{
	auto_buf struct buf out;
	struct pack p;
	size_t at;

	buf_init(&out, 4096);
	at = frame_open(&out, &p, "welcome", s->durable_seq, 3);
	pack_pair_uint(&p, "v", PROTO_VERSION);
	pack_pair_text(&p, "server", "wbxd " WBX_VERSION);
	pack_text(&p, "limits");
	pack_map(&p, 5);
	pack_pair_uint(&p, "record", RECORD_MAX);
	pack_pair_uint(&p, "part", BLOB_PART_MAX);
	pack_pair_uint(&p, "blobs", RECORD_BLOBS_MAX);
	pack_pair_uint(&p, "keys", RECORD_KEYS_MAX);
	pack_pair_uint(&p, "depth", RECORD_DEPTH_MAX);
	frame_close(&out, at);
	must_send(s, &out);
}

static enum feed_result fail(struct session *s, const char *code, const char *text)
{
	log_info("session", "uid=%u code=%s connection ended: %s", s->uid, code, text);
	stats_add(ingest_stats(s->ingest), COUNT_REJECTED, 1);
	send_reject(s, 0, code, text, true);
	end_source(s);
	return FEED_ENDED;
}

void session_supersede(struct session *s)
{
	(void)fail(s, "superseded", "a new connection of the same producer goes on");
}

void session_time_out(struct session *s, const char *text)
{
	(void)fail(s, "timeout", text); /* nothing is being fed */
}

static enum feed_result hold(struct session *s)
{
	ingest_hold(s->ingest, s);
	return FEED_HELD;
}

/* What a refused addition to the batch means for the feed. */
static enum feed_result fed(struct session *s, int r)
{
	if (r == -EAGAIN)
		return hold(s);
	if (r == -ENOMEM) {
		log_warn("session",
			 "uid=%u out of memory: the connection ends, the client sends again",
			 s->uid);
		end_source(s);
		return FEED_LOST;
	}
	return r == 0 ? FEED_MORE : fail(s, "too_big", "the record does not fit into a batch");
}

/* A numbered record that will not be stored: its seq is acknowledged in its turn. */
static enum feed_result refuse(struct session *s, const struct record *record, const char *code,
			       const char *text)
{
	struct batch_entry e = {.fate = ENTRY_VOID, .seq = record->seq, .code = code};
	enum feed_result result;

	e.kind = record->kind == KIND_UNKNOWN ? KIND_NOTICE : record->kind;
	result = fed(s, ingest_add(s->ingest, s, &e, record->run, record->run));
	if (result != FEED_MORE)
		return result;
	s->last_seq = record->seq;
	stats_add(ingest_stats(s->ingest), COUNT_REJECTED, 1);
	send_reject(s, record->seq, code, text, true);
	return FEED_MORE;
}

static enum feed_result refuse_for_disk(struct session *s, const struct record *record)
{
	static const enum counter counters[CLASS_COUNT] = {
		[CLASS_METRICS] = COUNT_REFUSED_METRICS,
		[CLASS_BULK] = COUNT_REFUSED_BULK,
		[CLASS_TRACES] = COUNT_REFUSED_TRACES,
		[CLASS_REST] = COUNT_REFUSED_REST,
	};
	struct batch_entry e = {.fate = ENTRY_VOID,
				.seq = record->seq,
				.kind = record->kind,
				.has_blobs = record->blobs.at != NULL,
				.code = "disk_full"};
	/* a row that holds a table is refused for its table */
	enum record_class class = e.has_blobs ? CLASS_BULK : kind_info(record->kind)->class;
	enum feed_result result = fed(s, ingest_add(s->ingest, s, &e, record->run, record->run));

	if (result != FEED_MORE)
		return result;
	s->last_seq = record->seq;
	ingest_count_refusal(s->ingest, counters[class]);
	send_reject(s, record->seq, "disk_full",
		    ingest_space(s->ingest) != SPACE_FINE
			    ? "the daemon's disk reserve is reached; tables, files and traces are "
			      "refused"
			    : "more of yours waits than one user may have (store.user_limit); "
			      "tables, files and traces are refused",
		    false);
	return FEED_MORE;
}

static enum feed_result take_hello(struct session *s, const struct record *record)
{
	struct span name = mp_get_bin(mp_of(record->body), "producer");
	int r;

	if (s->is_shut_out)
		return fail(s, "not_allowed",
			    "daemon.allow in wbxd.conf does not let this user log here");
	if (mp_get_uint(mp_of(record->body), "v", 0) < 1)
		return fail(s, "hello_version", "`v` must be 1 or higher");
	if (name.len != PRODUCER_BYTES)
		return fail(s, "bad_field", "hello: `producer` must be 16 bytes");
	memcpy(s->producer, name.at, PRODUCER_BYTES);
	r = ingest_session_opens(s->ingest, s, record->payload);
	if (r < 0)
		return fed(s, r);
	session_move(s, SESSION_OPEN);
	return FEED_MORE;
}

static enum feed_result part_does_not_fit(struct session *s, int r)
{
	if (r == -EMFILE)
		return fail(s, "too_many_blobs",
			    "at most 128 blobs may wait for the records that name them");
	if (r == -ENODATA)
		return fail(s, "blob_order", "blob: `off` is before the end of the part before it");
	end_source(s); /* no memory, or a blob's begin came while the disk was full: the client
			  sends it again */
	return FEED_LOST;
}

static enum feed_result take_part(struct session *s, const struct record *record)
{
	struct mp body = mp_of(record->body);
	struct span data = mp_get_bin(body, "data");
	struct span digest = mp_get_bin(body, "sha256");
	struct part *part;
	int r;

	if (data.len > BLOB_PART_MAX || (digest.at != NULL && digest.len != DIGEST_BYTES))
		return fail(s, "blob_order",
			    "blob: `data` is at most 1 MiB - 1 KiB, `sha256` 32 bytes");
	if (space_for(s) != SPACE_FINE) {
		s->dropped_parts = true;
		return FEED_MORE; /* the record that names it is refused and counted */
	}
	if (s->parts_out >= BLOB_WINDOW_PARTS || !ingest_part_fits(s->ingest, data.len))
		return hold(s);
	r = parts_add(&s->parts, mp_get_uint(body, "id", 0), mp_get_uint(body, "off", 0), data.len,
		      digest);
	if (r == -ENOENT && !s->dropped_parts)
		return FEED_MORE; /* the rest of one whose record is acknowledged */
	if (r < 0)
		return part_does_not_fit(s, r);
	part = mem_zalloc(sizeof(*part));
	if (part == NULL)
		return fed(s, -ENOMEM);
	part->mail.type = MAIL_PART;
	part->session = s;
	part->blob_id = mp_get_uint(body, "id", 0);
	part->offset = mp_get_uint(body, "off", 0);
	part->is_last = digest.at != NULL;
	if (part->is_last)
		memcpy(part->digest, digest.at, DIGEST_BYTES);
	buf_init(&part->data, BLOB_PART_MAX);
	if (buf_add(&part->data, data.at, data.len) < 0) {
		(void)mem_free(part);
		return fed(s, -ENOMEM);
	}
	s->parts_out++;
	ingest_post_part(s->ingest, part);
	return FEED_MORE;
}

void session_part_back(struct part *part)
{
	struct session *s = part->session;
	int r = part->result;

	if (part == &s->forget) {
		(void)mem_free(s);
		return;
	}
	buf_done(&part->data);
	(void)mem_free(part);
	s->parts_out--;
	if (s->state == SESSION_ENDED) {
		maybe_free(s);
		return;
	}
	if (r < 0 && r != -EBADMSG && r != -ENODATA)
		end_source(s); /* nothing was acknowledged; the client sends it again */
	else if (r < 0)
		log_info("session",
			 "uid=%u errno=%d a blob came damaged; the record that names it will be "
			 "rejected",
			 s->uid, -r);
}

static enum feed_result take_record(struct session *s, const struct record *record)
{
	struct batch_entry e = {.fate = ENTRY_STORE,
				.kind = record->kind,
				.seq = record->seq,
				.time_us = record->time_us};
	enum space space = space_for(s);
	enum record_class class = kind_info(record->kind)->class;
	enum feed_result result;

	e.has_blobs = record->blobs.at != NULL;
	if (record->kind == KIND_FLUSH)
		e.lost = mp_get_uint(mp_of(record->body), "lost", 0);
	if (e.has_blobs && s->parts_out > 0)
		return hold(s); /* its parts are not all on disk */
	if (e.has_blobs && s->dropped_parts && space == SPACE_FINE) {
		end_source(s); /* there is room again: the client sends the parts once more */
		return FEED_LOST;
	}
	if (space != SPACE_FINE && kind_info(record->kind)->stored &&
	    (e.has_blobs || class == CLASS_BULK || class == CLASS_TRACES))
		return refuse_for_disk(s, record);
	if (!kind_info(record->kind)->stored)
		e.fate = ENTRY_VOID;
	result = fed(s, ingest_add(s->ingest, s, &e,
				   e.fate == ENTRY_STORE ? record->payload : (struct span){0},
				   e.fate == ENTRY_STORE ? record->run : (struct span){0}));
	if (result != FEED_MORE)
		return result;
	s->last_seq = record->seq;
	s->stored += e.fate == ENTRY_STORE;
	if (e.has_blobs)
		parts_named(&s->parts, record);
	return FEED_MORE;
}

static enum feed_result take_frame(struct session *s, struct span payload)
{
	struct record record;
	struct record_fault fault;
	int r = record_parse(payload, &record, &fault);
	bool numbered = record.kind == KIND_UNKNOWN || kind_info(record.kind)->numbered;

	if (r < 0 && (record.seq == 0 || !numbered))
		return fail(s, fault.code, fault.text);
	if (s->state == SESSION_HELLO && record.kind != KIND_HELLO)
		return fail(s, "hello_first", "the first frame must be `hello`");
	if (record.kind == KIND_HELLO)
		return s->state == SESSION_HELLO ? take_hello(s, &record)
						 : fail(s, "hello_first", "`hello` came twice");
	if (record.kind == KIND_BLOB)
		return take_part(s, &record);
	if (record.seq <= s->last_seq)
		return fail(s, "seq_order", "a seq must be above the one before it");
	return r < 0 ? refuse(s, &record, fault.code, fault.text) : take_record(s, &record);
}

enum feed_result session_feed(struct session *s, struct span in, size_t *ret_used)
{
	*ret_used = 0;
	if (space_for(s) == SPACE_NONE)
		return hold(s);
	for (;;) {
		struct span payload;
		size_t size;
		enum feed_result result;

		switch (frame_next(
			(struct span){.at = in.at + *ret_used, .len = in.len - *ret_used},
			RECORD_MAX, &payload, &size)) {
		case FRAME_NEED_MORE: return FEED_MORE;
		case FRAME_TOO_BIG:
			return fail(s, "frame_too_big",
				    "a frame holds at most 1 MiB; send more as a blob");
		case FRAME_BAD: return fail(s, "bad_frame", "a frame is a msgpack bin object");
		case FRAME_READY: break;
		}
		result = take_frame(s, payload);
		if (result != FEED_MORE)
			return result;
		*ret_used += size;
		s->was_fed = true;
	}
}

void session_settled(struct session *s, const struct batch_peer *peer, int result)
{
	s->in_batches--;
	if (s->state == SESSION_ENDED) {
		maybe_free(s);
		return;
	}
	if (result < 0) {
		end_source(s); /* no ack: what is not on disk is sent again */
		return;
	}
	s->producer_id = peer->producer_id;
	s->durable_seq = peer->durable_seq;
	if (peer->is_new)
		send_welcome(s);
	else
		send_ack(s);
}

void session_rejected(struct session *s, const struct batch_entry *e)
{
	if (s->state == SESSION_OPEN)
		send_reject(s, e->seq, e->code, e->text, true);
}

void session_refused_run(struct session *s, struct span run, const char *why)
{
	auto_buf struct buf out;
	struct pack p;
	size_t at;

	buf_init(&out, RECORD_MAX);
	at = frame_open(&out, &p, "notice", 0, 4);
	pack_pair_str(&p, "run", run);
	pack_pair_text(&p, "state", "rejected");
	pack_pair_text(&p, "reason", why);
	pack_pair_bool(&p, "conflict", true);
	frame_close(&out, at);
	if (s->state == SESSION_OPEN)
		send_frame(s, &out);
}

void session_tell(struct session *s, struct span frame)
{
	if (s->state == SESSION_OPEN)
		s->ops->send(s->source, frame);
}

void session_opened_run(struct session *s, struct span run, bool is_known)
{
	auto_buf struct buf out;
	struct pack p;
	size_t at;

	buf_init(&out, RECORD_MAX);
	at = frame_open(&out, &p, "notice", 0, 2);
	pack_pair_str(&p, "run", run);
	pack_pair_bool(&p, "known", is_known);
	frame_close(&out, at);
	if (s->state == SESSION_OPEN)
		send_frame(s, &out);
}
