/* The end of the process, and the status that it has: `raise SystemExit(3)` and exit() pass by
 * sys.exit, and Python's exit handlers are called before there is one. The C library knows. */
#pragma once

#include "client/lib/wbx.h"

struct ending {
	struct wbx *w;
	struct wbx_run **runs; /* of w, to be finished; kept for good */
	size_t count;
	int timeout_ms; /* to wait for the daemon's disk */
	bool may_close; /* no other thread may be inside w */
};

/* When this process exits, the runs are finished with its status. w must not be closed by then. The
 * last word counts. False: no memory. From one thread. */
bool ending_set(const struct ending *e);
