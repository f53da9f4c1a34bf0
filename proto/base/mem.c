/* See mem.h. The countdown is thread-local: TSan found a race in the plain one. */
#include "proto/base/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIRST_PLACES = 4 /* of an array that grows */
};

static _Thread_local unsigned fail_countdown;

static bool must_fail(void)
{
	return fail_countdown != 0 && --fail_countdown == 0;
}

void *mem_alloc(size_t size)
{
	return must_fail() ? NULL : malloc(size == 0 ? 1 : size);
}

void *mem_zalloc(size_t size)
{
	return must_fail() ? NULL : calloc(1, size == 0 ? 1 : size);
}

void *mem_realloc(void *old, size_t size)
{
	return must_fail() ? NULL : realloc(old, size == 0 ? 1 : size);
}

void *mem_room_for(void *items, size_t count, size_t *cap, size_t size)
{
	size_t want = *cap == 0 ? FIRST_PLACES : *cap * 2;
	void *roomy;

	if (count < *cap)
		return items;
	roomy = mem_realloc(items, want * size);
	if (roomy != NULL)
		*cap = want;
	return roomy;
}

void *mem_dup(const void *from, size_t size)
{
	void *copy = mem_alloc(size);

	if (copy != NULL && size != 0)
		memcpy(copy, from, size);
	return copy;
}

char *mem_strndup(const char *text, size_t len)
{
	char *copy = mem_alloc(len + 1);

	if (copy == NULL)
		return NULL;
	if (len != 0)
		memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

char *mem_strdup(const char *text)
{
	return mem_strndup(text, strlen(text));
}

void *mem_free(void *p)
{
	free(p);
	return NULL;
}

void mem_fail_at(unsigned nth)
{
	fail_countdown = nth;
}
