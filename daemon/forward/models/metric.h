/* What define_metric() says: x axes, summaries, globs; and the `m` list of the run's config.
 * Follows the released SDK's rules (research: wire/wandb-models 4.3 and wandb-core's runmetric).
 * One owner at a time. */
#pragma once

#include "daemon/forward/models/tree.h"

enum summary_kind { /* bits */
	SUMMARY_MIN = 1 << 0,
	SUMMARY_MAX = 1 << 1,
	SUMMARY_MEAN = 1 << 2,
	SUMMARY_BEST = 1 << 3,
	SUMMARY_LAST = 1 << 4,
	SUMMARY_NONE = 1 << 5,
	SUMMARY_COPY = 1 << 6,
	SUMMARY_FIRST = 1 << 7,
};

enum metric_goal {
	GOAL_NONE,
	GOAL_MINIMIZE,
	GOAL_MAXIMIZE
};

struct metric {
	char *name;        /* with its '*' when it is a glob */
	char *step_metric; /* NULL: none */
	bool is_glob;
	bool step_sync;
	bool hidden;
	bool has_summary; /* kinds were given */
	unsigned kinds;
	enum metric_goal goal;
};

/* A metric that others use as their step: its last value. */
struct step_value {
	char *name;
	double value; /* 0 until it was logged */
};

struct metrics {
	struct metric *items; /* in the order of their definition */
	size_t count;
	struct step_value *steps;
	size_t step_count;
};
enum {
	METRICS_MAX = 4096
};

void metrics_done(struct metrics *m);
/* Takes the body of a `define` record. 0 and *ret, which stays valid until the next call; -ENOMEM;
 * -E2BIG: METRICS_MAX. */
int metrics_define(struct metrics *m, struct mp body, const struct metric **ret);
/* Takes those of the list (msgpack, of `define` bodies) whose names are not defined here. 0, -ENOMEM,
 * -E2BIG, -EBADMSG. */
int metrics_adopt(struct metrics *m, struct span list);
/* The definition that counts for a key: its own, else the longest glob that fits (the SDK takes
 * any); keys with a leading '_' only their own. */
const struct metric *metrics_find(const struct metrics *m, struct span key);

/* Others use it as their step. */
bool metrics_is_step(const struct metrics *m, struct span name);

/* Before a row is written: notes the values of step metrics that the row holds, then puts the last
 * value of the step metric beside every metric that wants it (step_sync) and lacks it. 0, -ENOMEM,
 * -E2BIG. */
int metrics_sync_row(struct metrics *m, struct tree *row);

/* The list `m` of the run's config. */
void metrics_to_json(const struct metrics *m, struct json *j);
/* State: a map, and back. */
void metrics_to_msgpack(const struct metrics *m, struct pack *p);
int metrics_from_msgpack(struct metrics *ret, struct mp map); /* 0, -ENOMEM, -EBADMSG */

/* A name whose dots separate nesting, "\." being a dot, as keys. Borrows from room; returns how
 * many. */
enum {
	METRIC_PATH_MAX = 32
};
size_t metric_path(const char *name, char *room, size_t room_size,
		   struct span ret[METRIC_PATH_MAX]);
