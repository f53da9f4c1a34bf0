/* See mptext.h. */
#include "tests/lib/mptext.h"

#include "proto/pack.h"

#include <check.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *skip_space(const char *at)
{
	return at + strspn(at, " \t\r\n");
}

/* The quote or bracket that ends a text or bytes beginning at `at`. */
static const char *end_of(const char *at)
{
	char end = at[0] == '<' ? '>' : at[0];
	const char *found = at + 1;

	while (*found != '\0' && *found != end)
		found += found[0] == '\\' && found[1] != '\0' ? 2 : 1;
	ck_assert_msg(*found == end, "no end: %s", at);
	return found;
}

/* How many values the list or map that begins at `at` has: one more than commas. */
static size_t count_items(const char *at)
{
	size_t commas = 0;
	unsigned depth = 0;
	const char *first = skip_space(at + 1);

	if (*first == ']' || *first == '}')
		return 0;
	for (;; at++) {
		ck_assert_msg(*at != '\0', "a list has no end");
		if (strchr("\"'<!", *at) != NULL)
			at = end_of(at);
		else if (*at == '[' || *at == '{')
			depth++;
		else if (*at == ']' || *at == '}')
			depth--;
		else if (*at == ',' && depth == 1)
			commas++;
		if (depth == 0)
			return commas + 1;
	}
}

static void put_text(struct pack *p, const char *from, const char *end)
{
	auto_buf struct buf text;

	buf_init(&text, 1 << 24);
	for (; from < end; from++) {
		if (*from == '\\')
			from++;
		(void)buf_add_byte(&text, (uint8_t)*from); /* the buf remembers */
	}
	ck_assert_int_eq(text.error, 0);
	pack_str(p, buf_span(&text));
}

static void put_hex(struct pack *p, const char *from, const char *end, bool is_raw)
{
	auto_buf struct buf bytes;
	unsigned byte;

	buf_init(&bytes, 1 << 20);
	for (; from < end; from += 2) {
		ck_assert_int_eq(sscanf(from, "%2x", &byte), 1);
		(void)buf_add_byte(&bytes, (uint8_t)byte); /* the buf remembers */
	}
	ck_assert_int_eq(bytes.error, 0);
	if (is_raw)
		pack_raw(p, buf_span(&bytes));
	else
		pack_bin(p, buf_span(&bytes));
}

static const char *put_word(struct pack *p, const char *at)
{
	size_t len = strcspn(at, " \t\r\n,:]}");
	struct span word = {.at = (const uint8_t *)at, .len = len};
	char *end = NULL;

	if (span_is(word, "null"))
		pack_nil(p);
	else if (span_is(word, "true") || span_is(word, "false"))
		pack_bool(p, at[0] == 't');
	else if (span_is(word, "NaN"))
		pack_double(p, (double)NAN);
	else if (span_is(word, "Infinity") || span_is(word, "-Infinity"))
		pack_double(p, at[0] == '-' ? -(double)INFINITY : (double)INFINITY);
	else if (memchr(at, '.', len) != NULL || memchr(at, 'e', len) != NULL)
		pack_double(p, strtod(at, &end));
	else if (at[0] == '-')
		pack_int(p, strtoll(at, &end, 10));
	else
		pack_uint(p, strtoull(at, &end, 10));
	ck_assert_msg(end == NULL || end == at + len, "not a value: %s", at);
	return at + len;
}

static const char *put_value(struct pack *p, const char *at);

static const char *put_items(struct pack *p, const char *at)
{
	bool is_map = *at == '{';
	size_t count = count_items(at);

	if (is_map)
		pack_map(p, count);
	else
		pack_array(p, count);
	for (size_t i = 0; i < count; i++) {
		at = put_value(p, at + 1);
		if (is_map) {
			ck_assert_msg(*at == ':', "no colon: %s", at);
			at = put_value(p, at + 1);
		}
	}
	if (count == 0)
		at = skip_space(at + 1);
	return at + 1;
}

/* Returns what comes after it and white space. */
static const char *put_value(struct pack *p, const char *at)
{
	const char *end;

	at = skip_space(at);
	switch (*at) {
	case '[':
	case '{': end = put_items(p, at); break;
	case '"':
	case '\'':
		end = end_of(at);
		put_text(p, at + 1, end++);
		break;
	case '<':
	case '!':
		end = end_of(at);
		put_hex(p, at + 1, end++, *at == '!');
		break;
	default: end = put_word(p, at); break;
	}
	return skip_space(end);
}

struct mp mp_text(struct buf *room, const char *text)
{
	struct pack p;

	buf_done(room);
	buf_init(room, 64 << 20);
	pack_init(&p, room);
	ck_assert_msg(*put_value(&p, text) == '\0', "more than one value: %s", text);
	ck_assert_int_eq(room->error, 0);
	return mp_of(buf_span(room));
}
