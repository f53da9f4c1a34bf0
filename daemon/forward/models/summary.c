/* See summary.h. A leaf of the tree is a metric: its value is the latest one, its extra the
 * statistics. */
#include "daemon/forward/models/summary.h"

#include "proto/base/mem.h"
#include "proto/limits.h"

#include <errno.h>
#include <math.h>

enum {
	SUMMARY_NODES_MAX = 1 << 17,
	TRACKED = SUMMARY_MIN | SUMMARY_MAX | SUMMARY_MEAN | SUMMARY_LAST | SUMMARY_FIRST |
		  SUMMARY_BEST
};

struct statistics {
	struct buf first; /* one msgpack value */
	double min;
	double max;
	double total;
	int64_t count;
	unsigned track; /* bits of TRACKED; 0: the latest value alone */
	bool hidden;    /* summary="none" */
	bool best_is_most;
	bool has_data;
	bool saw_glob; /* a glob that fits was found: globs are asked once */
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
	return r;
}

void summary_done(struct summary *s)
{
	tree_done(&s->tree);
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
	st->min = st->count > 0 ? least(st->min, value) : value;
	st->max = st->count > 0 ? most(st->max, value) : value;
	st->total += value;
	st->count++;
}

static int take_value(struct node *leaf, struct statistics *st, const struct node *from)
{
	double number;

	if (!st->has_data) {
		buf_clear(&st->first);
		if (buf_add(&st->first, from->value.data, from->value.len) < 0)
			return -ENOMEM;
	}
	st->has_data = true;
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

static int update_leaf(struct summary *s, const struct metrics *m, const struct node *from,
		       struct buf *key)
{
	struct span path[RECORD_DEPTH_MAX + 2];
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
	r = tree_leaf_at(&s->tree, path, depth, &leaf);
	if (r < 0)
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

int summary_record(struct summary *s, struct mp body)
{
	struct span span;
	int r = 0;

	if (mp_find_span(body, "data", &span) == 0 && span.at[0] != 0xc0 /* nil */)
		r = set_values(&s->tree, mp_of(span));
	if (r < 0 || mp_find_span(body, "remove", &span) < 0)
		return r;
	return tree_each_named(&s->tree, span, clear_node);
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

/* --- out --- */

static void print_msgpack(struct json *j, const struct buf *value)
{
	struct mp m = mp_of(buf_span(value));

	if (value->len == 0)
		json_put_null(j);
	else
		(void)value_to_json(j, &m, VALUE_HISTORY); /* it was checked when it came */
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
	if (st->track == 0)
		print_msgpack(j, &leaf->value);
	else
		print_statistics(j, leaf, st);
	return true;
}

void summary_to_json(const struct summary *s, struct json *j)
{
	tree_to_json(&s->tree, j, VALUE_HISTORY, print_leaf);
}

/* --- state --- */

/* [latest, first, min, max, total, count, track, hidden, has_data, best_is_most, saw_glob] */
static void pack_leaf(struct pack *p, const struct node *leaf)
{
	static const struct statistics none;
	const struct statistics *st = leaf->extra != NULL ? leaf->extra : &none;

	pack_array(p, 11);
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
}

void summary_to_msgpack(const struct summary *s, struct pack *p)
{
	tree_to_msgpack(&s->tree, p, pack_leaf);
}

static int read_double(struct mp *at, double *ret)
{
	struct mp_value v;

	if (mp_read(at, &v) < 0 || !mp_is_number(&v))
		return -EBADMSG;
	*ret = mp_to_double(&v);
	return 0;
}

static int read_statistics(struct statistics *st, struct mp *at, bool has_saw_glob)
{
	struct mp_value count;
	struct mp_value track;
	struct mp_value hidden;
	struct mp_value has_data;
	struct mp_value best;
	struct mp_value saw_glob = {.boolean = true}; /* of a wbx that asked with the first row */

	if (read_double(at, &st->min) < 0 || read_double(at, &st->max) < 0 ||
	    read_double(at, &st->total) < 0)
		return -EBADMSG;
	if (mp_read(at, &count) < 0 || !mp_to_int64(&count, &st->count) ||
	    mp_read(at, &track) < 0 || track.type != MP_UINT || mp_read(at, &hidden) < 0 ||
	    hidden.type != MP_BOOL || mp_read(at, &has_data) < 0 || has_data.type != MP_BOOL ||
	    mp_read(at, &best) < 0 || best.type != MP_BOOL)
		return -EBADMSG;
	if (has_saw_glob && (mp_read(at, &saw_glob) < 0 || saw_glob.type != MP_BOOL))
		return -EBADMSG;
	st->saw_glob = saw_glob.boolean;
	st->track = (unsigned)track.natural & TRACKED;
	st->hidden = hidden.boolean;
	st->has_data = has_data.boolean;
	st->best_is_most = best.boolean;
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
	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY || head.count < 10 ||
	    head.count > 11 || mp_take(&at, &latest) < 0 || mp_take(&at, &first) < 0 ||
	    read_statistics(st, &at, head.count == 11) < 0)
		return -EBADMSG;
	r = buf_add(&st->first, first.at, first.len);
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
