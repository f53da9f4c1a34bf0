/* See run.h: what a run does next. */
#include "daemon/forward/models/run.h"

#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	ABOUT_OLD_MS = 60000, /* what W&B said of config and tags is asked for again */
	STORE_RETRY_MS = 1000,
	BEHIND_INTERVAL_MS = 1000, /* between requests while there is much output */
};

static const struct {
	const char *name;
	unsigned allowed; /* states this one may move to */
} states[RUN_STATES] = {
	[RUN_NEW] = {"new", 1u << RUN_CREATED | 1u << RUN_DONE},
	[RUN_CREATED] = {"created",
			 1u << RUN_NEW | 1u << RUN_LIVE | 1u << RUN_FINISHING | 1u << RUN_DONE},
	[RUN_LIVE] = {"live", 1u << RUN_NEW | 1u << RUN_FINISHING | 1u << RUN_DONE},
	[RUN_FINISHING] = {"finishing", 1u << RUN_NEW | 1u << RUN_LIVE | 1u << RUN_DONE},
	[RUN_DONE] = {"done", 1u << RUN_NEW | 1u << RUN_LIVE | 1u << RUN_DONE},
};

void run_move(struct models_run *r, enum run_state to)
{
	const struct change c = {.kind = CHANGE_RUN_STATE, .run = r->id, .state = to};

	assert(states[r->info->state].allowed & 1u << to);
	log_info("models", "run=%s from=%s to=%s", r->info->name, states[r->info->state].name,
		 states[to].name);
	r->info->state = to;
	changes_add(r->changes, &c);
}

void run_to_work(struct models_run *r, enum run_work to)
{
	static const char *const names[] = {"idle",   "planning",   "planning beside",
					    "digest", "committing", "sending"};

	log_debug("models", "run=%lld from=%s to=%s", (long long)r->id, names[r->work], names[to]);
	r->work = to;
	r->next_ms = 0;
}

void run_park(struct models_run *r, const char *why)
{
	const struct change c = {.kind = CHANGE_RUN_PARK, .run = r->id, .text = span_of_text(why)};

	log_error("models", "run=%s parked: %s; its data stays here (wbxctl retry --run %s)",
		  r->info->name, why, r->info->name);
	(void)snprintf(r->info->parked, sizeof(r->info->parked), "%s", why); /* may be cut */
	r->is_parked = true;
	changes_add(r->changes, &c);
	run_tell(r);
}

void run_give_up(struct models_run *r, const char *what, int error)
{
	log_warn("models", "run=%lld errno=%d %s failed here; it is tried again", (long long)r->id,
		 -error, what);
	r->changes = changes_free(r->changes);
	r->is_parked = false; /* the store says, when the run is read again */
	r->not_before_ms = clock_mono_ms() + STORE_RETRY_MS;
	run_to_work(r, WORK_IDLE);
	models_run_unload(r);
}

/* --- what next --- */

/* Nobody logs to it any more, or somebody's machine will be taken away. */
static bool is_urgent(struct models_run *r)
{
	int64_t members[MEMBER_STATES] = {0};

	return reader_members(r->host->reader, r->id, members) == 0 &&
	       (members[MEMBER_PRESENT] == 0 || members[MEMBER_PREEMPTING] > 0);
}

/* Something waits for a request, but alerts. */
static bool has_news(const struct models_run *r)
{
	return r->plan->about.dirty != 0 || r->plan->summary_dirty || r->plan->preempting ||
	       r->plan->next_offset > r->info->done_offset || side_has_lines(r->side) ||
	       r->has_there;
}

static bool has_alert(const struct models_run *r)
{
	return r->side->unsent[SIDE_ALERTS].count > 0;
}

static bool is_dirty(const struct models_run *r)
{
	return has_news(r) || has_alert(r);
}

/* Judge calls of it that wait to know what W&B calls it. */
static bool has_traces(struct models_run *r)
{
	struct stream_info stream;

	return r->info->state == RUN_NEW &&
	       reader_stream(r->host->reader, stream_of(r->id, CLASS_TRACES), &stream) == 0 &&
	       stream.waiting > 0;
}

/* Everything is with W&B but the word that it is over. Files that wait may have been sent, or
 * planned, since the run was read. */
static bool may_end(struct models_run *r, bool has_more)
{
	if (!plan_is_over(r->plan) || has_more || side_waits(r->side) || r->side->console.count > 0)
		return false;
	return reader_run(r->host->reader, r->id, r->info) == 0 && r->info->uploads == 0 &&
	       r->info->artifacts == 0 && !has_traces(r);
}

/* What goes to W&B whole is read there first: somebody else's part of it stays. */
static bool wants_about(const struct models_run *r)
{
	const struct plan *p = r->plan;

	if (r->has_about && clock_mono_ms() < r->about_ms + ABOUT_OLD_MS)
		return false;
	return r->info->state == RUN_NEW || (p->about.dirty & (ABOUT_TAGS | ABOUT_CONFIG)) != 0 ||
	       (p->summary_dirty && !p->shared.is_on &&
		(p->has_company || p->was_over || !p->has_run));
}

/* Tags from outside for a run that is over: it is not opened again for them. (For a key of its config
 * it is: whether W&B opens it for that is not known.) */
static bool has_tags_alone(const struct models_run *r)
{
	return r->plan->about.dirty == ABOUT_TAGS && !r->plan->summary_dirty &&
	       r->plan->next_offset == r->info->done_offset && !side_has_lines(r->side) &&
	       !has_alert(r) && rows_have_no_owner(&r->plan->rows) &&
	       rows_are_empty(&r->plan->rows);
}

/* True when r->request says what to ask or tell. A guest that has nothing to add asks nothing. */
static bool choose_request(struct models_run *r, bool may_complete, uint64_t now_ms)
{
	struct plan *p = r->plan;
	bool is_new = r->info->state == RUN_NEW;

	r->request = (struct request){.kind = REQUEST_STREAM, .is_complete = may_complete};
	if ((r->info->state == RUN_DONE && !has_tags_alone(r)) ||
	    (!p->has_run && !r->is_stopped && !is_dirty(r) && !may_complete &&
	     !(is_new && run_has_side(r)) && !has_traces(r)))
		return false;
	if (wants_about(r)) {
		r->request.kind = REQUEST_STATUS;
		r->request.is_whole = true;
		return true;
	}
	if (is_new || p->about.dirty != 0) {
		r->request.kind = REQUEST_UPSERT;
		r->request.what = p->about.dirty;
		return true;
	}
	if (has_alert(r) && !(has_news(r) && r->alert_was_last)) {
		r->request.kind = REQUEST_ALERT;
		return true;
	}
	return has_news(r) || may_complete || r->info->state == RUN_CREATED ||
	       now_ms >= r->contact_ms + r->host->heartbeat_ms;
}

/* A run that was done and got something new is opened with an upsert, as W&B wants it. Meanwhile somebody
 * may have added to its summary. */
static void reopen(struct models_run *r)
{
	if (!run_changes(r))
		return;
	r->plan->about.dirty |= ABOUT_CONFIG;
	r->plan->was_over = true;
	run_forget_about(r);
	run_unsay_complete(r);
	/* one that W&B never had (nothing came of it) is asked for as a new one is */
	run_move(r, r->info->server_id[0] == '\0' ? RUN_NEW : RUN_LIVE);
	r->plan->may_write = r->info->state != RUN_NEW;
	plan_save(r->plan, r->changes);
	run_commit(r);
}

/* Nothing more is to be told of it. */
static void end_quietly(struct models_run *r)
{
	if (!run_changes(r))
		return;
	run_move(r, RUN_DONE);
	r->is_done = true;
	run_commit(r);
}

/* Who only attached does not end the run, but for one that had ended and was opened again by it. */
static bool says_end(const struct models_run *r)
{
	const struct plan *p = r->plan;

	if (p->shared.is_on && !p->shared.updates_end)
		return false; /* another writer does */
	return p->has_run || (p->has_ended && p->has_written);
}

/* Changes of state that need no request. True: one is under way. */
static bool settle(struct models_run *r, bool ends, bool is_over)
{
	enum run_state state = r->info->state;
	bool is_again = is_dirty(r) || !rows_have_no_owner(&r->plan->rows);

	if (state == RUN_DONE && is_again && !has_tags_alone(r))
		reopen(r);
	else if (ends && !is_dirty(r) && (state == RUN_DONE || !says_end(r)))
		end_quietly(r);
	else if ((state == RUN_CREATED || state == RUN_LIVE) && is_over && run_changes(r)) {
		const struct change end = {.kind = CHANGE_UPLOADS_END, .run = r->id};

		changes_add(r->changes, &end);
		run_move(r, RUN_FINISHING);
		run_commit(r);
	} else if (state == RUN_FINISHING && !is_over && run_changes(r)) {
		run_move(r, RUN_LIVE);
		run_commit(r);
	}
	return r->work != WORK_IDLE;
}

static uint64_t interval_ms(const struct models_run *r)
{
	uint64_t ms = r->host->interval_ms;

	return r->is_side_behind && r->may_have_side && ms > BEHIND_INTERVAL_MS ? BEHIND_INTERVAL_MS
										: ms;
}

/* Requests go out at once in the beginning and at the end, when there will be no later, after a
 * failure when its wait is over, and on demand; else at intervals. */
static bool is_time(struct models_run *r, bool has_more, uint64_t now_ms)
{
	if (r->posted_ms == 0 || r->wants_flush || r->attempt > 0 || r->parts_max != 0 ||
	    now_ms >= r->posted_ms + interval_ms(r))
		return true;
	if (r->planned_bytes >= run_body_target(r))
		return true;
	return (has_more || is_dirty(r)) && is_urgent(r);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When a row becomes ready although nothing comes; by the wall clock. */
static uint64_t rows_due_ms(const struct models_run *r, uint64_t now_ms)
{
	int64_t now_us = (int64_t)clock_wall_us();
	int64_t next_us;
	struct row row;

	if (!r->plan->may_write)
		return UINT64_MAX;
	if (rows_peek(&r->plan->rows, now_us, &row) != ROW_NONE)
		return now_ms;                  /* since wants_plan() looked */
	next_us = rows_next_us(&r->plan->rows); /* above now_us, now */
	if (next_us == INT64_MAX)
		return UINT64_MAX;
	return now_ms + (uint64_t)(next_us - now_us) / 1000 + 1;
}

static uint64_t next_turn(const struct models_run *r, uint64_t now_ms)
{
	uint64_t next_ms = rows_due_ms(r, now_ms);

	if (r->info->state != RUN_DONE && r->plan->has_run)
		next_ms = earlier(next_ms, r->contact_ms + r->host->heartbeat_ms);
	return next_ms > now_ms ? next_ms : now_ms + 1;
}

static bool wants_plan(const struct models_run *r, bool has_more)
{
	struct row row;
	bool is_ready = r->plan->may_write &&
			rows_peek(&r->plan->rows, (int64_t)clock_wall_us(), &row) != ROW_NONE;

	return ((has_more && !r->is_stopped) || is_ready || r->has_letters) &&
	       r->planned_bytes < sink_body_target(r->user->sink, r->user->uid);
}

/* Who opened it was refused, and has left: what he said of the run is not said. */
static void end_refused(struct models_run *r)
{
	int e;

	if (!run_changes(r))
		return;
	e = plan_forget_opening(r->plan);
	if (e < 0) {
		run_give_up(r, "forgetting what was refused", e);
		return;
	}
	plan_save(r->plan, r->changes);
	end_quietly(r);
}

/* W&B has the run otherwise than the one who opened it says. Nothing is made of it but when there is
 * something to deliver: then it waits for a person. */
static uint64_t hold_conflict(struct models_run *r, bool has_more, uint64_t now_ms)
{
	const struct plan *p = r->plan;
	bool is_guest_s = !p->has_run && is_dirty(r);
	uint64_t next_ms;

	if (run_awaits_opening(r, now_ms, &next_ms))
		return next_ms;
	if (r->is_stopped || !rows_are_empty(&p->rows) || is_guest_s || run_has_side(r)) {
		if (!run_changes(r))
			return UINT64_MAX;
		run_park(r, r->conflict);
		run_commit(r);
	} else if (plan_is_over(p) && !has_more) {
		end_refused(r);
	}
	return UINT64_MAX;
}

/* A report goes with what goes anyway. */
static bool wants_report(const struct models_run *r, uint64_t now_ms)
{
	bool goes = has_news(r) || now_ms >= r->contact_ms + r->host->heartbeat_ms;

	return goes && run_report_is_due(r, now_ms);
}

/* It is not time for the next body; alerts do not wait for it. */
static uint64_t act_between(struct models_run *r, uint64_t now_ms)
{
	if (!has_alert(r))
		return r->posted_ms + interval_ms(r);
	r->request = (struct request){.kind = REQUEST_ALERT};
	return run_send(r, now_ms);
}

/* All that there is, is planned. */
static uint64_t act_planned(struct models_run *r, bool has_more, bool has_side, uint64_t now_ms)
{
	bool ends = may_end(r, has_more || has_side);

	if (ends && run_say_complete(r))
		return UINT64_MAX;
	if (run_looks_at_own(r, ends, now_ms))
		return run_send(r, now_ms);
	if (settle(r, ends, plan_is_over(r->plan) && !has_more))
		return UINT64_MAX;
	if (choose_request(r, ends && says_end(r), now_ms))
		return run_send(r, now_ms);
	r->wants_flush = false;
	return next_turn(r, now_ms);
}

/* Idle and free to act. */
static uint64_t act(struct models_run *r, uint64_t now_ms)
{
	bool has_more = run_has_records(r);
	bool has_side = run_has_side(r);
	bool wants_rows;
	bool wants_side;

	run_look_for_there(r);
	if (run_settle_shared(r))
		return r->work == WORK_IDLE ? r->not_before_ms : UINT64_MAX;
	if (!is_time(r, has_more || has_side, now_ms)) /* rows that get ready wait for it, too */
		return act_between(r, now_ms);
	wants_rows = wants_plan(r, has_more);
	wants_side = !wants_rows && (run_wants_side(r, !has_more) || wants_report(r, now_ms));
	if (run_must_ask(r, wants_rows || wants_side, now_ms)) {
		r->request = (struct request){
			.kind = r->wants_rows ? REQUEST_ROWS : REQUEST_STATUS,
			.is_whole = !r->wants_rows && wants_about(r),
		};
		return run_send(r, now_ms);
	}
	if (wants_rows) {
		run_plan_start(r);
		return now_ms;
	}
	if (wants_side)
		return run_side_start(r, !has_more) ? run_send(r, now_ms) : now_ms;
	if (r->conflict != NULL && !run_conflict_is_over(r))
		return hold_conflict(r, has_more, now_ms);
	return act_planned(r, has_more, has_side, now_ms);
}

/* The site's key opens more than its users may: a run that belongs elsewhere waits for a person. True
 * when it does, or could not be marked so. */
static bool park_elsewhere(struct models_run *r)
{
	const struct run_info *i = r->info;
	const char *entity = i->entity[0] != '\0' ? i->entity : r->user->sink->entity;
	char why[sizeof(i->parked)];

	if (r->is_parked || user_may_write(r->user, i->entity, i->project))
		return false;
	if (!run_changes(r))
		return true;
	(void)snprintf(why, sizeof(why),
		       "user %u may not write to %.60s/%.60s under the site's key ([users] in "
		       "wbxd.conf); under his own he may: wbxctl key set",
		       r->user->uid, entity, i->project); /* fits */
	run_park(r, why);
	run_commit(r);
	return true;
}

static uint64_t idle_turn(struct models_run *r, uint64_t now_ms)
{
	int e;

	if (r->wants_retry)
		models_run_retry(r);
	if (r->work != WORK_IDLE)
		return UINT64_MAX;
	if (r->is_parked || r->is_done)
		return UINT64_MAX;
	if (r->user->sink->gate != GATE_OPEN || r->user->sink->paused_until_us != 0)
		return UINT64_MAX; /* nothing is planned that cannot be sent */
	if (now_ms < r->not_before_ms)
		return r->not_before_ms;
	e = run_load(r);
	if (e < 0) {
		run_give_up(r, "reading the run", e);
		return r->not_before_ms;
	}
	if (park_elsewhere(r))
		return r->work == WORK_IDLE ? r->not_before_ms : UINT64_MAX;
	if (!r->is_parked && run_has_bulk(r)) {
		run_bulk_plan(r);
		return r->work == WORK_IDLE ? r->not_before_ms : UINT64_MAX;
	}
	if (!r->is_parked)
		return act(r, now_ms);
	models_run_unload(r);
	return UINT64_MAX;
}

static uint64_t take_turn(struct models_run *r, uint64_t now_ms)
{
	switch (r->work) {
	case WORK_IDLE: return idle_turn(r, now_ms);
	case WORK_PLANNING: run_plan_slice(r); return now_ms;
	case WORK_SIDE: run_side_slice(r); return now_ms;
	case WORK_DIGEST:
	case WORK_COMMITTING:
	case WORK_SENDING: return UINT64_MAX;
	}
	return UINT64_MAX;
}

uint64_t models_run_turn(struct models_run *r, uint64_t now_ms)
{
	if (now_ms >= r->next_ms)
		r->next_ms = take_turn(r, now_ms);
	if (now_ms >= r->files_next_ms)
		r->files_next_ms = run_files_turn(r, now_ms);
	return models_run_next_ms(r);
}

/* --- what happens to it --- */

void models_run_wake(struct models_run *r)
{
	r->next_ms = 0;
	r->files_next_ms = 0;
}

void models_run_look(struct models_run *r)
{
	r->may_have_records = true;
	r->may_have_side = true;
	r->may_have_bulk = true;
	r->next_ms = 0;
}

void models_run_flush(struct models_run *r)
{
	r->wants_flush = true;
	r->may_have_records = true;
	r->may_have_side = true;
	r->may_have_bulk = true;
	r->has_letters = true;
	r->has_side_letters = true;
	r->next_ms = 0;
	run_files_look(r);
}

/* A parked run begins again: perhaps somebody deleted it there, or gave it other rights. */
void models_run_retry(struct models_run *r)
{
	const struct change unpark = {.kind = CHANGE_RUN_PARK, .run = r->id};

	r->not_before_ms = 0;
	r->doubts = 0;
	r->config = CONFIG_TRUSTED;
	r->wants_flush = true;
	r->next_ms = 0;
	r->wants_retry = r->work != WORK_IDLE; /* the store may just be told that it is parked */
	if (r->wants_retry || run_load(r) < 0 || !r->is_parked || !run_changes(r))
		return;
	changes_add(r->changes, &unpark);
	r->is_parked = false;
	r->info->parked[0] = '\0';
	r->info->server_id[0] = '\0'; /* there may be another of that name now */
	run_forget_about(r);
	r->conflict = NULL;
	r->orphan_ms = 0;
	r->attempt = 0;
	r->plan->resume = RESUME_ANY; /* a person has looked */
	r->plan->shared.is_settled = true;
	r->plan->shared.is_asked_late = false;
	r->plan->about.dirty = r->plan->has_run ? ABOUT_ALL : r->plan->about.dirty;
	if (r->info->state != RUN_NEW)
		run_move(r, RUN_NEW);
	r->plan->may_write = false;
	plan_save(r->plan, r->changes);
	run_tell(r);
	run_commit(r);
}

void models_run_on_changes(struct models_run *r, struct changes *list)
{
	if (run_files_on_changes(r, list))
		return;
	assert(r->changes == list && r->work == WORK_COMMITTING);
	if (list->result < 0) {
		run_give_up(r, "storing", list->result);
		return;
	}
	if (r->info->done_offset < r->plan->next_offset)
		fault_point("plan.committed");
	if (r->side != NULL && side_has_lines(r->side))
		fault_point("side.committed");
	r->changes = changes_free(list);
	run_to_work(r, WORK_IDLE);
	run_files_look(r); /* it may have planned some */
}

bool models_run_is_done(const struct models_run *r)
{
	return r->is_done && r->work == WORK_IDLE && run_files_are_idle(r);
}

bool models_run_is_away(const struct models_run *r)
{
	return r->work == WORK_DIGEST || r->work == WORK_COMMITTING || r->work == WORK_SENDING;
}

bool models_run_is_loaded(const struct models_run *r)
{
	return r->plan != NULL;
}

unsigned models_run_in_flight(const struct models_run *r)
{
	return r->work == WORK_SENDING ? (unsigned)r->request.records : 0;
}

int64_t models_run_id(const struct models_run *r)
{
	return r->id;
}

struct user *models_run_user(const struct models_run *r)
{
	return r->user;
}

uint64_t models_run_served(const struct models_run *r)
{
	return r->served;
}

uint64_t models_run_next_ms(const struct models_run *r)
{
	return earlier(r->next_ms, r->files_next_ms);
}

void models_run_unload(struct models_run *r)
{
	assert(!models_run_is_away(r));
	r->changes = changes_free(r->changes); /* of a plan that is not finished */
	if (r->plan != NULL) {
		plan_done(r->plan);
		wire_about_done(&r->server_about);
		if (r->side != NULL)
			side_done(r->side);
		r->host->loaded--;
	}
	r->plan = mem_free(r->plan);
	r->side = mem_free(r->side);
	r->info = mem_free(r->info);
	r->has_about = false;
	r->conflict = NULL;
	r->orphan_ms = 0;
	r->is_stopped = false;
	if (r->work == WORK_PLANNING || r->work == WORK_SIDE)
		run_to_work(r, WORK_IDLE);
}

struct models_run *models_run_new(struct run_host *host, int64_t id, struct user *user)
{
	struct models_run *r = mem_zalloc(sizeof(*r));

	if (r == NULL)
		return NULL;
	r->host = host;
	r->user = user;
	r->id = id;
	r->may_have_records = true;
	r->may_have_side = true;
	r->may_have_bulk = true;
	r->may_have_files = true;
	return r;
}

struct models_run *models_run_free(struct models_run *r)
{
	if (r == NULL)
		return NULL;
	r->work =
		WORK_IDLE; /* what it waited for is back, or was given up with the sink's requests */
	r->changes = changes_free(r->changes);
	r->files = run_files_free(r->files);
	models_run_unload(r);
	return mem_free(r);
}
