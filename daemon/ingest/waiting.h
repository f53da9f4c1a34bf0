/* What waits in the store for each sink, summed over its streams. Worker thread. */
#pragma once

#include "daemon/base/stats.h"
#include "daemon/flow/reader.h"

struct sink_waiting {
	int64_t records;
	int64_t bytes;
	int64_t oldest_us; /* commit time of the oldest; 0: none */
};

struct waiting {
	struct sink_waiting sinks[SINK_COUNT];
};

/* 0, or -errno; then *ret is of no use. */
int waiting_read(struct waiting *ret, struct reader *reader);
