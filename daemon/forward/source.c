/* See source.h. */
#include "daemon/forward/source.h"

#include "daemon/forward/models/table.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

/* --- a blob --- */

struct blob_source {
	struct source source;
	struct reader *reader;
	uint8_t digest[DIGEST_BYTES];
	int64_t offset; /* in the blob, of the first byte */
	int64_t done;
};

static int read_blob(struct source *s, void *ret_bytes, size_t len, size_t *ret_len)
{
	struct blob_source *b = container_of(s, struct blob_source, source);
	struct span digest = {.at = b->digest, .len = sizeof(b->digest)};
	int64_t left = s->size - b->done;
	size_t got = 0;
	int r;

	if ((uint64_t)left < len)
		len = (size_t)left;
	r = reader_blob(b->reader, digest, b->offset + b->done, ret_bytes, len, &got);
	if (r == 0 && got == 0 && left > 0)
		r = -EIO;
	if (r < 0)
		return r;
	b->done += (int64_t)got;
	*ret_len = got;
	return 0;
}

static int rewind_blob(struct source *s)
{
	container_of(s, struct blob_source, source)->done = 0;
	return 0;
}

static void free_blob(struct source *s)
{
	(void)mem_free(container_of(s, struct blob_source, source));
}

struct source *source_of_blob(struct reader *reader, struct span digest, int64_t offset,
			      int64_t size)
{
	struct blob_source *b = mem_zalloc(sizeof(*b));

	if (b == NULL)
		return NULL;
	b->source = (struct source){
		.size = size, .read = read_blob, .rewind = rewind_blob, .free = free_blob};
	b->reader = reader;
	b->offset = offset;
	memcpy(b->digest, digest.at, sizeof(b->digest));
	return &b->source;
}

/* --- a table --- */

struct table_source {
	struct source source;
	struct reader *reader;
	uint8_t digest[DIGEST_BYTES];
	enum table_form form;
	struct table table;
	size_t used; /* of what the table has rendered */
	int64_t done;
};

static int read_table_blob(void *arg, const uint8_t *part, int64_t offset, void *ret_bytes,
			   size_t len, size_t *ret_len)
{
	struct table_source *t = arg;
	struct span digest = {.at = part == NULL ? t->digest : part, .len = sizeof(t->digest)};

	return reader_blob(t->reader, digest, offset, ret_bytes, len, ret_len);
}

/* The next piece, once the one before is used up. */
static int render(struct table_source *t)
{
	struct buf *out = &t->table.out;

	while (t->used == out->len) {
		int r;

		buf_clear(out);
		t->used = 0;
		r = table_step(&t->table);
		if (r < 0)
			return r;
		if (r == 0 && out->len == 0)
			return -EIO; /* shorter than when it was digested */
	}
	return 0;
}

static int read_table(struct source *s, void *ret_bytes, size_t len, size_t *ret_len)
{
	struct table_source *t = container_of(s, struct table_source, source);
	int64_t left = s->size - t->done;
	size_t there;
	int r = left > 0 ? render(t) : 0;

	if (r < 0)
		return r;
	there = t->table.out.len - t->used;
	if ((uint64_t)left < len)
		len = (size_t)left;
	if (there < len)
		len = there;
	if (len > 0)
		memcpy(ret_bytes, t->table.out.data + t->used, len);
	t->used += len;
	t->done += (int64_t)len;
	*ret_len = len;
	return 0;
}

static int rewind_table(struct source *s)
{
	struct table_source *t = container_of(s, struct table_source, source);

	table_done(&t->table);
	table_init(&t->table, t->form, read_table_blob, t);
	t->used = 0;
	t->done = 0;
	return 0;
}

static void free_table(struct source *s)
{
	struct table_source *t = container_of(s, struct table_source, source);

	table_done(&t->table);
	(void)mem_free(t);
}

static struct source *table_source(struct reader *reader, struct span digest, int64_t size,
				   enum table_form form)
{
	struct table_source *t = mem_zalloc(sizeof(*t));

	if (t == NULL)
		return NULL;
	t->source = (struct source){
		.size = size, .read = read_table, .rewind = rewind_table, .free = free_table};
	t->reader = reader;
	t->form = form;
	memcpy(t->digest, digest.at, sizeof(t->digest));
	table_init(&t->table, t->form, read_table_blob, t);
	return &t->source;
}

struct source *source_of_table(struct reader *reader, struct span digest, int64_t size)
{
	return table_source(reader, digest, size, TABLE_RUN_FILE);
}

struct source *source_of_artifact_table(struct reader *reader, struct span digest, int64_t size)
{
	return table_source(reader, digest, size, TABLE_ARTIFACT);
}

/* --- a text --- */

struct text_source {
	struct source source;
	struct buf text;
	size_t done;
};

static int read_text(struct source *s, void *ret_bytes, size_t len, size_t *ret_len)
{
	struct text_source *t = container_of(s, struct text_source, source);

	if (t->text.len - t->done < len)
		len = t->text.len - t->done;
	if (len > 0)
		memcpy(ret_bytes, t->text.data + t->done, len);
	t->done += len;
	*ret_len = len;
	return 0;
}

static int rewind_text(struct source *s)
{
	container_of(s, struct text_source, source)->done = 0;
	return 0;
}

static void free_text(struct source *s)
{
	struct text_source *t = container_of(s, struct text_source, source);

	buf_done(&t->text);
	(void)mem_free(t);
}

struct source *source_of_text(struct buf *text)
{
	struct text_source *t = mem_zalloc(sizeof(*t));

	if (t == NULL) {
		buf_done(text);
		return NULL;
	}
	t->source = (struct source){.size = (int64_t)text->len,
				    .read = read_text,
				    .rewind = rewind_text,
				    .free = free_text};
	t->text = *text;
	buf_init(text, 0);
	return &t->source;
}
