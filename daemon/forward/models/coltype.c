/* See coltype.h. A type is a node; lists have their elements' type as a child, dicts one child per
 * key. W&B's union is only ever "nil, or this": the flag `optional`. */
#include "daemon/forward/models/coltype.h"

#include "daemon/forward/models/media.h"
#include "daemon/forward/models/value.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

enum type_kind {
	TYPE_NEW,     /* takes any value's type, nil's too */
	TYPE_UNKNOWN, /* takes any value's type, but nil's */
	TYPE_ANY,
	TYPE_INVALID,
	TYPE_NONE,
	TYPE_STRING,
	TYPE_NUMBER,
	TYPE_BOOLEAN,
	TYPE_TIME,
	TYPE_FILE,
	TYPE_LIST,
	TYPE_DICT
};

#define NO_NODE UINT32_MAX
enum {
	DEPTH_MAX = 10 /* deeper is of any type: W&B's form of it needs five times as much depth */
};

struct type_node {
	uint8_t kind; /* enum type_kind */
	uint8_t media;
	bool optional;
	uint32_t length; /* of the newest list */
	uint32_t child;
	uint32_t last_child;
	uint32_t next;
	uint32_t hint; /* the child behind the one found last: dicts come in one order mostly */
	uint32_t children;
	uint32_t stamp; /* of the dict that had it last */
	uint32_t key_at;
	uint32_t key_len;
};

/* A list or dict that is being walked. */
struct frame {
	uint32_t node;
	uint32_t stamp;
	uint64_t left;
	struct mp start; /* at its head */
	bool is_fresh;   /* its type is made from this very value */
};

struct walk {
	struct coltypes *t;
	struct mp at;
	struct frame open[DEPTH_MAX];
	unsigned depth;
};

enum fit {
	FIT_YES,
	FIT_NO,
	FIT_NO_MEMORY
};

/* --- cells --- */

bool cell_is_file(struct mp value, struct span *ret_type)
{
	struct mp at = value;
	struct mp_value head;
	struct mp_value key;
	struct mp_value type;

	if (mp_read(&at, &head) < 0 || head.type != MP_MAP || head.count < 2 ||
	    mp_read(&at, &key) < 0 || key.type != MP_STR || !span_is(key.bytes, "_type") ||
	    mp_read(&at, &type) < 0 || type.type != MP_STR || mp_get_bin(value, "data").at == NULL)
		return false;
	*ret_type = type.bytes;
	return true;
}

bool cell_time(const struct mp_value *v, int64_t *ret_ms)
{
	uint64_t ms = 0;

	if (v->type != MP_EXT || v->ext_type != CELL_EXT_TIME || v->bytes.len < CELL_TIME_BYTES)
		return false;
	for (size_t i = 0; i < CELL_TIME_BYTES; i++)
		ms = ms << 8 | v->bytes.at[i];
	*ret_ms = (int64_t)ms;
	return true;
}

/* --- nodes --- */

void coltypes_init(struct coltypes *t)
{
	*t = (struct coltypes){.nodes = NULL};
	buf_init(&t->keys, TYPE_KEY_BYTES_MAX);
}

void coltypes_done(struct coltypes *t)
{
	(void)mem_free(t->nodes);
	buf_done(&t->keys);
	*t = (struct coltypes){.nodes = NULL};
}

static enum fit add_node(struct coltypes *t, enum type_kind kind, uint32_t *ret)
{
	int r = mem_room(t->nodes, t->count, t->cap);

	if (r < 0)
		return FIT_NO_MEMORY;
	t->nodes[t->count] = (struct type_node){.kind = (uint8_t)kind,
						.child = NO_NODE,
						.last_child = NO_NODE,
						.next = NO_NODE,
						.hint = NO_NODE};
	*ret = t->count++;
	return FIT_YES;
}

int coltypes_add(struct coltypes *t, bool optional, bool mixed)
{
	uint32_t node;

	if (add_node(t, mixed ? TYPE_ANY : TYPE_UNKNOWN, &node) != FIT_YES)
		return -ENOMEM;
	t->nodes[node].optional = optional;
	return 0;
}

static enum fit add_child(struct coltypes *t, uint32_t parent, enum type_kind kind, uint32_t *ret)
{
	struct type_node *p;
	uint32_t child;
	enum fit f = t->count >= TYPE_NODES_MAX ? FIT_NO : add_node(t, kind, &child);

	if (f != FIT_YES)
		return f;
	p = &t->nodes[parent];
	if (p->child == NO_NODE)
		p->child = child;
	else
		t->nodes[p->last_child].next = child;
	p->last_child = child;
	p->children++;
	*ret = child;
	return FIT_YES;
}

static struct span key_of(const struct coltypes *t, const struct type_node *n)
{
	return (struct span){.at = t->keys.data + n->key_at, .len = n->key_len};
}

static uint32_t find_child(struct coltypes *t, uint32_t parent, struct span key)
{
	struct type_node *p = &t->nodes[parent];
	uint32_t first = p->hint == NO_NODE ? p->child : p->hint;

	for (uint32_t left = p->children, c = first; left > 0; left--) {
		if (span_equal(key_of(t, &t->nodes[c]), key)) {
			p->hint = t->nodes[c].next;
			return c;
		}
		c = t->nodes[c].next == NO_NODE ? p->child : t->nodes[c].next;
	}
	return NO_NODE;
}

static enum fit new_key(struct coltypes *t, uint32_t parent, struct span key, uint32_t *ret)
{
	size_t at = t->keys.len;
	enum fit f;

	if (t->nodes[parent].children >= TYPE_DICT_KEYS_MAX ||
	    key.len > TYPE_KEY_BYTES_MAX - t->keys.len)
		return FIT_NO;
	if (buf_add(&t->keys, key.at, key.len) < 0)
		return FIT_NO_MEMORY;
	f = add_child(t, parent, TYPE_NEW, ret);
	if (f == FIT_YES) {
		t->nodes[*ret].key_at = (uint32_t)at;
		t->nodes[*ret].key_len = (uint32_t)key.len;
	}
	return f;
}

/* --- values --- */

static bool takes_nil(const struct type_node *n)
{
	return n->optional || n->kind == TYPE_NONE || n->kind == TYPE_NEW;
}

static bool is_nil(const struct mp_value *v)
{
	int64_t ms;

	return v->type == MP_NIL || (v->type == MP_FLOAT && isnan(v->real)) ||
	       (v->type == MP_EXT && !cell_time(v, &ms));
}

static enum type_kind scalar_kind(const struct mp_value *v)
{
	switch (v->type) {
	case MP_BOOL: return TYPE_BOOLEAN;
	case MP_INT:
	case MP_UINT:
	case MP_FLOAT: return TYPE_NUMBER;
	case MP_EXT: return TYPE_TIME;
	case MP_STR:
	case MP_BIN: return TYPE_STRING;
	case MP_NIL:
	case MP_ARRAY:
	case MP_MAP: break;
	}
	return TYPE_NONE;
}

static enum fit fit_nil(struct type_node *n)
{
	if (!takes_nil(n))
		return FIT_NO;
	if (n->kind == TYPE_NEW)
		n->kind = TYPE_NONE;
	return FIT_YES;
}

static enum fit fit_kind(struct type_node *n, enum type_kind kind, uint8_t media)
{
	if (n->kind == TYPE_NEW || n->kind == TYPE_UNKNOWN) {
		n->kind = (uint8_t)kind;
		n->media = media;
		return FIT_YES;
	}
	return n->kind == kind && n->media == media ? FIT_YES : FIT_NO;
}

/* Does a nil stand among the list's elements? */
static bool has_nil(struct mp list, uint32_t count)
{
	while (count-- > 0) {
		struct mp peek = list;
		struct span item;
		struct mp_value v;

		if (mp_read(&peek, &v) < 0 || mp_take(&list, &item) < 0)
			return false;
		if (v.type == MP_NIL)
			return true;
	}
	return false;
}

static enum fit begin_list(struct walk *w, uint32_t node, struct mp at, uint32_t count,
			   bool is_fresh)
{
	struct type_node *n = &w->t->nodes[node];
	uint32_t child;
	enum fit f = FIT_YES;

	n->length = count;
	if (is_fresh) {
		f = add_child(w->t, node, TYPE_UNKNOWN, &child);
		if (f == FIT_YES)
			w->t->nodes[child].optional = has_nil(at, count);
	}
	return f;
}

/* The list or dict at the cursor: it fits as far as can be seen, and its values come next. */
static enum fit begin(struct walk *w, uint32_t node, struct mp start, const struct mp_value *head)
{
	struct type_node *n = &w->t->nodes[node];
	bool is_list = head->type == MP_ARRAY;
	bool is_fresh = n->kind == TYPE_NEW || n->kind == TYPE_UNKNOWN;
	enum fit f = fit_kind(n, is_list ? TYPE_LIST : TYPE_DICT, 0);

	if (f == FIT_YES && w->depth == DEPTH_MAX)
		f = FIT_NO;
	if (f == FIT_YES && is_list)
		f = begin_list(w, node, w->at, head->count, is_fresh);
	if (f != FIT_YES)
		return f;
	w->open[w->depth++] = (struct frame){.node = node,
					     .stamp = ++w->t->stamp,
					     .left = head->count,
					     .start = start,
					     .is_fresh = is_fresh};
	return FIT_YES;
}

/* The value at the cursor, for that node; moves behind it, or into it. */
static enum fit fit_value(struct walk *w, uint32_t node)
{
	struct type_node *n = &w->t->nodes[node];
	struct mp start = w->at;
	struct mp_value v;
	struct span whole;
	struct span type;

	if (n->kind == TYPE_INVALID || n->kind == TYPE_ANY) {
		if (mp_take(&w->at, &whole) < 0)
			return FIT_NO;
		return n->kind == TYPE_ANY ? FIT_YES : FIT_NO;
	}
	if (cell_is_file(start, &type))
		return mp_take(&w->at, &whole) < 0
			       ? FIT_NO
			       : fit_kind(n, TYPE_FILE, (uint8_t)media_kind_of(type));
	if (mp_read(&w->at, &v) < 0)
		return FIT_NO;
	if (v.type == MP_ARRAY || v.type == MP_MAP)
		return begin(w, node, start, &v);
	return is_nil(&v) ? fit_nil(n) : fit_kind(n, scalar_kind(&v), 0);
}

static enum fit fit_pair(struct walk *w, const struct frame *f)
{
	char room[JSON_DOUBLE_MAX];
	struct span key;
	struct span whole;
	enum fit fit = FIT_YES;
	uint32_t child;

	if (value_take_key(&w->at, room, &key) < 0)
		return FIT_NO;
	child = find_child(w->t, f->node, key);
	if (child != NO_NODE && w->t->nodes[child].stamp == f->stamp) /* the key was here before */
		return mp_take(&w->at, &whole) < 0 ? FIT_NO : FIT_YES;
	if (child == NO_NODE)
		fit = f->is_fresh ? new_key(w->t, f->node, key, &child) : FIT_NO;
	if (fit != FIT_YES)
		return fit;
	w->t->nodes[child].stamp = f->stamp;
	return fit_value(w, child);
}

/* Keys that the dict has not count as nil. */
static enum fit end_dict(const struct coltypes *t, const struct frame *f)
{
	for (uint32_t c = t->nodes[f->node].child; !f->is_fresh && c != NO_NODE;
	     c = t->nodes[c].next) {
		if (t->nodes[c].stamp != f->stamp && !takes_nil(&t->nodes[c]))
			return FIT_NO;
	}
	return FIT_YES;
}

static enum fit step(struct walk *w)
{
	struct frame *f = &w->open[w->depth - 1];
	const struct type_node *n = &w->t->nodes[f->node];

	if (f->left == 0) {
		w->depth--;
		return n->kind == TYPE_DICT ? end_dict(w->t, f) : FIT_YES;
	}
	f->left--;
	return n->kind == TYPE_DICT ? fit_pair(w, f) : fit_value(w, n->child);
}

/* Something inside did not fit. A list that is new has elements of an invalid type then, and is
 * passed over; W&B's client does so, too. False: there is none around it. */
static bool recover(struct walk *w)
{
	while (w->depth > 0) {
		struct frame *f = &w->open[--w->depth];
		struct type_node *n = &w->t->nodes[f->node];
		struct span whole;

		if (!f->is_fresh || n->kind != TYPE_LIST || n->child == NO_NODE)
			continue;
		w->at = f->start;
		if (mp_take(&w->at, &whole) < 0)
			return false;
		n = &w->t->nodes[n->child];
		n->kind = TYPE_INVALID;
		n->optional = false;
		return true;
	}
	return false;
}

int coltypes_cell(struct coltypes *t, uint32_t column, struct span cell)
{
	struct walk w = {.t = t, .at = mp_of(cell)};
	enum fit f;

	assert(column < t->count);
	f = fit_value(&w, column);
	while (f != FIT_NO_MEMORY) {
		if (f == FIT_NO && !recover(&w)) {
			t->nodes[column].kind = TYPE_ANY;
			t->nodes[column].optional = true;
			return 0;
		}
		if (w.depth == 0)
			return 0;
		f = step(&w);
	}
	return -ENOMEM;
}

/* --- as JSON --- */

static const char *kind_name(const struct type_node *n)
{
	switch ((enum type_kind)n->kind) {
	case TYPE_NEW:
	case TYPE_UNKNOWN: return "unknown";
	case TYPE_ANY: return "any";
	case TYPE_INVALID: return "invalid";
	case TYPE_NONE: return "none";
	case TYPE_STRING: return "string";
	case TYPE_NUMBER: return "number";
	case TYPE_BOOLEAN: return "boolean";
	case TYPE_TIME: return "timestamp";
	case TYPE_FILE: return media_type((enum media_kind)n->media);
	case TYPE_LIST: return "list";
	case TYPE_DICT: return "typedDict";
	}
	return "unknown";
}

/* W&B's client sorts the two of a union by what Python prints of them: whether this one comes before
 * "None". A list prints its elements' type first. */
static bool is_before_none(const struct coltypes *t, const struct type_node *n)
{
	while (n->kind == TYPE_LIST && n->child != NO_NODE)
		n = &t->nodes[n->child];
	switch ((enum type_kind)n->kind) {
	case TYPE_ANY:
	case TYPE_BOOLEAN:
	case TYPE_INVALID: return true;
	case TYPE_FILE: return n->media != MEDIA_VIDEO && n->media != MEDIA_PLOTLY;
	case TYPE_NEW:
	case TYPE_UNKNOWN:
	case TYPE_NONE:
	case TYPE_STRING:
	case TYPE_NUMBER:
	case TYPE_TIME:
	case TYPE_LIST:
	case TYPE_DICT: break;
	}
	return false;
}

static void put_none(struct json *j)
{
	json_open_object(j);
	json_put_key_text(j, "wb_type");
	json_put_text(j, "none");
	json_close_object(j);
}

/* Classes of boxes and masks stand with the cells; here the places for them are empty. */
static void put_image_params(struct json *j)
{
	static const char *const names[] = {"box_layers",     "box_score_keys",  "mask_layers",
					    "box_class_maps", "mask_class_maps", "class_map"};

	json_put_key_text(j, "params");
	json_open_object(j);
	for (size_t i = 0; i < array_len(names); i++) {
		bool is_set = strcmp(names[i], "box_score_keys") == 0;

		json_put_key_text(j, names[i]);
		json_put_raw(j, is_set ? SPAN_LITERAL("{\"wb_type\":\"const\",\"params\":{\"val\":"
						      "[],\"is_set\":true}}")
				       : SPAN_LITERAL("{\"wb_type\":\"const\",\"params\":{\"val\":"
						      "{},\"is_set\":false}}"));
	}
	json_close_object(j);
}

/* Up to the place of its children. */
static void open_node(const struct coltypes *t, const struct type_node *n, struct json *j)
{
	if (n->optional) {
		json_open_object(j);
		json_put_key_text(j, "wb_type");
		json_put_text(j, "union");
		json_put_key_text(j, "params");
		json_open_object(j);
		json_put_key_text(j, "allowed_types");
		json_open_array(j);
		if (!is_before_none(t, n))
			put_none(j);
	}
	json_open_object(j);
	json_put_key_text(j, "wb_type");
	json_put_text(j, kind_name(n));
	if (n->kind == TYPE_FILE && n->media == MEDIA_IMAGE)
		put_image_params(j);
	if (n->kind != TYPE_LIST && n->kind != TYPE_DICT)
		return;
	json_put_key_text(j, "params");
	json_open_object(j);
	json_put_key_text(j, n->kind == TYPE_LIST ? "element_type" : "type_map");
	if (n->kind == TYPE_DICT)
		json_open_object(j);
}

static void close_node(const struct coltypes *t, const struct type_node *n, struct json *j)
{
	if (n->kind == TYPE_DICT)
		json_close_object(j);
	if (n->kind == TYPE_LIST) {
		json_put_key_text(j, "length");
		json_put_uint(j, n->length);
	}
	if (n->kind == TYPE_LIST || n->kind == TYPE_DICT)
		json_close_object(j);
	json_close_object(j);
	if (!n->optional)
		return;
	if (is_before_none(t, n))
		put_none(j);
	json_close_array(j);
	json_close_object(j);
	json_close_object(j);
}

void coltypes_write(const struct coltypes *t, uint32_t column, struct json *j)
{
	const struct type_node *path[DEPTH_MAX + 2];
	unsigned depth = 0;
	const struct type_node *n = &t->nodes[column];

	for (;;) {
		bool has_children = n->kind == TYPE_LIST || n->kind == TYPE_DICT;

		if (depth > 0 && path[depth - 1]->kind == TYPE_DICT)
			json_put_key(j, key_of(t, n));
		open_node(t, n, j);
		if (has_children && n->child != NO_NODE) {
			path[depth++] = n;
			n = &t->nodes[n->child];
			continue;
		}
		close_node(t, n, j);
		while (depth > 0 && n->next == NO_NODE) {
			n = path[--depth];
			close_node(t, n, j);
		}
		if (depth == 0)
			return;
		n = &t->nodes[n->next];
	}
}
