/* See summary.h. A leaf of the tree is a metric: its value is the latest one, its extra the
 * statistics. */
#include "daemon/forward/models/summary.h"

#include "daemon/forward/models/jsonslice.h"
#include "proto/base/mem.h"
#include "proto/limits.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	SUMMARY_NODES_MAX = 1 << 17,
	OPENED_BYTES_MAX = 16 << 20, /* of an object of W&B's to which a row adds */
	STATE_PARTS = 14,            /* of a leaf, as it is stored */
	OLD_STATE_PARTS = 10,        /* by a wbx that did not know what W&B has */
	TRACKED = SUMMARY_MIN | SUMMARY_MAX | SUMMARY_MEAN | SUMMARY_LAST | SUMMARY_FIRST |
		  SUMMARY_BEST
};

struct statistics {
	struct buf first; /* one msgpack value */
	double min;
	double max;
	double total;
	int64_t count;
	bool has_min;
	bool has_max;
	unsigned track; /* bits of TRACKED; 0: the latest value alone */
	bool hidden;    /* summary="none" */
	bool best_is_most;
	bool has_data;
	bool saw_glob;  /* a glob that fits was found: globs are asked once */
	bool is_theirs; /* the latest value is W&B's, as JSON text in a msgpack string */
};

static void on_drop(void *extra)
{
	struct statistics *st = extra;

	buf_done(&st->first);
	(void)mem_free(st);
}

int summary_init(struct summary *s)
{
	int r = tree_init(&s->tree, SUMMARY_NODES_MAX);

	s->tree.on_drop = on_drop;
	return r == 0 ? tree_init(&s->removed, SUMMARY_NODES_MAX) : r;
}

void summary_done(struct summary *s)
{
	tree_done(&s->tree);
	tree_done(&s->removed);
}

static struct statistics *statistics_of(struct node *leaf)
{
	struct statistics *st = leaf->extra;

	if (st != NULL)
		return st;
	st = mem_zalloc(sizeof(*st));
	if (st == NULL)
		return NULL;
	buf_init(&st->first, RECORD_MAX);
	leaf->extra = st;
	return st;
}

/* As Go's min and max: a NaN stays. */
static double least(double a, double b)
{
	return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
}

static double most(double a, double b)
{
	return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}

static void count_number(struct statistics *st, double value)
{
	st->min = st->has_min ? least(st->min, value) : value;
	st->max = st->has_max ? most(st->max, value) : value;
	st->has_min = st->has_max = true;
	st->total += value;
	st->count++;
}

static int take_value(struct node *leaf, struct statistics *st, const struct node *from)
{
	double number;

	if (!st->has_data || st->first.len == 0) {
		buf_clear(&st->first);
		if (buf_add(&st->first, from->value.data, from->value.len) < 0)
			return -ENOMEM;
	}
	st->has_data = true;
	st->is_theirs = false;
	if (node_number(from, &number))
		count_number(st, number);
	return tree_set(leaf, buf_span(&from->value));
}

static void configure(struct statistics *st, const struct metric *m)
{
	st->hidden = (m->kinds & SUMMARY_NONE) != 0;
	st->track = m->kinds & TRACKED;
	st->best_is_most = m->goal == GOAL_MAXIMIZE;
}

/* A metric is configured by its own definition when that is made (summary_define), by a glob with
 * the first row that has both. */
static void configure_by_glob(struct statistics *st, const struct metrics *m, struct span key)
{
	const struct metric *found = metrics_find(m, key);

	if (found == NULL || !found->is_glob)
		return;
	configure(st, found);
	st->saw_glob = true;
}

static int set_text(struct buf *value, struct span json)
{
	struct pack p;

	buf_clear(value);
	pack_init(&p, value);
	pack_str(&p, json);
	return value->error;
}

static int put_theirs(struct summary *s, const struct span *path, size_t count, struct span json)
{
	struct statistics *st;
	struct node *leaf;
	int r = tree_leaf_at(&s->tree, path, count, &leaf);

	if (r < 0)
		return r;
	st = statistics_of(leaf);
	if (st == NULL)
		return -ENOMEM;
	st->has_data = true;
	st->is_theirs = true;
	return set_text(&leaf->value, json);
}

/* An object of W&B's, at path, becomes a branch with its values as leaves: a row adds to it. */
static int open_theirs(struct summary *s, struct span *path, size_t count, const struct node *leaf)
{
	struct mp at = mp_of(buf_span(&leaf->value));
	struct mp_value text;
	auto_buf struct buf copy;
	struct span rest;
	struct span key;
	struct span value;
	struct span behind = path[count];
	int r;

	buf_init(&copy, OPENED_BYTES_MAX);
	if (mp_read(&at, &text) < 0 || text.type != MP_STR ||
	    buf_add(&copy, text.bytes.at, text.bytes.len) < 0)
		return copy.error;
	r = jsonslice_open(buf_span(&copy), &rest);
	while (r == 0 && jsonslice_next(&rest, &key, &value) == 1) {
		if (memchr(key.at, '\\', key.len) != NULL)
			continue; /* such keys are not taken apart */
		path[count] = (struct span){.at = key.at + 1, .len = key.len - 2};
		r = put_theirs(s, path, count + 1, value);
	}
	path[count] = behind;
	return r == -EBADMSG ? 0 : r; /* it is no object: the row's value replaces it */
}

static int open_all_theirs(struct summary *s, struct span *path, size_t depth)
{
	const struct node *n = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i + 1 < depth; i++) {
		const struct statistics *st;

		n = tree_child(&s->tree, n, path[i]);
		if (n == NULL)
			return 0;
		st = n->is_leaf ? n->extra : NULL;
		if (st != NULL && st->is_theirs)
			r = open_theirs(s, path, i + 1, n);
	}
	return r;
}

static int update_leaf(struct summary *s, const struct metrics *m, const struct node *from,
		       struct buf *key)
{
	struct span path[TREE_PATH_MAX];
	size_t depth = 0;
	size_t at;
	struct statistics *st;
	struct node *leaf;
	int r;

	for (const struct node *n = from; n != NULL; n = n->parent)
		depth++;
	at = depth;
	for (const struct node *n = from; n != NULL; n = n->parent)
		path[--at] = node_key(n);
	r = open_all_theirs(s, path, depth);
	if (r == 0)
		r = tree_leaf_at(&s->tree, path, depth, &leaf);
	if (r != 0)
		return r;
	st = statistics_of(leaf);
	if (st == NULL)
		return -ENOMEM;
	if (!st->saw_glob && m->count > 0) {
		buf_clear(key);
		tree_path(from, key);
		if (key->error != 0)
			return key->error;
		configure_by_glob(st, m, buf_span(key));
	}
	return take_value(leaf, st, from);
}

int summary_row(struct summary *s, const struct metrics *m, const struct tree *row)
{
	struct buf key;
	int r = 0;

	buf_init(&key, RECORD_MAX);
	for (const struct node *n = tree_next_leaf(row, NULL); r == 0 && n != NULL;
	     n = tree_next_leaf(row, n)) {
		if (!node_is_nil(
			    n)) /* says nothing; the value before it stays, as in W&B's client */
			r = update_leaf(s, m, n, &key);
	}
	buf_done(&key);
	return r;
}

/* --- by hand --- */

static int on_set(void *arg, struct node *leaf)
{
	struct statistics *st = statistics_of(leaf);

	(void)arg;
	if (st == NULL)
		return -ENOMEM;
	st->track = 0; /* what a person sets stands as it is */
	st->has_data = true;
	st->is_theirs = false;
	return 0;
}

static void clear_node(struct tree *t, struct node *n)
{
	struct statistics *st = n->extra;

	if (!n->is_leaf)
		tree_remove(t, n);
	else if (st != NULL)
		st->has_data = false; /* what it tracks stays, as in W&B's client */
}

/* A map that is set by hand replaces the one that was there; the merge alone would add to it. */
static int drop_replaced(struct tree *t, struct mp map)
{
	struct mp_value head;
	int r = mp_read(&map, &head);

	if (r < 0 || head.type != MP_MAP)
		return -EBADMSG;
	for (uint32_t left = head.count; left > 0; left--) {
		char room[JSON_DOUBLE_MAX];
		struct span key;
		struct span value;
		struct node *n;

		if (value_take_key(&map, room, &key) < 0 || mp_take(&map, &value) < 0)
			return -EBADMSG;
		n = tree_child(t, NULL, key);
		if (n != NULL && !n->is_leaf)
			tree_remove(t, n);
	}
	return 0;
}

static int set_values(struct tree *t, struct mp map)
{
	int r = drop_replaced(t, map);

	return r < 0 ? r : tree_merge(t, NULL, map, on_set, NULL);
}

static int on_path_to_remove(void *arg, struct span *path, size_t count)
{
	return open_all_theirs(arg, path, count);
}

int summary_record(struct summary *s, struct mp body)
{
	struct span span;
	int r = 0;

	if (mp_find_span(body, "data", &span) == 0 && span.at[0] != 0xc0 /* nil */)
		r = set_values(&s->tree, mp_of(span));
	if (r < 0 || mp_find_span(body, "remove", &span) < 0)
		return r;
	r = tree_each_path(span, on_path_to_remove, s);
	if (r == 0)
		r = tree_note_named(&s->removed, span, &s->tree);
	return r == 0 ? tree_each_named(&s->tree, span, clear_node) : r;
}

static bool has_leaf(const struct tree *t, const struct span *path, size_t count)
{
	const struct node *n = NULL;

	for (size_t i = 0; i < count; i++) {
		n = tree_child(t, n, path[i]);
		if (n == NULL)
			return false;
	}
	return n != NULL && n->is_leaf;
}

int summary_define(struct summary *s, const struct metric *m, bool overwrite)
{
	struct span path[METRIC_PATH_MAX];
	char room[KEY_MAX + 1];
	struct statistics *st;
	struct node *leaf;
	size_t count;
	int r;

	if (m->is_glob || (!m->has_summary && !overwrite))
		return 0;
	count = metric_path(m->name, room, sizeof(room), path);
	if (!m->has_summary && !has_leaf(&s->tree, path, count))
		return 0;
	r = tree_leaf_at(&s->tree, path, count, &leaf);
	if (r < 0)
		return r;
	st = statistics_of(leaf);
	if (st == NULL)
		return -ENOMEM;
	configure(st, m);
	return 0;
}

int summary_set_int(struct summary *s, const struct span *path, size_t count, int64_t value)
{
	struct node *leaf;
	struct buf text;
	struct pack p;
	int r = tree_leaf_at(&s->tree, path, count, &leaf);

	if (r < 0)
		return r;
	buf_init(&text, 16);
	pack_init(&p, &text);
	pack_int(&p, value);
	r = text.error == 0 ? tree_set(leaf, buf_span(&text)) : text.error;
	buf_done(&text);
	return r < 0 ? r : on_set(NULL, leaf);
}

int summary_set_bool(struct summary *s, struct span key, bool value)
{
	const uint8_t byte = value ? 0xc3 : 0xc2; /* msgpack */
	const struct span text = {.at = &byte, .len = 1};
	struct node *leaf;
	int r = tree_leaf(&s->tree, NULL, key, &leaf);

	if (r < 0)
		return r;
	if (span_equal(buf_span(&leaf->value), text))
		return 1;
	r = tree_set(leaf, text);
	return r < 0 ? r : on_set(NULL, leaf);
}

bool summary_has(const struct summary *s, struct span key)
{
	return tree_child(&s->tree, NULL, key) != NULL;
}

/* --- what W&B has --- */

/* True and *ret when the object has a number there. */
static bool statistic_in(struct span object, const char *key, double *ret)
{
	char text[JSONSLICE_TEXT_MAX];
	char *end;

	if (!jsonslice_text(object, key, text))
		return false;
	*ret = strtod(text, &end);
	return end != text;
}

/* A scalar as msgpack; anything else is left out. 0, -ENOMEM. */
static int put_scalar(struct buf *ret, struct span text)
{
	json_t *value =
		json_loadb((const char *)text.at, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	struct pack p;

	buf_clear(ret);
	pack_init(&p, ret);
	if (json_is_integer(value))
		pack_int(&p, json_integer_value(value));
	else if (json_is_real(value))
		pack_double(&p, json_real_value(value));
	else if (json_is_string(value))
		pack_str(&p, (struct span){.at = (const uint8_t *)json_string_value(value),
					   .len = json_string_length(value)});
	json_decref(value);
	return ret->error;
}

/* What the statistics there say goes on here. value: their object. 0, -ENOMEM. */
static int go_on_from(struct statistics *st, const struct metric *m, struct span value)
{
	double *end = m->goal == GOAL_MAXIMIZE ? &st->max : &st->min;
	bool *has_end = m->goal == GOAL_MAXIMIZE ? &st->has_max : &st->has_min;
	struct span first;

	configure(st, m);
	st->saw_glob |= m->is_glob;
	st->has_min = statistic_in(value, "min", &st->min);
	st->has_max = statistic_in(value, "max", &st->max);
	*has_end = *has_end || statistic_in(value, "best", end);
	return jsonslice_find(value, "first", &first) == 0 ? put_scalar(&st->first, first) : 0;
}

static int adopt(struct summary *s, const struct metrics *m, const struct node *theirs)
{
	const struct metric *metric = metrics_find(m, node_key(theirs));
	const struct node *leaf = tree_child(&s->tree, NULL, node_key(theirs));
	const struct statistics *st = leaf == NULL ? NULL : leaf->extra;
	const struct span path[1] = {node_key(theirs)};
	int r;

	if (leaf != NULL && (!leaf->is_leaf || (st != NULL && st->has_data && !st->is_theirs)))
		return 0;
	if (tree_child(&s->removed, NULL, node_key(theirs)) != NULL)
		return 0;
	r = put_theirs(s, path, 1, buf_span(&theirs->value));
	if (r < 0 || metric == NULL || (metric->kinds & TRACKED) == 0)
		return r;
	leaf = tree_child(&s->tree, NULL, node_key(theirs));
	return go_on_from(leaf->extra, metric, buf_span(&theirs->value));
}

int summary_adopt(struct summary *s, const struct metrics *m, const struct tree *server)
{
	int r = 0;

	for (const struct node *n = server->first; r == 0 && n != NULL; n = n->next)
		r = adopt(s, m, n);
	return r;
}

/* --- out --- */

static void print_msgpack(struct json *j, const struct buf *value)
{
	struct mp m = mp_of(buf_span(value));

	if (value->len == 0)
		json_put_null(j);
	else
		(void)value_to_json(j, &m, VALUE_HISTORY); /* it was checked when it came */
}

static void print_theirs(struct json *j, const struct node *leaf)
{
	struct mp at = mp_of(buf_span(&leaf->value));
	struct mp_value text;

	if (mp_read(&at, &text) == 0 && text.type == MP_STR)
		json_put_raw(j, text.bytes);
	else
		json_put_null(j);
}

static void print_statistics(struct json *j, const struct node *leaf, const struct statistics *st)
{
	json_open_object(j);
	if (st->track & SUMMARY_LAST) {
		json_put_key_text(j, "last");
		print_msgpack(j, &leaf->value);
	}
	if (st->track & SUMMARY_FIRST) {
		json_put_key_text(j, "first");
		print_msgpack(j, &st->first);
	}
	if (st->track & SUMMARY_MAX) {
		json_put_key_text(j, "max");
		json_put_double(j, st->max);
	}
	if (st->track & SUMMARY_MIN) {
		json_put_key_text(j, "min");
		json_put_double(j, st->min);
	}
	if (st->track & SUMMARY_BEST) {
		json_put_key_text(j, "best");
		json_put_double(j, st->best_is_most ? st->max : st->min);
	}
	if (st->track & SUMMARY_MEAN) {
		json_put_key_text(j, "mean");
		json_put_double(j, st->total / (double)st->count);
	}
	json_close_object(j);
}

/* With j NULL: is there anything to print? */
static bool print_leaf(struct json *j, const struct node *leaf, enum value_style style)
{
	const struct statistics *st = leaf->extra;

	(void)style;
	if (st == NULL || st->hidden || !st->has_data)
		return false;
	if (st->track == 0 && node_is_nil(leaf))
		return false;
	if (j == NULL)
		return true;
	if (st->is_theirs)
		print_theirs(j, leaf);
	else if (st->track == 0)
		print_msgpack(j, &leaf->value);
	else
		print_statistics(j, leaf, st);
	return true;
}

void summary_to_json(const struct summary *s, struct json *j)
{
	tree_to_json(&s->tree, j, VALUE_HISTORY, print_leaf);
}

void summary_is_sent(struct summary *s)
{
	tree_clear(&s->removed);
}

/* --- state --- */

/* [latest, first, min, max, total, count, track, hidden, has_data, best_is_most, saw_glob,
 * is_theirs, has_min, has_max] */
static void pack_leaf(struct pack *p, const struct node *leaf)
{
	static const struct statistics none;
	const struct statistics *st = leaf->extra != NULL ? leaf->extra : &none;

	pack_array(p, STATE_PARTS);
	if (leaf->value.len > 0)
		pack_raw(p, buf_span(&leaf->value));
	else
		pack_nil(p);
	if (st->first.len > 0)
		pack_raw(p, buf_span(&st->first));
	else
		pack_nil(p);
	pack_double(p, st->min);
	pack_double(p, st->max);
	pack_double(p, st->total);
	pack_int(p, st->count);
	pack_uint(p, st->track);
	pack_bool(p, st->hidden);
	pack_bool(p, st->has_data);
	pack_bool(p, st->best_is_most);
	pack_bool(p, st->saw_glob);
	pack_bool(p, st->is_theirs);
	pack_bool(p, st->has_min);
	pack_bool(p, st->has_max);
}

void summary_to_msgpack(const struct summary *s, struct pack *p)
{
	tree_to_msgpack(&s->tree, p, pack_leaf);
}

static void pack_nothing(struct pack *p, const struct node *leaf)
{
	(void)leaf;
	pack_nil(p);
}

void summary_removed_to_msgpack(const struct summary *s, struct pack *p)
{
	tree_to_msgpack(&s->removed, p, pack_nothing);
}

static int read_double(struct mp *at, double *ret)
{
	struct mp_value v;

	if (mp_read(at, &v) < 0 || !mp_is_number(&v))
		return -EBADMSG;
	*ret = mp_to_double(&v);
	return 0;
}

/* False: the next value is none. */
static bool read_bool(struct mp *at, bool *ret)
{
	struct mp_value v;

	if (mp_read(at, &v) < 0 || v.type != MP_BOOL)
		return false;
	*ret = v.boolean;
	return true;
}

static int read_statistics(struct statistics *st, struct mp *at, uint32_t parts)
{
	struct mp_value count;
	struct mp_value track;

	if (read_double(at, &st->min) < 0 || read_double(at, &st->max) < 0 ||
	    read_double(at, &st->total) < 0)
		return -EBADMSG;
	if (mp_read(at, &count) < 0 || !mp_to_int64(&count, &st->count) ||
	    mp_read(at, &track) < 0 || track.type != MP_UINT || !read_bool(at, &st->hidden) ||
	    !read_bool(at, &st->has_data) || !read_bool(at, &st->best_is_most))
		return -EBADMSG;
	st->saw_glob = true; /* a wbx without it asked with the first row */
	st->track = (unsigned)track.natural & TRACKED;
	st->has_min = st->has_max = st->count > 0;
	if (parts == STATE_PARTS &&
	    (!read_bool(at, &st->saw_glob) || !read_bool(at, &st->is_theirs) ||
	     !read_bool(at, &st->has_min) || !read_bool(at, &st->has_max)))
		return -EBADMSG;
	return 0;
}

/* The leaf holds the whole list; it is taken apart into value and statistics. */
static int on_state_leaf(void *arg, struct node *leaf)
{
	struct mp at = mp_of(buf_span(&leaf->value));
	struct statistics *st = statistics_of(leaf);
	struct mp_value head;
	struct span latest;
	struct span first;
	int r;

	(void)arg;
	if (st == NULL)
		return -ENOMEM;
	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY ||
	    (head.count != STATE_PARTS && head.count != OLD_STATE_PARTS) ||
	    mp_take(&at, &latest) < 0 || mp_take(&at, &first) < 0 ||
	    read_statistics(st, &at, head.count) < 0)
		return -EBADMSG;
	r = first.at[0] == 0xc0 /* nil */ ? 0 : buf_add(&st->first, first.at, first.len);
	if (r == 0) {
		memmove(leaf->value.data, latest.at, latest.len); /* it is a part of itself */
		leaf->value.len = latest.len;
	}
	return r;
}

int summary_from_msgpack(struct summary *ret, struct mp map)
{
	return tree_merge(&ret->tree, NULL, map, on_state_leaf, NULL);
}

int summary_removed_from_msgpack(struct summary *ret, struct mp map)
{
	return tree_merge(&ret->removed, NULL, map, NULL, NULL);
}
