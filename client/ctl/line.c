/* See line.h. */
#include "client/ctl/line.h"

#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "proto/frame.h"
#include "proto/mp.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	PAIRS_MAX = 64,     /* the rest is counted */
	VALUE_COLUMNS = 60, /* of one text */
	KIND_COLUMNS = 7,   /* of most kinds */
	LINE_BYTES_MAX = 64 << 10,
	JSON_BYTES_MAX = 16 << 20
};

/* --- values --- */

static bool has_space(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] <= ' ')
			return true;
	}
	return s.len == 0;
}

static void add_text(struct buf *out, struct span text)
{
	const char *quote = has_space(text) ? "\"" : "";

	(void)buf_add_text(out, quote); /* errors stay in out */
	outside_add_cut(out, text, VALUE_COLUMNS);
	(void)buf_add_text(out, quote);
}

/* {3}, or what W&B calls it: <table 64 x 6> */
static void add_map(struct buf *out, struct span map, uint32_t count)
{
	struct span type = mp_get_str(mp_of(map), "_type");
	uint64_t rows = mp_get_uint(mp_of(map), "nrows", UINT64_MAX);

	if (type.at == NULL) {
		(void)buf_printf(out, "{%u}", count);
		return;
	}
	(void)buf_add_byte(out, '<');
	outside_add_cut(out, type, VALUE_COLUMNS);
	if (rows != UINT64_MAX)
		(void)buf_printf(out, " %llu x %llu", (unsigned long long)rows,
				 (unsigned long long)mp_get_uint(mp_of(map), "ncols", 0));
	(void)buf_add_byte(out, '>');
}

/* Six digits are enough to read; --json has them all. */
static void add_real(struct buf *out, double n)
{
	char text[JSON_DOUBLE_MAX];

	if (isfinite(n))
		(void)buf_printf(out, "%.6g", n); /* errors stay in out */
	else
		(void)buf_add(out, text, json_format_double(text, n));
}

static void add_value(struct buf *out, struct span value)
{
	struct mp m = mp_of(value);
	struct mp_value v;

	if (mp_read(&m, &v) < 0)
		return; /* checked when it was stored */
	switch (v.type) {
	case MP_NIL: (void)buf_add_text(out, "null"); return;
	case MP_BOOL: (void)buf_add_text(out, v.boolean ? "true" : "false"); return;
	case MP_INT: (void)buf_printf(out, "%lld", (long long)v.integer); return;
	case MP_UINT: (void)buf_printf(out, "%llu", (unsigned long long)v.natural); return;
	case MP_FLOAT: add_real(out, v.real); return;
	case MP_STR: add_text(out, v.bytes); return;
	case MP_BIN:
	case MP_EXT: (void)buf_printf(out, "<%zu bytes>", v.bytes.len); return;
	case MP_ARRAY: (void)buf_printf(out, "[%u]", v.count); return;
	case MP_MAP: add_map(out, value, v.count); return;
	}
}

/* --- pairs --- */

static bool add_pair(struct buf *out, struct span key, struct span value, unsigned *shown)
{
	struct mp m = mp_of(key);
	struct mp_value name;

	if (mp_read(&m, &name) < 0 || name.type != MP_STR)
		return true;
	if (++*shown > PAIRS_MAX)
		return false;
	(void)buf_add_text(out, *shown == 1 ? "" : " "); /* errors stay in out */
	outside_add_cut(out, name.bytes, VALUE_COLUMNS);
	(void)buf_add_byte(out, '=');
	add_value(out, value);
	return true;
}

static bool is_one_of(struct span key, const char *const *names)
{
	struct mp m = mp_of(key);
	struct mp_value v;

	if (mp_read(&m, &v) < 0 || v.type != MP_STR)
		return false;
	for (; *names != NULL; names++) {
		if (span_is(v.bytes, *names))
			return true;
	}
	return false;
}

static bool is_nil(struct span value)
{
	struct mp m = mp_of(value);
	struct mp_value v;

	return mp_read(&m, &v) == 0 && v.type == MP_NIL;
}

/* The pairs of a map, but for those that are left out (with nil fields, which mean the same);
 * without NULL: all. True when all went in. */
static bool add_pairs(struct buf *out, struct span map, const char *const *without, unsigned *shown)
{
	struct mp m = mp_of(map);
	struct mp_value head;

	if (mp_read(&m, &head) < 0 || head.type != MP_MAP)
		return true;
	for (uint32_t i = 0; i < head.count; i++) {
		struct span key;
		struct span value;

		if (mp_take(&m, &key) < 0 || mp_take(&m, &value) < 0)
			return true;
		if (without != NULL && (is_one_of(key, without) || is_nil(value)))
			continue;
		if (!add_pair(out, key, value, shown)) {
			(void)buf_printf(out, " (%u more)", head.count - i);
			return false;
		}
	}
	return true;
}

/* The step first, then what the record is about, then the rest. */
static void add_body(struct buf *out, struct span body)
{
	static const char *const told[] = {"run", "t", "step", "data", "blobs", NULL};
	struct span value;
	unsigned shown = 0;

	if (mp_find_span(mp_of(body), "step", &value) == 0)
		(void)add_pair(out, SPAN_LITERAL("\xa4step"), value, &shown); /* the first fits */
	if (add_pairs(out, body, told, &shown) && mp_find_span(mp_of(body), "data", &value) == 0)
		(void)add_pairs(out, value, NULL, &shown); /* it says how many are missing */
}

int line_add(struct buf *out, struct span record, size_t columns)
{
	auto_buf struct buf line = {0};
	struct frame_parts parts;
	struct span run;
	struct span body;

	if (frame_parts(record, &parts) < 0)
		return -EBADMSG;
	buf_init(&line, LINE_BYTES_MAX);
	run = mp_get_str(mp_of(parts.body), "run");
	(void)buf_printf(&line, "%s  ", word_time(mp_get_uint(mp_of(parts.body), "t", 0)).text);
	outside_add_cut(&line, run.len == 0 ? SPAN_LITERAL("-") : run, 24);
	(void)buf_add_text(&line, "  ");
	outside_add_cut(&line, parts.kind, 10);
	(void)buf_printf(&line, "%*s",
			 parts.kind.len < KIND_COLUMNS ? (int)(KIND_COLUMNS - parts.kind.len) : 0,
			 "");
	(void)buf_printf(&line, " %5llu  ", (unsigned long long)parts.seq);
	add_body(&line, parts.body);
	if (line.error == -EMSGSIZE)
		line.error = 0; /* cut here is as good as cut below */
	body = buf_span(&line);
	if (text_columns(body) > columns) {
		(void)buf_add(out, body.at, text_fit(body, columns - 1)); /* errors stay in out */
		(void)buf_add_text(out, "…");
	} else {
		(void)buf_add(out, body.at, body.len);
	}
	return line.error != 0 ? line.error : out->error;
}

int line_add_json(struct buf *out, int64_t lsn, struct span record)
{
	auto_buf struct buf line = {0};
	struct frame_parts parts;
	struct json j;
	int r;

	if (frame_parts(record, &parts) < 0)
		return -EBADMSG;
	buf_init(&line, JSON_BYTES_MAX);
	json_init(&j, &line);
	json_open_object(&j);
	json_pair_int(&j, "lsn", lsn);
	json_pair_str(&j, "kind", parts.kind);
	json_pair_uint(&j, "seq", parts.seq);
	json_put_key_text(&j, "body");
	r = json_add_mp(&j, parts.body);
	if (r < 0)
		return r;
	json_close_object(&j);
	json_line(out, &line);
	return out->error;
}
