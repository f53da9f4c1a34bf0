#include "proto/base/buf.h"
#include "proto/base/utf8.h"
#include "tests/lib/suite.h"

#include <string.h>
#include <unistd.h>

START_TEST(buf_grows_up_to_its_ceiling_and_no_further)
{
	auto_buf struct buf b;

	buf_init(&b, 1000);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(buf_add_byte(&b, (uint8_t)i), 0);
	ck_assert_int_eq(buf_add_byte(&b, 0), -EMSGSIZE);
	ck_assert_uint_eq(b.len, 1000);
	ck_assert_int_eq(buf_add_text(&b, ""), -EMSGSIZE); /* the error stays */
	buf_clear(&b);
	ck_assert_int_eq(buf_add_text(&b, "again"), 0);
}
END_TEST

START_TEST(buf_refuses_lengths_that_would_wrap)
{
	auto_buf struct buf b;

	buf_init(&b, SIZE_MAX);
	ck_assert_int_eq(buf_add_text(&b, "abc"), 0);
	ck_assert_int_eq(buf_reserve(&b, SIZE_MAX - 2), -EMSGSIZE);
	ck_assert_uint_eq(b.len, 3);
}
END_TEST

static int print_into(struct buf *b)
{
	buf_clear(b);
	return buf_printf(b, "%s %d %0300d", "run", 7, 1);
}

START_TEST(buf_printf_survives_every_allocation_failure)
{
	auto_buf struct buf b;

	buf_init(&b, 4096);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(print_into(&b), buf_done(&b)), 0);
	ck_assert_uint_eq(b.len, 306);
	ck_assert_int_eq(memcmp(buf_text(&b), "run 7 000", 9), 0);
}
END_TEST

START_TEST(buf_drop_front_keeps_the_rest)
{
	auto_buf struct buf b;

	buf_init(&b, 100);
	ck_assert_int_eq(buf_add_text(&b, "headtail"), 0);
	buf_drop_front(&b, 4);
	ck_assert(span_is(buf_span(&b), "tail"));
	buf_drop_front(&b, 4);
	ck_assert_uint_eq(b.len, 0);
}
END_TEST

START_TEST(buf_trim_gives_big_memory_back)
{
	auto_buf struct buf b;

	buf_init(&b, 1 << 20);
	ck_assert_int_eq(buf_reserve(&b, 1 << 19), 0);
	buf_trim(&b, 1 << 20);
	ck_assert_uint_eq(b.cap, 1 << 19);
	buf_trim(&b, 1024);
	ck_assert_uint_eq(b.cap, 0);
}
END_TEST

START_TEST(buf_write_gives_all_of_it_or_an_error)
{
	auto_buf struct buf b;
	char got[16] = "";
	int ends[2];

	buf_init(&b, 8);
	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(buf_add_text(&b, "a word"), 0);
	ck_assert_int_eq(buf_write(&b, ends[1]), 0);
	ck_assert_int_eq(read(ends[0], got, sizeof(got)), 6);
	ck_assert_str_eq(got, "a word");
	ck_assert_int_eq(buf_add_text(&b, "too much"), -EMSGSIZE);
	ck_assert_int_eq(buf_write(&b, ends[1]), -EMSGSIZE);
	b.error = 0;
	ck_assert_int_eq(buf_write(&b, -1), -EBADF);
	ck_assert_int_eq(close(ends[0]), 0);
	ck_assert_int_eq(close(ends[1]), 0);
}
END_TEST

START_TEST(mem_room_grows_an_array_or_leaves_it)
{
	int *items = NULL;
	size_t cap = 0;

	for (int i = 0; i < 1000; i++) {
		size_t had = cap;

		mem_fail_at(1);
		if ((size_t)i == had) { /* full: this one needs memory */
			ck_assert_int_eq(mem_room(items, (size_t)i, cap), -ENOMEM);
			ck_assert_uint_eq(cap, had);
		}
		mem_fail_at(0);
		ck_assert_int_eq(mem_room(items, (size_t)i, cap), 0);
		ck_assert_uint_gt(cap, (size_t)i);
		items[i] = i;
	}
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(items[i], i);
	(void)mem_free(items);
}
END_TEST

START_TEST(utf8_takes_what_rfc_3629_takes)
{
	static const struct {
		const char *bytes;
		bool valid;
	} cases[] = {
		{"", true},
		{"plain", true},
		{"na\xc3\xafve \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x99\x82", true},
		{"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", true},
		{"\x80", false},             /* a tail alone */
		{"\xc0\xaf", false},         /* overlong */
		{"\xe0\x9f\xbf", false},     /* overlong */
		{"\xf0\x8f\xbf\xbf", false}, /* overlong */
		{"\xed\xa0\x80", false},     /* surrogate */
		{"\xf4\x90\x80\x80", false}, /* above U+10FFFF */
		{"\xe6\x97", false},         /* cut off */
		{"\xff", false},
	};

	for (size_t i = 0; i < array_len(cases); i++)
		ck_assert_msg(utf8_valid(span_of_text(cases[i].bytes)) == cases[i].valid,
			      "case %zu", i);
}
END_TEST

SUITE_MAIN("buf", buf_grows_up_to_its_ceiling_and_no_further, buf_refuses_lengths_that_would_wrap,
	   buf_printf_survives_every_allocation_failure, buf_drop_front_keeps_the_rest,
	   buf_trim_gives_big_memory_back, buf_write_gives_all_of_it_or_an_error,
	   mem_room_grows_an_array_or_leaves_it, utf8_takes_what_rfc_3629_takes)
