#include "daemon/forward/weave/forest.h"
#include "tests/lib/suite.h"

#include <stdio.h>

static int add(struct forest *f, const char *id, const char *parent, bool has_ended)
{
	struct call_row row = {.start_lsn = 1, .end_lsn = has_ended ? 2 : 0};

	(void)snprintf(row.id, sizeof(row.id), "%s", id);
	(void)snprintf(row.parent, sizeof(row.parent), "%s", parent);
	return forest_add(f, &row);
}

static const char *in_order(const struct forest *f)
{
	static char text[200];
	size_t len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < f->count; i++) {
		const struct forest_node *n = &f->nodes[f->order[i]];

		if (n->is_ready)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s ", n->row.id);
	}
	return text;
}

START_TEST(calls_come_behind_those_below_them)
{
	struct forest f = {.count = 0};

	(void)add(&f, "d", "b", true);
	(void)add(&f, "c", "a", true);
	(void)add(&f, "b", "a", true);
	(void)add(&f, "a", "elsewhere", true);
	ck_assert_int_eq(forest_order(&f), 0);
	ck_assert_uint_eq(f.ready, 4);
	ck_assert_str_eq(in_order(&f), "c d b a ");
	forest_done(&f);
}
END_TEST

START_TEST(what_is_open_holds_back_all_above_it_and_nothing_else)
{
	struct forest f = {.count = 0};

	(void)add(&f, "a", "", true);
	(void)add(&f, "b", "a", true);
	(void)add(&f, "c", "b", false);
	(void)add(&f, "d", "c", true);
	(void)add(&f, "e", "a", true);
	ck_assert_int_eq(forest_order(&f), 0);
	ck_assert_str_eq(in_order(&f), "d e ");
	forest_done(&f);
}
END_TEST

START_TEST(parents_in_a_circle_do_no_harm)
{
	struct forest f = {.count = 0};

	(void)add(&f, "a", "b", true);
	(void)add(&f, "b", "a", true);
	(void)add(&f, "c", "c", true);
	(void)add(&f, "d", "a", true);
	ck_assert_int_eq(forest_order(&f), 0);
	ck_assert_uint_eq(f.ready, 4);
	forest_done(&f);
}
END_TEST

START_TEST(a_forest_survives_every_allocation_failure)
{
	struct forest f = {.count = 0};

	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(
				 (add(&f, "a", "", true) == 0 && add(&f, "b", "a", true) == 0)
					 ? forest_order(&f)
					 : -ENOMEM,
				 forest_done(&f)),
			 0);
	ck_assert_str_eq(in_order(&f), "b a ");
	forest_done(&f);
}
END_TEST

SUITE_MAIN("forest", calls_come_behind_those_below_them,
	   what_is_open_holds_back_all_above_it_and_nothing_else, parents_in_a_circle_do_no_harm,
	   a_forest_survives_every_allocation_failure)
