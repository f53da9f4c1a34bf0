#include "daemon/forward/models/gather.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

#define SECOND       ((int64_t)1000000)
#define MERGE_MAX_US (120 * SECOND)

static struct metrics metrics; /* `step` and `n.step` are step metrics */

static void define_steps(void)
{
	struct buf room = {.data = NULL};
	const struct metric *one;

	ck_assert_int_eq(
		metrics_define(&metrics, mp_text(&room, "{'name':'*','step_metric':'step'}"), &one),
		0);
	ck_assert_int_eq(metrics_define(&metrics,
					mp_text(&room, "{'name':'x','step_metric':'n.step'}"),
					&one),
			 0);
	buf_done(&room);
}

static struct row_keys keys_of(const char *data)
{
	struct buf room = {.data = NULL};
	struct row_keys keys = {.items = NULL};

	ck_assert_int_eq(row_keys_of(mp_text(&room, data), &metrics, &keys), 0);
	buf_done(&room);
	return keys;
}

/* Through its state: the same again. */
static void reload(struct gather *g)
{
	auto_buf struct buf first;
	auto_buf struct buf second;
	struct pack p;
	struct mp at;

	buf_init(&first, 1 << 20);
	buf_init(&second, 1 << 20);
	pack_init(&p, &first);
	gather_pack(g, &p);
	gather_done(g);
	at = mp_of(buf_span(&first));
	ck_assert_int_eq(gather_read(g, &at), 0);
	ck_assert_uint_eq(mp_left(&at), 0);
	pack_init(&p, &second);
	gather_pack(g, &p);
	ck_assert(span_equal(buf_span(&first), buf_span(&second)));
}

struct step {
	double at; /* seconds */
	const char *data;
	bool is_open;
	bool joins; /* those before it */
};

/* Each story is told from its first call, with the state written and read in between. */
static void tell(const struct step *steps, size_t count)
{
	struct gather g = {.calls = 0};

	for (size_t i = 0; i < count; i++) {
		struct row_keys keys = keys_of(steps[i].data);
		struct gather_call call = {
			.keys = &keys,
			.call_us = (int64_t)(steps[i].at * 1e6),
			.stored_us = (int64_t)(steps[i].at * 1e6) + 7,
			.is_open = steps[i].is_open,
		};

		if (i > 0)
			ck_assert_msg(gather_takes(&g, &keys, call.call_us) == steps[i].joins,
				      "%s at %g", steps[i].data, steps[i].at);
		if (i > 0 && !steps[i].joins)
			gather_clear(&g);
		ck_assert_int_eq(gather_add(&g, &call, MERGE_MAX_US), 0);
		row_keys_done(&keys);
		reload(&g);
	}
	gather_done(&g);
}

#define TELL(...)                                                                                  \
	do {                                                                                       \
		static const struct step steps_[] = {__VA_ARGS__};                                 \
		tell(steps_, array_len(steps_));                                                   \
	} while (0)

START_TEST(calls_join_while_their_keys_differ_and_they_follow_closely)
{
	define_steps();
	TELL({10, "{'a':1}", false, false}, {10.2, "{'b':1}", false, true},
	     {11.1, "{'c':1,'d':2}", false, true}, {11.2, "{'b':1}", false, false},
	     {12.2, "{'c':1}", false, false}, {12.3, "{}", false, true});
	/* a clock that was set back is no closer */
	TELL({10, "{'a':1}", false, false}, {9.5, "{'b':1}", false, true},
	     {3, "{'c':1}", false, false});
	/* maps are not looked into: what is below one key is one value */
	TELL({10, "{'a':{'x':1}}", false, false}, {10, "{'a':{'y':1}}", false, false});
	TELL({10, "{1:1}", false, false}, {10, "{2:1}", false, true}, {10, "{1:1}", false, false});
	metrics_done(&metrics);
}
END_TEST

START_TEST(the_same_value_of_a_step_metric_holds_a_row_together)
{
	define_steps();
	TELL({10, "{'step':1,'a':1}", false, false}, {10.1, "{'b':1}", false, true},
	     {90, "{'step':1,'c':1}", false, true}, {90.1, "{'step':2,'d':1}", false, false},
	     {95, "{'e':1}", false, false});
	TELL({10, "{'step':1,'a':1}", false, false}, {10, "{'step':1,'a':1}", false, false});
	/* a nested one is looked for nowhere else than in a row that is written */
	TELL({10, "{'n':{'step':1}}", false, false}, {20, "{'n':{'step':1}}", false, false});
	metrics_done(&metrics);
}
END_TEST

START_TEST(a_call_that_waits_for_more_is_joined_by_any)
{
	define_steps();
	TELL({10, "{'step':1}", true, false}, {500, "{'step':2}", true, true},
	     {900, "{'step':2}", false, true}, {900.5, "{'step':2,'a':1}", false, false});
	metrics_done(&metrics);
}
END_TEST

START_TEST(a_row_is_due_when_nothing_came_for_a_while)
{
	struct gather g = {.calls = 0};
	struct row_keys keys;
	struct gather_call call = {.keys = &keys, .call_us = SECOND, .stored_us = 50 * SECOND};

	define_steps();
	keys = keys_of("{'a':1}");
	ck_assert_int_eq(gather_add(&g, &call, MERGE_MAX_US), 0);
	ck_assert_int_eq(g.due_us, 50 * SECOND + GATHER_US);
	row_keys_done(&keys);
	keys = keys_of("{'step':1}");
	ck_assert_int_eq(gather_add(&g, &call, MERGE_MAX_US), 0);
	ck_assert_int_eq(g.due_us, 50 * SECOND + MERGE_MAX_US);
	call.is_open = true;
	ck_assert_int_eq(gather_add(&g, &call, MERGE_MAX_US), 0);
	ck_assert_int_eq(g.due_us, INT64_MAX);
	row_keys_done(&keys);
	gather_done(&g);
	metrics_done(&metrics);
}
END_TEST

static struct row_keys many_keys(uint64_t first, size_t count)
{
	struct row_keys keys = {.items = mem_alloc(count * sizeof(*keys.items)), .count = count};

	ck_assert_ptr_nonnull(keys.items);
	for (size_t i = 0; i < count; i++)
		keys.items[i] = (struct row_key){.name = first + i};
	return keys;
}

START_TEST(a_row_that_is_gathered_has_bounds)
{
	static const size_t first[] = {1, GATHER_KEYS_MAX, GATHER_KEYS_MAX + 1, 60000};

	for (size_t i = 0; i < array_len(first); i++) {
		struct gather g = {.calls = 0};
		struct row_keys keys = many_keys(0, first[i]);
		struct row_keys next = many_keys(100000, 1);
		struct row_keys rest = many_keys(200000, GATHER_KEYS_MAX);
		const struct gather_call call = {.keys = &keys};

		ck_assert_int_eq(gather_add(&g, &call, MERGE_MAX_US), 0);
		ck_assert_uint_le(g.keys.count, GATHER_KEYS_MAX);
		ck_assert(gather_takes(&g, &next, 0) == (first[i] < GATHER_KEYS_MAX));
		ck_assert(!gather_takes(&g, &rest, 0));
		row_keys_done(&keys);
		row_keys_done(&next);
		row_keys_done(&rest);
		gather_done(&g);
	}
}
END_TEST

START_TEST(a_state_that_is_none_is_refused)
{
	static const char *const bad[] = {
		"1",         "[1]",         "[-1,0,0,[]]",    "[1,'x',0,[]]",    "[1,0,0.5,[]]",
		"[1,0,0,5]", "[1,0,0,[1]]", "[1,0,0,[1,-1]]", "[1,0,0,[1,'x']]",
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		struct buf room = {.data = NULL};
		struct gather g = {.calls = 0};
		struct mp at = mp_text(&room, bad[i]);
		struct mp_value head;

		if (bad[i][0] == '[')
			ck_assert_int_eq(mp_read(&at, &head), 0);
		ck_assert_msg(gather_read(&g, &at) == -EBADMSG, "%s", bad[i]);
		gather_done(&g);
		buf_done(&room);
	}
}
END_TEST

static int gather_once(struct gather *g, struct row_keys *keys, struct mp data)
{
	const struct gather_call call = {.keys = keys};
	int r = row_keys_of(data, &metrics, keys);

	return r == 0 ? gather_add(g, &call, MERGE_MAX_US) : r;
}

static void drop(struct gather *g, struct row_keys *keys)
{
	row_keys_done(keys);
	gather_done(g);
}

START_TEST(gathering_survives_every_allocation_failure)
{
	struct buf room = {.data = NULL};
	struct mp data = mp_text(&room, "{'a':1,'b':2,'c':3,'d':4,'e':5,'f':6,'g':7,'h':8,'i':9}");
	struct gather g = {.calls = 0};
	struct row_keys keys = {.items = NULL};

	ck_assert_int_eq(
		WITH_EACH_ALLOCATION_FAILING(gather_once(&g, &keys, data), drop(&g, &keys)), 0);
	ck_assert_uint_eq(g.keys.count, 9);
	drop(&g, &keys);
	buf_done(&room);
}
END_TEST

SUITE_MAIN("gather", calls_join_while_their_keys_differ_and_they_follow_closely,
	   the_same_value_of_a_step_metric_holds_a_row_together,
	   a_call_that_waits_for_more_is_joined_by_any, a_row_is_due_when_nothing_came_for_a_while,
	   a_row_that_is_gathered_has_bounds, a_state_that_is_none_is_refused,
	   gathering_survives_every_allocation_failure)
