/* The end of runs and of the process. */
#pragma once

#include "client/lib/wbx.h"

enum {
	ENDING_TEXT_MAX = 4096
};
/* What W&B has of a run that is finished, and what waits, in one line; waits for the daemon's word on
 * that, at most so long. False: there is none. */
bool ending_text(struct wbx_run *run, int timeout_ms, char ret[ENDING_TEXT_MAX]);

struct ending {
	struct wbx *w;
	struct wbx_run **runs; /* of w, to be finished; kept for good */
	size_t count;
	size_t told;        /* of these, as many are told of with ending_text() */
	int timeout_ms;     /* to wait for the daemon's disk */
	int text_ms;        /* for ending_text() */
	const char *forget; /* a file that goes when all ended well; NULL: none. Kept for good */
	bool may_close;     /* no other thread may be inside w */
};

/* When this process exits, the runs are finished with its status: `raise SystemExit(3)` and exit()
 * pass by sys.exit, and Python's exit handlers are called before there is one; the C library knows.
 * w must not be closed by then. The last word counts. False: no memory. From one thread. */
bool ending_set(const struct ending *e);
