/* What the facts mean: how well the daemon is, why, and the one action that helps. Pure: from facts
 * to texts, without a look at the machine. The texts are safe for a terminal. */
#pragma once

#include "client/ctl/facts.h"

/* Rising: the worst reason decides. */
enum health {
	HEALTH_HEALTHY,
	HEALTH_PAUSED,
	HEALTH_BEHIND,
	HEALTH_ATTENTION,
	HEALTH_CRITICAL,
	HEALTH_NOT_RUNNING,
	HEALTHS,
};
const char *health_name(enum health health); /* HEALTHY, ... */
const char *health_word(enum health health); /* healthy, ..., not_running: for JSON */
/* What `wbxctl status` ends with: 0 healthy, 1 behind, attention or paused, 2 critical, 3 not
 * running. */
int health_exit_code(enum health health);

struct reason {
	enum health health;
	const char *code;    /* link_down, ...: for programs; wbxctl(1) lists them */
	const char *sink;    /* borrowed from the facts; NULL: none */
	struct buf headline; /* one sentence without a point */
	struct buf text;     /* lines */
	struct buf action;   /* lines; empty: nothing helps or is needed */
	const char *see;
};

enum {
	REASONS_MAX = 32
};
struct judgement {
	enum health health;
	struct reason reasons[REASONS_MAX]; /* the worst first */
	size_t count;
};

/* ret borrows from f, and is to be ended with judgement_done() in any case. 0, or -ENOMEM. */
int judge(const struct facts *f, struct judgement *ret);
void judgement_done(struct judgement *j);

/* True when an operator has paused the sink at present. */
bool sink_is_paused(const struct facts *f, const struct sink_facts *s);
