/* See ending.h. */
#include "client/python/ending.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct ending ending;
static pid_t of_pid; /* forked children inherit the handler */

static void on_exit_status(int exit_status, void *arg)
{
	int r;

	(void)arg;
	if (getpid() != of_pid)
		return;
	of_pid = 0;
	for (size_t i = 0; i < ending.count; i++)
		(void)wbx_exit(ending.runs[i], exit_status & 0xff); /* wait() says no more */
	r = ending.may_close ? wbx_close(ending.w, ending.timeout_ms)
			     : wbx_flush(ending.w, ending.timeout_ms);
	if (r == -ETIMEDOUT)
		(void)fputs("wbx: the daemon did not answer in time; what it does not have is kept "
			    "and sent when it does\n",
			    stderr);
}

bool ending_set(const struct ending *e)
{
	if (of_pid != getpid() && on_exit(on_exit_status, NULL) != 0)
		return false;
	ending = *e;
	of_pid = getpid();
	return true;
}
