/* The run that a command is to change, from outside of it. */
#pragma once

#include "client/ctl/call.h"
#include "proto/limits.h"

struct target {
	char entity[NAME_MAX_BYTES + 1]; /* "": the default of the key */
	char project[NAME_MAX_BYTES + 1];
	char id[NAME_MAX_BYTES + 1];
	unsigned found;
};

/* Of the first word: entity/project/id as it stands, else asks which run has that id. CODE_OK, or the
 * exit code with everything said. */
int target_find(struct call *c, struct target *ret);
