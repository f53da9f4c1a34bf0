/* See jsonrow.h. jansson reads standard JSON only, so the bare words NaN, Infinity and -Infinity
 * are turned into strings that no JSON holds by accident (they begin with a NUL) before, and into
 * numbers after. */
#include "client/ctl/jsonrow.h"

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "proto/limits.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
	DEPTH_MAX = RECORD_DEPTH_MAX,
	MARKED_MAX = 64 << 20,
};

/* --- numbers that JSON has not --- */

static const struct json_word marks[] = {
	{"NaN", "\"\\u0000NaN\""},
	{"Infinity", "\"\\u0000Infinity\""},
	{"-Infinity", "\"\\u0000-Infinity\""},
};
static const double marked[array_len(marks)] = {NAN, INFINITY, -INFINITY};

/* True and *ret when text is one of the marks. */
static bool odd_number_of(const char *text, size_t len, double *ret)
{
	for (size_t i = 0; text != NULL && i < array_len(marks); i++) {
		const char *word = marks[i].word; /* behind its NUL, as jansson reads it, too */

		if (len == strlen(word) + 1 && text[0] == '\0' &&
		    memcmp(text + 1, word, len - 1) == 0) {
			*ret = marked[i];
			return true;
		}
	}
	return false;
}

/* --- values --- */

/* An object or array that is being walked through. */
struct level {
	json_t *value;
	void *iter;   /* of an object: the next pair, NULL at the end */
	size_t index; /* of an array: the next value */
};

static int put_scalar(struct wbx_map *m, const char *key, json_t *value)
{
	double odd;

	switch (json_typeof(value)) {
	case JSON_STRING:
		if (odd_number_of(json_string_value(value), json_string_length(value), &odd))
			return wbx_put_double(m, key, odd);
		return wbx_put_bytes_as_text(m, key, json_string_value(value),
					     json_string_length(value));
	case JSON_INTEGER: return wbx_put_int(m, key, json_integer_value(value));
	case JSON_REAL: return wbx_put_double(m, key, json_real_value(value));
	case JSON_TRUE: return wbx_put_bool(m, key, true);
	case JSON_FALSE: return wbx_put_bool(m, key, false);
	case JSON_NULL: return wbx_put_null(m, key);
	case JSON_OBJECT:
	case JSON_ARRAY: break;
	}
	return -EINVAL; /* those two have levels */
}

/* The next value of the level and its key (NULL in arrays); false at its end. */
static bool level_next(struct level *l, const char **ret_key, json_t **ret_value)
{
	if (json_is_array(l->value)) {
		*ret_key = NULL;
		*ret_value = json_array_get(l->value, l->index++);
		return *ret_value != NULL;
	}
	if (l->iter == NULL)
		return false;
	*ret_key = json_object_iter_key(l->iter);
	*ret_value = json_object_iter_value(l->iter);
	l->iter = json_object_iter_next(l->value, l->iter);
	return *ret_value != NULL;
}

static bool is_container(const json_t *value)
{
	return json_is_object(value) || json_is_array(value);
}

static int begin(struct wbx_map *m, const char *key, json_t *value)
{
	return json_is_object(value) ? wbx_begin_map(m, key) : wbx_begin_list(m, key);
}

static bool is_special(const char *key)
{
	return strcmp(key, "_step") == 0 || strcmp(key, "_commit") == 0 ||
	       strcmp(key, "_kind") == 0;
}

static int put_object(struct wbx_map *m, json_t *object)
{
	struct level stack[DEPTH_MAX];
	size_t depth = 0;
	int r = 0;

	stack[depth++] = (struct level){.value = object, .iter = json_object_iter(object)};
	while (r == 0 && depth > 0) {
		const char *key;
		json_t *value;

		if (!level_next(&stack[depth - 1], &key, &value)) {
			if (--depth > 0)
				r = wbx_end(m);
			continue;
		}
		if (depth == 1 && key != NULL && is_special(key))
			continue;
		if (!is_container(value)) {
			r = put_scalar(m, key, value);
			continue;
		}
		if (depth == DEPTH_MAX)
			return -EMSGSIZE;
		r = begin(m, key, value);
		stack[depth++] = (struct level){
			.value = value,
			.iter = json_is_object(value) ? json_object_iter(value) : NULL};
	}
	return r;
}

/* --- the line --- */

static int complain(char ret_error[JSONROW_ERROR_MAX], const char *text)
{
	(void)snprintf(ret_error, JSONROW_ERROR_MAX, "%s", text); /* a cut sentence is fine */
	return -EINVAL;
}

static int take_special(json_t *object, struct json_row *ret, char ret_error[JSONROW_ERROR_MAX])
{
	json_t *step = json_object_get(object, "_step");
	json_t *commit = json_object_get(object, "_commit");
	static const char *const kinds[] = {
		[ROW_LOG] = "log",
		[ROW_SUMMARY] = "summary",
		[ROW_CONFIG] = "config",
		[ROW_SYSTEM] = "system",
	};
	json_t *named = json_object_get(object, "_kind");
	const char *kind = named == NULL ? kinds[ROW_LOG] : json_string_value(named);
	unsigned i = 0;

	*ret = (struct json_row){.step = WBX_NO_STEP};
	if (step != NULL && !json_is_integer(step))
		return complain(ret_error, "_step is not a whole number");
	if (commit != NULL && !json_is_boolean(commit))
		return complain(ret_error, "_commit is not true or false");
	if (step != NULL)
		ret->step = json_integer_value(step);
	if (commit != NULL)
		ret->commit = json_is_true(commit) ? WBX_COMMIT_YES : WBX_COMMIT_NO;
	while (i < array_len(kinds) && (kind == NULL || strcmp(kind, kinds[i]) != 0))
		i++;
	if (i == array_len(kinds))
		return complain(ret_error, "_kind is not log, summary, config or system");
	ret->kind = (enum row_kind)i;
	return 0;
}

static int take_object(json_t *object, struct wbx_map *values, struct json_row *ret,
		       char ret_error[JSONROW_ERROR_MAX])
{
	int r;

	if (!json_is_object(object))
		return complain(ret_error, "not a JSON object");
	r = take_special(object, ret, ret_error);
	if (r < 0)
		return r;
	wbx_map_clear(values);
	r = put_object(values, object);
	if (r == -EMSGSIZE)
		return complain(ret_error, "nested too deeply, or a key is too long");
	return r == -EINVAL ? complain(ret_error, "a key or value cannot be taken") : r;
}

int jsonrow_read(struct span line, struct wbx_map *values, struct json_row *ret,
		 char ret_error[JSONROW_ERROR_MAX])
{
	auto_buf struct buf standard = {0};
	json_error_t error;
	json_t *object;
	int r;

	buf_init(&standard, MARKED_MAX);
	json_replace_words(&standard, line, marks, array_len(marks));
	if (standard.error != 0)
		return standard.error == -EMSGSIZE ? complain(ret_error, "too long")
						   : standard.error;
	object = json_loadb((const char *)standard.data, standard.len, JSON_ALLOW_NUL, &error);
	if (object == NULL) {
		if (error.text[0] == '\0')
			return -ENOMEM; /* jansson has no words for it */
		return complain(ret_error, error.text);
	}
	r = take_object(object, values, ret, ret_error);
	json_decref(object);
	return r;
}
