/* See run_parts.h: what an answer means for a run. */
#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	ANSWER_KEPT = 4096, /* bytes, in a dead letter */
	CONFIG_MAX = 16 << 20,
	REQUEST_TEXT_MAX = 2048,
	KEY_DOUBTS_MAX = 6, /* of one run: 401 while the key is a good one elsewhere */
	BODY_LEAST = 4096, /* bytes of lines: a 413 makes bodies no smaller, but for single lines */
};

/* --- refused --- */

void run_add_dead(struct models_run *r, const struct http_answer *a, const char *reason,
		  const char *what, int64_t step, struct span body)
{
	const struct wire_name name = run_wire_name(r);
	char request[REQUEST_TEXT_MAX];
	struct change c = {
		.kind = CHANGE_DEAD_ADD,
		.run = r->id,
		.text = SPAN_LITERAL("models"),
		.time_us = (int64_t)clock_wall_us(),
		.dead =
			{
				.status = a->status,
				.what = what,
				.step = step,
				.reason = span_of_text(reason),
				.answer = a->body,
				.body = body,
			},
	};

	if (r->request.kind == REQUEST_STREAM)
		(void)snprintf(request, sizeof(request), "POST /files/%s/%s/%s/file_stream",
			       name.entity, name.project, name.run); /* may be cut */
	else
		(void)snprintf(request, sizeof(request), "POST /graphql %s",
			       r->request.kind == REQUEST_ALERT ? "notifyScriptableRunAlert"
								: "upsertBucket");
	c.dead.request = span_of_text(request);
	if (c.dead.answer.len > ANSWER_KEPT)
		c.dead.answer.len = ANSWER_KEPT;
	changes_add(r->changes, &c);
	log_error("models", "run=%s http=%d what=%s W&B refused it for good: %s (wbxctl dead list)",
		  r->info->name, a->status, what, reason);
}

struct refusal {
	struct models_run *r;
	const struct http_answer *answer;
	const char *reason;
};

static int on_dead_line(void *arg, const struct planned_line *line)
{
	const struct refusal *f = arg;
	struct models_run *r = f->r;
	const struct change dead = {.kind = CHANGE_LINE_DEAD, .run = r->id, .offset = line->offset};
	const struct change confirm = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(r->id, CLASS_METRICS),
		.records = line->records,
		.bytes = line->bytes,
	};

	run_add_dead(r, f->answer, f->reason, "line", line->step, line->text);
	changes_add(r->changes, &dead);
	changes_add(r->changes, &confirm);
	r->plan->next_offset--;
	r->planned_bytes -= line->text.len < r->planned_bytes ? line->text.len : r->planned_bytes;
	return 1;
}

static void drop_summary(struct models_run *r, const struct http_answer *a, const char *reason)
{
	struct buf text;
	struct json j;

	buf_init(&text, LINE_BYTES_MAX);
	json_init(&j, &text);
	summary_to_json(&r->plan->summary, &j);
	run_add_dead(r, a, reason, "summary", -1, buf_span(&text));
	r->summary_is_refused = true;
	r->plan->summary_dirty = false;
	plan_save(r->plan, r->changes);
	buf_done(&text);
}

static void park(struct models_run *r, const struct http_answer *a, const char *reason)
{
	char why[WIRE_REASON_MAX + 32];

	(void)snprintf(why, sizeof(why), "HTTP %d: %s", a->status, reason); /* may be cut */
	run_park(r, why);
	run_commit(r);
}

/* The run was taken without its config; this was the config alone. */
static void config_is_refused(struct models_run *r, const struct http_answer *a, const char *reason)
{
	struct buf config;
	struct json j;

	buf_init(&config, CONFIG_MAX);
	json_init(&j, &config);
	about_config_to_json(&r->plan->about, &r->plan->metrics,
			     r->has_about ? &r->server_about : NULL, &j);
	run_add_dead(r, a, reason, "config", -1, buf_span(&config));
	buf_done(&config);
	r->plan->about.dirty &= ~(unsigned)ABOUT_CONFIG;
	r->config = CONFIG_TRUSTED;
	plan_save(r->plan, r->changes);
	run_commit(r);
}

/* Lines that went together will go in smaller bodies from now on. */
static void shrink_bodies(struct models_run *r)
{
	size_t half = r->request.text_bytes / 2;

	if (r->request.count > 1)
		r->body_max = half > BODY_LEAST ? half : BODY_LEAST;
}

/* Every full body that is taken makes the next one a little bigger: what was too big may have been
 * something else than the lines, or a limit that is gone. */
static void grow_bodies(struct models_run *r)
{
	if (r->body_max == 0 || r->request.text_bytes < r->body_max / 2)
		return;
	r->body_max += r->body_max / 8;
	if (r->body_max >= sink_body_target(r->user->sink, r->user->uid))
		r->body_max = 0;
}

/* One part of the stream alone is what W&B will not have. */
static void refuse_part(struct models_run *r, const struct http_answer *a, const char *reason)
{
	struct refusal f = {.r = r, .answer = a, .reason = reason};
	int e = 0;

	r->parts_max = 0;
	if (r->request.count == 1) {
		e = reader_lines(r->host->reader, r->id, r->request.first, on_dead_line, &f);
	} else if (r->request.has_summary) {
		drop_summary(r, a, reason);
	} else if (r->request.path_count > 0) {
		log_warn("models",
			 "run=%s http=%d W&B does not want to know which files are there: %s",
			 r->info->name, a->status, reason);
		run_uploaded_sent(r); /* the storage may have told it */
	} else if (r->request.is_complete) {
		park(r, a, reason);
		return;
	} else {
		e = run_side_refused(r, a, reason);
	}
	if (e < 0)
		run_give_up(r, "setting a line aside", e);
	else
		run_commit(r);
}

static void refused(struct models_run *r, const struct http_answer *a, bool can_split)
{
	char reason[WIRE_REASON_MAX];
	unsigned parts = request_parts(&r->request);

	wire_reason(a->body, reason);
	if (can_split && r->request.kind == REQUEST_UPSERT) {
		r->config = CONFIG_LEFT_OUT;
		return;
	}
	if (can_split) {
		r->parts_max = parts / 2;
		if (a->status == 413)
			shrink_bodies(r);
		return;
	}
	if (!run_changes(r))
		return;
	if (r->request.kind == REQUEST_STREAM || r->request.kind == REQUEST_ALERT)
		refuse_part(r, a, reason);
	else if (r->request.is_config_alone)
		config_is_refused(r, a, reason);
	else
		park(r, a, reason);
}

/* --- accepted --- */

static void take_names(struct models_run *r, const struct wire_run *server)
{
	struct run_info *i = r->info;
	const struct change c = {
		.kind = CHANGE_RUN_SERVER,
		.run = r->id,
		.text = span_of_text(server->display_name),
		.text2 = span_of_text(server->id),
		.text3 = span_of_text(server->entity),
		.text4 = span_of_text(server->project),
	};

	(void)snprintf(i->display_name, sizeof(i->display_name), "%s", server->display_name);
	(void)snprintf(i->server_id, sizeof(i->server_id), "%s", server->id);
	(void)snprintf(i->server_entity, sizeof(i->server_entity), "%s", server->entity);
	(void)snprintf(i->server_project, sizeof(i->server_project), "%s", server->project);
	changes_add(r->changes, &c);
}

/* What is confirmed by it: the lines; and everything else, once nothing is left to say. */
static void confirm(struct models_run *r)
{
	const struct request *q = &r->request;
	struct plan *p = r->plan;
	bool is_all = p->about.dirty == 0 && !p->summary_dirty && !p->preempting &&
		      r->info->done_offset == p->next_offset;
	int64_t oldest = rows_oldest_lsn(&p->rows);
	struct change c = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(r->id, CLASS_METRICS),
		.lsn = oldest <= p->cursor ? oldest - 1 : p->cursor,
		.records = q->records,
		.bytes = q->bytes,
	};

	if (is_all) {
		c.records += p->side_records;
		c.bytes += p->side_bytes;
		p->side_records = p->side_bytes = 0;
	}
	changes_add(r->changes, &c);
	sink_delivered(r->user->sink, (uint64_t)c.records, clock_mono_ms());
}

static void upsert_is_taken(struct models_run *r, const struct wire_run *server)
{
	struct plan *p = r->plan;

	if (!run_changes(r))
		return;
	take_names(r, server);
	if (r->info->state == RUN_NEW) {
		run_take_place(r, server->lines);
		run_move(r, RUN_CREATED);
		p->may_write = true;
		p->is_made = true;
		r->is_stopped = false;
	}
	about_is_sent(&p->about, r->request.what);
	r->config = r->config == CONFIG_LEFT_OUT ? CONFIG_ALONE : CONFIG_TRUSTED;
	r->request.records = r->request.bytes = 0;
	confirm(r);
	run_tell(r);
	run_forget_about(r); /* it may change there at any time */
	run_own_is_sent(r);
	plan_save(p, r->changes);
	run_commit(r);
}

static void add_sink_ok(struct models_run *r)
{
	const struct change c = {
		.kind = CHANGE_SINK_OK,
		.text = span_of_text(r->user->sink->title),
		.time_us = (int64_t)clock_wall_us(),
		.records = r->request.records,
	};

	changes_add(r->changes, &c);
}

static void add_end(struct models_run *r)
{
	const struct change c = {
		.kind = CHANGE_RUN_EXIT, .run = r->id, .number = r->plan->exit_code};

	changes_add(r->changes, &c);
	run_move(r, RUN_DONE);
	r->is_done = true;
}

static void stream_is_taken(struct models_run *r)
{
	const struct request *q = &r->request;
	const struct change done = {
		.kind = CHANGE_LINES_DONE, .run = r->id, .offset = q->first + q->count};
	bool is_news = request_parts(q) > 0 || r->plan->side_records > 0;

	if ((!is_news && r->info->state != RUN_CREATED) || !run_changes(r))
		return; /* a heartbeat */
	if (q->count > 0)
		changes_add(r->changes, &done);
	r->info->done_offset = q->first + q->count;
	r->plan->has_written |= request_parts(q) > 0;
	grow_bodies(r);
	r->planned_bytes -= q->text_bytes < r->planned_bytes ? q->text_bytes : r->planned_bytes;
	if (q->has_summary) {
		r->summary_is_refused = false;
		r->plan->summary_dirty = false;
		summary_is_sent(&r->plan->summary);
		run_forget_about(r);
	}
	if (q->is_preempting)
		r->plan->preempting = false;
	run_side_sent(r);
	run_uploaded_sent(r);
	if (r->parts_max != 0 && r->info->done_offset == r->plan->next_offset &&
	    !side_has_lines(r->side))
		r->parts_max = 0;
	confirm(r);
	add_sink_ok(r);
	if (q->is_complete)
		add_end(r);
	else if (r->info->state == RUN_CREATED)
		run_move(r, RUN_LIVE);
	plan_save(r->plan, r->changes);
	run_commit(r);
}

static void alert_is_taken(struct models_run *r)
{
	if (!run_changes(r))
		return;
	run_side_sent(r);
	add_sink_ok(r);
	run_commit(r);
}

/* --- answers --- */

/* What the body says. -EBADMSG: it is not readable where it must be. */
static int read_body(struct models_run *r, const struct http_answer *a, struct wire_run *ret)
{
	*ret = (struct wire_run){.exists = false};
	if (a->transport != TRANSPORT_ANSWERED || a->status < 200 || a->status >= 300)
		return 0;
	switch (r->request.kind) {
	case REQUEST_STATUS:
		run_forget_about(r);
		return wire_read_run_status(a->body, ret, &r->server_about);
	case REQUEST_ROWS: return run_read_rows(r, a->body);
	case REQUEST_UPSERT: return wire_read_upsert(a->body, ret);
	case REQUEST_ALERT: return wire_read_alert(a->body);
	case REQUEST_FEATURES:
	case REQUEST_STREAM: return 0; /* any 2xx: it has it, whatever it says */
	}
	return 0;
}

/* Once pressed it stays so (research: wire/wandb-models 3.1). */
static void look_for_stop(struct models_run *r, struct span body)
{
	if (r->is_pressed || !wire_read_stopped(body))
		return;
	r->is_pressed = true;
	log_info("models", "run=%s somebody pressed Stop in W&B; its processes are told",
		 r->info->name);
	run_tell(r);
}

static void accepted(struct models_run *r, struct span body, const struct wire_run *server)
{
	r->attempt = 0;
	r->doubts = 0;
	if (r->request.kind == REQUEST_UPSERT || r->request.kind == REQUEST_STREAM)
		r->heard_ms = clock_mono_ms();
	switch (r->request.kind) {
	case REQUEST_STATUS: run_status_is_known(r, server); return;
	case REQUEST_ROWS: run_rows_are_known(r); return;
	case REQUEST_UPSERT: upsert_is_taken(r, server); return;
	case REQUEST_STREAM:
		look_for_stop(r, body);
		stream_is_taken(r);
		return;
	case REQUEST_ALERT: alert_is_taken(r); return;
	case REQUEST_FEATURES: return; /* run_take_features() */
	}
}

/* The key works (asking who we are said so after the first time): it is this run that it may not
 * touch. */
static void doubt_key(struct models_run *r, const struct http_answer *a)
{
	char reason[WIRE_REASON_MAX];

	if (r->doubts++ == 0)
		return;
	if (a->status == 401 &&
	    r->doubts < KEY_DOUBTS_MAX) { /* not about what is allowed: it may pass */
		r->not_before_ms = clock_mono_ms() + r->doubts * r->host->interval_ms;
		return;
	}
	if (!run_changes(r))
		return;
	wire_reason(a->body, reason);
	park(r, a, reason);
}

static void park_run(struct models_run *r, const struct http_answer *a)
{
	char reason[WIRE_REASON_MAX];

	wire_reason(a->body, reason);
	if (run_changes(r))
		park(r, a, reason);
}

static void obey(struct models_run *r, const struct http_answer *a, struct retry_verdict v,
		 const struct wire_run *server, uint64_t now_ms)
{
	switch (v.action) {
	case RETRY_SENT: accepted(r, a->body, server); return;
	case RETRY_URL: /* of a storage alone */
	case RETRY_AGAIN:
		r->attempt++;
		if (a->transport != TRANSPORT_ANSWERED)
			r->is_alone = false; /* the link was gone: perhaps we were taken for dead */
		if (now_ms + v.wait_ms > r->not_before_ms)
			r->not_before_ms = now_ms + v.wait_ms;
		log_warn("models", "run=%s http=%d wait_ms=%llu %s; it is tried again",
			 r->info->name, a->status, (unsigned long long)v.wait_ms,
			 a->transport == TRANSPORT_ANSWERED ? "W&B could not take it"
			 : a->error[0] != '\0'              ? a->error
							    : transport_text(a->transport));
		return;
	case RETRY_SPLIT: refused(r, a, true); return;
	case RETRY_REFUSED: refused(r, a, false); return;
	case RETRY_PARK_RUN: park_run(r, a); return;
	case RETRY_KEY: doubt_key(r, a); return;
	}
}

void run_on_answer(void *arg, struct sink *sink, const struct http_answer *a)
{
	static const enum endpoint endpoints[] = {
		[REQUEST_STATUS] = ENDPOINT_GRAPHQL, [REQUEST_ROWS] = ENDPOINT_GRAPHQL,
		[REQUEST_UPSERT] = ENDPOINT_UPSERT,  [REQUEST_STREAM] = ENDPOINT_STREAM,
		[REQUEST_ALERT] = ENDPOINT_GRAPHQL,  [REQUEST_FEATURES] = ENDPOINT_GRAPHQL,
	};
	struct models_run *r = arg;
	struct http_answer answer = *a;
	struct retry_facts facts = {
		.endpoint = endpoints[r->request.kind],
		.attempt = r->attempt + 1,
		.parts = request_parts(&r->request),
	};
	struct wire_run *server = mem_alloc(sizeof(*server));
	uint64_t now_ms = clock_mono_ms();
	uint64_t spacing_ms = sink_spacing_ms(sink, a);
	int e;

	if (r->request.count > 0)
		fault_point("sender.answered");
	if (r->request.side[SIDE_CONSOLE] + r->request.side[SIDE_EVENTS] > 0)
		fault_point("side.answered");
	run_to_work(r, WORK_IDLE);
	if (r->request.kind == REQUEST_FEATURES && run_take_features(r, sink, a)) {
		(void)mem_free(server);
		return;
	}
	if (server == NULL) {
		run_give_up(r, "reading an answer", -ENOMEM);
		return;
	}
	e = read_body(r, a, server);
	if (e == -EBADMSG || e == -ENOMEM) { /* half an answer, or somebody else's: ask again */
		answer.transport = TRANSPORT_BROKEN;
		(void)snprintf(answer.error, sizeof(answer.error), "an answer that cannot be read");
	}
	facts.has_errors = e == -EREMOTEIO;
	if (spacing_ms > 0)
		r->not_before_ms = now_ms + spacing_ms;
	obey(r, &answer, sink_judge(sink, &answer, &facts, now_ms), server, now_ms);
	(void)mem_free(server);
}
