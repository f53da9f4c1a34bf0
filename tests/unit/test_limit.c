#include "daemon/forward/limit.h"
#include "proto/base/rng.h"
#include "tests/lib/suite.h"

#include <stdbool.h>

/* A wait is rounded up, and may be a millisecond longer still. */
static void refused_for(struct limit *l, double n, uint64_t now_ms, uint64_t wait_ms)
{
	uint64_t got_ms = limit_take(l, n, now_ms);

	ck_assert_uint_ge(got_ms, wait_ms);
	ck_assert_uint_le(got_ms, wait_ms + 1);
}

START_TEST(a_limit_of_zero_is_none)
{
	struct limit l = {.per_s = 0};

	ck_assert_uint_eq(limit_take(&l, 1e12, 0), 0);
	ck_assert_uint_eq(limit_take_some(&l, 12345, 0), 12345);
	ck_assert_uint_eq(limit_wait_ms(&l, 1e12, 0), 0);
	limit_set(&l, 0, 0, 1000);
	ck_assert_uint_eq(limit_take(&l, 1e12, 1000), 0);
}
END_TEST

START_TEST(a_bucket_starts_full_and_fills_at_its_rate)
{
	struct limit l = {.per_s = 0};

	limit_set(&l, 2, 10, 5000);
	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(limit_take(&l, 1, 5000), 0);
	refused_for(&l, 1, 5000, 500);
	refused_for(&l, 1, 5499, 1); /* a refusal takes nothing */
	ck_assert_uint_eq(limit_take(&l, 1, 5500), 0);
	refused_for(&l, 3, 5500, 1500);
	ck_assert_uint_eq(limit_take(&l, 3, 7000), 0);
	/* a year of quiet fills it no further than its burst */
	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(limit_take(&l, 1, 31536000000), 0);
	refused_for(&l, 1, 31536000000, 500);
}
END_TEST

START_TEST(more_than_the_bucket_holds_goes_out_when_it_is_full)
{
	struct limit l = {.per_s = 0};

	limit_set(&l, 100, 50, 0);
	ck_assert_uint_eq(limit_take(&l, 5000, 0), 0);
	refused_for(&l, 1, 0, 10);
	refused_for(&l, 5000, 0, 500);
	refused_for(&l, 5000, 499, 1);
	ck_assert_uint_eq(limit_take(&l, 5000, 500), 0);
	refused_for(&l, 1, 500, 10); /* and it took all there was */
}
END_TEST

START_TEST(a_clock_that_stands_or_goes_back_gives_nothing)
{
	struct limit l = {.per_s = 0};

	limit_set(&l, 10, 1, 10000);
	ck_assert_uint_eq(limit_take(&l, 1, 10000), 0);
	refused_for(&l, 1, 10000, 100);
	refused_for(&l, 1, 1, 100);
	refused_for(&l, 1, 10099, 1);
	ck_assert_uint_eq(limit_take(&l, 1, 10100), 0);
}
END_TEST

START_TEST(take_some_gives_whole_tokens_up_to_what_was_asked)
{
	struct limit l = {.per_s = 0};

	limit_set(&l, 1000, 100, 0);
	ck_assert_uint_eq(limit_take_some(&l, 30, 0), 30);
	ck_assert_uint_eq(limit_take_some(&l, SIZE_MAX, 0), 70);
	ck_assert_uint_eq(limit_take_some(&l, 10, 0), 0);
	ck_assert_uint_eq(limit_take_some(&l, 10, 3), 3);
	ck_assert_uint_eq(limit_wait_ms(&l, 100, 3), 100);
	ck_assert_uint_eq(limit_wait_ms(&l, 1, 3), 1);
	limit_set(&l, 0.5, 2, 1000);
	ck_assert_uint_eq(limit_take_some(&l, 9, 1000), 2);
	ck_assert_uint_eq(limit_take_some(&l, 9, 2999), 0);
	ck_assert_uint_eq(limit_take_some(&l, 9, 3000), 1);
}
END_TEST

START_TEST(a_new_rate_keeps_the_tokens_and_a_new_burst_caps_them)
{
	struct limit l = {.per_s = 0};

	limit_set(&l, 10, 100, 0);
	ck_assert_uint_eq(limit_take(&l, 90, 0), 0);
	limit_set(&l, 20, 100, 1000); /* 10 left, and a second of the old rate */
	ck_assert_uint_eq(limit_take_some(&l, 100, 1000), 20);
	ck_assert_uint_eq(limit_wait_ms(&l, 20, 1000), 1000);
	limit_set(&l, 20, 5, 60000);
	ck_assert_uint_eq(limit_take_some(&l, 100, 60000), 5);
	limit_set(&l, 0, 5, 61000); /* no limit, and a fresh start when it comes back */
	ck_assert_uint_eq(limit_take_some(&l, 100, 61000), 100);
	limit_set(&l, 1, 5, 61000);
	ck_assert_uint_eq(limit_take_some(&l, 100, 61000), 5);
}
END_TEST

START_TEST(a_bucket_filled_in_thirds_lacks_no_token)
{
	struct limit l = {.per_s = 0};
	uint64_t now_ms = 0;

	limit_set(&l, 3, 1, 0);
	ck_assert_uint_eq(limit_take(&l, 1, 0), 0);
	for (int i = 0; i < 3000; i++) {
		uint64_t wait_ms = limit_take(&l, 1, now_ms);

		ck_assert_uint_gt(wait_ms, 0);
		ck_assert_uint_le(wait_ms, 334);
		now_ms += wait_ms;
		ck_assert_uint_eq(limit_take(&l, 1, now_ms), 0);
	}
	ck_assert_uint_ge(now_ms, 999000); /* 3000 of them at 3 a second */
	ck_assert_uint_le(now_ms, 1003000);
}
END_TEST

/* Whoever waits as told gets it, and over any time no more than burst + rate * time goes out. */
START_TEST(any_mix_of_requests_stays_within_the_rate)
{
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct rng rng = {.state = seed};
		struct limit l = {.per_s = 0};
		double rate = (double)(1 + rng_below(&rng, 2000)) / 7;
		double burst = (double)(1 + rng_below(&rng, 50));
		double taken = 0;
		uint64_t now_ms = rng_below(&rng, 1000000);
		uint64_t begin_ms = now_ms;

		limit_set(&l, rate, burst, now_ms);
		for (int i = 0; i < 2000; i++) {
			double n = (double)(1 + rng_below(&rng, (uint64_t)burst));
			uint64_t wait_ms;

			if (rng_below(&rng, 4) == 0) {
				taken += (double)limit_take_some(&l, (size_t)n, now_ms);
			} else {
				wait_ms = limit_take(&l, n, now_ms);
				if (wait_ms > 0) {
					if (wait_ms > 2)
						ck_assert_uint_gt(
							limit_wait_ms(&l, n, now_ms + wait_ms - 2),
							0);
					now_ms += wait_ms;
					ck_assert_uint_eq(limit_take(&l, n, now_ms), 0);
				}
				taken += n;
			}
			now_ms += rng_below(&rng, 20);
			ck_assert_double_le(
				taken, burst + (double)(now_ms - begin_ms) * rate / 1000 + 1e-3);
		}
	}
}
END_TEST

SUITE_MAIN("limit", a_limit_of_zero_is_none, a_bucket_starts_full_and_fills_at_its_rate,
	   more_than_the_bucket_holds_goes_out_when_it_is_full,
	   a_clock_that_stands_or_goes_back_gives_nothing,
	   take_some_gives_whole_tokens_up_to_what_was_asked,
	   a_new_rate_keeps_the_tokens_and_a_new_burst_caps_them,
	   a_bucket_filled_in_thirds_lacks_no_token, any_mix_of_requests_stays_within_the_rate)
