#include "proto/base/json.h"
#include "proto/base/rng.h"
#include "tests/lib/suite.h"

#include <math.h>
#include <string.h>

START_TEST(json_puts_commas_and_colons_itself)
{
	auto_buf struct buf b;
	struct json j;

	buf_init(&b, 4096);
	json_init(&j, &b);
	json_open_object(&j);
	json_put_key_text(&j, "a");
	json_put_int(&j, -5);
	json_put_key_text(&j, "list");
	json_open_array(&j);
	json_put_bool(&j, true);
	json_put_null(&j);
	json_open_object(&j);
	json_close_object(&j);
	json_put_uint(&j, UINT64_MAX);
	json_close_array(&j);
	json_put_key_text(&j, "t");
	json_put_text(&j, "x");
	json_close_object(&j);
	ck_assert_str_eq(buf_text(&b),
			 "{\"a\":-5,\"list\":[true,null,{},18446744073709551615],\"t\":\"x\"}");
}
END_TEST

START_TEST(json_strings_are_escaped_and_bad_bytes_replaced)
{
	static const struct {
		const char *in;
		const char *out;
	} cases[] = {
		{"", ""},
		{"a\"b\\c", "a\\\"b\\\\c"},
		{"\n\r\t\x01\x7f", "\\n\\r\\t\\u0001\x7f"},
		{"na\xc3\xafve \xf0\x9f\x99\x82", "na\xc3\xafve \xf0\x9f\x99\x82"},
		{"\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xed\xa0\xbd",
		 "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a lone surrogate, three bytes */
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf b;

		buf_init(&b, 4096);
		json_escape(&b, span_of_text(cases[i].in));
		ck_assert_str_eq(buf_text(&b), cases[i].out);
	}
}
END_TEST

START_TEST(json_keeps_a_nul_inside_a_string)
{
	auto_buf struct buf b;

	buf_init(&b, 100);
	json_escape(&b, (struct span){.at = (const uint8_t *)"a\0b", .len = 3});
	ck_assert_str_eq(buf_text(&b), "a\\u0000b");
}
END_TEST

START_TEST(json_doubles_are_short_and_read_back)
{
	static const struct {
		double value;
		const char *text;
	} cases[] = {
		{0.0, "0"},
		{1.0, "1"},
		{-2.5, "-2.5"},
		{0.1, "0.1"},
		{0.1 + 0.2, "0.30000000000000004"},
		{1e22, "1e+22"},
		{5e-324, "4.94065645841247e-324"},
		{1795346659.1464021, "1795346659.1464021"},
	};
	char text[JSON_DOUBLE_MAX];

	for (size_t i = 0; i < array_len(cases); i++) {
		(void)json_format_double(text, cases[i].value);
		ck_assert_str_eq(text, cases[i].text);
	}
	(void)json_format_double(text, (double)NAN);
	ck_assert_str_eq(text, "NaN");
	(void)json_format_double(text, -(double)INFINITY);
	ck_assert_str_eq(text, "-Infinity");
}
END_TEST

START_TEST(json_doubles_of_any_bits_read_back_equal)
{
	struct rng rng = {.state = 7};
	char text[JSON_DOUBLE_MAX];

	for (int i = 0; i < 200000; i++) {
		uint64_t bits = rng_next(&rng);
		double value;
		double back;

		memcpy(&value, &bits, sizeof(value));
		if (!isfinite(value))
			continue;
		ck_assert_uint_lt(json_format_double(text, value), JSON_DOUBLE_MAX);
		back = strtod(text, NULL);
		ck_assert_int_eq(memcmp(&back, &value, sizeof(back)), 0);
	}
}
END_TEST

static int write_all(struct buf *b)
{
	struct json j;

	buf_done(b);
	json_init(&j, b);
	json_open_array(&j);
	for (int i = 0; i < 100; i++)
		json_put_double(&j, i / 7.0);
	json_close_array(&j);
	return b->error;
}

START_TEST(json_survives_every_allocation_failure)
{
	auto_buf struct buf b;

	buf_init(&b, 1 << 16);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(write_all(&b), buf_done(&b)), 0);
	ck_assert_int_eq(b.data[b.len - 1], ']');
}
END_TEST

START_TEST(words_that_are_no_json_are_replaced_outside_of_strings)
{
	static const struct json_word words[] = {{"NaN", "1"}, {"-Infinity", "\"-i\""}};
	static const struct {
		const char *text;
		const char *replaced;
		size_t string_len; /* of the text as a string */
	} cases[] = {
		{"", "", 0},
		{"[NaN,-Infinity,Infinity]", "[1,\"-i\",Infinity]", 0},
		{"\"NaN\"", "\"NaN\"", 5},
		{"\"\\\"NaN\\\\\":NaN", "\"\\\"NaN\\\\\":1", 9},
		{"\"NaN", "\"NaN", 0}, /* it does not end */
		{"\"\\", "\"\\", 0},
		{"Na", "Na", 0},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf out;

		buf_init(&out, 1000);
		json_replace_words(&out, span_of_text(cases[i].text), words, array_len(words));
		ck_assert_str_eq(buf_text(&out), cases[i].replaced);
		if (cases[i].text[0] == '"')
			ck_assert_uint_eq(json_string_len(span_of_text(cases[i].text)),
					  cases[i].string_len);
	}
}
END_TEST

SUITE_MAIN("json", json_puts_commas_and_colons_itself,
	   json_strings_are_escaped_and_bad_bytes_replaced, json_keeps_a_nul_inside_a_string,
	   json_doubles_are_short_and_read_back, json_doubles_of_any_bits_read_back_equal,
	   json_survives_every_allocation_failure,
	   words_that_are_no_json_are_replaced_outside_of_strings)
