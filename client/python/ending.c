/* See ending.h. */
#include "client/python/ending.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct ending ending;
static pid_t of_pid; /* forked children inherit the handler */

bool ending_text(struct wbx_run *run, int timeout_ms, char ret[ENDING_TEXT_MAX])
{
	const char *id = wbx_run_id(run);
	struct wbx_run_info info;
	const char *colon;

	if (wbx_wait_for_run(run, timeout_ms) < 0)
		return false;
	wbx_get_run_info(run, &info);
	colon = info.url[0] != '\0' ? ": " : "";
	if (info.waiting == 0 && info.reason[0] == '\0')
		(void)snprintf(ret, ENDING_TEXT_MAX, "run %s: W&B has all of it%s%s", id, colon,
			       info.url); /* fits */
	else
		(void)snprintf(ret, ENDING_TEXT_MAX,
			       "run %s: all of it is on this machine's disk, %llu records wait for "
			       "W&B%s%s%s; the daemon sends them (wbxctl status)%s%s",
			       id, (unsigned long long)info.waiting,
			       info.reason[0] != '\0' ? " (" : "", info.reason,
			       info.reason[0] != '\0' ? ")" : "", colon, info.url); /* as well */
	return true;
}

static void say(const char *text)
{
	(void)fprintf(stderr, "wbx: %s\n", text);
}

static void tell(void)
{
	char text[ENDING_TEXT_MAX];

	for (size_t i = 0; i < ending.told; i++) {
		if (ending_text(ending.runs[i], ending.text_ms, text))
			say(text);
	}
}

static void on_exit_status(int exit_status, void *arg)
{
	int code = exit_status & 0xff; /* wait() says no more */

	(void)arg;
	if (getpid() != of_pid)
		return;
	of_pid = 0;
	for (size_t i = 0; i < ending.count; i++)
		(void)wbx_exit(ending.runs[i], code);
	if (ending.forget != NULL && code == 0)
		(void)unlink(ending.forget); /* else the next one finds a run that ended well */
	if (wbx_flush(ending.w, ending.timeout_ms) == -ETIMEDOUT)
		say("the daemon did not answer in time; what it does not have is kept and sent "
		    "when it does");
	else
		tell();
	if (ending.may_close)
		(void)wbx_close(ending.w, 0); /* what is not acknowledged stays in the journal */
}

bool ending_set(const struct ending *e)
{
	if (of_pid != getpid() && on_exit(on_exit_status, NULL) != 0)
		return false;
	ending = *e;
	of_pid = getpid();
	return true;
}
