/* See run_parts.h: lines become requests, and what the answers mean. */
#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/weave/run_parts.h"
#include "daemon/forward/weave/wire.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	URL_MAX = 16 << 10,
	BODY_MAX = 40 << 20, /* an old server's has more around a call */
	REASON_MAX = 200,
	ANSWER_KEPT = 4096,
	KEY_DOUBTS_MAX = 6,
	TEXT_LEAST = 1 << 10,
	DAY_NOTICE_BYTES = 1000000000,
};

/* --- requests --- */

struct sending {
	struct weave_run *r;
	struct buf *body;
	char trace[CALL_ID_MAX + 1]; /* of the line that was added last */
	size_t most;
	bool is_table_there; /* the table at the head is: the object behind it goes */
	bool is_full;
	int error;
};

static void take_name(char room[CALL_ID_MAX + 1], struct span name)
{
	size_t len = name.len < CALL_ID_MAX ? name.len : CALL_ID_MAX;

	memcpy(room, name.at == NULL ? (const uint8_t *)"" : name.at, len);
	room[len] = '\0';
}

/* The text of an object whose rows have a digest by now. */
static int add_with_table(struct buf *body, struct span text, const char *digest)
{
	static const char word[] = "/table/TABLE\"";
	const uint8_t *at = memmem(text.at, text.len, word, sizeof(word) - 1);

	if (at == NULL)
		return buf_add(body, text.at, text.len);
	(void)buf_add(body, text.at, (size_t)(at - text.at) + 7); /* the buf remembers */
	(void)buf_add_text(body, digest);
	at += sizeof(word) - 2;
	return buf_add(body, at, (size_t)(text.at + text.len - at));
}

static bool fits(const struct sending *s, const struct trace_line *line)
{
	const struct weave_request *q = &s->r->request;

	if (q->count == 0)
		return true;
	return line->kind == q->kind && q->count < s->most &&
	       line->text.len <= WEAVE_BODY_BYTES_MAX - q->bytes;
}

static int on_line(void *arg, const struct trace_line *line)
{
	struct sending *s = arg;
	struct weave_run *r = s->r;
	struct weave_request *q = &r->request;

	if (line->kind == TRACE_TABLE && r->table_digest[0] != '\0' && !s->is_table_there) {
		s->is_table_there = true;
		return 0;
	}
	if (!fits(s, line)) {
		s->is_full = true;
		return 1;
	}
	if (q->count == 0) {
		q->kind = line->kind;
		q->first = line->id;
		s->most = trace_wire_most(line->kind);
		if (r->host->is_old && line->kind == TRACE_FEEDBACK)
			s->most = 1;
		if (r->parts_max != 0 && r->parts_max < s->most)
			s->most = r->parts_max;
		trace_wire_begin(s->body, line->kind, r->host->is_old);
	}
	if (line->kind == TRACE_FILE)
		trace_wire_file(s->body, run_entity(&r->info), run_project(&r->info), line->text);
	else if (s->is_table_there)
		s->error = add_with_table(s->body, line->text, r->table_digest);
	else
		s->error = trace_wire_add(s->body, line->kind, r->host->is_old, q->count == 0,
					  line->text);
	q->last = line->id;
	q->count++;
	q->records += line->share.records;
	q->bytes += line->text.len;
	take_name(s->trace, line->trace);
	return s->error < 0 ? s->error : s->body->error;
}

static int build(struct weave_run *r, struct buf *url, struct buf *body)
{
	struct sending s = {.r = r, .body = body};
	int64_t after = 0;
	unsigned before;
	int e;

	r->request = (struct weave_request){.count = 0};
	do {
		before = r->request.count;
		e = reader_trace_lines(r->host->reader, r->id, after, on_line, &s);
		after = r->request.last;
	} while (e == 0 && !s.is_full && r->request.count > before);
	if (e < 0)
		return e;
	if (r->request.count == 0)
		return -ENOENT;
	trace_wire_end(body, r->request.kind, r->host->is_old);
	r->request.bytes = body->len;
	e = trace_wire_url(url, r->host->base_url, run_entity(&r->info), run_project(&r->info),
			   r->request.kind, r->host->is_old);
	return e < 0 ? e : body->error;
}

/* --- answers --- */

/* The line becomes a dead letter. */
struct refusal {
	struct weave_run *r;
	const struct http_answer *answer;
	int64_t id;
	const char *reason;
};

static const char *what_of(enum trace_line_kind kind)
{
	static const char *const names[TRACE_LINE_KINDS] = {"call", "call",   "call",   "feedback",
							    "op",   "object", "object", "cost"};

	return names[kind];
}

static int on_refused(void *arg, const struct trace_line *line)
{
	struct refusal *f = arg;
	const struct change c = {.kind = CHANGE_TRACE_REFUSED, .run = f->r->id, .number = line->id};
	struct span answer = f->answer->body;
	struct buf url;

	if (line->id < f->id)
		return 0;
	buf_init(&url, URL_MAX);
	(void)buf_add_text(&url, "POST ");
	(void)trace_wire_url(&url, "", run_entity(&f->r->info), run_project(&f->r->info),
			     line->kind, f->r->host->is_old); /* a short one in its place */
	answer.len = answer.len < ANSWER_KEPT ? answer.len : ANSWER_KEPT;
	weave_add_dead(f->r, f->answer->status, what_of(line->kind), f->reason,
		       url.error != 0 ? SPAN_LITERAL("POST")
				      : (struct span){.at = url.data, .len = url.len - 1},
		       answer, line->text);
	changes_add(f->r->changes, &c);
	buf_done(&url);
	return 1;
}

/* Line `at` of the request is what the server will not have. */
static void refuse(struct weave_run *r, const struct http_answer *a, int64_t at)
{
	char reason[REASON_MAX];
	struct refusal f = {.r = r, .answer = a, .id = r->request.first + at, .reason = reason};
	int e;

	trace_wire_reason(a->body, reason, sizeof(reason));
	if (!weave_changes(r))
		return;
	e = reader_trace_lines(r->host->reader, r->id, r->request.first - 1, on_refused, &f);
	r->parts_max = 0;
	r->attempt = 0;
	if (e < 0)
		weave_give_up(r, "setting a call aside", e);
	else
		weave_commit(r);
}

/* W&B's plans count bytes: who has set no budget hears once a day that it is getting much. */
static void mind_the_day(struct weave_run *r, int64_t bytes)
{
	int64_t day = weave_day_of((int64_t)clock_wall_us());
	int64_t before = 0;

	for (size_t i = 0; i < r->host->rules->count; i++) {
		if (r->host->rules->items[i].rule.per_day > 0)
			return;
	}
	if (reader_trace_bytes(r->host->reader, 0, -1, day, day, &before) == 0 &&
	    before < DAY_NOTICE_BYTES && before + bytes >= DAY_NOTICE_BYTES)
		log_warn("weave",
			 "run=%s traces of 1 GB went to W&B today; day= in [sampling] of wbxd.conf "
			 "sets a limit",
			 r->info.name);
}

static void confirm(struct weave_run *r, const struct http_answer *a, uint64_t now_ms)
{
	const struct change done = {
		.kind = CHANGE_TRACE_DONE,
		.run = r->id,
		.number = r->request.last,
		.bytes = (int64_t)r->request.bytes,
		.time_us = (int64_t)clock_wall_us(),
	};
	const struct change ok = {
		.kind = CHANGE_SINK_OK,
		.text = span_of_text(r->user->sink->title),
		.time_us = done.time_us,
		.records = r->request.records,
	};
	uint64_t spacing_ms = sink_spacing_ms(r->user->sink, a);

	fault_point("weave.answered");
	mind_the_day(r, done.bytes);
	r->attempt = 0;
	r->doubts = 0;
	r->parts_max = 0;
	if (spacing_ms > 0)
		r->not_before_ms = now_ms + spacing_ms;
	if (r->request.kind == TRACE_TABLE &&
	    trace_wire_digest(a->body, r->table_digest, sizeof(r->table_digest))) {
		weave_to_work(r, WEAVE_IDLE); /* it is done with the object that names it */
		return;
	}
	r->table_digest[0] = '\0';
	if (!weave_changes(r))
		return;
	changes_add(r->changes, &done);
	changes_add(r->changes, &ok);
	sink_delivered(r->user->sink, (uint64_t)r->request.records, now_ms);
	weave_commit(r);
}

static void park(struct weave_run *r, const struct http_answer *a)
{
	char reason[REASON_MAX];
	char why[REASON_MAX + 32];

	trace_wire_reason(a->body, reason, sizeof(reason));
	(void)snprintf(why, sizeof(why), "HTTP %d: %s", a->status, reason); /* may be cut */
	if (!weave_changes(r))
		return;
	weave_park(r, why);
	weave_commit(r);
}

static void again(struct weave_run *r, uint64_t wait_ms, uint64_t now_ms)
{
	r->attempt++;
	r->not_before_ms = now_ms + wait_ms;
	weave_to_work(r, WEAVE_IDLE);
}

static void split(struct weave_run *r, const struct http_answer *a)
{
	int64_t culprit = a->status == 422 ? trace_wire_culprit(a->body) : -1;

	if (culprit >= 0 && culprit < (int64_t)r->request.count) {
		refuse(r, a, culprit);
		return;
	}
	r->parts_max = (r->request.count + 1) / 2;
	r->attempt = 0;
	weave_to_work(r, WEAVE_IDLE);
}

/* What the routes of the server are: it may be older, or its project newer, than we took it for. */
static bool is_other_route(struct weave_run *r, const struct http_answer *a)
{
	bool was_old = r->host->is_old;

	if (a->transport != TRANSPORT_ANSWERED || r->request.kind > TRACE_FEEDBACK)
		return false;
	if (a->status == 404 && !was_old && trace_wire_is_old(a->body))
		r->host->is_old = true;
	else if (a->status == 400 && was_old && trace_wire_wants_new(a->body))
		r->host->is_old = false;
	if (r->host->is_old == was_old)
		return false;
	log_warn("weave", "run=%s http=%d the trace server is taken for %s one from now on",
		 r->info.name, a->status, was_old ? "a new" : "an old");
	return true;
}

static void judge(struct weave_run *r, struct sink *sink, const struct http_answer *a)
{
	uint64_t now_ms = clock_mono_ms();
	struct retry_facts facts = {
		.endpoint = ENDPOINT_WEAVE,
		.attempt = r->attempt + 1,
		.parts = r->request.count,
	};
	struct retry_verdict v;

	if (is_other_route(r, a)) {
		weave_to_work(r, WEAVE_IDLE);
		return;
	}
	v = sink_judge(sink, a, &facts, now_ms);
	if (a->status == 404 && r->request.kind == TRACE_END && v.action == RETRY_PARK_RUN)
		v.action = RETRY_REFUSED; /* it lost the start, not the project */
	switch (v.action) {
	case RETRY_SENT: confirm(r, a, now_ms); return;
	case RETRY_AGAIN: again(r, v.wait_ms, now_ms); return;
	case RETRY_SPLIT: split(r, a); return;
	case RETRY_URL:
	case RETRY_REFUSED: refuse(r, a, 0); return;
	case RETRY_PARK_RUN: park(r, a); return;
	case RETRY_KEY:
		if (++r->doubts >= KEY_DOUBTS_MAX)
			park(r, a);
		else
			again(r, r->doubts > 1 ? 1000 : 0, now_ms);
		return;
	}
}

static void on_answer(void *arg, struct sink *sink, const struct http_answer *a)
{
	struct weave_run *r = arg;

	r->next_ms = 0;
	judge(r, sink, a);
}

uint64_t weave_send(struct weave_run *r, uint64_t now_ms)
{
	struct sink *sink = r->user->sink;
	uint64_t wait_ms = sink_admit(sink, r->user->uid, now_ms);
	struct sink_body post = {.lane = LANE_TRACES};
	struct buf url;
	struct buf body;
	int e;

	if (wait_ms != 0)
		return wait_ms == UINT64_MAX ? UINT64_MAX : now_ms + wait_ms;
	buf_init(&url, URL_MAX);
	buf_init(&body, BODY_MAX);
	e = build(r, &url, &body);
	if (e < 0) {
		sink_cancel(sink);
	} else {
		post.url = (const char *)url.data;
		post.body = &body;
		post.type = r->request.kind == TRACE_FILE ? trace_wire_file_type : NULL;
		e = sink_post_body(sink, r->user->uid, &post, on_answer, r);
	}
	buf_done(&url);
	buf_done(&body);
	if (e < 0) {
		weave_give_up(r, "making a request", e);
		return r->not_before_ms;
	}
	r->user->served = ++r->host->served;
	weave_to_work(r, WEAVE_SENDING);
	return UINT64_MAX;
}
