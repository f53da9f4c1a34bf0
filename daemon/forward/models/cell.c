/* See cell.h. */
#include "daemon/forward/models/cell.h"

#include "daemon/forward/models/coltype.h"
#include "daemon/forward/models/media.h"
#include "daemon/forward/models/value.h"
#include "proto/limits.h"

#include <errno.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>

enum {
	CELL_DEPTH_MAX = JSON_DEPTH_MAX / 2,
	SHA_TEXT = 2 * DIGEST_BYTES + 1,
	PATH_MAX_BYTES = 128 /* folder, 20 digits, ext */
};

struct level {
	uint64_t left; /* values, keys included */
	bool is_map;
	bool is_file; /* its `data` and `ext` become a path */
	enum media_kind media;
	struct mp start;
};

struct walk {
	const struct cell_writer *w;
	struct mp *at;
	struct level open[CELL_DEPTH_MAX];
	unsigned depth;
};

static int sha256_text(struct span bytes, char ret[SHA_TEXT])
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_Digest(bytes.at, bytes.len, sum, &len, EVP_sha256(), NULL) != 1 ||
	    len != DIGEST_BYTES)
		return -ENOMEM;
	for (unsigned i = 0; i < len; i++)
		(void)snprintf(ret + (size_t)2 * i, 3, "%02x", sum[i]); /* two digits, a NUL */
	return 0;
}

/* In the place of a file's `data`. */
static int write_file(const struct cell_writer *w, const struct level *l, struct span bytes)
{
	struct span ext = mp_get_str(l->start, "ext");
	char sha[SHA_TEXT];
	char path[PATH_MAX_BYTES];
	struct cell_file file = {.bytes = bytes, .sha256 = sha};
	int r = sha256_text(bytes, sha);

	if (r < 0)
		return r;
	if (!media_ext_is_good(ext))
		ext = (struct span){.at = NULL};
	(void)snprintf(path, sizeof(path), "%s/%.*s%.*s", media_folder(l->media), MEDIA_SHA_CHARS,
		       sha, (int)ext.len, ext.at == NULL ? "" : (const char *)ext.at); /* fits */
	file.path = span_of_text(path);
	json_put_key_text(w->json, "path");
	json_put_text(w->json, path);
	json_put_key_text(w->json, "sha256");
	json_put_text(w->json, sha);
	return w->on_file == NULL ? 0 : w->on_file(w->arg, &file);
}

static void write_time(struct json *j, const struct mp_value *v, int64_t ms, enum table_form form)
{
	struct span text = {.at = v->bytes.at + CELL_TIME_BYTES,
			    .len = v->bytes.len - CELL_TIME_BYTES};

	if (form == TABLE_ARTIFACT)
		json_put_int(j, ms);
	else
		json_put_string(j, text);
}

static int write_scalar(const struct walk *k, struct mp start, const struct mp_value *v)
{
	int64_t ms;

	if (cell_time(v, &ms))
		write_time(k->w->json, v, ms, k->w->form);
	else if (k->w->form == TABLE_ARTIFACT && v->type == MP_FLOAT && isnan(v->real))
		json_put_null(k->w->json);
	else
		return value_to_json(k->w->json, &start, VALUE_HISTORY);
	return 0;
}

static void close_levels(struct walk *k)
{
	while (k->depth > 0 && k->open[k->depth - 1].left == 0) {
		if (k->open[--k->depth].is_map)
			json_close_object(k->w->json);
		else
			json_close_array(k->w->json);
	}
}

static int open_level(struct walk *k, struct mp start, const struct mp_value *head)
{
	struct level *l = &k->open[k->depth];
	struct span type = {.at = NULL};

	if (k->depth == CELL_DEPTH_MAX)
		return -EBADMSG;
	*l = (struct level){.left = head->count, .is_map = head->type == MP_MAP, .start = start};
	if (l->is_map) {
		l->left *= 2;
		l->is_file = cell_is_file(start, &type);
		l->media = media_kind_of(type);
		json_open_object(k->w->json);
	} else {
		json_open_array(k->w->json);
	}
	k->depth++;
	return 0;
}

/* Takes a file whole and leaves the name of its class. True when there was one. */
static bool write_class(const struct walk *k, int *ret)
{
	struct span type;
	struct span whole;

	if (k->w->form != TABLE_RUN_FILE || !cell_is_file(*k->at, &type))
		return false;
	*ret = mp_take(k->at, &whole);
	json_put_text(k->w->json, media_class(media_kind_of(type)));
	return true;
}

/* A pair of a file: 1: it was written or left out; 0: it is like any other. */
static int write_file_pair(struct walk *k, struct level *l)
{
	struct mp at = *k->at;
	struct mp_value key;
	struct mp_value value;
	struct span whole;
	int r;

	if (!l->is_file || mp_read(&at, &key) < 0 || key.type != MP_STR)
		return 0;
	if (span_is(key.bytes, "data")) {
		if (mp_read(&at, &value) < 0 || value.type != MP_BIN)
			return -EBADMSG;
		r = write_file(k->w, l, value.bytes);
	} else if (span_is(key.bytes, "ext") || span_is(key.bytes, "class_labels")) {
		r = mp_take(&at, &whole);
	} else {
		return 0;
	}
	if (r < 0)
		return r;
	*k->at = at;
	l->left -= 2;
	return 1;
}

static int write_key(struct walk *k)
{
	char room[JSON_DOUBLE_MAX];
	struct span key;

	if (value_take_key(k->at, room, &key) < 0)
		return -EBADMSG;
	json_put_key(k->w->json, key);
	k->open[k->depth - 1].left--;
	return 0;
}

static int write_value(struct walk *k)
{
	struct mp start = *k->at;
	struct mp_value v;
	int r = 0;

	if (k->depth > 0)
		k->open[k->depth - 1].left--;
	if (write_class(k, &r))
		return r;
	if (mp_read(k->at, &v) < 0)
		return -EBADMSG;
	if (v.type == MP_ARRAY || v.type == MP_MAP)
		return open_level(k, start, &v);
	return write_scalar(k, start, &v);
}

/* A pair, an element, or the value itself. */
static int write_next(struct walk *k)
{
	struct level *l = k->depth > 0 ? &k->open[k->depth - 1] : NULL;
	int r = l != NULL && l->is_map ? write_file_pair(k, l) : 0;

	if (r != 0)
		return r < 0 ? r : 0;
	if (l != NULL && l->is_map)
		r = write_key(k);
	return r < 0 ? r : write_value(k);
}

int cell_write(const struct cell_writer *w, struct mp *m)
{
	struct walk k = {.w = w, .at = m};

	do {
		int r = write_next(&k);

		if (r < 0)
			return r == -ENODATA || r == -E2BIG ? -EBADMSG : r;
		close_levels(&k);
	} while (k.depth > 0);
	return 0;
}
