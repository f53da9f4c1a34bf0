#include "daemon/forward/models/wire.h"
#include "proto/base/rng.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

static struct buf room;
static struct buf out;

static void rooms_done(void)
{
	buf_done(&room);
	buf_done(&out);
}

static void clear(void)
{
	buf_done(&out);
	buf_init(&out, 1 << 20);
}

/* --- addresses --- */

START_TEST(addresses_are_appended_to_the_base_and_encoded)
{
	static const struct {
		const char *base;
		const char *entity;
		const char *project;
		const char *run;
		const char *url;
	} cases[] = {
		{"https://api.wandb.ai", "wbx-team", "grpo", "r1",
		 "https://api.wandb.ai/files/wbx-team/grpo/r1/file_stream"},
		{"http://127.0.0.1:8080//", "e", "p", "r.1_~",
		 "http://127.0.0.1:8080/files/e/p/r.1_~/file_stream"},
		{"https://x/sub/", "a b", "p/q", "r?&#%",
		 "https://x/sub/files/a%20b/p%2Fq/r%3F%26%23%25/file_stream"},
		{"", "\xc3\xa9", "..", "", "/files/%C3%A9/..//file_stream"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		clear();
		ck_assert_int_eq(wire_stream_url(&out, cases[i].base, cases[i].entity,
						 cases[i].project, cases[i].run),
				 0);
		ck_assert_str_eq((const char *)out.data, cases[i].url); /* with its NUL */
	}
	clear();
	ck_assert_int_eq(wire_graphql_url(&out, "https://api.wandb.ai/"), 0);
	ck_assert_str_eq((const char *)out.data, "https://api.wandb.ai/graphql");
	rooms_done();
}
END_TEST

/* --- GraphQL --- */

/* The body with the query's text left out: the fake W&B checks that against the schema. */
static const char *body(void)
{
	char *query;
	char *end;

	ck_assert_ptr_nonnull(buf_text(&out));
	query = strstr((char *)out.data, "\"query\":\"");
	ck_assert_ptr_nonnull(query);
	query += strlen("\"query\":\"");
	end = strstr(query, "\",\"variables\"");
	ck_assert_ptr_nonnull(end);
	memmove(query, end, strlen(end) + 1);
	return (const char *)out.data;
}

START_TEST(queries_are_written)
{
	const struct wire_name name = {.entity = "e", .project = "p", .run = "r\"1"};
	const struct wire_name no_entity = {.entity = "", .project = "p", .run = "r"};

	clear();
	wire_viewer(&out);
	ck_assert_str_eq(
		buf_text(&out),
		"{\"operationName\":\"WbxViewer\",\"query\":\"query WbxViewer { viewer { id "
		"entity username } }\",\"variables\":{}}");
	clear();
	wire_run_status(&out, &name, false);
	ck_assert_ptr_nonnull(strstr(buf_text(&out), "historyTail"));
	ck_assert_str_eq(body(),
			 "{\"operationName\":\"WbxRunStatus\",\"query\":\"\",\"variables\":{"
			 "\"entity\":\"e\",\"project\":\"p\",\"run\":\"r\\\"1\"}}");
	clear();
	wire_run_status(&out, &no_entity, true); /* left out, not null */
	ck_assert_str_eq(body(),
			 "{\"operationName\":\"WbxRunStatus\",\"query\":\"\",\"variables\":{"
			 "\"project\":\"p\",\"run\":\"r\"}}");
	rooms_done();
}
END_TEST

static void upsert_is(const struct wire_upsert *u, const char *variables, const char *config)
{
	auto_buf struct buf expected;
	auto_buf struct buf got_config;

	buf_init(&expected, 1 << 20);
	buf_init(&got_config, 1 << 20);
	ck_assert_int_eq(
		buf_printf(&expected,
			   "{\"operationName\":\"WbxUpsertRun\",\"query\":\"\",\"variables\":%s}",
			   variables),
		0);
	clear();
	wire_run_upsert(&out, u, &got_config);
	ck_assert_int_eq(out.error, 0);
	ck_assert_str_eq(body(), buf_text(&expected));
	ck_assert_str_eq(buf_text(&got_config), config);
}

START_TEST(an_upsert_says_what_it_is_asked_to_say)
{
	const struct metrics none = {.count = 0};
	struct about a;
	struct wire_about server;
	struct wire_upsert u = {
		.name = {.entity = "", .project = "p", .run = "r"},
		.id = "",
		.about = &a,
		.metrics = &none,
	};

	ck_assert_int_eq(about_init(&a), 0);
	ck_assert_int_eq(wire_about_init(&server), 0);
	ck_assert_int_eq(
		about_run(&a, mp_text(&room, "{'name':'run one','group':'g','job_type':'train',"
					     "'notes':'n','host':'vm','program':'train.py',"
					     "'config':{'lr':1e-6},'tags':['grpo','qwen']}")),
		0);
	upsert_is(&u, "{\"project\":\"p\",\"run\":\"r\"}", "");
	u.what = 1u << ABOUT_NAME | 1u << ABOUT_NOTES;
	u.id = "UnVu";
	u.name.entity = "e";
	upsert_is(&u,
		  "{\"entity\":\"e\",\"project\":\"p\",\"run\":\"r\",\"id\":\"UnVu\","
		  "\"displayName\":\"run one\",\"notes\":\"n\"}",
		  "");
	u.what = ABOUT_ALL;
	u.id = "";
#define CONFIG(q)                                                                                  \
	"{" q "lr" q ":{" q "value" q ":1e-06}," q "_wandb" q ":{" q "value" q ":{" q              \
	"cli_version" q ":" q "0.31.0" q "," q "t" q ":{" q "5" q ":" q "0.31.0" q "," q "12" q    \
	":" q "0.31.0" q "}," q "m" q ":[]}}}"
	upsert_is(&u,
		  "{\"entity\":\"e\",\"project\":\"p\",\"run\":\"r\",\"displayName\":\"run one\","
		  "\"group\":\"g\",\"jobType\":\"train\",\"notes\":\"n\",\"host\":\"vm\","
		  "\"program\":\"train.py\",\"tags\":[\"grpo\",\"qwen\"],"
		  "\"config\":\"" CONFIG("\\\"") "\"}",
		  CONFIG("\""));
	/* the server's tags stay, but for those that were taken away here */
	ck_assert_int_eq(about_tags(&a, mp_text(&room, "{'remove':['qwen','old']}")), 0);
	ck_assert_int_eq(wire_about_tag(&server, SPAN_LITERAL("status:staged")), 0);
	ck_assert_int_eq(wire_about_tag(&server, SPAN_LITERAL("grpo")), 0);
	ck_assert_int_eq(wire_about_tag(&server, SPAN_LITERAL("old")), 0);
	u.server = &server;
	u.what = ABOUT_TAGS;
	upsert_is(&u,
		  "{\"entity\":\"e\",\"project\":\"p\",\"run\":\"r\",\"tags\":[\"grpo\","
		  "\"status:staged\"]}",
		  "");
	about_done(&a);
	wire_about_done(&server);
	rooms_done();
}
END_TEST

/* --- file_stream --- */

START_TEST(a_stream_s_body_holds_what_is_put_in_and_no_more)
{
	static const struct {
		unsigned lines;
		bool has_summary;
		bool is_preempting;
		bool is_complete;
		const char *body;
	} cases[] = {
		{0, false, false, false, "{}"}, /* a heartbeat */
		{1, false, false, false,
		 "{\"files\":{\"wandb-history.jsonl\":{\"offset\":7,\"content\":[\"{\\\"_step\\\":"
		 "0}\"]}}}"},
		{2, false, false, false,
		 "{\"files\":{\"wandb-history.jsonl\":{\"offset\":7,\"content\":[\"{\\\"_step\\\":"
		 "0}\","
		 "\"{\\\"_step\\\":1}\"]}}}"},
		{0, true, false, false,
		 "{\"files\":{\"wandb-summary.json\":{\"offset\":0,\"content\":[\"{\\\"x\\\":NaN}"
		 "\"]}}}"},
		{1, true, false, true,
		 "{\"files\":{\"wandb-history.jsonl\":{\"offset\":7,\"content\":[\"{\\\"_step\\\":"
		 "0}\"]},"
		 "\"wandb-summary.json\":{\"offset\":0,\"content\":[\"{\\\"x\\\":NaN}\"]}},"
		 "\"complete\":true,\"exitcode\":137}"},
		{0, false, true, false, "{\"preempting\":true}"},
		{0, true, true, true,
		 "{\"files\":{\"wandb-summary.json\":{\"offset\":0,\"content\":[\"{\\\"x\\\":NaN}"
		 "\"]}},"
		 "\"preempting\":true,\"complete\":true,\"exitcode\":137}"},
		{0, false, false, true, "{\"complete\":true,\"exitcode\":137}"},
		{1, false, false, true,
		 "{\"files\":{\"wandb-history.jsonl\":{\"offset\":7,\"content\":[\"{\\\"_step\\\":"
		 "0}\"]}},"
		 "\"complete\":true,\"exitcode\":137}"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct wire_stream s;
		char line[32];

		clear();
		wire_stream_begin(&s, &out);
		for (unsigned n = 0; n < cases[i].lines; n++) {
			(void)snprintf(line, sizeof(line), "{\"_step\":%u}", n);
			wire_stream_line(&s, 7 + n, span_of_text(line));
		}
		if (cases[i].has_summary)
			wire_stream_summary(&s, SPAN_LITERAL("{\"x\":NaN}"));
		if (cases[i].is_preempting)
			wire_stream_preempting(&s);
		if (cases[i].is_complete)
			wire_stream_complete(&s, 137);
		wire_stream_end(&s);
		ck_assert_str_eq(buf_text(&out), cases[i].body);
	}
	rooms_done();
}
END_TEST

/* --- answers --- */

START_TEST(who_we_are_is_read)
{
	static const struct {
		const char *answer;
		int result;
		const char *name;
		const char *entity;
	} cases[] = {
		{"{\"data\":{\"viewer\":{\"id\":\"x\",\"entity\":\"team\",\"username\":\"me\"}}}",
		 0, "me", "team"},
		{"{\"data\":{\"viewer\":{}}}", 0, "", ""},
		{"{\"data\":{\"viewer\":{\"entity\":5,\"username\":null}}}", 0, "", ""},
		{"{\"data\":{\"viewer\":{\"username\":"
		 "\"0123456789012345678901234567890123456789012345678901234567890123\","
		 "\"entity\":\"e\"}}}",
		 0, "", "e"}, /* 64 characters do not fit: half a name is none */
		{"{\"data\":{\"viewer\":null}}", -EREMOTEIO, NULL, NULL},
		{"{\"data\":null,\"errors\":[{\"message\":\"no\"}]}", -EREMOTEIO, NULL, NULL},
		{"{\"errors\":[{\"message\":\"no\"}]}", -EREMOTEIO, NULL, NULL},
		{"{\"errors\":[]}", -EBADMSG, NULL, NULL},
		{"{\"data\":null}", -EBADMSG, NULL, NULL},
		{"{\"error\":\"no\"}", -EBADMSG, NULL, NULL},
		{"", -EBADMSG, NULL, NULL},
		{"null", -EBADMSG, NULL, NULL},
		{"[]", -EBADMSG, NULL, NULL},
		{"\"data\"", -EBADMSG, NULL, NULL},
		{"<html>502</html>", -EBADMSG, NULL, NULL},
		{"{\"data\":{\"viewer\":{\"entity\":\"team\"", -EBADMSG, NULL,
		 NULL}, /* half of it */
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct wire_user user = {.name = "old"};

		ck_assert_msg(wire_read_viewer(span_of_text(cases[i].answer), &user) ==
				      cases[i].result,
			      "%s", cases[i].answer);
		if (cases[i].result == 0) {
			ck_assert_str_eq(user.name, cases[i].name);
			ck_assert_str_eq(user.entity, cases[i].entity);
		} else {
			ck_assert_str_eq(user.name, "old");
		}
	}
}
END_TEST

#define RUN(fields) "{\"data\":{\"model\":{\"bucket\":{" fields "}}}}"

START_TEST(what_w_b_has_of_a_run_is_read)
{
	static const struct {
		const char *answer;
		bool exists;
		int64_t lines;
		int64_t next_step;
		size_t tags;
	} cases[] = {
		{RUN("\"id\":\"i\",\"name\":\"r\",\"historyLineCount\":0"), true, 0, 0, 0},
		{RUN("\"historyLineCount\":3,\"historyTail\":\"[\\\"{\\\\\\\"_step\\\\\\\":7}\\\"]"
		     "\""),
		 true, 3, 8, 0},
		{RUN("\"historyLineCount\":3,\"historyTail\":\"[\\\"{\\\\\\\"_step\\\\\\\":7,"
		     "\\\\\\\"x\\\\\\\":NaN}\\\",\\\"{\\\\\\\"_step\\\\\\\": 9}\\\"]\""),
		 true, 3, 10, 0},
		/* no tail, or one that cannot be: so many lines have at least so many steps */
		{RUN("\"historyLineCount\":3"), true, 3, 3, 0},
		{RUN("\"historyLineCount\":3,\"historyTail\":null"), true, 3, 3, 0},
		{RUN("\"historyLineCount\":30,\"historyTail\":\"[\\\"{\\\\\\\"_step\\\\\\\":7}\\\"]"
		     "\""),
		 true, 30, 30, 0},
		{RUN("\"historyLineCount\":\"3\",\"historyTail\":5"), true, 0, 0, 0},
		{RUN("\"historyLineCount\":-3"), true, 0, 0, 0},
		{RUN("\"historyLineCount\":1,\"historyTail\":\"[\\\"{\\\\\\\"_step\\\\\\\":"
		     "9223372036854775806}\\\"]\""),
		 true, 1, INT64_MAX, 0},
		{RUN("\"tags\":[\"a\",\"b\",\"a\",5,null,\"\"]"), true, 0, 0, 3},
		{RUN("\"tags\":\"a\""), true, 0, 0, 0},
		{"{\"data\":{\"model\":{\"bucket\":null}}}", false, 0, 0, 0},
		{"{\"data\":{\"model\":null}}", false, 0, 0, 0}, /* no such project */
		{"{\"data\":{}}", false, 0, 0, 0},
		{"{\"data\":{\"model\":{\"bucket\":5}}}", true, 0, 0, 0},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct wire_run run;
		struct wire_about about;

		ck_assert_int_eq(wire_about_init(&about), 0);
		ck_assert_msg(wire_read_run_status(span_of_text(cases[i].answer), &run, &about) ==
				      0,
			      "%s", cases[i].answer);
		ck_assert_msg(run.exists == cases[i].exists && run.lines == cases[i].lines &&
				      run.next_step == cases[i].next_step &&
				      about.tags.count == cases[i].tags,
			      "%s: %lld lines, next %lld, %zu tags", cases[i].answer,
			      (long long)run.lines, (long long)run.next_step, about.tags.count);
		wire_about_done(&about);
	}
}
END_TEST

START_TEST(numbers_that_no_run_can_have_do_not_wrap)
{
	static const char *const answers[] = {
		RUN("\"historyLineCount\":9223372036854775807"),
		RUN("\"historyLineCount\":1,\"historyTail\":\"[\\\"{\\\\\\\"_step\\\\\\\":"
		    "9223372036854775807}\\\"]\""),
		RUN("\"historyLineCount\":1,\"historyTail\":\"[\\\"{\\\\\\\"_step\\\\\\\":"
		    "99999999999999999999999}\\\"]\""),
	};

	for (size_t i = 0; i < array_len(answers); i++) {
		struct wire_run run = {.exists = false};
		struct wire_about about;
		int r;

		ck_assert_int_eq(wire_about_init(&about), 0);
		r = wire_read_run_status(span_of_text(answers[i]), &run, &about);
		ck_assert_msg(r == -EBADMSG || (r == 0 && run.next_step >= 0), "%s", answers[i]);
		wire_about_done(&about);
	}
}
END_TEST

#define UPSERT(fields) "{\"data\":{\"upsertBucket\":{\"bucket\":{" fields "},\"inserted\":true}}}"
#define NAMES          "\"name\":\"r\",\"project\":{\"id\":\"1\",\"name\":\"p\",\"entity\":{\"name\":\"e\"}}"

START_TEST(what_an_upsert_made_is_read)
{
	static const struct {
		const char *answer;
		int result;
		int64_t lines;
	} cases[] = {
		{UPSERT("\"id\":\"i\",\"displayName\":\"d\",\"historyLineCount\":145," NAMES), 0,
		 145},
		{UPSERT("\"id\":\"i\",\"displayName\":\"d\",\"historyLineCount\":null," NAMES), 0,
		 0},
		{UPSERT("\"id\":\"i\",\"displayName\":\"d\"," NAMES), 0, 0},
		/* errors beside data: it is there */
		{"{\"errors\":[{\"message\":\"x\"}],\"data\":{\"upsertBucket\":{\"bucket\":{\"id\":"
		 "\"i\","
		 "\"displayName\":\"d\"," NAMES "}}}}",
		 0, 0},
		{UPSERT("\"id\":\"i\",\"name\":\"r\""), -EBADMSG, 0}, /* where is it, then? */
		{UPSERT("\"id\":\"i\",\"name\":\"\",\"project\":{\"name\":\"p\",\"entity\":{"
			"\"name\":\"e\"}}"),
		 -EBADMSG, 0},
		{"{\"data\":{\"upsertBucket\":null}}", -EBADMSG, 0},
		{"{\"data\":{\"upsertBucket\":null},\"errors\":[{\"message\":\"x\"}]}", -EREMOTEIO,
		 0},
		{"{\"data\":null,\"errors\":[{\"message\":\"x\"}]}", -EREMOTEIO, 0},
		{"{}", -EBADMSG, 0},
		{"garbage", -EBADMSG, 0},
		{"", -EBADMSG, 0},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct wire_run run = {.exists = false};

		ck_assert_msg(wire_read_upsert(span_of_text(cases[i].answer), &run) ==
				      cases[i].result,
			      "%s", cases[i].answer);
		if (cases[i].result != 0)
			continue;
		ck_assert(run.exists);
		ck_assert_int_eq(run.lines, cases[i].lines);
		ck_assert_str_eq(run.id, "i");
		ck_assert_str_eq(run.display_name, "d");
		ck_assert_str_eq(run.name, "r");
		ck_assert_str_eq(run.project, "p");
		ck_assert_str_eq(run.entity, "e");
	}
}
END_TEST

START_TEST(counts_of_every_stream_are_read)
{
	struct wire_run run;
	struct wire_about about;

	ck_assert_int_eq(wire_about_init(&about), 0);
	ck_assert_int_eq(
		wire_read_run_status(
			SPAN_LITERAL(
				"{\"data\":{\"model\":{\"bucket\":{\"id\":\"1\",\"name\":\"r\","
				"\"historyLineCount\":3,\"eventsLineCount\":4,"
				"\"logLineCount\":5}}}}"),
			&run, &about),
		0);
	ck_assert(run.lines == 3 && run.event_lines == 4 && run.console_lines == 5);
	wire_about_done(&about);
}
END_TEST

#define FEATURES(list) "{\"data\":{\"serverInfo\":{\"features\":" list "}}}"

START_TEST(what_the_server_announces_is_read)
{
	static const struct {
		const char *answer;
		int result;
		bool is_on;
	} cases[] = {
		{FEATURES("[{\"name\":\"Y\",\"isEnabled\":false},{\"name\":\"X\",\"isEnabled\":"
			  "true}]"),
		 0, true},
		{FEATURES("[{\"name\":\"X\",\"isEnabled\":false}]"), 0, false},
		{FEATURES("[{\"name\":\"XX\",\"isEnabled\":true},{\"isEnabled\":true},7]"), 0,
		 false},
		{FEATURES("[]"), 0, false},
		{FEATURES("null"), 0, false},
		{"{\"data\":{\"serverInfo\":null}}", 0, false},
		{"{\"errors\":[{\"message\":\"no such field\"}],\"data\":null}", -EREMOTEIO, false},
		{"<html>", -EBADMSG, false},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		bool is_on = false;

		ck_assert_int_eq(wire_read_feature(span_of_text(cases[i].answer), "X", &is_on),
				 cases[i].result);
		ck_assert_msg(is_on == cases[i].is_on, "%s", cases[i].answer);
	}
}
END_TEST

START_TEST(alerts_are_written_and_their_answers_read)
{
	const struct wire_name name = {.entity = "e", .project = "p", .run = "r"};

	clear();
	wire_alert(&out, &name, SPAN_LITERAL("\"title\":\"t\",\"wait\":5"));
	ck_assert_str_eq(body(), "{\"operationName\":\"WbxAlert\",\"query\":\"\",\"variables\":{"
				 "\"entity\":\"e\",\"project\":\"p\",\"run\":\"r\",\"title\":\"t\","
				 "\"wait\":5}}");
	ck_assert_int_eq(wire_read_alert(SPAN_LITERAL(
				 "{\"data\":{\"notifyScriptableRunAlert\":{\"success\":true}}}")),
			 0);
	ck_assert_int_eq(wire_read_alert(SPAN_LITERAL("{\"data\":{\"x\":1}}")), -EREMOTEIO);
	ck_assert_int_eq(wire_read_alert(SPAN_LITERAL("oh")), -EBADMSG);
	rooms_done();
}
END_TEST

START_TEST(a_stream_s_body_holds_other_files_too)
{
	struct wire_stream s;

	clear();
	wire_stream_begin(&s, &out);
	wire_stream_line(&s, 7, SPAN_LITERAL("{}"));
	wire_stream_file(&s, "output.log", 3);
	wire_stream_add(&s, SPAN_LITERAL("a\nb"));
	wire_stream_add(&s, SPAN_LITERAL("c"));
	wire_stream_complete(&s, 0);
	wire_stream_end(&s);
	ck_assert_str_eq(buf_text(&out),
			 "{\"files\":{\"wandb-history.jsonl\":{\"offset\":7,\"content\":[\"{}\"]},"
			 "\"output.log\":{\"offset\":3,\"content\":[\"a\\nb\",\"c\"]}},"
			 "\"complete\":true,\"exitcode\":0}");
	rooms_done();
}
END_TEST

START_TEST(a_stop_is_read_and_garbage_is_none)
{
	ck_assert(wire_read_stopped(SPAN_LITERAL("{\"stopped\":true,\"exitcode\":null}")));
	ck_assert(!wire_read_stopped(SPAN_LITERAL("{\"stopped\":false}")));
	ck_assert(!wire_read_stopped(SPAN_LITERAL("{\"stopped\":1}")));
	ck_assert(!wire_read_stopped(SPAN_LITERAL("{}")));
	ck_assert(!wire_read_stopped(SPAN_LITERAL("[true]")));
	ck_assert(!wire_read_stopped(SPAN_LITERAL("stopped")));
	ck_assert(!wire_read_stopped(SPAN_LITERAL("")));
	ck_assert(!wire_read_stopped((struct span){.at = NULL, .len = 0}));
}
END_TEST

START_TEST(a_reason_is_one_line_for_people)
{
	static const struct {
		const char *answer;
		const char *reason;
	} cases[] = {
		{"{\"errors\":[{\"message\":\"run is deleted\"},{\"message\":\"x\"}]}",
		 "run is deleted"},
		{"{\"error\":\"rate limited\"}", "rate limited"},
		{"{\"error\":{\"message\":\"bad row\"}}", "bad row"},
		{"{\"message\":\"no such project\"}", "no such project"},
		{"{\"errors\":[],\"error\":\"second\"}", "second"},
		{"{\"error\":\"two\\nlines\\u001b[31m \\r\\n\"}", "two lines [31m"},
		{"<html>\n<b>502</b>\n</html>\n", "<html> <b>502</b> </html>"},
		{"{\"other\":1}", "{\"other\":1}"},
		{"plain\x7f text", "plain  text"},
		{"", ""},
		{"   ", ""},
	};
	char text[WIRE_REASON_MAX];
	char longer[WIRE_REASON_MAX * 2 + 1];

	for (size_t i = 0; i < array_len(cases); i++) {
		wire_reason(span_of_text(cases[i].answer), text);
		ck_assert_str_eq(text, cases[i].reason);
	}
	wire_reason((struct span){.at = NULL, .len = 0}, text);
	ck_assert_str_eq(text, "");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	wire_reason(span_of_text(longer), text);
	ck_assert_uint_eq(strlen(text), WIRE_REASON_MAX - 1);
}
END_TEST

START_TEST(a_reason_keeps_whole_characters)
{
	static const char *const words[] = {"na\xc3\xafve", "\xe2\x82\xac", "\xf0\x9f\x99\x82",
					    "\xc3\xa9"};
	char text[WIRE_REASON_MAX];
	char longer[WIRE_REASON_MAX + 8];

	for (size_t i = 0; i < array_len(words); i++) {
		size_t len = strlen(words[i]);

		wire_reason(span_of_text(words[i]), text);
		ck_assert_str_eq(text, words[i]);
		/* cut at every byte of it: all of it is there, or nothing */
		for (size_t at = WIRE_REASON_MAX - 1 - len; at < WIRE_REASON_MAX; at++) {
			memset(longer, 'x', at);
			memcpy(longer + at, words[i], len);
			wire_reason((struct span){.at = (const uint8_t *)longer, .len = at + len},
				    text);
			for (const char *c = text; *c != '\0'; c++) {
				unsigned char byte = (unsigned char)*c;
				size_t want = byte >= 0xf0   ? 4
					      : byte >= 0xe0 ? 3
					      : byte >= 0xc0 ? 2
							     : 1;

				ck_assert_msg(strlen(c) >= want, "%s cut at %zu", words[i], at);
			}
		}
	}
}
END_TEST

START_TEST(answers_that_are_changed_anywhere_are_read_without_harm)
{
	static const char *const answers[] = {
		RUN("\"id\":\"i\",\"name\":\"r\",\"tags\":[\"a\"],\"historyLineCount\":3,"
		    "\"historyTail\":\"[\\\"{\\\\\\\"_step\\\\\\\":7}\\\"]\""),
		UPSERT("\"id\":\"i\",\"displayName\":\"d\",\"historyLineCount\":145," NAMES),
		"{\"data\":{\"viewer\":{\"entity\":\"team\",\"username\":\"me\"}},\"stopped\":"
		"true}",
	};
	struct rng rng = {.state = 3};

	for (int i = 0; i < 20000; i++) {
		char text[512];
		char reason[WIRE_REASON_MAX];
		struct span answer = {.at = (const uint8_t *)text};
		struct wire_user user;
		struct wire_run run;
		struct wire_about about;

		(void)snprintf(text, sizeof(text), "%s",
			       answers[rng_below(&rng, array_len(answers))]);
		answer.len = strlen(text);
		for (uint64_t n = rng_below(&rng, 4); n > 0; n--)
			text[rng_below(&rng, answer.len)] = (char)rng_below(&rng, 256);
		if (rng_below(&rng, 4) == 0)
			answer.len = rng_below(&rng, answer.len);
		ck_assert_int_eq(wire_about_init(&about), 0);
		ck_assert_int_le(wire_read_run_status(answer, &run, &about), 0);
		ck_assert_int_le(wire_read_upsert(answer, &run), 0);
		ck_assert_int_le(wire_read_viewer(answer, &user), 0);
		(void)wire_read_stopped(answer); /* yes or no */
		wire_reason(answer, reason);
		ck_assert_uint_lt(strlen(reason), WIRE_REASON_MAX);
		wire_about_done(&about);
	}
}
END_TEST

/* --- memory --- */

static int upsert_once(const struct about *a, struct buf *body_, struct buf *config)
{
	const struct metrics none = {.count = 0};
	const struct wire_upsert u = {
		.name = {.entity = "e", .project = "p", .run = "r"},
		.id = "",
		.about = a,
		.metrics = &none,
		.what = ABOUT_ALL,
	};

	wire_run_upsert(body_, &u, config);
	return body_->error;
}

START_TEST(an_upsert_survives_every_allocation_failure)
{
	auto_buf struct buf config;
	struct about a;

	ck_assert_int_eq(about_init(&a), 0);
	ck_assert_int_eq(
		about_run(&a, mp_text(&room, "{'name':'n','config':{'a':1},'tags':['t']}")), 0);
	clear();
	buf_init(&config, 1 << 20);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(
				 upsert_once(&a, &out, &config), buf_done(&out); buf_done(&config)),
			 0);
	ck_assert_uint_eq(out.data[out.len - 1], '}');
	about_done(&a);
	rooms_done();
}
END_TEST

SUITE_MAIN("wire", addresses_are_appended_to_the_base_and_encoded, queries_are_written,
	   an_upsert_says_what_it_is_asked_to_say, a_stream_s_body_holds_what_is_put_in_and_no_more,
	   who_we_are_is_read, what_w_b_has_of_a_run_is_read,
	   numbers_that_no_run_can_have_do_not_wrap, what_an_upsert_made_is_read,
	   counts_of_every_stream_are_read, what_the_server_announces_is_read,
	   alerts_are_written_and_their_answers_read, a_stream_s_body_holds_other_files_too,
	   a_stop_is_read_and_garbage_is_none, a_reason_is_one_line_for_people,
	   a_reason_keeps_whole_characters, answers_that_are_changed_anywhere_are_read_without_harm,
	   an_upsert_survives_every_allocation_failure)
