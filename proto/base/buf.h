/* Growing bytes with a ceiling, and borrowed bytes. A buf remembers its first failure: add many
 * things, ask once. No locks: one owner at a time. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes that belong to somebody else; not NUL-terminated. */
struct span {
	const uint8_t *at;
	size_t len;
};

#define SPAN_LITERAL(text) ((struct span){.at = (const uint8_t *)(text), .len = sizeof(text) - 1})

struct span span_of_text(const char *text);
bool span_equal(struct span a, struct span b);
bool span_is(struct span s, const char *text);

/* Embeddable. `data` is owned, `len` used of `cap`; never more than `max` bytes. `error` is 0, or
 * the -ENOMEM or -EMSGSIZE of the first addition that failed; every later one then fails too. */
struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
	size_t max;
	int error;
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_done(struct buf *b);                  /* frees; b may be used again, empty */
void buf_clear(struct buf *b);                 /* empties and forgets the error; keeps the memory */
void buf_trim(struct buf *b, size_t keep_cap); /* empties; gives memory above keep_cap back */

/* Each returns 0, or -ENOMEM or -EMSGSIZE with nothing added. */
int buf_reserve(struct buf *b, size_t extra);
int buf_add_slow(struct buf *b, const void *bytes, size_t len); /* buf_add(), when it has to grow */
static inline int buf_add(struct buf *b, const void *bytes, size_t len)
{
	if (b->error != 0 || len > b->cap - b->len || len == 0)
		return buf_add_slow(b, bytes, len);
	memcpy(b->data + b->len, bytes, len);
	b->len += len;
	return 0;
}
int buf_add_byte(struct buf *b, uint8_t byte);
int buf_add_text(struct buf *b, const char *text);
int buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *b, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

/* Writes all of it: 0, -errno, or the buf's own error with nothing written. */
int buf_write(const struct buf *b, int fd);

/* Removes the first len bytes (len <= b->len). */
void buf_drop_front(struct buf *b, size_t len);

/* A NUL after the last byte (not counted in len); the text, or NULL when there is no memory. */
const char *buf_text(struct buf *b);

static inline struct span buf_span(const struct buf *b)
{
	return (struct span){.at = b->data, .len = b->len};
}

#define auto_buf __attribute__((cleanup(buf_done)))
