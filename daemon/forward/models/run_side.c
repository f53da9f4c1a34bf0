/* See run_parts.h: what a run sends beside its history. */
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>

enum {
	SLICE_RECORDS = 64,    /* of a plan, before others get a turn */
	FEATURE_TRIES_MAX = 3, /* then lines go as every server takes them */
};

static const char *const file_names[] = {
	[SIDE_CONSOLE] = "output.log",
	[SIDE_EVENTS] = "wandb-events.jsonl",
};

/* --- planning --- */

int run_load_side(struct models_run *r)
{
	r->side = mem_zalloc(sizeof(*r->side));
	if (r->side == NULL)
		return -ENOMEM;
	side_init(r->side, r->id);
	r->has_side_letters = true; /* a look will tell */
	if (r->reported_ms == 0)
		r->reported_ms = clock_mono_ms(); /* the first has its time to come */
	return side_load(r->side, r->host->reader);
}

bool run_has_side(struct models_run *r)
{
	return run_has_more(r, CLASS_REST, &r->side->cursor, &r->may_have_side);
}

static int on_any_letter(void *arg, const struct dead_info *dead)
{
	(void)arg;
	return side_is_letter(dead) ? 1 : 0;
}

static bool has_letters(struct models_run *r)
{
	if (r->has_side_letters)
		r->has_side_letters =
			reader_dead_retries(r->host->reader, r->id, on_any_letter, NULL) == 1;
	return r->has_side_letters;
}

bool run_wants_side(struct models_run *r, bool is_planned)
{
	if (!r->plan->may_write || side_waits(r->side))
		return false;
	return run_has_side(r) || has_letters(r) ||
	       (is_planned && side_has_orphans(r->side, &r->plan->rows));
}

static int on_letter(void *arg, const struct dead_info *dead)
{
	struct models_run *r = arg;

	return side_revive(r->side, r->changes, dead);
}

/* --- what a run tells of itself --- */

bool run_report_is_due(const struct models_run *r, uint64_t now_ms)
{
	return r->host->self_report_ms != 0 && r->info->state == RUN_LIVE &&
	       !plan_is_over(r->plan) && !side_waits(r->side) &&
	       now_ms >= r->reported_ms + r->host->self_report_ms;
}

static int add_report(struct models_run *r)
{
	static const enum record_class classes[] = {CLASS_METRICS, CLASS_REST};
	int64_t now_us = (int64_t)clock_wall_us();
	struct side_report report = {.time_us = now_us};
	int64_t oldest_us = now_us;
	int64_t lag_ms;

	for (unsigned i = 0; i < array_len(classes); i++) {
		struct stream_info stream;
		int e = reader_stream(r->host->reader, stream_of(r->id, classes[i]), &stream);

		if (e < 0)
			return e;
		report.waiting_bytes += stream.waiting_bytes + stream.waiting_blob_bytes;
		if (stream.waiting > 0 && stream.oldest_us != 0 && stream.oldest_us < oldest_us)
			oldest_us = stream.oldest_us;
	}
	lag_ms = (now_us - oldest_us) / 1000;
	report.lag_s = (double)lag_ms / 1000;
	if (r->plan->shared.is_on && r->plan->shared.label[0] != '\0')
		report.label = r->plan->shared.label;
	return side_add_report(r->side, r->changes, &report);
}

bool run_say_complete(struct models_run *r)
{
	const struct run_info *i = r->info;
	bool is_complete = i->dead == 0 && i->late == 0 && i->refused == 0;
	char key[COMPLETE_KEY_MAX];
	int e;

	if (r->host->self_report_ms == 0 || i->state == RUN_DONE || !r->plan->has_run ||
	    r->summary_is_refused)
		return false;
	run_complete_key(r, key);
	e = summary_set_bool(&r->plan->summary, span_of_text(key), is_complete);
	if (e != 0)
		return false; /* it stands there, or there is no room for it */
	if (!run_changes(r))
		return true;
	r->plan->summary_dirty = true;
	plan_save(r->plan, r->changes);
	run_commit(r);
	return true;
}

void run_unsay_complete(struct models_run *r)
{
	struct summary *s = &r->plan->summary;
	char key[COMPLETE_KEY_MAX];

	run_complete_key(r, key);
	if (r->plan->has_run && summary_has(s, span_of_text(key)) &&
	    summary_set_bool(s, span_of_text(key), false) == 0)
		r->plan->summary_dirty = true;
}

/* --- planning, on --- */

bool run_side_start(struct models_run *r, bool is_planned)
{
	const struct sink *sink = r->user->sink;
	int e = 0;

	if (!sink->knows_features && (run_has_side(r) || r->side->console.count > 0)) {
		r->request = (struct request){.kind = REQUEST_FEATURES};
		return true;
	}
	if (!run_changes(r))
		return false;
	r->side->is_structured = sink->knows_features && sink->has_structured_console;
	r->side->start_us = r->plan->start_us;
	side_begin(r->side);
	r->held_back_before = r->side->held_back;
	if (r->has_side_letters)
		e = reader_dead_retries(r->host->reader, r->id, on_letter, r);
	if (e == 0 && is_planned && !run_has_side(r))
		e = side_end_orphans(r->side, r->changes, &r->plan->rows);
	if (e == 0 && run_report_is_due(r, clock_mono_ms())) {
		r->reported_ms = clock_mono_ms();
		e = add_report(r);
	}
	if (e < 0)
		run_give_up(r, "planning", e);
	else
		run_to_work(r, WORK_SIDE);
	return false;
}

struct slice {
	struct models_run *r;
	bool is_full;
};

static int on_record(void *arg, const struct stored_record *record)
{
	struct slice *s = arg;
	struct side *side = s->r->side;
	int e = side_take(side, s->r->changes, record);

	s->is_full = e == 0 && side->cursor != record->lsn;
	return e < 0 ? e : s->is_full;
}

/* Alerts that this plan did not repeat. */
static void count_held_back(struct models_run *r)
{
	uint64_t held = (uint64_t)(r->side->held_back - r->held_back_before);

	if (held == 0)
		return;
	stats_add(r->user->sink->pool->stats, COUNT_ALERTS_HELD, held);
	log_info("models", "run=%s alerts=%llu not repeated within their wait", r->info->name,
		 (unsigned long long)held);
}

void run_side_slice(struct models_run *r)
{
	struct slice s = {.r = r};
	unsigned count = 0;
	int e = reader_records(r->host->reader, stream_of(r->id, CLASS_REST), r->side->cursor,
			       SLICE_RECORDS, on_record, &s, &count);

	if (e >= 0 && !s.is_full && count == SLICE_RECORDS)
		return; /* another slice */
	if (e >= 0 && !r->side->touched) {
		r->changes = changes_free(r->changes);
		run_to_work(r, WORK_IDLE);
		return;
	}
	r->is_side_behind = side_is_full(r->side);
	if (e >= 0)
		e = side_end(r->side, r->changes);
	if (e < 0) {
		run_give_up(r, "planning", e);
		return;
	}
	count_held_back(r);
	run_commit(r);
}

/* --- requests --- */

struct side_lines {
	struct models_run *r;
	struct wire_stream *stream;
	enum side_file file;
	size_t target;
	unsigned parts_max;
};

/* A body that has nothing else takes one, however long. */
static int add_line(void *arg, const struct side_line *line)
{
	struct side_lines *l = arg;
	struct request *q = &l->r->request;
	bool is_first = request_parts(q) == 0;

	if (l->parts_max != 0 && request_parts(q) >= l->parts_max)
		return 1;
	if (!is_first && (q->text_bytes >= l->target || line->text.len > l->target - q->text_bytes))
		return 1;
	if (q->side[l->file]++ == 0)
		wire_stream_file(l->stream, file_names[l->file], line->offset);
	wire_stream_add(l->stream, line->text);
	q->text_bytes += line->text.len;
	return 0;
}

int run_side_body(struct models_run *r, struct wire_stream *stream, bool *ret_all)
{
	struct side_lines l = {
		.r = r,
		.stream = stream,
		.target = run_body_target(r),
		.parts_max = r->parts_max,
	};
	static const enum side_file files[] = {SIDE_EVENTS, SIDE_CONSOLE};

	*ret_all = true;
	for (unsigned i = 0; i < array_len(files); i++) {
		const struct side_count *unsent = &r->side->unsent[files[i]];
		const int64_t *in = &r->request.side[files[i]];
		int e = 0;

		l.file = files[i];
		while (e == 0 && *in < unsent->count) {
			int64_t before = *in;

			e = reader_side_lines(r->host->reader, r->id, l.file,
					      unsent->first + before, add_line, &l);
			if (e == 0 && *in == before)
				return -EIO; /* a line that was committed is not there */
		}
		if (e < 0)
			return e;
		*ret_all = *ret_all && *in == unsent->count;
	}
	return 0;
}

struct alert {
	const struct models_run *r;
	struct buf *body;
	bool is_there;
};

static int on_alert(void *arg, const struct side_line *line)
{
	struct alert *a = arg;
	const struct wire_name name = run_wire_name(a->r);

	a->is_there = true;
	wire_alert(a->body, &name, line->text);
	return 1;
}

int run_alert_body(struct models_run *r, struct buf *body)
{
	struct alert a = {.r = r, .body = body};
	int e = reader_side_lines(r->host->reader, r->id, SIDE_ALERTS,
				  r->side->unsent[SIDE_ALERTS].first, on_alert, &a);

	r->request.side[SIDE_ALERTS] = 1;
	return e < 0 ? e : a.is_there ? 0 : -EIO;
}

/* --- answers --- */

void run_side_sent(struct models_run *r)
{
	int64_t records = r->side->records;
	bool is_news = false;

	for (unsigned i = 0; i < SIDE_FILES; i++)
		is_news |= r->request.side[i] > 0;
	if (!is_news)
		return;
	side_sent(r->side, r->changes, r->request.side);
	sink_delivered(r->user->sink, (uint64_t)(records - r->side->records), clock_mono_ms());
}

struct refusal {
	struct models_run *r;
	const struct http_answer *answer;
	const char *reason;
	enum side_file file;
};

static int on_refused(void *arg, const struct side_line *line)
{
	const struct refusal *f = arg;

	run_add_dead(f->r, f->answer, f->reason, side_what(f->file), -1, line->text);
	side_drop(f->r->side, f->r->changes, f->file);
	return 1;
}

int run_side_refused(struct models_run *r, const struct http_answer *a, const char *reason)
{
	struct refusal f = {.r = r, .answer = a, .reason = reason};

	while (f.file < SIDE_FILES && r->request.side[f.file] == 0)
		f.file++;
	if (f.file == SIDE_FILES)
		return -ENOENT;
	return reader_side_lines(r->host->reader, r->id, f.file, r->side->unsent[f.file].first,
				 on_refused, &f);
}

bool run_side_follow(struct models_run *r, bool is_new)
{
	const int64_t counts[SIDE_FILES] = {
		[SIDE_CONSOLE] = r->server.console_lines,
		[SIDE_EVENTS] = r->server.event_lines,
	};
	bool changed = false;

	if (r->plan->shared.is_on && (!is_new || r->server.exists))
		return false; /* everybody's counts */
	for (unsigned i = 0; i < SIDE_ALERTS; i++) {
		if (!side_follow(r->side, r->changes, i, counts[i], is_new))
			continue;
		changed = true;
		log_info("models", "run=%s W&B has %lld lines of %s: ours go on behind",
			 r->info->name, (long long)counts[i], file_names[i]);
	}
	return changed;
}

bool run_take_features(const struct models_run *r, struct sink *sink, const struct http_answer *a)
{
	bool is_structured = false;
	int e;

	if (a->transport != TRANSPORT_ANSWERED || a->status == 401 || a->status == 403)
		return false;
	e = wire_read_feature(a->body, "STRUCTURED_CONSOLE_LOGS", &is_structured);
	if (e < 0 && e != -EREMOTEIO && r->attempt + 1 < FEATURE_TRIES_MAX)
		return false; /* a server that does not know the question says so */
	sink->knows_features = true;
	sink->has_structured_console = is_structured;
	return true;
}
