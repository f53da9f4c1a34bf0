/* The main() of every unit test, and the loop that fails each allocation once. */
#pragma once

#include "proto/base/mem.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

/* Runs one suite; TAP goes to standard output for meson. */
static inline int suite_run(Suite *s)
{
	SRunner *runner = srunner_create(s);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define SUITE_MAIN(name, ...)                                                                      \
	int main(void)                                                                             \
	{                                                                                          \
		const TTest *const tests[] = {__VA_ARGS__};                                        \
		Suite *s = suite_create(name);                                                     \
		TCase *tc = tcase_create(name);                                                    \
		for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)                      \
			tcase_add_test(tc, tests[i]);                                              \
		suite_add_tcase(s, tc);                                                            \
		return suite_run(s);                                                               \
	}

/* Runs `expr` (an int, 0 or -errno) with allocation 1, 2, 3 ... failing until it no longer answers
 * -ENOMEM; yields its last value. `undo` puts things back between tries. */
#define WITH_EACH_ALLOCATION_FAILING(expr, undo)                                                   \
	__extension__({                                                                            \
		unsigned nth_ = 0;                                                                 \
		int r_;                                                                            \
		for (;;) {                                                                         \
			mem_fail_at(++nth_);                                                       \
			r_ = (expr);                                                               \
			mem_fail_at(0);                                                            \
			if (r_ != -ENOMEM)                                                         \
				break;                                                             \
			undo;                                                                      \
		}                                                                                  \
		ck_assert_uint_gt(nth_, 1);                                                        \
		r_;                                                                                \
	})
