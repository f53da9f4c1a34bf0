/* See sample_rules.h. */
#include "daemon/flow/sample_rules.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take_number(const char *text, int64_t *ret)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;

	errno = 0;
	*ret = strtoll(text, &end, 10);
	if (end == text || errno != 0 || *ret < 0)
		return false;
	if (*end == '\0')
		return true;
	unit = strchr(units, *end);
	if (unit == NULL || end[1] != '\0' || *ret > INT64_MAX >> (10 * (unit - units + 1)))
		return false;
	*ret <<= 10 * (unit - units + 1);
	return true;
}

static bool take_real(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && *end == '\0' && isfinite(*ret);
}

static bool take_word(struct sample_rule *rule, const char *name, const char *value)
{
	if (strcmp(name, "roots") == 0)
		return take_number(value, &rule->roots) && rule->roots > 0;
	if (strcmp(name, "step") == 0)
		return take_number(value, &rule->per_step);
	if (strcmp(name, "day") == 0)
		return take_number(value, &rule->per_day);
	if (strcmp(name, "low") == 0)
		return rule->has_low = take_real(value, &rule->low);
	if (strcmp(name, "high") == 0)
		return rule->has_high = take_real(value, &rule->high);
	return false;
}

int sample_rules_add(struct sample_rules *r, const char *pattern, const char *words,
		     const char **ret_why)
{
	struct sample_rule rule = {.roots = 1};
	const char *at = words;

	if (r->count == SAMPLE_RULES_MAX || strlen(pattern) >= SAMPLE_PATTERN_MAX) {
		*ret_why = "too many rules (64), or a pattern that is too long";
		return -EINVAL;
	}
	while (*(at += strspn(at, " ,")) != '\0') {
		size_t len = strcspn(at, " ,");
		char word[64];
		char *value;

		(void)snprintf(word, sizeof(word), "%.*s", (int)len, at); /* a cut one is wrong */
		value = strchr(word, '=');
		if (value != NULL)
			*value++ = '\0';
		if (value == NULL || !take_word(&rule, word, value)) {
			*ret_why = "must be words such as roots=10 step=20 day=1G low=0.1 high=0.9";
			return -EINVAL;
		}
		at += len;
	}
	(void)snprintf(r->items[r->count].pattern, SAMPLE_PATTERN_MAX, "%s", pattern); /* fits */
	r->items[r->count++].rule = rule;
	return 0;
}

const struct sample_rule *sample_rules_find(const struct sample_rules *r, const char *run,
					    const char *op)
{
	char both[1024];

	(void)snprintf(both, sizeof(both), "%s/%s", run,
		       op); /* a cut one fits no pattern of ours */
	for (size_t i = r->count; i-- > 0;) {
		const char *pattern = r->items[i].pattern;
		const char *text = strchr(pattern, '/') != NULL ? both : op;

		if (fnmatch(pattern, text, 0) == 0)
			return &r->items[i].rule;
	}
	return NULL;
}
