/* See parts.h. */
#include "daemon/ingest/parts.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

struct parts_blob {
	uint64_t id; /* the client's */
	uint64_t size;
	bool is_whole;
	uint8_t digest[DIGEST_BYTES];
};

static void forget(struct parts *p, struct parts_blob *b)
{
	*b = p->blobs[--p->count];
}

static struct parts_blob *find(const struct parts *p, uint64_t id)
{
	for (size_t i = 0; i < p->count; i++) {
		if (p->blobs[i].id == id)
			return &p->blobs[i];
	}
	return NULL;
}

static int begin(struct parts *p, uint64_t id, struct parts_blob **ret)
{
	int r = p->count == BLOB_OPEN_MAX ? -EMFILE : mem_room(p->blobs, p->count, p->cap);

	if (r < 0)
		return r;
	*ret = &p->blobs[p->count++];
	**ret = (struct parts_blob){.id = id};
	return 0;
}

int parts_add(struct parts *p, uint64_t blob, uint64_t offset, size_t len, struct span digest)
{
	struct parts_blob *b = find(p, blob);
	int r = 0;

	if (b != NULL && (offset == 0 || b->is_whole)) { /* the client uses the number again */
		forget(p, b);
		b = NULL;
	}
	if (b != NULL && offset > b->size) { /* a part is missing: the rest is of no use */
		forget(p, b);
		return -ENOENT;
	}
	if (b == NULL)
		r = offset == 0 ? begin(p, blob, &b) : -ENOENT;
	else if (offset != b->size)
		r = -ENODATA;
	if (r < 0)
		return r;
	b->size += len;
	b->is_whole = digest.at != NULL;
	if (b->is_whole)
		memcpy(b->digest, digest.at, DIGEST_BYTES);
	return 0;
}

static bool is_named(const struct record *record, const struct parts_blob *b)
{
	struct span digest;

	for (uint32_t i = 0; record_blob(record, i, &digest); i++) {
		if (memcmp(digest.at, b->digest, DIGEST_BYTES) == 0)
			return true;
	}
	return false;
}

void parts_named(struct parts *p, const struct record *record)
{
	for (size_t i = p->count; i > 0; i--) {
		struct parts_blob *b = &p->blobs[i - 1];

		if (b->is_whole && is_named(record, b))
			forget(p, b);
	}
}

void parts_done(struct parts *p)
{
	p->blobs = mem_free(p->blobs);
	p->count = p->cap = 0;
}
