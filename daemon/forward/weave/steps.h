/* Which step of the training it is, from what the run logs, for calls that do not say it: the value
 * of the step metric (train/global_step, else the first that define_metric names), else the step
 * that is given to log(), else the number of rows. A trainer logs when a step is over, so what happens
 * after that belongs to the next one. Pure. */
#pragma once

#include "proto/limits.h"
#include "proto/record.h"

/* What a mark is of; stored as these numbers. */
enum step_mode {
	STEP_COUNTED,
	STEP_EXPLICIT,
	STEP_METRIC,
	STEP_MODES
};

/* Embeddable, all 0 at first. */
struct steps {
	char metric[KEY_MAX + 1]; /* "": none is known */
	bool has_explicit;
	int64_t counted;          /* rows */
	int64_t last[STEP_MODES]; /* marked */
	bool has_last[STEP_MODES];
};

struct step_mark {
	enum step_mode mode;
	int64_t time_us;
	int64_t step;
};

/* A record of the metrics. How many marks it makes: 0 to 2. */
unsigned steps_take(struct steps *s, const struct record *record, struct step_mark ret[2]);
/* The step of a moment, from the last mark of each mode before it (-1: there is none); -1: not known. */
int64_t steps_of(const struct steps *s, const int64_t before[STEP_MODES]);
void steps_save(const struct steps *s, struct buf *out);
/* 0, or -EBADMSG. */
int steps_load(struct steps *s, struct span bytes);
