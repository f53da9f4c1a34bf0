/* See run.h. */
#include "daemon/flow/run.h"

#include <assert.h>

const char *run_state_name(enum run_state state)
{
	static const char *const names[RUN_STATES] = {"new", "created", "live", "finishing",
						      "done"};

	assert(state < RUN_STATES);
	return names[state];
}
