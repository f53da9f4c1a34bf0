/* See run_parts.h: a run's requests. */
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	URL_MAX = 16 << 10,
	BODY_MAX = 64 << 20, /* 10 MiB of lines, escaped */
};

/* --- bodies --- */

struct lines {
	struct models_run *r;
	struct wire_stream *stream;
	size_t target;
	int64_t max; /* lines */
};

/* The first line always fits; W&B counts the lines' bytes without what JSON adds. */
static int add_line(void *arg, const struct planned_line *line)
{
	struct lines *l = arg;
	struct request *q = &l->r->request;

	if (q->count > 0 && (q->count >= l->max || line->text.len > l->target - q->text_bytes))
		return 1;
	if (line->text.len > l->target)
		l->target = line->text.len;
	wire_stream_line(l->stream, line->offset, line->text);
	q->count++;
	q->records += line->records;
	q->bytes += line->bytes;
	q->text_bytes += line->text.len;
	return 0;
}

size_t run_body_target(const struct models_run *r)
{
	size_t target = sink_body_target(r->user->sink, r->user->uid);

	return r->body_max != 0 && r->body_max < target ? r->body_max : target;
}

static int add_lines(struct models_run *r, struct wire_stream *stream)
{
	struct lines l = {
		.r = r,
		.stream = stream,
		.target = run_body_target(r),
		.max = r->parts_max != 0 ? r->parts_max : INT64_MAX,
	};
	int e = 0;

	r->request.first = r->info->done_offset;
	while (e == 0 && r->request.first + r->request.count < r->plan->next_offset) {
		int64_t before = r->request.count;

		e = reader_lines(r->host->reader, r->id, r->request.first + before, add_line, &l);
		if (e == 0 && r->request.count == before)
			return -EIO; /* a line that was committed is not there */
	}
	return e < 0 ? e : 0;
}

static int add_summary(struct models_run *r, struct wire_stream *stream)
{
	struct buf text;
	struct json j;
	int e;

	buf_init(&text, LINE_BYTES_MAX);
	json_init(&j, &text);
	summary_to_json(&r->plan->summary, &j);
	if (text.error == -EMSGSIZE)
		log_warn("models", "run=%s the summary is longer than W&B takes; it is not sent",
			 r->info->name);
	else
		wire_stream_summary(stream, buf_span(&text));
	e = text.error == -EMSGSIZE ? 0 : text.error;
	buf_done(&text);
	return e;
}

unsigned request_parts(const struct request *q)
{
	if (q->kind == REQUEST_UPSERT)
		return (q->what & ABOUT_CONFIG) != 0 && !q->is_config_alone ? 2 : 1;
	if (q->kind != REQUEST_STREAM)
		return 1;
	return (unsigned)(q->count + q->side[SIDE_CONSOLE] + q->side[SIDE_EVENTS]) +
	       q->has_summary + q->is_complete + (q->path_count > 0);
}

/* Lines of the history, then the summary when all of them are in, then what goes beside them as far
 * as there is room, then the end; as many of these parts as the search for a refused one allows. */
static int stream_body(struct models_run *r, struct buf *body)
{
	struct request *q = &r->request;
	struct wire_stream stream;
	bool is_last = q->is_complete;
	bool is_all;
	bool is_all_side = false;
	bool is_all_there = false;
	int e;

	wire_stream_begin(&stream, body);
	q->is_complete = false;
	e = add_lines(r, &stream);
	if (e < 0)
		return e;
	is_all = q->first + q->count == r->plan->next_offset;
	q->has_summary = is_all && r->plan->summary_dirty &&
			 (r->parts_max == 0 || request_parts(q) < r->parts_max);
	if (q->has_summary)
		e = add_summary(r, &stream);
	if (e == 0)
		e = run_side_body(r, &stream, &is_all_side);
	if (e == 0)
		e = run_uploaded_body(r, &stream, &is_all_there);
	q->is_preempting = r->plan->preempting && r->parts_max == 0;
	if (q->is_preempting)
		wire_stream_preempting(&stream);
	q->is_complete = is_all && is_all_side && is_all_there && is_last &&
			 (r->parts_max == 0 || request_parts(q) < r->parts_max);
	if (q->is_complete)
		wire_stream_complete(&stream, r->plan->exit_code);
	wire_stream_end(&stream);
	return e < 0 ? e : body->error;
}

struct wire_name run_wire_name(const struct models_run *r)
{
	const struct run_info *i = r->info;

	return (struct wire_name){
		.entity = run_entity(i),
		.project = run_project(i),
		.run = i->name,
	};
}

/* What of it the next upsert says. */
static unsigned upsert_what(struct models_run *r, unsigned what)
{
	unsigned config = what & (unsigned)ABOUT_CONFIG;

	if (r->config == CONFIG_TRUSTED || config == 0)
		return what;
	r->request.is_config_alone = r->config == CONFIG_ALONE;
	return r->config == CONFIG_ALONE ? config : what & ~config;
}

static int upsert_body(struct models_run *r, struct buf *body)
{
	const struct wire_upsert u = {
		.name = run_wire_name(r),
		.id = r->info->server_id[0] != '\0' ? r->info->server_id
		      : r->has_about                ? r->server.id
						    : "",
		.about = &r->plan->about,
		.metrics = &r->plan->metrics,
		.what = upsert_what(r, r->request.what),
		.server = r->has_about ? &r->server_about : NULL,
	};
	struct buf config;

	buf_init(&config, BODY_MAX / 4);
	r->request.what = u.what;
	wire_run_upsert(body, &u, &config);
	buf_done(&config);
	return body->error;
}

static int build(struct models_run *r, struct buf *url, struct buf *body)
{
	const struct wire_name name = run_wire_name(r);
	const char *base_url = r->host->base_url;
	int64_t first = 0;
	int64_t last = 0;
	int e = 0;

	switch (r->request.kind) {
	case REQUEST_STATUS:
		wire_run_status(body, &name, r->request.is_whole);
		e = wire_graphql_url(url, base_url);
		break;
	case REQUEST_ROWS:
		e = run_planned_steps(r, &first, &last);
		wire_run_rows(body, &name, first, last);
		(void)wire_graphql_url(url, base_url); /* the buf remembers */
		break;
	case REQUEST_UPSERT:
		e = upsert_body(r, body);
		(void)wire_graphql_url(url, base_url); /* the buf remembers */
		break;
	case REQUEST_STREAM:
		e = stream_body(r, body);
		(void)wire_stream_url(url, base_url, name.entity, name.project, name.run);
		break;
	case REQUEST_ALERT:
		e = run_alert_body(r, body);
		(void)wire_graphql_url(url, base_url);
		break;
	case REQUEST_FEATURES:
		wire_features(body);
		e = wire_graphql_url(url, base_url);
		break;
	}
	if (e == 0)
		e = url->error != 0 ? url->error : body->error;
	return e;
}

static int post(struct models_run *r, const char *url, struct buf *body)
{
	struct run_headers extra;
	struct sink_body b = {.url = url, .body = body, .lane = LANE_METRICS};

	run_shared_headers(r, r->request.kind == REQUEST_STREAM, &extra);
	b.headers = extra.list;
	b.header_count = extra.count;
	return sink_post_body(r->user->sink, r->user->uid, &b, run_on_answer, r);
}

uint64_t run_send(struct models_run *r, uint64_t now_ms)
{
	struct sink *sink = r->user->sink;
	uint64_t wait_ms = sink_admit(sink, r->user->uid, now_ms);
	struct buf url;
	struct buf body;
	int e;

	if (wait_ms != 0)
		return wait_ms == UINT64_MAX ? UINT64_MAX : now_ms + wait_ms;
	buf_init(&url, URL_MAX);
	buf_init(&body, BODY_MAX);
	e = build(r, &url, &body);
	if (e < 0)
		sink_cancel(sink);
	else
		e = post(r, (const char *)url.data, &body);
	buf_done(&url);
	buf_done(&body);
	if (e < 0) {
		run_give_up(r, "making a request", e);
		return r->not_before_ms;
	}
	r->contact_ms = now_ms;
	r->served = r->user->served = ++r->host->served;
	if (r->request.kind == REQUEST_STREAM)
		r->posted_ms = now_ms;
	r->alert_was_last = r->request.kind == REQUEST_ALERT;
	run_to_work(r, WORK_SENDING);
	return UINT64_MAX;
}
