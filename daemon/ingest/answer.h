/* `wbxd --answer`: the questions of one wbxctl, answered from a store without a daemon. Reads the
 * store, changes nothing. A process of its own, one thread. */
#pragma once

#include "daemon/flow/reader.h"

enum {
	ANSWER_FD = 3 /* the connected socket that wbxctl hands over */
};

struct answer_settings {
	const char *store_dir;
	const char *base_url; /* for display, as the rest */
	const char *version;
	int64_t merge_max_us;
	int64_t limit_bytes;
	int64_t reserve_bytes;
};

/* Answers on fd until its end. 0; -EIO: the peer does not speak our protocol; -errno. */
int answer_requests(int fd, struct reader *reader, const struct answer_settings *settings);
