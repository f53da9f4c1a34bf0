/* See rng.h. */
#include "proto/base/rng.h"

#include <errno.h>
#include <sys/random.h>

int rng_bytes(void *ret_bytes, size_t len)
{
	uint8_t *at = ret_bytes;

	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int rng_base36(char *ret_text, size_t len)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";

	for (size_t i = 0; i < len; i++) {
		uint8_t byte;
		int r;

		do { /* 252 = 7 * 36: above it the digits would not be equally likely */
			r = rng_bytes(&byte, 1);
			if (r < 0)
				return r;
		} while (byte >= 252);
		ret_text[i] = digits[byte % 36];
	}
	ret_text[len] = '\0';
	return 0;
}

int rng_uuid7(char ret_text[UUID_CHARS + 1], uint64_t wall_ms)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[16];
	char *to = ret_text;
	int r = rng_bytes(bytes, sizeof(bytes));

	if (r < 0)
		return r;
	for (unsigned i = 0; i < 6; i++)
		bytes[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
	bytes[6] = (uint8_t)(0x70 | (bytes[6] & 0x0f));
	bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f));
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 0x0f];
	}
	*to = '\0';
	return 0;
}

uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *r, uint64_t below)
{
	return below == 0 ? 0 : rng_next(r) % below;
}
