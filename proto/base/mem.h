/* The only way to memory: malloc with a switch that makes the n-th allocation fail, so that tests
 * walk every error path. Thread-safe; the switch counts per thread. Neighbours: everything. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* Uninitialised, zeroed, grown, copied. NULL when there is no memory (or the test says so); sizes
 * of 0 are served as 1. The caller owns the result and frees it with mem_free(). */
void *mem_alloc(size_t size) __attribute__((malloc, warn_unused_result));
void *mem_zalloc(size_t size) __attribute__((malloc, warn_unused_result));
void *mem_realloc(void *old, size_t size)
	__attribute__((warn_unused_result)); /* old stays valid on failure */
void *mem_dup(const void *from, size_t size) __attribute__((malloc, warn_unused_result));
char *mem_strdup(const char *text) __attribute__((malloc, warn_unused_result));
/* Copies len bytes and ends them with a NUL. */
char *mem_strndup(const char *text, size_t len) __attribute__((malloc, warn_unused_result));

/* Room for one more than `count` in an array with places for `cap`: 0 and both may have changed, or
 * -ENOMEM and neither has. Arguments are named more than once. */
#define mem_room(items, count, cap)                                                                \
	__extension__({                                                                            \
		void *roomy_ = mem_room_for((items), (count), &(cap), sizeof(*(items)));           \
		if (roomy_ != NULL)                                                                \
			(items) = roomy_;                                                          \
		roomy_ != NULL ? 0 : -ENOMEM;                                                      \
	})
void *mem_room_for(void *items, size_t count, size_t *cap, size_t size)
	__attribute__((warn_unused_result));

/* Frees p (NULL is fine) and returns NULL: `x = mem_free(x)`. */
void *mem_free(void *p);

/* Test switch of the calling thread: allocation number nth from now fails, once; 0 switches off. */
void mem_fail_at(unsigned nth);

/* Hands a pointer over: yields its value and leaves NULL behind. */
#define take_ptr(p)                                                                                \
	__extension__({                                                                            \
		__typeof__(p) *take_at_ = &(p);                                                    \
		__typeof__(p) taken_ = *take_at_;                                                  \
		*take_at_ = NULL;                                                                  \
		taken_;                                                                            \
	})

static inline void mem_free_at(void *pointer_to_pointer)
{
	(void)mem_free(*(void **)pointer_to_pointer);
}
#define auto_free __attribute__((cleanup(mem_free_at)))

#define array_len(a) (sizeof(a) / sizeof((a)[0]))

/* The struct that embeds `member`, from the member's address. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
