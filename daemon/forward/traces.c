/* See traces.h. */
#include "daemon/forward/traces.h"

#include "daemon/base/log.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

enum {
	ROUND_MS = 10, /* of work, before mails and answers are looked at again */
	BODIES_MAX = 8 << 20,
};

static size_t place_of(const struct traces *t, int64_t run)
{
	size_t low = 0;
	size_t high = t->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (weave_run_id(t->runs[middle]) < run)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void add(struct traces *t, size_t at, int64_t run, uint32_t uid)
{
	struct user *user = sinks_join(&t->sinks, uid, clock_mono_ms());
	struct weave_run *new = NULL;

	/* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
	if (user != NULL && mem_room(t->runs, t->count, t->cap) == 0)
		new = weave_run_new(&t->host, run, user);
	if (new == NULL) { /* the next look tries again */
		if (user != NULL)
			sinks_leave(&t->sinks, user);
		return;
	}
	memmove(t->runs + at + 1, t->runs + at, (t->count - at) * sizeof(struct weave_run *));
	t->runs[at] = new;
	t->count++;
}

void traces_offer(struct traces *t, int64_t run, uint32_t uid)
{
	size_t at = place_of(t, run);
	struct stream_info stream;

	if (at < t->count && weave_run_id(t->runs[at]) == run)
		return;
	if (t->host.reader != NULL &&
	    reader_stream(t->host.reader, stream_of(run, CLASS_TRACES), &stream) == 0 &&
	    stream.waiting > 0)
		add(t, at, run, uid);
}

static void drop(struct traces *t, struct weave_run *run)
{
	struct user *user = weave_run_user(run);

	(void)weave_run_free(run);
	sinks_leave(&t->sinks, user);
}

static void drop_done(struct traces *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->count; i++) {
		if (weave_run_is_done(t->runs[i]))
			drop(t, t->runs[i]);
		else
			t->runs[kept++] = t->runs[i];
	}
	t->count = kept;
}

static void show_in_flight(struct traces *t)
{
	for (size_t i = 0; i < t->count; i++)
		weave_run_user(t->runs[i])->sink->records += weave_run_in_flight(t->runs[i]);
	for (size_t i = 0; i < t->sinks.count; i++) {
		sink_show_in_flight(t->sinks.list[i], t->sinks.list[i]->records);
		t->sinks.list[i]->records = 0;
	}
}

/* Whose user was served longest ago. NULL: none is due. */
static struct weave_run *next_due(struct traces *t, uint64_t now_ms, uint64_t *ret_next_ms)
{
	struct weave_run *best = NULL;

	*ret_next_ms = UINT64_MAX;
	for (size_t i = 0; i < t->count; i++) {
		struct weave_run *r = t->runs[i];
		uint64_t due_ms = weave_run_next_ms(r);

		if (due_ms > now_ms)
			*ret_next_ms = due_ms < *ret_next_ms ? due_ms : *ret_next_ms;
		else if (best == NULL || weave_run_user(r)->served < weave_run_user(best)->served)
			best = r;
	}
	return best;
}

uint64_t traces_turn(struct traces *t, uint64_t now_ms)
{
	uint64_t next_ms = sinks_turn(&t->sinks, now_ms);
	uint64_t run_ms = UINT64_MAX;
	struct weave_run *r;

	while (t->host.reader != NULL && (r = next_due(t, now_ms, &run_ms)) != NULL) {
		uint64_t wants_ms;

		if (clock_mono_ms() >= now_ms + ROUND_MS) {
			run_ms = now_ms;
			break;
		}
		wants_ms = weave_run_turn(r, now_ms);
		if (wants_ms <= now_ms) { /* the others first */
			run_ms = now_ms;
			break;
		}
	}
	show_in_flight(t);
	drop_done(t);
	return run_ms < next_ms ? run_ms : next_ms;
}

void traces_look(struct traces *t)
{
	for (size_t i = 0; i < t->count; i++)
		weave_run_look(t->runs[i]);
}

void traces_wake(struct traces *t)
{
	for (size_t i = 0; i < t->count; i++)
		weave_run_wake(t->runs[i]);
}

void traces_flush(struct traces *t, int64_t run)
{
	for (size_t i = 0; i < t->count; i++) {
		if (run == 0 || weave_run_id(t->runs[i]) == run)
			weave_run_flush(t->runs[i]);
	}
}

void traces_retry(struct traces *t, int64_t run)
{
	for (size_t i = 0; i < t->count; i++) {
		if (run == 0 || weave_run_id(t->runs[i]) == run)
			weave_run_retry(t->runs[i]);
	}
}

int traces_init(struct traces *t, const struct weave_host *host, const struct sink_pool *pool)
{
	struct sink_pool own = *pool;

	*t = (struct traces){.host = *host};
	own.bodies_max = BODIES_MAX;
	return sinks_init(&t->sinks, SINK_WEAVE, &own);
}

void traces_done(struct traces *t)
{
	for (size_t i = 0; i < t->count; i++)
		drop(t, t->runs[i]);
	t->runs = mem_free(t->runs);
	t->count = 0;
	sinks_done(&t->sinks);
}
