/* See render.h. */
#include "daemon/forward/weave/render.h"

#include "daemon/forward/models/value.h"
#include "proto/base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>

enum {
	DEPTH_MAX = JSON_DEPTH_MAX / 2,
	SECRET_NAME_MAX = 64
};

struct level {
	uint64_t left; /* values still to come; a map's keys count */
	bool is_map;
};

/* --- secrets --- */

static char lower(uint8_t c)
{
	return (char)tolower(c);
}

/* The name in lower case, without _ and -. False: it is longer than any that is meant. */
static bool normalise(struct span key, char ret[SECRET_NAME_MAX + 1], size_t *ret_len)
{
	size_t len = 0;

	for (size_t i = 0; i < key.len; i++) {
		if (key.at[i] == '_' || key.at[i] == '-')
			continue;
		if (len == SECRET_NAME_MAX)
			return false;
		ret[len++] = lower(key.at[i]);
	}
	ret[len] = '\0';
	*ret_len = len;
	return true;
}

static bool is_whole_secret(const char *name)
{
	static const char *const names[] = {"authorization", "proxyauthorization",
					    "authtoken",     "password",
					    "passwd",        "xapikey"};
	bool is_one = false;

	for (size_t i = 0; i < array_len(names); i++)
		is_one |= strcmp(name, names[i]) == 0;
	return is_one;
}

static bool ends_as_a_secret(const char *name, size_t len)
{
	static const char *const ends[] = {"apikey",       "apitoken",        "accesstoken",
					   "clientsecret", "privatekey",      "refreshtoken",
					   "secretkey",    "secretaccesskey", "sessiontoken"};
	bool is_one = false;

	for (size_t i = 0; i < array_len(ends); i++) {
		size_t end = strlen(ends[i]);

		is_one |= len >= end && strcmp(name + len - end, ends[i]) == 0;
	}
	return is_one;
}

bool render_is_secret(struct span key)
{
	char name[SECRET_NAME_MAX + 1];
	size_t len;

	return normalise(key, name, &len) && (is_whole_secret(name) || ends_as_a_secret(name, len));
}

/* --- texts and bytes --- */

/* The most of it that ends between two characters. */
static size_t cut_at(struct span text, size_t max)
{
	size_t len = text.len < max ? text.len : max;

	while (len > 0 && len < text.len && (text.at[len] & 0xc0) == 0x80)
		len--;
	return len;
}

void render_text(struct json *j, struct span text, int64_t size, struct render *r)
{
	char mark[96];
	struct buf cut;

	if (text.len <= r->text_max && (int64_t)text.len >= size) {
		json_put_string(j, text);
		return;
	}
	r->cut++;
	buf_init(&cut, r->text_max + sizeof(mark));
	text.len = cut_at(text, r->text_max);
	(void)snprintf(mark, sizeof(mark),
		       " [wbx: cut, %zu of %" PRId64 " bytes; whole: wbxctl trace]", text.len,
		       size);
	(void)buf_add(&cut, text.at, text.len); /* the buf remembers */
	(void)buf_add_text(&cut, mark);
	if (cut.error != 0)
		r->error = cut.error;
	json_put_string(j, buf_span(&cut));
	buf_done(&cut);
}

static bool begins(struct span bytes, const char *with, size_t len)
{
	return bytes.len >= len && memcmp(bytes.at, with, len) == 0;
}

static const char *media_type(struct span bytes)
{
	if (begins(bytes, "\x89PNG", 4))
		return "image/png";
	if (begins(bytes, "\xff\xd8\xff", 3))
		return "image/jpeg";
	if (begins(bytes, "GIF8", 4))
		return "image/gif";
	if (begins(bytes, "RIFF", 4) && bytes.len > 12 && memcmp(bytes.at + 8, "WEBP", 4) == 0)
		return "image/webp";
	if (begins(bytes, "RIFF", 4))
		return "audio/wav";
	return "application/octet-stream";
}

/* As a data URL: the server makes a file of it. Half a picture is none: what is too long is told in
 * words. */
static void put_bytes(struct json *j, struct span bytes, int64_t size, struct render *r)
{
	const char *type = media_type(bytes);
	size_t need = (bytes.len + 2) / 3 * 4 + 1;
	char text[96];
	struct buf url;

	if ((int64_t)bytes.len < size || need > r->text_max) {
		r->cut++;
		(void)snprintf(text, sizeof(text), "[wbx: %" PRId64 " bytes of %s, kept here]",
			       size, type);
		json_put_text(j, text);
		return;
	}
	buf_init(&url, need + 64);
	(void)buf_printf(&url, "data:%s;base64,", type); /* the buf remembers */
	if (buf_reserve(&url, need) == 0)
		url.len += (size_t)EVP_EncodeBlock(url.data + url.len, bytes.at, (int)bytes.len);
	if (url.error != 0)
		r->error = url.error;
	json_put_string(j, buf_span(&url));
	buf_done(&url);
}

/* --- values that stand apart --- */

static void put_blob(struct json *j, struct span digest, int64_t said, bool is_text,
		     struct render *r)
{
	struct buf bytes;
	int64_t size = said;
	int e;

	buf_init(&bytes, r->text_max + 8);
	e = r->read == NULL ? -ENOENT : r->read(r->arg, digest, r->text_max + 4, &bytes, &size);
	if (e == -ENOENT)
		json_put_text(j, "[wbx: these bytes are not in the store any more]");
	else if (e < 0)
		r->error = e;
	else if (is_text)
		render_text(j, buf_span(&bytes), size, r);
	else
		put_bytes(j, buf_span(&bytes), size, r);
	buf_done(&bytes);
}

/* The map at the cursor stands for a blob: writes it, moves behind the map. */
static bool put_apart(struct json *j, struct mp *m, struct render *r)
{
	struct mp peek = *m;
	struct mp_value v;
	struct span type;
	struct span blob;

	if (mp_read(&peek, &v) < 0 || v.type != MP_MAP || v.count == 0)
		return false;
	type = mp_get_str(*m, "_type");
	if (type.len == 0)
		return false;
	blob = mp_get_bin(*m, "blob");
	if (blob.len == 0 || span_is(type, "table"))
		return false;
	put_blob(j, blob, (int64_t)mp_get_uint(*m, "size", 0), span_is(type, "text"), r);
	return mp_skip(m, NULL) == 0;
}

/* --- values --- */

static void put_scalar(struct json *j, const struct mp_value *v, struct render *r)
{
	switch (v->type) {
	case MP_NIL:
	case MP_EXT: json_put_null(j); return;
	case MP_BOOL: json_put_bool(j, v->boolean); return;
	case MP_INT: json_put_int(j, v->integer); return;
	case MP_UINT: json_put_uint(j, v->natural); return;
	case MP_FLOAT:
		if (isfinite(v->real))
			json_put_double(j, v->real);
		else
			json_put_null(j);
		return;
	case MP_STR: render_text(j, v->bytes, (int64_t)v->bytes.len, r); return;
	case MP_BIN: put_bytes(j, v->bytes, (int64_t)v->bytes.len, r); return;
	case MP_ARRAY:
	case MP_MAP: return;
	}
}

/* A key, and its value when that is hidden. */
static int put_key(struct json *j, struct mp *m, struct level *l, struct render *r)
{
	char room[JSON_DOUBLE_MAX];
	struct span key;

	if (value_take_key(m, room, &key) < 0)
		return -EBADMSG;
	json_put_key(j, key);
	if (!render_is_secret(key))
		return 0;
	r->redacted++;
	l->left--;
	json_put_text(j, "REDACTED");
	return mp_skip(m, NULL) < 0 ? -EBADMSG : 0;
}

static void close_levels(struct json *j, struct level *open, unsigned *depth)
{
	while (*depth > 0 && open[*depth - 1].left == 0) {
		--*depth;
		if (open[*depth].is_map)
			json_close_object(j);
		else
			json_close_array(j);
	}
}

/* One value, or the beginning of a list or map. */
static int put_value(struct json *j, struct mp *m, struct level *open, unsigned *depth,
		     struct render *r)
{
	struct mp_value v;

	if (put_apart(j, m, r))
		return 0;
	if (mp_read(m, &v) < 0)
		return -EBADMSG;
	if (v.type != MP_ARRAY && v.type != MP_MAP) {
		put_scalar(j, &v, r);
		return 0;
	}
	if (*depth == DEPTH_MAX)
		return -EBADMSG;
	if (v.type == MP_MAP)
		json_open_object(j);
	else
		json_open_array(j);
	open[(*depth)++] = (struct level){
		.left = v.type == MP_MAP ? (uint64_t)v.count * 2 : v.count,
		.is_map = v.type == MP_MAP,
	};
	return 0;
}

int render_value(struct json *j, struct mp *m, struct render *r)
{
	struct level open[DEPTH_MAX];
	unsigned depth = 0;
	int e = 0;

	do {
		struct level *l = depth > 0 ? &open[depth - 1] : NULL;
		bool is_key = l != NULL && l->is_map && l->left % 2 == 0;

		if (l != NULL)
			l->left--;
		e = is_key ? put_key(j, m, l, r) : put_value(j, m, open, &depth, r);
		close_levels(j, open, &depth);
	} while (e == 0 && r->error == 0 && j->out->error == 0 && depth > 0);
	return e < 0 ? e : r->error;
}
