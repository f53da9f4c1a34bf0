#include "daemon/forward/models/plan.h"
#include "proto/base/rng.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

enum {
	RUN = 7,
	RECORDS_MAX = 1200,
	T0 = 1700000000, /* seconds; the first record's time */
};
#define MERGE_MAX_US ((int64_t)120 * 1000000)

/* --- a reader of records in memory --- */

struct reader {
	struct buf payloads[RECORDS_MAX + 1]; /* by lsn */
	struct stored_record records[RECORDS_MAX + 1];
	int64_t count;
	struct buf state;
	bool has_state;
	int64_t planned_lsn;
	int64_t next_offset;
};

int reader_stream(struct reader *r, int64_t stream, struct stream_info *ret)
{
	ck_assert_int_eq(stream, stream_of(RUN, CLASS_METRICS));
	*ret = (struct stream_info){.planned_lsn = r->planned_lsn};
	return 0;
}

int reader_run(struct reader *r, int64_t run, struct run_info *ret)
{
	ck_assert_int_eq(run, RUN);
	*ret = (struct run_info){.id = RUN, .next_offset = r->next_offset};
	return 0;
}

int reader_planner(struct reader *r, int64_t run, struct buf *ret)
{
	ck_assert_int_eq(run, RUN);
	return r->has_state ? buf_add(ret, r->state.data, r->state.len) : -ENOENT;
}

int reader_record(struct reader *r, int64_t lsn, reader_on_record on_record, void *arg)
{
	return lsn > r->count ? -ENOENT : on_record(arg, &r->records[lsn]);
}

int reader_records(struct reader *r, int64_t stream, int64_t after, unsigned max,
		   reader_on_record on_record, void *arg, unsigned *ret_count)
{
	int result = 0;

	ck_assert_int_eq(stream, stream_of(RUN, CLASS_METRICS));
	*ret_count = 0;
	for (int64_t lsn = after + 1; result == 0 && lsn <= r->count && *ret_count < max; lsn++) {
		(*ret_count)++;
		result = on_record(arg, &r->records[lsn]);
	}
	return result;
}

int reader_uploads_of_key(struct reader *r, int64_t run, struct span key, int64_t *ret)
{
	(void)r;
	(void)run;
	(void)key;
	*ret = 0;
	return 0;
}

int reader_sent_file(struct reader *r, int64_t run, struct span key, struct span blob,
		     reader_on_sent_file on_file, void *arg)
{
	(void)r;
	(void)run;
	(void)key;
	(void)blob;
	(void)on_file;
	(void)arg;
	return -ENOENT;
}

int reader_blob_size(struct reader *r, struct span digest, int64_t *ret)
{
	(void)r;
	ck_assert_uint_eq(digest.len, DIGEST_BYTES);
	*ret = 1000;
	return 0;
}

/* --- a run that is planned record by record --- */

struct box {
	struct plan plan;
	struct reader *reader;
	struct changes *changes;
	struct buf said; /* what the changes say, a line each */
	enum plan_outcome outcome;
	uint8_t blob[DIGEST_BYTES];
	bool reloads; /* a restart after every record */
};

static void box_init(struct box *b)
{
	*b = (struct box){.outcome = PLAN_IDLE};
	b->reader = mem_zalloc(sizeof(*b->reader));
	ck_assert_ptr_nonnull(b->reader);
	ck_assert_int_eq(plan_init(&b->plan, RUN, MERGE_MAX_US), 0);
	b->plan.may_write = true;
	b->changes = changes_new(b, NULL);
	ck_assert_ptr_nonnull(b->changes);
	buf_init(&b->said, 64 << 20);
}

static void box_done(struct box *b)
{
	for (int64_t i = 1; i <= b->reader->count; i++)
		buf_done(&b->reader->payloads[i]);
	buf_done(&b->reader->state);
	b->reader = mem_free(b->reader);
	plan_done(&b->plan);
	b->changes = changes_free(b->changes);
	buf_done(&b->said);
}

/* Adds a record: seconds after T0, its producer, kind and what else is in its body. */
static const struct stored_record *store(struct box *b, double at, int64_t producer,
					 const char *kind, const char *body)
{
	auto_free char *text = mem_alloc(strlen(body) + 200);
	int64_t lsn = ++b->reader->count;
	int64_t time_us = (int64_t)T0 * 1000000 + (int64_t)(at * 1e6);

	ck_assert_int_le(lsn, RECORDS_MAX);
	ck_assert_ptr_nonnull(text);
	(void)snprintf(text, strlen(body) + 200, "['%s',%lld,{'run':'r','t':%lld%s%s}]", kind,
		       (long long)lsn, (long long)time_us, body[0] == '\0' ? "" : ",", body);
	(void)mp_text(&b->reader->payloads[lsn], text);
	b->reader->records[lsn] = (struct stored_record){
		.lsn = lsn,
		.producer = producer,
		.time_us = time_us,
		.payload = buf_span(&b->reader->payloads[lsn]),
	};
	return &b->reader->records[lsn];
}

static void note(struct box *b, const struct change *c)
{
	switch ((int)c->kind) {
	case CHANGE_LINE_ADD:
		(void)buf_printf(&b->said, "%lld %.*s\n", (long long)c->offset, (int)c->text.len,
				 (const char *)c->text.at);
		b->reader->next_offset = c->offset + 1;
		return;
	case CHANGE_LATE_ADD: (void)buf_printf(&b->said, "late %lld\n", (long long)c->step); return;
	case CHANGE_DEAD_ADD:
		(void)buf_printf(&b->said, "dead %s: %.*s\n", c->dead.what, (int)c->dead.reason.len,
				 (const char *)c->dead.reason.at);
		return;
	case CHANGE_UPLOAD_ADD:
		(void)buf_printf(&b->said, "upload %.*s\n", (int)c->upload.path.len,
				 (const char *)c->upload.path.at);
		return;
	case CHANGE_CURSOR: b->reader->planned_lsn = c->lsn; return;
	case CHANGE_PLANNER:
		buf_done(&b->reader->state);
		buf_init(&b->reader->state, 64 << 20);
		ck_assert_int_eq(buf_add(&b->reader->state, c->text.at, c->text.len), 0);
		b->reader->has_state = true;
		return;
	default: return;
	}
}

/* Commits what is planned. */
static void commit(struct box *b)
{
	plan_end(&b->plan, b->changes);
	ck_assert_int_eq(b->changes->error, 0);
	for (size_t i = 0; i < b->changes->count; i++)
		note(b, &b->changes->items[i]);
	ck_assert_int_eq(b->said.error, 0);
	changes_reset(b->changes);
	plan_begin(&b->plan);
}

/* Forgets the plan and reads what was committed; it is the same again. */
static void restart(struct box *b)
{
	auto_buf struct buf before;
	bool may_write = b->plan.may_write;

	buf_init(&before, 64 << 20);
	ck_assert_int_eq(buf_add(&before, b->reader->state.data, b->reader->state.len), 0);
	plan_done(&b->plan);
	ck_assert_int_eq(plan_init(&b->plan, RUN, MERGE_MAX_US), 0);
	ck_assert_int_eq(plan_load(&b->plan, b->reader), 0);
	b->plan.may_write = may_write;
	commit(b);
	ck_assert(span_equal(buf_span(&before), buf_span(&b->reader->state)));
}

static void take(struct box *b, const struct stored_record *record)
{
	ck_assert_int_eq(plan_take(&b->plan, b->reader, b->changes, record, &b->outcome, b->blob),
			 0);
	if (b->outcome == PLAN_IDLE)
		ck_assert_int_eq(b->plan.cursor, record->lsn);
	commit(b);
	if (b->reloads)
		restart(b);
}

static void add(struct box *b, double at, int64_t producer, const char *kind, const char *body)
{
	take(b, store(b, at, producer, kind, body));
}

#define SAID(text) ck_assert_str_eq(buf_text(&b.said), text)

START_TEST(records_become_lines)
{
	for (int reloads = 0; reloads < 2; reloads++) {
		struct box b;

		box_init(&b);
		b.reloads = reloads == 1;
		add(&b, 0, 1, "run", "'project':'p','config':{'lr':0.5}");
		add(&b, 1.5, 1, "log", "'data':{'x':1,'n':{'y':NaN}}");
		add(&b, 2, 1, "log", "'data':{'x':2},'step':5");
		add(&b, 3, 1, "log", "'data':{'x':3,'z':'t'},'step':5,'commit':true");
		add(&b, 4, 1, "log", "'data':{'_step':99,'_runtime':9,'x':4}"); /* ours count */
		add(&b, 5, 1, "log", "'data':{'late':1},'step':3");
		add(&b, 6, 1, "finish", "'exit_code':3");
		SAID("0 {\"x\":1,\"n\":{\"y\":NaN},\"_timestamp\":1700000001.5,\"_runtime\":1.5,"
		     "\"_step\":0}\n"
		     "1 "
		     "{\"x\":3,\"z\":\"t\",\"_timestamp\":1700000003,\"_runtime\":3,\"_step\":5}\n"
		     "2 {\"_runtime\":4,\"x\":4,\"_timestamp\":1700000004,\"_step\":6}\n"
		     "late 3\n");
		ck_assert(plan_is_over(&b.plan));
		ck_assert(b.plan.has_exit_code);
		ck_assert_int_eq(b.plan.exit_code, 3);
		ck_assert_int_eq(b.plan.next_offset, 3);
		ck_assert_int_eq(b.plan.side_records, 2);
		box_done(&b);
	}
}
END_TEST

START_TEST(several_producers_make_one_line_of_a_step)
{
	for (int reloads = 0; reloads < 2; reloads++) {
		struct box b;

		box_init(&b);
		b.reloads = reloads == 1;
		add(&b, 0, 1, "run", "'project':'p'");
		add(&b, 0, 2, "run", "'project':'p'");
		add(&b, 1, 1, "log", "'data':{'a':{'x':1}},'step':0,'commit':true");
		add(&b, 2, 2, "log", "'data':{'a':{'y':2}},'step':0,'commit':true");
		add(&b, 3, 1, "finish", "");
		SAID("0 {\"a\":{\"x\":1,\"y\":2},\"_timestamp\":1700000002,\"_runtime\":2,"
		     "\"_step\":0}\n");
		ck_assert(!plan_is_over(&b.plan));
		add(&b, 4, 2, "finish", "'exit_code':0");
		ck_assert(plan_is_over(&b.plan));
		ck_assert_int_eq(b.plan.exit_code, 0);
		box_done(&b);
	}
}
END_TEST

/* The daemon says of a producer that it is gone when its disk is slow, too: twice, or behind its
 * finish. */
START_TEST(who_is_gone_after_its_end_changes_nothing)
{
	struct box b;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	add(&b, 0, 2, "attach", "'project':'p'");
	add(&b, 1, 2, "gone", "");
	add(&b, 2, 2, "gone", "");
	ck_assert(!b.plan.has_exit_code);
	add(&b, 3, 1, "finish", "'exit_code':0");
	add(&b, 4, 1, "gone", "");
	ck_assert(plan_is_over(&b.plan));
	ck_assert_int_eq(b.plan.exit_code, 0);
	box_done(&b);
}
END_TEST

START_TEST(the_first_exit_code_that_is_not_zero_counts)
{
	struct box b;

	box_init(&b);
	for (int64_t p = 1; p <= 4; p++)
		add(&b, 0, p, "run", "'project':'p'");
	ck_assert(!b.plan.has_exit_code);
	add(&b, 1, 1, "finish", "");
	ck_assert(b.plan.has_exit_code);
	add(&b, 2, 2, "finish", "'exit_code':143");
	add(&b, 3, 3, "finish", "'exit_code':1");
	add(&b, 4, 4, "finish", "");
	ck_assert_int_eq(b.plan.exit_code, 143);
	ck_assert(plan_is_over(&b.plan));
	add(&b, 5, 5, "run", "'project':'p'"); /* opened again */
	ck_assert(!b.plan.has_exit_code && !plan_is_over(&b.plan));
	box_done(&b);
}
END_TEST

START_TEST(who_opens_the_run_after_a_death_takes_the_dead_one_s_place)
{
	for (int reloads = 0; reloads < 2; reloads++) {
		struct box b;

		box_init(&b);
		b.reloads = reloads == 1;
		for (int64_t p = 1; p <= 3; p++)
			add(&b, 0, p, "run", "'project':'p'");
		add(&b, 10, 2, "log", "'data':{'x':1},'step':0");
		add(&b, 12, 1, "finish", "'exit_code':1");
		ck_assert_int_eq(b.plan.exit_code, 1);
		add(&b, 20, 4, "run", "'project':'p'");
		add(&b, 20, 5, "run", "'project':'p'");
		ck_assert(!b.plan.has_exit_code && b.plan.exit_code == 0);
		add(&b, 70, 2, "gone", ""); /* its last word was before 4 and 5 came */
		ck_assert(!b.plan.has_exit_code);
		add(&b, 75, 4, "log", "'data':{'x':1},'step':1");
		add(&b, 80, 5, "log", "'data':{'x':1},'step':1");
		add(&b, 81, 3, "config", "'data':{'a':1}"); /* 3 was alive after they came */
		add(&b, 150, 3, "gone", "");
		ck_assert_int_eq(b.plan.exit_code, EXIT_KILLED);
		add(&b, 160, 4, "run", "'project':'p'"); /* it was there: nobody new */
		ck_assert_int_eq(b.plan.exit_code, EXIT_KILLED);
		add(&b, 170, 6, "run", "'project':'p'");
		for (int64_t p = 4; p <= 6; p++)
			add(&b, 180, p, "finish", "");
		ck_assert(plan_is_over(&b.plan) && b.plan.has_exit_code);
		ck_assert_int_eq(b.plan.exit_code, 0);
		box_done(&b);
	}
}
END_TEST

START_TEST(only_an_owner_s_machine_that_is_taken_away_is_told)
{
	for (int reloads = 0; reloads < 2; reloads++) {
		struct box b;

		box_init(&b);
		b.reloads = reloads == 1;
		add(&b, 0, 1, "run", "'project':'p'");
		add(&b, 0, 2, "attach", "'project':'p'");
		add(&b, 1, 2, "preempting", "");
		ck_assert(!b.plan.preempting);
		add(&b, 2, 1, "preempting", "");
		ck_assert(b.plan.preempting);
		add(&b, 3, 1, "finish", "'exit_code':143");
		add(&b, 3, 2, "finish", "");
		ck_assert(b.plan.preempting); /* it is told with the end, if it was not before */
		add(&b, 4, 3, "run", "'project':'p'");
		ck_assert(!b.plan.preempting);
		box_done(&b);
	}
}
END_TEST

START_TEST(who_opens_the_run_behind_those_who_attached_is_found)
{
	struct box b;
	const struct stored_record *log;
	int64_t after;
	bool more;

	box_init(&b);
	b.plan.may_write = false;
	add(&b, 0, 2, "attach", "'project':'p'");
	log = store(&b, 1, 2, "log", "'data':{'x':1}");
	take(&b, log);
	ck_assert_int_eq((int)b.outcome, (int)PLAN_STOP);
	after = b.plan.cursor;
	ck_assert_int_eq(plan_find_opening(&b.plan, b.reader, 10, &after, &more), 0);
	ck_assert(!more && !b.plan.has_run);
	ck_assert_int_eq(after, log->lsn);
	(void)store(&b, 2, 2, "log", "'data':{'x':2}");
	(void)store(&b, 3, 1, "run", "'project':'p','name':'n'");
	ck_assert_int_eq(plan_find_opening(&b.plan, b.reader, 1, &after, &more), 0);
	ck_assert(more);
	ck_assert_int_eq(plan_find_opening(&b.plan, b.reader, 1, &after, &more), 1);
	ck_assert(b.plan.has_run);
	ck_assert_str_eq(b.plan.about.texts[ABOUT_NAME], "n");
	ck_assert_int_eq(b.plan.cursor, 1); /* none of it is planned */
	b.plan.may_write = true;
	for (int64_t lsn = 2; lsn <= 4; lsn++)
		take(&b, &b.reader->records[lsn]);
	add(&b, 4, 1, "finish", "");
	add(&b, 4, 2, "finish", "");
	ck_assert(plan_is_over(&b.plan) && b.plan.has_exit_code);
	SAID("0 {\"x\":1,\"_timestamp\":1700000001,\"_runtime\":1,\"_step\":0}\n"
	     "1 {\"x\":2,\"_timestamp\":1700000002,\"_runtime\":2,\"_step\":1}\n");
	box_done(&b);
}
END_TEST

START_TEST(a_guest_that_ends_does_not_end_the_run)
{
	struct box b;

	box_init(&b);
	add(&b, 0, 1, "attach", "'project':'p'");
	ck_assert(!b.plan.has_run);
	add(&b, 1, 1, "finish", "'exit_code':1");
	ck_assert(!b.plan.has_exit_code);
	box_done(&b);
}
END_TEST

START_TEST(what_is_defined_fills_rows_summary_and_config)
{
	for (int reloads = 0; reloads < 2; reloads++) {
		struct box b;
		auto_buf struct buf text;
		struct json j;

		box_init(&b);
		b.reloads = reloads == 1;
		add(&b, 0, 1, "run", "'project':'p'");
		add(&b, 0, 1, "define", "'name':'t/*','step_metric':'t/step','step_sync':true");
		add(&b, 0, 1, "define", "'name':'acc','summary':['max']");
		add(&b, 1, 1, "log", "'data':{'t/step':4,'t/x':1,'acc':0.5}");
		add(&b, 2, 1, "log", "'data':{'t/x':2,'acc':0.25}");
		add(&b, 3, 1, "summary", "'data':{'mine':1}");
		SAID("0 "
		     "{\"t/step\":4,\"t/x\":1,\"acc\":0.5,\"_timestamp\":1700000001,\"_runtime\":1,"
		     "\"_step\":0}\n"
		     "1 {\"t/x\":2,\"acc\":0.25,\"_timestamp\":1700000002,\"_runtime\":2,"
		     "\"t/step\":4,\"_step\":1}\n");
		buf_init(&text, 4096);
		json_init(&j, &text);
		summary_to_json(&b.plan.summary, &j);
		ck_assert_str_eq(buf_text(&text),
				 "{\"acc\":{\"max\":0.5},\"t/step\":4,\"t/x\":2,"
				 "\"_timestamp\":1700000002,\"_runtime\":2,\"_step\":1,"
				 "\"_wandb\":{\"runtime\":2},\"mine\":1}");
		ck_assert(b.plan.summary_dirty);
		ck_assert_uint_eq(b.plan.about.dirty & ABOUT_CONFIG, ABOUT_CONFIG);
		box_done(&b);
	}
}
END_TEST

START_TEST(a_trainer_may_say_the_time_itself)
{
	struct box b;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	add(&b, 1, 1, "log", "'data':{'x':1,'_timestamp':12.5}");
	add(&b, 2, 1, "log", "'data':{'_timestamp':13},'commit':false");
	add(&b, 3, 1, "log", "'data':{'x':2}"); /* the newest call's counts */
	add(&b, 4, 1, "log", "'data':{'x':3,'_timestamp':'noon'}");
	SAID("0 {\"x\":1,\"_timestamp\":12.5,\"_runtime\":1,\"_step\":0}\n"
	     "1 {\"_timestamp\":1700000003,\"x\":2,\"_runtime\":3,\"_step\":1}\n"
	     "2 {\"x\":3,\"_timestamp\":1700000004,\"_runtime\":4,\"_step\":2}\n");
	box_done(&b);
}
END_TEST

START_TEST(calls_that_belong_together_are_one_row_if_the_producer_wants_it)
{
	for (int reloads = 0; reloads < 2; reloads++) {
		struct box b;

		box_init(&b);
		b.reloads = reloads == 1;
		add(&b, 0, 1, "run", "'project':'p','merge_rows':true");
		add(&b, 0, 1, "define", "'name':'*','step_metric':'step','step_sync':true");
		add(&b, 1, 1, "log", "'data':{'a':1}");
		add(&b, 1.1, 1, "log", "'data':{'b':2}");
		add(&b, 1.2, 1, "log", "'data':{'step':1}");
		SAID("");
		add(&b, 50, 1, "log",
		    "'data':{'step':1,'c':3}"); /* much later, and the same step */
		SAID("");
		add(&b, 51, 1, "log", "'data':{'step':2,'a':4}"); /* another one */
		SAID("0 {\"a\":1,\"b\":2,\"step\":1,\"c\":3,\"_timestamp\":1700000050,"
		     "\"_runtime\":50,\"_step\":0}\n");
		buf_clear(&b.said);
		add(&b, 51.1, 1, "log", "'data':{'a':5}"); /* the key is there */
		add(&b, 51.2, 1, "log", "'data':{'b':6},'commit':true");
		add(&b, 60, 1, "finish", "");
		SAID("1 {\"step\":2,\"a\":4,\"_timestamp\":1700000051,\"_runtime\":51,"
		     "\"_step\":1}\n"
		     "2 {\"a\":5,\"b\":6,\"_timestamp\":1700000051.2,\"_runtime\":51.2,"
		     "\"step\":2,\"_step\":2}\n");
		box_done(&b);
	}
}
END_TEST

START_TEST(a_shared_writer_s_steps_count_its_rows)
{
	for (int reloads = 0; reloads < 2; reloads++) {
		struct box b;

		box_init(&b);
		b.reloads = reloads == 1;
		add(&b, 0, 1, "run", "'project':'p','shared':true,'label':'one'");
		add(&b, 1, 1, "log", "'data':{'x':1},'step':70");
		add(&b, 2, 2, "run", "'project':'p'");
		add(&b, 3, 2, "log", "'data':{'x':2},'step':5");
		SAID("0 {\"x\":1,\"_timestamp\":1700000001,\"_runtime\":1,\"_step\":0}\n"
		     "1 {\"x\":2,\"_timestamp\":1700000003,\"_runtime\":3,\"_step\":1}\n");
		ck_assert(b.plan.shared.is_on && b.plan.summary_dirty);
		ck_assert_str_eq(b.plan.shared.label, "one");
		box_done(&b);
	}
}
END_TEST

START_TEST(a_summary_that_w_b_derives_has_what_was_set_by_hand)
{
	struct box b;
	auto_buf struct buf text;
	struct json j;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p','shared':true,'derived_summary':true");
	add(&b, 1, 1, "define", "'name':'x','summary':['max']");
	add(&b, 2, 1, "log", "'data':{'x':1}");
	add(&b, 3, 2, "run", "'project':'p','shared':true");
	add(&b, 4, 2, "finish", "");
	ck_assert(!b.plan.summary_dirty);
	add(&b, 5, 1, "summary", "'data':{'best':7}");
	ck_assert(b.plan.summary_dirty);
	buf_init(&text, 1000);
	json_init(&j, &text);
	summary_to_json(&b.plan.summary, &j);
	ck_assert_str_eq(buf_text(&text), "{\"best\":7}");
	box_done(&b);
}
END_TEST

START_TEST(a_run_that_has_begun_is_not_shared_any_more)
{
	struct box b;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	add(&b, 1, 1, "log", "'data':{'x':1},'step':7");
	add(&b, 2, 2, "run", "'project':'p','shared':true");
	ck_assert(!b.plan.shared.is_on && b.plan.shared.is_asked_late);
	box_done(&b);
}
END_TEST

START_TEST(rows_wait_until_w_b_knows_the_run)
{
	struct box b;
	const struct stored_record *log;

	box_init(&b);
	b.plan.may_write = false;
	add(&b, 0, 1, "run", "'project':'p'");
	log = store(&b, 1, 1, "log", "'data':{'x':1}");
	take(&b, log);
	ck_assert_int_eq((int)b.outcome, (int)PLAN_STOP);
	ck_assert_int_eq(b.plan.cursor, 1); /* it is not in */
	SAID("");
	b.plan.may_write = true;
	take(&b, log);
	ck_assert_int_eq((int)b.outcome, (int)PLAN_IDLE);
	SAID("0 {\"x\":1,\"_timestamp\":1700000001,\"_runtime\":1,\"_step\":0}\n");
	box_done(&b);
}
END_TEST

START_TEST(a_row_that_is_overdue_goes_before_the_record_that_comes)
{
	struct box b;
	uint8_t blob[DIGEST_BYTES];

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	add(&b, 0, 2, "run", "'project':'p'");
	add(&b, 1, 2, "log", "'data':{'b':1},'step':0");
	add(&b, 1, 1, "log", "'data':{'a':1},'step':0,'commit':true");
	add(&b, 121.5, 2, "log", "'data':{'b':2},'step':0"); /* after merge_max: late */
	SAID("0 {\"b\":1,\"a\":1,\"_timestamp\":1700000001,\"_runtime\":1,\"_step\":0}\n");
	ck_assert_int_eq(plan_rows(&b.plan, b.reader, b.changes, INT64_MAX / 2, &b.outcome, blob),
			 0);
	commit(&b);
	add(&b, 122, 1, "finish", "");
	add(&b, 122, 2, "finish", "");
	ck_assert_ptr_nonnull(strstr(buf_text(&b.said), "late 0\n"));
	box_done(&b);
}
END_TEST

/* --- late rows, and everybody else's --- */

enum {
	RANKS = 8,
	STEPS = 60,
	RANKS_STEP_S = 10,
};

/* One rank logs its part of a step. */
static void log_rank(struct box *b, double at, int64_t producer, int step)
{
	int64_t rank = producer % RANKS;
	char body[100];

	(void)snprintf(body, sizeof(body), "'data':{'train/step':%d,'rank%lld':%d},'step':%d", step,
		       (long long)rank, step, step);
	add(b, at, producer, "log", body);
}

/* Every line stands at the step that it logs, and each step of [0, steps) has one. ranks: the parts
 * that a line has, at least. */
static void every_row_is_at_its_step(struct box *b, int steps, int64_t ranks)
{
	char *at = (char *)b->said.data;
	int lines = 0;

	ck_assert_ptr_nonnull(buf_text(&b->said));
	for (char *line = strtok_r(at, "\n", &at); line != NULL; line = strtok_r(NULL, "\n", &at)) {
		char want[40];

		if (strncmp(line, "late", 4) == 0)
			continue;
		(void)snprintf(want, sizeof(want), "%d {\"train/step\":%d,", lines, lines);
		ck_assert_msg(strncmp(line, want, strlen(want)) == 0, "%s", line);
		(void)snprintf(want, sizeof(want), "\"_step\":%d}", lines);
		ck_assert_msg(strstr(line, want) != NULL, "%s", line);
		for (int64_t rank = 0; rank < ranks; rank++) {
			(void)snprintf(want, sizeof(want), "\"rank%lld\":%d,", (long long)rank,
				       lines);
			ck_assert_msg(strstr(line, want) != NULL, "%s has no %s", line, want);
		}
		lines++;
	}
	ck_assert_int_eq(lines, steps);
}

static unsigned late_rows(const struct box *b)
{
	unsigned count = 0;

	for (const char *at = (const char *)b->said.data; (at = strstr(at, "late ")) != NULL; at++)
		count++;
	return count;
}

START_TEST(one_straggler_leaves_every_other_row_at_its_own_step)
{
	const int behind = 3 * (int)(MERGE_MAX_US / 1000000) / RANKS_STEP_S; /* three merge_max */
	struct box b;

	box_init(&b);
	for (int64_t rank = 0; rank < RANKS; rank++)
		add(&b, 0, rank, "run", "'project':'p'");
	for (int step = 0; step < STEPS; step++) {
		for (int64_t rank = 0; rank < RANKS - 1; rank++)
			log_rank(&b, 1 + step * RANKS_STEP_S, rank, step);
		if (step >= behind)
			log_rank(&b, 1 + step * RANKS_STEP_S, RANKS - 1, step - behind);
	}
	for (int64_t rank = 0; rank < RANKS; rank++)
		add(&b, STEPS * RANKS_STEP_S, rank, "finish", "");
	ck_assert(plan_is_over(&b.plan));
	ck_assert_uint_eq(late_rows(&b), STEPS - (unsigned)behind);
	every_row_is_at_its_step(&b, STEPS, RANKS - 1);
	box_done(&b);
}
END_TEST

/* All ranks die and come back from a checkpoint, as other producers. */
START_TEST(a_resume_thirty_steps_back_leaves_every_row_at_its_own_step)
{
	enum {
		BACK = 30
	};
	struct box b;
	double at = 1;

	box_init(&b);
	for (int64_t rank = 0; rank < RANKS; rank++)
		add(&b, 0, rank, "run", "'project':'p'");
	for (int step = 0; step < STEPS; step++, at += RANKS_STEP_S) {
		for (int64_t rank = 0; rank < RANKS; rank++)
			log_rank(&b, at, rank, step);
	}
	for (int64_t rank = 0; rank < RANKS; rank++)
		add(&b, at + 60, rank, "gone", "");
	for (int64_t rank = 0; rank < RANKS; rank++)
		add(&b, at + 100, RANKS + rank, "run", "'project':'p'");
	for (int step = STEPS - BACK; step < STEPS + BACK; step++, at += RANKS_STEP_S) {
		for (int64_t rank = 0; rank < RANKS; rank++)
			log_rank(&b, at + 110, RANKS + rank, step);
	}
	for (int64_t rank = 0; rank < RANKS; rank++)
		add(&b, at + 200, RANKS + rank, "finish", "");
	ck_assert(plan_is_over(&b.plan));
	ck_assert_uint_eq(late_rows(&b), BACK * RANKS); /* each rank's part is a record */
	every_row_is_at_its_step(&b, STEPS + BACK, RANKS);
	box_done(&b);
}
END_TEST

/* --- live and from the backlog --- */

enum {
	PRODUCERS = 5,
	EVENTS = 160
};

struct event {
	double at;
	int64_t producer;
	const char *kind;
	char body[160];
};

/* What a producer may say; the first ones like steps. */
static void random_log(struct rng *rng, struct event *e, int number)
{
	static const char *const commits[] = {"", "", ",'commit':true", ",'commit':false"};
	char step[40] = "";

	if (rng_below(rng, 9) < (e->producer < 3 ? 8u : 1u))
		(void)snprintf(step, sizeof(step), ",'step':%d",
			       number / 5 - 3 + (int)rng_below(rng, 7));
	e->kind = "log";
	(void)snprintf(e->body, sizeof(e->body), "'data':{'k%d':%d,%s'x/%d':%d}%s%s",
		       (int)rng_below(rng, 3), number, rng_below(rng, 4) == 0 ? "'axis':7," : "",
		       (int)rng_below(rng, 3), number, step,
		       commits[rng_below(rng, array_len(commits))]);
}

static void random_event(struct rng *rng, struct event *e, double *at, int number)
{
	static const struct {
		const char *kind;
		const char *body;
	} others[] = {
		{"run", "'project':'p'"},
		{"run", "'project':'p','merge_rows':true"},
		{"attach", "'project':'p'"},
		{"attach", "'project':'p','merge_rows':true"},
		{"finish", "'exit_code':0"},
		{"gone", ""},
		{"define", "'name':'x/*','step_metric':'axis','step_sync':true"},
		{"define", "'name':'k1','summary':['max','mean']"},
		{"summary", "'data':{'mine':1}"},
	};
	static const double spans[] = {0.001, 0.3, 1, 1, 1, 30, 119.9, 250, 3601, 8000};

	*at += spans[rng_below(rng, array_len(spans))] * (double)(1 + rng_below(rng, 100)) / 100;
	e->at = *at;
	e->producer = (int64_t)rng_below(rng, PRODUCERS);
	if (rng_below(rng, 8) > 0) {
		random_log(rng, e, number);
	} else {
		size_t which = rng_below(rng, array_len(others));

		e->kind = others[which].kind;
		(void)snprintf(e->body, sizeof(e->body), "%s", others[which].body);
	}
}

static void look(struct box *b, double at)
{
	int64_t now_us = (int64_t)T0 * 1000000 + (int64_t)(at * 1e6);

	ck_assert_int_eq(plan_rows(&b->plan, b->reader, b->changes, now_us, &b->outcome, b->blob),
			 0);
	ck_assert_int_eq((int)b->outcome, (int)PLAN_IDLE);
	commit(b);
	if (b->reloads)
		restart(b);
}

/* As they come, with looks in between. */
static void plan_live(struct box *b, const struct event *events, struct rng *looks, double end)
{
	double at = 0;

	for (int i = 0; i < EVENTS; i++) {
		for (double span = events[i].at - at; span > 0.01 && rng_below(looks, 3) > 0;
		     span = events[i].at - at) {
			at += span * (double)rng_below(looks, 100) / 100;
			look(b, at);
		}
		at = events[i].at;
		add(b, at, events[i].producer, events[i].kind, events[i].body);
	}
	look(b, end);
}

/* All of them at the end, in as few plans as may be. */
static void plan_backlog(struct box *b, const struct event *events, double end)
{
	for (int i = 0; i < EVENTS; i++)
		(void)store(b, events[i].at, events[i].producer, events[i].kind, events[i].body);
	for (int64_t lsn = 1; lsn <= EVENTS;) {
		ck_assert_int_eq(plan_take(&b->plan, b->reader, b->changes,
					   &b->reader->records[lsn], &b->outcome, b->blob),
				 0);
		if (b->outcome == PLAN_FULL)
			commit(b);
		lsn = b->plan.cursor + 1;
	}
	look(b, end);
}

START_TEST(a_backlog_plans_byte_for_byte_as_it_would_have_live)
{
	static struct event events[EVENTS];
	unsigned lines = 0;
	unsigned late = 0;

	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct box boxes[3]; /* live, live with a restart after every record, backlog */
		struct rng rng = {.state = seed};
		double end = 0;

		for (int i = 0; i < EVENTS; i++)
			random_event(&rng, &events[i], &end, i);
		end += 10000;
		for (size_t i = 0; i < array_len(boxes); i++) {
			box_init(&boxes[i]);
			boxes[i].reloads = i == 1;
			if (i < 2)
				plan_live(&boxes[i], events, &rng, end);
			else
				plan_backlog(&boxes[i], events, end);
			ck_assert_str_eq(buf_text(&boxes[i].said), buf_text(&boxes[0].said));
			ck_assert(span_equal(buf_span(&boxes[i].reader->state),
					     buf_span(&boxes[0].reader->state)));
		}
		lines += (unsigned)boxes[0].plan.next_offset;
		late += late_rows(&boxes[0]);
		for (size_t i = 0; i < array_len(boxes); i++)
			box_done(&boxes[i]);
	}
	ck_assert_uint_gt(lines, 1000);
	ck_assert_uint_gt(late, 100); /* they were no idle trials */
}
END_TEST

START_TEST(a_plan_is_of_bounded_size)
{
	struct box b;
	unsigned plans = 1;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	for (int i = 0; i < 1000; i++) {
		const struct stored_record *r = store(&b, 1, 1, "log", "'data':{'x':1}");

		for (;;) {
			ck_assert_int_eq(
				plan_take(&b.plan, b.reader, b.changes, r, &b.outcome, b.blob), 0);
			if (b.outcome != PLAN_FULL || b.plan.cursor == r->lsn)
				break;
			ck_assert(plan_is_full(&b.plan));
			ck_assert_uint_le(b.plan.lines, PLAN_LINES_MAX);
			commit(&b);
			plans++;
		}
	}
	commit(&b);
	ck_assert_uint_ge(plans, 4);
	ck_assert_int_eq(b.plan.next_offset, 1000);
	box_done(&b);
}
END_TEST

START_TEST(a_row_longer_than_w_b_takes_is_a_dead_letter)
{
	enum {
		TEXT = 1000000
	};
	auto_free char *body = mem_alloc(TEXT + 100);
	struct box b;

	ck_assert_ptr_nonnull(body);
	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	for (int i = 0; i < 11; i++) {
		int n = snprintf(body, 100, "'step':0,'data':{'k%d':'", i);

		memset(body + n, 'x', TEXT);
		(void)snprintf(body + n + TEXT, 100, "'}");
		add(&b, 1, 1, "log", body);
	}
	add(&b, 2, 1, "log", "'data':{'x':1},'step':1,'commit':true");
	SAID("dead row: the row is longer than the 10 MB that W&B takes\n"
	     "0 {\"x\":1,\"_timestamp\":1700000002,\"_runtime\":2,\"_step\":1}\n");
	box_done(&b);
}
END_TEST

START_TEST(a_record_with_odd_contents_does_not_stop_its_run)
{
	static const struct {
		const char *kind;
		const char *body;
	} odd[] = {
		{"log", "'data':{[1]:2,'x':{{}:1}}"},
		{"config", "'data':{[1]:2},'remove':[5,[6]]"},
		{"summary", "'data':{[[]]:2},'remove':[5,{}]"},
		{"tags", "'add':[5,{[1]:2}],'remove':[[]]"},
		{"define", "'name':'m','summary':[5,[1]]"},
	};

	for (size_t i = 0; i < array_len(odd); i++) {
		struct box b;

		box_init(&b);
		b.reloads = true;
		add(&b, 0, 1, "run", "'project':'p'");
		add(&b, 1, 1, odd[i].kind, odd[i].body);
		add(&b, 2, 1, "log", "'data':{'after':1}");
		ck_assert_msg(strstr(buf_text(&b.said), "{\"after\":1,") != NULL, "%s",
			      odd[i].kind);
		ck_assert_ptr_null(strstr(buf_text(&b.said), "dead"));
		box_done(&b);
	}
}
END_TEST

/* --- tables --- */

#define BLOB  "<000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f>"
#define TABLE "{'_type':'table','blob':" BLOB ",'size':9,'ncols':1,'nrows':2}"

static void know_table(struct box *b, int result)
{
	struct plan_table table = {.result = result, .size = 42, .rows = 2, .columns = 1};

	ck_assert_int_eq((int)b->outcome, (int)PLAN_TABLE);
	memcpy(table.blob, b->blob, DIGEST_BYTES);
	memset(table.sha256, 'a', sizeof(table.sha256) - 1);
	ck_assert_int_eq(plan_add_table(&b->plan, &table), 0);
}

/* The random parts of names become dots. */
static const char *without_ids(struct buf *said)
{
	static const char mark[] = "wandb-client-artifact://";
	char *at = (char *)said->data;

	ck_assert_ptr_nonnull(buf_text(said));
	while (at != NULL && (at = strstr(at, mark)) != NULL) {
		at += sizeof(mark) - 1;
		ck_assert_uint_ge(strspn(at, "0123456789abcdefghijklmnopqrstuvwxyz"), 128);
		memset(at, '.', 1);
		memmove(at + 1, at + 128, strlen(at + 128) + 1);
	}
	return (const char *)said->data;
}

START_TEST(a_table_gets_the_value_of_its_run_file)
{
	struct box b;
	const struct stored_record *r;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	r = store(&b, 1, 1, "log",
		  "'data':{'x':1,'t/a':" TABLE ",'n':{'deep':" TABLE "}},'blobs':[" BLOB "]");
	take(&b, r);
	SAID("");
	ck_assert_int_eq(b.blob[1], 1);
	know_table(&b, 0);
	ck_assert_int_eq(plan_rows(&b.plan, b.reader, b.changes, 0, &b.outcome, b.blob), 0);
	ck_assert_int_eq((int)b.outcome, (int)PLAN_IDLE);
	commit(&b);
#define SHA "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define VALUE(path, key)                                                                           \
	"{\"_type\":\"table-file\",\"path\":\"media/table/" path                                   \
	"_0_aaaaaaaaaaaaaaaaaaaa.table.json\",\"sha256\":\"" SHA                                   \
	"\",\"size\":42,\"ncols\":1,\"nrows\":2,\"log_mode\":\"IMMUTABLE\","                       \
	"\"artifact_path\":\"wandb-client-artifact://./" key ".table.json\","                      \
	"\"_latest_artifact_path\":\"wandb-client-artifact://.:latest/" key ".table.json\"}"
	ck_assert_str_eq(without_ids(&b.said),
			 "upload media/table/t/a_0_aaaaaaaaaaaaaaaaaaaa.table.json\n"
			 "upload media/table/deep_0_aaaaaaaaaaaaaaaaaaaa.table.json\n"
			 "0 {\"x\":1,\"t/a\":" VALUE("t/a", "t/a") ",\"n\":{\"deep\":" VALUE(
				 "deep", "deep") "},\"_timestamp\":1700000001,\"_runtime\":1,"
						 "\"_step\":0}\n");
	box_done(&b);
}
END_TEST

START_TEST(a_table_that_is_none_is_a_dead_letter_and_its_row_goes_on)
{
	struct box b;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p'");
	add(&b, 1, 1, "log", "'data':{'x':1,'../t':" TABLE "},'blobs':[" BLOB "]");
	know_table(&b, -EBADMSG);
	ck_assert_int_eq(plan_rows(&b.plan, b.reader, b.changes, 0, &b.outcome, b.blob), 0);
	commit(&b);
	SAID("dead table: the table's bytes are not a table\n"
	     "0 {\"x\":1,\"_timestamp\":1700000001,\"_runtime\":1,\"_step\":0}\n");
	box_done(&b);
}
END_TEST

START_TEST(a_table_s_path_stays_in_its_folder)
{
	static const struct {
		const char *key;
		const char *path;
	} cases[] = {
		{"a", "a"},   {"/a", "a"},           {"a/../../b", "a/_/_/b"},
		{"..", "_"},  {"./a//b", "_/a/_/b"}, {"...", "..."},
		{"a/", "a/"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct box b;
		char body[300];
		char upload[100];

		box_init(&b);
		add(&b, 0, 1, "run", "'project':'p'");
		(void)snprintf(body, sizeof(body), "'data':{'%s':" TABLE "},'blobs':[" BLOB "]",
			       cases[i].key);
		add(&b, 1, 1, "log", body);
		know_table(&b, 0);
		ck_assert_int_eq(plan_rows(&b.plan, b.reader, b.changes, 0, &b.outcome, b.blob), 0);
		commit(&b);
		(void)snprintf(upload, sizeof(upload),
			       "upload media/table/%s_0_aaaaaaaaaaaaaaaaaaaa.table.json\n",
			       cases[i].path);
		ck_assert_msg(strncmp(buf_text(&b.said), upload, strlen(upload)) == 0, "%s",
			      buf_text(&b.said));
		box_done(&b);
	}
}
END_TEST

START_TEST(a_row_of_many_tables_is_planned_some_time)
{
	enum {
		TABLES = 12, /* of each */
	};
	char body[4096];
	struct box b;
	unsigned asked = 0;

	box_init(&b);
	for (unsigned rank = 0; rank < RANKS; rank++)
		add(&b, 0, rank, "run", "'project':'p'");
	for (unsigned rank = 0; rank < RANKS; rank++) {
		size_t len =
			(size_t)snprintf(body, sizeof(body), "'step':0,'commit':true,'data':{");

		for (unsigned i = rank * TABLES; i < (rank + 1) * TABLES; i++)
			len += (size_t)snprintf(body + len, sizeof(body) - len,
						"%s't%u':{'_type':'table','blob':<%064x>}",
						i > rank * TABLES ? "," : "", i, i);
		(void)snprintf(body + len, sizeof(body) - len, "},'blobs':[" BLOB "]");
		add(&b, 1, rank, "log", body);
	}
	while (b.outcome == PLAN_TABLE) {
		know_table(&b, 0);
		ck_assert_uint_le(++asked, RANKS * TABLES); /* each table once */
		ck_assert_int_eq(plan_rows(&b.plan, b.reader, b.changes, 0, &b.outcome, b.blob), 0);
	}
	commit(&b);
	ck_assert_uint_eq(asked, RANKS * TABLES);
	ck_assert_int_eq(b.plan.next_offset, 1);
	box_done(&b);
}
END_TEST

/* --- state --- */

START_TEST(a_state_of_another_version_or_none_is_told_apart)
{
	static const struct {
		const char *state;
		int result;
	} cases[] = {
		{"{'v':99}", -EPROTO},
		{"{'v':1}", -EBADMSG},
		{"{}", -EBADMSG},
		{"null", -EBADMSG},
		{"!81!", -EBADMSG},
		{"{'v':1,'about':{},'metrics':{},'summary':{},'rows':{}}", -EBADMSG},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct box b;

		box_init(&b);
		ck_assert_int_eq(plan_load(&b.plan, b.reader), 0); /* nothing is stored yet */
		(void)mp_text(&b.reader->state, cases[i].state);
		b.reader->has_state = true;
		ck_assert_msg(plan_load(&b.plan, b.reader) == cases[i].result, "%s",
			      cases[i].state);
		box_done(&b);
	}
}
END_TEST

START_TEST(a_state_that_is_cut_or_changed_never_loads_wrong)
{
	struct box b;
	struct buf whole;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p','config':{'a':{'b':1}},'tags':['t']");
	add(&b, 0, 2, "run", "'project':'p'");
	add(&b, 0, 1, "define", "'name':'x','summary':['max'],'step_metric':'s'");
	add(&b, 1, 1, "log", "'data':{'x':1},'step':0");
	add(&b, 1, 2, "log", "'data':{'y':1},'commit':false");
	whole = b.reader->state;
	for (size_t len = 0; len < whole.len; len++) {
		struct plan again;

		b.reader->state.len = len;
		ck_assert_int_eq(plan_init(&again, RUN, MERGE_MAX_US), 0);
		ck_assert_int_eq(plan_load(&again, b.reader), -EBADMSG);
		plan_done(&again);
	}
	b.reader->state.len = whole.len;
	for (size_t at = 0; at < whole.len; at++) { /* no crash; what it says is its business */
		struct plan again;
		int r;

		whole.data[at] ^= 0x41;
		ck_assert_int_eq(plan_init(&again, RUN, MERGE_MAX_US), 0);
		r = plan_load(&again, b.reader);
		ck_assert(r == 0 || r == -EBADMSG || r == -EPROTO || r == -E2BIG);
		plan_done(&again);
		whole.data[at] ^= 0x41;
	}
	box_done(&b);
}
END_TEST

START_TEST(a_line_gets_another_step)
{
	static const struct {
		const char *line;
		const char *again; /* NULL: refused */
	} cases[] = {
		{"{\"x\":1,\"_step\":5}", "{\"x\":1,\"_step\":99}"},
		{"{\"_step\":5}", "{\"_step\":99}"},
		{"{\"x\":\"\\\"_step\\\":7\",\"_step\":5}",
		 "{\"x\":\"\\\"_step\\\":7\",\"_step\":99}"},
		{"{\"a\":{\"_step\":1},\"_step\":5}", "{\"a\":{\"_step\":1},\"_step\":99}"},
		{"{\"x\":1}", NULL},
		{"", NULL},
		{"{", NULL},
		{"{\"_step\":5", NULL},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf again;
		int r;

		buf_init(&again, 1000);
		r = plan_restep(span_of_text(cases[i].line), 99, &again);
		ck_assert_int_eq(r, cases[i].again == NULL ? -EBADMSG : 0);
		ck_assert_str_eq(buf_text(&again), cases[i].again == NULL ? "" : cases[i].again);
	}
}
END_TEST

/* --- memory --- */

/* Everything from reading the state to the next one; what it was asked for is in changes. */
static int plan_once(struct box *b, struct plan *p, const struct stored_record *r)
{
	struct plan_table table = {.size = 42, .rows = 2, .columns = 1};
	int e = plan_init(p, RUN, MERGE_MAX_US);

	if (e == 0)
		e = plan_load(p, b->reader);
	if (e < 0)
		return e;
	p->may_write = true;
	e = plan_take(p, b->reader, b->changes, r, &b->outcome, b->blob);
	if (e == 0 && b->outcome == PLAN_TABLE) {
		memcpy(table.blob, b->blob, DIGEST_BYTES);
		memset(table.sha256, 'a', sizeof(table.sha256) - 1);
		e = plan_add_table(p, &table);
	}
	if (e == 0 && b->outcome == PLAN_TABLE) {
		e = plan_rows(p, b->reader, b->changes, 0, &b->outcome, b->blob);
	}
	if (e == 0)
		plan_end(p, b->changes);
	return e == 0 ? b->changes->error : e;
}

static void drop_plan(struct box *b, struct plan *p)
{
	plan_done(p);
	changes_reset(b->changes);
}

START_TEST(a_plan_survives_every_allocation_failure)
{
	const struct stored_record *r;
	struct plan p;
	struct box b;

	box_init(&b);
	add(&b, 0, 1, "run", "'project':'p','config':{'a':1},'tags':['t']");
	add(&b, 0, 1, "define", "'name':'x*','summary':['max'],'step_metric':'s','step_sync':true");
	add(&b, 1, 1, "log", "'data':{'x':1,'s':3},'step':0");
	r = store(&b, 2, 1, "log",
		  "'data':{'xx':<0011>,'t':" TABLE "},'step':0,'commit':true,'blobs':[" BLOB "]");
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(plan_once(&b, &p, r), drop_plan(&b, &p)), 0);
	for (size_t i = 0; i < b.changes->count; i++)
		note(&b, &b.changes->items[i]);
	ck_assert_str_eq(
		without_ids(&b.said),
		"upload media/table/t_0_aaaaaaaaaaaaaaaaaaaa.table.json\n"
		"0 {\"x\":1,\"s\":3,\"xx\":\"ABE=\",\"t\":" VALUE(
			"t", "t") ","
				  "\"_timestamp\":1700000002,\"_runtime\":2,\"_step\":0}\n");
	plan_done(&p);
	box_done(&b);
}
END_TEST

SUITE_MAIN("plan", records_become_lines, several_producers_make_one_line_of_a_step,
	   the_first_exit_code_that_is_not_zero_counts, who_is_gone_after_its_end_changes_nothing,
	   who_opens_the_run_after_a_death_takes_the_dead_one_s_place,
	   only_an_owner_s_machine_that_is_taken_away_is_told,
	   who_opens_the_run_behind_those_who_attached_is_found,
	   a_guest_that_ends_does_not_end_the_run, what_is_defined_fills_rows_summary_and_config,
	   a_trainer_may_say_the_time_itself,
	   calls_that_belong_together_are_one_row_if_the_producer_wants_it,
	   a_shared_writer_s_steps_count_its_rows,
	   a_summary_that_w_b_derives_has_what_was_set_by_hand,
	   a_run_that_has_begun_is_not_shared_any_more, rows_wait_until_w_b_knows_the_run,
	   a_row_that_is_overdue_goes_before_the_record_that_comes,
	   one_straggler_leaves_every_other_row_at_its_own_step,
	   a_resume_thirty_steps_back_leaves_every_row_at_its_own_step,
	   a_backlog_plans_byte_for_byte_as_it_would_have_live, a_plan_is_of_bounded_size,
	   a_row_longer_than_w_b_takes_is_a_dead_letter,
	   a_record_with_odd_contents_does_not_stop_its_run, a_table_gets_the_value_of_its_run_file,
	   a_table_that_is_none_is_a_dead_letter_and_its_row_goes_on,
	   a_table_s_path_stays_in_its_folder, a_row_of_many_tables_is_planned_some_time,
	   a_state_of_another_version_or_none_is_told_apart,
	   a_state_that_is_cut_or_changed_never_loads_wrong, a_line_gets_another_step,
	   a_plan_survives_every_allocation_failure)
