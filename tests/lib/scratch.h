/* A directory of a test's own, below $TMPDIR or /tmp. */
#pragma once

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Makes it; the test removes it. */
static inline void scratch_dir(char *ret, size_t size, const char *name)
{
	const char *parent = getenv("TMPDIR");

	ck_assert_int_lt(
		snprintf(ret, size, "%s/wbx-%s-XXXXXX", parent == NULL ? "/tmp" : parent, name),
		(int)size);
	ck_assert_ptr_nonnull(mkdtemp(ret));
}
