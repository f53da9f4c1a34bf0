/* See wbx.h: traced calls, in one record or in one at their start and one at their end. Values that
 * are large go as blobs, so a call has no bound but theirs. */
#include "client/lib/emit.h"
#include "client/lib/map.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/rng.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What stays in the record. Together they keep it well below RECORD_MAX, and below RECORD_KEYS_MAX
 * whatever they hold: an entry has three bytes. */
enum {
	VALUE_INLINE_MAX = 80 << 10, /* inputs, output */
	NOTES_INLINE_MAX = 16 << 10, /* attributes, summary */
	SOURCE_MAX = 128 << 10,      /* a longer one is left out */
	TEXT_MAX = 64 << 10,         /* of the other texts */
	DISPLAY_NAME_MAX = 1024,
};

/* A UUID of version 7 (RFC 9562): milliseconds, then random bits. */
int wbx_new_call_id(char ret_id[WBX_ID_MAX])
{
	static const char digits[] = "0123456789abcdef";
	uint64_t ms = clock_wall_us() / 1000;
	char *at = ret_id;
	uint8_t b[16];
	int r = ret_id == NULL ? -EINVAL : rng_bytes(b, sizeof(b));

	if (r < 0)
		return r;
	for (unsigned i = 0; i < 6; i++)
		b[i] = (uint8_t)(ms >> (40 - 8 * i));
	b[6] = (uint8_t)(0x70 | (b[6] & 0x0f));
	b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
	for (unsigned i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = digits[b[i] >> 4];
		*at++ = digits[b[i] & 15];
	}
	*at = '\0';
	return 0;
}

/* --- values --- */

enum {
	VALUE_INPUTS,
	VALUE_ATTRIBUTES,
	VALUE_SUMMARY,
	VALUE_OUTPUT,
	VALUE_COUNT
};

/* A call's record under way. */
struct call_record {
	const struct wbx_call_record *call;
	const struct wbx_map *values[VALUE_COUNT]; /* NULL: there is none */
	struct wbx_map *apart[VALUE_COUNT]; /* lists of the one map that stands for the value */
	struct emit_blobs blobs;
};

static const struct {
	const char *key;
	size_t inline_max;
} values[VALUE_COUNT] = {
	[VALUE_INPUTS] = {"inputs", VALUE_INLINE_MAX},
	[VALUE_ATTRIBUTES] = {"attributes", NOTES_INLINE_MAX},
	[VALUE_SUMMARY] = {"summary", NOTES_INLINE_MAX},
	[VALUE_OUTPUT] = {"output", VALUE_INLINE_MAX},
};

static int check_value(const struct wbx_map *m, bool is_output)
{
	if (m == NULL)
		return 0;
	if (m->levels[0].is_list != is_output || (is_output && m->levels[0].count > 1))
		return -EINVAL;
	return map_check(m);
}

/* The whole value as bytes of a blob. */
static int put_apart(struct call_record *c, unsigned value)
{
	const struct wbx_map *m = c->values[value];
	uint8_t head[MAP_HEAD_BYTES];
	struct buf bytes;
	int r = 0;

	c->apart[value] = wbx_list_new();
	if (c->apart[value] == NULL)
		return -ENOMEM;
	buf_init(&bytes, (size_t)BLOB_MAX);
	map_head(m, head);
	if (value != VALUE_OUTPUT)
		r = buf_add(&bytes, head, sizeof(head));
	if (r == 0)
		r = buf_add(&bytes, m->bytes.data, m->bytes.len);
	if (r == 0)
		r = map_put_apart(c->apart[value], c->apart[value], "msgpack", &bytes,
				  (struct span){0});
	buf_done(&bytes);
	return r;
}

static int take_values(struct call_record *c)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < VALUE_COUNT; i++) {
		const struct wbx_map *m = c->values[i];

		r = check_value(m, i == VALUE_OUTPUT);
		if (r == 0 && m != NULL && m->bytes.len > values[i].inline_max)
			r = put_apart(c, i);
	}
	return r;
}

static void pack_value(struct pack *p, const struct call_record *c, unsigned value)
{
	const struct wbx_map *m = c->values[value];
	uint8_t head[MAP_HEAD_BYTES];

	if (m == NULL)
		return;
	pack_text(p, values[value].key);
	if (c->apart[value] != NULL) {
		pack_raw(p, buf_span(&c->apart[value]->bytes));
		return;
	}
	if (value == VALUE_OUTPUT && m->levels[0].count == 0) {
		pack_nil(p);
		return;
	}
	map_head(m, head);
	if (value != VALUE_OUTPUT)
		pack_raw(p, (struct span){.at = head, .len = sizeof(head)});
	pack_raw(p, buf_span(&m->bytes));
}

/* --- the other fields: packed, or only counted (p NULL) --- */

static size_t add_text(struct pack *p, const char *key, const char *text, size_t max)
{
	size_t len = text == NULL ? 0 : strlen(text);

	if (text == NULL)
		return 0;
	while (len > max && (text[max] & 0xc0) == 0x80) /* not inside of a character */
		max--;
	if (p != NULL)
		pack_pair_str(
			p, key,
			(struct span){.at = (const uint8_t *)text, .len = len > max ? max : len});
	return 1;
}

static size_t add_uint(struct pack *p, const char *key, uint64_t n, bool is_there)
{
	if (is_there && p != NULL)
		pack_pair_uint(p, key, n);
	return is_there ? 1 : 0;
}

static size_t add_fields(struct pack *p, const struct wbx_call_record *c)
{
	size_t pairs = 0;

	pairs += add_text(p, "phase", c->phase, TEXT_MAX);
	pairs += add_text(p, "id", c->id, TEXT_MAX);
	pairs += add_text(p, "trace_id", c->trace_id, TEXT_MAX);
	pairs += add_text(p, "parent_id", c->parent_id, TEXT_MAX);
	pairs += add_text(p, "op", c->op, NAME_MAX_BYTES);
	pairs += add_text(p, "display_name", c->display_name, DISPLAY_NAME_MAX);
	pairs += add_text(p, "thread_id", c->thread_id, NAME_MAX_BYTES);
	pairs += add_text(p, "turn_id", c->turn_id, NAME_MAX_BYTES);
	pairs += add_text(p, "exception", c->exception, TEXT_MAX);
	if (c->source != NULL && strlen(c->source) <= SOURCE_MAX)
		pairs += add_text(p, "source", c->source, SOURCE_MAX);
	pairs += add_uint(p, "started_at", c->started_us, c->started_us != 0);
	pairs += add_uint(p, "ended_at", c->ended_us, c->ended_us != 0);
	pairs += add_uint(p, "step", (uint64_t)c->step, c->step >= 0);
	if (c->source_sha256 == NULL)
		return pairs;
	if (p != NULL)
		pack_pair_bin(p, "source_sha256",
			      (struct span){.at = c->source_sha256, .len = DIGEST_BYTES});
	return pairs + 1;
}

/* --- the record --- */

static int emit_call(struct wbx_run *run, struct call_record *c)
{
	size_t pairs = add_fields(NULL, c->call) + (size_t)(c->blobs.count > 0);
	struct emit e;
	int r;

	for (unsigned i = 0; i < VALUE_COUNT; i++)
		pairs += c->values[i] != NULL;
	r = emit_begin(&e, run->w, run, "call", pairs);
	if (r < 0) {
		emit_blobs_end(&c->blobs, false);
		return r;
	}
	e.blobs = &c->blobs;
	(void)add_fields(&e.p, c->call);
	for (unsigned i = 0; i < VALUE_COUNT; i++)
		pack_value(&e.p, c, i);
	if (c->blobs.count > 0)
		emit_blobs_pack(&c->blobs, &e.p);
	r = emit_end(&e, (struct span){0}, NULL);
	emit_blobs_end(&c->blobs, true); /* emit_end() has seen to them */
	return r;
}

static bool is_whole(const struct wbx_call_record *c)
{
	bool begins;

	if (c->phase == NULL || c->id == NULL)
		return false;
	begins = strcmp(c->phase, "start") == 0 || strcmp(c->phase, "complete") == 0;
	if (begins)
		return c->trace_id != NULL && c->op != NULL;
	return strcmp(c->phase, "end") == 0;
}

int wbx_call(struct wbx_run *run, const struct wbx_call_record *call)
{
	struct call_record c = {.call = call};
	const struct wbx_map *maps[2 * VALUE_COUNT];
	int r;

	if (run == NULL || call == NULL || !is_whole(call))
		return -EINVAL;
	c.values[VALUE_INPUTS] = call->inputs;
	c.values[VALUE_ATTRIBUTES] = call->attributes;
	c.values[VALUE_SUMMARY] = call->summary;
	c.values[VALUE_OUTPUT] = call->output;
	r = take_values(&c);
	for (size_t i = 0; i < VALUE_COUNT; i++) {
		maps[i] = c.values[i];
		maps[VALUE_COUNT + i] = c.apart[i];
	}
	if (r == 0)
		r = emit_blobs_begin_all(&c.blobs, run->w, maps, array_len(maps));
	if (r == 0)
		r = emit_call(run, &c);
	for (unsigned i = 0; i < VALUE_COUNT; i++)
		wbx_map_free(c.apart[i]);
	return r;
}

/* --- the two small ones --- */

int wbx_call_start(struct wbx_run *run, const struct wbx_call *call, char ret_id[WBX_ID_MAX])
{
	static const struct wbx_map nothing = {.depth = 0};
	struct wbx_call_record record = {.phase = "start", .started_us = clock_wall_us()};
	int r = run == NULL || call == NULL || call->op == NULL ? -EINVAL : wbx_new_call_id(ret_id);

	if (r < 0)
		return r;
	record.id = ret_id;
	record.trace_id = call->trace_id != NULL ? call->trace_id : ret_id;
	record.parent_id = call->parent_id;
	record.op = call->op;
	record.display_name = call->display_name;
	record.step = call->step;
	record.inputs = call->inputs != NULL ? call->inputs : &nothing;
	record.attributes = call->attributes;
	return wbx_call(run, &record);
}

int wbx_call_end(struct wbx_run *run, const char *id, const struct wbx_map *output,
		 const char *exception)
{
	static const struct wbx_map nothing = {.levels = {{.is_list = true}}};
	const struct wbx_call_record record = {
		.phase = "end",
		.id = id,
		.exception = exception,
		.ended_us = clock_wall_us(),
		.step = -1,
		.output = output != NULL ? output : &nothing,
	};

	return wbx_call(run, &record);
}
