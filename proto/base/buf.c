/* See buf.h. */
#include "proto/base/buf.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	BUF_FIRST_CAP = 256
};

struct span span_of_text(const char *text)
{
	return (struct span){.at = (const uint8_t *)text, .len = strlen(text)};
}

bool span_equal(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

bool span_is(struct span s, const char *text)
{
	return span_equal(s, span_of_text(text));
}

void buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){.max = max_bytes};
}

void buf_done(struct buf *b)
{
	(void)mem_free(b->data);
	*b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->error = 0;
}

void buf_trim(struct buf *b, size_t keep_cap)
{
	buf_clear(b);
	if (b->cap > keep_cap)
		buf_done(b);
}

static int buf_fail(struct buf *b, int error)
{
	b->error = error;
	return error;
}

int buf_reserve(struct buf *b, size_t extra)
{
	size_t want = b->cap < BUF_FIRST_CAP ? BUF_FIRST_CAP : b->cap;
	uint8_t *grown;

	if (b->error != 0)
		return b->error;
	if (extra > b->max - b->len)
		return buf_fail(b, -EMSGSIZE);
	if (extra <= b->cap - b->len)
		return 0;
	while (want - b->len < extra)
		want = want > b->max / 2 ? b->max : want * 2;
	if (want > b->max)
		want = b->max;
	grown = mem_realloc(b->data, want);
	if (grown == NULL)
		return buf_fail(b, -ENOMEM);
	b->data = grown;
	b->cap = want;
	return 0;
}

int buf_add_slow(struct buf *b, const void *bytes, size_t len)
{
	int r = buf_reserve(b, len);

	if (r < 0)
		return r;
	if (len != 0)
		memcpy(b->data + b->len, bytes, len);
	b->len += len;
	return 0;
}

int buf_add_byte(struct buf *b, uint8_t byte)
{
	return buf_add(b, &byte, 1);
}

int buf_add_text(struct buf *b, const char *text)
{
	return buf_add(b, text, strlen(text));
}

int buf_vprintf(struct buf *b, const char *format, va_list args)
{
	va_list again;
	int need;
	int r;

	va_copy(again, args);
	need = vsnprintf(NULL, 0, format, args);
	r = need < 0 ? buf_fail(b, -EINVAL) : buf_reserve(b, (size_t)need + 1);
	if (r == 0) {
		(void)vsnprintf((char *)b->data + b->len, (size_t)need + 1, format,
				again); /* it fits: measured above */
		b->len += (size_t)need;
	}
	va_end(again);
	return r;
}

int buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = buf_vprintf(b, format, args);
	va_end(args);
	return r;
}

void buf_drop_front(struct buf *b, size_t len)
{
	b->len -= len;
	if (b->len != 0)
		memmove(b->data, b->data + len, b->len);
}

const char *buf_text(struct buf *b)
{
	if (buf_reserve(b, 1) < 0)
		return NULL;
	b->data[b->len] = '\0';
	return (const char *)b->data;
}

int buf_write(const struct buf *b, int fd)
{
	size_t at = 0;

	while (b->error == 0 && at < b->len) {
		ssize_t n = write(fd, b->data + at, b->len - at);

		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	return b->error;
}
