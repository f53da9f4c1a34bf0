/* See wbx.h: values that are files, times, and the run's own files. */
#include "client/lib/emit.h"
#include "client/lib/map.h"

#include <errno.h>
#include <string.h>

enum {
	EXT_TIME = 1, /* extension type of a time in a table's cell */
	TIME_BYTES = 8,
	TIME_TEXT_MAX = 256
};

static int copy_bytes(struct buf *ret, const void *bytes, size_t len)
{
	buf_init(ret, (size_t)BLOB_MAX);
	return len == 0 ? 0 : buf_add(ret, bytes, len);
}

/* The pairs of a map go into the one that is open in m. */
static void put_pairs(struct wbx_map *m, const struct wbx_map *more)
{
	if (more == NULL)
		return;
	pack_raw(&m->p, buf_span(&more->bytes));
	m->levels[m->depth].count += more->levels[0].count;
}

int wbx_put_media(struct wbx_map *m, const char *key, const struct wbx_media *media)
{
	uint8_t digest[DIGEST_BYTES];
	struct buf bytes;
	int r;

	if (m == NULL || media == NULL || media->type == NULL || media->ext == NULL ||
	    (media->bytes == NULL && media->len > 0) ||
	    (media->more != NULL &&
	     (media->more->levels[0].is_list || map_check(media->more) != 0)))
		return -EINVAL;
	if (media->in_cell && media->len > UINT32_MAX)
		return map_fail(m, -EMSGSIZE);
	(void)wbx_begin_map(m, key); /* the last call tells of any failure */
	(void)wbx_put_text(m, "_type", media->type);
	(void)wbx_put_text(m, "ext", media->ext);
	put_pairs(m, media->more);
	if (media->in_cell) {
		pack_text(&m->p, "data");
		pack_bin(&m->p, (struct span){.at = media->bytes, .len = media->len});
		m->levels[m->depth].count++;
		return wbx_end(m);
	}
	r = copy_bytes(&bytes, media->bytes, media->len);
	if (r == 0)
		r = map_add_blob(m, &bytes, NULL, digest);
	buf_done(&bytes);
	if (r < 0)
		return map_fail(m, r);
	(void)wbx_put_int(m, "size", (int64_t)media->len);
	(void)map_put_digest(m, "blob", digest);
	return wbx_end(m);
}

int wbx_put_time(struct wbx_map *m, const char *key, int64_t ms, const char *text)
{
	uint8_t bytes[6 + TIME_BYTES + TIME_TEXT_MAX];
	struct span words = text == NULL ? (struct span){.at = NULL} : span_of_text(text);
	size_t len = words.len;

	if (m == NULL || len > TIME_TEXT_MAX)
		return -EINVAL;
	bytes[0] = 0xc8; /* ext of 16 bits' length */
	bytes[1] = (uint8_t)((TIME_BYTES + len) >> 8);
	bytes[2] = (uint8_t)(TIME_BYTES + len);
	bytes[3] = EXT_TIME;
	for (unsigned i = 0; i < TIME_BYTES; i++)
		bytes[4 + i] = (uint8_t)((uint64_t)ms >> (56 - 8 * i));
	if (len > 0)
		memcpy(bytes + 4 + TIME_BYTES, words.at, len);
	return wbx_put_msgpack(m, key, bytes, 4 + TIME_BYTES + len);
}

static bool is_good_path(const char *path)
{
	const char *at = path;

	if (*at == '\0' || strlen(path) > KEY_MAX)
		return false;
	while (at != NULL) {
		size_t len = strcspn(at, "/");

		if (len == 0 || (len == 1 && at[0] == '.') ||
		    (len == 2 && at[0] == '.' && at[1] == '.'))
			return false;
		at = at[len] == '/' ? at + len + 1 : NULL;
	}
	return true;
}

int wbx_save(struct wbx_run *run, const char *path, const void *bytes, size_t len,
	     const char *policy)
{
	struct emit_blobs blobs;
	uint8_t digest[DIGEST_BYTES];
	struct wbx_map *m;
	struct emit e;
	struct buf copy;
	int r;

	if (run == NULL || path == NULL || (bytes == NULL && len > 0) || !is_good_path(path))
		return -EINVAL;
	m = wbx_map_new();
	if (m == NULL)
		return -ENOMEM;
	r = copy_bytes(&copy, bytes, len);
	if (r == 0 && len > 0)
		r = map_add_blob(m, &copy, NULL, digest);
	buf_done(&copy);
	if (r == 0)
		r = emit_blobs_begin(&blobs, run->w, m, NULL);
	if (r == 0)
		r = emit_begin(&e, run->w, run, "file", 3 + (blobs.count > 0 ? 1 : 0));
	else
		goto out;
	if (r < 0) {
		emit_blobs_end(&blobs, false);
		goto out;
	}
	e.blobs = &blobs;
	pack_pair_text(&e.p, "path", path);
	pack_pair_uint(&e.p, "size", len);
	pack_pair_text(&e.p, "policy", policy == NULL ? "now" : policy);
	if (blobs.count > 0)
		emit_blobs_pack(&blobs, &e.p);
	r = emit_end(&e, (struct span){.at = NULL}, NULL);
	emit_blobs_end(&blobs, true); /* emit_end() has seen to them */
out:
	wbx_map_free(m);
	return r;
}
