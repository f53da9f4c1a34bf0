/* See run.h: what the traces of a run do next. */
#include "daemon/forward/weave/run.h"

#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/weave/run_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	STORE_RETRY_MS = 1000,
	PLACE_LOOK_MS = 500, /* between looks whether W&B knows the run by now */
};

void weave_to_work(struct weave_run *r, enum weave_work to)
{
	static const char *const names[] = {"idle", "committing", "sending"};

	log_debug("weave", "run=%lld from=%s to=%s", (long long)r->id, names[r->work], names[to]);
	r->work = to;
	r->next_ms = 0;
}

void weave_give_up(struct weave_run *r, const char *what, int error)
{
	log_warn("weave", "run=%lld errno=%d %s failed here; it is tried again", (long long)r->id,
		 -error, what);
	r->changes = changes_free(r->changes);
	r->is_loaded = false; /* the store knows better */
	r->may_have_records = r->may_have_plans = true;
	r->not_before_ms = clock_mono_ms() + STORE_RETRY_MS;
	weave_to_work(r, WEAVE_IDLE);
}

bool weave_changes(struct weave_run *r)
{
	if (r->changes == NULL)
		r->changes = changes_new(r, r->host->replies);
	if (r->changes == NULL)
		weave_give_up(r, "planning", -ENOMEM);
	else
		r->changes->of_traces = true;
	return r->changes != NULL;
}

void weave_commit(struct weave_run *r)
{
	if (r->changes->error != 0) {
		weave_give_up(r, "planning", r->changes->error);
		return;
	}
	weave_to_work(r, WEAVE_COMMITTING);
	(void)mailbox_post(r->host->store, &r->changes->mail); /* never full */
}

void weave_park(struct weave_run *r, const char *why)
{
	const struct change c = {
		.kind = CHANGE_TRACE_PARK, .run = r->id, .text = span_of_text(why)};

	log_error("weave",
		  "run=%s its traces are parked: %s; they stay here (wbxctl retry --run %s)",
		  r->info.name, why, r->info.name);
	r->is_parked = true;
	changes_add(r->changes, &c);
}

void weave_add_dead(struct weave_run *r, int status, const char *what, const char *reason,
		    struct span request, struct span answer, struct span body)
{
	const struct change c = {
		.kind = CHANGE_DEAD_ADD,
		.run = r->id,
		.text = SPAN_LITERAL("weave"),
		.time_us = (int64_t)clock_wall_us(),
		.dead =
			{
				.status = status,
				.what = what,
				.step = -1,
				.reason = span_of_text(reason),
				.request = request,
				.answer = answer,
				.body = body,
			},
	};

	changes_add(r->changes, &c);
	log_error("weave",
		  "run=%s http=%d what=\"%s\" it cannot be delivered: %s (wbxctl dead list)",
		  r->info.name, status, what, reason);
}

/* --- reading --- */

static int load(struct weave_run *r)
{
	struct stream_info stream = {0};
	struct buf state;
	int e;

	if (r->is_loaded)
		return 0;
	if (r->host->reader == NULL)
		return -EAGAIN;
	buf_init(&state, 8192);
	e = reader_run(r->host->reader, r->id, &r->info);
	if (e == 0)
		e = reader_trace_run(r->host->reader, r->id, &r->state, &state);
	if (e == 0)
		e = steps_load(&r->steps, buf_span(&state));
	if (e == 0)
		e = reader_stream(r->host->reader, stream_of(r->id, CLASS_TRACES), &stream);
	buf_done(&state);
	if (e < 0)
		return e;
	r->cursor = stream.planned_lsn;
	r->is_parked = r->state.parked[0] != '\0';
	r->op_count = 0;
	r->is_loaded = true;
	r->may_have_records = r->may_have_plans = true;
	return 0;
}

/* Whose the run is there: a trace goes where W&B has the run, so that waits to be known. */
static bool has_place(struct weave_run *r)
{
	if (r->info.server_entity[0] != '\0')
		return true;
	if (reader_run(r->host->reader, r->id, &r->info) < 0)
		return false; /* the next look asks again */
	if (r->info.server_entity[0] == '\0' && r->info.name[0] == '\0') {
		/* calls of no run: their project is as their process said */
		(void)snprintf(r->info.server_entity, sizeof(r->info.server_entity), "%s",
			       r->info.entity[0] != '\0' ? r->info.entity : r->user->sink->entity);
		(void)snprintf(r->info.server_project, sizeof(r->info.server_project), "%s",
			       r->info.project);
	}
	return r->info.server_entity[0] != '\0';
}

/* --- what next --- */

static bool is_open(const struct weave_run *r)
{
	return r->user->sink->gate == GATE_OPEN && r->user->sink->paused_until_us == 0;
}

/* When what is not due yet will be; by the wall clock. */
static uint64_t later(int64_t due_us, uint64_t now_ms)
{
	int64_t now_us = (int64_t)clock_wall_us();

	if (due_us >= INT64_MAX / 2)
		return UINT64_MAX;
	return due_us <= now_us ? now_ms + 1 : now_ms + (uint64_t)(due_us - now_us) / 1000 + 1;
}

/* Nothing of it waits any more. */
static void look_done(struct weave_run *r)
{
	struct stream_info stream;

	if (reader_stream(r->host->reader, stream_of(r->id, CLASS_TRACES), &stream) == 0)
		r->is_done = stream.waiting == 0 && stream.last_lsn <= r->cursor &&
			     r->state.lines == 0 && r->state.items == 0;
}

/* Who has nothing to send does not ask for the way. */
static uint64_t await_gate(struct weave_run *r, uint64_t now_ms)
{
	look_done(r);
	return !r->is_done && sink_want(r->user->sink) ? now_ms : UINT64_MAX;
}

/* Everything is a row: what is whole is sent. */
static uint64_t act(struct weave_run *r, uint64_t now_ms)
{
	int64_t due_us = INT64_MAX;
	int e = reader_trace_run(r->host->reader, r->id, &r->state, NULL);

	if (e < 0) {
		weave_give_up(r, "reading", e);
		return r->not_before_ms;
	}
	r->is_parked = r->state.parked[0] != '\0';
	if (r->is_parked)
		return UINT64_MAX;
	if (!is_open(r))
		return await_gate(r, now_ms);
	if (now_ms < r->not_before_ms)
		return r->not_before_ms;
	if (!has_place(r))
		return now_ms + PLACE_LOOK_MS;
	if (!user_may_write(r->user, run_entity(&r->info), run_project(&r->info))) {
		if (weave_changes(r)) {
			weave_park(r, "this user may not write there under the site's key ([users] "
				      "in wbxd.conf)");
			weave_commit(r);
		}
		return UINT64_MAX;
	}
	if (r->state.lines > 0)
		return weave_send(r, now_ms);
	e = weave_plan(r, (int64_t)clock_wall_us(), &due_us);
	if (e < 0)
		weave_give_up(r, "planning", e);
	if (e != 0)
		return r->work == WEAVE_IDLE ? r->not_before_ms : UINT64_MAX;
	r->wants_flush = false;
	look_done(r);
	return later(due_us, now_ms);
}

static uint64_t idle_turn(struct weave_run *r, uint64_t now_ms)
{
	int e;

	if (r->wants_retry)
		weave_run_retry(r);
	if (r->work != WEAVE_IDLE || r->is_done)
		return UINT64_MAX;
	e = load(r);
	if (e == 0 && r->may_have_records) {
		e = weave_take(r);
		if (e > 0)
			return r->work == WEAVE_IDLE ? now_ms : UINT64_MAX;
		r->may_have_records = false;
	}
	if (e < 0) {
		weave_give_up(r, "reading", e);
		return r->not_before_ms;
	}
	return act(r, now_ms);
}

uint64_t weave_run_turn(struct weave_run *r, uint64_t now_ms)
{
	if (now_ms < r->next_ms)
		return r->next_ms;
	r->next_ms = r->work == WEAVE_IDLE ? idle_turn(r, now_ms) : UINT64_MAX;
	return r->next_ms;
}

/* --- what happens to it --- */

void weave_run_wake(struct weave_run *r)
{
	r->next_ms = 0;
}

void weave_run_look(struct weave_run *r)
{
	r->may_have_records = true;
	r->next_ms = 0;
}

void weave_run_flush(struct weave_run *r)
{
	r->wants_flush = true;
	weave_run_look(r);
}

void weave_run_retry(struct weave_run *r)
{
	const struct change unpark = {.kind = CHANGE_TRACE_PARK, .run = r->id};

	r->not_before_ms = 0;
	r->doubts = 0;
	r->next_ms = 0;
	r->wants_retry = r->work != WEAVE_IDLE;
	if (r->wants_retry || load(r) < 0 || !r->is_parked || !weave_changes(r))
		return;
	changes_add(r->changes, &unpark);
	r->is_parked = false;
	r->attempt = 0;
	weave_commit(r);
}

void weave_run_on_changes(struct weave_run *r, struct changes *list)
{
	assert(r->changes == list && r->work == WEAVE_COMMITTING);
	if (list->result < 0) {
		weave_give_up(r, "storing", list->result);
		return;
	}
	fault_point("weave.committed");
	r->changes = changes_free(list);
	weave_to_work(r, WEAVE_IDLE);
}

bool weave_run_is_done(const struct weave_run *r)
{
	return r->is_done && r->work == WEAVE_IDLE;
}

int64_t weave_run_id(const struct weave_run *r)
{
	return r->id;
}

struct user *weave_run_user(const struct weave_run *r)
{
	return r->user;
}

uint64_t weave_run_next_ms(const struct weave_run *r)
{
	return r->next_ms;
}

unsigned weave_run_in_flight(const struct weave_run *r)
{
	return r->work == WEAVE_SENDING ? (unsigned)r->request.records : 0;
}

struct weave_run *weave_run_new(struct weave_host *host, int64_t id, struct user *user)
{
	struct weave_run *r = mem_zalloc(sizeof(*r));

	if (r == NULL)
		return NULL;
	r->host = host;
	r->user = user;
	r->id = id;
	buf_init(&r->hello, 64 << 10);
	return r;
}

struct weave_run *weave_run_free(struct weave_run *r)
{
	if (r == NULL)
		return NULL;
	r->changes = changes_free(r->changes);
	buf_done(&r->hello);
	r->kept = mem_free(r->kept);
	return mem_free(r);
}
