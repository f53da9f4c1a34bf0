/* See about.h. */
#include "daemon/forward/models/about.h"

#include "proto/base/mem.h"
#include "proto/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	CONFIG_NODES_MAX = 1 << 17,
	TAGS_MAX = 4096
};

/* The version of W&B's own client whose wire we speak: its backend and later clients look at it. */
static const char speaks_version[] = "0.31.0";

static const char *const fields[ABOUT_TEXTS] = {
	[ABOUT_NAME] = "name",     [ABOUT_GROUP] = "group", [ABOUT_JOB_TYPE] = "job_type",
	[ABOUT_NOTES] = "notes",   [ABOUT_HOST] = "host",   [ABOUT_PROGRAM] = "program",
	[ABOUT_PYTHON] = "python", [ABOUT_SDK] = "sdk",
};

int about_init(struct about *a)
{
	int r;

	*a = (struct about){.dirty = 0};
	r = tree_init(&a->config, CONFIG_NODES_MAX);
	if (r == 0)
		r = tree_init(&a->tags, TAGS_MAX);
	if (r == 0)
		r = tree_init(&a->no_tags, TAGS_MAX);
	return r == 0 ? tree_init(&a->no_config, CONFIG_NODES_MAX) : r;
}

void about_done(struct about *a)
{
	for (unsigned i = 0; i < ABOUT_TEXTS; i++)
		a->texts[i] = mem_free(a->texts[i]);
	tree_done(&a->config);
	tree_done(&a->tags);
	tree_done(&a->no_tags);
	tree_done(&a->no_config);
}

/* Several producers open one run: the first to say something is heard, so that ranks which each
 * report their own program or host do not take turns. A name, a group or notes given later by hand
 * come from another process's `run` record with the same rule: they do not change it. */
static int take_text(struct about *a, enum about_text which, struct span text)
{
	if (text.len == 0 || text.at[0] == '\0' || a->texts[which] != NULL)
		return 0; /* the text ends at a NUL */
	a->texts[which] = mem_strndup((const char *)text.at, text.len);
	if (a->texts[which] == NULL)
		return -ENOMEM;
	a->dirty |= which >= ABOUT_PYTHON ? (unsigned)ABOUT_CONFIG : 1u << which;
	return 0;
}

static bool is_pattern(struct span tag)
{
	return tag.len > 1 && tag.at[tag.len - 1] == '*';
}

static bool fits(struct span pattern, struct span tag)
{
	return is_pattern(pattern) && tag.len >= pattern.len - 1 &&
	       memcmp(pattern.at, tag.at, pattern.len - 1) == 0;
}

/* Takes the tag, or all that a pattern fits, out of the tree. */
static void drop_tag(struct tree *t, struct span tag)
{
	struct node *n = tree_child(t, NULL, tag);

	if (n != NULL)
		tree_remove(t, n);
	for (n = is_pattern(tag) ? t->first : NULL; n != NULL;) {
		struct node *next = n->next;

		if (fits(tag, node_key(n)))
			tree_remove(t, n);
		n = next;
	}
}

bool about_drops_tag(const struct about *a, struct span tag)
{
	if (tree_child(&a->no_tags, NULL, tag) != NULL)
		return true;
	for (const struct node *n = a->no_tags.first; n != NULL; n = n->next) {
		if (fits(node_key(n), tag))
			return true;
	}
	return false;
}

/* Adds each string of the list to one tree and takes it out of the other. */
static int move_tags(struct tree *to, struct tree *from, struct span list)
{
	static const struct span yes = {.at = (const uint8_t *)"\xc3", .len = 1}; /* true */
	struct mp at = mp_of(list);
	struct mp_value head;

	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY)
		return 0;
	for (uint32_t left = head.count; left > 0; left--) {
		struct mp_value tag;
		struct span whole;
		struct mp peek = at;
		struct node *leaf;
		int r;

		if (mp_take(&at, &whole) < 0 || mp_read(&peek, &tag) < 0)
			return -EBADMSG;
		if (tag.type != MP_STR || tag.bytes.len == 0)
			continue;
		r = tree_leaf(to, NULL, tag.bytes, &leaf);
		if (r == 0)
			r = tree_set(leaf, yes);
		if (r < 0)
			return r;
		drop_tag(from, tag.bytes);
	}
	return 0;
}

int about_tags(struct about *a, struct mp body)
{
	struct span list;
	int r = 0;

	if (mp_find_span(body, "remove", &list) == 0)
		r = move_tags(&a->no_tags, &a->tags, list);
	if (r == 0 && mp_find_span(body, "add", &list) == 0)
		r = move_tags(&a->tags, &a->no_tags, list);
	a->dirty |= ABOUT_TAGS;
	return r;
}

static bool is_map(struct span value)
{
	struct mp at = mp_of(value);
	struct mp_value v;

	return mp_read(&at, &v) == 0 && v.type == MP_MAP;
}

/* Keys that are set again are not taken out any more. */
static int merge_config(struct about *a, struct span map)
{
	struct mp at = mp_of(map);
	struct mp_value head;

	if (mp_read(&at, &head) < 0)
		return -EBADMSG;
	for (uint32_t left = a->no_config.count > 0 ? head.count : 0; left > 0; left--) {
		char room[JSON_DOUBLE_MAX];
		struct span key;
		struct span value;
		struct node *n;

		if (value_take_key(&at, room, &key) < 0 || mp_take(&at, &value) < 0)
			return -EBADMSG;
		n = tree_child(&a->no_config, NULL, key);
		if (n != NULL)
			tree_remove(&a->no_config, n);
	}
	return tree_merge(&a->config, NULL, mp_of(map), NULL, NULL);
}

int about_run(struct about *a, struct mp body)
{
	struct span value;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ABOUT_TEXTS; i++)
		r = take_text(a, (enum about_text)i, mp_get_str(body, fields[i]));
	if (r == 0 && mp_find_span(body, "config", &value) == 0 && is_map(value)) {
		a->dirty |= ABOUT_CONFIG;
		r = merge_config(a, value);
	}
	if (r == 0 && mp_find_span(body, "tags", &value) == 0 && value.at[0] != 0xc0 /* nil */) {
		a->dirty |= ABOUT_TAGS;
		r = move_tags(&a->tags, &a->no_tags, value);
	}
	return r;
}

int about_config(struct about *a, struct mp body)
{
	struct span value;
	int r = 0;

	a->dirty |= ABOUT_CONFIG;
	if (mp_find_span(body, "data", &value) == 0 && is_map(value))
		r = merge_config(a, value);
	if (r < 0 || mp_find_span(body, "remove", &value) < 0)
		return r;
	/* W&B may have a key although we do not; one that something is left of is ours anyway */
	r = tree_note_named(&a->no_config, value, &a->config);
	return r == 0 ? tree_each_named(&a->config, value, tree_remove) : r;
}

void about_is_sent(struct about *a, unsigned what)
{
	a->dirty &= ~what;
	if ((what & ABOUT_CONFIG) != 0)
		tree_clear(&a->no_config);
	if ((what & ABOUT_TAGS) != 0)
		tree_clear(&a->no_tags); /* who adds one there later has his reasons */
}

/* --- as W&B wants it --- */

/* `t`: telemetry by field number of W&B's protobuf; without it a run cannot be resumed
 * (research: wire/wandb-models 3.3, measured). 4 the Python, 5 and 12 the client. */
static bool is_ours(struct span key)
{
	return span_is(key, "cli_version") || span_is(key, "python_version") || span_is(key, "t") ||
	       span_is(key, "m");
}

/* What clients may add: the names of classes of boxes and masks. */
static bool is_of_clients(struct span key)
{
	return span_is(key, "mask/class_labels") || span_is(key, "bounding_box/class_labels");
}

/* Ours take the place of those that W&B has. */
static bool has_class_labels(const struct about *a, struct span key)
{
	const struct node *wandb = tree_child(&a->config, NULL, SPAN_LITERAL("_wandb"));

	return wandb != NULL && !wandb->is_leaf && is_of_clients(key) &&
	       tree_child(&a->config, wandb, key) != NULL;
}

static void print_class_labels(const struct about *a, struct json *j)
{
	const struct node *wandb = tree_child(&a->config, NULL, SPAN_LITERAL("_wandb"));

	for (const struct node *n = wandb == NULL || wandb->is_leaf ? NULL : wandb->first;
	     n != NULL; n = n->next) {
		if (is_of_clients(node_key(n))) {
			json_put_key(j, node_key(n));
			node_to_json(n, j, VALUE_CONFIG);
		}
	}
}

/* The features that the run uses, by their numbers: who comes to a run sees by them that it is shared. */
static void print_features(const struct shared *s, struct json *j)
{
	if (s == NULL || !s->is_on)
		return;
	json_put_key_text(j, "3");
	json_open_array(j);
	json_put_int(j, SHARED_FEATURE);
	if (s->derives_summary)
		json_put_int(j, SHARED_FEATURE_DERIVED);
	if (s->label[0] != '\0')
		json_put_int(j, SHARED_FEATURE_LABEL);
	json_close_array(j);
}

static void print_wandb(const struct about *a, const struct metrics *m,
			const struct wire_about *server, struct json *j)
{
	const char *python = a->texts[ABOUT_PYTHON];

	json_put_key_text(j, "_wandb");
	json_open_object(j);
	json_put_key_text(j, "value");
	json_open_object(j);
	json_put_key_text(j, "cli_version");
	json_put_text(j, speaks_version);
	if (python != NULL) {
		json_put_key_text(j, "python_version");
		json_put_text(j, python);
	}
	json_put_key_text(j, "t");
	json_open_object(j);
	print_features(a->shared, j);
	if (python != NULL) {
		json_put_key_text(j, "4");
		json_put_text(j, python);
	}
	json_put_key_text(j, "5");
	json_put_text(j, speaks_version);
	json_put_key_text(j, "12");
	json_put_text(j, speaks_version);
	json_close_object(j);
	json_put_key_text(j, "m");
	metrics_to_json(m, j);
	print_class_labels(a, j);
	for (const struct node *n = server == NULL ? NULL : server->wandb.first; n != NULL;
	     n = n->next) { /* its machines, custom charts ... */
		if (!is_ours(node_key(n)) && !has_class_labels(a, node_key(n))) {
			json_put_key(j, node_key(n));
			json_put_raw(j, buf_span(&n->value));
		}
	}
	json_close_object(j);
	json_close_object(j);
}

/* One top-level key: its whole subtree under "value". */
static void print_key(const struct node *top, struct json *j)
{
	json_put_key(j, node_key(top));
	json_open_object(j);
	json_put_key_text(j, "value");
	node_to_json(top, j, VALUE_CONFIG);
	json_close_object(j);
}

static bool is_theirs(const struct about *a, struct span key)
{
	return tree_child(&a->config, NULL, key) == NULL &&
	       tree_child(&a->no_config, NULL, key) == NULL;
}

static void print_key_of_server(const struct node *top, struct json *j)
{
	json_put_key(j, node_key(top));
	json_open_object(j);
	json_put_key_text(j, "value");
	json_put_raw(j, buf_span(&top->value));
	json_close_object(j);
}

void about_config_to_json(const struct about *a, const struct metrics *m,
			  const struct wire_about *server, struct json *j)
{
	json_open_object(j);
	for (const struct node *n = server == NULL ? NULL : server->config.first; n != NULL;
	     n = n->next) {
		if (is_theirs(a, node_key(n)))
			print_key_of_server(n, j);
	}
	for (const struct node *n = a->config.first; n != NULL; n = n->next) {
		if (!span_is(node_key(n), "_wandb"))
			print_key(n, j);
	}
	print_wandb(a, m, server, j);
	json_close_object(j);
}

void about_values_to_json(const struct about *a, const struct wire_about *server, struct json *j)
{
	json_open_object(j);
	for (const struct node *n = server == NULL ? NULL : server->config.first; n != NULL;
	     n = n->next) {
		if (is_theirs(a, node_key(n))) {
			json_put_key(j, node_key(n));
			json_put_raw(j, buf_span(&n->value));
		}
	}
	for (const struct node *n = a->config.first; n != NULL; n = n->next) {
		json_put_key(j, node_key(n));
		node_to_json(n, j, VALUE_CONFIG);
	}
	json_close_object(j);
}

/* --- state --- */

static void pack_leaf(struct pack *p, const struct node *leaf)
{
	pack_raw(p, buf_span(&leaf->value));
}

static void pack_nothing(struct pack *p, const struct node *leaf)
{
	(void)leaf;
	pack_nil(p);
}

void about_to_msgpack(const struct about *a, struct pack *p)
{
	pack_map(p, ABOUT_TEXTS + 5);
	for (unsigned i = 0; i < ABOUT_TEXTS; i++)
		pack_pair_text(p, fields[i], a->texts[i]);
	pack_pair_uint(p, "dirty", a->dirty);
	pack_text(p, "config");
	tree_to_msgpack(&a->config, p, pack_leaf);
	pack_text(p, "tags");
	tree_to_msgpack(&a->tags, p, pack_leaf);
	pack_text(p, "no_tags");
	tree_to_msgpack(&a->no_tags, p, pack_leaf);
	pack_text(p, "no_config");
	tree_to_msgpack(&a->no_config, p, pack_nothing);
}

static int read_tree(struct tree *t, struct mp map, const char *key)
{
	struct span value;

	if (mp_find_span(map, key, &value) < 0)
		return -EBADMSG;
	return tree_merge(t, NULL, mp_of(value), NULL, NULL);
}

int about_from_msgpack(struct about *ret, struct mp map)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ABOUT_TEXTS; i++)
		r = take_text(ret, (enum about_text)i, mp_get_str(map, fields[i]));
	if (r == 0)
		r = read_tree(&ret->config, map, "config");
	if (r == 0)
		r = read_tree(&ret->tags, map, "tags");
	if (r == 0)
		r = read_tree(&ret->no_tags, map, "no_tags");
	if (r == 0 && read_tree(&ret->no_config, map, "no_config") == -ENOMEM)
		r = -ENOMEM; /* else: stored by a wbx that did not keep it */
	ret->dirty = (unsigned)mp_get_uint(map, "dirty", 0) & ABOUT_ALL;
	return r;
}
