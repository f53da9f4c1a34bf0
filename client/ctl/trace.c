/* wbxctl trace: one trace whole, with everything that its calls were given and gave. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "client/ctl/trace_error.h"
#include "client/ctl/traceblob.h"
#include "client/ctl/tracebook.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	INDENT = 2,
	INDENT_MAX = 40,
	SHORT_TEXT = 120,
	SLICE_TIMEOUT_MS = 300000,
};

struct whole {
	struct call *call;
	struct book book;
	struct traceblobs blobs;
	struct buf value; /* expanded */
	struct buf json;
};

static int on_item(void *arg, struct span body)
{
	struct whole *w = arg;
	struct span digest = mp_get_bin(mp_of(body), "blob");
	struct span record;
	int r = 0;

	if (mp_find_span(mp_of(body), "record", &record) == 0)
		r = book_add_record(&w->book, record);
	else if (digest.at != NULL)
		r = traceblobs_add(&w->blobs, digest, mp_get_uint(mp_of(body), "off", 0),
				   mp_get_bin(mp_of(body), "data"));
	if (r == -E2BIG) {
		say("the trace is more than %d MiB; wbxctl traces shows its calls",
		    BOOK_BYTES_MAX >> 20);
		return CODE_DATA;
	}
	return r < 0 ? say_errno("the trace", r) : CODE_OK;
}

static int ask(struct whole *w)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_TRACE);
	q.timeout_ms = SLICE_TIMEOUT_MS;
	request_text(&q, "id", w->call->words[0]);
	r = call_ask(w->call, &q, on_item, w, &answer);
	request_done(&q);
	if (r != CODE_OK)
		return r;
	r = book_link(&w->book);
	return r < 0 ? say_errno("the trace", r) : CODE_OK;
}

/* --- values --- */

/* A field of the call's start or end; .at NULL: it has none. With `end` before `start`, or the other way
 * round for what the end may say anew. */
static struct span field(const struct trace_call *c, const char *key)
{
	struct span found = {0};

	if (c->end.len > 0 && mp_find_span(mp_of(buf_span(&c->end)), key, &found) == 0)
		return found;
	if (c->start.len > 0 && mp_find_span(mp_of(buf_span(&c->start)), key, &found) == 0)
		return found;
	return (struct span){0};
}

static struct span expanded(struct whole *w, struct span value)
{
	buf_clear(&w->value);
	if (value.at != NULL)
		traceblobs_expand(&w->blobs, value, &w->value);
	return buf_span(&w->value);
}

static void add_indent(struct buf *out, size_t indent)
{
	(void)buf_printf(out, "%*s", (int)(indent < INDENT_MAX ? indent : INDENT_MAX), "");
}

/* A text from outside in lines of its own; its line ends stay. */
static void add_text_lines(struct buf *out, struct span text, size_t indent)
{
	size_t from = 0;

	while (from <= text.len) {
		size_t to = from;

		while (to < text.len && text.at[to] != '\n')
			to++;
		add_indent(out, indent);
		outside_add(out, (struct span){.at = text.at + from, .len = to - from},
			    OUTSIDE_LINES);
		(void)buf_add_byte(out, '\n'); /* errors stay in out */
		from = to + 1;
	}
}

static void add_json_line(struct whole *w, struct span value, size_t indent)
{
	struct buf *out = &w->call->out;
	struct json j;

	buf_clear(&w->json);
	json_init(&j, &w->json);
	if (json_add_mp(&j, value) < 0)
		return; /* checked when it was stored */
	add_indent(out, indent);
	outside_add(out, buf_span(&w->json), OUTSIDE_JSON);
	(void)buf_add_byte(out, '\n');
}

/* It stands behind its name. */
static bool is_short(const struct mp_value *v)
{
	if (v->type == MP_STR)
		return v->bytes.len <= SHORT_TEXT &&
		       memchr(v->bytes.at, '\n', v->bytes.len) == NULL;
	return v->type != MP_ARRAY && v->type != MP_MAP;
}

static void add_value(struct whole *w, const char *name, size_t name_len, struct span value,
		      size_t indent)
{
	struct buf *out = &w->call->out;
	struct mp m = mp_of(value);
	struct mp_value v;

	add_indent(out, indent);
	outside_add(out, (struct span){.at = (const uint8_t *)name, .len = name_len}, OUTSIDE_LINE);
	if (mp_read(&m, &v) < 0)
		return;
	if (is_short(&v)) {
		(void)buf_add_text(out, ": ");
		indent = 0;
	} else {
		(void)buf_add_byte(out, '\n'); /* errors stay in out */
		indent += INDENT;
	}
	if (v.type == MP_STR)
		add_text_lines(out, v.bytes, indent);
	else
		add_json_line(w, value, indent);
}

/* A map's values one below the other, another value as it is. */
static void add_field(struct whole *w, const struct trace_call *c, const char *key, size_t indent)
{
	struct span value = expanded(w, field(c, key));
	struct mp m = mp_of(value);
	struct mp_value v;

	if (value.len == 0 || mp_read(&m, &v) < 0 || v.type == MP_NIL)
		return;
	if (v.type != MP_MAP) {
		add_value(w, key, strlen(key), value, indent);
		return;
	}
	if (v.count == 0)
		return;
	add_indent(&w->call->out, indent);
	(void)buf_printf(&w->call->out, "%s\n", key);
	for (uint32_t i = 0; i < v.count; i++) {
		struct mp_value name;
		struct span one;

		if (mp_read(&m, &name) < 0 || name.type != MP_STR || mp_take(&m, &one) < 0)
			return;
		add_value(w, (const char *)name.bytes.at, name.bytes.len, one, indent + INDENT);
	}
}

/* --- one call, for people --- */

static void add_head(struct whole *w, const struct trace_call *c, size_t indent)
{
	struct buf *out = &w->call->out;
	uint64_t took_us = trace_call_took_us(c);

	add_indent(out, indent);
	outside_add_text(out, c->op[0] != '\0' ? c->op : "(its start is not here)");
	if (c->display_name[0] != '\0') {
		(void)buf_add_text(out, " \"");
		outside_add_text(out, c->display_name);
		(void)buf_add_text(out, "\"");
	}
	(void)buf_add_text(out, "  ");
	outside_add_text(out, c->id);
	(void)buf_add_byte(out, '\n');
	add_indent(out, indent + INDENT);
	(void)buf_printf(out, "%s", c->started_us != 0 ? word_stamp(c->started_us).text : "?");
	if (c->has_ended)
		(void)buf_printf(out, ", %s", word_ms((double)took_us / 1000).text);
	else
		(void)buf_add_text(out, ", not ended");
	if (c->step >= 0)
		(void)buf_printf(out, ", step %lld", (long long)c->step);
	if (c->parent == NULL && c->run[0] != '\0') {
		(void)buf_add_text(out, ", run ");
		outside_add_text(out, c->run);
	}
	if (c->parent == NULL && c->parent_id[0] != '\0') {
		(void)buf_add_text(out, ", below ");
		outside_add_text(out, c->parent_id);
	}
	(void)buf_add_byte(out, '\n');
}

static void add_error(struct whole *w, const struct trace_call *c, size_t indent)
{
	char lead[INDENT_MAX + 1];
	auto_buf struct buf text = {0};

	if (c->exception[0] == '\0')
		return;
	buf_init(&text, 1 << 20);
	add_indent(&w->call->out, indent);
	(void)buf_add_text(&w->call->out, "exception\n");
	(void)snprintf(lead, sizeof(lead), "%*s",
		       (int)(indent + INDENT < INDENT_MAX ? indent + INDENT : INDENT_MAX), "");
	trace_error_add_lines(&text, c->exception, lead);
	outside_add(&w->call->out, buf_span(&text), OUTSIDE_LINES);
}

static void add_feedback(struct whole *w, const struct trace_call *c, size_t indent)
{
	struct mp m = mp_of(buf_span(&c->feedback));
	struct span body;

	while (mp_left(&m) > 0 && mp_take(&m, &body) == 0) {
		struct span payload;
		struct span type = mp_get_str(mp_of(body), "type");

		add_indent(&w->call->out, indent);
		outside_add(&w->call->out, type, OUTSIDE_LINE);
		(void)buf_add_byte(&w->call->out, '\n');
		if (mp_find_span(mp_of(body), "payload", &payload) == 0)
			add_json_line(w, expanded(w, payload), indent + INDENT);
	}
}

static int print_call(struct whole *w, const struct trace_call *c)
{
	static const char *const before[] = {"attributes", "inputs"};
	static const char *const after[] = {"output", "summary"};
	size_t indent = (size_t)trace_call_depth(c) * 2 * INDENT;

	add_head(w, c, indent);
	for (size_t i = 0; i < array_len(before); i++)
		add_field(w, c, before[i], indent + INDENT);
	for (size_t i = 0; i < array_len(after); i++)
		add_field(w, c, after[i], indent + INDENT);
	add_error(w, c, indent + INDENT);
	add_feedback(w, c, indent + INDENT);
	return call_print_some(w->call);
}

/* --- one call, as JSON --- */

static void pair_value(struct whole *w, struct json *j, const char *key, struct span value)
{
	struct span all = expanded(w, value);

	json_put_key_text(j, key);
	if (all.len == 0 || json_add_mp(j, all) < 0)
		json_put_null(j);
}

static int print_object(struct whole *w, const struct trace_call *c)
{
	static const char *const keys[] = {
		"trace_id", "id",        "parent_id", "op",         "display_name", "run",
		"step",     "thread_id", "turn_id",   "started_at", "ended_at",     "attributes",
		"inputs",   "output",    "summary",   "exception",  "source"};
	struct mp m = mp_of(buf_span(&c->feedback));
	struct span body;
	struct json j;

	buf_clear(&w->json);
	json_init(&j, &w->json);
	json_open_object(&j);
	for (size_t i = 0; i < array_len(keys); i++)
		pair_value(w, &j, keys[i], field(c, keys[i]));
	json_put_key_text(&j, "feedback");
	json_open_array(&j);
	while (mp_left(&m) > 0 && mp_take(&m, &body) == 0) {
		struct span type = mp_get_str(mp_of(body), "type");
		struct span payload = {0};

		(void)mp_find_span(mp_of(body), "payload", &payload); /* none: null */
		json_open_object(&j);
		json_pair_str(&j, "type", type);
		pair_value(w, &j, "payload", payload);
		json_close_object(&j);
	}
	json_close_array(&j);
	json_close_object(&j);
	json_line(&w->call->out, &w->json);
	return call_print_some(w->call);
}

/* --- the command --- */

static int print_all(struct whole *w)
{
	bool is_json = call_has(w->call, OPT_JSON) || call_has(w->call, OPT_JSONL);
	int r = CODE_OK;

	for (const struct trace_call *root = w->book.first_root; root != NULL; root = root->next) {
		for (const struct trace_call *c = root; r == CODE_OK && c != NULL;
		     c = trace_call_next(c, root))
			r = is_json ? print_object(w, c) : print_call(w, c);
	}
	return r == CODE_OK ? call_print(w->call) : r;
}

int trace_run(struct call *c)
{
	struct whole w = {.call = c};
	int r = book_init(&w.book);

	if (r < 0)
		return say_errno("the trace", r);
	buf_init(&w.value, TRACEBLOBS_MAX);
	buf_init(&w.json, TRACEBLOBS_MAX);
	r = ask(&w);
	if (r == CODE_OK)
		r = print_all(&w);
	if (r == CODE_OK && w.book.forgotten > 0)
		say("%s older calls of it were left out", word_count(w.book.forgotten).text);
	buf_done(&w.value);
	buf_done(&w.json);
	traceblobs_done(&w.blobs);
	book_done(&w.book);
	return r;
}
