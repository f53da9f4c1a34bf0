/* See wire.h. Rules: research/wire weave. */
#include "daemon/forward/weave/wire.h"

#include "proto/base/json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define BOUNDARY "wbx-5f1d0c9e7a3b4d62"
const char trace_wire_file_type[] = "Content-Type: multipart/form-data; boundary=" BOUNDARY;

enum {
	FEEDBACK_MOST = 100,
	CALLS_MOST = 1000
};

/* --- addresses --- */

static void add_escaped(struct buf *ret, const char *segment)
{
	for (; *segment != '\0'; segment++) {
		unsigned char c = (unsigned char)*segment;
		bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
				(c >= 'A' && c <= 'Z') || strchr("-._~", c) != NULL;

		if (is_plain)
			(void)buf_add_byte(ret, c); /* the buf remembers */
		else
			(void)buf_printf(ret, "%%%02X", c);
	}
}

static const char *route_of(enum trace_line_kind kind, bool is_old)
{
	switch (kind) {
	case TRACE_CALL: return is_old ? "/call/upsert_batch" : "/calls/complete";
	case TRACE_START: return is_old ? "/call/upsert_batch" : "/call/start";
	case TRACE_END: return is_old ? "/call/upsert_batch" : "/call/end";
	case TRACE_FEEDBACK: return is_old ? "/feedback/create" : "/feedback/batch/create";
	case TRACE_FILE: return "/file/create";
	case TRACE_OBJECT: return "/obj/create";
	case TRACE_TABLE: return "/table/create";
	case TRACE_COST: return "/cost/create";
	case TRACE_LINE_KINDS: break;
	}
	return "";
}

int trace_wire_url(struct buf *ret, const char *base_url, const char *entity, const char *project,
		   enum trace_line_kind kind, bool is_old)
{
	size_t len = strlen(base_url);
	const char *route = route_of(kind, is_old);

	while (len > 0 && base_url[len - 1] == '/')
		len--;
	(void)buf_add(ret, base_url, len); /* the buf remembers */
	if (kind <= TRACE_END && !is_old) {
		(void)buf_add_text(ret, "/v2/");
		add_escaped(ret, entity);
		(void)buf_add_byte(ret, '/');
		add_escaped(ret, project);
	}
	return buf_add(ret, route, strlen(route) + 1);
}

/* --- bodies --- */

unsigned trace_wire_most(enum trace_line_kind kind)
{
	return kind == TRACE_CALL ? CALLS_MOST : kind == TRACE_FEEDBACK ? FEEDBACK_MOST : 1;
}

static bool is_batch(enum trace_line_kind kind, bool is_old)
{
	return kind == TRACE_CALL || (kind <= TRACE_END && is_old) ||
	       (kind == TRACE_FEEDBACK && !is_old);
}

void trace_wire_begin(struct buf *ret, enum trace_line_kind kind, bool is_old)
{
	if (is_batch(kind, is_old))
		(void)buf_add_text(ret, "{\"batch\":["); /* the buf remembers */
}

void trace_wire_end(struct buf *ret, enum trace_line_kind kind, bool is_old)
{
	if (is_batch(kind, is_old))
		(void)buf_add_text(ret, "]}"); /* the buf remembers */
}

/* {"mode": "start", "req": {"start": {...}}}, of the fields that belong there. */
static int add_half(struct buf *ret, json_t *call, const char *mode, const char *const *fields)
{
	json_t *half = json_object();
	json_t *item;
	char *text;
	int r;

	for (size_t i = 0; half != NULL && fields[i] != NULL; i++) {
		json_t *value = json_object_get(call, fields[i]);

		if (value != NULL)
			(void)json_object_set(half, fields[i], value); /* else: it is left out */
	}
	item = json_pack("{s:s, s:{s:o}}", "mode", mode, "req", mode, half);
	text = item == NULL ? NULL : json_dumps(item, JSON_COMPACT);
	r = text == NULL ? -ENOMEM : buf_add_text(ret, text);
	free(text);
	json_decref(item);
	return r;
}

static int add_old_call(struct buf *ret, struct span text)
{
	static const char *const start[] = {
		"project_id", "id",        "trace_id",     "parent_id",  "op_name",
		"thread_id",  "turn_id",   "display_name", "started_at", "inputs",
		"attributes", "wb_run_id", "wb_run_step",  NULL};
	static const char *const end[] = {"project_id", "id",        "ended_at",        "output",
					  "summary",    "exception", "wb_run_step_end", NULL};
	json_t *call = json_loadb((const char *)text.at, text.len, JSON_ALLOW_NUL, NULL);
	int r;

	if (call == NULL)
		return -EBADMSG;
	r = add_half(ret, call, "start", start);
	if (r == 0)
		r = buf_add_byte(ret, ',');
	if (r == 0)
		r = add_half(ret, call, "end", end);
	json_decref(call);
	return r;
}

int trace_wire_add(struct buf *ret, enum trace_line_kind kind, bool is_old, bool is_first,
		   struct span text)
{
	if (!is_first)
		(void)buf_add_byte(ret, ','); /* the buf remembers */
	if (is_old && kind == TRACE_CALL)
		return add_old_call(ret, text);
	if (is_old && (kind == TRACE_START || kind == TRACE_END)) {
		(void)buf_printf(
			ret, "{\"mode\":\"%s\",\"req\":", kind == TRACE_START ? "start" : "end");
		(void)buf_add(ret, text.at, text.len);
		return buf_add_byte(ret, '}');
	}
	return buf_add(ret, text.at, text.len);
}

void trace_wire_file(struct buf *ret, const char *entity, const char *project, struct span source)
{
	(void)buf_printf(ret,
			 "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"project_id\""
			 "\r\n\r\n%s/%s\r\n--" BOUNDARY
			 "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"obj.py\""
			 "\r\nContent-Type: text/x-python\r\n\r\n",
			 entity, project); /* the buf remembers */
	(void)buf_add(ret, source.at, source.len);
	(void)buf_add_text(ret, "\r\n--" BOUNDARY "--\r\n");
}

/* --- answers --- */

static json_t *load(struct span answer)
{
	return json_loadb((const char *)answer.at, answer.len, JSON_ALLOW_NUL, NULL);
}

int64_t trace_wire_culprit(struct span answer)
{
	json_t *root = load(answer);
	json_t *first = json_array_get(json_object_get(root, "detail"), 0);
	json_t *loc = json_object_get(first, "loc");
	int64_t at = -1;

	/* ["batch", 1, ...]; behind a framework of another version "body" may come first */
	for (size_t i = 0; at < 0 && i + 1 < json_array_size(loc); i++) {
		const char *word = json_string_value(json_array_get(loc, i));
		json_t *number = json_array_get(loc, i + 1);

		if (word != NULL && strcmp(word, "batch") == 0 && json_is_integer(number))
			at = json_integer_value(number);
	}
	json_decref(root);
	return at;
}

static bool is_text(json_t *root, const char *key, const char *text)
{
	const char *is = json_string_value(json_object_get(root, key));

	return is != NULL && strcmp(is, text) == 0;
}

bool trace_wire_is_old(struct span answer)
{
	json_t *root = load(answer);
	bool is_old = is_text(root, "detail", "Not Found");

	json_decref(root);
	return is_old;
}

bool trace_wire_wants_new(struct span answer)
{
	json_t *root = load(answer);
	bool wants = is_text(root, "error_code", "CALLS_COMPLETE_MODE_REQUIRED");

	json_decref(root);
	return wants;
}

void trace_wire_reason(struct span answer, char *ret, size_t size)
{
	json_t *root = load(answer);
	json_t *detail = json_object_get(root, "detail");
	const char *text = json_string_value(json_object_get(root, "reason"));
	json_t *first = json_array_get(detail, 0);

	if (text == NULL)
		text = json_string_value(detail);
	if (text == NULL)
		text = json_string_value(json_object_get(first, "msg"));
	if (text == NULL)
		text = "the server did not say why";
	(void)snprintf(ret, size, "%s", text); /* may be cut */
	json_decref(root);
}

bool trace_wire_digest(struct span answer, char *ret, size_t size)
{
	json_t *root = load(answer);
	const char *text = json_string_value(json_object_get(root, "digest"));
	bool has_one = text != NULL && strlen(text) < size;

	if (has_one)
		(void)snprintf(ret, size, "%s", text); /* fits */
	json_decref(root);
	return has_one;
}
