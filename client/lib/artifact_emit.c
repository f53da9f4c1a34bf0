/* See artifact.h: an artifact as records, each with the blobs of some of its files. */
#include "client/lib/artifact.h"

#include "proto/base/mem.h"
#include "proto/base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* --- what is said of it --- */

static void pack_list(struct artifact_head *h, struct pack *p, const char *key,
		      const char *const *list)
{
	size_t count = 0;

	while (list != NULL && list[count] != NULL)
		count++;
	if (count == 0)
		return;
	pack_text(p, key);
	pack_array(p, count);
	for (size_t i = 0; i < count; i++)
		pack_text(p, list[i]);
	h->count++;
}

static void pack_metadata(struct artifact_head *h, struct pack *p, const struct wbx_map *metadata)
{
	uint8_t head[MAP_HEAD_BYTES];

	if (metadata == NULL || metadata->levels[0].count == 0)
		return;
	pack_text(p, "metadata");
	map_head(metadata, head);
	pack_raw(p, (struct span){.at = head, .len = sizeof(head)});
	pack_raw(p, buf_span(&metadata->bytes));
	h->count++;
}

int artifact_head_of(struct artifact_head *ret, const struct wbx_artifact *a,
		     const struct wbx_artifact_options *o)
{
	struct pack p;

	(void)a;
	ret->count = 0;
	buf_init(&ret->pairs, RECORD_MAX - ARTIFACT_ENTRIES_BYTES - RECORD_ROOM);
	if (o == NULL)
		return 0;
	if (o->metadata != NULL && (o->metadata->table_count > 0 ||
				    o->metadata->levels[0].is_list || map_check(o->metadata) < 0))
		return -EINVAL;
	pack_init(&p, &ret->pairs);
	if (o->description != NULL) {
		pack_pair_text(&p, "description", o->description);
		ret->count++;
	}
	pack_metadata(ret, &p, o->metadata);
	pack_list(ret, &p, "aliases", o->aliases);
	pack_list(ret, &p, "tags", o->tags);
	if (o->step > 0) {
		pack_pair_int(&p, "step", o->step);
		ret->count++;
	}
	return ret->pairs.error;
}

/* --- bytes --- */

struct reading {
	const struct artifact_entry *entry;
	size_t done;
	int fd;
};

static int read_entry(void *arg, void *ret_bytes, size_t len, size_t *ret_len)
{
	struct reading *r = arg;
	size_t got = 0;

	if (r->fd < 0) {
		got = r->entry->bytes.len - r->done;
		got = got < len ? got : len;
		memcpy(ret_bytes, r->entry->bytes.data + r->done, got);
		r->done += got;
		*ret_len = got;
		return 0;
	}
	while (got < len) {
		ssize_t n = read(r->fd, (char *)ret_bytes + got, len - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	r->done += got;
	*ret_len = got;
	return (int64_t)r->done > r->entry->size ? -EIO : 0; /* it grew */
}

static int add_blob(struct emit_blobs *b, const struct artifact_entry *e)
{
	struct reading reading = {.entry = e, .fd = -1};
	int r;

	if (e->source != NULL) {
		reading.fd = open(e->source, O_RDONLY | O_CLOEXEC);
		if (reading.fd < 0)
			return -errno;
	}
	r = emit_blobs_add(b, read_entry, &reading);
	if (r == 0 && (int64_t)reading.done != e->size)
		r = -EIO; /* it is not the file that was taken */
	if (reading.fd >= 0)
		(void)close(reading.fd); /* read only */
	return r;
}

/* --- records --- */

static bool has_bytes(const struct artifact_entry *e)
{
	return e->ref == NULL && e->size > 0;
}

static void pack_entry(struct pack *p, const struct artifact_entry *e, const uint8_t *digest)
{
	bool is_ref = e->ref != NULL;

	pack_map(p, 1 + (size_t)(e->size >= 0) + (size_t)(digest != NULL) + (size_t)e->is_table +
			    (is_ref ? 2 : 0));
	pack_pair_text(p, "path", e->path);
	if (e->size >= 0)
		pack_pair_int(p, "size", e->size);
	if (digest != NULL)
		pack_pair_bin(p, "blob", (struct span){.at = digest, .len = DIGEST_BYTES});
	if (e->is_table)
		pack_pair_bool(p, "table", true);
	if (is_ref) {
		pack_pair_text(p, "ref", e->ref);
		pack_pair_text(p, "digest", e->digest);
	}
}

/* How many entries from `first` on go into one record. */
static size_t group(const struct wbx_artifact *a, size_t first)
{
	size_t blobs = 0;
	size_t bytes = 0;
	size_t at = first;

	for (; at < a->count; at++) {
		const struct artifact_entry *e = &a->entries[at];
		size_t len = strlen(e->path) + 128 +
			     (e->ref == NULL ? 0 : strlen(e->ref) + strlen(e->digest));

		if (at > first && ((has_bytes(e) && blobs == ARTIFACT_BLOBS_A_RECORD) ||
				   bytes + len > ARTIFACT_ENTRIES_BYTES))
			break;
		blobs += has_bytes(e);
		bytes += len;
	}
	return at - first;
}

static int emit_group(struct wbx_run *run, const struct wbx_artifact *a,
		      const struct artifact_head *head, size_t first, size_t count)
{
	bool is_last = first + count == a->count;
	struct emit_blobs blobs;
	struct emit e;
	size_t blob = 0;
	int r = 0;

	emit_blobs_open(&blobs, run->w);
	for (size_t i = first; r == 0 && i < first + count; i++)
		r = has_bytes(&a->entries[i]) ? add_blob(&blobs, &a->entries[i]) : 0;
	if (r == 0)
		r = emit_begin(&e, run->w, run, "artifact",
			       6 + (size_t)(blobs.count > 0) + (is_last ? head->count : 0));
	if (r < 0) {
		emit_blobs_end(&blobs, false);
		return r;
	}
	e.blobs = &blobs;
	pack_pair_text(&e.p, "id", a->id);
	pack_pair_text(&e.p, "name", a->name);
	pack_pair_text(&e.p, "type", a->type);
	pack_pair_bool(&e.p, "more", !is_last);
	pack_pair_uint(&e.p, "total", (uint64_t)a->total);
	if (blobs.count > 0)
		emit_blobs_pack(&blobs, &e.p);
	pack_text(&e.p, "files");
	pack_array(&e.p, count);
	for (size_t i = first; i < first + count; i++)
		pack_entry(&e.p, &a->entries[i],
			   has_bytes(&a->entries[i]) ? blobs.digests[blob++] : NULL);
	r = emit_end(&e, is_last ? buf_span(&head->pairs) : (struct span){0}, NULL);
	emit_blobs_end(&blobs, true); /* emit_end() has seen to them */
	return r;
}

int artifact_emit(struct wbx_run *run, const struct wbx_artifact *a,
		  const struct artifact_head *head, int flush_ms)
{
	size_t first = 0;
	int r;

	do {
		size_t count = group(a, first);

		r = emit_group(run, a, head, first, count);
		first += count;
		if (r == 0 && flush_ms > 0)
			r = wbx_flush(run->w, flush_ms);
	} while (r == 0 && first < a->count);
	return r;
}

int artifact_announce(struct wbx_run *run, const struct wbx_artifact *a)
{
	struct emit e;
	int r = emit_begin(&e, run->w, run, "artifact", 6);

	if (r < 0)
		return r;
	pack_pair_text(&e.p, "id", a->id);
	pack_pair_text(&e.p, "name", a->name);
	pack_pair_text(&e.p, "type", a->type);
	pack_pair_bool(&e.p, "more", true);
	pack_pair_uint(&e.p, "total", (uint64_t)a->total);
	pack_text(&e.p, "files");
	pack_array(&e.p, 0);
	return emit_end(&e, (struct span){0}, NULL);
}

int wbx_log_artifact(struct wbx_run *run, struct wbx_artifact *a,
		     const struct wbx_artifact_options *options)
{
	struct artifact_head head;
	int r;

	if (run == NULL || a == NULL || a->is_handed_over)
		return -EINVAL;
	r = rng_base36(a->id, ARTIFACT_ID_CHARS); /* each version has its own */
	if (r < 0)
		return r;
	r = artifact_head_of(&head, a, options);
	if (r == 0 && a->total <= ARTIFACT_AT_ONCE_BYTES)
		r = artifact_emit(run, a, &head, 0);
	else if (r == 0)
		r = handover_begin(run, a, &head);
	buf_done(&head.pairs);
	return r;
}
