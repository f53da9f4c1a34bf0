#include "daemon/forward/compare.h"
#include "proto/mp.h"
#include "tests/lib/suite.h"

#include <string.h>

static struct buf list;

static int compare(struct differences *d, const char *here, const char *there)
{
	buf_done(&list);
	buf_init(&list, 1 << 20);
	*d = (struct differences){.count = 0};
	pack_init(&d->to, &list);
	return compare_objects(d, "summary", span_of_text(here), span_of_text(there));
}

START_TEST(the_same_values_are_no_difference_however_they_are_written)
{
	static const char *const pairs[][2] = {
		{"{\"a\":1,\"b\":[1,{\"c\":null}]}", "{\"b\": [1.0, {\"c\": null}], \"a\": 1e0}"},
		{"{\"a\":NaN,\"b\":-Infinity,\"c\":Infinity}",
		 "{\"a\":\"NaN\",\"b\":\"-Infinity\",\"c\":\"Infinity\"}"},
		{"{\"t\":\"a \\\"NaN\\\" \\\\\"}", "{\"t\":\"a \\\"NaN\\\" \\\\\"}"},
		{"{\"_step\":1}", "{}"},
		{"{}", "{\"of_others\":1}"},
		{"", ""},
	};

	for (size_t i = 0; i < array_len(pairs); i++) {
		struct differences d;

		ck_assert_int_eq(compare(&d, pairs[i][0], pairs[i][1]), 0);
		ck_assert_uint_eq(d.count, 0);
	}
	buf_done(&list);
}
END_TEST

START_TEST(a_difference_is_told_with_both_values)
{
	struct differences d;
	struct mp at;

	ck_assert_int_eq(
		compare(&d, "{\"same\":1,\"a\":0.5,\"b\":{\"x\":1}}", "{\"same\":1,\"a\":0.25}"),
		0);
	ck_assert_uint_eq(d.keys, 3);
	ck_assert_uint_eq(d.count, 2);
	at = mp_of(buf_span(&list));
	ck_assert(span_is(mp_get_str(at, "key"), "a"));
	ck_assert(span_is(mp_get_str(at, "what"), "summary"));
	ck_assert(span_is(mp_get_str(at, "here"), "0.5"));
	ck_assert(span_is(mp_get_str(at, "there"), "0.25"));
	ck_assert_int_eq(mp_skip(&at, NULL), 0);
	ck_assert(span_is(mp_get_str(at, "key"), "b"));
	ck_assert_ptr_null(mp_get_str(at, "there").at);
	buf_done(&list);
}
END_TEST

START_TEST(many_differences_are_counted_and_some_told)
{
	struct buf text;
	struct differences d;

	buf_init(&text, 1 << 20);
	(void)buf_add_text(&text, "{\"k\":1");
	for (int i = 1; i < 2 * DIFFERENCES_MAX; i++)
		(void)buf_printf(&text, ",\"k%d\":1", i);
	(void)buf_add_text(&text, "}");
	ck_assert_int_eq(compare(&d, buf_text(&text), "{}"), 0);
	ck_assert_uint_eq(d.count, 2 * DIFFERENCES_MAX);
	ck_assert_uint_eq(d.told, DIFFERENCES_MAX);
	buf_done(&text);
	buf_done(&list);
}
END_TEST

START_TEST(what_is_no_object_is_refused)
{
	struct differences d;

	ck_assert_int_eq(compare(&d, "{}", "[1]"), -EBADMSG);
	ck_assert_int_eq(compare(&d, "{", "{}"), -EBADMSG);
	buf_done(&list);
}
END_TEST

SUITE_MAIN("compare", the_same_values_are_no_difference_however_they_are_written,
	   a_difference_is_told_with_both_values, many_differences_are_counted_and_some_told,
	   what_is_no_object_is_refused)
