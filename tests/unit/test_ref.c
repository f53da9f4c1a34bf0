#include "daemon/forward/weave/ref.h"
#include "tests/lib/suite.h"

START_TEST(digests_are_those_of_the_server)
{
	char digest[REF_DIGEST_MAX];

	ck_assert_int_eq(ref_digest(ref_no_source(), digest), 0);
	ck_assert_str_eq(digest, "RZUe6YW6bibaEmKo0QXy3XAt0yd6hMMo9hj9KXgaXrY");
	ck_assert_int_eq(ref_op_digest((struct span){.at = NULL}, digest), 0);
	ck_assert_str_eq(digest, "XNI9iHYwcffKfuDa2rGjQoIxUOw7cnWmLEiNufRD8RY");
}
END_TEST

START_TEST(a_name_holds_only_what_a_ref_may_hold)
{
	char name[REF_NAME_MAX + 1];
	char many[200];

	ref_op_name(SPAN_LITERAL("judge.<lambda> x/y:\xc3\xa4"), name);
	ck_assert_str_eq(name, "judge.-lambda--x-y---");
	memset(many, 'a', sizeof(many));
	ref_op_name((struct span){.at = (const uint8_t *)many, .len = sizeof(many)}, name);
	ck_assert_uint_eq(strlen(name), REF_NAME_MAX);
	ref_op_name(SPAN_LITERAL(""), name);
	ck_assert_str_eq(name, "op");
}
END_TEST

SUITE_MAIN("ref", digests_are_those_of_the_server, a_name_holds_only_what_a_ref_may_hold)
