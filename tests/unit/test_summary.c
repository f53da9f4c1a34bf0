#include "daemon/forward/models/summary.h"
#include "daemon/forward/models/wire_about.h"
#include "tests/lib/rooms.h"
#include "tests/lib/suite.h"

#include <string.h>

struct run {
	struct metrics metrics;
	struct summary summary;
};

static void run_init(struct run *r)
{
	*r = (struct run){.metrics = {.count = 0}};
	ck_assert_int_eq(summary_init(&r->summary), 0);
}

static void run_done(struct run *r)
{
	metrics_done(&r->metrics);
	summary_done(&r->summary);
}

static int take_row(struct run *r, struct mp map)
{
	struct tree row;
	int e = tree_init(&row, 1 << 20);

	if (e == 0)
		e = tree_merge(&row, NULL, map, NULL, NULL);
	if (e == 0)
		e = summary_row(&r->summary, &r->metrics, &row);
	tree_done(&row);
	return e;
}

static int take_define(struct run *r, struct mp body)
{
	const struct metric *one;
	int e = metrics_define(&r->metrics, body, &one);

	return e == 0 ? summary_define(&r->summary, one, mp_get_bool(body, "overwrite", false)) : e;
}

static int take_server(struct run *r, const char *json)
{
	struct wire_about about;
	int e = wire_about_init(&about);

	if (e == 0)
		e = wire_about_summary(&about, span_of_text(json));
	if (e == 0)
		e = summary_adopt(&r->summary, &r->metrics, &about.summary);
	wire_about_done(&about);
	return e;
}

/* "row ...", "define ..." or "summary ...", "adopt ..." with the JSON that W&B has, or "sent". */
static void take(struct run *r, const char *what)
{
	const char *body = strchr(what, ' ');
	struct mp m;

	if (strcmp(what, "sent") == 0) {
		summary_is_sent(&r->summary);
		return;
	}
	ck_assert_ptr_nonnull(body);
	if (what[0] == 'a') {
		ck_assert_int_eq(take_server(r, body), 0);
		return;
	}
	m = mp_text(&room, body);
	if (what[0] == 'r')
		ck_assert_int_eq(take_row(r, m), 0);
	else if (what[0] == 'd')
		ck_assert_int_eq(take_define(r, m), 0);
	else
		ck_assert_int_eq(summary_record(&r->summary, m), 0);
}

static const char *json_of(const struct summary *s)
{
	struct json j;

	json_begin(&j);
	summary_to_json(s, &j);
	ck_assert_int_eq(json_room.error, 0);
	return buf_text(&json_room);
}

/* Through its state, as after a restart. */
static void reload(struct run *r)
{
	auto_buf struct buf bytes;
	auto_buf struct buf removed;
	auto_buf struct buf again;
	struct pack p;

	buf_init(&bytes, 1 << 24);
	buf_init(&removed, 1 << 24);
	buf_init(&again, 1 << 24);
	pack_init(&p, &bytes);
	summary_to_msgpack(&r->summary, &p);
	pack_init(&p, &removed);
	summary_removed_to_msgpack(&r->summary, &p);
	summary_done(&r->summary);
	ck_assert_int_eq(summary_init(&r->summary), 0);
	ck_assert_int_eq(summary_from_msgpack(&r->summary, mp_of(buf_span(&bytes))), 0);
	ck_assert_int_eq(summary_removed_from_msgpack(&r->summary, mp_of(buf_span(&removed))), 0);
	pack_init(&p, &again);
	summary_to_msgpack(&r->summary, &p);
	ck_assert(span_equal(buf_span(&bytes), buf_span(&again)));
}

struct story {
	const char *steps[7];
	const char *json;
};

static const struct story stories[] = {
	{{NULL}, "{}"},
	/* the latest of each, nested as in the row */
	{{"row {'a':1,'b':{'c':'x'}}", "row {'a':2.5}"}, "{\"a\":2.5,\"b\":{\"c\":\"x\"}}"},
	{{"row {'a':NaN}"}, "{\"a\":NaN}"},
	{{"row {'a':null}"}, "{}"}, /* a null is no value, and takes none away */
	{{"row {'a':1}", "row {'a':null}"}, "{\"a\":1}"},
	{{"row {'a':{'b':1}}", "row {'a':null}"}, "{\"a\":{\"b\":1}}"},
	/* a map set by hand replaces the one that was there; rows add to it */
	{{"row {'a':{'b':1}}", "summary {'data':{'a':{'c':2}}}"}, "{\"a\":{\"c\":2}}"},
	{{"summary {'data':{'a':{'b':1}}}", "summary {'data':{'a':{'c':2},'d':{}}}"},
	 "{\"a\":{\"c\":2},\"d\":{}}"},
	{{"summary {'data':{'a':{'b':1}}}", "row {'a':{'c':2}}", "row {'a':{'d':3}}"},
	 "{\"a\":{\"b\":1,\"c\":2,\"d\":3}}"},
	{{"summary {'data':{'a':{'b':1,'c':2}}}", "summary {'remove':[['a','c']]}"},
	 "{\"a\":{\"b\":1}}"},
	{{"row {'a':{'b':1}}", "summary {'data':{'a':{}}}"}, "{\"a\":{}}"},
	{{"row {'a':{'b':1}}", "summary {'data':{'a':3}}"}, "{\"a\":3}"},
	{{"row {'t':{'_type':'table-file','size':5}}"},
	 "{\"t\":{\"_type\":\"table-file\",\"size\":5}}"},
	{{"row {'a':1}", "row {'a':{'b':2}}"}, "{\"a\":{\"b\":2}}"},
	/* what define_metric asks for */
	{{"define {'name':'m','summary':['max']}"}, "{}"},
	{{"define {'name':'m','summary':['max']}", "row {'m':1}", "row {'m':3}", "row {'m':2}"},
	 "{\"m\":{\"max\":3}}"},
	{{"define {'name':'m','summary':['min','max','mean','last','first']}", "row {'m':4}",
	  "row {'m':1}", "row {'m':1}"},
	 "{\"m\":{\"last\":1,\"first\":4,\"max\":4,\"min\":1,\"mean\":2}}"},
	{{"define {'name':'m','summary':['best'],'goal':'maximize'}", "row {'m':1}", "row {'m':3}",
	  "row {'m':2}"},
	 "{\"m\":{\"best\":3}}"},
	{{"define {'name':'m','summary':['best'],'goal':'minimize'}", "row {'m':2}", "row {'m':1}",
	  "row {'m':3}"},
	 "{\"m\":{\"best\":1}}"},
	{{"define {'name':'m','summary':['best']}", "row {'m':2}", "row {'m':1}"},
	 "{\"m\":{\"best\":1}}"},
	{{"define {'name':'m','summary':['none']}", "row {'m':1,'n':2}"}, "{\"n\":2}"},
	{{"define {'name':'m','summary':['copy']}", "row {'m':1}", "row {'m':2}"}, "{\"m\":2}"},
	{{"define {'name':'m','summary':['max']}", "row {'m':-1}", "row {'m':-2}"},
	 "{\"m\":{\"max\":-1}}"},
	{{"define {'name':'m','summary':['max','min']}", "row {'m':Infinity}",
	  "row {'m':-Infinity}"},
	 "{\"m\":{\"max\":Infinity,\"min\":-Infinity}}"},
	{{"define {'name':'m','summary':['max','min','mean']}", "row {'m':1}", "row {'m':NaN}",
	  "row {'m':2}"},
	 "{\"m\":{\"max\":NaN,\"min\":NaN,\"mean\":NaN}}"}, /* as in Go: it stays */
	{{"define {'name':'m','summary':['last','max']}", "row {'m':1}", "row {'m':'text'}"},
	 "{\"m\":{\"last\":\"text\",\"max\":1}}"},
	/* values before the definition count: they were seen */
	{{"row {'m':5}", "define {'name':'m','summary':['max']}", "row {'m':2}"},
	 "{\"m\":{\"max\":5}}"},
	{{"row {'m':5}", "define {'name':'m'}", "row {'m':2}"}, "{\"m\":2}"},
	/* dots are nesting, an escaped one is none */
	{{"define {'name':'a.b','summary':['max']}", "row {'a':{'b':2}}", "row {'a':{'b':1}}"},
	 "{\"a\":{\"b\":{\"max\":2}}}"},
	{{"define {'name':'a\\\\.b','summary':['max']}", "row {'a.b':2}", "row {'a.b':1}"},
	 "{\"a.b\":{\"max\":2}}"},
	/* globs: by the key that the row has */
	{{"define {'name':'train/*','summary':['min']}", "row {'train/a':2,'b':2}",
	  "row {'train/a':1,'b':1}", "row {'train/a':3,'b':3}"},
	 "{\"train/a\":{\"min\":1},\"b\":3}"},
	{{"define {'name':'a.*','summary':['max']}", "row {'a':{'b':2,'c':{'d':5}}}",
	  "row {'a':{'b':1,'c':{'d':1}}}"},
	 "{\"a\":{\"b\":{\"max\":2},\"c\":{\"d\":{\"max\":5}}}}"},
	{{"define {'name':'*','summary':['none']}", "row {'a':1,'_step':3}"}, "{\"_step\":3}"},
	{{"define {'name':'t*','summary':['min']}", "define {'name':'ta','summary':['max']}",
	  "row {'ta':1,'tb':1}", "row {'ta':2,'tb':2}"},
	 "{\"ta\":{\"max\":2},\"tb\":{\"min\":1}}"},
	/* a glob counts for keys that were there before it; the first that fits stays */
	{{"row {'t/a':5}", "define {'name':'t/*','summary':['max']}", "row {'t/a':2,'t/b':1}"},
	 "{\"t/a\":{\"max\":5},\"t/b\":{\"max\":1}}"},
	{{"define {'name':'t/*','summary':['max']}", "row {'t/a':5}",
	  "define {'name':'t/*','summary':['min'],'overwrite':true}", "row {'t/a':2,'t/b':1}"},
	 "{\"t/a\":{\"max\":5},\"t/b\":{\"min\":1}}"},
	{{"define {'name':'*','summary':['max']}", "summary {'data':{'m':7}}", "row {'m':1}",
	  "row {'m':2}"},
	 "{\"m\":{\"max\":2}}"},
	{{"define {'name':'*','summary':['max']}", "row {'m':1}", "summary {'data':{'m':7}}",
	  "row {'m':2}"},
	 "{\"m\":2}"},
	/* a definition adds to the one before, or takes its place */
	{{"define {'name':'m','summary':['max']}", "define {'name':'m','summary':['min']}",
	  "row {'m':1}", "row {'m':2}"},
	 "{\"m\":{\"max\":2,\"min\":1}}"},
	{{"define {'name':'m','summary':['max']}",
	  "define {'name':'m','summary':['min'],'overwrite':true}", "row {'m':1}", "row {'m':2}"},
	 "{\"m\":{\"min\":1}}"},
	{{"define {'name':'m','summary':['none']}", "row {'m':1}",
	  "define {'name':'m','overwrite':true}"},
	 "{\"m\":1}"},
	{{"row {'m':{'x':1}}", "define {'name':'m','overwrite':true}"}, "{\"m\":{\"x\":1}}"},
	/* by hand */
	{{"summary {'data':{'best_acc':0.9,'n':{'x':1}}}"}, "{\"best_acc\":0.9,\"n\":{\"x\":1}}"},
	{{"row {'a':1}", "summary {'data':{'a':'mine'}}"}, "{\"a\":\"mine\"}"},
	{{"define {'name':'m','summary':['max']}", "row {'m':3}", "summary {'data':{'m':1}}"},
	 "{\"m\":1}"},
	{{"row {'a':1,'b':2}", "summary {'data':null,'remove':['a']}"}, "{\"b\":2}"},
	{{"row {'a':{'x':1,'y':2},'b':2}", "summary {'remove':[['a','x'],'b','c']}"},
	 "{\"a\":{\"y\":2}}"},
	{{"row {'a':{'x':1,'y':2},'b':2}", "summary {'remove':['a']}"}, "{\"b\":2}"},
	{{"row {'a':1}", "summary {'remove':['a']}", "row {'a':2}"}, "{\"a\":2}"},
	{{"summary {'data':{'a':{}}}"}, "{\"a\":{}}"},
	/* what W&B has stands beside ours, byte for byte */
	{{"adopt {\"a\":1e0,\"b\":{\"c\":[NaN, 1]},\"\\u00e9\":null}"},
	 "{\"a\":1e0,\"b\":{\"c\":[NaN, 1]},\"\xc3\xa9\":null}"},
	{{"row {'a':2}", "adopt {\"a\":1,\"b\":2}"}, "{\"a\":2,\"b\":2}"},
	{{"adopt {\"a\":1}", "row {'a':2}", "adopt {\"a\":3}"}, "{\"a\":2}"},
	{{"adopt {\"a\":1}", "adopt {\"a\":5}"}, "{\"a\":5}"},
	{{"adopt {\"a\":1}", "summary {'data':{'a':{'x':1}}}"}, "{\"a\":{\"x\":1}}"},
	{{"summary {'data':{'a':1}}", "adopt {\"a\":2}"}, "{\"a\":1}"},
	{{"adopt {\"a\":{\"b\":{\"c\":1,\"d\":[2]},\"e\":3}}", "row {'a':{'b':{'c':9}}}"},
	 "{\"a\":{\"b\":{\"c\":9,\"d\":[2]},\"e\":3}}"},
	{{"adopt {\"a\":[1]}", "row {'a':{'b':2}}"}, "{\"a\":{\"b\":2}}"},
	/* but for what was taken out here */
	{{"row {'a':1,'b':2}", "summary {'remove':['a']}", "adopt {\"a\":1,\"b\":2,\"c\":3}"},
	 "{\"b\":2,\"c\":3}"},
	{{"adopt {\"a\":1}", "summary {'remove':['a']}", "adopt {\"a\":1}"}, "{}"},
	{{"summary {'remove':['a']}", "adopt {\"a\":1}", "sent", "adopt {\"a\":2}"}, "{\"a\":2}"},
	{{"summary {'remove':['a']}", "row {'a':3}", "adopt {\"a\":1}"}, "{\"a\":3}"},
	{{"row {'a':{'x':{'y':1}}}", "summary {'remove':[['a','x']]}",
	  "adopt {\"a\":{\"x\":{\"y\":1}}}"},
	 "{}"},
	{{"adopt {\"a\":{\"x\":1,\"y\":2}}", "summary {'remove':[['a','x'],['b','x']]}",
	  "adopt {\"a\":{\"x\":1,\"y\":2},\"b\":{\"x\":1}}"},
	 "{\"a\":{\"y\":2},\"b\":{\"x\":1}}"},
	/* and its statistics go on, but for the mean */
	{{"define {'name':'m','summary':['max','first']}",
	  "adopt {\"m\":{\"max\":9,\"first\":\"x\"}}", "row {'m':3}"},
	 "{\"m\":{\"first\":\"x\",\"max\":9}}"},
	{{"define {'name':'m','summary':['min','mean']}", "adopt {\"m\":{\"min\":1,\"mean\":5}}"},
	 "{\"m\":{\"min\":1,\"mean\":5}}"},
	{{"define {'name':'m','summary':['min','mean']}", "adopt {\"m\":{\"min\":1,\"mean\":5}}",
	  "row {'m':3}"},
	 "{\"m\":{\"min\":1,\"mean\":3}}"},
	{{"define {'name':'m','summary':['best'],'goal':'maximize'}", "adopt {\"m\":{\"best\":9}}",
	  "row {'m':3}"},
	 "{\"m\":{\"best\":9}}"},
	{{"define {'name':'m','summary':['best']}", "adopt {\"m\":{\"best\":9}}", "row {'m':3}"},
	 "{\"m\":{\"best\":3}}"},
};

static void check_story(const struct story *s, bool with_reloads)
{
	struct run r;

	run_init(&r);
	for (size_t i = 0; i < array_len(s->steps) && s->steps[i] != NULL; i++) {
		take(&r, s->steps[i]);
		if (with_reloads)
			reload(&r);
	}
	ck_assert_str_eq(json_of(&r.summary), s->json);
	run_done(&r);
}

START_TEST(each_story_ends_with_its_summary)
{
	for (size_t i = 0; i < array_len(stories); i++)
		check_story(&stories[i], false);
	rooms_done();
}
END_TEST

START_TEST(a_restart_after_any_step_changes_nothing)
{
	for (size_t i = 0; i < array_len(stories); i++)
		check_story(&stories[i], true);
	rooms_done();
}
END_TEST

START_TEST(a_number_is_set_along_a_path)
{
	const struct span path[2] = {SPAN_LITERAL("_wandb"), SPAN_LITERAL("runtime")};
	struct run r;

	run_init(&r);
	ck_assert_int_eq(summary_set_int(&r.summary, path, 2, INT64_MAX), 0);
	ck_assert_int_eq(summary_set_int(&r.summary, path + 1, 1, -1), 0);
	ck_assert_str_eq(json_of(&r.summary),
			 "{\"_wandb\":{\"runtime\":9223372036854775807},\"runtime\":-1}");
	reload(&r);
	ck_assert_int_eq(summary_set_int(&r.summary, path, 2, 5), 0);
	ck_assert_str_eq(json_of(&r.summary), "{\"_wandb\":{\"runtime\":5},\"runtime\":-1}");
	run_done(&r);
	rooms_done();
}
END_TEST

START_TEST(a_word_of_wbx_s_own_is_set_once)
{
	struct span key = SPAN_LITERAL("wbx/complete");
	struct run r;

	run_init(&r);
	ck_assert(!summary_has(&r.summary, key));
	ck_assert_int_eq(summary_set_bool(&r.summary, key, true), 0);
	ck_assert_int_eq(summary_set_bool(&r.summary, key, true), 1);
	reload(&r);
	ck_assert(summary_has(&r.summary, key));
	ck_assert_int_eq(summary_set_bool(&r.summary, key, true), 1);
	ck_assert_int_eq(summary_set_bool(&r.summary, key, false), 0);
	ck_assert_str_eq(json_of(&r.summary), "{\"wbx/complete\":false}");
	run_done(&r);
	run_init(&r);
	ck_assert_int_eq(take_server(&r, "{\"wbx/complete\":true}"), 0);
	ck_assert_int_eq(summary_set_bool(&r.summary, key, true), 0); /* theirs was not ours */
	ck_assert_int_eq(summary_set_bool(&r.summary, key, true), 1);
	run_done(&r);
	rooms_done();
}
END_TEST

START_TEST(bad_records_are_refused)
{
	struct run r;

	run_init(&r);
	ck_assert_int_eq(summary_record(&r.summary, mp_text(&room, "{'data':5}")), -EBADMSG);
	ck_assert_int_eq(summary_record(&r.summary, mp_text(&room, "{'data':[]}")), -EBADMSG);
	ck_assert_int_eq(summary_record(&r.summary, mp_text(&room, "{'remove':[5]}")), 0);
	ck_assert_int_eq(summary_record(&r.summary, mp_text(&room, "{}")), 0);
	ck_assert_str_eq(json_of(&r.summary), "{}");
	run_done(&r);
	rooms_done();
}
END_TEST

START_TEST(the_state_of_an_older_wbx_is_read)
{
	struct run r;

	run_init(&r);
	ck_assert_int_eq(summary_from_msgpack(&r.summary,
					      mp_text(&room, "{'a':[2,1,1.0,2.0,3.0,2,2,false,true,"
							     "false]}")),
			 0);
	take(&r, "define {'name':'*','summary':['min']}"); /* it asked the globs already */
	take(&r, "row {'a':3}");
	ck_assert_str_eq(json_of(&r.summary), "{\"a\":{\"max\":3}}");
	reload(&r);
	run_done(&r);
	rooms_done();
}
END_TEST

START_TEST(a_state_that_is_none_is_refused)
{
	static const char *const bad[] = {
		"5",
		"{'a':5}",
		"{'a':[]}",
		"{'a':[1,null,0.0,0.0,0.0,0,0,false,true]}",         /* nine */
		"{'a':[1,null,'x',0.0,0.0,0,0,false,true,false]}",   /* a text for a number */
		"{'a':[1,null,0.0,0.0,0.0,0.5,0,false,true,false]}", /* half a count */
		"{'a':[1,null,0.0,0.0,0.0,0,-1,false,true,false]}",  /* bits below zero */
		"{'a':[1,null,0.0,0.0,0.0,0,0,0,true,false]}",
		"{'a':{'b':{'c':null}}}",
		"{'a':{}}",
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		struct run r;

		run_init(&r);
		ck_assert_msg(summary_from_msgpack(&r.summary, mp_text(&room, bad[i])) == -EBADMSG,
			      "%s", bad[i]);
		run_done(&r);
	}
	rooms_done();
}
END_TEST

START_TEST(a_full_summary_keeps_what_it_has)
{
	struct run r;

	run_init(&r);
	r.summary.tree.max = 4;
	take(&r, "row {'a':1,'b':{'c':2},'d':3}");
	ck_assert_int_eq(take_row(&r, mp_text(&room, "{'a':5,'new':1,'d':6}")), -E2BIG);
	ck_assert_str_eq(json_of(&r.summary), "{\"a\":5,\"b\":{\"c\":2},\"d\":3}");
	/* a value that would become a map finds no room for it; the others stay */
	ck_assert_int_eq(take_row(&r, mp_text(&room, "{'a':{'x':{'y':1}}}")), -E2BIG);
	ck_assert_str_eq(json_of(&r.summary), "{\"b\":{\"c\":2},\"d\":3}");
	reload(&r);
	ck_assert_str_eq(json_of(&r.summary), "{\"b\":{\"c\":2},\"d\":3}");
	run_done(&r);
	rooms_done();
}
END_TEST

static int all_of_it(struct run *r, struct span define_, struct span row, struct span record)
{
	int e = summary_init(&r->summary);

	if (e == 0)
		e = take_define(r, mp_of(define_));
	if (e == 0)
		e = take_row(r, mp_of(row));
	return e == 0 ? summary_record(&r->summary, mp_of(record)) : e;
}

static int load(struct run *r, struct span state)
{
	int e = summary_init(&r->summary);

	return e == 0 ? summary_from_msgpack(&r->summary, mp_of(state)) : e;
}

START_TEST(a_summary_survives_every_allocation_failure)
{
	auto_buf struct buf row = {.data = NULL};
	auto_buf struct buf record = {.data = NULL};
	auto_buf struct buf state;
	struct run r = {.metrics = {.count = 0}};
	struct pack p;

	(void)mp_text(&room, "{'name':'m*','summary':['max','first']}");
	(void)mp_text(&row, "{'m':1.5,'mm':{'n':'text'},'o':[1,2]}");
	(void)mp_text(&record, "{'data':{'h':{'i':1}},'remove':['o']}");
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(
				 all_of_it(&r, buf_span(&room), buf_span(&row), buf_span(&record)),
				 run_done(&r)),
			 0);
	ck_assert_str_eq(json_of(&r.summary), "{\"m\":{\"first\":1.5,\"max\":1.5},"
					      "\"mm\":{\"n\":{\"first\":\"text\",\"max\":0}},"
					      "\"h\":{\"i\":1}}");
	buf_init(&state, 4096);
	pack_init(&p, &state);
	summary_to_msgpack(&r.summary, &p);
	run_done(&r);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(load(&r, buf_span(&state)), run_done(&r)), 0);
	run_done(&r);
	rooms_done();
}
END_TEST

SUITE_MAIN("summary", each_story_ends_with_its_summary, a_restart_after_any_step_changes_nothing,
	   a_number_is_set_along_a_path, a_word_of_wbx_s_own_is_set_once, bad_records_are_refused,
	   the_state_of_an_older_wbx_is_read, a_state_that_is_none_is_refused,
	   a_full_summary_keeps_what_it_has, a_summary_survives_every_allocation_failure)
