/* Is a trace sent, or left out? Pure: the same facts give the same answer whenever they are asked. */
#pragma once

#include "daemon/flow/sample_rules.h"
#include "proto/mp.h"

struct sample_facts {
	const char *trace; /* its id decides which of many it is */
	bool has_error;    /* some call of it failed */
	bool is_extreme;   /* some score of it is */
	int64_t kept;      /* of this op in this step, so far */
	int64_t day_bytes; /* sent of this run today */
	int64_t bytes;     /* of this trace */
};

/* A budget of bytes is a wall for all; failures and extreme scores pass the others. */
bool sample_sends(const struct sample_rule *rule, const struct sample_facts *f);
/* Is the value (a number, a list of numbers, a map with `score` or `reward`) beyond what the rule says
 * is usual? */
bool sample_is_extreme(const struct sample_rule *rule, struct mp value);
