/* See plan_row.h: values with a blob in them become the values of files, which are sent later
 * (PROTOCOL.md section 9). A map of a row is a branch of its tree; what stands in lists is rewritten as
 * msgpack. */
#include "daemon/forward/models/plan_row.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	PATH_MAX_BYTES = 4096,
	VALUE_MAX_BYTES = 2 << 20,
};

/* A file that a value names. */
struct file_value {
	struct span key; /* under which it was logged */
	struct span type;
	struct span blob;
	struct span ext;
	/* out */
	struct row_file names;
	char sha256[2 * DIGEST_BYTES + 1];
	int64_t size;
};

static void put_hex(char *ret, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", bytes.at[i]); /* two digits, a NUL */
}

static void add_path(const struct making *m, struct file_value *f)
{
	struct buf *path = &f->names.path;

	(void)buf_add_text(path, media_folder(media_kind_of(f->type))); /* the buf remembers */
	(void)buf_add_byte(path, '/');
	row_add_path_key(path, f->key);
	(void)buf_printf(path, "_%lld_%.*s", (long long)m->row->step, MEDIA_SHA_CHARS, f->sha256);
	if (media_ext_is_good(f->ext))
		(void)buf_add(path, f->ext.at, f->ext.len);
}

static void add_upload(const struct making *m, const struct file_value *f)
{
	const struct change c = {
		.kind = CHANGE_UPLOAD_ADD,
		.run = m->plan->run,
		.lsn = m->lsn,
		.step = m->row->step,
		.time_us = m->newest_us,
		.upload =
			{
				.kind = UPLOAD_MEDIA,
				.key = f->key,
				.path = buf_span(&f->names.path),
				.sha256 = span_of_text(f->sha256),
				.size = f->size,
				.client_id = SPAN_LITERAL(""),
				.sequence_client_id = SPAN_LITERAL(""),
				.blob = f->blob,
			},
	};

	changes_add(m->changes, &c);
}

/* Finds or makes its names; f->names.path is the caller's to end. */
static int name_file(const struct making *m, struct file_value *f)
{
	int r;

	buf_init(&f->names.path, PATH_MAX_BYTES);
	put_hex(f->sha256, f->blob);
	r = reader_blob_size(m->reader, f->blob, &f->size);
	if (r == -ENOENT) { /* a row that was stored has its blobs */
		f->size = 0;
		r = 0;
	}
	if (r == 0)
		r = row_find_file(&f->names, m, f->key, f->blob);
	if (r != 0)
		return r < 0 ? r : 0;
	add_path(m, f);
	if (f->names.path.error == 0)
		add_upload(m, f);
	return f->names.path.error;
}

/* --- maps of the row --- */

static bool is_file(const struct tree *t, const struct node *n)
{
	return row_text_leaf(t, n, "blob", MP_BIN).len == DIGEST_BYTES &&
	       row_text_leaf(t, n, "_type", MP_STR).len > 0;
}

static struct node *find_file(const struct tree *t)
{
	for (struct node *n = tree_next_leaf(t, NULL); n != NULL; n = tree_next_leaf(t, n)) {
		if (n->parent != NULL && span_is(node_key(n), "blob") && is_file(t, n->parent))
			return n->parent;
	}
	return NULL;
}

/* The innermost key above the value that is a file or a list of files. */
static struct span key_of(const struct tree *t, const struct node *n)
{
	struct span key = node_key(n);

	for (; n != NULL; n = n->parent) {
		if (row_text_leaf(t, n, "_type", MP_STR).len > 0)
			key = node_key(n);
	}
	return key;
}

static int put(struct tree *t, struct node *parent, const char *key, struct buf *value)
{
	struct node *leaf;
	int r = value->error;

	if (r == 0)
		r = tree_leaf(t, parent, span_of_text(key), &leaf);
	if (r == 0)
		r = tree_set(leaf, buf_span(value));
	buf_clear(value);
	return r;
}

static void remove_leaf(struct tree *t, const struct node *parent, const char *key)
{
	struct node *n = tree_child(t, parent, span_of_text(key));

	if (n != NULL)
		tree_remove(t, n);
}

static int replace(struct making *m, struct node *n)
{
	struct tree *t = &m->plan->row;
	struct file_value f = {
		.key = key_of(t, n),
		.type = row_text_leaf(t, n, "_type", MP_STR),
		.blob = row_text_leaf(t, n, "blob", MP_BIN),
		.ext = row_text_leaf(t, n, "ext", MP_STR),
	};
	struct buf value;
	struct pack p;
	int r = name_file(m, &f);

	buf_init(&value, PATH_MAX_BYTES + 64);
	pack_init(&p, &value);
	if (r == 0) {
		pack_str(&p, buf_span(&f.names.path));
		r = put(t, n, "path", &value);
	}
	if (r == 0) {
		pack_text(&p, f.sha256);
		r = put(t, n, "sha256", &value);
	}
	if (r == 0) {
		pack_int(&p, f.size);
		r = put(t, n, "size", &value);
	}
	remove_leaf(t, n, "blob");
	remove_leaf(t, n, "ext");
	remove_leaf(t, n, "class_labels");
	buf_done(&value);
	buf_done(&f.names.path);
	return r;
}

/* --- lists --- */

struct level {
	uint32_t left; /* values, or pairs */
	bool is_map;
	bool is_file;
};

struct rewriting {
	struct making *m;
	struct span key;
	bool as_paths; /* files at the top of the list become their paths */
	struct mp at;
	struct pack out;
	struct level levels[MP_DEPTH_MAX];
	unsigned depth;
};

static bool map_is_file(struct mp map)
{
	return mp_get_bin(map, "blob").len == DIGEST_BYTES && mp_get_str(map, "_type").len > 0;
}

static bool is_dropped(struct span key)
{
	return span_is(key, "blob") || span_is(key, "ext") || span_is(key, "class_labels");
}

/* How many pairs of the map at the cursor stay. */
static uint32_t pairs_that_stay(struct mp map, uint32_t count)
{
	static const char *const gone[] = {"blob", "ext", "class_labels"};
	struct span value;

	for (size_t i = 0; i < array_len(gone); i++)
		count -= mp_find_span(map, gone[i], &value) == 0;
	return count;
}

/* The head of a map that is a file, and what takes the place of its blob. */
static int open_file(struct rewriting *w, struct mp map, uint32_t count)
{
	struct file_value f = {
		.key = w->key,
		.type = mp_get_str(map, "_type"),
		.blob = mp_get_bin(map, "blob"),
		.ext = mp_get_str(map, "ext"),
	};
	int r = name_file(w->m, &f);

	if (r == 0 && w->as_paths && w->depth == 1) {
		pack_str(&w->out, buf_span(&f.names.path));
	} else if (r == 0) {
		pack_map(&w->out, pairs_that_stay(map, count) + 3);
		pack_pair_str(&w->out, "path", buf_span(&f.names.path));
		pack_pair_text(&w->out, "sha256", f.sha256);
		pack_pair_int(&w->out, "size", f.size);
	}
	buf_done(&f.names.path);
	return r;
}

static int push(struct rewriting *w, uint32_t count, bool is_map, bool is_file_map)
{
	if (w->depth == MP_DEPTH_MAX)
		return -EBADMSG;
	w->levels[w->depth++] =
		(struct level){.left = count, .is_map = is_map, .is_file = is_file_map};
	return 0;
}

static int take_value(struct rewriting *w)
{
	struct mp before = w->at;
	struct mp_value v;
	struct span whole;
	int r = mp_read(&w->at, &v);

	if (r < 0)
		return -EBADMSG;
	if (v.type == MP_ARRAY) {
		pack_array(&w->out, v.count);
		return push(w, v.count, false, false);
	}
	if (v.type == MP_MAP && map_is_file(before)) {
		r = open_file(w, before, v.count);
		if (r == 0 && w->as_paths && w->depth == 1) {
			w->at = before;
			return mp_skip(&w->at, NULL) < 0 ? -EBADMSG : 0;
		}
		return r < 0 ? r : push(w, v.count, true, true);
	}
	if (v.type == MP_MAP) {
		pack_map(&w->out, v.count);
		return push(w, v.count, true, false);
	}
	w->at = before;
	if (mp_take(&w->at, &whole) < 0)
		return -EBADMSG;
	pack_raw(&w->out, whole);
	return 0;
}

/* A key; true in *ret_dropped: the pair does not stay, and is passed. */
static int take_key(struct rewriting *w, const struct level *level, bool *ret_dropped)
{
	struct mp before = w->at;
	struct mp_value key;
	struct span whole;

	*ret_dropped = false;
	if (mp_take(&w->at, &whole) < 0 || mp_read(&before, &key) < 0)
		return -EBADMSG;
	*ret_dropped = level->is_file && key.type == MP_STR && is_dropped(key.bytes);
	if (*ret_dropped)
		return mp_skip(&w->at, NULL) < 0 ? -EBADMSG : 0;
	pack_raw(&w->out, whole);
	return 0;
}

static int rewrite(struct rewriting *w)
{
	int r = take_value(w);

	while (r == 0 && w->depth > 0) {
		struct level *level = &w->levels[w->depth - 1];
		bool dropped = false;

		if (level->left == 0) {
			w->depth--;
			continue;
		}
		level->left--;
		if (level->is_map)
			r = take_key(w, level, &dropped);
		if (r == 0 && !dropped)
			r = take_value(w);
	}
	return r;
}

/* Whether a list has a file in it; what is no list has none. Bytes that look so cost a rewriting that
 * changes nothing. */
static bool has_file(const struct node *leaf)
{
	static const char mark[] = "\xa4"
				   "blob\xc4\x20";

	return leaf->value.len > sizeof(mark) - 1 && (leaf->value.data[0] & 0xf0) != 0xa0 &&
	       memmem(leaf->value.data, leaf->value.len, mark, sizeof(mark) - 1) != NULL;
}

static int rewrite_leaf(struct making *m, struct node *leaf)
{
	const struct tree *t = &m->plan->row;
	struct rewriting *w = mem_zalloc(sizeof(*w));
	struct buf out;
	int r;

	if (w == NULL)
		return -ENOMEM;
	buf_init(&out, VALUE_MAX_BYTES);
	pack_init(&w->out, &out);
	w->m = m;
	w->at = mp_of(buf_span(&leaf->value));
	w->key = key_of(t, leaf);
	w->as_paths = leaf->parent != NULL && span_is(node_key(leaf), "filenames") &&
		      row_text_leaf(t, leaf->parent, "_type", MP_STR).len > 0;
	r = rewrite(w);
	if (r == 0)
		r = out.error != 0 ? out.error : tree_set(leaf, buf_span(&out));
	buf_done(&out);
	(void)mem_free(w);
	return r;
}

int row_replace_files(struct making *m)
{
	struct tree *t = &m->plan->row;
	struct node *n;
	int r = 0;

	while (r == 0 && (n = find_file(t)) != NULL)
		r = replace(m, n);
	for (n = tree_next_leaf(t, NULL); r == 0 && n != NULL; n = tree_next_leaf(t, n)) {
		if (has_file(n))
			r = rewrite_leaf(m, n);
	}
	return r == -EMSGSIZE ? -EBADMSG : r;
}
