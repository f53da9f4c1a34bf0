/* See run_parts.h: a call's records become the text of a line. */
#include "daemon/base/log.h"
#include "daemon/forward/weave/run_parts.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- reading --- */

struct copying {
	struct buf *room;
};

static int on_body(void *arg, const struct stored_record *stored)
{
	struct copying *c = arg;

	return buf_add(c->room, stored->payload.at, stored->payload.len);
}

int weave_read_body(struct weave_run *r, int64_t lsn, struct buf *room, struct record *ret)
{
	struct copying c = {.room = room};
	struct record_fault fault;
	int e;

	buf_clear(room);
	e = reader_record(r->host->reader, lsn, on_body, &c);
	if (e < 0)
		return e;
	return record_parse_stored(buf_span(room), ret, &fault) < 0 ? -EBADMSG : 0;
}

int weave_read_blob(void *arg, struct span digest, size_t max, struct buf *ret, int64_t *ret_size)
{
	struct weave_run *r = arg;
	size_t want;
	size_t got = 0;
	int e = digest.len != DIGEST_BYTES ? -ENOENT
					   : reader_blob_size(r->host->reader, digest, ret_size);

	if (e < 0)
		return e;
	want = *ret_size < (int64_t)max ? (size_t)*ret_size : max;
	e = buf_reserve(ret, want);
	while (e == 0 && ret->len < want) {
		e = reader_blob(r->host->reader, digest, (int64_t)ret->len, ret->data + ret->len,
				want - ret->len, &got);
		if (e == 0 && got == 0)
			return -EIO; /* shorter than its row says */
		ret->len += e == 0 ? got : 0;
	}
	return e;
}

int weave_resolve(struct weave_run *r, struct span value, struct buf *room, struct span *ret)
{
	struct mp m = mp_of(value);
	struct mp_value head;
	struct mp peek = m;
	struct span blob;
	int64_t size;
	int e;

	*ret = value;
	if (value.len == 0 || mp_read(&peek, &head) < 0 || head.type != MP_MAP ||
	    !span_is(mp_get_str(m, "_type"), "msgpack"))
		return 0;
	blob = mp_get_bin(m, "blob");
	if ((int64_t)mp_get_uint(m, "size", 0) > WEAVE_BLOB_MAX)
		return 0; /* told of by its size */
	buf_clear(room);
	e = weave_read_blob(r, blob, WEAVE_BLOB_MAX, room, &size);
	if (e < 0)
		return e == -ENOENT ? 0 : e;
	peek = mp_of(buf_span(room));
	if (mp_skip(&peek, &(const struct mp_limits){.depth = RECORD_DEPTH_MAX,
						     .items = SIZE_MAX,
						     .keys = SIZE_MAX,
						     .key_bytes = SIZE_MAX}) < 0)
		return -EBADMSG;
	*ret = buf_span(room);
	return 0;
}

/* --- what is known of its process --- */

static int read_hello(struct weave_run *r, int64_t producer)
{
	int e;

	if (r->hello_of == producer)
		return 0;
	buf_clear(&r->hello);
	e = reader_hello(r->host->reader, producer, &r->hello);
	r->hello_of = e < 0 ? 0 : producer;
	return e == -ENOENT ? 0 : e;
}

static int64_t rank_of(const struct weave_run *r)
{
	return r->hello.len == 0 ? -1 : mp_get_int(mp_of(buf_span(&r->hello)), "rank", -1);
}

/* What stands for an end that never came. */
static void say_loss(const struct weave_run *r, enum call_loss loss, struct buf *ret)
{
	struct mp hello = mp_of(buf_span(&r->hello));
	struct span host = r->hello.len == 0 ? SPAN_LITERAL("") : mp_get_str(hello, "host");
	uint64_t pid = r->hello.len == 0 ? 0 : mp_get_uint(hello, "pid", 0);
	struct buf message;
	struct json j;

	buf_init(&message, 2048);
	(void)buf_printf(&message, "process %llu on %.*s %s before this call ended",
			 (unsigned long long)pid, (int)host.len,
			 host.at == NULL ? "" : (const char *)host.at,
			 loss == LOSS_GONE ? "was gone" : "finished its run");
	json_init(&j, ret);
	json_open_object(&j);
	json_put_key_text(&j, "type");
	json_put_text(&j, loss == LOSS_GONE ? "ProcessGone" : "RunFinished");
	json_put_key_text(&j, "message");
	json_put_string(&j, buf_span(&message));
	json_put_key_text(&j, "traceback");
	json_open_array(&j);
	json_close_array(&j);
	json_close_object(&j);
	buf_done(&message);
}

/* --- the text --- */

/* All that one call needs; freed together. */
struct parts {
	struct buf start;
	struct buf end;
	struct buf inputs;
	struct buf start_attributes;
	struct buf end_attributes;
	struct buf output;
	struct buf op;
	struct buf loss;
};

static void parts_init(struct parts *p)
{
	buf_init(&p->start, RECORD_MAX);
	buf_init(&p->end, RECORD_MAX);
	buf_init(&p->inputs, WEAVE_BLOB_MAX);
	buf_init(&p->start_attributes, WEAVE_BLOB_MAX);
	buf_init(&p->end_attributes, WEAVE_BLOB_MAX);
	buf_init(&p->output, WEAVE_BLOB_MAX);
	buf_init(&p->op, 4096);
	buf_init(&p->loss, 4096);
}

static void parts_done(struct parts *p)
{
	buf_done(&p->start);
	buf_done(&p->end);
	buf_done(&p->inputs);
	buf_done(&p->start_attributes);
	buf_done(&p->end_attributes);
	buf_done(&p->output);
	buf_done(&p->op);
	buf_done(&p->loss);
}

static int resolve_field(struct weave_run *r, struct span body, const char *key, struct buf *room,
			 struct span *ret)
{
	struct span value;

	*ret = (struct span){.at = NULL};
	if (body.len == 0 || mp_find_span(mp_of(body), key, &value) < 0)
		return 0;
	return weave_resolve(r, value, room, ret);
}

static int read_parts(struct weave_run *r, enum trace_line_kind kind, struct calltext *t,
		      struct parts *p)
{
	const struct call_row *row = t->row;
	bool wants_end = kind != TRACE_START && row->loss == LOSS_NONE;
	struct record record;
	int e = 0;

	if (row->start_lsn > 0)
		e = weave_read_body(r, row->start_lsn, &p->start, &record);
	if (e == 0 && row->start_lsn > 0)
		t->start = record.body;
	if (e == -ENOENT && kind == TRACE_END)
		e = 0; /* W&B has it */
	if (e == 0 && wants_end)
		e = weave_read_body(r, row->end_lsn, &p->end, &record);
	if (e < 0)
		return e;
	if (wants_end)
		t->end = record.body;
	e = resolve_field(r, t->start, "inputs", &p->inputs, &t->inputs);
	if (e == 0)
		e = resolve_field(r, t->start, "attributes", &p->start_attributes,
				  &t->start_attributes);
	if (e == 0 && row->end_lsn != row->start_lsn)
		e = resolve_field(r, t->end, "attributes", &p->end_attributes, &t->end_attributes);
	return e < 0 ? e : resolve_field(r, t->end, "output", &p->output, &t->output);
}

static int name_op(struct calltext *t, struct parts *p)
{
	struct weave_op op;
	int e;

	t->op = "";
	if (t->start.len == 0)
		return 0;
	e = weave_op_of(t->start, &op);
	if (e < 0)
		return e;
	ref_op(&p->op, t->entity, t->project, op.name, op.digest);
	t->op = buf_text(&p->op);
	return t->op == NULL ? -ENOMEM : 0;
}

static int print(enum trace_line_kind kind, const struct calltext *t, struct render *render,
		 struct buf *out)
{
	switch ((int)kind) {
	case TRACE_START: return calltext_start(out, t, render);
	case TRACE_END: return calltext_end(out, t, render);
	default: return calltext_whole(out, t, render);
	}
}

/* Cut as little as makes it fit. */
static int print_fitting(struct weave_run *r, enum trace_line_kind kind, const struct calltext *t,
			 struct buf *ret)
{
	static const size_t texts[] = {
		WEAVE_CALL_BYTES_MAX, 512 << 10, 128 << 10, 32 << 10, 8 << 10, 2 << 10, 256};
	struct calltext bare = *t;
	struct buf out;
	int e = -EMSGSIZE;

	buf_init(&out, WEAVE_CALL_BYTES_MAX);
	for (size_t i = 0; e == -EMSGSIZE && i <= array_len(texts); i++) {
		struct render render = {.read = weave_read_blob, .arg = r};
		bool is_bare = i == array_len(texts);

		render.text_max = texts[is_bare ? i - 1 : i];
		if (r->text_max != 0 && render.text_max > r->text_max)
			continue;
		if (is_bare) { /* very many small values */
			bare.inputs = bare.output = (struct span){.at = NULL};
			bare.start_attributes = bare.end_attributes = bare.inputs;
		}
		buf_clear(&out);
		e = print(kind, &bare, &render, &out);
		if (e == 0 && (render.cut > 0 || is_bare))
			log_info("weave",
				 "run=%s call=%s cut=%u it is longer than W&B takes; the whole is "
				 "kept here",
				 r->info.name, t->row->id, render.cut);
	}
	if (e == 0)
		e = buf_add(ret, out.data, out.len);
	buf_done(&out);
	return e;
}

static int count_usage(struct weave_call *c, struct span end)
{
	struct span summary;
	struct span usage;
	int e = usage_add(&c->usage, c->usage_below);

	if (e == 0 && end.len > 0 && mp_find_span(mp_of(end), "summary", &summary) == 0 &&
	    mp_find_span(mp_of(summary), "usage", &usage) == 0)
		e = usage_add_map(&c->usage, mp_of(usage));
	return e;
}

int weave_call_text(struct weave_run *r, enum trace_line_kind kind, struct weave_call *c,
		    struct buf *ret)
{
	struct calltext t = {
		.entity = run_entity(&r->info),
		.project = run_project(&r->info),
		.run = r->info.name,
		.row = c->row,
		.step = c->step,
		.step_end = c->step_end,
		.usage = &c->usage,
		.well = c->ok_below + !c->row->is_error,
		.errors = c->errors_below + c->row->is_error,
	};
	struct parts p;
	int e;

	parts_init(&p);
	e = read_parts(r, kind, &t, &p);
	if (e == 0)
		e = read_hello(r, c->row->producer);
	if (e == 0)
		e = name_op(&t, &p);
	if (e == 0)
		e = count_usage(c, t.end);
	if (e == 0 && c->row->loss != LOSS_NONE) {
		say_loss(r, c->row->loss, &p.loss);
		t.exception = buf_text(&p.loss);
		e = t.exception == NULL ? -ENOMEM : 0;
	}
	t.rank = rank_of(r);
	if (e == 0)
		e = print_fitting(r, kind, &t, ret);
	parts_done(&p);
	return e;
}
