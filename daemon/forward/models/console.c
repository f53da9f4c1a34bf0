/* See console.h. */
#include "daemon/forward/models/console.h"

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "proto/base/utf8.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

/* --- lines --- */

static void line_done(struct console_line *l)
{
	buf_done(&l->label);
	buf_done(&l->text);
}

void console_done(struct console *c)
{
	for (size_t i = 0; i < c->count; i++)
		line_done(&c->lines[i]);
	c->lines = mem_free(c->lines);
	c->count = c->cap = 0;
}

void console_drop(struct console *c, size_t line)
{
	assert(line < c->count);
	line_done(&c->lines[line]);
	memmove(c->lines + line, c->lines + line + 1,
		(c->count - line - 1) * sizeof(struct console_line));
	c->count--;
}

/* Whole characters of it that fit. */
static struct span cut(struct span text, size_t max)
{
	size_t len = text.len < max ? text.len : max;

	while (len < text.len && len > 0 && (text.at[len] & 0xc0) == 0x80)
		len--;
	return (struct span){.at = text.at, .len = len};
}

static int open_line(struct console *c, const struct console_writer *w)
{
	struct span label = cut(w->label, CONSOLE_LABEL_MAX);
	struct console_line *l;
	int r = mem_room(c->lines, c->count, c->cap);

	if (r < 0)
		return r;
	l = &c->lines[c->count];
	*l = (struct console_line){
		.producer = w->producer, .is_error = w->is_error, .time_us = w->time_us};
	buf_init(&l->label, CONSOLE_LABEL_MAX);
	buf_init(&l->text, CONSOLE_LINE_MAX);
	r = buf_add(&l->label, label.at, label.len);
	if (r == 0)
		r = buf_reserve(&l->text, 64);
	if (r == 0)
		c->count++;
	else
		line_done(l);
	return r;
}

static size_t find_line(const struct console *c, const struct console_writer *w)
{
	struct span label = cut(w->label, CONSOLE_LABEL_MAX);
	size_t i = 0;

	while (i < c->count &&
	       (c->lines[i].producer != w->producer || c->lines[i].is_error != w->is_error ||
		!span_equal(buf_span(&c->lines[i].label), label)))
		i++;
	return i;
}

/* --- characters --- */

/* Bytes of the character at the start: what is none is taken byte by byte. */
static size_t char_len(struct span s)
{
	unsigned len = utf8_char_len(s);

	return len == 0 ? 1 : len;
}

/* Replaces the character at the cursor, or adds one. 0, -EMSGSIZE: the line is full, -ENOMEM. */
static int put_char(struct console_line *l, struct span one)
{
	struct span rest = {.at = l->text.data + l->at, .len = l->text.len - l->at};
	size_t old = rest.len == 0 ? 0 : char_len(rest);
	int r = one.len > old ? buf_reserve(&l->text, one.len - old) : 0;
	uint8_t *at;

	if (r < 0)
		return r;
	at = l->text.data + l->at;
	memmove(at + one.len, at + old, rest.len - old);
	memcpy(at, one.at, one.len);
	l->text.len += one.len - old;
	l->at += one.len;
	l->is_changed = true;
	return 0;
}

/* Text without \r and \n. The usual case, at the line's end, goes in one piece. */
static int put_text(struct console_line *l, struct span *text, size_t len)
{
	while (len > 0) {
		size_t one = char_len((struct span){.at = text->at, .len = len});
		int r;

		if (l->at == l->text.len && len <= CONSOLE_LINE_MAX - l->text.len)
			one = len;
		r = put_char(l, (struct span){.at = text->at, .len = one});
		if (r < 0)
			return r;
		text->at += one;
		text->len -= one;
		len -= one;
	}
	return 0;
}

static size_t plain_len(struct span text)
{
	size_t n = 0;

	while (n < text.len && text.at[n] != '\n' && text.at[n] != '\r')
		n++;
	return n;
}

int console_feed(struct console *c, const struct console_writer *writer, struct span *text,
		 size_t *ret)
{
	while (text->len > 0) {
		size_t line = find_line(c, writer);
		int r = 0;

		if (line == c->count && *text->at == '\r') { /* there is nothing to go back in */
			text->at++;
			text->len--;
			continue;
		}
		if (line == c->count && c->count == CONSOLE_OPEN_MAX) {
			*ret = 0;
			return 1;
		}
		if (line == c->count)
			r = open_line(c, writer);
		if (r == 0)
			r = put_text(&c->lines[line], text, plain_len(*text));
		if (r < 0 && r != -EMSGSIZE)
			return r;
		*ret = line;
		if (r == -EMSGSIZE)
			return 1;
		if (text->len == 0)
			return 0;
		text->len--;
		if (*text->at++ == '\n')
			return 1;
		c->lines[line].at = 0;
	}
	return 0;
}

/* --- as W&B takes it --- */

enum {
	TIME_MAX = 32
};

static void format_time(int64_t time_us, char ret[TIME_MAX])
{
	time_t seconds = (time_t)(time_us / 1000000);
	struct tm tm = {0};
	char second[TIME_MAX - 8] = "";

	if (gmtime_r(&seconds, &tm) != NULL)
		(void)strftime(second, sizeof(second), "%Y-%m-%dT%H:%M:%S", &tm);   /* or empty */
	(void)snprintf(ret, TIME_MAX, "%s.%06d", second, (int)(time_us % 1000000)); /* fits */
}

static void structured_text(const struct console_line *l, const char *time, struct buf *ret)
{
	struct json j;

	json_init(&j, ret);
	json_open_object(&j);
	if (l->is_error) {
		json_put_key_text(&j, "level");
		json_put_text(&j, "error");
	}
	json_put_key_text(&j, "ts");
	json_put_text(&j, time);
	if (l->label.len > 0) {
		json_put_key_text(&j, "label");
		json_put_string(&j, buf_span(&l->label));
	}
	json_put_key_text(&j, "content");
	json_put_string(&j, buf_span(&l->text));
	json_close_object(&j);
}

void console_line_text(const struct console_line *line, bool structured, struct buf *ret)
{
	char time[TIME_MAX];

	format_time(line->time_us < 0 ? 0 : line->time_us, time);
	if (structured) {
		structured_text(line, time, ret);
		return;
	}
	(void)buf_printf(ret, "%s%s ", line->is_error ? "ERROR " : "", time); /* ret remembers */
	if (line->label.len > 0)
		(void)buf_printf(ret, "[%.*s] ", (int)line->label.len,
				 (const char *)line->label.data);
	(void)buf_add(ret, line->text.data, line->text.len);
}

/* --- state --- */

void console_to_msgpack(const struct console *c, struct pack *p)
{
	pack_array(p, c->count);
	for (size_t i = 0; i < c->count; i++) {
		const struct console_line *l = &c->lines[i];

		pack_map(p, 7);
		pack_pair_int(p, "producer", l->producer);
		pack_pair_bool(p, "error", l->is_error);
		pack_pair_bool(p, "changed", l->is_changed);
		pack_pair_int(p, "t", l->time_us);
		pack_pair_uint(p, "at", l->at);
		pack_pair_bin(p, "label", buf_span(&l->label));
		pack_pair_bin(p, "text", buf_span(&l->text));
	}
}

static int read_line(struct console *c, struct mp map)
{
	const struct console_writer w = {
		.producer = mp_get_int(map, "producer", 0),
		.is_error = mp_get_bool(map, "error", false),
		.label = mp_get_bin(map, "label"),
		.time_us = mp_get_int(map, "t", 0),
	};
	struct span text = mp_get_bin(map, "text");
	struct console_line *l;
	int r;

	if (text.at == NULL || w.label.at == NULL || text.len > CONSOLE_LINE_MAX ||
	    c->count == CONSOLE_OPEN_MAX)
		return -EBADMSG;
	r = open_line(c, &w);
	if (r < 0)
		return r;
	l = &c->lines[c->count - 1];
	r = buf_add(&l->text, text.at, text.len);
	l->is_changed = mp_get_bool(map, "changed", true);
	l->at = mp_get_uint(map, "at", 0);
	return l->at > text.len ? -EBADMSG : r;
}

int console_from_msgpack(struct console *ret, struct mp array)
{
	struct mp_value head;

	if (mp_read(&array, &head) < 0 || head.type != MP_ARRAY)
		return -EBADMSG;
	for (uint32_t i = 0; i < head.count; i++) {
		struct span item;
		int r = mp_take(&array, &item) < 0 ? -EBADMSG : read_line(ret, mp_of(item));

		if (r < 0)
			return r;
	}
	return 0;
}
