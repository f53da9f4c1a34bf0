/* See value.h. */
#include "daemon/forward/models/value.h"

#include <errno.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>

/* One open list or map. */
struct level {
	uint64_t left; /* values still to come; a map's keys count */
	bool is_map;
};

enum {
	VALUE_DEPTH_MAX = JSON_DEPTH_MAX / 2
}; /* more than RECORD_DEPTH_MAX lets in */

static struct span value_key_text(const struct mp_value *v, char room[JSON_DOUBLE_MAX])
{
	switch (v->type) {
	case MP_STR: return v->bytes;
	case MP_UINT:
		(void)snprintf(room, JSON_DOUBLE_MAX, "%llu", (unsigned long long)v->natural);
		return span_of_text(room);
	case MP_INT:
		(void)snprintf(room, JSON_DOUBLE_MAX, "%lld", (long long)v->integer);
		return span_of_text(room);
	case MP_BOOL: return v->boolean ? SPAN_LITERAL("true") : SPAN_LITERAL("false");
	case MP_NIL: return SPAN_LITERAL("null");
	case MP_FLOAT:
		(void)json_format_double(room, v->real); /* its length is the text's */
		return span_of_text(room);
	case MP_BIN:
	case MP_EXT:
	case MP_ARRAY:
	case MP_MAP: break;
	}
	return SPAN_LITERAL("?");
}

static void write_base64(struct json *j, struct span bytes)
{
	struct buf text;
	size_t need = (bytes.len + 2) / 3 * 4 + 1;

	buf_init(&text, need);
	if (buf_reserve(&text, need) == 0 && bytes.len < INT32_MAX) {
		text.len = (size_t)EVP_EncodeBlock(text.data, bytes.at, (int)bytes.len);
		json_put_string(j, buf_span(&text));
	} else if (j->out->error == 0) {
		j->out->error = -ENOMEM; /* a null in its place would be another value */
	}
	buf_done(&text);
}

static void write_scalar(struct json *j, const struct mp_value *v, enum value_style style)
{
	switch (v->type) {
	case MP_NIL:
	case MP_EXT: json_put_null(j); return;
	case MP_BOOL: json_put_bool(j, v->boolean); return;
	case MP_INT: json_put_int(j, v->integer); return;
	case MP_UINT: json_put_uint(j, v->natural); return;
	case MP_FLOAT:
		if (style == VALUE_CONFIG && !isfinite(v->real))
			json_put_null(j);
		else
			json_put_double(j, v->real);
		return;
	case MP_STR: json_put_string(j, v->bytes); return;
	case MP_BIN: write_base64(j, v->bytes); return;
	case MP_ARRAY:
	case MP_MAP: return;
	}
}

static void close_level(struct json *j, const struct level *l)
{
	if (l->is_map)
		json_close_object(j);
	else
		json_close_array(j);
}

static struct level open_level(struct json *j, const struct mp_value *v)
{
	bool is_map = v->type == MP_MAP;

	if (is_map)
		json_open_object(j);
	else
		json_open_array(j);
	return (struct level){.left = is_map ? (uint64_t)v->count * 2 : v->count, .is_map = is_map};
}

/* The next value of this level is a key; counts it. */
static bool is_key_next(struct level *l)
{
	return l->left-- % 2 == 0 && l->is_map;
}

int value_take_key(struct mp *m, char room[JSON_DOUBLE_MAX], struct span *ret)
{
	struct mp_value v;
	struct mp peek = *m;
	struct span whole;

	if (mp_read(&peek, &v) < 0 || mp_take(m, &whole) < 0)
		return -EBADMSG;
	*ret = value_key_text(&v, room);
	return 0;
}

static int write_key(struct json *j, struct mp *m)
{
	char room[JSON_DOUBLE_MAX];
	struct span key;

	if (value_take_key(m, room, &key) < 0)
		return -EBADMSG;
	json_put_key(j, key);
	return 0;
}

int value_to_json(struct json *j, struct mp *m, enum value_style style)
{
	struct level open[JSON_DEPTH_MAX];
	unsigned depth = 0;

	do {
		struct mp_value v;

		if (depth > 0 && is_key_next(&open[depth - 1])) {
			if (write_key(j, m) < 0)
				return -EBADMSG;
			continue;
		}
		if (mp_read(m, &v) < 0)
			return -EBADMSG;
		if (v.type != MP_ARRAY && v.type != MP_MAP)
			write_scalar(j, &v, style);
		else if (depth == VALUE_DEPTH_MAX)
			return -EBADMSG;
		else
			open[depth++] = open_level(j, &v);
		while (depth > 0 && open[depth - 1].left == 0)
			close_level(j, &open[--depth]);
	} while (depth > 0);
	return 0;
}
