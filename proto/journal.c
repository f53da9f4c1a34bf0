/* See journal.h. */
#include "proto/journal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	AT_MAGIC = 0,
	AT_HEADER_SIZE = 8,
	AT_HELLO_LEN = 12,
	AT_PRODUCER = 16,
	AT_CAPACITY = 32,
	AT_START = 40,
	AT_HELLO = 128,
	MAGIC_LEN = 8,
};
static const char ring_magic[] = "wbxjrnl1";
static const char spool_magic[] = "wbxspol1";

static void put_u32(uint8_t *at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

void journal_header_write(const struct journal_header *h, uint8_t ret[JOURNAL_HEADER])
{
	memset(ret, 0, JOURNAL_HEADER);
	memcpy(ret + AT_MAGIC, h->is_spool ? spool_magic : ring_magic, MAGIC_LEN);
	put_u32(ret + AT_HEADER_SIZE, JOURNAL_HEADER);
	put_u32(ret + AT_HELLO_LEN, (uint32_t)h->hello.len);
	memcpy(ret + AT_PRODUCER, h->producer, PRODUCER_BYTES);
	journal_put_u64(ret + AT_CAPACITY, h->capacity);
	journal_put_u64(ret + AT_START, h->start);
	journal_put_u64(ret + JOURNAL_AT_HEAD, h->head);
	journal_put_u64(ret + JOURNAL_AT_TAIL, h->tail);
	journal_put_u64(ret + JOURNAL_AT_ACKED, h->acked);
	memcpy(ret + AT_HELLO, h->hello.at, h->hello.len);
}

/* The file is somebody's: nothing in it is believed before it fits the rest. */
static bool numbers_fit(const struct journal_header *h, uint64_t file_size)
{
	if (h->is_spool)
		return h->capacity == 0 && h->head >= h->start &&
		       h->start <= UINT64_MAX - file_size &&
		       h->head - h->start <= file_size - JOURNAL_HEADER;
	if (h->capacity == 0 || h->capacity > file_size - JOURNAL_HEADER)
		return false;
	/* tail <= head: empty, perhaps in the moment in which it was being moved */
	return h->tail <= h->head || h->tail - h->head <= h->capacity;
}

int journal_header_read(const uint8_t bytes[JOURNAL_HEADER], uint64_t file_size,
			struct journal_header *ret)
{
	struct journal_header h = {.is_spool = memcmp(bytes, spool_magic, MAGIC_LEN) == 0};
	uint32_t hello_len = get_u32(bytes + AT_HELLO_LEN);

	if (!h.is_spool && memcmp(bytes, ring_magic, MAGIC_LEN) != 0)
		return -EBADMSG;
	if (file_size < JOURNAL_HEADER || get_u32(bytes + AT_HEADER_SIZE) != JOURNAL_HEADER ||
	    hello_len > JOURNAL_HELLO_MAX)
		return -EBADMSG;
	memcpy(h.producer, bytes + AT_PRODUCER, PRODUCER_BYTES);
	h.capacity = journal_get_u64(bytes + AT_CAPACITY);
	h.start = journal_get_u64(bytes + AT_START);
	h.head = journal_get_u64(bytes + JOURNAL_AT_HEAD);
	h.tail = journal_get_u64(bytes + JOURNAL_AT_TAIL);
	h.acked = journal_get_u64(bytes + JOURNAL_AT_ACKED);
	h.hello = (struct span){.at = bytes + AT_HELLO, .len = hello_len};
	if (!numbers_fit(&h, file_size))
		return -EBADMSG;
	if (h.is_spool)
		h.tail = h.start + file_size - JOURNAL_HEADER;
	*ret = h;
	return 0;
}

#define HEX_DIGITS ((size_t)PRODUCER_BYTES * 2)

static void hex_name(const uint8_t producer[PRODUCER_BYTES], char ret[HEX_DIGITS + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < PRODUCER_BYTES; i++) {
		ret[i * 2] = digits[producer[i] >> 4];
		ret[i * 2 + 1] = digits[producer[i] & 15];
	}
	ret[HEX_DIGITS] = '\0';
}

void journal_name(const uint8_t producer[PRODUCER_BYTES], char ret[JOURNAL_NAME_MAX])
{
	char hex[HEX_DIGITS + 1];

	hex_name(producer, hex);
	(void)snprintf(ret, JOURNAL_NAME_MAX, "%s.journal", hex); /* fits */
}

void spool_name(const uint8_t producer[PRODUCER_BYTES], unsigned number, char ret[JOURNAL_NAME_MAX])
{
	char hex[HEX_DIGITS + 1];

	hex_name(producer, hex);
	(void)snprintf(ret, JOURNAL_NAME_MAX, "%s.%u.spool", hex, number); /* fits */
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool journal_name_parse(const char *name, uint8_t ret_producer[PRODUCER_BYTES], bool *ret_is_spool)
{
	const char *rest;
	size_t digits;

	if (strspn(name, "0123456789abcdef") != HEX_DIGITS)
		return false;
	for (size_t i = 0; i < PRODUCER_BYTES; i++)
		ret_producer[i] =
			(uint8_t)(hex_digit(name[i * 2]) * 16 + hex_digit(name[i * 2 + 1]));
	rest = name + HEX_DIGITS;
	if (strcmp(rest, ".journal") == 0) {
		*ret_is_spool = false;
		return true;
	}
	digits = rest[0] == '.' ? strspn(rest + 1, "0123456789") : 0;
	*ret_is_spool = true;
	return digits >= 1 && digits <= 9 && strcmp(rest + 1 + digits, ".spool") == 0;
}
