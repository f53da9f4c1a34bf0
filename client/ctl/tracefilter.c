/* See tracefilter.h. */
#include "client/ctl/tracefilter.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The text's number, and what stands behind it. */
static bool read_step(const char *text, const char **ret_end, int64_t *ret)
{
	char *end;
	long long n;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	n = strtoll(text, &end, 10);
	*ret = n;
	*ret_end = end;
	return errno == 0;
}

int step_range_read(const char *text, struct trace_filter *ret)
{
	const char *at = text;
	int64_t first = 0;
	int64_t last = INT64_MAX;
	bool has_first = read_step(text, &at, &first);

	if (*at == '\0' && has_first) {
		last = first;
	} else {
		if (strncmp(at, "..", 2) != 0)
			return -EINVAL;
		at += 2;
		if (*at == '\0' && !has_first)
			return -EINVAL;
		if (*at != '\0' && (!read_step(at, &at, &last) || *at != '\0'))
			return -EINVAL;
	}
	if (first > last)
		return -EINVAL;
	ret->first_step = first;
	ret->last_step = last;
	return 0;
}

static bool read_score(const char *text, const char **ret_end, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	*ret_end = end;
	return end != text && isfinite(*ret);
}

/* "0.2..0.5": strtod() would take the first point of the two for its own. */
static int read_within(const char *text, struct trace_filter *ret)
{
	const char *dots = strstr(text, "..");
	char low[32] = "";
	const char *end;

	if (dots == NULL || (size_t)(dots - text) >= sizeof(low))
		return -EINVAL;
	memcpy(low, text, (size_t)(dots - text));
	if (!read_score(low, &end, &ret->low) || *end != '\0' ||
	    !read_score(dots + 2, &end, &ret->high) || *end != '\0' ||
	    isgreater(ret->low, ret->high))
		return -EINVAL;
	ret->test = SCORE_WITHIN;
	return 0;
}

int score_test_read(const char *text, struct trace_filter *ret)
{
	static const struct {
		const char *sign;
		enum score_test test;
	} signs[] = {
		{"<=", SCORE_AT_MOST}, {">=", SCORE_AT_LEAST}, {"==", SCORE_IS}, {"<", SCORE_BELOW},
		{">", SCORE_ABOVE},    {"=", SCORE_IS},        {"", SCORE_IS},
	};
	size_t i = 0;
	const char *end;

	if (strstr(text, "..") != NULL)
		return read_within(text, ret);
	while (strncmp(text, signs[i].sign, strlen(signs[i].sign)) != 0)
		i++;
	if (!read_score(text + strlen(signs[i].sign), &end, &ret->low) || *end != '\0')
		return -EINVAL;
	ret->test = signs[i].test;
	return 0;
}

static bool score_fits(const struct trace_filter *f, const struct trace_call *c)
{
	if (f->test == SCORE_ANY)
		return true;
	if (!c->has_score)
		return false;
	switch (f->test) {
	case SCORE_ANY: return true;
	case SCORE_BELOW: return isless(c->score, f->low);
	case SCORE_AT_MOST: return islessequal(c->score, f->low);
	case SCORE_ABOVE: return isgreater(c->score, f->low);
	case SCORE_AT_LEAST: return isgreaterequal(c->score, f->low);
	case SCORE_IS: return islessequal(c->score, f->low) && isgreaterequal(c->score, f->low);
	case SCORE_WITHIN:
		return isgreaterequal(c->score, f->low) && islessequal(c->score, f->high);
	}
	abort(); /* GCC wants an end here; a value outside the enum is our bug */
}

static bool op_fits(const char *wanted, const char *op)
{
	size_t len = strlen(wanted);

	if (len > 0 && wanted[len - 1] == '*')
		return strncmp(wanted, op, len - 1) == 0;
	return strcmp(wanted, op) == 0;
}

bool trace_filter_fits(const struct trace_filter *f, const struct trace_call *c)
{
	if (f->first_step >= 0 && (c->step < f->first_step || c->step > f->last_step))
		return false;
	if (f->op != NULL && !op_fits(f->op, c->op))
		return false;
	if (f->only_errors && c->exception[0] == '\0')
		return false;
	return (!f->only_hits || c->is_hit) && score_fits(f, c);
}

bool trace_filter_is_any(const struct trace_filter *f)
{
	return f->first_step < 0 && f->op == NULL && f->test == SCORE_ANY && !f->only_errors &&
	       !f->only_hits;
}

size_t trace_filter_apply(const struct trace_filter *f, struct trace_call *root)
{
	size_t fitting = 0;

	for (struct trace_call *c = root; c != NULL; c = trace_call_next(c, root)) {
		if (!trace_filter_fits(f, c))
			continue;
		fitting++;
		for (struct trace_call *up = c; up != NULL && !up->is_shown; up = up->parent)
			up->is_shown = true;
	}
	return fitting;
}
