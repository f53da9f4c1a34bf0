/* What every room calls a run, a stream and a place in it. */
#pragma once

#include "proto/kind.h"

/* How far W&B has a run. Moved by the sender alone (forward/models/run.c draws it); stored as these
 * numbers. */
enum run_state {
	RUN_NEW,
	RUN_CREATED,
	RUN_LIVE,
	RUN_FINISHING,
	RUN_DONE,
	RUN_STATES
};
const char *run_state_name(enum run_state state);

/* A producer in a run; stored as these numbers. */
enum member_state {
	MEMBER_PRESENT,
	MEMBER_FINISHED,
	MEMBER_GONE,
	MEMBER_PREEMPTING, /* present, and about to be stopped */
	MEMBER_STATES
};

/* What W&B is told of a run beside its history, each with a count of its own; stored as these
 * numbers. */
enum side_file {
	SIDE_CONSOLE, /* lines of output.log */
	SIDE_EVENTS,  /* lines of wandb-events.jsonl: system metrics */
	SIDE_ALERTS,  /* requests of their own */
	SIDE_FILES
};

/* The records of one run and class. */
static inline int64_t stream_of(int64_t run, enum record_class class)
{
	return run * CLASS_COUNT + (int64_t) class;
}

static inline int64_t stream_run(int64_t stream)
{
	return stream / CLASS_COUNT;
}

static inline enum record_class stream_class(int64_t stream)
{
	return (enum record_class)(stream % CLASS_COUNT);
}

/* Key of a history line: the run's number above 36 bits of offset. */
enum {
	LINE_OFFSET_BITS = 36
};
static inline int64_t line_id(int64_t run, int64_t offset)
{
	return run * ((int64_t)1 << LINE_OFFSET_BITS) + offset;
}
