#include "client/ctl/format.h"
#include "client/ctl/grid.h"
#include "client/ctl/outside.h"
#include "client/ctl/page.h"
#include "tests/lib/suite.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define SECOND ((uint64_t)1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

/* --- numbers --- */

START_TEST(counts_stand_in_thin_groups_until_they_are_large)
{
	ck_assert_str_eq(word_count(0).text, "0");
	ck_assert_str_eq(word_count(999).text, "999");
	ck_assert_str_eq(word_count(1284).text, "1 284");
	ck_assert_str_eq(word_count(1000007).text, "1 000 007");
	ck_assert_str_eq(word_count(9999999).text, "9 999 999");
	ck_assert_str_eq(word_count(10000000).text, "10 M");
	ck_assert_str_eq(word_count(81234567).text, "81.2 M");
	ck_assert_str_eq(word_count(999600000).text, "1 G");
	ck_assert_str_eq(word_count(UINT64_MAX).text, "18447 P");
}
END_TEST

START_TEST(sizes_have_three_digits_and_no_idle_zeros)
{
	ck_assert_str_eq(word_size(0).text, "0 B");
	ck_assert_str_eq(word_size(999).text, "999 B");
	ck_assert_str_eq(word_size(1000).text, "0.98 KiB");
	ck_assert_str_eq(word_size(1024).text, "1 KiB");
	ck_assert_str_eq(word_size((uint64_t)50 << 30).text, "50 GiB");
	ck_assert_str_eq(word_size(((uint64_t)1 << 30) * 124 / 100).text, "1.24 GiB");
	ck_assert_str_eq(word_size(((uint64_t)1 << 30) * 461 / 10).text, "46.1 GiB");
	ck_assert_str_eq(word_size((uint64_t)412 << 30).text, "412 GiB");
	ck_assert_str_eq(word_size(UINT64_MAX).text, "16 EiB");
}
END_TEST

START_TEST(ages_name_two_units_once_they_are_long)
{
	ck_assert_str_eq(word_age(0).text, "0 s");
	ck_assert_str_eq(word_age(119 * SECOND).text, "119 s");
	ck_assert_str_eq(word_age(2 * MINUTE).text, "2 min");
	ck_assert_str_eq(word_age(59 * MINUTE + 59 * SECOND).text, "59 min");
	ck_assert_str_eq(word_age(2 * HOUR + 14 * MINUTE).text, "2 h 14 min");
	ck_assert_str_eq(word_age(3 * DAY + 4 * HOUR).text, "3 d 04 h");
	ck_assert_str_eq(word_age(5000 * DAY).text, "5 000 d");
	ck_assert_str_eq(word_age_short(33 * MINUTE).text, "33 min");
	ck_assert_str_eq(word_age_short(2 * HOUR + 4 * MINUTE).text, "2 h 04 m");
	ck_assert_str_eq(word_age_short(UINT64_MAX).text, "214 G d");
}
END_TEST

START_TEST(forecasts_are_rough)
{
	ck_assert_str_eq(word_rough(41 * SECOND).text, "41 s");
	ck_assert_str_eq(word_rough(33 * MINUTE).text, "33 min");
	ck_assert_str_eq(word_rough(28 * HOUR).text, "28 h");
	ck_assert_str_eq(word_rough(12 * DAY).text, "12 d");
}
END_TEST

START_TEST(rates_and_durations_and_parts_have_their_units)
{
	ck_assert_str_eq(word_rate(0).text, "0");
	ck_assert_str_eq(word_rate(-1).text, "0");
	ck_assert_str_eq(word_rate((double)NAN).text, "0");
	ck_assert_str_eq(word_rate(0.01).text, "0.1");
	ck_assert_str_eq(word_rate(0.4).text, "0.4");
	ck_assert_str_eq(word_rate(1190.4).text, "1 190");
	ck_assert_str_eq(word_rate((double)INFINITY).text, word_count(UINT64_MAX).text);
	ck_assert_str_eq(word_ms(3.14).text, "3.1 ms");
	ck_assert_str_eq(word_ms(12.4).text, "12 ms");
	ck_assert_str_eq(word_ms(14000).text, "14 s");
	ck_assert_str_eq(word_percent(0.78).text, "78 %");
	ck_assert_str_eq(word_percent(0.004).text, "0.4 %");
	ck_assert_str_eq(word_percent(0).text, "0 %");
}
END_TEST

START_TEST(clocks_name_the_day_when_it_is_another)
{
	const uint64_t noon = (uint64_t)1795348800000000; /* 2026-11-22 12:00:00 */

	(void)setenv("TZ", "UTC", 1);
	tzset();
	ck_assert_str_eq(word_clock(noon, noon + 60000000).text, "12:00:00");
	ck_assert_str_eq(word_clock(noon, noon + 86400 * (uint64_t)1000000).text,
			 "2026-11-22 12:00:00");
	ck_assert_str_eq(word_time(noon + 123456).text, "12:00:00.123");
	ck_assert_str_eq(word_stamp(noon + 7000).text, "2026-11-22T12:00:00.007Z");
}
END_TEST

START_TEST(no_word_is_cut)
{
	static const uint64_t extremes[] = {0, 1, UINT32_MAX, INT64_MAX, UINT64_MAX};

	for (size_t i = 0; i < array_len(extremes); i++) {
		uint64_t n = extremes[i];
		const struct word words[] = {
			word_count(n),           word_size(n),  word_age(n),
			word_age_short(n),       word_rough(n), word_stamp(n),
			word_clock(n, 0),        word_time(n),  word_ms((double)n),
			word_percent((double)n),
		};

		for (size_t w = 0; w < array_len(words); w++)
			ck_assert_uint_lt(strlen(words[w].text), sizeof(words[w].text) - 1);
	}
}
END_TEST

START_TEST(durations_are_read_with_their_unit_or_refused)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{"0", 0},         {"90", 90 * SECOND}, {"30s", 30 * SECOND}, {"15m", 15 * MINUTE},
		{"2h", 2 * HOUR}, {"7d", 7 * DAY}};
	static const char *const bad[] = {
		"",        "s", "-1", "1.5h", "1x", "1hh", " 1h", "1 h", "99999999999999999999",
		"1000001d"};
	uint64_t ms = 42;

	for (size_t i = 0; i < array_len(bad); i++)
		ck_assert_int_eq(duration_read(bad[i], &ms), -EINVAL);
	ck_assert_uint_eq(ms, 42);
	for (size_t i = 0; i < array_len(good); i++) {
		ck_assert_int_eq(duration_read(good[i].text, &ms), 0);
		ck_assert_uint_eq(ms, good[i].ms);
	}
	ck_assert_int_eq(number_read("256", 255, &ms), -EINVAL);
	ck_assert_int_eq(number_read("12a", 255, &ms), -EINVAL);
	ck_assert_int_eq(number_read("255", 255, &ms), 0);
}
END_TEST

/* --- text from outside --- */

START_TEST(what_steers_a_terminal_is_made_visible)
{
	static const struct {
		const char *in;
		const char *line;
		const char *json;
	} cases[] = {
		{"plain ü 要約 🙂", "plain ü 要約 🙂", "plain ü 要約 🙂"},
		{"\x1b[2J", "\\x1b[2J", "\\u001b[2J"},
		{"a\nb\tc\rd", "a\\nb\\tc\\rd", "a\\u000ab\\u0009c\\u000dd"},
		{"\x7f", "\\x7f", "\\u007f"},
		{"\xc2\x9b", "\\u{9b}", "\\u009b"},                   /* C1: CSI */
		{"\xe2\x80\xae", "\\u{202e}", "\\u202e"},             /* right to left */
		{"\xf3\xa0\x81\x81", "\\u{e0041}", "\\udb40\\udc41"}, /* a tag */
		{"\xff\xc3", "\\xff\\xc3", "\\xff\\xc3"},
		{"\xed\xa0\x80", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80"}, /* a surrogate */
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf b = {0};

		buf_init(&b, 4096);
		outside_add(&b, span_of_text(cases[i].in), OUTSIDE_LINE);
		ck_assert_str_eq(buf_text(&b), cases[i].line);
		buf_clear(&b);
		outside_add(&b, span_of_text(cases[i].in), OUTSIDE_JSON);
		ck_assert_str_eq(buf_text(&b), cases[i].json);
	}
}
END_TEST

START_TEST(long_texts_keep_their_lines)
{
	auto_buf struct buf b = {0};

	buf_init(&b, 4096);
	outside_add(&b, span_of_text("a\n\tb\x1b"), OUTSIDE_LINES);
	ck_assert_str_eq(buf_text(&b), "a\n\tb\\x1b");
}
END_TEST

START_TEST(texts_are_cut_by_the_columns_they_take)
{
	static const struct {
		const char *in;
		size_t columns;
		const char *out;
	} cases[] = {
		{"abcdef", 6, "abcdef"},     {"abcdef", 5, "abcd…"},
		{"abcdef", 1, "…"},          {"abcdef", 0, ""},
		{"要約要約", 8, "要約要約"}, {"要約要約", 7, "要約要…"},
		{"要約要約", 6, "要約…"},    {"e\xcc\x81x", 2, "e\xcc\x81x"},
		{"\x1b[31m", 6, "\\x1b[…"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf b = {0};

		buf_init(&b, 4096);
		outside_add_cut(&b, span_of_text(cases[i].in), cases[i].columns);
		ck_assert_str_eq(buf_text(&b), cases[i].out);
		ck_assert_uint_le(text_columns(buf_span(&b)), cases[i].columns);
	}
}
END_TEST

START_TEST(a_huge_text_is_cut_without_being_escaped_whole)
{
	auto_buf struct buf text = {0};
	auto_buf struct buf b = {0};

	buf_init(&text, 256 << 20);
	buf_init(&b, 4096);
	ck_assert_int_eq(buf_reserve(&text, 200 << 20), 0);
	memset(text.data, '\x1b',
	       200 << 20); /* four times as long when escaped: above the ceiling */
	text.len = 200 << 20;
	outside_add_cut(&b, buf_span(&text), 9);
	ck_assert_str_eq(buf_text(&b), "\\x1b\\x1b…");
}
END_TEST

/* --- tables, paragraphs --- */

static const struct grid_column columns[] = {
	{"NAME", false, 0, 6}, {"N", true, 4, 0}, {"WHY", false, 0, 0}};

static int print_grid(struct buf *out, size_t page, bool has_why)
{
	struct grid g;
	int r;

	grid_init(&g, columns, array_len(columns));
	grid_add_text(&g, "a");
	grid_add_text(&g, "1 284");
	grid_add_text(&g, has_why ? "because\nof it" : "");
	grid_add_text(&g, "要約要約");
	grid_add_text(&g, "7");
	grid_add_text(&g, "");
	grid_print(&g, out, page);
	grid_done(&g);
	r = out->error;
	return r;
}

START_TEST(columns_are_as_wide_as_their_widest_cell)
{
	auto_buf struct buf b = {0};

	buf_init(&b, 4096);
	ck_assert_int_eq(print_grid(&b, SIZE_MAX, true), 0);
	ck_assert_str_eq(buf_text(&b), "NAME       N  WHY\n"
				       "a      1 284  because\\nof it\n"
				       "要約…      7\n");
}
END_TEST

START_TEST(the_last_column_is_cut_to_the_page_and_left_out_when_empty)
{
	auto_buf struct buf b = {0};

	buf_init(&b, 4096);
	ck_assert_int_eq(print_grid(&b, 20, true), 0);
	ck_assert_ptr_nonnull(strstr(buf_text(&b), "a      1 284  becau…\n"));
	buf_clear(&b);
	ck_assert_int_eq(print_grid(&b, 20, false), 0);
	ck_assert_ptr_null(strstr(buf_text(&b), "WHY"));
}
END_TEST

static int print_fresh_grid(void)
{
	auto_buf struct buf b = {0};

	buf_init(&b, 4096);
	return print_grid(&b, SIZE_MAX, true);
}

START_TEST(a_table_survives_every_allocation_failure)
{
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(print_fresh_grid(), (void)0), 0);
}
END_TEST

START_TEST(paragraphs_are_wrapped_behind_their_label)
{
	auto_buf struct buf b = {0};

	buf_init(&b, 4096);
	page_add(&b, "status",
		 span_of_text("The quick brown fox jumps over the lazy dog, and the dog does not "
			      "mind at all, since 12 345 others do.\nsecond"));
	page_add(&b, NULL, span_of_text("third"));
	page_add(&b, "empty", span_of_text(""));
	ck_assert_str_eq(buf_text(&b),
			 "  status: The quick brown fox jumps over the lazy dog, and the dog does "
			 "not mind at all, since\n"
			 "          12 345 others do.\n"
			 "          second\n"
			 "          third\n");
}
END_TEST

START_TEST(a_word_wider_than_the_page_is_cut_and_a_number_keeps_its_unit)
{
	auto_buf struct buf b = {0};
	char word[200];

	memset(word, 'x', sizeof(word));
	word[199] = '\0';
	buf_init(&b, 4096);
	page_add(&b, "a", span_of_text(word));
	ck_assert_uint_eq(b.len, 199 + 3 * 11);
	buf_clear(&b);
	memcpy(word + 84, " of 50 GiB and so on", 20);
	word[104] = '\0';
	page_add(&b, "a", span_of_text(word));
	ck_assert_ptr_nonnull(strstr(buf_text(&b), "x of\n          50 GiB and so on\n"));
}
END_TEST

SUITE_MAIN("ctl_format", counts_stand_in_thin_groups_until_they_are_large,
	   sizes_have_three_digits_and_no_idle_zeros, ages_name_two_units_once_they_are_long,
	   forecasts_are_rough, rates_and_durations_and_parts_have_their_units,
	   clocks_name_the_day_when_it_is_another, no_word_is_cut,
	   durations_are_read_with_their_unit_or_refused, what_steers_a_terminal_is_made_visible,
	   long_texts_keep_their_lines, texts_are_cut_by_the_columns_they_take,
	   a_huge_text_is_cut_without_being_escaped_whole, columns_are_as_wide_as_their_widest_cell,
	   the_last_column_is_cut_to_the_page_and_left_out_when_empty,
	   a_table_survives_every_allocation_failure, paragraphs_are_wrapped_behind_their_label,
	   a_word_wider_than_the_page_is_cut_and_a_number_keeps_its_unit)
