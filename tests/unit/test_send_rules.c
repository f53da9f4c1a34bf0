#include "daemon/flow/send_rules.h"
#include "tests/lib/suite.h"

#include <errno.h>

START_TEST(rules_for_tables_are_read)
{
	static const char *const bad[] = {"",           "most",      "every",      "every 0",
					  "every -1",   "every 2 ",  "every 1e3",  "every 10000000",
					  "sample",     "sample x",  "sample 1.1", "sample -0.1",
					  "sample nan", "all of it", "none ",      "AUTO"};
	struct send_tables_rule rule = {.what = SEND_AUTO};

	for (size_t i = 0; i < array_len(bad); i++)
		ck_assert_msg(send_tables_parse(bad[i], &rule) == -EINVAL, "\"%s\"", bad[i]);
	ck_assert_int_eq(send_tables_parse("all", &rule), 0);
	ck_assert_int_eq((int)rule.what, (int)SEND_ALL);
	ck_assert_int_eq(send_tables_parse("auto", &rule), 0);
	ck_assert_int_eq((int)rule.what, (int)SEND_AUTO);
	ck_assert_int_eq(send_tables_parse("none", &rule), 0);
	ck_assert(!send_tables_goes(&rule, 0, 0));
	ck_assert_int_eq(send_tables_parse("every 3", &rule), 0);
	for (int64_t nth = 0; nth < 9; nth++)
		ck_assert_int_eq(send_tables_goes(&rule, nth, 7), nth % 3 == 0);
}
END_TEST

START_TEST(a_sample_is_as_large_as_it_was_asked_for_and_always_the_same)
{
	struct send_tables_rule rule;
	uint32_t dice = 1;
	int count = 0;

	ck_assert_int_eq(send_tables_parse("sample 0.25", &rule), 0);
	for (int i = 0; i < 10000; i++) {
		dice = dice * 1664525 + 1013904223;
		count += send_tables_goes(&rule, i, dice);
		ck_assert_int_eq(send_tables_goes(&rule, i, dice),
				 send_tables_goes(&rule, 0, dice));
	}
	ck_assert_int_gt(count, 2300);
	ck_assert_int_lt(count, 2700);
	ck_assert_int_eq(send_tables_parse("sample 0", &rule), 0);
	ck_assert(!send_tables_goes(&rule, 0, 0));
	ck_assert_int_eq(send_tables_parse("sample 1", &rule), 0);
	ck_assert(send_tables_goes(&rule, 0, UINT32_MAX));
}
END_TEST

START_TEST(hours_may_go_over_midnight)
{
	static const char *const bad[] = {"22",           "22:00",       "22:00-6:00",
					  "22:60-06:00",  "24:01-01:00", "22:00 06:00",
					  "22:00-06:000", "-1:00-02:00"};
	struct send_hours hours;

	for (size_t i = 0; i < array_len(bad); i++)
		ck_assert_msg(send_hours_parse(bad[i], &hours) == -EINVAL, "\"%s\"", bad[i]);
	ck_assert_int_eq(send_hours_parse("", &hours), 0);
	ck_assert(send_hours_have(&hours, 0) && send_hours_have(&hours, 1439));
	ck_assert_int_eq(send_hours_parse("22:00-06:30", &hours), 0);
	ck_assert(send_hours_have(&hours, 22 * 60) && send_hours_have(&hours, 0));
	ck_assert(send_hours_have(&hours, 389) && !send_hours_have(&hours, 390));
	ck_assert(!send_hours_have(&hours, 1319));
	ck_assert_int_eq(send_hours_parse("09:00-17:00", &hours), 0);
	ck_assert(send_hours_have(&hours, 540) && !send_hours_have(&hours, 539));
	ck_assert(!send_hours_have(&hours, 1020));
	ck_assert_int_eq(send_hours_parse("18:00-24:00", &hours), 0);
	ck_assert(send_hours_have(&hours, 1439) && !send_hours_have(&hours, 0));
}
END_TEST

SUITE_MAIN("send_rules", rules_for_tables_are_read,
	   a_sample_is_as_large_as_it_was_asked_for_and_always_the_same, hours_may_go_over_midnight)
