/* See spool.h. */
#include "client/lib/spool.h"

#include "client/lib/claim.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	PIECES_MAX = 8
};

static int make_file(struct spool *s, const char *dir, unsigned number,
		     const uint8_t producer[PRODUCER_BYTES], const uint8_t *header)
{
	char new_path[sizeof(s->path) + 8];
	char name[JOURNAL_NAME_MAX];

	spool_name(producer, number, name);
	if ((size_t)snprintf(s->path, sizeof(s->path), "%s/%s", dir, name) >= sizeof(s->path))
		return -ENAMETOOLONG;
	(void)snprintf(new_path, sizeof(new_path), "%s.new", s->path); /* fits */
	s->fd = claim_open(new_path);
	return s->fd < 0 ? s->fd : claim_finish(s->fd, new_path, s->path, header);
}

int spool_open(struct spool **ret, const char *dir, unsigned number,
	       const uint8_t producer[PRODUCER_BYTES], struct span hello, uint64_t start)
{
	struct journal_header h = {.is_spool = true, .start = start, .head = start, .hello = hello};
	uint8_t header[JOURNAL_HEADER];
	struct spool *s = mem_zalloc(sizeof(*s));
	int r;

	if (s == NULL)
		return -ENOMEM;
	s->fd = -1;
	s->start = s->head = s->tail = start;
	memcpy(h.producer, producer, PRODUCER_BYTES);
	journal_header_write(&h, header);
	r = make_file(s, dir, number, producer, header);
	if (r < 0) {
		(void)spool_close(s, true);
		return r;
	}
	*ret = s;
	return 0;
}

struct spool *spool_close(struct spool *s, bool remove)
{
	if (s == NULL)
		return NULL;
	if (remove && s->fd >= 0)
		(void)unlink(s->path); /* left behind, it is replayed and its records dropped as
					  duplicates */
	if (s->fd >= 0)
		(void)close(s->fd); /* what was written is in the page cache, as it should be */
	(void)mem_free(s->steps);
	return mem_free(s);
}

static off_t offset_of(const struct spool *s, uint64_t place)
{
	return (off_t)(JOURNAL_HEADER + (place - s->start));
}

/* All of it, whatever pieces the kernel takes. */
static int write_all(int fd, struct iovec *iov, int count, off_t offset)
{
	while (count > 0) {
		ssize_t n = pwritev(fd, iov, count, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		offset += n;
		while (count > 0 && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			count--;
		}
		if (count > 0) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* A place for what the frame needs, before it is written: afterwards nothing may fail. */
static int reserve_step(struct spool *s)
{
	return mem_room(s->steps, s->step_count, s->step_cap);
}

static void note_frame(struct spool *s, size_t len, uint64_t seq, uint64_t blob)
{
	struct spool_step *last =
		s->step_count > s->first_step ? &s->steps[s->step_count - 1] : NULL;
	uint64_t begun = s->step_count >= 2 ? s->steps[s->step_count - 2].end : s->start;

	assert(s->steps != NULL); /* reserve_step() made room */
	s->tail += len;
	if (last == NULL || last->is_lost || last->end - begun >= SPOOL_STEP) {
		last = &s->steps[s->step_count++];
		*last = (struct spool_step){0};
	}
	last->end = s->tail;
	if (seq > last->seq)
		last->seq = seq;
	if (blob > last->blob)
		last->blob = blob;
	last->records += seq != 0;
}

int spool_add(struct spool *s, const struct span *pieces, size_t count, size_t len, uint64_t seq,
	      uint64_t blob)
{
	struct iovec iov[PIECES_MAX];
	int r;

	for (size_t i = 0; i < count; i++)
		iov[i] = (struct iovec){.iov_base = (void *)(uintptr_t)pieces[i].at,
					.iov_len = pieces[i].len};
	r = reserve_step(s);
	if (r == 0)
		r = write_all(s->fd, iov, (int)count, offset_of(s, s->tail));
	if (r < 0) { /* a torn frame at the end would be taken for one */
		if (ftruncate(s->fd, offset_of(s, s->tail)) < 0)
			return r; /* a reader drops what is not whole at the end, and the next frame
				     overwrites it */
		return r;
	}
	note_frame(s, len, seq, blob);
	return 0;
}

static struct spool_step *step_at(const struct spool *s, uint64_t place)
{
	for (size_t i = s->first_step; i < s->step_count; i++) {
		if (place < s->steps[i].end)
			return &s->steps[i];
	}
	return NULL;
}

/* The end of the steps behind place that are not lost. */
static uint64_t readable_end(const struct spool *s, uint64_t place)
{
	uint64_t end = place;

	for (size_t i = s->first_step; i < s->step_count; i++) {
		if (place >= s->steps[i].end)
			continue;
		if (s->steps[i].is_lost)
			break;
		end = s->steps[i].end;
	}
	return end;
}

int spool_read(const struct spool *s, uint64_t place, void *ret_bytes, size_t size, size_t *ret_len)
{
	uint64_t end = readable_end(s, place);
	size_t left = end - place < size ? (size_t)(end - place) : size;
	size_t have = 0;

	while (have < left) {
		ssize_t n = pread(s->fd, (uint8_t *)ret_bytes + have, left - have,
				  offset_of(s, place + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 && have > 0)
			break; /* what could be read */
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		have += (size_t)n;
	}
	*ret_len = have;
	return 0;
}

uint64_t spool_lose(struct spool *s, uint64_t place, uint64_t acked)
{
	struct spool_step *step = step_at(s, place);
	uint64_t before;

	if (step == NULL || step->is_lost)
		return 0;
	step->is_lost = true;
	before = step->seq - step->records; /* a producer's records have no gaps */
	return step->seq <= acked ? 0 : step->seq - (before > acked ? before : acked);
}

uint64_t spool_pass_lost(const struct spool *s, uint64_t place)
{
	const struct spool_step *step = step_at(s, place);

	while (step != NULL && step->is_lost) {
		place = step->end;
		step = step_at(s, place);
	}
	return place;
}

static void write_head(const struct spool *s)
{
	uint8_t bytes[8];

	journal_put_u64(bytes, s->head);
	if (pwrite(s->fd, bytes, sizeof(bytes), JOURNAL_AT_HEAD) < 0)
		return; /* an older head means that duplicates are sent, which are dropped */
}

bool spool_free_acked(struct spool *s, uint64_t acked, uint64_t lowest_blob)
{
	bool moved = false;

	while (s->first_step < s->step_count) {
		const struct spool_step *step = &s->steps[s->first_step];

		if (!step->is_lost && (step->seq > acked || step->blob >= lowest_blob))
			break;
		s->head = step->end;
		s->first_step++;
		moved = true;
	}
	if (moved && !spool_is_done(s))
		write_head(s);
	return spool_is_done(s);
}
