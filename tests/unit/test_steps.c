#include "daemon/forward/weave/steps.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <string.h>

static unsigned take(struct steps *s, enum kind kind, uint64_t time_us, const char *body,
		     struct step_mark ret[2])
{
	auto_buf struct buf room = {.data = NULL};
	struct record r = {.kind = kind, .time_us = time_us};

	(void)mp_text(&room, body);
	r.body = buf_span(&room);
	return steps_take(s, &r, ret);
}

static int64_t of(const struct steps *s, int64_t counted, int64_t explicit_step, int64_t metric)
{
	return steps_of(s, (const int64_t[]){counted, explicit_step, metric});
}

START_TEST(the_step_metric_says_which_step_is_over)
{
	struct steps s = {.counted = 0};
	struct step_mark m[2];

	ck_assert_uint_eq(
		take(&s, KIND_DEFINE, 1, "{'name':'*','step_metric':'train/global_step'}", m), 0);
	ck_assert_int_eq(of(&s, -1, -1, -1), 1); /* the first one is not over */
	ck_assert_uint_eq(take(&s, KIND_LOG, 2, "{'data':{'profiling/x':1.5}}", m), 0);
	ck_assert_uint_eq(take(&s, KIND_LOG, 3, "{'data':{'loss':1,'train/global_step':1}}", m), 1);
	ck_assert_int_eq(m[0].mode, STEP_METRIC);
	ck_assert_int_eq(m[0].time_us, 3);
	ck_assert_int_eq(m[0].step, 1);
	ck_assert_uint_eq(take(&s, KIND_LOG, 4, "{'data':{'a':1,'train/global_step':1}}", m), 0);
	ck_assert_int_eq(of(&s, -1, -1, 1), 2);
}
END_TEST

START_TEST(without_a_metric_it_is_the_step_of_log_or_the_number_of_rows)
{
	struct steps s = {.counted = 0};
	struct step_mark m[2];

	ck_assert_int_eq(of(&s, -1, -1, -1), -1);
	ck_assert_uint_eq(take(&s, KIND_LOG, 1, "{'data':{'a':1}}", m), 1);
	ck_assert_int_eq(m[0].mode, STEP_COUNTED);
	ck_assert_int_eq(of(&s, 0, -1, -1), 1);
	ck_assert_uint_eq(take(&s, KIND_LOG, 2, "{'data':{'a':1},'step':7}", m), 1);
	ck_assert_int_eq(m[0].mode, STEP_EXPLICIT);
	ck_assert_int_eq(of(&s, 0, 7, -1), 8);
	ck_assert_uint_eq(take(&s, KIND_LOG, 3, "{'data':{'a':1}}", m), 0);
}
END_TEST

START_TEST(the_usual_metric_goes_before_another_one)
{
	struct steps s = {.counted = 0};
	struct step_mark m[2];

	(void)take(&s, KIND_DEFINE, 1, "{'name':'x','step_metric':'_timestamp'}", m);
	ck_assert_str_eq(s.metric, "");
	(void)take(&s, KIND_DEFINE, 1, "{'name':'x','step_metric':'epoch'}", m);
	ck_assert_str_eq(s.metric, "epoch");
	(void)take(&s, KIND_DEFINE, 1, "{'name':'train/global_step'}", m);
	ck_assert_str_eq(s.metric, "train/global_step");
	(void)take(&s, KIND_DEFINE, 1, "{'name':'x','step_metric':'epoch'}", m);
	ck_assert_str_eq(s.metric, "train/global_step");
}
END_TEST

START_TEST(its_state_is_stored_and_read_back)
{
	struct steps s = {.counted = 0};
	struct steps back;
	struct step_mark m[2];
	auto_buf struct buf bytes;

	(void)take(&s, KIND_LOG, 1, "{'data':{'a':1}}", m);
	(void)take(&s, KIND_LOG, 2, "{'data':{'train/global_step':3.0},'step':7}", m);
	buf_init(&bytes, 4096);
	steps_save(&s, &bytes);
	ck_assert_int_eq(steps_load(&back, buf_span(&bytes)), 0);
	ck_assert_str_eq(back.metric, "train/global_step");
	ck_assert(back.has_explicit && back.has_last[STEP_METRIC]);
	ck_assert_int_eq(back.last[STEP_METRIC], 3);
	ck_assert_int_eq(back.counted, s.counted);
	ck_assert_int_eq(steps_load(&back, (struct span){.at = NULL}), 0);
	ck_assert_str_eq(back.metric, "");
}
END_TEST

SUITE_MAIN("steps", the_step_metric_says_which_step_is_over,
	   without_a_metric_it_is_the_step_of_log_or_the_number_of_rows,
	   the_usual_metric_goes_before_another_one, its_state_is_stored_and_read_back)
