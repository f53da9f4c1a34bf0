/* See fault.h. */
#include "daemon/base/fault.h"

#ifdef WBX_FAULTS

#include "daemon/base/log.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fault_point(const char *name)
{
	static _Atomic long hits;
	const char *wanted = getenv("WBX_FAULT"); /* set before threads start, never changed */
	size_t len = strlen(name);
	char *end;

	if (wanted == NULL || strncmp(wanted, name, len) != 0 || wanted[len] != ':')
		return;
	if (atomic_fetch_add(&hits, 1) + 1 != strtol(wanted + len + 1, &end, 10))
		return;
	if (*end != ':')
		(void)kill(getpid(), SIGKILL); /* no way back */
	log_info("fault", "%s stands still", name);
	(void)poll(NULL, 0, (int)strtol(end + 1, NULL, 10)); /* a signal ends it earlier */
	log_info("fault", "%s goes on", name);
}

#endif
