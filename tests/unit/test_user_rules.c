#include "daemon/flow/user_rules.h"
#include "tests/lib/suite.h"

#include <errno.h>
#include <string.h>

static struct user_rules rules; /* every test is a process of its own */

static bool may(uint32_t uid, const char *entity, const char *project)
{
	return user_rules_match(user_rules_find(&rules, uid), entity, project);
}

START_TEST(without_rules_everybody_may_write_everywhere)
{
	ck_assert(may(0, "team", "p"));
	ck_assert(may(1001, "", "p"));
}
END_TEST

START_TEST(with_rules_only_the_listed_may)
{
	ck_assert_int_eq(user_rules_add(&rules, 1001, "team-a, team-b/roll-*"), 0);
	ck_assert_int_eq(user_rules_add(&rules, 100, "team-c"), 0);
	ck_assert(may(1001, "team-a", "any"));
	ck_assert(may(1001, "team-b", "roll-1"));
	ck_assert(!may(1001, "team-b", "rol"));
	ck_assert(!may(1001, "team-ab", "any"));
	ck_assert(!may(1001, "", "any"));
	ck_assert(may(100, "team-c", "p"));
	ck_assert(!may(100, "team-a", "p"));
	ck_assert_uint_eq(user_rules_find(&rules, 10).len, 0);
	ck_assert_uint_eq(user_rules_find(&rules, 10011).len, 0);
}
END_TEST

START_TEST(a_star_is_for_those_without_a_line)
{
	ck_assert_int_eq(user_rules_add(&rules, USER_RULES_ALL, "sandbox"), 0);
	ck_assert_int_eq(user_rules_add(&rules, 1001, "*"), 0);
	ck_assert_int_eq(user_rules_add(&rules, 1002, ""), 0);
	ck_assert(may(1, "sandbox", "p"));
	ck_assert(!may(1, "team", "p"));
	ck_assert(may(1001, "team", "p"));
	ck_assert_uint_eq(user_rules_find(&rules, 1002).len, 0);
	ck_assert(!may(1002, "sandbox", "p"));
}
END_TEST

START_TEST(the_last_line_about_a_user_counts)
{
	ck_assert_int_eq(user_rules_add(&rules, 7, "a"), 0);
	ck_assert_int_eq(user_rules_add(&rules, 7, "b"), 0);
	ck_assert(!may(7, "a", "p"));
	ck_assert(may(7, "b", "p"));
}
END_TEST

START_TEST(what_is_no_pattern_is_refused)
{
	static const char *const bad[] = {"a b", "a,,b",  ",",    "a,", "/p",
					  "a/",  "a/b/c", "a\nb", " "};

	for (size_t i = 0; i < array_len(bad); i++)
		ck_assert_msg(user_rules_add(&rules, 1, bad[i]) == -EINVAL, "%s", bad[i]);
	ck_assert_str_eq(rules.text, "");
}
END_TEST

START_TEST(rules_that_do_not_fit_are_refused_whole)
{
	char patterns[1000];
	int r = 0;
	unsigned count = 0;

	memset(patterns, 'x', sizeof(patterns) - 1);
	patterns[sizeof(patterns) - 1] = '\0';
	while (r == 0 && count < 1000)
		r = user_rules_add(&rules, count++, patterns);
	ck_assert_int_eq(r, -E2BIG);
	ck_assert(may(0, patterns, "p"));
	ck_assert(may(count - 2, patterns, "p"));
	ck_assert_uint_eq(user_rules_find(&rules, count - 1).len, 0);
}
END_TEST

SUITE_MAIN("user_rules", without_rules_everybody_may_write_everywhere,
	   with_rules_only_the_listed_may, a_star_is_for_those_without_a_line,
	   the_last_line_about_a_user_counts, what_is_no_pattern_is_refused,
	   rules_that_do_not_fit_are_refused_whole)
