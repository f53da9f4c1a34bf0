/* See run_parts.h: a run's plans, and the commits of them. */
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

enum {
	SLICE_RECORDS = 64, /* of a plan, before others get a turn */
	ORPHAN_RECORDS = READER_PAGE,
	ORPHAN_MS = 600 * 1000,
	ORPHAN_ASK_MS = 30 * 1000,
};

/* --- reading --- */

static int add_line_bytes(void *arg, const struct planned_line *line)
{
	struct models_run *r = arg;

	r->planned_bytes += line->text.len;
	r->info->next_offset = line->offset + 1; /* it is that already, at the end */
	return 0;
}

/* Lines that were planned by a daemon before this one. */
static int count_planned(struct models_run *r)
{
	int64_t end = r->info->next_offset;
	int64_t at = r->info->done_offset;
	int e = 0;

	r->planned_bytes = 0;
	while (e == 0 && at < end) {
		r->info->next_offset = at;
		e = reader_lines(r->host->reader, r->id, at, add_line_bytes, r);
		if (r->info->next_offset == at)
			break;
		at = r->info->next_offset;
	}
	r->info->next_offset = end;
	return e;
}

static int read_run(struct models_run *r)
{
	int e = reader_run(r->host->reader, r->id, r->info);

	if (e == 0)
		e = plan_load(r->plan, r->host->reader);
	if (e == 0)
		e = count_planned(r);
	if (e == 0)
		e = run_load_side(r);
	if (e < 0)
		return e;
	r->is_parked = r->info->parked[0] != '\0';
	memcpy(r->plan->run_name, r->info->name, sizeof(r->plan->run_name));
	r->plan->may_write = r->info->state != RUN_NEW;
	r->plan->is_made |= r->info->server_id[0] != '\0';
	r->has_letters = true; /* a look will tell */
	r->may_have_there = true;
	return 0;
}

int run_load(struct models_run *r)
{
	int e;

	if (r->plan != NULL)
		return 0;
	if (r->host->reader == NULL)
		return -EAGAIN;
	r->info = mem_zalloc(sizeof(*r->info));
	r->plan = mem_zalloc(sizeof(*r->plan));
	if (r->info == NULL || r->plan == NULL) {
		r->info = mem_free(r->info);
		r->plan = mem_free(r->plan);
		return -ENOMEM;
	}
	r->host->loaded++;
	e = wire_about_init(&r->server_about);
	if (e == 0)
		e = plan_init(r->plan, r->id, r->host->merge_max_us);
	if (e == 0)
		e = read_run(r);
	if (e < 0)
		models_run_unload(r); /* half of it is worse than nothing */
	return e;
}

bool run_has_more(struct models_run *r, enum record_class class, int64_t *lsn, bool *may)
{
	struct stream_info stream;

	if (!*may)
		return false;
	if (reader_stream(r->host->reader, stream_of(r->id, class), &stream) < 0)
		return false; /* the next look asks again */
	if (*lsn < 0)
		*lsn = stream.planned_lsn;
	*may = stream.last_lsn > *lsn;
	return *may;
}

bool run_has_records(struct models_run *r)
{
	return run_has_more(r, CLASS_METRICS, &r->plan->cursor, &r->may_have_records);
}

/* --- commits --- */

bool run_changes(struct models_run *r)
{
	if (r->changes == NULL)
		r->changes = changes_new(r, r->host->replies);
	if (r->changes == NULL)
		run_give_up(r, "planning", -ENOMEM);
	return r->changes != NULL;
}

void run_commit(struct models_run *r)
{
	if (r->changes->error != 0) {
		run_give_up(r, "planning", r->changes->error);
		return;
	}
	run_to_work(r, WORK_COMMITTING);
	(void)mailbox_post(r->host->store, &r->changes->mail); /* never full */
}

/* --- who opens it --- */

/* A forked child attaches to its parent's run, and may be quicker than the parent; judges may be
 * there before the trainer. */
static bool may_be_opened(struct models_run *r, uint64_t now_ms)
{
	int64_t members[MEMBER_STATES] = {0};

	return now_ms - r->orphan_ms < ORPHAN_MS &&
	       reader_members(r->host->reader, r->id, members) == 0 &&
	       members[MEMBER_PRESENT] + members[MEMBER_PREEMPTING] > 0;
}

bool run_awaits_opening(struct models_run *r, uint64_t now_ms, uint64_t *ret_ms)
{
	bool has_more = false;
	int e = 0;

	if (r->plan->has_run && r->orphan_ms == 0)
		return false; /* it is another conflict */
	if (r->orphan_ms == 0) {
		r->orphan_ms = now_ms;
		r->orphan_ask_ms = now_ms + ORPHAN_ASK_MS;
		r->orphan_lsn = r->plan->cursor;
	}
	if (!r->plan->has_run)
		e = plan_find_opening(r->plan, r->host->reader, ORPHAN_RECORDS, &r->orphan_lsn,
				      &has_more);
	if (e < 0) {
		run_give_up(r, "looking for who opened the run", e);
		*ret_ms = r->not_before_ms;
		return true;
	}
	*ret_ms = has_more ? now_ms : r->orphan_ask_ms;
	if (!r->plan->has_run && !has_more && !may_be_opened(r, now_ms))
		return false;
	if (r->plan->has_run || now_ms >= r->orphan_ask_ms) { /* W&B is asked again */
		r->conflict = NULL;
		run_forget_about(r);
		r->orphan_ms = r->plan->has_run ? 0 : r->orphan_ms;
		r->orphan_ask_ms = now_ms + ORPHAN_ASK_MS;
		*ret_ms = now_ms;
	}
	return true;
}

/* --- dead letters that a person wants sent again --- */

static void settle_letter(struct models_run *r, enum change_kind kind, const struct dead_info *dead)
{
	const struct change c = {.kind = kind, .number = dead->id};

	changes_add(r->changes, &c);
	r->plan->touched = true;
}

static int revive_line(struct models_run *r, const struct dead_info *dead)
{
	struct plan *p = r->plan;
	struct change c = {
		.kind = CHANGE_LINE_ADD,
		.run = r->id,
		.offset = p->next_offset,
		.step = p->rows.next_step,
		.lsn = p->cursor,
		.time_us = dead->time_us,
	};
	struct buf text;
	int e;

	if (!p->may_write || !rows_is_free(&p->rows, p->rows.next_step))
		return 0; /* it waits for a free number */
	buf_init(&text, LINE_BYTES_MAX + 64);
	e = plan_restep(dead->body, p->rows.next_step, &text);
	if (e == 0) {
		c.text = buf_span(&text);
		changes_add(r->changes, &c);
		p->rows.next_step++;
		p->next_offset++;
		p->lines++;
		p->line_bytes += text.len;
		settle_letter(r, CHANGE_DEAD_DROP, dead);
	} else if (e == -EBADMSG) {
		settle_letter(r, CHANGE_DEAD_KEEP, dead);
	}
	buf_done(&text);
	return e == -EBADMSG ? 0 : e;
}

static int on_letter(void *arg, const struct dead_info *dead)
{
	struct models_run *r = arg;

	if (side_is_letter(dead))
		return 0; /* run_side.c sees to it */
	if (plan_is_full(r->plan))
		return 1;
	if (span_is(dead->what, "line"))
		return revive_line(r, dead);
	r->plan->about.dirty |= span_is(dead->what, "config") ? (unsigned)ABOUT_CONFIG : 0;
	r->plan->summary_dirty |= span_is(dead->what, "summary");
	settle_letter(r, CHANGE_DEAD_DROP, dead);
	return 0;
}

/* --- planning --- */

struct slice {
	struct models_run *r;
	enum plan_outcome outcome;
	uint8_t blob[DIGEST_BYTES];
};

static int on_record(void *arg, const struct stored_record *record)
{
	struct slice *s = arg;
	int e = plan_take(s->r->plan, s->r->host->reader, s->r->changes, record, &s->outcome,
			  s->blob);

	return e < 0 ? e : s->outcome != PLAN_IDLE;
}

void run_plan_start(struct models_run *r)
{
	int e;

	if (!run_changes(r))
		return;
	r->plan->send_tables = &r->host->send_tables;
	plan_begin(r->plan);
	r->plan->table_artifacts = r->host->tables;
	e = r->has_letters ? reader_dead_retries(r->host->reader, r->id, on_letter, r) : 0;
	r->has_letters = e == 1 || r->plan->touched; /* there may be more */
	if (e < 0)
		run_give_up(r, "planning", e);
	else
		run_to_work(r, WORK_PLANNING);
}

static void finish_plan(struct models_run *r)
{
	if (!r->plan->touched) {
		r->changes = changes_free(r->changes);
		run_to_work(r, WORK_IDLE);
		return;
	}
	plan_end(r->plan, r->changes);
	r->planned_bytes += r->plan->line_bytes;
	run_commit(r);
}

static void ask_for_digest(struct models_run *r, struct span blob)
{
	r->digest = digest_new(r, r->host->replies, blob);
	if (r->digest == NULL) {
		run_give_up(r, "planning", -ENOMEM);
		return;
	}
	run_to_work(r, WORK_DIGEST);
	(void)mailbox_post(r->host->worker, &r->digest->job.mail); /* never full */
}

void run_plan_slice(struct models_run *r)
{
	struct slice s = {.r = r, .outcome = PLAN_IDLE};
	struct span blob = {.at = s.blob, .len = sizeof(s.blob)};
	unsigned count = 0;
	int e;

	e = reader_records(r->host->reader, stream_of(r->id, CLASS_METRICS), r->plan->cursor,
			   SLICE_RECORDS, on_record, &s, &count);
	if (count > 0) /* more was committed with them, perhaps, since the last look */
		r->may_have_side = r->may_have_bulk = true;
	if (e == 0 && s.outcome == PLAN_IDLE && count < SLICE_RECORDS)
		e = plan_rows(r->plan, r->host->reader, r->changes, (int64_t)clock_wall_us(),
			      &s.outcome, s.blob);
	if (e < 0) {
		run_give_up(r, "planning", e);
		return;
	}
	switch (s.outcome) {
	case PLAN_IDLE:
		if (count < SLICE_RECORDS)
			finish_plan(r);
		return; /* else: another slice */
	case PLAN_STOP:
		r->is_stopped = true;
		finish_plan(r);
		return;
	case PLAN_FULL: finish_plan(r); return;
	case PLAN_TABLE: ask_for_digest(r, blob); return;
	}
}

void models_run_on_digest(struct models_run *r, struct digest_job *job)
{
	struct plan_table table = {
		.result = job->result,
		.size = job->size,
		.rows = job->rows,
		.columns = job->columns,
	};
	bool is_table_s_fault =
		job->result == -EBADMSG || job->result == -EMSGSIZE || job->result == -ENOENT;

	memcpy(table.blob, job->blob, sizeof(table.blob));
	memcpy(table.sha256, job->sha256, sizeof(table.sha256));
	r->digest = digest_free(job);
	if (table.result < 0 && !is_table_s_fault) {
		run_give_up(r, "rendering a table", table.result);
		return;
	}
	if (plan_add_table(r->plan, &table) < 0) {
		run_give_up(r, "planning", -ENOMEM);
		return;
	}
	run_to_work(r, WORK_PLANNING);
}
