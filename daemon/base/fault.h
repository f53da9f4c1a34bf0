/* Named points at which a test makes the daemon die, or a thread of it stand still. Built in with
 * -Dfaults=true (./dev does); a no-op otherwise. WBX_FAULT="commit.written:3" kills the process with
 * SIGKILL when the point is reached for the third time; with "store.step:3:5000" the thread stands
 * still there for 5000 ms, and says so before and after. Any thread. */
#pragma once

#ifdef WBX_FAULTS
void fault_point(const char *name);
#else
static inline void fault_point(const char *name)
{
	(void)name;
}
#endif
