#include "daemon/flow/reader.h"
#include "daemon/forward/models/digest.h"
#include "proto/pack.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

/* A reader of one blob in memory. */
struct reader {
	struct span bytes;
	int result;
};

static const uint8_t digest[DIGEST_BYTES] = {1, 2, 3};

int reader_blob(struct reader *r, struct span name, int64_t offset, void *ret_bytes, size_t len,
		size_t *ret_len)
{
	size_t at = (size_t)offset;

	ck_assert_uint_eq(name.len, DIGEST_BYTES);
	ck_assert_int_eq(memcmp(name.at, digest, DIGEST_BYTES), 0);
	if (r->result < 0)
		return r->result;
	if (len > r->bytes.len - at)
		len = r->bytes.len - at;
	memcpy(ret_bytes, r->bytes.at + at, len);
	*ret_len = len;
	return 0;
}

/* The number of slices that it took, or -ENOMEM. */
static int run(struct digest_job **ret, struct reader *reader)
{
	struct span name = {.at = digest, .len = sizeof(digest)};
	int slices = 1;

	*ret = digest_new(ret, NULL, name);
	if (*ret == NULL)
		return -ENOMEM;
	ck_assert_int_eq((*ret)->result, -ECANCELED); /* until it has run */
	while ((*ret)->job.step(&(*ret)->job, reader) == JOB_AGAIN)
		slices++;
	return (*ret)->result == -ENOMEM ? -ENOMEM : slices;
}

static void check_sum(const struct digest_job *d, const char *text)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	char hex[2 * DIGEST_BYTES + 1];
	unsigned len = 0;

	ck_assert_int_eq(EVP_Digest(text, strlen(text), sum, &len, EVP_sha256(), NULL), 1);
	ck_assert_uint_eq(len, DIGEST_BYTES);
	for (unsigned i = 0; i < len; i++)
		(void)snprintf(hex + (size_t)2 * i, 3, "%02x", sum[i]); /* two digits, a NUL */
	ck_assert_str_eq(d->sha256, hex);
	ck_assert_int_eq(d->size, (int64_t)strlen(text));
}

START_TEST(a_digest_is_that_of_the_run_file)
{
	auto_buf struct buf room = {.data = NULL};
	struct reader reader;
	struct digest_job *d;

	(void)mp_text(&room, "{'columns':['a','b'],'data':[[1,'x'],[NaN,'y'],[null,'z']]}");
	reader = (struct reader){.bytes = buf_span(&room)};
	ck_assert_int_gt(run(&d, &reader), 1);
	ck_assert_int_eq(d->result, 0);
	check_sum(d, "{\"columns\":[\"a\",\"b\"],\"data\":[[1,\"x\"],[NaN,\"y\"],[null,\"z\"]]}");
	ck_assert_uint_eq(d->rows, 3);
	ck_assert_uint_eq(d->columns, 2);
	ck_assert_ptr_null(digest_free(d));
	ck_assert_ptr_null(digest_free(NULL));
}
END_TEST

/* Many rows: it goes slice by slice, and the sum is that of the whole. */
static void make_table(struct buf *blob, struct buf *text, unsigned rows)
{
	struct pack p;

	buf_init(blob, 64 << 20);
	buf_init(text, 64 << 20);
	pack_init(&p, blob);
	pack_map(&p, 2);
	pack_text(&p, "columns");
	pack_array(&p, 1);
	pack_text(&p, "n");
	pack_text(&p, "data");
	pack_array(&p, rows);
	(void)buf_add_text(text, "{\"columns\":[\"n\"],\"data\":["); /* the buf remembers */
	for (unsigned i = 0; i < rows; i++) {
		pack_array(&p, 1);
		pack_uint(&p, (uint64_t)i * 1000000);
		(void)buf_printf(text, "%s[%llu]", i > 0 ? "," : "", /* as above */
				 (unsigned long long)i * 1000000);
	}
	(void)buf_add_text(text, "]}"); /* as above */
	ck_assert_int_eq(blob->error, 0);
	ck_assert_int_eq(text->error, 0);
}

START_TEST(a_long_table_is_digested_in_slices)
{
	auto_buf struct buf blob;
	auto_buf struct buf text;
	struct reader reader;
	struct digest_job *d;

	make_table(&blob, &text, TABLE_FILE_ROWS_MAX);
	reader = (struct reader){.bytes = buf_span(&blob)};
	ck_assert_int_ge(run(&d, &reader), 2);
	ck_assert_int_eq(d->result, 0);
	check_sum(d, buf_text(&text));
	d = digest_free(d);
}
END_TEST

START_TEST(what_cannot_be_digested_says_why)
{
	struct reader none = {.result = -ENOENT};
	struct reader sick = {.result = -EIO};
	struct reader no_table = {.bytes = SPAN_LITERAL("\x93\x01\x02\x03")};
	struct digest_job *d;

	(void)run(&d, &none);
	ck_assert_int_eq(d->result, -ENOENT);
	d = digest_free(d);
	(void)run(&d, &sick);
	ck_assert_int_eq(d->result, -EIO);
	d = digest_free(d);
	(void)run(&d, &no_table);
	ck_assert_int_eq(d->result, -EBADMSG);
	ck_assert_str_eq(d->sha256, "");
	d = digest_free(d);
	(void)run(&d, NULL); /* the store cannot be read now */
	ck_assert_int_eq(d->result, -EAGAIN);
	d = digest_free(d);
}
END_TEST

START_TEST(a_digest_survives_every_allocation_failure)
{
	auto_buf struct buf blob;
	auto_buf struct buf text;
	struct reader reader;
	struct digest_job *d = NULL;

	make_table(&blob, &text, 1000);
	reader = (struct reader){.bytes = buf_span(&blob)};
	ck_assert_int_ge(WITH_EACH_ALLOCATION_FAILING(run(&d, &reader), d = digest_free(d)), 1);
	check_sum(d, buf_text(&text));
	d = digest_free(d);
}
END_TEST

SUITE_MAIN("digest", a_digest_is_that_of_the_run_file, a_long_table_is_digested_in_slices,
	   what_cannot_be_digested_says_why, a_digest_survives_every_allocation_failure)
