/* Which traces are sent to W&B, by the op of their root: [sampling] of wbxd.conf. What is left out
 * stays in the store. Plain bytes, so that settings that hold them can be copied. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SAMPLE_RULES_MAX = 64,
	SAMPLE_PATTERN_MAX = 128
};

struct sample_rule {
	int64_t roots;    /* one of so many; 1: all */
	int64_t per_step; /* at most so many in a step; 0: no limit */
	int64_t per_day;  /* bytes of a run, at most; 0: no limit */
	bool has_low;
	bool has_high;
	double low; /* a score at or below it is always sent, as is one at or above the next */
	double high;
};

struct sample_rules {
	size_t count;
	struct {
		char pattern[SAMPLE_PATTERN_MAX];
		struct sample_rule rule;
	} items[SAMPLE_RULES_MAX];
};

/* pattern: a glob of op names, or of RUN/OP. words: "roots=10 step=20 day=1G low=0.1 high=0.9", each
 * of them once at most. 0, or -EINVAL with what is wrong in ret_why (borrowed: static). */
int sample_rules_add(struct sample_rules *r, const char *pattern, const char *words,
		     const char **ret_why);
/* The last that fits. NULL: everything is sent. */
const struct sample_rule *sample_rules_find(const struct sample_rules *r, const char *run,
					    const char *op);
