/* See ring.h. The order of stores is what a reader after our death relies on: bytes before tail,
 * head before start when the ring moves. */
#include "client/lib/ring.h"

#include "client/lib/claim.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	AT_START = 40
};

/* The header's numbers lie 8-aligned in the mapping; little-endian is the only kind of machine this
 * is built for. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "journal headers are little-endian");

static void publish(const struct ring *r, size_t at, uint64_t value)
{
	_Atomic uint64_t *field = (_Atomic uint64_t *)(void *)(r->map + at);

	atomic_store_explicit(field, value, memory_order_release);
}

static uint8_t *data_at(const struct ring *r, uint64_t place)
{
	return r->map + JOURNAL_HEADER + (place - r->start) % r->capacity;
}

/* Bytes in one piece from place to the ring's physical end. */
static uint64_t run_from(const struct ring *r, uint64_t place)
{
	return r->capacity - (place - r->start) % r->capacity;
}

static int make_file(struct ring *ring, const char *dir, size_t bytes,
		     const uint8_t producer[PRODUCER_BYTES], const uint8_t *header)
{
	char new_path[sizeof(ring->path) + 8];
	char name[JOURNAL_NAME_MAX];
	int r;

	if (dir[0] == '\0')
		return -ENOENT;
	journal_name(producer, name);
	if ((size_t)snprintf(ring->path, sizeof(ring->path), "%s/%s", dir, name) >=
	    sizeof(ring->path))
		return -ENAMETOOLONG;
	(void)snprintf(new_path, sizeof(new_path), "%s.new", ring->path); /* fits */
	ring->fd = claim_open(new_path);
	if (ring->fd < 0)
		return ring->fd;
	/* allocated now: a full tmpfs must be an error here, not SIGBUS later */
	r = -posix_fallocate(ring->fd, 0, (off_t)(JOURNAL_HEADER + bytes));
	if (r < 0) {
		(void)unlink(new_path); /* the first error is the one to tell */
		return r;
	}
	return claim_finish(ring->fd, new_path, ring->path, header);
}

int ring_open(struct ring *ret, const char *dir, size_t bytes,
	      const uint8_t producer[PRODUCER_BYTES], struct span hello)
{
	struct journal_header h = {.capacity = bytes, .hello = hello};
	uint8_t header[JOURNAL_HEADER];
	void *map;
	int r;

	*ret = (struct ring){
		.fd = -1, .wrap = UINT64_MAX, .capacity = bytes, .map_len = JOURNAL_HEADER + bytes};
	memcpy(h.producer, producer, PRODUCER_BYTES);
	journal_header_write(&h, header);
	r = make_file(ret, dir, bytes, producer, header);
	if (r == 0) {
		map = mmap(NULL, ret->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, ret->fd, 0);
		r = map == MAP_FAILED ? -errno : 0;
		if (r == 0)
			ret->map = map;
	}
	/* a child's copy of the mapping would keep the lock alive after our death */
	if (r == 0 && madvise(ret->map, ret->map_len, MADV_DONTFORK) < 0)
		r = -errno;
	if (r < 0)
		ring_close(ret, true);
	return r;
}

int ring_open_heap(struct ring *ret, size_t bytes)
{
	void *map = mmap(NULL, JOURNAL_HEADER + bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	*ret = (struct ring){.fd = -1,
			     .wrap = UINT64_MAX,
			     .in_heap = true,
			     .capacity = bytes,
			     .map_len = JOURNAL_HEADER + bytes};
	if (map == MAP_FAILED)
		return -errno;
	ret->map = map;
	(void)madvise(map, ret->map_len, MADV_DONTFORK); /* a child starts with a ring of its own */
	return 0;
}

void ring_close(struct ring *r, bool remove)
{
	if (remove && r->path[0] != '\0' && r->fd >= 0)
		(void)unlink(r->path); /* left behind, it is replayed and its records dropped as
					  duplicates */
	if (r->map != NULL)
		(void)munmap(r->map, r->map_len); /* ours */
	if (r->fd >= 0)
		(void)close(r->fd); /* what was written is in the page cache, as it should be */
	r->map = NULL;
	r->fd = -1;
}

void ring_abandon(struct ring *r)
{
	if (r->fd >= 0)
		(void)close(r->fd); /* our copy only */
	r->map = NULL;
	r->fd = -1;
}

/* What a frame of len bytes takes: with the unused end before it when it does not fit in the piece
 * at the tail. */
static uint64_t room_for(const struct ring *r, size_t len)
{
	uint64_t run = run_from(r, r->tail);

	return len <= run ? len : run + len;
}

bool ring_fits(const struct ring *r, size_t len)
{
	return r->map != NULL && len <= r->capacity &&
	       room_for(r, len) <= r->capacity - (r->tail - r->head);
}

void ring_add(struct ring *r, const struct span *pieces, size_t count, size_t len)
{
	uint64_t place = r->tail;
	uint8_t *at;

	if (len > run_from(r, place)) {
		*data_at(r, place) = JOURNAL_WRAP;
		r->wrap = place; /* between head and tail there is room for one such end only */
		place += run_from(r, place);
	}
	at = data_at(r, place);
	for (size_t i = 0; i < count; i++) {
		memcpy(at, pieces[i].at, pieces[i].len);
		at += pieces[i].len;
	}
	r->tail = place + len;
	publish(r, JOURNAL_AT_TAIL, r->tail);
}

struct span ring_bytes(const struct ring *r, uint64_t place, uint64_t *ret_skip)
{
	uint64_t end;

	*ret_skip = place == r->wrap ? run_from(r, place) : 0;
	place += *ret_skip;
	end = r->wrap != UINT64_MAX && place < r->wrap ? r->wrap : r->tail;
	if (place >= end)
		return (struct span){0};
	if (end - place > run_from(r, place))
		end = place + run_from(r, place);
	return (struct span){.at = data_at(r, place), .len = end - place};
}

void ring_free_to(struct ring *r, uint64_t place)
{
	r->head = place;
	publish(r, JOURNAL_AT_HEAD, place);
}

void ring_restart(struct ring *r, uint64_t place)
{
	/* a reader takes head >= tail as empty, so a death at any point between these leaves an
	 * empty ring */
	publish(r, JOURNAL_AT_HEAD, place);
	publish(r, AT_START, place);
	publish(r, JOURNAL_AT_TAIL, place);
	r->start = r->head = r->tail = place;
	r->wrap = UINT64_MAX;
}

void ring_note_acked(struct ring *r, uint64_t seq)
{
	publish(r, JOURNAL_AT_ACKED, seq);
}
