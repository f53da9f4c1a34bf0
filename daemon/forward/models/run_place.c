/* See run_parts.h: where our lines stand in a run to which others may write as well. */
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	SHORT_COUNTS_MAX = 12,
	QUIET_ASKS_MAX = 12, /* before each request; then once in a heartbeat */
};

void run_forget_about(struct models_run *r)
{
	r->has_about = false;
	wire_about_clear(&r->server_about);
}

/* Our offsets and step numbers hold while nobody else writes: after a start, a lost link and a
 * silence W&B is asked how far it has the run, and again and again when it was there before us, or
 * others were found in it. */
bool run_must_ask(const struct models_run *r, bool wants_rows, uint64_t now_ms)
{
	uint64_t every_ms =
		r->quiet_asks < QUIET_ASKS_MAX ? r->host->interval_ms / 2 : r->host->heartbeat_ms;
	bool is_alone = r->is_alone && now_ms < r->heard_ms + 2 * r->host->heartbeat_ms &&
			(!r->plan->has_company || now_ms < r->asked_ms + every_ms);

	if (r->info->state == RUN_NEW || r->info->state == RUN_DONE || r->plan->shared.is_on)
		return false;
	if (r->wants_rows)
		return true;
	if (is_alone)
		return false;
	return wants_rows || r->plan->next_offset > r->info->done_offset || side_has_lines(r->side);
}

/* --- which of the planned lines are there --- */

int run_planned_steps(struct models_run *r, int64_t *ret_first, int64_t *ret_last)
{
	return reader_line_steps(r->host->reader, r->id, r->info->done_offset, ret_first, ret_last);
}

/* Lines go out and arrive in their order: those that W&B has are the first ones. */
struct comparison {
	struct models_run *r;
	struct wire_row *planned;
	size_t planned_count;
	size_t planned_cap;
	size_t there;
};

static int on_planned(void *arg, const struct planned_line *line)
{
	struct comparison *c = arg;

	if (mem_room(c->planned, c->planned_count, c->planned_cap) < 0)
		return -ENOMEM;
	if (!wire_row_of(line->text, &c->planned[c->planned_count]))
		return 1; /* all that we plan has both */
	c->planned_count++;
	return 0;
}

static int read_planned(struct comparison *c)
{
	struct models_run *r = c->r;
	int64_t at = r->info->done_offset;
	int e = 0;

	while (e == 0 && at < r->plan->next_offset) {
		size_t before = c->planned_count;

		e = reader_lines(r->host->reader, r->id, at, on_planned, c);
		if (c->planned_count == before)
			break;
		at += (int64_t)(c->planned_count - before);
	}
	return e < 0 ? e : 0;
}

static void on_row(void *arg, struct span line)
{
	struct comparison *c = arg;
	struct wire_row row;

	if (c->there < c->planned_count && wire_row_of(line, &row) &&
	    wire_row_is(&row, &c->planned[c->there]))
		c->there++;
}

int run_read_rows(struct models_run *r, struct span body)
{
	struct comparison c = {.r = r};
	int e = read_planned(&c);

	if (e == 0)
		e = wire_read_rows(body, on_row, &c);
	r->rows_there = (int64_t)c.there;
	(void)mem_free(c.planned);
	return e;
}

/* --- behind others --- */

struct restep {
	struct models_run *r;
	int64_t offset; /* of the next line, where it stands from now on */
	int64_t step;   /* the lowest that is free */
	int error;
};

/* A line keeps its step unless somebody has it, or a higher one. */
static int on_line_to_restep(void *arg, const struct planned_line *line)
{
	struct restep *n = arg;
	struct change c = {
		.kind = CHANGE_LINE_STEP, .run = n->r->id, .offset = n->offset++, .step = n->step};
	struct buf text;

	if (line->step >= n->step) {
		n->step = line->step + 1;
		return 0;
	}
	if (n->r->plan->resteps_to == 0) { /* for whoever tells these rows again */
		n->r->plan->resteps = line->step;
		n->r->plan->resteps_to = n->step;
	}
	buf_init(&text, LINE_BYTES_MAX + 64);
	n->error = plan_restep(line->text, n->step, &text);
	if (n->error == 0) {
		c.text = buf_span(&text);
		changes_add(n->r->changes, &c);
		n->step++;
	}
	buf_done(&text);
	return n->error;
}

static int restep(struct models_run *r, int64_t from, int64_t count, int64_t to)
{
	struct restep n = {.r = r, .offset = to, .step = r->server.next_step};
	int e = 0;

	while (e == 0 && n.offset < to + count) {
		int64_t before = n.offset;

		e = reader_lines(r->host->reader, r->id, from + (before - to), on_line_to_restep,
				 &n);
		if (n.offset == before)
			break;
	}
	if (r->plan->rows.next_step < n.step)
		r->plan->rows.next_step = n.step;
	return e;
}

static int on_line_there(void *arg, const struct planned_line *line)
{
	struct models_run *r = arg;
	const struct change c = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(r->id, CLASS_METRICS),
		.records = line->records,
		.bytes = line->bytes,
	};

	if (r->rows_there-- <= 0)
		return 1;
	changes_add(r->changes, &c);
	r->planned_bytes -= line->text.len < r->planned_bytes ? line->text.len : r->planned_bytes;
	return 0;
}

/* The first `there` of the planned lines were taken, only the answer was lost. */
static int confirm_there(struct models_run *r, int64_t there)
{
	const struct change done = {
		.kind = CHANGE_LINES_DONE, .run = r->id, .offset = r->info->done_offset + there};
	int64_t left;
	int e = 0;

	r->rows_there = there;
	while (e == 0 && r->rows_there > 0) {
		left = r->rows_there;
		e = reader_lines(r->host->reader, r->id, done.offset - left, on_line_there, r);
		if (r->rows_there == left)
			break;
	}
	r->rows_there = 0;
	if (there > 0)
		changes_add(r->changes, &done);
	r->info->done_offset += there;
	return e < 0 ? e : 0;
}

/* Ours go on behind so many lines; `there` of those that are planned are among them. */
static int go_behind(struct models_run *r, int64_t lines, int64_t there)
{
	const struct change c = {.kind = CHANGE_RUN_OFFSET, .run = r->id, .offset = lines};
	struct plan *p = r->plan;
	int64_t count = p->next_offset - r->info->done_offset - there;
	int e = confirm_there(r, there);

	changes_add(r->changes, &c);
	if (e == 0)
		e = restep(r, r->info->done_offset, count, lines);
	p->next_offset = lines + count;
	r->info->done_offset = lines;
	r->quiet_asks = 0;
	p->has_company = true;
	return e;
}

/* What W&B has beyond what it confirmed is ours when its newest row is the one that we have there:
 * only the answer was lost. */
static int on_line_row(void *arg, const struct planned_line *line)
{
	struct wire_row *row = arg;

	if (!wire_row_of(line->text, row))
		row->step = -1;
	return 1;
}

static bool is_ours(struct models_run *r, int64_t lines)
{
	struct wire_row row = {.step = -1};

	if (lines == r->info->done_offset)
		return true;
	if (lines < r->info->done_offset || lines > r->plan->next_offset ||
	    lines != r->server.lines || !r->server.has_last)
		return false;
	return reader_lines(r->host->reader, r->id, lines - 1, on_line_row, &row) >= 0 &&
	       wire_row_is(&row, &r->server.last);
}

/* A shared writer's lines go on where it was; W&B having the run anew, from 0 on. */
static void take_own_place(struct models_run *r)
{
	int e;

	(void)run_side_follow(r, true);
	run_unsay_complete(r);
	if (r->server.exists || r->info->done_offset == 0)
		return;
	e = go_behind(r, 0, 0);
	r->plan->has_company = false;
	if (e < 0)
		r->changes->error = e;
}

void run_take_place(struct models_run *r, int64_t lines)
{
	struct rows *rows = &r->plan->rows;
	int e;

	if (r->plan->shared.is_on) {
		take_own_place(r);
		return;
	}

	if (r->server.lines > lines)
		lines = r->server.lines;
	if (rows->next_step < r->server.next_step)
		rows->next_step = r->server.next_step;
	r->is_alone = true;
	(void)run_side_follow(r, true);
	run_unsay_complete(r);
	if (is_ours(r, lines))
		return;
	log_info("models", "run=%s goes on behind the %lld rows that W&B has", r->info->name,
		 (long long)lines);
	e = go_behind(r, lines, 0);
	if (e < 0)
		r->changes->error = e;
}

/* --- what W&B says --- */

/* Its count may be behind its rows. */
static bool is_short(struct models_run *r, const struct wire_run *server)
{
	if (!server->exists || server->lines >= r->info->done_offset ||
	    ++r->short_counts >= SHORT_COUNTS_MAX) {
		r->short_counts = 0;
		return false;
	}
	run_forget_about(r);
	r->not_before_ms = clock_mono_ms() + r->host->interval_ms;
	return true;
}

static void park(struct models_run *r, const char *why)
{
	if (!run_changes(r))
		return;
	run_park(r, why);
	run_commit(r);
}

/* Nobody else wrote rows; perhaps lines of other files. */
static void follow_beside(struct models_run *r)
{
	if (!run_changes(r))
		return;
	if (run_side_follow(r, false))
		run_commit(r);
	else
		r->changes = changes_free(r->changes);
}

/* The run was created before: who else wrote to it since? */
static void look_at_lines(struct models_run *r)
{
	const char *mix = run_mix_of(r);
	char why[128];

	if (mix != NULL) {
		park(r, mix);
		return;
	}
	if (r->plan->shared.is_on && r->server.exists)
		return; /* its count is everybody's */
	if (is_short(r, &r->server))
		return;
	r->heard_ms = r->asked_ms = clock_mono_ms();
	r->quiet_asks++;
	if (!r->server.exists) {
		park(r, "W&B has no such run any more");
	} else if (r->server.lines < r->info->done_offset) {
		(void)snprintf(why, sizeof(why), "W&B has %lld rows and had confirmed %lld",
			       (long long)r->server.lines, (long long)r->info->done_offset);
		park(r, why);
	} else if (is_ours(r, r->server.lines)) {
		r->is_alone = true;
		follow_beside(r);
	} else if (r->plan->next_offset > r->info->done_offset) {
		r->wants_rows = true; /* some of them may be the planned ones */
	} else {
		r->rows_there = 0;
		run_rows_are_known(r);
	}
}

void run_rows_are_known(struct models_run *r)
{
	int64_t before = r->info->done_offset;
	int e;

	r->wants_rows = false;
	r->is_alone = true;
	if (!run_changes(r))
		return;
	log_warn("models",
		 "run=%s W&B has %lld lines, %lld of them ours: somebody else wrote; ours go on "
		 "behind",
		 r->info->name, (long long)r->server.lines, (long long)(before + r->rows_there));
	e = go_behind(r, r->server.lines, r->rows_there);
	if (e < 0) {
		run_give_up(r, "going behind another writer", e);
		return;
	}
	(void)run_side_follow(r, false);
	plan_save(r->plan, r->changes);
	run_commit(r);
}

/* What W&B has of the run goes back to it whole, or not at all. */
static void cannot_keep(struct models_run *r, int error)
{
	if (error == -E2BIG || error == -EMSGSIZE)
		park(r, "W&B has more keys, or longer values, of this run than wbx can keep as "
			"they are");
	else
		run_give_up(r, "reading what W&B has", error);
}

static const char *conflict_of(const struct models_run *r)
{
	const struct plan *p = r->plan;
	const char *mix = run_mix_of(r);

	if (mix != NULL)
		return mix;
	if (!p->has_run)
		return r->server.exists
			       ? NULL
			       : "W&B has no such run, and nobody here has opened it: only "
				 "attached to";
	if (p->resume == RESUME_MUST && !r->server.exists)
		return "resume=must, and W&B has no such run; a retry makes it";
	if (p->resume == RESUME_NEVER && r->server.exists)
		return "resume=never, and W&B has this run; a retry goes on with it";
	return NULL;
}

bool run_conflict_is_over(struct models_run *r)
{
	r->conflict = conflict_of(r);
	if (r->conflict == NULL)
		run_forget_about(r);
	return r->conflict == NULL;
}

/* Who only adds to a run that has ended leaves it as ended as it was. */
static void note_end(struct models_run *r)
{
	const char *state = r->server.state;

	r->plan->has_ended = strcmp(state, "finished") == 0 || strcmp(state, "failed") == 0 ||
			     strcmp(state, "crashed") == 0 || strcmp(state, "killed") == 0;
	r->plan->exit_code = strcmp(state, "finished") != 0;
}

static void first_look(struct models_run *r)
{
	struct plan *p = r->plan;
	int e = 0;

	run_join_shared(r);
	r->conflict = conflict_of(r);
	if (r->conflict != NULL) {
		run_tell(r);
		return;
	}
	if (r->server.exists) {
		if (!p->has_run)
			note_end(r);
		p->has_company = !p->shared.is_on;
		r->asked_ms = clock_mono_ms();
		e = plan_go_on(p, &r->server, &r->server_about);
		if (e < 0) {
			cannot_keep(r, e);
			return;
		}
	}
	if (p->resume == RESUME_ANY || !run_changes(r))
		return;
	p->resume = RESUME_ANY; /* it is as he said: what we make of it does not contradict that */
	plan_save(p, r->changes);
	run_commit(r);
}

void run_status_is_known(struct models_run *r, const struct wire_run *server)
{
	struct plan *p = r->plan;
	bool is_new = r->info->state == RUN_NEW;
	int e = server->is_cut ? -E2BIG : 0;

	r->server = *server;
	r->has_about = r->request.is_whole;
	r->about_ms = clock_mono_ms();
	if (e == 0 && r->has_about && !is_new && r->server_about.defines.len > 0)
		e = metrics_adopt(&p->metrics, buf_span(&r->server_about.defines));
	if (e == 0 && r->has_about && !is_new && !p->shared.is_on &&
	    (p->has_company || p->was_over || !p->has_run))
		e = summary_adopt(&p->summary, &p->metrics, &r->server_about.summary);
	p->was_over &= !r->has_about || e < 0;
	if (e < 0)
		cannot_keep(r, e);
	else if (is_new)
		first_look(r);
	else
		look_at_lines(r);
}
