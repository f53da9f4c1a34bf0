#include "client/lib/grow.h"
#include "proto/mp.h"
#include "tests/lib/suite.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

/* A table of `count` rows of about 1 KB each, the first `changed` of which are others. */
static void draft(struct table_draft *d, uint32_t count, uint32_t changed)
{
	uint8_t head[TABLE_ARRAY_HEAD];
	char text[1024];

	table_draft_begin(d, false);
	d->columns = 2;
	pack_array(&d->p, 2);
	pack_text(&d->p, "n");
	pack_text(&d->p, "text");
	table_draft_rows(d);
	d->rows = count;
	table_array_head(head, count);
	pack_raw(&d->p, (struct span){.at = head, .len = sizeof(head)});
	for (uint32_t i = 0; i < count; i++) {
		(void)snprintf(text, sizeof(text), "%c%01000u", i < changed ? '!' : ' ', i);
		pack_array(&d->p, 2);
		pack_uint(&d->p, i);
		pack_text(&d->p, text);
	}
	ck_assert_int_eq(d->bytes.error, 0);
}

static const struct map_table *find(const struct wbx_map *m, const uint8_t *digest)
{
	for (size_t i = 0; i < m->table_count; i++) {
		uint8_t sum[DIGEST_BYTES];

		ck_assert_int_eq(EVP_Digest(m->tables[i].bytes.data, m->tables[i].bytes.len, sum,
					    NULL, EVP_sha256(), NULL),
				 1);
		ck_assert_mem_eq(sum, m->tables[i].digest, DIGEST_BYTES);
		if (memcmp(sum, digest, DIGEST_BYTES) == 0)
			return &m->tables[i];
	}
	ck_abort_msg("a blob that is named is not there");
}

static void take_rows(struct buf *out, uint32_t *count, struct span rows)
{
	struct mp at = mp_of(rows);
	struct mp_value head;

	ck_assert_int_eq(mp_read(&at, &head), 0);
	ck_assert_int_eq(head.type, MP_ARRAY);
	*count += head.count;
	ck_assert_int_eq(buf_add(out, at.at, mp_left(&at)), 0);
}

/* Logs it, and looks whether what is stored are the rows. Gives the number of parts, and the bytes that
 * no blob before had. */
static size_t log_it(struct grow *g, uint32_t rows, uint32_t changed, size_t *ret_parts)
{
	static uint8_t seen[4096][DIGEST_BYTES];
	static size_t seen_count;
	struct wbx_map *m = wbx_map_new();
	struct table_draft d;
	struct table_draft want;
	uint8_t digest[DIGEST_BYTES];
	auto_buf struct buf all;
	struct span parts = {.at = NULL};
	struct span data;
	struct mp_value head = {.count = 0};
	struct mp own;
	uint32_t count = 0;
	size_t fresh = 0;

	ck_assert_ptr_nonnull(m);
	buf_init(&all, 64 << 20);
	draft(&d, rows, changed);
	draft(&want, rows, changed);
	ck_assert_int_eq(grow_add(g, m, &d, digest), 0);
	own = mp_of(buf_span(&find(m, digest)->bytes));
	if (mp_find_span(own, "parts", &parts) == 0) {
		struct mp at = mp_of(parts);

		ck_assert_int_eq(mp_read(&at, &head), 0);
		for (uint32_t i = 0; i < head.count; i++) {
			struct mp_value part;

			ck_assert_int_eq(mp_read(&at, &part), 0);
			take_rows(&all, &count, buf_span(&find(m, part.bytes.at)->bytes));
		}
	}
	ck_assert_int_eq(mp_find_span(own, "data", &data), 0);
	take_rows(&all, &count, data);
	ck_assert_uint_eq(count, rows);
	ck_assert_uint_eq(all.len, want.bytes.len - want.rows_at);
	ck_assert_mem_eq(all.data, want.bytes.data + want.rows_at, all.len);
	for (size_t i = 0; i < m->table_count; i++) {
		size_t k = 0;

		while (k < seen_count && memcmp(seen[k], m->tables[i].digest, DIGEST_BYTES) != 0)
			k++;
		if (k == seen_count) {
			memcpy(seen[seen_count++], m->tables[i].digest, DIGEST_BYTES);
			fresh += m->tables[i].bytes.len;
		}
	}
	*ret_parts = head.count;
	table_draft_done(&d);
	table_draft_done(&want);
	wbx_map_free(m);
	return fresh;
}

START_TEST(a_table_that_grows_is_stored_in_parts_and_reads_whole)
{
	struct grow *g = grow_new();
	size_t total = 0;
	size_t parts = 0;

	for (uint32_t n = 1; n <= 100; n++) {
		total += log_it(g, n * 20, 0, &parts);
		ck_assert_uint_le(parts, 24);
	}
	ck_assert_uint_gt(parts, 1);
	/* 2 MB at the end; each time whole it would be 100 MB */
	ck_assert_uint_lt(total, 8 << 20);
	(void)grow_free(g);
}
END_TEST

START_TEST(the_same_table_again_is_the_same_blobs)
{
	struct grow *g = grow_new();
	size_t parts;

	(void)log_it(g, 500, 0, &parts);
	ck_assert_uint_eq(parts, 0);
	ck_assert_uint_eq(log_it(g, 500, 0, &parts), 0);
	(void)log_it(g, 520, 0, &parts);
	ck_assert_uint_eq(parts, 1);
	ck_assert_uint_eq(log_it(g, 520, 0, &parts), 0);
	(void)grow_free(g);
}
END_TEST

START_TEST(other_tables_are_whole)
{
	struct grow *g = grow_new();
	size_t parts;

	(void)log_it(g, 600, 0, &parts);
	(void)log_it(g, 620, 1, &parts); /* its first row is another */
	ck_assert_uint_eq(parts, 0);
	(void)log_it(g, 640, 300, &parts);
	ck_assert_uint_eq(parts, 0);
	(void)log_it(g, 590, 0, &parts); /* shorter */
	ck_assert_uint_eq(parts, 0);
	(void)log_it(g, 3, 0, &parts); /* small */
	(void)log_it(g, 6, 0, &parts);
	ck_assert_uint_eq(parts, 0);
	(void)log_it(NULL, 600, 0, &parts);
	ck_assert_uint_eq(parts, 0);
	(void)grow_free(g);
}
END_TEST

/* Ten tables, the last of which makes one part of eight; its nth allocation fails, then it is logged
 * again. */
static int grow_and_fail(unsigned nth)
{
	struct grow *g = grow_new();
	struct wbx_map *m = wbx_map_new();
	size_t parts;
	int r = 0;

	for (uint32_t rows = 20; rows <= 200; rows += 20) {
		uint8_t digest[DIGEST_BYTES];
		struct table_draft d;

		wbx_map_clear(m);
		draft(&d, rows, 0);
		mem_fail_at(rows == 200 ? nth : 0);
		r = grow_add(g, m, &d, digest);
		mem_fail_at(0);
		ck_assert(r == 0 || (r == -ENOMEM && rows == 200));
		table_draft_done(&d);
	}
	(void)log_it(g, 220, 0, &parts);
	wbx_map_free(m);
	(void)grow_free(g);
	return r;
}

START_TEST(growing_survives_every_allocation_failure)
{
	unsigned failed = 0;

	/* some it does without: then that table is not remembered */
	for (unsigned nth = 1; nth <= 12; nth++)
		failed += grow_and_fail(nth) == -ENOMEM;
	ck_assert_uint_gt(failed, 0);
}
END_TEST

/* --- the values that C programs put --- */

START_TEST(a_file_is_a_value_with_a_blob_or_with_its_bytes)
{
	struct wbx_map *m = wbx_map_new();
	struct wbx_map *rows = wbx_list_new();
	struct wbx_map *more = wbx_map_new();
	struct wbx_media media = {.type = "image-file", .ext = ".png", .bytes = "abc", .len = 3};
	struct mp_value v;
	struct span value;
	uint8_t head[MAP_HEAD_BYTES];
	auto_buf struct buf whole;

	buf_init(&whole, 4096);
	ck_assert_int_eq(wbx_put_int(more, "width", 2), 0);
	media.more = more;
	ck_assert_int_eq(wbx_put_media(m, "img", &media), 0);
	ck_assert_int_eq(wbx_put_media(m, "again", &media), 0);
	ck_assert_uint_eq(m->table_count, 1); /* the same bytes go once */
	map_head(m, head);
	ck_assert_int_eq(buf_add(&whole, head, sizeof(head)), 0);
	ck_assert_int_eq(buf_add(&whole, m->bytes.data, m->bytes.len), 0);
	ck_assert_int_eq(mp_find_span(mp_of(buf_span(&whole)), "img", &value), 0);
	ck_assert(span_is(mp_get_str(mp_of(value), "_type"), "image-file"));
	ck_assert(span_is(mp_get_str(mp_of(value), "ext"), ".png"));
	ck_assert_uint_eq(mp_get_uint(mp_of(value), "width", 0), 2);
	ck_assert_uint_eq(mp_get_uint(mp_of(value), "size", 0), 3);
	ck_assert_mem_eq(mp_get_bin(mp_of(value), "blob").at, m->tables[0].digest, DIGEST_BYTES);
	media.in_cell = true;
	ck_assert_int_eq(wbx_put_media(rows, NULL, &media), 0);
	ck_assert_uint_eq(rows->table_count, 0);
	value = buf_span(&rows->bytes);
	ck_assert_uint_eq(mp_get_bin(mp_of(value), "data").len, 3);
	wbx_map_clear(rows);
	ck_assert_int_eq(wbx_put_time(rows, NULL, -1, "then"), 0);
	ck_assert_int_eq(mp_find(mp_of(buf_span(&rows->bytes)), "x", &v), -EBADMSG);
	{
		struct mp at = mp_of(buf_span(&rows->bytes));

		ck_assert_int_eq(mp_read(&at, &v), 0);
		ck_assert(v.type == MP_EXT && v.ext_type == 1 && v.bytes.len == 12);
		ck_assert_mem_eq(v.bytes.at, "\xff\xff\xff\xff\xff\xff\xff\xffthen", 12);
	}
	ck_assert_int_eq(wbx_put_media(m, "bad", &(struct wbx_media){.type = "x"}), -EINVAL);
	ck_assert_int_eq(wbx_put_media(NULL, "bad", &media), -EINVAL);
	wbx_map_free(m);
	wbx_map_free(rows);
	wbx_map_free(more);
}
END_TEST

SUITE_MAIN("grow", a_table_that_grows_is_stored_in_parts_and_reads_whole,
	   the_same_table_again_is_the_same_blobs, other_tables_are_whole,
	   growing_survives_every_allocation_failure,
	   a_file_is_a_value_with_a_blob_or_with_its_bytes)
