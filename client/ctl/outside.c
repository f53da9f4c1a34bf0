/* See outside.h. */
#include "client/ctl/outside.h"

#include "proto/base/mem.h"
#include "proto/base/utf8.h"

enum {
	ESCAPED_MAX = 1 << 26 /* of a text whose end will be cut */
};

struct range {
	uint32_t first;
	uint32_t last;
};

/* Direction marks can make a terminal display another text than was written (CVE-2021-42574);
 * U+2028 and U+2029 are line ends to some. */
static const struct range steering[] = {
	{0x00, 0x1f},     {0x7f, 0x9f},     {0x061c, 0x061c},   {0x2028, 0x202e},
	{0x2066, 0x2069}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f},
};

/* East Asian Wide and Fullwidth, by block: enough to keep columns straight. */
static const struct range wide[] = {
	{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0x33ff},   {0x3400, 0x4dbf},
	{0x4e00, 0x9fff},   {0xa000, 0xa4cf},   {0xac00, 0xd7a3},   {0xf900, 0xfaff},
	{0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},   {0x1f300, 0x1f64f},
	{0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
};

static const struct range combining[] = {
	{0x0300, 0x036f}, {0x0483, 0x0489},   {0x0591, 0x05bd}, {0x0610, 0x061a}, {0x064b, 0x065f},
	{0x0900, 0x0902}, {0x093c, 0x093c},   {0x0e31, 0x0e31}, {0x0e34, 0x0e3a}, {0x1ab0, 0x1aff},
	{0x1dc0, 0x1dff}, {0x200b, 0x200f},   {0x20d0, 0x20ff}, {0x3099, 0x309a}, {0xfe00, 0xfe0f},
	{0xfe20, 0xfe2f}, {0xe0100, 0xe01ef},
};

static bool is_in(uint32_t c, const struct range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	}
	return false;
}

/* The character of len bytes that utf8_char_len() found. */
static uint32_t decode(const uint8_t *at, unsigned len)
{
	static const uint8_t head_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32_t c = at[0] & head_bits[len];

	for (unsigned i = 1; i < len; i++)
		c = c << 6 | (at[i] & 0x3f);
	return c;
}

static void add_json_escape(struct buf *out, uint32_t c)
{
	if (c > 0xffff) {
		c -= 0x10000;
		(void)buf_printf(out, "\\u%04x", 0xd800 + (c >> 10)); /* errors stay in the buf */
		c = 0xdc00 + (c & 0x3ff);
	}
	(void)buf_printf(out, "\\u%04x", c);
}

static void add_escape(struct buf *out, uint32_t c)
{
	switch (c) {
	case '\n': (void)buf_add_text(out, "\\n"); return; /* errors stay in the buf */
	case '\t': (void)buf_add_text(out, "\\t"); return;
	case '\r': (void)buf_add_text(out, "\\r"); return;
	default: break;
	}
	(void)buf_printf(out, c < 0x80 ? "\\x%02x" : "\\u{%x}", c);
}

void outside_add(struct buf *out, struct span text, enum outside_form form)
{
	while (text.len > 0 && out->error == 0) {
		unsigned len = utf8_char_len(text);
		uint32_t c = len == 0 ? text.at[0] : decode(text.at, len);
		bool stays = form == OUTSIDE_LINES && (c == '\n' || c == '\t');

		if (len == 0)
			(void)buf_printf(out, "\\x%02x", c); /* the same */
		else if (stays || !is_in(c, steering, array_len(steering)))
			(void)buf_add(out, text.at, len);
		else if (form == OUTSIDE_JSON)
			add_json_escape(out, c);
		else
			add_escape(out, c);
		text.at += len == 0 ? 1 : len;
		text.len -= len == 0 ? 1 : len;
	}
}

void outside_add_text(struct buf *out, const char *text)
{
	outside_add(out, span_of_text(text), OUTSIDE_LINE);
}

static size_t char_columns(uint32_t c)
{
	if (is_in(c, combining, array_len(combining)))
		return 0;
	return is_in(c, wide, array_len(wide)) ? 2 : 1;
}

/* Walks until `columns` are used up: bytes walked over, and what they take. */
static size_t walk(struct span text, size_t columns, size_t *ret_used)
{
	size_t done = 0;

	*ret_used = 0;
	while (done < text.len) {
		struct span rest = {.at = text.at + done, .len = text.len - done};
		unsigned len = utf8_char_len(rest);
		size_t more = len == 0 ? 1 : char_columns(decode(rest.at, len));

		if (more > columns - *ret_used)
			break;
		*ret_used += more;
		done += len == 0 ? 1 : len;
	}
	return done;
}

size_t text_columns(struct span escaped)
{
	size_t used;

	(void)walk(escaped, SIZE_MAX, &used); /* walks over all */
	return used;
}

size_t text_fit(struct span escaped, size_t columns)
{
	size_t used;

	return walk(escaped, columns, &used);
}

void outside_add_cut(struct buf *out, struct span text, size_t columns)
{
	auto_buf struct buf whole = {0};
	bool cut = false;

	buf_init(&whole, ESCAPED_MAX);
	/* a character has at most 4 bytes and a few marks: what is behind that is cut anyway */
	if (columns < SIZE_MAX / 16 && text.len > 16 * (columns + 1)) {
		cut = true;
		text.len = 16 * (columns + 1);
		while (text.len > 0 && (text.at[text.len] & 0xc0) == 0x80)
			text.len--;
	}
	outside_add(&whole, text, OUTSIDE_LINE);
	if (!cut && text_columns(buf_span(&whole)) <= columns) {
		(void)buf_add(out, whole.data, whole.len);
	} else if (columns > 0) {
		(void)buf_add(out, whole.data, text_fit(buf_span(&whole), columns - 1));
		(void)buf_add_text(out, "…");
	}
	if (whole.error != 0 && out->error == 0)
		out->error = whole.error;
}
