/* What waits in the store for each sink. Worker thread. */
#pragma once

#include "daemon/base/stats.h"
#include "daemon/flow/reader.h"

struct sink_waiting {
	int64_t records;
	int64_t bytes;
	int64_t oldest_us; /* commit time of the oldest; 0: none */
};

/* Calls for what waits of each stream, with the sink it is for and whose run it is of. 0, or -errno;
 * then what was told is of no use. */
typedef void (*waiting_on_part)(void *arg, enum sink_id sink, uint32_t uid,
				const struct sink_waiting *part);
int waiting_read(struct reader *reader, waiting_on_part on_part, void *arg);
void waiting_add(struct sink_waiting *sum, const struct sink_waiting *part);
