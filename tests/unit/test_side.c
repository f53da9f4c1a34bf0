#include "tests/lib/mptext.h"
#include "tests/lib/sidebox.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

enum {
	T0 = 1795346659 /* 2026-11-22T11:24:19 */
};

/* --- records --- */

static struct buf rooms[64];
static unsigned room_count;

/* A record: seconds after T0, its producer, kind and what else is in its body. */
static struct stored_record record(int64_t lsn, double at, int64_t producer, const char *kind,
				   const char *body)
{
	auto_free char *text = mem_alloc(strlen(body) + 200);
	struct buf *room = &rooms[room_count++];

	ck_assert_ptr_nonnull(text);
	ck_assert_uint_lt(room_count, array_len(rooms));
	(void)snprintf(text, strlen(body) + 200, "['%s',%lld,{'run':'r','t':%lld,%s}]", kind,
		       (long long)lsn, (long long)((T0 + at) * 1e6), body);
	(void)mp_text(room, text);
	return (struct stored_record){.lsn = lsn, .producer = producer, .payload = buf_span(room)};
}

static void rooms_done(void)
{
	while (room_count > 0)
		buf_done(&rooms[--room_count]);
}

static void say(struct sidebox *b, double at, int64_t producer, const char *kind, const char *body)
{
	struct stored_record r = record(b->side.cursor + 1, at, producer, kind, body);

	sidebox_say(b, &r);
}

static void print(struct sidebox *b, int64_t producer, const char *text)
{
	char body[200];

	(void)snprintf(body, sizeof(body), "'stream':'stdout','text':\"%s\"", text);
	say(b, 0, producer, "output", body);
}

/* What W&B has of a file, each line with '|' behind it; of the console the contents alone. */
static const char *there(struct sidebox *b, enum side_file file)
{
	static struct buf said;
	static const char head[] = "{\"ts\":\"2026-11-22T11:24:19.000000\",\"content\":\"";
	const struct sidebox_file *f = &b->reader->files[file];

	buf_done(&said);
	buf_init(&said, 1 << 20);
	for (int64_t i = 0; i < f->count; i++) {
		struct span line = buf_span(&f->there[i]);

		if (file == SIDE_CONSOLE) {
			ck_assert_int_eq(memcmp(line.at, head, sizeof(head) - 1), 0);
			line.at += sizeof(head) - 1;
			line.len -= sizeof(head) - 1 + strlen("\"}");
		}
		(void)buf_add(&said, line.at, line.len);
		(void)buf_add_byte(&said, '|');
	}
	return buf_text(&said);
}

#define CONSOLE(text) ck_assert_str_eq(there(&b, SIDE_CONSOLE), text)

/* --- console --- */

START_TEST(open_lines_stand_below_those_that_have_ended)
{
	struct sidebox b;

	sidebox_open(&b);
	print(&b, 1, "one\ntw");
	CONSOLE("one|tw|");
	print(&b, 2, "bar 1");
	CONSOLE("one|tw|bar 1|");
	print(&b, 2, "\rbar 2");
	CONSOLE("one|tw|bar 2|");
	print(&b, 1, "o\nthree\n");
	CONSOLE("one|two|three|bar 2|");
	print(&b, 2, "\rbar 3\n");
	CONSOLE("one|two|three|bar 3|");
	ck_assert_int_eq(b.reader->confirmed, 5);
	ck_assert_int_eq(b.reader->confirmed_lsn, 5);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

START_TEST(what_did_not_change_is_not_sent_again)
{
	struct sidebox b;
	struct stored_record r;

	sidebox_open(&b);
	print(&b, 1, "a");
	print(&b, 2, "b");
	r = record(3, 0, 2, "output", "'stream':'stdout','text':'c'");
	sidebox_take(&b, &r);
	sidebox_commit(&b);
	ck_assert_int_eq(b.side.unsent[SIDE_CONSOLE].count, 1); /* the second alone */
	sidebox_send(&b, 99, true);
	CONSOLE("a|bc|");
	r = record(4, 0, 2, "output", "'stream':'stdout','text':''");
	sidebox_take(&b, &r);
	sidebox_commit(&b);
	ck_assert(!side_waits(&b.side));
	ck_assert_int_eq(b.reader->confirmed, 4); /* nothing is waited for */
	sidebox_close(&b);
	rooms_done();
}
END_TEST

/* Every moment of a kill, and every part of a body that W&B got. */
START_TEST(what_may_have_been_sent_is_sent_again_as_it_was)
{
	for (int64_t got = 0; got < 5; got++) {
		struct stored_record r =
			record(1, 0, 1, "output", "'stream':'stdout','text':\"a\nb\nc\nd\"");
		struct sidebox b;

		sidebox_open(&b);
		sidebox_take(&b, &r);
		sidebox_commit(&b);
		sidebox_send(&b, got, false);
		sidebox_restart(&b);
		ck_assert_int_eq(b.side.unsent[SIDE_CONSOLE].first, 0);
		ck_assert_int_eq(b.side.unsent[SIDE_CONSOLE].count, 4);
		sidebox_send(&b, 2, true);
		sidebox_restart(&b);
		ck_assert_int_eq(b.reader->confirmed, 0);
		sidebox_send(&b, 2, true);
		ck_assert_int_eq(b.reader->confirmed, 1);
		sidebox_restart(&b);
		print(&b, 1, "D\n");
		CONSOLE("a|b|c|dD|");
		sidebox_close(&b);
	}
	rooms_done();
}
END_TEST

START_TEST(a_record_of_many_lines_takes_several_plans)
{
	enum {
		LINES = 5000
	};
	auto_buf struct buf body;
	struct stored_record r;
	struct sidebox b;
	unsigned plans = 0;

	buf_init(&body, 1 << 20);
	(void)buf_add_text(&body, "'stream':'stdout','text':\"");
	for (int i = 0; i < LINES; i++)
		(void)buf_printf(&body, "%d\n", i);
	(void)buf_add_text(&body, "\"");
	sidebox_open(&b);
	r = record(1, 0, 1, "output", buf_text(&body));
	while (b.side.cursor < 1) {
		sidebox_take(&b, &r);
		sidebox_commit(&b);
		ck_assert_int_le(b.side.unsent[SIDE_CONSOLE].count, SIDE_LINES_MAX);
		ck_assert_int_eq(b.reader->confirmed, 0);
		sidebox_send(&b, INT64_MAX, true);
		sidebox_restart(&b);
		plans++;
	}
	ck_assert_uint_eq(plans, 5);
	ck_assert_int_eq(b.reader->files[SIDE_CONSOLE].count, LINES);
	ck_assert_ptr_nonnull(strstr(there(&b, SIDE_CONSOLE), "|999|1000|1001|"));
	ck_assert_int_eq(b.reader->confirmed, 1);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

START_TEST(lines_of_processes_that_left_end)
{
	struct sidebox b;
	struct rows present;

	sidebox_open(&b);
	rows_init(&present, 0);
	ck_assert_int_eq(rows_join(&present, 2, false), 0);
	print(&b, 1, "dead");
	print(&b, 2, "alive");
	ck_assert(side_has_orphans(&b.side, &present));
	side_begin(&b.side);
	ck_assert_int_eq(side_end_orphans(&b.side, b.changes, &present), 0);
	sidebox_commit(&b);
	sidebox_send(&b, 99, true);
	ck_assert(!side_has_orphans(&b.side, &present));
	ck_assert_uint_eq(b.side.console.count, 1);
	CONSOLE("dead|alive|");
	rows_done(&present);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

/* --- system metrics --- */

START_TEST(system_metrics_become_events)
{
	struct sidebox b;
	struct side_report report = {
		.time_us = (T0 + 9) * (int64_t)1000000, .lag_s = 1.5, .waiting_bytes = 10};

	sidebox_open(&b);
	b.side.start_us = T0 * (int64_t)1000000;
	say(&b, 1.5, 1, "stats",
	    "'data':{'cpu':0.5,'gpu':{'0':{'temp':60,'x':[1]},'n':{}},'z':NaN}");
	say(&b, 2, 1, "stats", "'data':{'cpu':1,'gpu':{'0':{'temp':2}}},'label':'node 1'");
	side_begin(&b.side);
	ck_assert_int_eq(side_add_report(&b.side, b.changes, &report), 0);
	sidebox_commit(&b);
	sidebox_send(&b, 99, true);
	ck_assert_str_eq(
		there(&b, SIDE_EVENTS),
		"{\"_wandb\":true,\"_timestamp\":1795346660.5,\"_runtime\":1.5,\"system.cpu\":0.5,"
		"\"system.gpu.0.temp\":60,\"system.gpu.0.x\":[1],\"system.z\":NaN}|"
		"{\"_wandb\":true,\"_timestamp\":1795346661,\"_runtime\":2,"
		"\"system.cpu/l:node 1\":1,\"system.gpu.0.temp/l:node 1\":2}|"
		"{\"_wandb\":true,\"_timestamp\":1795346668,\"_runtime\":9,\"system.wbx/"
		"lag_s\":1.5,"
		"\"system.wbx/waiting_bytes\":10}|");
	sidebox_close(&b);
	rooms_done();
}
END_TEST

/* --- alerts --- */

START_TEST(alerts_wait_for_those_of_their_title)
{
	static const struct {
		double at;
		const char *title;
		int wait_ms;
		bool is_sent;
	} cases[] = {
		{0, "a", 60000, true},   {59, "a", 60000, false}, {59, "b", 60000, true},
		{60, "a", 60000, true},  {61, "a", 0, true},      {0, "b", 60000, false},
		{119, "b", 60000, true},
	};
	struct sidebox b;

	sidebox_open(&b);
	for (size_t i = 0; i < array_len(cases); i++) {
		int64_t before = b.side.next[SIDE_ALERTS];
		char body[100];

		(void)snprintf(body, sizeof(body), "'title':'%s','text':'x','wait_ms':%d",
			       cases[i].title, cases[i].wait_ms);
		say(&b, cases[i].at, 1, "alert", body);
		sidebox_restart(&b);
		ck_assert_int_eq(b.side.next[SIDE_ALERTS] - before, cases[i].is_sent);
	}
	ck_assert_int_eq(b.side.held_back, 2);
	ck_assert_int_eq(b.reader->confirmed, array_len(cases));
	for (int i = 0; i < 2 * SIDE_ALERTS_MAX; i++) {
		char body[100];

		rooms_done();
		(void)snprintf(body, sizeof(body), "'title':'t%d','text':'','wait_ms':1000000", i);
		say(&b, 200 + i, 1, "alert", body);
	}
	ck_assert_uint_eq(b.side.alert_count, SIDE_ALERTS_MAX);
	say(&b, 400, 1, "alert", "'title':'t127','text':'','wait_ms':1000000"); /* remembered */
	ck_assert_int_eq(b.side.held_back, 3);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

START_TEST(alerts_are_variables_of_a_request)
{
	struct sidebox b;

	sidebox_open(&b);
	say(&b, 0, 1, "alert", "'title':'a \\\"q\\\"','text':'b','level':'WARN','wait_ms':5");
	say(&b, 0, 1, "alert", "'title':'c','text':'d','level':'warning'");
	ck_assert_str_eq(there(&b, SIDE_ALERTS), "\"title\":\"a \\\"q\\\"\",\"text\":\"b\","
						 "\"severity\":\"WARN\",\"wait\":5|");
	ck_assert_int_eq(b.reader->dead, 1);
	ck_assert_int_eq(b.reader->confirmed, 2);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

/* --- what W&B has --- */

START_TEST(a_refused_line_leaves_no_gap)
{
	for (int64_t refused = 0; refused < 4; refused++) {
		struct stored_record r =
			record(1, 0, 1, "output", "'stream':'stdout','text':\"a\nb\nc\nd\"");
		char left[16];
		struct sidebox b;

		sidebox_open(&b);
		sidebox_take(&b, &r);
		sidebox_commit(&b);
		sidebox_send(&b, refused, true);
		side_drop(&b.side, b.changes, SIDE_CONSOLE);
		sidebox_apply(&b);
		sidebox_restart(&b);
		sidebox_send(&b, 99, true);
		ck_assert_int_eq(b.reader->confirmed, 1);
		print(&b, 1, "e\n");
		(void)snprintf(left, sizeof(left), "%s%s%s%s", refused == 0 ? "" : "a|",
			       refused == 1 ? "" : "b|", refused == 2 ? "" : "c|",
			       refused == 3 ? "e|" : "de|"); /* d is not tried for ever */
		CONSOLE(left);
		sidebox_close(&b);
	}
	rooms_done();
}
END_TEST

START_TEST(a_dead_letter_is_revived_at_the_end)
{
	const struct dead_info line = {.id = 1,
				       .what = SPAN_LITERAL("output"),
				       .body = SPAN_LITERAL("{\"ts\":\"2026-11-22T11:24:19.000000\""
							    ",\"content\":\"again\"}")};
	const struct dead_info other = {.id = 2, .what = SPAN_LITERAL("line")};
	struct sidebox b;

	sidebox_open(&b);
	print(&b, 1, "a\nopen");
	side_begin(&b.side);
	ck_assert(side_is_letter(&line) && !side_is_letter(&other));
	ck_assert_int_eq(side_revive(&b.side, b.changes, &line), 0);
	ck_assert_int_eq(side_revive(&b.side, b.changes, &other), 0);
	sidebox_commit(&b);
	sidebox_send(&b, 99, true);
	CONSOLE("a|again|open|");
	ck_assert_int_eq(b.reader->letters_gone, 1);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

/* Lines that W&B has beyond ours are somebody else's; ours go on behind them. */
START_TEST(lines_go_on_behind_those_of_somebody_else)
{
	static const struct {
		bool is_new;
		int64_t count; /* W&B has so many */
		int64_t first; /* of the lines that wait, then */
	} cases[] = {
		{false, 1, 1}, {false, 2, 1}, {false, 4, 1}, {false, 0, 1},
		{true, 0, 0},  {false, 9, 9}, {true, 9, 9},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct stored_record r =
			record(1, 0, 1, "output", "'stream':'stdout','text':\"a\nb\nc\nd\"");
		struct sidebox b;
		bool follows;

		sidebox_open(&b);
		sidebox_take(&b, &r);
		sidebox_commit(&b);
		sidebox_send(&b, 1, true);
		follows = side_follow(&b.side, b.changes, SIDE_CONSOLE, cases[i].count,
				      cases[i].is_new);
		ck_assert_int_eq(follows, cases[i].first != 1);
		sidebox_apply(&b);
		sidebox_restart(&b);
		ck_assert_int_eq(b.side.unsent[SIDE_CONSOLE].first, cases[i].first);
		ck_assert_int_eq(b.side.unsent[SIDE_CONSOLE].count, 3);
		b.reader->files[SIDE_CONSOLE].count = cases[i].first;
		sidebox_send(&b, 99, true);
		print(&b, 1, "e\nf\n");
		ck_assert_int_eq(b.reader->files[SIDE_CONSOLE].count, cases[i].first + 4);
		sidebox_close(&b);
	}
	rooms_done();
}
END_TEST

START_TEST(an_open_line_that_is_there_begins_anew_behind_somebody_else)
{
	struct sidebox b;

	sidebox_open(&b);
	print(&b, 1, "a\nopen");
	ck_assert(side_follow(&b.side, b.changes, SIDE_CONSOLE, 5, false)); /* 3 are not ours */
	sidebox_apply(&b);
	b.reader->files[SIDE_CONSOLE].count = 5;
	sidebox_restart(&b);
	print(&b, 1, " end\n");
	ck_assert_int_eq(b.reader->files[SIDE_CONSOLE].count, 6);
	ck_assert_ptr_nonnull(
		strstr(buf_text(&b.reader->files[SIDE_CONSOLE].there[5]), "open end"));
	ck_assert_ptr_nonnull(strstr(buf_text(&b.reader->files[SIDE_CONSOLE].there[1]), "open"));
	sidebox_close(&b);
	rooms_done();
}
END_TEST

/* --- memory, and states that are none --- */

static int plan_once(struct sidebox *b, struct side *s, const struct stored_record *records,
		     size_t count)
{
	int r;

	side_init(s, SIDEBOX_RUN);
	r = side_load(s, b->reader);
	if (r < 0)
		return r;
	side_begin(s);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = side_take(s, b->changes, &records[i]);
	return r == 0 ? side_end(s, b->changes) : r;
}

static void drop_plan(struct sidebox *b, struct side *s)
{
	side_done(s);
	changes_reset(b->changes);
}

START_TEST(a_plan_survives_every_allocation_failure)
{
	struct stored_record records[3];
	struct sidebox b;
	struct side s;

	sidebox_open(&b);
	print(&b, 1, "one\nopen");
	say(&b, 0, 1, "alert", "'title':'t','text':'x'");
	records[0] = record(3, 0, 1, "output", "'stream':'stderr','text':\"two\nthree\"");
	records[1] = record(4, 0, 1, "stats", "'data':{'a':{'b':1}}");
	records[2] = record(5, 0, 1, "alert", "'title':'u','text':'x'");
	ck_assert_int_eq(
		WITH_EACH_ALLOCATION_FAILING(plan_once(&b, &s, records, 3), drop_plan(&b, &s)), 0);
	ck_assert_int_eq(s.cursor, 5);
	ck_assert_int_eq(s.unsent[SIDE_CONSOLE].count, 3);
	ck_assert_int_eq(s.unsent[SIDE_EVENTS].count, 1);
	ck_assert_int_eq(s.unsent[SIDE_ALERTS].count, 1);
	drop_plan(&b, &s);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

START_TEST(a_state_that_is_cut_or_of_another_version_is_told_apart)
{
	struct buf room = {0};
	struct sidebox b;
	struct side s;

	sidebox_open(&b);
	print(&b, 1, "one\nopen");
	say(&b, 0, 1, "alert", "'title':'t','text':'x'");
	while (b.reader->state.len > 0) {
		b.reader->state.len--;
		side_init(&s, SIDEBOX_RUN);
		ck_assert_int_eq(side_load(&s, b.reader), b.reader->state.len == 0 ? 0 : -EBADMSG);
		side_done(&s);
	}
	(void)mp_text(&room, "{'v':2}");
	ck_assert_int_eq(buf_add(&b.reader->state, room.data, room.len), 0);
	side_init(&s, SIDEBOX_RUN);
	ck_assert_int_eq(side_load(&s, b.reader), -EPROTO);
	side_done(&s);
	buf_done(&room);
	sidebox_close(&b);
	rooms_done();
}
END_TEST

SUITE_MAIN("side", open_lines_stand_below_those_that_have_ended,
	   what_did_not_change_is_not_sent_again, what_may_have_been_sent_is_sent_again_as_it_was,
	   a_record_of_many_lines_takes_several_plans, lines_of_processes_that_left_end,
	   system_metrics_become_events, alerts_wait_for_those_of_their_title,
	   alerts_are_variables_of_a_request, a_refused_line_leaves_no_gap,
	   a_dead_letter_is_revived_at_the_end, lines_go_on_behind_those_of_somebody_else,
	   an_open_line_that_is_there_begins_anew_behind_somebody_else,
	   a_plan_survives_every_allocation_failure,
	   a_state_that_is_cut_or_of_another_version_is_told_apart)
