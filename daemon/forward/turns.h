/* In which order runs that are due get their turn, so that what all of them share (places for
 * requests, tokens, this thread) goes round users first and then round each one's runs. Pure. */
#pragma once

#include "daemon/forward/models/run.h"

struct turn {
	struct models_run *run;
	size_t rank; /* among its user's runs: 0 was served longest ago */
};

/* Every user's first, then every user's second, ...; of one rank, the user who was served longest
 * ago begins. Fills the ranks. */
void turns_order(struct turn *turns, size_t count);
