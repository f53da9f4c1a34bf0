/* See json.h. */
#include "proto/base/json.h"

#include "proto/base/utf8.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_init(struct json *j, struct buf *out)
{
	*j = (struct json){.out = out};
}

static void json_before_value(struct json *j)
{
	if (j->comma)
		(void)buf_add_byte(j->out, ','); /* errors stay in the buf */
	j->comma = true;
}

static void json_open(struct json *j, uint8_t bracket)
{
	assert(j->depth < JSON_DEPTH_MAX);
	json_before_value(j);
	(void)buf_add_byte(j->out, bracket);
	j->depth++;
	j->comma = false;
}

static void json_close(struct json *j, uint8_t bracket)
{
	assert(j->depth > 0);
	(void)buf_add_byte(j->out, bracket);
	j->depth--;
	j->comma = true;
}

void json_open_object(struct json *j)
{
	json_open(j, '{');
}

void json_close_object(struct json *j)
{
	json_close(j, '}');
}

void json_open_array(struct json *j)
{
	json_open(j, '[');
}

void json_close_array(struct json *j)
{
	json_close(j, ']');
}

void json_put_key(struct json *j, struct span key)
{
	json_put_string(j, key);
	(void)buf_add_byte(j->out, ':');
	j->comma = false;
}

void json_put_key_text(struct json *j, const char *key)
{
	json_put_key(j, span_of_text(key));
}

void json_put_raw(struct json *j, struct span json_value)
{
	json_before_value(j);
	(void)buf_add(j->out, json_value.at, json_value.len);
}

void json_put_null(struct json *j)
{
	json_put_raw(j, SPAN_LITERAL("null"));
}

void json_put_bool(struct json *j, bool value)
{
	json_put_raw(j, value ? SPAN_LITERAL("true") : SPAN_LITERAL("false"));
}

void json_put_int(struct json *j, int64_t value)
{
	json_before_value(j);
	(void)buf_printf(j->out, "%lld", (long long)value);
}

void json_put_uint(struct json *j, uint64_t value)
{
	json_before_value(j);
	(void)buf_printf(j->out, "%llu", (unsigned long long)value);
}

size_t json_format_double(char ret_text[JSON_DOUBLE_MAX], double value)
{
	int len = 0;

	if (isnan(value))
		return (size_t)snprintf(ret_text, JSON_DOUBLE_MAX, "NaN");
	if (isinf(value))
		return (size_t)snprintf(ret_text, JSON_DOUBLE_MAX,
					value < 0 ? "-Infinity" : "Infinity");
	for (int digits = 15; digits <= 17; digits++) {
		double back;

		len = snprintf(ret_text, JSON_DOUBLE_MAX, "%.*g", digits, value);
		back = strtod(ret_text, NULL);
		if (!(back < value || back > value))
			break;
	}
	return (size_t)len;
}

void json_put_double(struct json *j, double value)
{
	char text[JSON_DOUBLE_MAX];
	size_t len = json_format_double(text, value);

	json_put_raw(j, (struct span){.at = (const uint8_t *)text, .len = len});
}

static void json_escape_ascii(struct buf *out, uint8_t c)
{
	switch (c) {
	case '"': (void)buf_add_text(out, "\\\""); return;
	case '\\': (void)buf_add_text(out, "\\\\"); return;
	case '\n': (void)buf_add_text(out, "\\n"); return;
	case '\r': (void)buf_add_text(out, "\\r"); return;
	case '\t': (void)buf_add_text(out, "\\t"); return;
	default: (void)buf_printf(out, "\\u%04x", c); return;
	}
}

/* Length of the run of bytes at the start of s that need nothing done; a character is never cut. */
static size_t json_plain_run(struct span s)
{
	size_t n = 0;

	while (n < s.len) {
		uint8_t c = s.at[n];
		unsigned len;

		if (c < 0x20 || c == '"' || c == '\\')
			break;
		if (c < 0x80) {
			n++;
			continue;
		}
		len = utf8_char_len((struct span){.at = s.at + n, .len = s.len - n});
		if (len == 0)
			break;
		n += len;
	}
	return n;
}

void json_escape(struct buf *out, struct span text)
{
	while (text.len > 0 && out->error == 0) {
		size_t plain = json_plain_run(text);

		(void)buf_add(out, text.at, plain);
		text.at += plain;
		text.len -= plain;
		if (text.len == 0)
			break;
		if (text.at[0] < 0x80)
			json_escape_ascii(out, text.at[0]);
		else
			(void)buf_add_text(out, "\xef\xbf\xbd"); /* U+FFFD */
		text.at++;
		text.len--;
	}
}

void json_put_string(struct json *j, struct span text)
{
	json_before_value(j);
	(void)buf_add_byte(j->out, '"');
	json_escape(j->out, text);
	(void)buf_add_byte(j->out, '"');
}

void json_put_text(struct json *j, const char *text)
{
	json_put_string(j, span_of_text(text));
}

/* --- JSON that is there already --- */

size_t json_string_len(struct span s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.at[i] == '\\')
			i++;
		else if (s.at[i] == '"')
			return i + 1;
	}
	return 0;
}

/* The word that the text begins with, or NULL. */
static const struct json_word *word_at(struct span s, const struct json_word *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(words[i].word);

		if (s.len >= len && memcmp(s.at, words[i].word, len) == 0)
			return &words[i];
	}
	return NULL;
}

void json_replace_words(struct buf *out, struct span text, const struct json_word *words,
			size_t count)
{
	while (text.len > 0) {
		const struct json_word *word = NULL;
		size_t len = 1;

		if (text.at[0] == '"') {
			len = json_string_len(text);
			len = len == 0 ? text.len : len;
		} else {
			word = word_at(text, words, count);
		}
		if (word != NULL) {
			(void)buf_add_text(out, word->stands_for); /* errors stay in out */
			len = strlen(word->word);
		} else {
			(void)buf_add(out, text.at, len);
		}
		text.at += len;
		text.len -= len;
	}
}
