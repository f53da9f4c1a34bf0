/* See judge.h. One function per case (judge_words.h), called worst first. */
#include "client/ctl/judge.h"

#include "client/ctl/judge_words.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>

const char *health_name(enum health health)
{
	static const char *const names[HEALTHS] = {"HEALTHY",   "PAUSED",   "BEHIND",
						   "ATTENTION", "CRITICAL", "NOT RUNNING"};

	assert(health < HEALTHS);
	return names[health];
}

const char *health_word(enum health health)
{
	static const char *const words[HEALTHS] = {"healthy",   "paused",   "behind",
						   "attention", "critical", "not_running"};

	assert(health < HEALTHS);
	return words[health];
}

int health_exit_code(enum health health)
{
	static const int codes[HEALTHS] = {0, 1, 1, 1, 2, 3};

	assert(health < HEALTHS);
	return codes[health];
}

static int reason_error(const struct reason *r)
{
	const struct buf *const parts[] = {&r->headline, &r->text, &r->action};

	for (size_t i = 0; i < array_len(parts); i++) {
		if (parts[i]->error != 0 && parts[i]->error != -EMSGSIZE) /* a cut text is fine */
			return parts[i]->error;
	}
	return 0;
}

int judge(const struct facts *f, struct judgement *ret)
{
	static void (*const cases[])(const struct facts *, struct judgement *) = {
		judge_running, judge_fault,  judge_space,  judge_users,  judge_refused_key,
		judge_parked,  judge_dead,   judge_spools, judge_no_key, judge_link,
		judge_rate,    judge_server, judge_slow,   judge_paused,
	};
	int r = 0;

	*ret = (struct judgement){.health = HEALTH_HEALTHY};
	for (size_t i = 0; i < array_len(cases); i++)
		cases[i](f, ret);
	for (size_t i = 0; i < ret->count && r == 0; i++)
		r = reason_error(&ret->reasons[i]);
	return r;
}

void judgement_done(struct judgement *j)
{
	for (size_t i = 0; i < j->count; i++) {
		buf_done(&j->reasons[i].headline);
		buf_done(&j->reasons[i].text);
		buf_done(&j->reasons[i].action);
	}
	j->count = 0;
}
