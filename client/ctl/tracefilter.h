/* Which traced calls are meant: by step, op, score, error. Pure. */
#pragma once

#include "client/ctl/tracebook.h"

enum score_test {
	SCORE_ANY,
	SCORE_BELOW,
	SCORE_AT_MOST,
	SCORE_ABOVE,
	SCORE_AT_LEAST,
	SCORE_IS,
	SCORE_WITHIN, /* both ends belong to it */
};

struct trace_filter {
	int64_t first_step; /* -1: any */
	int64_t last_step;
	const char *op; /* may end in '*'; NULL: any */
	enum score_test test;
	double low; /* what is compared with, or the lower end */
	double high;
	bool only_errors;
	bool only_hits;
};

/* "12", "10..20", "10..", "..20": 0, or -EINVAL. */
int step_range_read(const char *text, struct trace_filter *ret);
/* "<0.2", "<=0.2", ">0.9", ">=0.9", "=1", "0.2", "0.2..0.5": 0, or -EINVAL. */
int score_test_read(const char *text, struct trace_filter *ret);
bool trace_filter_fits(const struct trace_filter *f, const struct trace_call *c);
/* Does it leave out anything? */
bool trace_filter_is_any(const struct trace_filter *f);
/* Sets is_shown of all in the tree: those that fit, and what is above them. How many fit. */
size_t trace_filter_apply(const struct trace_filter *f, struct trace_call *root);
