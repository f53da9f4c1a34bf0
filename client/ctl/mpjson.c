/* See mpjson.h. */
#include "client/ctl/mpjson.h"

#include "client/ctl/outside.h"
#include "proto/base/utf8.h"
#include "proto/mp.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

enum {
	KEY_TEXT_MAX = 32
};

/* An open array or map. */
struct open {
	uint64_t left; /* values; of a map, keys and values */
	bool is_map;
};

static void add_real(struct json *j, double n)
{
	if (isfinite(n))
		json_put_double(j, n);
	else
		json_put_text(j, isnan(n) ? "NaN" : n < 0 ? "-Infinity" : "Infinity");
}

static void add_hex(struct json *j, struct span bytes)
{
	static const char digits[] = "0123456789abcdef";
	auto_buf struct buf hex = {0};

	buf_init(&hex, SIZE_MAX);
	(void)buf_add_byte(&hex, '"'); /* all errors are looked at below */
	for (size_t i = 0; i < bytes.len; i++) {
		(void)buf_add_byte(&hex, (uint8_t)digits[bytes.at[i] >> 4]);
		(void)buf_add_byte(&hex, (uint8_t)digits[bytes.at[i] & 0xf]);
	}
	(void)buf_add_byte(&hex, '"');
	if (hex.error == 0)
		json_put_raw(j, buf_span(&hex));
	else if (j->out->error == 0)
		j->out->error = hex.error;
}

static void add_scalar(struct json *j, const struct mp_value *v)
{
	switch (v->type) {
	case MP_NIL: json_put_null(j); return;
	case MP_BOOL: json_put_bool(j, v->boolean); return;
	case MP_INT: json_put_int(j, v->integer); return;
	case MP_UINT: json_put_uint(j, v->natural); return;
	case MP_FLOAT: add_real(j, v->real); return;
	case MP_STR: json_put_string(j, v->bytes); return;
	case MP_BIN:
	case MP_EXT: add_hex(j, v->bytes); return;
	case MP_ARRAY:
	case MP_MAP: return; /* not scalars */
	}
}

/* JSON has text keys only. A map or array as a key is not taken: false. */
static bool add_key(struct json *j, const struct mp_value *v)
{
	char text[KEY_TEXT_MAX] = "null";

	switch (v->type) {
	case MP_STR: json_put_key(j, v->bytes); return true;
	case MP_INT: (void)snprintf(text, sizeof(text), "%lld", (long long)v->integer); break;
	case MP_UINT:
		(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v->natural);
		break;
	case MP_FLOAT: (void)json_format_double(text, v->real); break;
	case MP_BOOL:
		(void)snprintf(text, sizeof(text), "%s", v->boolean ? "true" : "false");
		break;
	case MP_NIL: break;
	case MP_BIN:
	case MP_EXT:
	case MP_ARRAY:
	case MP_MAP: return false;
	}
	json_put_key_text(j, text);
	return true;
}

static void close_full(struct json *j, const struct open *stack, size_t *depth)
{
	while (*depth > 0 && stack[*depth - 1].left == 0) {
		if (stack[--*depth].is_map)
			json_close_object(j);
		else
			json_close_array(j);
	}
}

/* Keys come at even numbers of what is left. */
static bool wants_key(const struct open *stack, size_t depth)
{
	return depth > 0 && stack[depth - 1].is_map && stack[depth - 1].left % 2 == 0;
}

/* What is walked through. */
struct walk {
	struct open stack[JSON_DEPTH_MAX];
	size_t depth;
};

static int add_value(struct json *j, struct walk *w, const struct mp_value *v)
{
	if (v->type != MP_ARRAY && v->type != MP_MAP) {
		add_scalar(j, v);
		return 0;
	}
	if (w->depth == JSON_DEPTH_MAX || j->depth == JSON_DEPTH_MAX)
		return -EBADMSG;
	if (v->type == MP_MAP)
		json_open_object(j);
	else
		json_open_array(j);
	w->stack[w->depth++] = (struct open){
		.left = v->type == MP_MAP ? (uint64_t)v->count * 2 : v->count,
		.is_map = v->type == MP_MAP,
	};
	return 0;
}

static int add_token(struct json *j, struct walk *w, const struct mp_value *v)
{
	bool is_key = wants_key(w->stack, w->depth);
	int r = 0;

	if (w->depth > 0)
		w->stack[w->depth - 1].left--;
	if (is_key)
		return add_key(j, v) ? 0 : -EBADMSG;
	r = add_value(j, w, v);
	close_full(j, w->stack, &w->depth);
	return r;
}

int json_add_mp(struct json *j, struct span value)
{
	struct walk w = {.depth = 0};
	struct mp m = mp_of(value);

	do {
		struct mp_value v;

		if (mp_read(&m, &v) < 0 || add_token(j, &w, &v) < 0)
			return -EBADMSG;
	} while (w.depth > 0 && j->out->error == 0);
	return j->out->error;
}

/* --- pairs --- */

void json_pair_text(struct json *j, const char *key, const char *text)
{
	json_put_key_text(j, key);
	json_put_text(j, text);
}

void json_pair_str(struct json *j, const char *key, struct span text)
{
	json_put_key_text(j, key);
	json_put_string(j, text);
}

void json_pair_uint(struct json *j, const char *key, uint64_t n)
{
	json_put_key_text(j, key);
	json_put_uint(j, n);
}

void json_pair_int(struct json *j, const char *key, int64_t n)
{
	json_put_key_text(j, key);
	json_put_int(j, n);
}

void json_pair_bool(struct json *j, const char *key, bool value)
{
	json_put_key_text(j, key);
	json_put_bool(j, value);
}

void json_pair_real(struct json *j, const char *key, double n)
{
	json_put_key_text(j, key);
	add_real(j, n);
}

void json_pair_null(struct json *j, const char *key)
{
	json_put_key_text(j, key);
	json_put_null(j);
}

void json_pair_seconds(struct json *j, const char *key, int64_t ms)
{
	if (ms < 0)
		json_pair_null(j, key);
	else
		json_pair_real(j, key, (double)ms / 1000);
}

void json_pair_bytes(struct json *j, const char *key, const char *key_hex, struct span bytes)
{
	if (utf8_valid(bytes)) {
		json_pair_str(j, key, bytes);
		return;
	}
	json_put_key_text(j, key_hex);
	add_hex(j, bytes);
}

void json_line(struct buf *out, const struct buf *json)
{
	outside_add(out, buf_span(json), OUTSIDE_JSON);
	(void)buf_add_byte(out, '\n'); /* errors stay in out */
	if (json->error != 0 && out->error == 0)
		out->error = json->error;
}
