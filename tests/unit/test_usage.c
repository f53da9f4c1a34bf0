#include "daemon/forward/weave/usage.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

static void check(const struct usage *u, const char *want)
{
	auto_buf struct buf out;
	struct json j;

	buf_init(&out, 1 << 16);
	json_init(&j, &out);
	usage_to_json(u, &j);
	ck_assert_str_eq(buf_text(&out), want);
}

static void add(struct usage *u, const char *text)
{
	auto_buf struct buf room = {.data = NULL};

	ck_assert_int_eq(usage_add_map(u, mp_text(&room, text)), 0);
}

START_TEST(usage_is_summed_by_model_and_field)
{
	struct usage u = {.count = 0};
	struct usage all = {.count = 0};

	add(&u, "{'a':{'requests':1,'total_tokens':10},'b':{'requests':1}}");
	add(&u, "{'a':{'requests':1,'total_tokens':5.0}}");
	check(&u, "{\"a\":{\"requests\":2,\"total_tokens\":15},\"b\":{\"requests\":1}}");
	ck_assert_int_eq(usage_add(&all, &u), 0);
	ck_assert_int_eq(usage_add(&all, &u), 0);
	check(&all, "{\"a\":{\"requests\":4,\"total_tokens\":30},\"b\":{\"requests\":2}}");
	usage_done(&u);
	usage_done(&all);
}
END_TEST

START_TEST(what_is_no_count_is_passed_over)
{
	struct usage u = {.count = 0};

	add(&u, "{'a':{'requests':'many','x':null,'n':-1,'f':NaN,'ok':3},'b':7}");
	add(&u, "[1,2]");
	check(&u, "{\"a\":{\"ok\":3}}");
	usage_done(&u);
}
END_TEST

START_TEST(usage_is_stored_and_read_back)
{
	struct usage u = {.count = 0};
	struct usage back = {.count = 0};
	auto_buf struct buf bytes;

	add(&u, "{'a':{'requests':1,'total_tokens':10},'b':{'requests':1}}");
	buf_init(&bytes, 1 << 16);
	usage_pack(&u, &bytes);
	ck_assert_int_eq(usage_add_map(&back, mp_of(buf_span(&bytes))), 0);
	check(&back, "{\"a\":{\"requests\":1,\"total_tokens\":10},\"b\":{\"requests\":1}}");
	usage_done(&u);
	usage_done(&back);
}
END_TEST

SUITE_MAIN("usage", usage_is_summed_by_model_and_field, what_is_no_count_is_passed_over,
	   usage_is_stored_and_read_back)
