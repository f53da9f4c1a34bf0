/* See utf8.h. */
#include "proto/base/utf8.h"

static bool is_tail(uint8_t byte)
{
	return (byte & 0xc0) == 0x80;
}

static unsigned len_of_three(const uint8_t *p)
{
	if (p[0] == 0xe0 && p[1] < 0xa0)
		return 0; /* overlong */
	if (p[0] == 0xed && p[1] > 0x9f)
		return 0; /* surrogate */
	return is_tail(p[1]) && is_tail(p[2]) ? 3 : 0;
}

static unsigned len_of_four(const uint8_t *p)
{
	if (p[0] == 0xf0 && p[1] < 0x90)
		return 0; /* overlong */
	if (p[0] == 0xf4 && p[1] > 0x8f)
		return 0; /* above U+10FFFF */
	return is_tail(p[1]) && is_tail(p[2]) && is_tail(p[3]) ? 4 : 0;
}

unsigned utf8_char_len(struct span s)
{
	const uint8_t *p = s.at;

	if (s.len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		return s.len >= 2 && is_tail(p[1]) ? 2 : 0;
	if (p[0] >= 0xe0 && p[0] <= 0xef)
		return s.len >= 3 ? len_of_three(p) : 0;
	if (p[0] >= 0xf0 && p[0] <= 0xf4)
		return s.len >= 4 ? len_of_four(p) : 0;
	return 0;
}

bool utf8_valid(struct span s)
{
	while (s.len > 0) {
		unsigned n = utf8_char_len(s);

		if (n == 0)
			return false;
		s.at += n;
		s.len -= n;
	}
	return true;
}
