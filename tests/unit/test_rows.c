#include "daemon/forward/models/rows.h"
#include "proto/base/rng.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

#define SECOND       ((int64_t)1000000)
#define MERGE_MAX_US (120 * SECOND)
#define BEGIN_US     (1000000 * SECOND)

/* --- named cases: a little language --- */

enum {
	UNSAID = -1
};

struct box {
	struct rows rows;
	int64_t now_us;
	int64_t lsn; /* of the last call */
	struct buf said;
};

static void box_init(struct box *b)
{
	*b = (struct box){.now_us = BEGIN_US};
	rows_init(&b->rows, MERGE_MAX_US);
	buf_init(&b->said, 4096);
}

static void join(struct box *b, int64_t producer)
{
	ck_assert_int_eq(rows_join(&b->rows, producer, false), 0);
}

static void leave(struct box *b, int64_t producer)
{
	ck_assert_int_eq(rows_leave(&b->rows, producer, b->now_us), 0);
}

/* Calls are numbered 1, 2, 3 ... by their lsn. step and commit may be UNSAID. */
static void call(struct box *b, int64_t producer, int64_t step, int commit)
{
	const struct row_call c = {
		.producer = producer,
		.has_step = step != UNSAID,
		.step = step,
		.has_commit = commit != UNSAID,
		.commit = commit == 1,
		.time_us = b->now_us,
		.part = {.lsn = ++b->lsn, .bytes = 10},
	};

	ck_assert_int_eq(rows_log(&b->rows, &c), 0);
}

/* A call without a step that logs `key`, of a producer that merges. */
static void gathered(struct box *b, int64_t producer, uint64_t key, int commit)
{
	struct row_key one = {.name = key};
	const struct row_call c = {
		.producer = producer,
		.has_commit = commit != UNSAID,
		.commit = commit == 1,
		.time_us = b->now_us,
		.call_us = b->now_us,
		.keys = {.items = &one, .count = 1},
		.part = {.lsn = ++b->lsn, .bytes = 10},
	};

	ck_assert_int_eq(rows_log(&b->rows, &c), 0);
}

/* Everything that is ready, as "STEP:LSN+LSN", late ones as "!STEP:LSN". */
static const char *out(struct box *b)
{
	struct row row;
	enum row_fate fate;

	buf_clear(&b->said);
	while ((fate = rows_peek(&b->rows, b->now_us, &row)) != ROW_NONE) {
		(void)buf_printf(&b->said, "%s%s%lld", b->said.len > 0 ? " " : "",
				 fate == ROW_LATE ? "!" : "", (long long)row.step);
		for (size_t i = 0; i < row.parts->count; i++)
			(void)buf_printf(&b->said, "%c%lld", i == 0 ? ':' : '+',
					 (long long)row.parts->items[i].lsn);
		rows_pop(&b->rows, &row, fate);
	}
	return buf_text(&b->said);
}

static void box_done(struct box *b)
{
	ck_assert(rows_are_empty(&b->rows));
	ck_assert_int_eq(rows_oldest_lsn(&b->rows), INT64_MAX);
	rows_done(&b->rows);
	buf_done(&b->said);
}

#define OUT(text) ck_assert_str_eq(out(&b), text)

START_TEST(calls_without_a_step_take_the_next_numbers)
{
	struct box b;

	box_init(&b);
	join(&b, 1);
	call(&b, 1, UNSAID, UNSAID);
	OUT("0:1");
	call(&b, 1, UNSAID, 1);
	call(&b, 1, UNSAID, UNSAID);
	OUT("1:2 2:3");
	leave(&b, 1);
	OUT("");
	ck_assert(rows_are_deserted(&b.rows));
	box_done(&b);
}
END_TEST

START_TEST(commit_false_without_a_step_gathers_a_row)
{
	struct box b;

	box_init(&b);
	call(&b, 1, UNSAID, 0);
	call(&b, 1, UNSAID, 0);
	OUT("");
	call(&b, 1, UNSAID, UNSAID);
	OUT("0:1+2+3");
	call(&b, 1, UNSAID, 0);
	OUT("");
	leave(&b, 1); /* what was not committed is sent at the end */
	OUT("1:4");
	box_done(&b);
}
END_TEST

START_TEST(an_explicit_step_stays_open_until_it_is_passed)
{
	struct box b;

	box_init(&b);
	call(&b, 1, 5, UNSAID);
	OUT("");
	call(&b, 1, 5, UNSAID);
	OUT("");
	call(&b, 1, 8, UNSAID); /* a higher step */
	OUT("5:1+2");
	call(&b, 1, 8, 1); /* commit */
	OUT("8:3+4");
	call(&b, 1, 9, UNSAID);
	OUT("");
	leave(&b, 1); /* finish */
	OUT("9:5");
	box_done(&b);
}
END_TEST

START_TEST(a_call_without_a_step_goes_into_the_row_that_its_producer_has_open)
{
	struct box b;

	box_init(&b);
	call(&b, 1, 3, UNSAID);
	call(&b, 1, UNSAID, 0);
	OUT("");
	call(&b, 1, UNSAID, UNSAID); /* commits */
	OUT("3:1+2+3");
	call(&b, 1, UNSAID, UNSAID); /* and here no row is open */
	OUT("4:4");
	leave(&b, 1);
	box_done(&b);
}
END_TEST

START_TEST(producers_that_log_the_same_step_make_one_row)
{
	struct box b;

	box_init(&b);
	for (int64_t p = 1; p <= 3; p++)
		join(&b, p);
	for (int64_t step = 0; step < 2; step++) {
		for (int64_t p = 1; p <= 3; p++)
			call(&b, p, step, UNSAID);
	}
	OUT("0:1+2+3"); /* all have passed it */
	leave(&b, 1);
	leave(&b, 2);
	OUT("");
	leave(&b, 3);
	OUT("1:4+5+6");
	box_done(&b);
}
END_TEST

START_TEST(a_slow_producer_holds_a_row_for_merge_max_at_most)
{
	struct box b;

	box_init(&b);
	call(&b, 1, 0, UNSAID);
	call(&b, 2, 0, UNSAID);
	call(&b, 1, 1, UNSAID); /* passes 0 */
	OUT("");
	ck_assert_int_eq(rows_next_us(&b.rows), BEGIN_US + MERGE_MAX_US);
	b.now_us += MERGE_MAX_US - 1;
	OUT("");
	b.now_us += 1;
	OUT("0:1+2");
	call(&b, 2, 0, UNSAID); /* late: and there is no gap before 1 */
	OUT("");
	call(&b, 1, 2, UNSAID); /* 1 is passed; the other holds nothing back: it is out of step */
	OUT("!0:4 1:3");
	leave(&b, 1);
	leave(&b, 2);
	OUT("2:5");
	box_done(&b);
}
END_TEST

START_TEST(a_late_row_takes_a_real_gap_and_never_the_step_of_another)
{
	struct box b;

	box_init(&b);
	call(&b, 1, 10, 1);
	OUT("10:1");
	call(&b, 1, 4, UNSAID);
	call(&b, 1, 6, UNSAID);
	call(&b, 1, 4, UNSAID); /* the same late row */
	OUT("");
	call(&b, 1, 12, 1); /* one gap: 11 */
	OUT("11:2+4 !6:3 12:5");
	leave(&b, 1);
	box_done(&b);
}
END_TEST

START_TEST(late_rows_of_a_run_that_ends_are_handed_out)
{
	struct box b;

	box_init(&b);
	call(&b, 1, 3, 1);
	OUT("3:1");
	call(&b, 1, 0, UNSAID);
	OUT("");
	leave(&b, 1);
	OUT("!0:2");
	box_done(&b);
}
END_TEST

START_TEST(a_producer_that_has_opened_the_run_and_not_logged_is_waited_for)
{
	struct box b;

	box_init(&b);
	join(&b, 1);
	join(&b, 2);
	call(&b, 1, 0, 1);
	OUT(""); /* perhaps 2 logs to 0 as well */
	call(&b, 2, 0, 1);
	OUT("0:1+2");
	call(&b, 1, 1, 1);
	call(&b, 2, 1, 1);
	OUT("1:3+4");
	leave(&b, 1);
	leave(&b, 2);
	box_done(&b);
}
END_TEST

START_TEST(a_silent_producer_holds_a_row_for_merge_max_once)
{
	struct box b;

	box_init(&b);
	join(&b, 1);
	join(&b, 2);
	call(&b, 1, 0, 1);
	b.now_us += MERGE_MAX_US;
	OUT("0:1");
	call(&b, 1, 1, 1); /* the silent one has had its time */
	OUT("1:2");
	leave(&b, 1);
	leave(&b, 2);
	box_done(&b);
}
END_TEST

START_TEST(a_guest_that_has_not_logged_is_not_waited_for)
{
	struct box b;

	box_init(&b);
	join(&b, 1);
	ck_assert_int_eq(rows_join(&b.rows, 2, true), 0);
	ck_assert(rows_is_guest(&b.rows, 2) && !rows_is_guest(&b.rows, 1));
	call(&b, 1, 0, 1);
	OUT("0:1");
	ck_assert(!rows_have_no_owner(&b.rows));
	leave(&b, 1);
	ck_assert(rows_have_no_owner(&b.rows) && !rows_are_deserted(&b.rows));
	ck_assert_int_eq(rows_join(&b.rows, 2, false), 0); /* it opens the run, too */
	ck_assert(!rows_have_no_owner(&b.rows));
	ck_assert_int_eq(rows_join(&b.rows, 2, true), 0);
	ck_assert(!rows_is_guest(&b.rows, 2));
	leave(&b, 2);
	ck_assert(rows_are_deserted(&b.rows));
	box_done(&b);
}
END_TEST

START_TEST(a_row_without_a_number_takes_none_that_somebody_may_still_use)
{
	struct box b;

	box_init(&b);
	call(&b, 1, 4, UNSAID);
	call(&b, 2, UNSAID, UNSAID); /* 0 to 3 are free for good */
	OUT("0:2");
	call(&b, 1, 1, UNSAID); /* below what it may still use, but not gone: an open row */
	OUT("1:3");
	call(&b, 2, UNSAID, UNSAID);
	call(&b, 2, UNSAID, UNSAID);
	call(&b, 2, UNSAID, UNSAID);
	OUT("2:4 3:5");
	ck_assert(!rows_is_free(&b.rows, 4) && !rows_is_free(&b.rows, 3));
	call(&b, 1, 4, 1);
	OUT("4:1+7");
	leave(&b, 1);
	OUT("5:6");
	leave(&b, 2);
	ck_assert(rows_is_free(&b.rows, 6));
	box_done(&b);
}
END_TEST

START_TEST(a_producer_with_steps_that_logs_nothing_for_an_hour_holds_no_number)
{
	struct box b;

	box_init(&b);
	call(&b, 1, 4, 1);
	OUT("4:1");
	call(&b, 2, UNSAID, UNSAID);
	OUT(""); /* 5 is 1's */
	ck_assert_int_eq(rows_next_us(&b.rows), BEGIN_US + ROWS_IDLE_US);
	b.now_us += ROWS_IDLE_US - 1;
	OUT("");
	b.now_us += 1;
	OUT("5:2");
	leave(&b, 1);
	leave(&b, 2);
	box_done(&b);
}
END_TEST

START_TEST(a_step_given_to_an_uncommitted_row_is_its_step_when_the_numbers_agree)
{
	struct box b;

	box_init(&b);
	call(&b, 1, UNSAID, 0);
	call(&b, 1, 0, UNSAID); /* the next number: the same row, as in W&B's client */
	OUT("");
	call(&b, 1, 1, UNSAID);
	OUT("0:1+2");
	leave(&b, 1);
	OUT("1:3");
	call(&b, 2, UNSAID, 0);
	call(&b, 2, 7, 1); /* another number: two rows */
	OUT("2:4 7:5");
	leave(&b, 2);
	box_done(&b);
}
END_TEST

START_TEST(a_producer_that_merges_gathers_calls_without_a_step)
{
	struct box b;

	box_init(&b);
	join(&b, 1);
	rows_merge(&b.rows, 1);
	ck_assert(rows_merges(&b.rows, 1) && !rows_merges(&b.rows, 2));
	gathered(&b, 1, 10, UNSAID);
	gathered(&b, 1, 11, UNSAID);
	OUT("");
	ck_assert_int_eq(rows_next_us(&b.rows), BEGIN_US + GATHER_US);
	gathered(&b, 1, 10, UNSAID); /* is there */
	OUT("0:1+2");
	b.now_us += GATHER_US - 1;
	OUT("");
	b.now_us += 1; /* nothing came for so long */
	OUT("1:3");
	gathered(&b, 1, 10, UNSAID);
	gathered(&b, 1, 11, 1); /* commit */
	OUT("2:4+5");
	gathered(&b, 1, 10, 0); /* waits for more, whatever that is */
	b.now_us += 100 * SECOND;
	OUT("");
	gathered(&b, 1, 10, UNSAID);
	OUT("");
	gathered(&b, 1, 11, UNSAID);
	leave(&b, 1);
	OUT("3:6+7+8");
	box_done(&b);
}
END_TEST

START_TEST(what_is_gathered_is_a_row_before_the_step_that_follows)
{
	struct box b;

	box_init(&b);
	join(&b, 1);
	rows_merge(&b.rows, 1);
	gathered(&b, 1, 10, UNSAID);
	call(&b, 1, 0, UNSAID); /* in W&B's client the row had been committed, and taken 0 */
	OUT("");
	call(&b, 1, 2, UNSAID);      /* passes 0, which is taken by now */
	gathered(&b, 1, 11, UNSAID); /* into the open row, and commits it */
	OUT("0:2 1:1 2:3+4");
	gathered(&b, 1, 10, UNSAID);
	call(&b, 1, 7, 1);
	OUT("3:5 7:6");
	leave(&b, 1);
	box_done(&b);
}
END_TEST

START_TEST(the_largest_steps_do_not_wrap)
{
	static const int64_t large[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 + 1};

	for (size_t i = 0; i < array_len(large); i++) {
		struct box b;
		const char *said;

		box_init(&b);
		call(&b, 1, large[i], 1);
		call(&b, 1, UNSAID, UNSAID);
		leave(&b, 1);
		said = out(&b); /* each comes out once, whatever becomes of it */
		ck_assert_ptr_nonnull(strstr(said, ":1"));
		ck_assert_ptr_nonnull(strstr(said, ":2"));
		ck_assert_int_ge(b.rows.next_step, 0);
		call(&b, 2, UNSAID, UNSAID); /* and the run goes on */
		leave(&b, 2);
		ck_assert_ptr_nonnull(strstr(out(&b), ":3"));
		box_done(&b);
	}
}
END_TEST

START_TEST(a_negative_step_is_late)
{
	struct box b;

	box_init(&b);
	call(&b, 1, INT64_MIN, UNSAID);
	call(&b, 1, -2, UNSAID);
	call(&b, 1, 0, 1);
	OUT("!-9223372036854775808:1 !-2:2 0:3");
	leave(&b, 1);
	box_done(&b);
}
END_TEST

START_TEST(what_waits_for_its_row_is_bounded)
{
	struct box b;
	struct row row;
	int64_t rows = 0;

	box_init(&b);
	call(&b, 1, 0, UNSAID);
	for (int64_t i = 0; i < ROWS_PARTS_MAX; i++)
		call(&b, 2, UNSAID, UNSAID); /* none may take a number */
	ck_assert_uint_eq(b.rows.held, ROWS_PARTS_MAX + 1);
	/* the open row goes, and with it what held the others back */
	for (; rows < 1000 && rows_peek(&b.rows, b.now_us, &row) != ROW_NONE; rows++) {
		ck_assert_int_eq(row.step, rows);
		rows_pop(&b.rows, &row, ROW_READY);
	}
	ck_assert_int_eq(rows, 1000);
	rows_done(&b.rows);
}
END_TEST

START_TEST(producers_are_bounded)
{
	struct box b;
	const struct row_call c = {.producer = 1 << 20, .part = {.lsn = 1}};

	box_init(&b);
	for (int64_t p = 0; p < ROWS_PRODUCERS_MAX; p++)
		join(&b, p);
	join(&b, 7); /* is there */
	ck_assert_int_eq(rows_join(&b.rows, 1 << 20, false), -E2BIG);
	ck_assert_int_eq(rows_log(&b.rows, &c), -E2BIG);
	ck_assert(rows_are_empty(&b.rows));
	leave(&b, 7);
	leave(&b, 7);       /* twice does nothing */
	leave(&b, 1 << 21); /* nor who never came */
	join(&b, 1 << 20);
	rows_done(&b.rows);
}
END_TEST

/* --- any interleaving: a model that keeps everything in flat lists and scans them --- */

enum {
	PRODUCERS = 5,
	CALLS_MAX = 300
};

enum place {
	IN_OPEN,
	IN_PARTIAL,
	IN_IMPLICIT,
	IN_LATE,
	OUT_READY,
	OUT_LATE
};

struct model_call {
	enum place place;
	int64_t producer; /* of a partial */
	int64_t row;      /* open, late: the step; implicit: which one, rising */
	int64_t order;    /* in its row */
};

struct model_producer {
	bool is_present;
	bool is_guest;
	bool is_silent;
	bool holds; /* steps from `step` on may still be its */
	bool in_row;
	int64_t step;
	int64_t last_us;
};

struct model {
	struct model_producer producers[PRODUCERS];
	struct model_call calls[CALLS_MAX + 1]; /* by lsn, from 1 */
	int64_t count;
	int64_t next_step;
	int64_t implicit; /* rows ever */
	int64_t order;
	int64_t passed_us[64]; /* of each step; 0: not passed */
};

enum {
	STEPS = 64
};

/* The lowest row that is at a place, -1: none. */
static int64_t lowest(const struct model *m, enum place place)
{
	int64_t found = -1;

	for (int64_t i = 1; i <= m->count; i++) {
		if (m->calls[i].place == place && (found < 0 || m->calls[i].row < found))
			found = m->calls[i].row;
	}
	return found;
}

/* The late row that came first. */
static int64_t first_late(const struct model *m)
{
	for (int64_t i = 1; i <= m->count; i++) {
		if (m->calls[i].place == IN_LATE)
			return m->calls[i].row;
	}
	return -1;
}

static void move_calls(struct model *m, enum place from, int64_t row, enum place to,
		       int64_t new_row)
{
	for (int64_t i = 1; i <= m->count; i++) {
		struct model_call *c = &m->calls[i];

		if (c->place == from && (from == IN_PARTIAL ? c->producer == row : c->row == row)) {
			c->place = to;
			c->row = new_row;
			if (to == IN_OPEN)
				c->order = ++m->order;
		}
	}
}

static bool has_partial(const struct model *m, int64_t producer)
{
	for (int64_t i = 1; i <= m->count; i++) {
		if (m->calls[i].place == IN_PARTIAL && m->calls[i].producer == producer)
			return true;
	}
	return false;
}

static void model_pass(struct model *m, int64_t below, int64_t now_us)
{
	for (int64_t i = 1; i <= m->count; i++) {
		const struct model_call *c = &m->calls[i];

		if (c->place == IN_OPEN && c->row < below && m->passed_us[c->row] == 0)
			m->passed_us[c->row] = now_us;
	}
}

static void model_leave(struct model *m, int64_t producer, int64_t now_us)
{
	struct model_producer *p = &m->producers[producer];

	if (!p->is_present)
		return;
	if (has_partial(m, producer))
		move_calls(m, IN_PARTIAL, producer, IN_IMPLICIT, ++m->implicit);
	if (p->holds)
		model_pass(m, STEPS, now_us);
	*p = (struct model_producer){.is_present = false};
}

static void model_join(struct model *m, int64_t producer, bool is_guest)
{
	struct model_producer *p = &m->producers[producer];

	if (p->is_present)
		p->is_guest = p->is_guest && is_guest;
	else
		*p = (struct model_producer){
			.is_present = true, .is_guest = is_guest, .is_silent = !is_guest};
}

static void model_explicit(struct model *m, const struct row_call *c)
{
	struct model_producer *p = &m->producers[c->producer];
	struct model_call *call_ = &m->calls[m->count];
	bool others;

	if (c->step < m->next_step) {
		call_->place = IN_LATE;
		call_->row = c->step;
		return;
	}
	call_->place = IN_OPEN;
	call_->row = c->step;
	if (has_partial(m, c->producer)) {
		others = lowest(m, IN_IMPLICIT) >= 0;
		for (int64_t i = 1; i <= m->count; i++)
			others |= m->calls[i].place == IN_OPEN && m->calls[i].row != c->step;
		if (!others && c->step == m->next_step)
			move_calls(m, IN_PARTIAL, c->producer, IN_OPEN, c->step);
		else
			move_calls(m, IN_PARTIAL, c->producer, IN_IMPLICIT, ++m->implicit);
	}
	call_->order = ++m->order;
	if (!p->holds || c->step >= p->step) {
		p->step = c->step;
		p->in_row = true;
	}
	p->holds = true;
	if (c->has_commit && c->commit && p->step == c->step) {
		p->step++;
		p->in_row = false;
	}
	model_pass(m, p->step, c->time_us);
}

static void model_implicit(struct model *m, const struct row_call *c)
{
	struct model_producer *p = &m->producers[c->producer];
	struct model_call *call_ = &m->calls[m->count];
	bool commit = !c->has_commit || c->commit;

	if (p->in_row) {
		*call_ = (struct model_call){.place = IN_OPEN, .row = p->step, .order = ++m->order};
		if (commit) {
			p->step++;
			p->in_row = false;
			model_pass(m, p->step, c->time_us);
		}
		return;
	}
	*call_ = (struct model_call){.place = IN_PARTIAL, .producer = c->producer};
	call_->order = ++m->order;
	if (!commit)
		return;
	p->holds = false;
	move_calls(m, IN_PARTIAL, c->producer, IN_IMPLICIT, ++m->implicit);
}

static void model_log(struct model *m, const struct row_call *c)
{
	struct model_producer *p = &m->producers[c->producer];

	model_join(m, c->producer, true);
	p->is_silent = false;
	p->last_us = c->time_us;
	m->count++;
	m->calls[m->count].order = ++m->order;
	if (c->has_step)
		model_explicit(m, c);
	else
		model_implicit(m, c);
}

/* May a present producer still log to this step, or one below? */
static bool is_held(const struct model *m, int64_t step, int64_t now_us, bool active_only)
{
	for (int64_t i = 0; i < PRODUCERS; i++) {
		const struct model_producer *p = &m->producers[i];

		if (p->is_present && p->holds && p->step <= step &&
		    !(active_only && now_us - p->last_us >= ROWS_IDLE_US))
			return true;
	}
	return false;
}

static bool anybody(const struct model *m, bool silent_only)
{
	for (int64_t i = 0; i < PRODUCERS; i++) {
		if (m->producers[i].is_present && (m->producers[i].is_silent || !silent_only))
			return true;
	}
	return false;
}

struct expected {
	enum row_fate fate;
	enum place from;
	int64_t row;  /* at that place */
	int64_t step; /* under which it goes out */
};

static bool is_complete(const struct model *m, int64_t step, int64_t now_us)
{
	if (m->passed_us[step] != 0 && now_us - m->passed_us[step] >= MERGE_MAX_US)
		return true;
	if (!is_held(m, step, now_us, false))
		return !anybody(m, true);
	return lowest(m, IN_IMPLICIT) >= 0 && !is_held(m, step, now_us, true);
}

static struct expected model_next(const struct model *m, int64_t now_us)
{
	int64_t open = lowest(m, IN_OPEN);
	int64_t implicit = lowest(m, IN_IMPLICIT);
	int64_t late = first_late(m);
	bool closes = open >= 0 && is_complete(m, open, now_us);
	bool gap = open < 0 || open > m->next_step;
	struct expected e = {.fate = ROW_NONE};

	if (!closes && (implicit < 0 || !gap || is_held(m, m->next_step, now_us, true))) {
		if (late < 0 || anybody(m, false) || open >= 0)
			return e;
		return (struct expected){ROW_LATE, IN_LATE, late, late};
	}
	if (late >= 0 && closes && gap)
		return (struct expected){ROW_READY, IN_LATE, late, m->next_step};
	if (late >= 0)
		return (struct expected){ROW_LATE, IN_LATE, late, late};
	if (implicit >= 0 && gap)
		return (struct expected){ROW_READY, IN_IMPLICIT, implicit, m->next_step};
	return (struct expected){ROW_READY, IN_OPEN, open, open};
}

static void model_pop(struct model *m, const struct expected *e)
{
	move_calls(m, e->from, e->row, e->fate == ROW_READY ? OUT_READY : OUT_LATE, e->step);
	if (e->fate == ROW_READY)
		m->next_step = e->step + 1;
	if (e->from != IN_OPEN)
		return;
	for (int64_t i = 0; i < PRODUCERS; i++) {
		struct model_producer *p = &m->producers[i];

		p->is_silent = false;
		if (p->holds && p->step <= e->row)
			p->holds = p->in_row = false;
	}
}

/* The row's parts are the model's calls of that row, each once. */
static void check_parts(const struct model *m, const struct row *row, const struct expected *e)
{
	size_t count = 0;
	int64_t order = 0;

	for (int64_t i = 1; i <= m->count; i++)
		count += m->calls[i].place == e->from && m->calls[i].row == e->row;
	ck_assert_uint_eq(row->parts->count, count);
	for (size_t i = 0; i < count; i++) {
		const struct model_call *c = &m->calls[row->parts->items[i].lsn];

		ck_assert(c->place == e->from && c->row == e->row);
		if (e->from != IN_LATE) {
			ck_assert_int_gt(c->order, order);
			order = c->order;
		}
	}
}

struct trial {
	struct rng rng;
	struct rows rows;
	struct model model;
	int64_t now_us;
	int64_t ready; /* the last step that went out */
};

/* Encodes and decodes: the same again. */
static void reload(struct rows *r)
{
	auto_buf struct buf first;
	auto_buf struct buf second;
	struct pack p;

	buf_init(&first, 1 << 20);
	buf_init(&second, 1 << 20);
	pack_init(&p, &first);
	rows_to_msgpack(r, &p);
	rows_done(r);
	rows_init(r, MERGE_MAX_US);
	ck_assert_int_eq(rows_from_msgpack(r, mp_of(buf_span(&first))), 0);
	pack_init(&p, &second);
	rows_to_msgpack(r, &p);
	ck_assert(span_equal(buf_span(&first), buf_span(&second)));
}

/* Takes out what is ready, and holds each against the model. */
static void drain(struct trial *t)
{
	for (;;) {
		struct expected e = model_next(&t->model, t->now_us);
		struct row row = {.step = -1};
		enum row_fate fate = rows_peek(&t->rows, t->now_us, &row);

		ck_assert_int_eq((int)fate, (int)e.fate);
		if (fate == ROW_NONE)
			return;
		ck_assert_int_eq(row.step, e.step);
		check_parts(&t->model, &row, &e);
		if (fate == ROW_READY) {
			ck_assert_int_gt(row.step, t->ready);
			t->ready = row.step;
		}
		rows_pop(&t->rows, &row, fate);
		model_pop(&t->model, &e);
	}
}

/* Nothing comes: nothing changes but at the times that rows_next_us() says. */
static void let_time_pass(struct trial *t)
{
	static const int64_t spans[] = {
		1, 1000, SECOND, 30 * SECOND, MERGE_MAX_US - 1, MERGE_MAX_US, ROWS_IDLE_US};
	int64_t until_us = t->now_us + spans[rng_below(&t->rng, array_len(spans))];
	int64_t next_us;
	struct row row;

	while ((next_us = rows_next_us(&t->rows)) <= until_us) {
		ck_assert_int_gt(next_us, t->now_us); /* or it would be a busy loop */
		ck_assert_int_eq((int)rows_peek(&t->rows, next_us - 1, &row), (int)ROW_NONE);
		ck_assert_int_eq((int)model_next(&t->model, next_us - 1).fate, (int)ROW_NONE);
		t->now_us = next_us;
		drain(t);
	}
	ck_assert_int_eq((int)rows_peek(&t->rows, until_us, &row), (int)ROW_NONE);
	t->now_us = until_us;
}

static struct row_call random_call(struct rng *rng, const struct model *m, int64_t now_us)
{
	struct row_call c = {
		.producer = (int64_t)rng_below(rng, PRODUCERS),
		.time_us = now_us,
		.part = {.lsn = m->count + 1, .bytes = 1},
	};
	/* the first producers like steps, the last ones do not */
	uint64_t likes = c.producer < 3 ? 8 : 1;
	int64_t step = m->next_step + (int64_t)rng_below(rng, 4);

	c.has_step = rng_below(rng, 9) < likes && step < STEPS - 1;
	if (rng_below(rng, 6) == 0)
		step = (int64_t)rng_below(rng, (uint64_t)m->next_step + 1);
	c.step = c.has_step ? step : 0;
	c.has_commit = rng_below(rng, 3) == 0;
	c.commit = rng_below(rng, 2) == 0;
	return c;
}

static void random_event(struct trial *t)
{
	int64_t producer = (int64_t)rng_below(&t->rng, PRODUCERS);
	struct row_call c;

	switch (rng_below(&t->rng, 16)) {
	case 0:
		ck_assert_int_eq(rows_leave(&t->rows, producer, t->now_us), 0);
		model_leave(&t->model, producer, t->now_us);
		return;
	case 1:
	case 2:
		ck_assert_int_eq(rows_join(&t->rows, producer, producer == 4), 0);
		model_join(&t->model, producer, producer == 4);
		return;
	case 3:
	case 4: let_time_pass(t); return;
	case 5: reload(&t->rows); return;
	default: break;
	}
	if (t->model.count == CALLS_MAX)
		return;
	c = random_call(&t->rng, &t->model, t->now_us);
	ck_assert_int_eq(rows_log(&t->rows, &c), 0);
	model_log(&t->model, &c);
}

static int64_t oldest_waiting(const struct model *m)
{
	for (int64_t i = 1; i <= m->count; i++) {
		if (m->calls[i].place < OUT_READY)
			return i;
	}
	return INT64_MAX;
}

static void run_trial(uint64_t seed, int64_t *counts)
{
	struct trial t = {.rng = {.state = seed}, .now_us = BEGIN_US, .ready = -1};
	unsigned events = 50 + (unsigned)rng_below(&t.rng, 300);

	rows_init(&t.rows, MERGE_MAX_US);
	for (unsigned i = 0; i < events; i++) {
		random_event(&t);
		drain(&t);
		ck_assert_int_eq(rows_oldest_lsn(&t.rows), oldest_waiting(&t.model));
		ck_assert(rows_are_empty(&t.rows) == (oldest_waiting(&t.model) == INT64_MAX));
		ck_assert(rows_are_deserted(&t.rows) == !anybody(&t.model, false));
	}
	for (int64_t p = 0; p < PRODUCERS; p++) {
		ck_assert_int_eq(rows_leave(&t.rows, p, t.now_us), 0);
		model_leave(&t.model, p, t.now_us);
		drain(&t);
	}
	/* nobody is there: everything has gone out, once */
	ck_assert(rows_are_empty(&t.rows));
	for (int64_t i = 1; i <= t.model.count; i++)
		counts[t.model.calls[i].place]++;
	rows_done(&t.rows);
}

START_TEST(any_interleaving_gives_every_call_one_row_as_the_model_says)
{
	int64_t counts[OUT_LATE + 1] = {0};

	for (uint64_t seed = 1; seed <= 200; seed++)
		run_trial(seed, counts);
	for (int place = IN_OPEN; place < OUT_READY; place++)
		ck_assert_int_eq(counts[place], 0);
	ck_assert_int_gt(counts[OUT_READY], 5000);
	ck_assert_int_gt(counts[OUT_LATE], 200); /* they were no idle trials */
}
END_TEST

/* --- live and from the backlog --- */

struct log_line {
	int64_t lsn;
	int64_t step;
	enum row_fate fate;
};

struct history {
	struct log_line lines[CALLS_MAX * 2];
	size_t count;
};

static void drain_into(struct rows *r, int64_t now_us, struct history *h)
{
	struct row row;
	enum row_fate fate;

	while ((fate = rows_peek(r, now_us, &row)) != ROW_NONE) {
		for (size_t i = 0; i < row.parts->count; i++) {
			ck_assert_uint_lt(h->count, array_len(h->lines));
			h->lines[h->count++] = (struct log_line){
				.lsn = row.parts->items[i].lsn, .step = row.step, .fate = fate};
		}
		rows_pop(r, &row, fate);
	}
}

/* The same records at the same stored times; live also looks in between. */
static void play(uint64_t seed, bool is_live, struct history *ret)
{
	struct rng events = {.state = seed};
	struct rng looks = {.state = seed + 1000000};
	struct rows r;
	struct model m = {.count = 0};
	int64_t now_us = BEGIN_US;

	rows_init(&r, MERGE_MAX_US);
	for (int i = 0; i < 150; i++) {
		uint64_t long_us = rng_below(&events, 2) == 0 ? MERGE_MAX_US : ROWS_IDLE_US;
		int64_t span_us = (int64_t)rng_below(
			&events, rng_below(&events, 10) == 0 ? long_us * 2 : SECOND);
		struct row_call c;

		for (int n = 0; is_live && n < 3; n++) {
			int64_t at_us = now_us + (int64_t)rng_below(&looks, (uint64_t)span_us + 1);

			drain_into(&r, at_us, ret);
		}
		now_us += span_us;
		/* the generator may not look at what went out: steps grow by themselves */
		m.next_step = i / 5;
		m.count = i;
		c = random_call(&events, &m, now_us);
		drain_into(&r, now_us, ret);
		if (rng_below(&events, 20) == 0)
			ck_assert_int_eq(rows_leave(&r, c.producer, now_us), 0);
		else
			ck_assert_int_eq(rows_log(&r, &c), 0);
		drain_into(&r, now_us, ret);
	}
	for (int64_t p = 0; p < PRODUCERS; p++) {
		ck_assert_int_eq(rows_leave(&r, p, now_us), 0);
		drain_into(&r, now_us, ret);
	}
	ck_assert(rows_are_empty(&r));
	rows_done(&r);
}

START_TEST(a_backlog_gives_the_same_rows_as_live_would)
{
	static struct history live;
	static struct history backlog;

	for (uint64_t seed = 1; seed <= 300; seed++) {
		live.count = backlog.count = 0;
		play(seed, true, &live);
		play(seed, false, &backlog);
		ck_assert_uint_eq(live.count, backlog.count);
		for (size_t i = 0; i < live.count; i++) {
			const struct log_line *a = &live.lines[i];
			const struct log_line *b = &backlog.lines[i];

			ck_assert_msg(a->lsn == b->lsn && a->step == b->step && a->fate == b->fate,
				      "seed %llu, line %zu: lsn %lld step %lld, lsn %lld step %lld",
				      (unsigned long long)seed, i, (long long)a->lsn,
				      (long long)a->step, (long long)b->lsn, (long long)b->step);
		}
	}
}
END_TEST

/* --- state, memory --- */

START_TEST(a_state_that_is_none_is_refused)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{"\xc0", 1},
		{"\x80", 1},
		{"\x90", 1},
#define STATE(producers, open, implicit, late)                                                     \
	"\x84\xa9producers" producers "\xa4open" open "\xa8implicit" implicit "\xa4late" late
#define BAD(producers, open, implicit, late)                                                       \
	{STATE(producers, open, implicit, late), sizeof(STATE(producers, open, implicit, late)) - 1}
		BAD("\x80", "\x90", "\x90", "\x90"),
		BAD("\x91\x01", "\x90", "\x90", "\x90"),         /* no eight to a producer */
		BAD("\x90", "\x92\x01\x02", "\x90", "\x90"),     /* no three to a row */
		BAD("\x90", "\x93\x01\x02\x03", "\x90", "\x90"), /* parts are a list */
		BAD("\x90", "\x93\x01\x02\x91\x03", "\x90", "\x90"),
		BAD("\x90", "\x93\x01\xc2\x90", "\x90", "\x90"),
		BAD("\x90", "\x90", "\x92\x01\x92\x01\xc0", "\x90"),
		BAD("\x90", "\x90", "\x90", "\x92\xa1x\x90"),
		BAD("\x98\x01\x01\xc2\xc2\xc2\x00\x00\x90", "\x90", "\x90", "\x90"),
		BAD("\x98\x01\xc2\xc2\xc2\xc2\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x00\x90", "\x90",
		    "\x90", "\x90"),
#undef BAD
	};
	struct rows r;

	for (size_t i = 0; i < array_len(bad); i++) {
		struct span state = {.at = (const uint8_t *)bad[i].bytes, .len = bad[i].len};

		rows_init(&r, MERGE_MAX_US);
		ck_assert_msg(rows_from_msgpack(&r, mp_of(state)) == -EBADMSG, "case %zu", i);
		rows_done(&r);
	}
	rows_init(&r, MERGE_MAX_US);
	ck_assert_int_eq(
		rows_from_msgpack(&r, mp_of(SPAN_LITERAL(STATE("\x90", "\x90", "\x90", "\x90")))),
		0);
	rows_done(&r);
}
END_TEST

static int fill(struct rows *r)
{
	static const struct row_call calls[] = {
		{.producer = 1, .has_step = true, .step = 0, .part = {.lsn = 1}},
		{.producer = 2, .part = {.lsn = 2}, .has_commit = true},
		{.producer = 2, .has_step = true, .step = 3, .part = {.lsn = 3}},
		{.producer = 1, .has_step = true, .step = 1, .part = {.lsn = 4}},
		{.producer = 3, .part = {.lsn = 5}},
	};
	int e = rows_join(r, 1, false);

	for (size_t i = 0; e == 0 && i < array_len(calls); i++)
		e = rows_log(r, &calls[i]);
	return e == 0 ? rows_leave(r, 2, 0) : e;
}

static int load(struct rows *r, struct span state)
{
	return rows_from_msgpack(r, mp_of(state));
}

START_TEST(rows_survive_every_allocation_failure)
{
	auto_buf struct buf state;
	struct pack p;
	struct rows r;

	rows_init(&r, MERGE_MAX_US);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(fill(&r), rows_done(&r)), 0);
	buf_init(&state, 4096);
	pack_init(&p, &state);
	rows_to_msgpack(&r, &p);
	rows_done(&r);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(load(&r, buf_span(&state)), rows_done(&r)),
			 0);
	ck_assert_uint_eq(r.held, 5);
	rows_done(&r);
}
END_TEST

SUITE_MAIN("rows", calls_without_a_step_take_the_next_numbers,
	   commit_false_without_a_step_gathers_a_row,
	   an_explicit_step_stays_open_until_it_is_passed,
	   a_call_without_a_step_goes_into_the_row_that_its_producer_has_open,
	   producers_that_log_the_same_step_make_one_row,
	   a_slow_producer_holds_a_row_for_merge_max_at_most,
	   a_late_row_takes_a_real_gap_and_never_the_step_of_another,
	   late_rows_of_a_run_that_ends_are_handed_out,
	   a_producer_that_has_opened_the_run_and_not_logged_is_waited_for,
	   a_silent_producer_holds_a_row_for_merge_max_once,
	   a_guest_that_has_not_logged_is_not_waited_for,
	   a_row_without_a_number_takes_none_that_somebody_may_still_use,
	   a_producer_with_steps_that_logs_nothing_for_an_hour_holds_no_number,
	   a_step_given_to_an_uncommitted_row_is_its_step_when_the_numbers_agree,
	   a_producer_that_merges_gathers_calls_without_a_step,
	   what_is_gathered_is_a_row_before_the_step_that_follows, the_largest_steps_do_not_wrap,
	   a_negative_step_is_late, what_waits_for_its_row_is_bounded, producers_are_bounded,
	   any_interleaving_gives_every_call_one_row_as_the_model_says,
	   a_backlog_gives_the_same_rows_as_live_would, a_state_that_is_none_is_refused,
	   rows_survive_every_allocation_failure)
