/* Whether the host of an address can be reached from here: its name and a connection, no more. For when
 * no daemon runs that could ask W&B itself. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct reach {
	char host[256];
	char port[16];
	uint64_t name_ms;
	uint64_t connect_ms;
	char error[128];  /* what failed; "": nothing */
	bool name_failed; /* the name is not known */
};

/* 0, also when it is not reached; -EINVAL: url is none. */
int reach_host(const char *url, struct reach *ret);
