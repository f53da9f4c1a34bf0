/* See control.h. */
#include "proto/control.h"

#include <assert.h>

static const struct verb_info verbs[VERB_COUNT] = {
	[VERB_STATUS] = {"status", WHO_OWN, AT_WORKER, true},
	[VERB_BACKLOG] = {"backlog", WHO_OWN, AT_WORKER, true},
	[VERB_RUNS] = {"runs", WHO_OWN, AT_WORKER, true},
	[VERB_TAIL] = {"tail", WHO_OWN, AT_WORKER, true},
	[VERB_EXPORT] = {"export", WHO_OWN, AT_WORKER, true},
	[VERB_BLOB] = {"blob", WHO_OWN, AT_WORKER, true},
	[VERB_FLUSH] = {"flush", WHO_OWN, AT_SENDER, false},
	[VERB_RETRY] = {"retry", WHO_OWN, AT_SENDER, false},
	[VERB_PAUSE] = {"pause", WHO_ADMIN, AT_STORE, false},
	[VERB_UNPAUSE] = {"unpause", WHO_ADMIN, AT_STORE, false},
	[VERB_DEAD_LIST] = {"dead_list", WHO_OWN, AT_WORKER, true},
	[VERB_DEAD_SHOW] = {"dead_show", WHO_OWN, AT_WORKER, true},
	[VERB_DEAD_RETRY] = {"dead_retry", WHO_OWN, AT_SENDER, false},
	[VERB_DEAD_DROP] = {"dead_drop", WHO_OWN, AT_SENDER, false},
	[VERB_LATE_LIST] = {"late_list", WHO_OWN, AT_WORKER, true},
	[VERB_LATE_DROP] = {"late_drop", WHO_OWN, AT_SENDER, false},
	[VERB_TRACES] = {"traces", WHO_OWN, AT_WORKER, true},
	[VERB_TRACE] = {"trace", WHO_OWN, AT_WORKER, true},
	[VERB_TRACES_SEND] = {"traces_send", WHO_OWN, AT_SENDER, false},
	[VERB_LIMIT] = {"limit", WHO_ADMIN, AT_STORE, false},
	[VERB_KEY_SET] = {"key_set", WHO_OWN, AT_SENDER, false},
	[VERB_KEY_CHECK] = {"key_check", WHO_OWN, AT_SENDER, false},
	[VERB_KEY_FORGET] = {"key_forget", WHO_OWN, AT_SENDER, false},
	[VERB_PROBE] = {"probe", WHO_OWN, AT_SENDER, false},
	[VERB_VERIFY] = {"verify", WHO_OWN, AT_SENDER, false},
	[VERB_DISK] = {"disk", WHO_OWN, AT_WORKER, true},
	[VERB_CHECK] = {"check", WHO_ADMIN, AT_WORKER, true},
	[VERB_PRUNABLE] = {"prunable", WHO_ADMIN, AT_WORKER, true},
	[VERB_PRUNE] = {"prune", WHO_ADMIN, AT_STORE, false},
};

const struct verb_info *verb_info(enum verb verb)
{
	assert(verb < VERB_COUNT);
	return &verbs[verb];
}

enum verb verb_by_name(struct span name)
{
	for (unsigned v = 0; v < VERB_COUNT; v++) {
		if (span_is(name, verbs[v].name))
			return (enum verb)v;
	}
	return VERB_UNKNOWN;
}
