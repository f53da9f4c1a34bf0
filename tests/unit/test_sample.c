#include "daemon/forward/weave/sample.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <stdio.h>

static const struct sample_rule *rule_of(struct sample_rules *r, const char *words)
{
	const char *why = NULL;

	*r = (struct sample_rules){.count = 0};
	ck_assert_int_eq(sample_rules_add(r, "*", words, &why), 0);
	return sample_rules_find(r, "run", "op");
}

START_TEST(the_last_rule_that_fits_counts)
{
	struct sample_rules r = {.count = 0};
	const char *why = NULL;

	ck_assert_ptr_null(sample_rules_find(&r, "r", "judge_a"));
	ck_assert_int_eq(sample_rules_add(&r, "*", "roots=10", &why), 0);
	ck_assert_int_eq(sample_rules_add(&r, "judge_*", "roots=4 day=2G", &why), 0);
	ck_assert_int_eq(sample_rules_add(&r, "smoke/*", "roots=1", &why), 0);
	ck_assert_int_eq(sample_rules_find(&r, "r", "x")->roots, 10);
	ck_assert_int_eq(sample_rules_find(&r, "r", "judge_a")->per_day, (int64_t)2 << 30);
	ck_assert_int_eq(sample_rules_find(&r, "smoke", "judge_a")->roots, 1);
}
END_TEST

START_TEST(a_rule_that_is_none_is_refused)
{
	static const char *const bad[] = {"roots=0",   "roots",    "step=-1", "day=1Q",
					  "low=often", "high=nan", "what=1",  "day=9999999999999G"};
	struct sample_rules r = {.count = 0};
	const char *why = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(sample_rules_add(&r, "*", bad[i], &why), -EINVAL);
	ck_assert_ptr_nonnull(why);
	ck_assert_uint_eq(r.count, 0);
}
END_TEST

START_TEST(one_of_so_many_is_chosen_and_the_same_one_always)
{
	struct sample_rules r;
	const struct sample_rule *rule = rule_of(&r, "roots=10");
	unsigned sent = 0;

	for (unsigned i = 0; i < 10000; i++) {
		char id[40];
		struct sample_facts f = {.trace = id};

		(void)snprintf(id, sizeof(id), "01a202e2-2861-7dfc-a78c-%012x", i);
		sent += sample_sends(rule, &f);
		ck_assert(sample_sends(rule, &f) == sample_sends(rule, &f));
	}
	ck_assert_uint_gt(sent, 850);
	ck_assert_uint_lt(sent, 1150);
}
END_TEST

START_TEST(failures_and_extreme_scores_pass_all_but_the_budget)
{
	struct sample_rules r;
	const struct sample_rule *rule = rule_of(&r, "roots=1000000 step=1 day=1000");
	struct sample_facts f = {.trace = "t", .kept = 5, .day_bytes = 100, .bytes = 100};

	ck_assert(!sample_sends(rule, &f));
	f.has_error = true;
	ck_assert(sample_sends(rule, &f));
	f.has_error = false;
	f.is_extreme = true;
	ck_assert(sample_sends(rule, &f));
	f.day_bytes = 950;
	ck_assert(!sample_sends(rule, &f));
}
END_TEST

static bool is_extreme(const char *words, const char *value)
{
	auto_buf struct buf room = {.data = NULL};
	struct sample_rules r;

	return sample_is_extreme(rule_of(&r, words), mp_text(&room, value));
}

START_TEST(a_score_is_found_where_it_stands)
{
	ck_assert(is_extreme("low=0.1", "0.1"));
	ck_assert(!is_extreme("low=0.1", "0.2"));
	ck_assert(is_extreme("high=0.9", "{'reason':'x','score':1}"));
	ck_assert(is_extreme("high=0.9", "[0.5,'x',{'a':1},0.9]"));
	ck_assert(!is_extreme("low=0.1 high=0.9", "{'other':0}"));
	ck_assert(!is_extreme("low=0.1", "'text'"));
}
END_TEST

SUITE_MAIN("sample", the_last_rule_that_fits_counts, a_rule_that_is_none_is_refused,
	   one_of_so_many_is_chosen_and_the_same_one_always,
	   failures_and_extreme_scores_pass_all_but_the_budget, a_score_is_found_where_it_stands)
