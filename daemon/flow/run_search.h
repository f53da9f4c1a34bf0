/* The search for a run by what a user calls it, a page of the store's runs at a time. One owner at a
 * time, on the thread of its reader. */
#pragma once

#include "daemon/flow/reader.h"

struct run_search {           /* filled by the caller, but for what is out */
	struct span wanted;   /* as run_is_called() */
	bool is_any;          /* of any user ... */
	uint32_t uid;         /* ... or of this one */
	int64_t after;        /* out: as far as it was looked at */
	unsigned found;       /* out */
	struct run_info *run; /* its place is the caller's; one that was found */
};
/* Looks through the next page. 1: there may be more; 0: that was all; -errno. */
int run_search_next(struct run_search *s, struct reader *r);
/* What to tell the user when not one run was found; static. */
const char *run_search_failure(const struct run_search *s);
