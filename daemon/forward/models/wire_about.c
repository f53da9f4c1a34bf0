/* See wire_about.h. */
#include "daemon/forward/models/wire_about.h"

#include "daemon/forward/models/jsonslice.h"
#include "daemon/forward/models/shared.h"
#include "proto/base/mem.h"
#include "proto/limits.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

enum {
	TAGS_MAX = 4096,
	KEYS_MAX = 1 << 17,
	TEXT_MAX = 64 << 20,
	DEFINES_MAX = 16 << 20,
};

int wire_about_init(struct wire_about *a)
{
	int r;

	*a = (struct wire_about){.tags = {.count = 0}};
	buf_init(&a->defines, DEFINES_MAX);
	r = tree_init(&a->tags, TAGS_MAX);
	if (r == 0)
		r = tree_init(&a->config, KEYS_MAX);
	if (r == 0)
		r = tree_init(&a->wandb, KEYS_MAX);
	return r == 0 ? tree_init(&a->summary, KEYS_MAX) : r;
}

void wire_about_done(struct wire_about *a)
{
	tree_done(&a->tags);
	tree_done(&a->config);
	tree_done(&a->wandb);
	tree_done(&a->summary);
	buf_done(&a->defines);
}

void wire_about_clear(struct wire_about *a)
{
	tree_clear(&a->tags);
	tree_clear(&a->config);
	tree_clear(&a->wandb);
	tree_clear(&a->summary);
	buf_clear(&a->defines);
}

int wire_about_tag(struct wire_about *a, struct span tag)
{
	struct node *leaf;

	return tree_leaf(&a->tags, NULL, tag, &leaf);
}

/* Puts the pair into the tree as a leaf; `key` stands in quotes, and may be escaped. */
static int put_pair(struct tree *t, struct span key, struct span value)
{
	json_t *text =
		json_loadb((const char *)key.at, key.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	struct span name = {.at = (const uint8_t *)json_string_value(text),
			    .len = json_string_length(text)};
	struct node *leaf;
	int r = name.at == NULL || name.len > KEY_MAX ? 0 : tree_leaf(t, NULL, name, &leaf);

	if (r == 0 && name.at != NULL && name.len <= KEY_MAX)
		r = tree_set(leaf, value);
	json_decref(text);
	return r;
}

static int put_pairs(struct tree *t, struct span object)
{
	struct span rest;
	struct span key;
	struct span value;

	if (jsonslice_open(object, &rest) < 0)
		return 0;
	while (jsonslice_next(&rest, &key, &value) == 1) {
		int r = put_pair(t, key, value);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- metrics that are defined there: config._wandb.value.m --- */

static const char *const kinds[] = {"",     "min",  "max",  "mean", "best",
				    "last", "none", "copy", "first"};
static const char *const goals[] = {"", "minimize", "maximize"};

static const char *name_of(const json_t *metric)
{
	const char *name = json_string_value(json_object_get(metric, "1"));

	return name != NULL ? name : json_string_value(json_object_get(metric, "2"));
}

static bool has_number(const json_t *list, json_int_t number)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (json_integer_value(json_array_get(list, i)) == number)
			return true;
	}
	return false;
}

static void pack_define(struct pack *p, const json_t *all, const json_t *metric)
{
	const json_t *options = json_object_get(metric, "6");
	const json_t *summary = json_object_get(metric, "7");
	json_int_t axis = json_integer_value(json_object_get(metric, "5"));
	json_int_t goal = json_integer_value(json_object_get(metric, "8"));
	size_t count = 0;

	for (size_t i = 1; i < array_len(kinds); i++)
		count += has_number(summary, (json_int_t)i);
	pack_map(p, 6);
	pack_pair_text(p, "name", name_of(metric));
	pack_pair_text(p, "step_metric",
		       axis > 0 ? name_of(json_array_get(all, (size_t)axis - 1)) : NULL);
	pack_pair_bool(p, "step_sync", has_number(options, 1));
	pack_pair_bool(p, "hidden", has_number(options, 2));
	pack_pair_text(p, "goal",
		       goal > 0 && goal < (json_int_t)array_len(goals) ? goals[goal] : NULL);
	pack_text(p, "summary");
	if (count == 0) {
		pack_nil(p);
		return;
	}
	pack_array(p, count);
	for (size_t i = 1; i < array_len(kinds); i++) {
		if (has_number(summary, (json_int_t)i))
			pack_text(p, kinds[i]);
	}
}

/* Those that only stand there as somebody's axis are made by whoever names them. */
static bool is_defined(const json_t *metric)
{
	const json_t *by_name = json_object_get(metric, "1");
	const char *name = name_of(metric);

	return name != NULL && name[0] != '\0' && json_string_length(by_name) < KEY_MAX &&
	       (by_name == NULL || has_number(json_object_get(metric, "6"), 3));
}

static int read_defines(struct wire_about *a, struct span list)
{
	json_t *all = json_loadb((const char *)list.at, list.len, 0, NULL);
	struct pack p;
	size_t count = 0;

	for (size_t i = 0; i < json_array_size(all); i++)
		count += is_defined(json_array_get(all, i));
	pack_init(&p, &a->defines);
	pack_array(&p, count);
	for (size_t i = 0; i < json_array_size(all); i++) {
		if (is_defined(json_array_get(all, i)))
			pack_define(&p, all, json_array_get(all, i));
	}
	json_decref(all);
	return a->defines.error;
}

/* --- config and summary --- */

static int take_wandb(struct wire_about *a, struct span value)
{
	struct span list;
	int r = put_pairs(&a->wandb, value);

	return r == 0 && jsonslice_find(value, "m", &list) == 0 ? read_defines(a, list) : r;
}

/* {"key":{"value":...}} */
static int take_config_pair(struct wire_about *a, struct span key, struct span holder)
{
	struct span value;

	if (jsonslice_find(holder, "value", &value) < 0)
		return 0;
	if (span_is(key, "\"_wandb\""))
		return take_wandb(a, value);
	return put_pair(&a->config, key, value);
}

int wire_about_config(struct wire_about *a, struct span text)
{
	struct span rest;
	struct span key;
	struct span holder;
	int r = 0;

	if (jsonslice_open(text, &rest) < 0)
		return 0;
	while (r == 0 && jsonslice_next(&rest, &key, &holder) == 1)
		r = take_config_pair(a, key, holder);
	return r;
}

bool wire_about_is_written(const struct wire_about *a)
{
	return tree_child(&a->wandb, NULL, SPAN_LITERAL("t")) != NULL;
}

bool wire_about_is_shared(const struct wire_about *a)
{
	const struct node *t = tree_child(&a->wandb, NULL, SPAN_LITERAL("t"));
	json_t *telemetry =
		t == NULL ? NULL : json_loadb((const char *)t->value.data, t->value.len, 0, NULL);
	bool is_shared = has_number(json_object_get(telemetry, "3"), SHARED_FEATURE);

	json_decref(telemetry);
	return is_shared;
}

int wire_about_summary(struct wire_about *a, struct span text)
{
	return put_pairs(&a->summary, text);
}
