/* See wire.h: what W&B answers. */
#include "daemon/forward/models/wire.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static void json_free_at(json_t **j)
{
	json_decref(*j);
}
#define auto_json __attribute__((cleanup(json_free_at)))

static json_t *parse(struct span body)
{
	return json_loadb((const char *)body.at, body.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

/* The value under a path of keys, or NULL; borrowed. */
static json_t *at(json_t *j, const char *const *keys)
{
	for (; j != NULL && *keys != NULL; keys++)
		j = json_object_get(j, *keys);
	return json_is_null(j) ? NULL : j;
}
#define AT(j, ...) at(j, (const char *const[]){__VA_ARGS__, NULL})

/* A text too long for its place is not taken: half a name is none. */
static void copy_text(char *ret, size_t size, const json_t *text)
{
	if (json_is_string(text) && json_string_length(text) < size)
		(void)snprintf(ret, size, "%s", json_string_value(text)); /* fits */
}

static int64_t count_of(const json_t *j)
{
	return json_is_integer(j) && json_integer_value(j) > 0 ? json_integer_value(j) : 0;
}

/* data of a GraphQL answer. */
static int read_data(struct span body, json_t **ret_whole, json_t **ret_data)
{
	json_t *errors;

	*ret_whole = parse(body);
	if (!json_is_object(*ret_whole))
		return -EBADMSG;
	errors = json_object_get(*ret_whole, "errors");
	*ret_data = AT(*ret_whole, "data");
	if (json_array_size(errors) > 0 && *ret_data == NULL)
		return -EREMOTEIO;
	return *ret_data == NULL ? -EBADMSG : 0;
}

int wire_read_viewer(struct span body, struct wire_user *ret)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	json_t *viewer;
	int r = read_data(body, &whole, &data);

	if (r < 0)
		return r;
	viewer = AT(data, "viewer");
	if (viewer == NULL)
		return -EREMOTEIO; /* null: nobody is logged in with this key */
	*ret = (struct wire_user){.name = ""};
	copy_text(ret->name, sizeof(ret->name), json_object_get(viewer, "username"));
	copy_text(ret->entity, sizeof(ret->entity), json_object_get(viewer, "entity"));
	return 0;
}

/* _step of the last line in the tail: the JSON text of a list of lines. Lines may hold NaN, which
 * no JSON reader takes, so the number is looked for as text. */
static int64_t step_in_tail(const json_t *tail)
{
	static const char key[] = "\\\"_step\\\":";
	const char *found = NULL;
	const char *from = json_string_value(tail);

	while (from != NULL && (from = strstr(from, key)) != NULL) {
		found = from + sizeof(key) - 1;
		from = found;
	}
	return found == NULL ? -1 : strtoll(found, NULL, 10);
}

/* Steps go on behind the last, and are no fewer than the lines. */
static int64_t step_behind(int64_t step, int64_t lines)
{
	int64_t last = step > lines - 1 ? step : lines - 1;

	return last < INT64_MAX ? last + 1 : INT64_MAX;
}

static int take_tags(const json_t *tags, struct tree *ret)
{
	size_t i;
	json_t *tag;

	json_array_foreach(tags, i, tag)
	{
		struct span text = {.at = (const uint8_t *)json_string_value(tag),
				    .len = json_string_length(tag)};
		struct node *leaf;
		int r = text.at == NULL ? 0 : tree_leaf(ret, NULL, text, &leaf);

		if (r < 0)
			return r;
	}
	return 0;
}

int wire_read_run_status(struct span body, struct wire_run *ret, struct tree *ret_tags)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	json_t *run;
	int64_t step;
	int r = read_data(body, &whole, &data);

	if (r < 0)
		return r;
	*ret = (struct wire_run){.exists = false};
	run = AT(data, "model", "bucket");
	if (run == NULL)
		return 0;
	ret->exists = true;
	copy_text(ret->id, sizeof(ret->id), json_object_get(run, "id"));
	copy_text(ret->name, sizeof(ret->name), json_object_get(run, "name"));
	copy_text(ret->display_name, sizeof(ret->display_name),
		  json_object_get(run, "displayName"));
	ret->lines = count_of(json_object_get(run, "historyLineCount"));
	step = step_in_tail(json_object_get(run, "historyTail"));
	ret->next_step = ret->lines == 0 ? 0 : step_behind(step, ret->lines);
	return take_tags(json_object_get(run, "tags"), ret_tags);
}

int wire_read_upsert(struct span body, struct wire_run *ret)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	json_t *run;
	int r = read_data(body, &whole, &data);

	if (r < 0)
		return r;
	*ret = (struct wire_run){.exists = false};
	run = AT(data, "upsertBucket", "bucket");
	if (run == NULL)
		return json_object_get(whole, "errors") != NULL ? -EREMOTEIO : -EBADMSG;
	ret->exists = true;
	copy_text(ret->id, sizeof(ret->id), json_object_get(run, "id"));
	copy_text(ret->name, sizeof(ret->name), json_object_get(run, "name"));
	copy_text(ret->display_name, sizeof(ret->display_name),
		  json_object_get(run, "displayName"));
	copy_text(ret->project, sizeof(ret->project), AT(run, "project", "name"));
	copy_text(ret->entity, sizeof(ret->entity), AT(run, "project", "entity", "name"));
	ret->lines = count_of(json_object_get(run, "historyLineCount"));
	return ret->name[0] == '\0' || ret->project[0] == '\0' || ret->entity[0] == '\0' ? -EBADMSG
											 : 0;
}

bool wire_read_stopped(struct span body)
{
	auto_json json_t *whole = parse(body);

	return json_is_true(json_object_get(whole, "stopped"));
}

/* --- reasons --- */

static const char *message_in(json_t *whole)
{
	const json_t *error = json_object_get(whole, "error");
	const json_t *first = json_array_get(json_object_get(whole, "errors"), 0);
	const char *text = json_string_value(json_object_get(first, "message"));

	if (text == NULL)
		text = json_string_value(error);
	if (text == NULL)
		text = json_string_value(json_object_get(error, "message"));
	if (text == NULL)
		text = json_string_value(json_object_get(whole, "message"));
	return text;
}

/* How much of the text ends with a whole character. */
static size_t whole_characters(const char *text, size_t len)
{
	size_t begin = len; /* of the last character */
	unsigned char lead;
	size_t need;

	while (begin > 0 && ((unsigned char)text[begin - 1] & 0xc0) == 0x80)
		begin--;
	if (begin == 0)
		return len;
	lead = (unsigned char)text[--begin];
	need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
	return len - begin < need ? begin : len;
}

/* Copies what can stand in a line of a terminal: control characters become spaces. */
static void copy_line(char ret[WIRE_REASON_MAX], const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n < WIRE_REASON_MAX - 1; i++) {
		unsigned char c = (unsigned char)text[i];

		ret[n++] = (char)(c < 0x20 || c == 0x7f ? ' ' : c);
	}
	n = whole_characters(ret, n);
	while (n > 0 && ret[n - 1] == ' ')
		n--;
	ret[n] = '\0';
}

void wire_reason(struct span body, char ret[WIRE_REASON_MAX])
{
	auto_json json_t *whole = parse(body);
	const char *text = message_in(whole);

	if (text != NULL)
		copy_line(ret, text, strlen(text));
	else
		copy_line(ret, (const char *)body.at, body.len);
}
