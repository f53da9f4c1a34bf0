/* Turns among runs, with a sender that this test plays: in each round some of those that are due get a
 * place, in the order of their turns, as in daemon/forward/sender.c. */
#include "daemon/forward/turns.h"

#include "daemon/forward/sinks.h"
#include "tests/lib/suite.h"

enum {
	RUNS_MAX = 128,
};

struct models_run {
	int64_t id;
	struct user *user;
	uint64_t served;
	unsigned times; /* it got a place */
};

int64_t models_run_id(const struct models_run *r)
{
	return r->id;
}

struct user *models_run_user(const struct models_run *r)
{
	return r->user;
}

uint64_t models_run_served(const struct models_run *r)
{
	return r->served;
}

static struct models_run runs[RUNS_MAX];
static struct turn turns[RUNS_MAX];
static size_t run_count;
static uint64_t served;

static void begin(void)
{
	run_count = 0;
	served = 0;
}

static struct models_run *add_runs(struct user *user, size_t count)
{
	struct models_run *first = &runs[run_count];

	ck_assert_uint_le(count, RUNS_MAX - run_count);
	for (size_t i = 0; i < count; i++, run_count++)
		runs[run_count] = (struct models_run){.id = (int64_t)run_count + 1, .user = user};
	return first;
}

/* All but those below `first` are due. */
static void play_round(size_t first, size_t places)
{
	size_t count = 0;

	for (size_t i = first; i < run_count; i++)
		turns[count++] = (struct turn){.run = &runs[i]};
	turns_order(turns, count);
	for (size_t i = 0; i < count && i < places; i++) {
		turns[i].run->served = turns[i].run->user->served = ++served;
		turns[i].run->times++;
	}
}

static unsigned times_of(const struct user *user)
{
	unsigned sum = 0;

	for (size_t i = 0; i < run_count; i++)
		sum += runs[i].user == user ? runs[i].times : 0;
	return sum;
}

START_TEST(a_user_with_a_hundred_runs_gets_no_more_than_one_with_one)
{
	struct user a = {.uid = 1000};
	struct user b = {.uid = 1001};
	struct user c = {.uid = 5};

	begin();
	(void)add_runs(&a, 100);
	(void)add_runs(&b, 1);
	(void)add_runs(&c, 7);
	for (int i = 0; i < 900; i++)
		play_round(0, 1);
	ck_assert_uint_eq(times_of(&a), 300);
	ck_assert_uint_eq(times_of(&b), 300);
	ck_assert_uint_eq(times_of(&c), 300);
}
END_TEST

START_TEST(the_runs_of_a_user_take_turns)
{
	struct user a = {.uid = 1000};
	struct user b = {.uid = 1001};
	const struct models_run *of_a;
	const struct models_run *of_b;

	begin();
	of_a = add_runs(&a, 10);
	of_b = add_runs(&b, 4);
	for (int i = 0; i < 400; i++)
		play_round(0, 2);
	for (size_t i = 0; i < 10; i++)
		ck_assert_uint_eq(of_a[i].times, 40);
	for (size_t i = 0; i < 4; i++)
		ck_assert_uint_eq(of_b[i].times, 100);
}
END_TEST

START_TEST(every_user_s_first_run_goes_before_anybody_s_second)
{
	static const int64_t want[] = {4, 3, 1, 2};
	static const size_t ranks[] = {0, 0, 1, 2};
	struct user a = {.uid = 1000, .served = 9};
	struct user b = {.uid = 1001, .served = 4};

	begin();
	(void)add_runs(&a, 3);
	(void)add_runs(&b, 1);
	runs[0].served = 7;
	runs[1].served = 9;
	runs[2].served = 0; /* never */
	runs[3].served = 4;
	play_round(0, 0);
	for (size_t i = 0; i < run_count; i++) {
		ck_assert_int_eq(turns[i].run->id, want[i]);
		ck_assert_uint_eq(turns[i].rank, ranks[i]);
	}
}
END_TEST

START_TEST(who_was_silent_has_no_claim_to_what_others_got)
{
	struct user a = {.uid = 1000};
	struct user b = {.uid = 1001};

	begin();
	(void)add_runs(&a, 1);
	(void)add_runs(&b, 2);
	for (int i = 0; i < 1000; i++)
		play_round(1, 1);
	for (int i = 0; i < 10; i++)
		play_round(0, 1);
	ck_assert_uint_eq(times_of(&a), 5);
	ck_assert_uint_eq(times_of(&b), 1005);
}
END_TEST

START_TEST(with_room_for_all_each_gets_a_place)
{
	struct user users[5];

	begin();
	for (uint32_t i = 0; i < 5; i++) {
		users[i] = (struct user){.uid = i};
		(void)add_runs(&users[i], 1 + i);
	}
	play_round(0, RUNS_MAX);
	for (size_t i = 0; i < run_count; i++)
		ck_assert_uint_eq(runs[i].times, 1);
	play_round(run_count, 1); /* nobody is due */
}
END_TEST

SUITE_MAIN("turns", a_user_with_a_hundred_runs_gets_no_more_than_one_with_one,
	   the_runs_of_a_user_take_turns, every_user_s_first_run_goes_before_anybody_s_second,
	   who_was_silent_has_no_claim_to_what_others_got, with_room_for_all_each_gets_a_place)
