/* See run_parts.h: what is due becomes lines. Ops first, then traces, then what is about calls that
 * are on their way. A trace goes whole; one that is more than a request holds, or that is open for
 * long, goes from below: what a call's text needs to know of the calls below it that went before is
 * kept with it. */
#include "daemon/base/log.h"
#include "daemon/forward/weave/run_parts.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const int64_t NEVER_US = INT64_MAX / 2;

/* --- steps --- */

int64_t weave_step_at(struct weave_run *r, int64_t time_us)
{
	int64_t before[STEP_MODES];

	for (unsigned i = 0; i < STEP_MODES; i++) {
		before[i] = -1;
		(void)reader_step_before(r->host->reader, r->id, (int64_t)i, time_us,
					 &before[i]); /* stays -1 */
	}
	return steps_of(&r->steps, before);
}

/* --- lines --- */

static void add_line(struct weave_run *r, struct change *c, struct span text)
{
	c->kind = CHANGE_TRACE_LINE;
	c->run = r->id;
	c->text = text;
	changes_add(r->changes, c);
	r->planned_calls++;
	r->planned_bytes += text.len;
}

static bool is_full(const struct weave_run *r)
{
	return r->planned_calls >= WEAVE_BODY_CALLS_MAX || r->planned_bytes >= r->target;
}

/* --- ops --- */

struct op_copy {
	struct weave_op op;
	int64_t lsn;
};
struct op_list {
	struct op_copy *items;
	size_t count;
	size_t cap;
};

static int on_op(void *arg, const struct op_row *row)
{
	struct op_list *l = arg;
	struct op_copy *o;

	if (row->lsn == 0 || row->name.len > REF_NAME_MAX || row->digest.len >= REF_DIGEST_MAX)
		return 0; /* the call that has its source is on the way */
	if (mem_room(l->items, l->count, l->cap) < 0)
		return -ENOMEM;
	o = &l->items[l->count++];
	*o = (struct op_copy){.lsn = row->lsn};
	memcpy(o->op.name, row->name.at, row->name.len);
	memcpy(o->op.digest, row->digest.at, row->digest.len);
	return 0;
}

static int add_op_lines(struct weave_run *r, const struct op_copy *o, struct span source)
{
	struct change file = {.line_kind = TRACE_FILE};
	struct change object = {.line_kind = TRACE_OBJECT};
	char project[2 * NAME_MAX_BYTES + 2];
	char digest[REF_DIGEST_MAX];
	struct buf value;
	struct buf text;
	struct json j;
	int e = ref_digest(source, digest);

	if (e < 0)
		return e;
	buf_init(&value, 1024);
	buf_init(&text, 8192);
	ref_op_value(&value, digest);
	json_init(&j, &text);
	json_open_object(&j);
	json_put_key_text(&j, "obj");
	json_open_object(&j);
	json_put_key_text(&j, "project_id");
	(void)snprintf(project, sizeof(project), "%s/%s", run_entity(&r->info),
		       run_project(&r->info)); /* fits */
	json_put_text(&j, project);
	json_put_key_text(&j, "object_id");
	json_put_text(&j, o->op.name);
	json_put_key_text(&j, "val");
	json_put_raw(&j, buf_span(&value));
	json_close_object(&j);
	json_close_object(&j);
	e = text.error != 0 ? text.error : value.error;
	if (e == 0) {
		add_line(r, &file, source);
		add_line(r, &object, buf_span(&text));
	}
	buf_done(&value);
	buf_done(&text);
	return e;
}

static int plan_op(struct weave_run *r, const struct op_copy *o)
{
	const struct change sent = {
		.kind = CHANGE_TRACE_OP_SENT,
		.run = r->id,
		.text = span_of_text(o->op.name),
		.text2 = span_of_text(o->op.digest),
	};
	int is_posted = reader_op_is_posted(r->host->reader, r->id, span_of_text(o->op.name),
					    span_of_text(o->op.digest));
	struct span source = ref_no_source();
	struct record record;
	struct buf room;
	int e = is_posted < 0 ? is_posted : 0;

	buf_init(&room, RECORD_MAX);
	if (e == 0 && is_posted == 0 && o->lsn > 0) {
		e = weave_read_body(r, o->lsn, &room, &record);
		source = e == 0 ? mp_get_str(mp_of(record.body), "source") : source;
	}
	if (e == 0 && is_posted == 0)
		e = add_op_lines(r, o, source);
	if (e == 0 || e == -ENOENT) /* retention was quicker than the network */
		changes_add(r->changes, &sent);
	buf_done(&room);
	return e == -ENOENT ? 0 : e;
}

static int plan_ops(struct weave_run *r)
{
	struct op_list l = {.count = 0};
	int e = reader_ops(r->host->reader, r->id, on_op, &l);

	for (size_t i = 0; e == 0 && i < l.count && !is_full(r); i++)
		e = plan_op(r, &l.items[i]);
	(void)mem_free(l.items);
	return e;
}

/* --- traces --- */

/* Of one node while its trace is planned: what the calls below it come to. */
struct below {
	struct usage usage;
	int64_t well;
	int64_t errors;
	size_t top; /* the call whose step is its own */
	bool is_changed;
	bool is_planned;
};

struct tracing {
	struct weave_run *r;
	const struct trace_row *row;
	struct forest forest;
	struct below *below;
	char last[CALL_ID_MAX + 1]; /* read */
	int64_t now_us;
	size_t top; /* whose step is known: SIZE_MAX: nobody's */
	int64_t top_step;
	bool is_cut; /* more is ready than fits */
};

static int on_call(void *arg, const struct call_row *row)
{
	struct tracing *t = arg;

	memcpy(t->last, row->id, sizeof(t->last));
	return forest_add(&t->forest, row);
}

static int load_forest(struct tracing *t)
{
	int e = 0;
	size_t before;

	(void)snprintf(t->last, sizeof(t->last), "~"); /* behind every id */
	do {
		before = t->forest.count;
		e = reader_calls(t->r->host->reader, t->r->id, t->row->id, t->last, on_call, t);
	} while (e == 0 && t->forest.count > before);
	if (e < 0 && e != -E2BIG)
		return e;
	e = forest_order(&t->forest);
	if (e < 0)
		return e;
	t->below = mem_zalloc((t->forest.count + 1) * sizeof(*t->below));
	return t->below == NULL ? -ENOMEM : 0;
}

/* Parents stand behind their children in the order, so it is walked backwards. */
static void find_tops(struct tracing *t)
{
	struct forest *f = &t->forest;

	for (size_t i = f->count; i-- > 0;) {
		size_t at = f->order[i];
		size_t parent = f->nodes[at].parent;

		t->below[at].top = parent == SIZE_MAX || !f->nodes[parent].is_ready
					   ? at
					   : t->below[parent].top;
	}
}

static int start_below(struct tracing *t)
{
	for (size_t i = 0; i < t->forest.count; i++) {
		const struct call_row *row = &t->forest.nodes[i].row;
		struct below *b = &t->below[i];
		int e = row->usage_below.len == 0
				? 0
				: usage_add_map(&b->usage, mp_of(row->usage_below));

		if (e < 0)
			return e;
		b->well = row->ok_below;
		b->errors = row->errors_below;
	}
	return 0;
}

/* The step of a call: its own word, its top's, or what was logged when that began. */
static void find_step(struct tracing *t, size_t at, struct weave_call *c)
{
	const struct call_row *row = &t->forest.nodes[at].row;
	size_t top = t->below[at].top;
	const struct call_row *top_row = &t->forest.nodes[top].row;
	int64_t end;

	if (row->step >= 0 || top_row->step >= 0) {
		c->step = c->step_end = row->step >= 0 ? row->step : top_row->step;
		return;
	}
	if (t->top != top) {
		t->top = top;
		t->top_step = weave_step_at(t->r, top_row->started_us);
	}
	c->step = c->step_end = t->top_step;
	end = row->end_lsn > 0 && c->step >= 0 ? weave_step_at(t->r, row->ended_us) : -1;
	if (end > c->step)
		c->step_end = end;
}

/* A call whose records cannot be told: a dead letter. */
static void drop_call(struct weave_run *r, const struct call_row *row, int error)
{
	const struct change drop = {
		.kind = CHANGE_TRACE_DROP, .run = r->id, .text = span_of_text(row->id)};

	weave_add_dead(r, 0, "call",
		       error == -ENOENT ? "its records are gone: retention was quicker than the "
					  "network"
					: "its records cannot be read",
		       SPAN_LITERAL(""), SPAN_LITERAL(""), span_of_text(row->id));
	changes_add(r->changes, &drop);
}

static int plan_call(struct tracing *t, size_t at, enum trace_line_kind kind)
{
	struct weave_run *r = t->r;
	const struct call_row *row = &t->forest.nodes[at].row;
	struct below *b = &t->below[at];
	struct weave_call c = {
		.row = row,
		.usage_below = &b->usage,
		.ok_below = b->well,
		.errors_below = b->errors,
	};
	struct change line = {
		.line_kind = kind,
		.text2 = span_of_text(row->trace),
		.text3 = span_of_text(row->id),
		.share = row->share,
		.loss = row->loss,
	};
	size_t parent = t->forest.nodes[at].parent;
	struct buf text;
	int e;

	buf_init(&text, WEAVE_CALL_BYTES_MAX);
	find_step(t, at, &c);
	e = weave_call_text(r, kind, &c, &text);
	if (e == -ENOENT || e == -EBADMSG || e == -EMSGSIZE) {
		drop_call(r, row, e);
		e = 0;
	} else if (e == 0) {
		add_line(r, &line, buf_span(&text));
	}
	b->is_planned = true;
	if (e == 0 && kind != TRACE_START && parent != SIZE_MAX) {
		e = usage_add(&t->below[parent].usage, &c.usage);
		t->below[parent].well += b->well + !row->is_error;
		t->below[parent].errors += b->errors + row->is_error;
		t->below[parent].is_changed = true;
	}
	usage_done(&c.usage);
	buf_done(&text);
	return e;
}

/* Calls that stay behind keep what went before them. */
static int keep_below(struct tracing *t)
{
	for (size_t i = 0; i < t->forest.count; i++) {
		const struct below *b = &t->below[i];
		struct change c = {
			.kind = CHANGE_TRACE_BELOW,
			.run = t->r->id,
			.text = span_of_text(t->forest.nodes[i].row.id),
			.number = b->well,
			.offset = b->errors,
		};
		struct buf usage;
		int e;

		if (!b->is_changed || (b->is_planned && t->forest.nodes[i].is_ready))
			continue;
		buf_init(&usage, 1 << 20);
		usage_pack(&b->usage, &usage);
		c.text2 = buf_span(&usage);
		e = usage.error;
		changes_add(t->r->changes, &c);
		buf_done(&usage);
		if (e < 0)
			return e;
	}
	return 0;
}

static int plan_ready(struct tracing *t)
{
	struct forest *f = &t->forest;
	int e = 0;

	for (size_t i = 0; e == 0 && i < f->count; i++) {
		size_t at = f->order[i];

		if (!f->nodes[at].is_ready)
			continue;
		if (is_full(t->r)) {
			t->is_cut = true;
			break;
		}
		e = plan_call(t, at, f->nodes[at].row.is_there ? TRACE_END : TRACE_CALL);
	}
	return e;
}

/* The starts of calls that are open for long; *ret_due_us: when the next one will be. */
static int plan_starts(struct tracing *t, int64_t *ret_due_us)
{
	struct forest *f = &t->forest;
	int e = 0;

	*ret_due_us = NEVER_US;
	for (size_t i = 0; e == 0 && i < f->count; i++) {
		const struct call_row *row = &f->nodes[i].row;
		int64_t due_us = row->started_us + TRACE_LONG_US;

		if (row->end_lsn > 0 || row->is_there || row->start_lsn == 0)
			continue;
		if (due_us > t->now_us)
			*ret_due_us = due_us < *ret_due_us ? due_us : *ret_due_us;
		else if (is_full(t->r))
			t->is_cut = true;
		else
			e = plan_call(t, i, TRACE_START);
	}
	return e;
}

static void tracing_done(struct tracing *t)
{
	for (size_t i = 0; t->below != NULL && i < t->forest.count; i++)
		usage_done(&t->below[i].usage);
	t->below = mem_free(t->below);
	forest_done(&t->forest);
}

/* How much text a trace comes to, about. */
static size_t bytes_of(const struct forest *f)
{
	size_t bytes = 0;

	for (size_t i = 0; i < f->count; i++)
		bytes += (size_t)f->nodes[i].row.share.bytes +
			 (size_t)f->nodes[i].row.share.blob_bytes + 512;
	return bytes;
}

static int plan_loaded(struct tracing *t)
{
	struct weave_run *r = t->r;
	const struct trace_row *row = t->row;
	struct change due = {
		.kind = CHANGE_TRACE_DUE,
		.run = r->id,
		.text = span_of_text(row->id),
		.number = row->open > 0,
	};
	int e = start_below(t);

	find_tops(t);
	if (e == 0 && row->open > 0)
		e = plan_starts(t, &due.time_us);
	if (e == 0)
		e = plan_ready(t);
	if (e == 0)
		e = keep_below(t);
	if (t->is_cut)
		due.time_us = t->now_us;
	if (t->is_cut || row->open > 0)
		changes_add(r->changes, &due);
	return e;
}

/* 0; 1: there is no room for it in this plan; -errno. */
static int plan_trace(struct weave_run *r, const struct trace_row *row, int64_t now_us)
{
	struct tracing t = {.r = r, .row = row, .now_us = now_us, .top = SIZE_MAX};
	bool may_sample = row->open == 0 && !row->is_long;
	int e = load_forest(&t);

	if (e == 0 && r->planned_calls > 0 &&
	    (r->planned_calls + t.forest.count > WEAVE_BODY_CALLS_MAX ||
	     bytes_of(&t.forest) > r->target - r->planned_bytes))
		e = 1;
	if (e == 0) {
		int sends = may_sample ? weave_sample(r, row, &t.forest, now_us) : 1;

		e = sends > 0 ? plan_loaded(&t) : sends;
	}
	tracing_done(&t);
	return e;
}

struct due_list {
	struct trace_row *items;
	size_t count;
	size_t cap;
};

static int on_due(void *arg, const struct trace_row *row)
{
	struct due_list *l = arg;

	if (mem_room(l->items, l->count, l->cap) < 0)
		return -ENOMEM;
	l->items[l->count++] = *row;
	return 0;
}

static int plan_traces(struct weave_run *r, int64_t now_us)
{
	struct due_list l = {.count = 0};
	/* asked to: those as well that something may come to yet */
	int64_t before_us = r->wants_flush ? now_us + TRACE_GRACE_US : now_us;
	int e = reader_due_traces(r->host->reader, r->id, before_us, on_due, &l);

	for (size_t i = 0; e == 0 && i < l.count && !is_full(r); i++)
		e = plan_trace(r, &l.items[i], now_us);
	(void)mem_free(l.items);
	return e < 0 ? e : 0;
}

/* --- ends without starts --- */

struct strays {
	struct weave_run *r;
};

static int on_stray(void *arg, const struct call_row *row)
{
	struct strays *s = arg;
	const struct change drop = {
		.kind = CHANGE_TRACE_DROP, .run = s->r->id, .text = span_of_text(row->id)};

	weave_add_dead(s->r, 0, "call", "its end came, and its start never did", SPAN_LITERAL(""),
		       SPAN_LITERAL(""), span_of_text(row->id));
	changes_add(s->r->changes, &drop);
	return 0;
}

/* --- all of it --- */

int weave_plan(struct weave_run *r, int64_t now_us, int64_t *ret_due_us)
{
	struct strays strays = {.r = r};
	size_t target = sink_body_target(r->user->sink, r->user->uid);
	int e;

	if (!weave_changes(r))
		return 1;
	r->planned_calls = 0;
	r->planned_bytes = 0;
	r->held = r->kept_count = 0;
	r->target = target < WEAVE_BODY_BYTES_MAX ? target : WEAVE_BODY_BYTES_MAX;
	e = reader_stray_ends(r->host->reader, r->id, now_us - STRAY_END_US, on_stray, &strays);
	if (e == 0)
		e = plan_ops(r);
	if (e == 0)
		e = plan_traces(r, now_us);
	if (e == 0)
		e = weave_plan_items(r);
	if (e < 0)
		return e;
	if (r->changes->count > 0) {
		weave_commit(r);
		return 1;
	}
	r->changes = changes_free(r->changes);
	e = reader_trace_run(r->host->reader, r->id, &r->state, NULL);
	*ret_due_us = r->state.due_us;
	return e;
}
