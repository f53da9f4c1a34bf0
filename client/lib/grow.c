/* See grow.h. */
#include "client/lib/grow.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

enum {
	SAMPLES = 33, /* of a table's rows: tell most that do not begin with it */
	SAMPLE_BYTES = 16,
	OPTIONS_MAX = 64 << 10 /* columns and types that are worth remembering */
};

struct part {
	uint8_t digest[DIGEST_BYTES];
	size_t len; /* without the array's head */
	uint32_t rows;
	unsigned level; /* GROW_FAN of one make one of the next */
};

/* A table as it was logged last. */
struct grown {
	struct buf options; /* columns and types, as packed */
	struct part parts[GROW_PARTS_MAX + 1];
	size_t part_count;
	size_t part_bytes;
	uint32_t part_rows;
	size_t own_bytes; /* rows behind those of the parts */
	uint32_t own_rows;
	uint8_t samples[SAMPLES][SAMPLE_BYTES];
	uint8_t digest[DIGEST_BYTES];
	uint64_t used; /* when, in calls */
};

struct grow {
	pthread_mutex_t lock; /* tried only: whoever finds it taken logs a whole table */
	uint64_t calls;
	struct grown tables[GROW_TABLES];
};

struct grow *grow_new(void)
{
	struct grow *g = mem_zalloc(sizeof(*g));

	if (g == NULL)
		return NULL;
	(void)pthread_mutex_init(&g->lock, NULL); /* cannot fail with default attributes */
	for (size_t i = 0; i < GROW_TABLES; i++)
		buf_init(&g->tables[i].options, OPTIONS_MAX);
	return g;
}

struct grow *grow_free(struct grow *g)
{
	for (size_t i = 0; g != NULL && i < GROW_TABLES; i++)
		buf_done(&g->tables[i].options);
	return mem_free(g); /* the lock may be held in a forked parent; it owns no memory */
}

static int digest_two(struct span a, struct span b, uint8_t ret[DIGEST_BYTES])
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	bool done = c != NULL && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 &&
		    EVP_DigestUpdate(c, a.at, a.len) == 1 &&
		    EVP_DigestUpdate(c, b.at, b.len) == 1 && EVP_DigestFinal_ex(c, ret, NULL) == 1;

	EVP_MD_CTX_free(c);
	return done ? 0 : -ENOMEM;
}

static struct span options_of(const struct table_draft *d)
{
	return (struct span){.at = d->bytes.data + 1, .len = d->options_end - 1};
}

static struct span rows_of(const struct table_draft *d, size_t from, size_t len)
{
	return (struct span){.at = d->bytes.data + d->rows_at + from, .len = len};
}

static int digest_rows(const struct table_draft *d, size_t from, size_t len, uint32_t rows,
		       uint8_t ret[DIGEST_BYTES])
{
	uint8_t head[TABLE_ARRAY_HEAD];

	table_array_head(head, rows);
	return digest_two((struct span){.at = head, .len = sizeof(head)}, rows_of(d, from, len),
			  ret);
}

/* The table's own blob up to its rows, with the parts that g names. */
static void put_head(struct buf *out, const struct grown *g, const struct table_draft *d)
{
	uint8_t head[TABLE_ARRAY_HEAD];
	struct pack p;

	pack_init(&p, out);
	pack_map(&p, (d->has_types ? 3U : 2U) + (g->part_count > 0 ? 1U : 0U));
	pack_raw(&p, options_of(d));
	if (g->part_count > 0) {
		pack_text(&p, "parts");
		pack_array(&p, g->part_count);
	}
	for (size_t i = 0; i < g->part_count; i++)
		pack_bin(&p, (struct span){.at = g->parts[i].digest, .len = DIGEST_BYTES});
	pack_text(&p, "data");
	table_array_head(head, g->own_rows);
	pack_raw(&p, (struct span){.at = head, .len = sizeof(head)});
}

/* --- is it the table that was? --- */

/* The i-th sample of so many bytes of rows: from the first to the last. */
static const uint8_t *sample(const struct table_draft *d, size_t total, size_t i)
{
	return rows_of(d, (total - SAMPLE_BYTES) / (SAMPLES - 1) * i, SAMPLE_BYTES).at;
}

static bool same_samples(const struct grown *g, const struct table_draft *d, size_t total)
{
	for (size_t i = 0; i < SAMPLES; i++) {
		if (memcmp(g->samples[i], sample(d, total, i), SAMPLE_BYTES) != 0)
			return false;
	}
	return true;
}

static bool may_begin_with(const struct grown *g, const struct table_draft *d, size_t rows_len)
{
	size_t total = g->part_bytes + g->own_bytes;

	return g->used != 0 && total <= rows_len && d->rows >= g->part_rows + g->own_rows &&
	       span_equal(buf_span(&g->options), options_of(d)) && same_samples(g, d, total);
}

/* The draft begins with all the rows of g: by their digests. */
static bool begins_with(const struct grown *g, const struct table_draft *d)
{
	uint8_t digest[DIGEST_BYTES];
	struct buf head;
	size_t at = 0;
	int r = 0;

	for (size_t i = 0; i < g->part_count; i++) {
		const struct part *p = &g->parts[i];

		if (digest_rows(d, at, p->len, p->rows, digest) < 0 ||
		    memcmp(digest, p->digest, DIGEST_BYTES) != 0)
			return false;
		at += p->len;
	}
	buf_init(&head, SIZE_MAX);
	put_head(&head, g, d);
	r = head.error != 0 ? head.error
			    : digest_two(buf_span(&head), rows_of(d, at, g->own_bytes), digest);
	buf_done(&head);
	return r == 0 && memcmp(digest, g->digest, DIGEST_BYTES) == 0;
}

/* What was logged before and the draft begins with; else the one not used for longest, emptied. */
static struct grown *find(struct grow *g, const struct table_draft *d, size_t rows_len)
{
	struct grown *oldest = &g->tables[0];

	for (size_t i = 0; i < GROW_TABLES; i++) {
		struct grown *t = &g->tables[i];

		if (may_begin_with(t, d, rows_len) && begins_with(t, d))
			return t;
		if (t->used < oldest->used)
			oldest = t;
	}
	oldest->part_count = oldest->part_bytes = oldest->own_bytes = 0;
	oldest->part_rows = oldest->own_rows = 0;
	oldest->used = 0;
	buf_clear(&oldest->options);
	return oldest;
}

/* --- it grows --- */

/* The last GROW_FAN parts are of one level: they become one. */
static int merge(struct grown *g, const struct table_draft *d)
{
	struct part *first = &g->parts[g->part_count - GROW_FAN];
	struct part sum = {.level = first->level + 1};

	for (size_t i = 0; i < GROW_FAN; i++) {
		sum.len += first[i].len;
		sum.rows += first[i].rows;
	}
	if (digest_rows(d, g->part_bytes - sum.len, sum.len, sum.rows, sum.digest) < 0)
		return -ENOMEM;
	*first = sum;
	g->part_count -= GROW_FAN - 1;
	return 0;
}

static bool is_fan(const struct grown *g)
{
	unsigned level;

	if (g->part_count < GROW_FAN)
		return false;
	level = g->parts[g->part_count - 1].level;
	for (size_t i = 2; i <= GROW_FAN; i++) {
		if (g->parts[g->part_count - i].level != level)
			return false;
	}
	return true;
}

/* What were the table's own rows becomes a part; its own are those behind. */
static int extend(struct grown *g, const struct table_draft *d, size_t rows_len)
{
	struct part *p = &g->parts[g->part_count];
	int r = 0;

	if (g->own_bytes > 0 && g->part_bytes + g->own_bytes < rows_len) {
		*p = (struct part){.len = g->own_bytes, .rows = g->own_rows};
		if (digest_rows(d, g->part_bytes, p->len, p->rows, p->digest) < 0)
			return -ENOMEM;
		g->part_count++;
		g->part_bytes += p->len;
		g->part_rows += p->rows;
	}
	while (r == 0 && is_fan(g))
		r = merge(g, d);
	g->own_bytes = rows_len - g->part_bytes;
	g->own_rows = d->rows - g->part_rows;
	return r;
}

static int add_part(struct wbx_map *m, const struct part *p, const struct table_draft *d,
		    size_t from)
{
	struct span rows = rows_of(d, from, p->len);
	uint8_t head[TABLE_ARRAY_HEAD];
	uint8_t digest[DIGEST_BYTES];
	struct buf bytes;
	int r;

	buf_init(&bytes, (size_t)BLOB_MAX);
	table_array_head(head, p->rows);
	r = buf_reserve(&bytes, sizeof(head) + rows.len);
	if (r == 0)
		r = buf_add(&bytes, head, sizeof(head));
	if (r == 0)
		r = buf_add(&bytes, rows.at, rows.len);
	if (r == 0)
		r = map_add_blob(m, &bytes, p->digest, digest);
	buf_done(&bytes);
	return r;
}

static int add_parts(struct wbx_map *m, const struct grown *g, const struct table_draft *d)
{
	size_t at = 0;

	for (size_t i = 0; i < g->part_count; i++) {
		int r = add_part(m, &g->parts[i], d, at);

		if (r < 0)
			return r;
		at += g->parts[i].len;
	}
	return 0;
}

/* The draft's own blob: the head and its own rows. */
static int add_own(struct wbx_map *m, struct grown *g, const struct table_draft *d)
{
	struct span rows = rows_of(d, g->part_bytes, g->own_bytes);
	struct buf bytes;
	int r;

	buf_init(&bytes, (size_t)BLOB_MAX);
	put_head(&bytes, g, d);
	if (rows.len > 0)
		(void)buf_add(&bytes, rows.at, rows.len); /* the buf remembers */
	r = map_add_blob(m, &bytes, NULL, g->digest);
	buf_done(&bytes);
	return r;
}

static void remember(struct grow *g, struct grown *t, const struct table_draft *d, size_t rows_len)
{
	struct span options = options_of(d);

	for (size_t i = 0; i < SAMPLES; i++)
		memcpy(t->samples[i], sample(d, rows_len, i), SAMPLE_BYTES);
	buf_clear(&t->options);
	t->used = buf_add(&t->options, options.at, options.len) < 0 ? 0 : ++g->calls;
}

static int add_known(struct grow *g, struct wbx_map *m, struct table_draft *d,
		     uint8_t ret_digest[DIGEST_BYTES])
{
	size_t rows_len = d->bytes.len - d->rows_at;
	struct grown *t = find(g, d, rows_len);
	int r = extend(t, d, rows_len);

	if (r == 0 && t->part_count > GROW_PARTS_MAX)
		r = -E2BIG;
	if (r < 0) {
		t->used = 0;
		return r == -E2BIG ? map_add_blob(m, &d->bytes, NULL, ret_digest) : r;
	}
	remember(g, t, d, rows_len);
	if (t->part_count > 0) {
		r = add_parts(m, t, d);
		if (r == 0)
			r = add_own(m, t, d);
	} else {
		r = map_add_blob(m, &d->bytes, NULL, t->digest);
	}
	if (r < 0)
		t->used = 0;
	memcpy(ret_digest, t->digest, DIGEST_BYTES);
	return r;
}

int grow_add(struct grow *g, struct wbx_map *m, struct table_draft *d,
	     uint8_t ret_digest[DIGEST_BYTES])
{
	int r;

	if (d->bytes.error != 0)
		return d->bytes.error;
	if (g == NULL || d->bytes.len - d->rows_at < GROW_BYTES_MIN ||
	    pthread_mutex_trylock(&g->lock) != 0)
		return map_add_blob(m, &d->bytes, NULL, ret_digest);
	r = add_known(g, m, d, ret_digest);
	(void)pthread_mutex_unlock(&g->lock);
	return r;
}
