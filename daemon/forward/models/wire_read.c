/* See wire.h: what W&B answers. */
#include "daemon/forward/models/jsonslice.h"
#include "daemon/forward/models/wire.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WHOLE_TEXT_MAX = 16 << 20 /* as the answer's body */
};

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

/* -1: there is none. */
static int64_t step_in(struct span object)
{
	char text[JSONSLICE_TEXT_MAX];

	return jsonslice_text(object, "_step", text) && text[0] >= '0' && text[0] <= '9'
		       ? strtoll(text, NULL, 10)
		       : -1;
}

static struct span text_span(const json_t *text)
{
	return (struct span){.at = (const uint8_t *)json_string_value(text),
			     .len = json_string_length(text)};
}

/* The last line in a tail, which is the JSON text of a list of lines. It lives in *ret_tail. */
static struct span last_line(const json_t *text, json_t **ret_tail)
{
	struct span tail = text_span(text);

	*ret_tail = tail.at == NULL ? NULL : parse(tail);
	return text_span(json_array_get(*ret_tail, json_array_size(*ret_tail) - 1));
}

/* Steps go on behind the last, and are no fewer than the lines. */
static int64_t step_behind(int64_t step, int64_t lines)
{
	int64_t last = step > lines - 1 ? step : lines - 1;

	return last < INT64_MAX ? last + 1 : INT64_MAX;
}

static int take_about(json_t *run, struct wire_about *ret)
{
	json_t *tags = json_object_get(run, "tags");
	struct span config = text_span(json_object_get(run, "config"));
	struct span summary = text_span(json_object_get(run, "summaryMetrics"));
	size_t i;
	json_t *tag;
	int r = 0;

	json_array_foreach(tags, i, tag)
	{
		if (r == 0 && json_is_string(tag))
			r = wire_about_tag(ret, text_span(tag));
	}
	if (r == 0 && config.at != NULL)
		r = wire_about_config(ret, config);
	return r == 0 && summary.at != NULL ? wire_about_summary(ret, summary) : r;
}

static void more_runtime(struct wire_run *ret, struct span object, const char *key)
{
	char text[JSONSLICE_TEXT_MAX];
	double seconds = jsonslice_text(object, key, text) ? strtod(text, NULL) : 0;

	if (seconds > 0 && seconds < 1e9 && (int64_t)(seconds * 1e6) > ret->runtime_us)
		ret->runtime_us = (int64_t)(seconds * 1e6);
}

/* How far the run is: by its newest row, its newest event and its summary. */
static void take_progress(json_t *run, struct wire_run *ret)
{
	auto_json json_t *history = NULL;
	auto_json json_t *events = NULL;
	struct span row = last_line(json_object_get(run, "historyTail"), &history);
	struct span event = last_line(json_object_get(run, "eventsTail"), &events);
	struct span summary = text_span(json_object_get(run, "summaryMetrics"));
	int64_t of_row = step_in(row);
	int64_t of_summary = step_in(summary);
	struct span wandb;

	ret->next_step = step_behind(of_row > of_summary ? of_row : of_summary, ret->lines);
	ret->has_last = wire_row_of(row, &ret->last);
	more_runtime(ret, row, "_runtime");
	more_runtime(ret, event, "_runtime");
	more_runtime(ret, summary, "_runtime");
	if (jsonslice_find(summary, "_wandb", &wandb) == 0)
		more_runtime(ret, wandb, "runtime");
}

int wire_read_run_status(struct span body, struct wire_run *ret, struct wire_about *ret_about)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	json_t *run;
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
	ret->event_lines = count_of(json_object_get(run, "eventsLineCount"));
	ret->console_lines = count_of(json_object_get(run, "logLineCount"));
	copy_text(ret->state, sizeof(ret->state), json_object_get(run, "state"));
	take_progress(run, ret);
	r = take_about(run, ret_about);
	ret->is_cut = r == -E2BIG || r == -EMSGSIZE;
	return ret->is_cut ? 0 : r;
}

int wire_read_rows(struct span body, wire_on_row on_row, void *arg)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	json_t *rows;
	json_t *line;
	size_t i;
	int r = read_data(body, &whole, &data);

	if (r < 0)
		return r;
	rows = AT(data, "model", "bucket", "history");
	json_array_foreach(rows, i, line)
	{
		if (json_is_string(line))
			on_row(arg, text_span(line));
	}
	return 0;
}

bool wire_row_of(struct span line, struct wire_row *ret)
{
	char text[JSONSLICE_TEXT_MAX];

	ret->step = step_in(line);
	if (ret->step < 0 || !jsonslice_text(line, "_timestamp", text))
		return false;
	ret->timestamp = strtod(text, NULL);
	return true;
}

bool wire_row_is(const struct wire_row *a, const struct wire_row *b)
{
	return a->step == b->step && !(a->timestamp < b->timestamp) &&
	       !(a->timestamp > b->timestamp);
}

void wire_whole_run_init(struct wire_whole_run *r)
{
	*r = (struct wire_whole_run){.exists = false};
	buf_init(&r->config, WHOLE_TEXT_MAX);
	buf_init(&r->summary, WHOLE_TEXT_MAX);
}

void wire_whole_run_done(struct wire_whole_run *r)
{
	buf_done(&r->config);
	buf_done(&r->summary);
}

static int keep_text(struct buf *ret, const json_t *text)
{
	return json_is_string(text)
		       ? buf_add(ret, json_string_value(text), json_string_length(text))
		       : 0;
}

int wire_read_whole_run(struct span body, struct wire_whole_run *ret)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	json_t *run;
	int r = read_data(body, &whole, &data);

	if (r < 0)
		return r;
	run = AT(data, "model", "bucket");
	ret->exists = run != NULL;
	ret->history_lines = count_of(json_object_get(run, "historyLineCount"));
	ret->event_lines = count_of(json_object_get(run, "eventsLineCount"));
	ret->console_lines = count_of(json_object_get(run, "logLineCount"));
	copy_text(ret->state, sizeof(ret->state), json_object_get(run, "state"));
	r = keep_text(&ret->config, json_object_get(run, "config"));
	return r == 0 ? keep_text(&ret->summary, json_object_get(run, "summaryMetrics")) : r;
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

int wire_read_alert(struct span body)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	int r = read_data(body, &whole, &data);

	if (r < 0)
		return r;
	return AT(data, "notifyScriptableRunAlert") == NULL ? -EREMOTEIO : 0;
}

int wire_read_feature(struct span body, const char *name, bool *ret)
{
	auto_json json_t *whole = NULL;
	json_t *data;
	json_t *feature;
	size_t i;
	int r = read_data(body, &whole, &data);

	if (r < 0)
		return r;
	*ret = false;
	json_array_foreach(AT(data, "serverInfo", "features"), i, feature)
	{
		const char *text = json_string_value(json_object_get(feature, "name"));

		if (text != NULL && strcmp(text, name) == 0)
			*ret = json_is_true(json_object_get(feature, "isEnabled"));
	}
	return 0;
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
