#include "daemon/forward/models/metric.h"
#include "proto/limits.h"
#include "tests/lib/rooms.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

static const struct metric *define(struct metrics *m, const char *body)
{
	const struct metric *one = NULL;

	ck_assert_int_eq(metrics_define(m, mp_text(&room, body), &one), 0);
	return one;
}

static const char *json_of(const struct metrics *m)
{
	struct json j;

	json_begin(&j);
	metrics_to_json(m, &j);
	return buf_text(&json_room);
}

/* State and back: the same list and the same step values. */
static void check_round_trip(const struct metrics *m)
{
	auto_buf struct buf bytes;
	auto_buf struct buf again_bytes;
	struct metrics again;
	struct pack p;

	buf_init(&bytes, 1 << 20);
	buf_init(&again_bytes, 1 << 20);
	pack_init(&p, &bytes);
	metrics_to_msgpack(m, &p);
	ck_assert_int_eq(metrics_from_msgpack(&again, mp_of(buf_span(&bytes))), 0);
	pack_init(&p, &again_bytes);
	metrics_to_msgpack(&again, &p);
	ck_assert(span_equal(buf_span(&bytes), buf_span(&again_bytes)));
	ck_assert_uint_eq(again.count, m->count);
	for (size_t i = 0; i < m->count; i++)
		ck_assert(again.items[i].is_glob == m->items[i].is_glob);
	metrics_done(&again);
}

START_TEST(definitions_become_the_list_m_of_the_config)
{
	static const struct {
		const char *defines[4];
		const char *json;
	} cases[] = {
		{{NULL}, "[]"},
		/* as W&B's own client sends them (research: wire/wandb-models 4.3) */
		{{"{'name':'trainer/step'}", "{'name':'eval/acc','summary':['max']}",
		  "{'name':'train/*','step_metric':'trainer/step','step_sync':true}"},
		 "[{\"1\":\"trainer/step\",\"6\":[3],\"7\":[]},{\"1\":\"eval/"
		 "acc\",\"6\":[3],\"7\":[2]},"
		 "{\"2\":\"train/*\",\"5\":1,\"6\":[1],\"7\":[]}]"},
		/* a step metric that nobody defines stands behind those that are */
		{{"{'name':'a','step_metric':'s'}", "{'name':'b'}",
		  "{'name':'c','step_metric':'t'}"},
		 "[{\"1\":\"a\",\"5\":4,\"6\":[3],\"7\":[]},{\"1\":\"b\",\"6\":[3],\"7\":[]},"
		 "{\"1\":\"c\",\"5\":5,\"6\":[3],\"7\":[]},{\"1\":\"s\",\"6\":[],\"7\":[]},"
		 "{\"1\":\"t\",\"6\":[],\"7\":[]}]"},
		/* ... and one that is defined later has its own place */
		{{"{'name':'a','step_metric':'s'}", "{'name':'s','hidden':true}"},
		 "[{\"1\":\"a\",\"5\":2,\"6\":[3],\"7\":[]},{\"1\":\"s\",\"6\":[2,3],\"7\":[]}]"},
		{{"{'name':'m','summary':['min','max','mean','best','last','none','copy','first']"
		  "}"},
		 "[{\"1\":\"m\",\"6\":[3],\"7\":[1,2,3,4,5,6,8]}]"},
		{{"{'name':'m','summary':['best'],'goal':'minimize'}"},
		 "[{\"1\":\"m\",\"6\":[3],\"7\":[4],\"8\":1}]"},
		{{"{'name':'m','summary':['best'],'goal':'maximize'}"},
		 "[{\"1\":\"m\",\"6\":[3],\"7\":[4],\"8\":2}]"},
		{{"{'name':'m','goal':'sideways','summary':['median',5]}"},
		 "[{\"1\":\"m\",\"6\":[3],\"7\":[]}]"},
		{{"{'name':'a\\\"b','step_metric':''}"}, "[{\"1\":\"a\\\"b\",\"6\":[3],\"7\":[]}]"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct metrics m = {.count = 0};

		for (size_t n = 0; n < 4 && cases[i].defines[n] != NULL; n++)
			(void)define(&m, cases[i].defines[n]);
		ck_assert_str_eq(json_of(&m), cases[i].json);
		check_round_trip(&m);
		metrics_done(&m);
	}
	rooms_done();
}
END_TEST

START_TEST(a_name_ends_at_a_nul)
{
	struct metrics m = {.count = 0};

	(void)define(&m, "{'name':!a46100622a!,'step_metric':!a200ff!}"); /* "a\0b*", "\0\xff" */
	(void)define(&m, "{'name':'a','hidden':true}");
	ck_assert_str_eq(json_of(&m), "[{\"1\":\"a\",\"6\":[2,3],\"7\":[]}]");
	check_round_trip(&m);
	metrics_done(&m);
	rooms_done();
}
END_TEST

START_TEST(a_definition_adds_to_the_one_before_unless_it_overwrites)
{
	struct metrics m = {.count = 0};

	(void)define(
		&m,
		"{'name':'m','summary':['max'],'hidden':true,'step_metric':'s','goal':'maximize'}");
	(void)define(&m, "{'name':'m','summary':['min'],'hidden':false,'step_sync':true}");
	ck_assert_str_eq(json_of(&m), "[{\"1\":\"m\",\"5\":2,\"6\":[1,2,3],\"7\":[1,2],\"8\":2},"
				      "{\"1\":\"s\",\"6\":[],\"7\":[]}]");
	(void)define(&m, "{'name':'m','summary':null}"); /* says nothing */
	ck_assert_uint_eq(m.items[0].kinds, SUMMARY_MIN | SUMMARY_MAX);
	(void)define(&m, "{'name':'m','summary':['none']}");
	ck_assert_uint_eq(m.items[0].kinds, SUMMARY_MIN | SUMMARY_MAX | SUMMARY_NONE);
	(void)define(&m, "{'name':'m','summary':['max']}"); /* the last word on none counts */
	ck_assert_uint_eq(m.items[0].kinds, SUMMARY_MIN | SUMMARY_MAX);
	(void)define(&m, "{'name':'m','overwrite':true,'summary':['last']}");
	ck_assert_str_eq(json_of(&m), "[{\"1\":\"m\",\"6\":[3],\"7\":[5]},"
				      "{\"1\":\"s\",\"6\":[],\"7\":[]}]");
	(void)define(&m, "{'name':'m','step_metric':'a'}"); /* the steps keep their order */
	check_round_trip(&m);
	metrics_done(&m);
	rooms_done();
}
END_TEST

START_TEST(a_key_has_its_own_definition_else_that_of_the_longest_glob)
{
	static const struct {
		const char *key;
		const char *name; /* NULL: none */
	} cases[] = {
		{"train/loss", "train/loss"},
		{"train/kl", "train/*"},
		{"train/", "train/*"},
		{"train", "tr*"},
		{"tr", "tr*"},
		{"t", "*"},
		{"train/*", "train/*"},
		{"", "*"},
		{"_step", NULL},
		{"_gpu", "_gpu"},
		{"_gpu0", NULL},
	};
	struct metrics m = {.count = 0};

	ck_assert_ptr_null(metrics_find(&m, SPAN_LITERAL("x")));
	(void)define(&m, "{'name':'*'}");
	(void)define(&m, "{'name':'train/*'}");
	(void)define(&m, "{'name':'tr*'}");
	(void)define(&m, "{'name':'train/loss'}");
	(void)define(&m, "{'name':'_gpu'}");
	for (size_t i = 0; i < array_len(cases); i++) {
		const struct metric *one = metrics_find(&m, span_of_text(cases[i].key));

		if (cases[i].name == NULL)
			ck_assert_msg(one == NULL, "%s", cases[i].key);
		else
			ck_assert_msg(one != NULL && strcmp(one->name, cases[i].name) == 0, "%s",
				      cases[i].key);
	}
	metrics_done(&m);
	rooms_done();
}
END_TEST

static void sync_is(struct metrics *m, const char *row, const char *json)
{
	struct tree t;
	struct json j;

	ck_assert_int_eq(tree_init(&t, 1000), 0);
	ck_assert_int_eq(tree_merge(&t, NULL, mp_text(&room, row), NULL, NULL), 0);
	ck_assert_int_eq(metrics_sync_row(m, &t), 0);
	json_begin(&j);
	tree_to_json(&t, &j, VALUE_HISTORY, NULL);
	ck_assert_str_eq(buf_text(&json_room), json);
	tree_done(&t);
}

START_TEST(step_sync_puts_the_step_metric_s_last_value_beside_the_metric)
{
	struct metrics m = {.count = 0};

	sync_is(&m, "{'train/loss':1}", "{\"train/loss\":1}"); /* nothing is defined */
	(void)define(&m, "{'name':'train/*','step_metric':'trainer/step','step_sync':true}");
	(void)define(&m, "{'name':'eval/acc','step_metric':'epoch'}"); /* without sync */
	(void)define(&m, "{'name':'deep.x','step_metric':'at.step','step_sync':true}");
	sync_is(&m, "{'train/loss':1}",
		"{\"train/loss\":1,\"trainer/step\":0}"); /* not logged yet */
	sync_is(&m, "{'trainer/step':7,'train/loss':1}", "{\"trainer/step\":7,\"train/loss\":1}");
	sync_is(&m, "{'train/loss':2,'train/kl':3}",
		"{\"train/loss\":2,\"train/kl\":3,\"trainer/step\":7}");
	sync_is(&m, "{'trainer/step':'text','train/kl':1}",
		"{\"trainer/step\":\"text\",\"train/kl\":1}"); /* is there; no number: not noted */
	check_round_trip(&m);
	sync_is(&m, "{'train/kl':1}", "{\"train/kl\":1,\"trainer/step\":7}");
	sync_is(&m, "{'trainer/step':8.5}", "{\"trainer/step\":8.5}");
	sync_is(&m, "{'train/kl':1}", "{\"train/kl\":1,\"trainer/step\":8.5}");
	sync_is(&m, "{'eval/acc':1}", "{\"eval/acc\":1}");
	sync_is(&m, "{'other':1}", "{\"other\":1}");
	sync_is(&m, "{'at':{'step':3}}", "{\"at\":{\"step\":3}}"); /* dots are nesting */
	sync_is(&m, "{'deep':{'x':1}}", "{\"deep\":{\"x\":1},\"at\":{\"step\":3}}");
	metrics_done(&m);
	rooms_done();
}
END_TEST

START_TEST(definitions_are_bounded)
{
	struct metrics m = {.count = 0};
	const struct metric *one;
	char body[64];

	for (int i = 0; i < METRICS_MAX; i++) {
		(void)snprintf(body, sizeof(body), "{'name':'m%d'}", i);
		(void)define(&m, body);
	}
	ck_assert_int_eq(metrics_define(&m, mp_text(&room, "{'name':'more'}"), &one), -E2BIG);
	(void)define(&m, "{'name':'m7','hidden':true}"); /* is there */
	check_round_trip(&m);
	metrics_done(&m);
	rooms_done();
}
END_TEST

START_TEST(dots_in_a_name_are_nesting_unless_escaped)
{
	static const struct {
		const char *name;
		const char *keys; /* joined by '|' */
	} cases[] = {
		{"a", "a"},       {"a.b", "a|b"},     {"a\\.b", "a.b"}, {"a\\.b.c", "a.b|c"},
		{".a", "|a"},     {"a.", "a|"},       {"", ""},         {"..", "||"},
		{"a\\b", "a\\b"}, {"a/b.c", "a/b|c"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct span path[METRIC_PATH_MAX];
		char text[KEY_MAX + 1];
		size_t count = metric_path(cases[i].name, text, sizeof(text), path);

		buf_done(&room);
		buf_init(&room, 100);
		for (size_t n = 0; n < count; n++) {
			if (n > 0)
				ck_assert_int_eq(buf_add_byte(&room, '|'), 0);
			ck_assert_int_eq(buf_add(&room, path[n].at, path[n].len), 0);
		}
		ck_assert_str_eq(buf_text(&room), cases[i].keys);
	}
	rooms_done();
}
END_TEST

START_TEST(a_name_with_too_many_dots_or_bytes_stays_in_its_room)
{
	struct span path[METRIC_PATH_MAX];
	char name[200];
	char text[100];
	size_t total = 0;
	size_t count;

	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 2 == 0 ? 'a' : '.';
	name[sizeof(name) - 1] = '\0';
	count = metric_path(name, text, sizeof(text), path);
	ck_assert_uint_eq(count, METRIC_PATH_MAX);
	for (size_t i = 0; i < count; i++)
		total += path[i].len;
	ck_assert_uint_lt(total, sizeof(text));
	ck_assert_ptr_eq(path[0].at, (const uint8_t *)text);
}
END_TEST

START_TEST(a_state_that_is_none_is_refused)
{
	static const char *const bad[] = {
		"null",
		"{}",
		"{'defined':[]}",
		"{'defined':{},'steps':{}}",
		"{'defined':[],'steps':[]}",
		"{'defined':[],'steps':{5:1.5}}",
		"{'defined':[],'steps':{'s':'text'}}",
		"{'defined':[{'name':'a'}],'steps':{'s':1}}", /* values are doubles */
		"{'defined':[5],'steps':{}}",
		"{'defined':[{'hidden':true}],'steps':{}}", /* without a name */
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		struct metrics m;

		ck_assert_msg(metrics_from_msgpack(&m, mp_text(&room, bad[i])) == -EBADMSG, "%s",
			      bad[i]);
		ck_assert_uint_eq(m.count, 0);
		ck_assert_ptr_null(m.items);
	}
	rooms_done();
}
END_TEST

static int define_two(struct metrics *m, struct span body, struct span other)
{
	const struct metric *one;
	int r = metrics_define(m, mp_of(body), &one);

	return r == 0 ? metrics_define(m, mp_of(other), &one) : r;
}

static int load(struct metrics *m, struct span state)
{
	return metrics_from_msgpack(m, mp_of(state));
}

START_TEST(metrics_survive_every_allocation_failure)
{
	auto_buf struct buf other = {.data = NULL};
	auto_buf struct buf state;
	struct metrics m = {.count = 0};
	struct pack p;

	(void)mp_text(&room, "{'name':'a','step_metric':'s','step_sync':true,'summary':['max']}");
	(void)mp_text(&other, "{'name':'b*','step_metric':'t'}");
	ck_assert_int_eq(
		WITH_EACH_ALLOCATION_FAILING(define_two(&m, buf_span(&room), buf_span(&other)),
					     metrics_done(&m)),
		0);
	buf_init(&state, 4096);
	pack_init(&p, &state);
	metrics_to_msgpack(&m, &p);
	metrics_done(&m);
	/* it cleans up behind itself */
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(load(&m, buf_span(&state)),
						      ck_assert_uint_eq(m.count, 0)),
			 0);
	ck_assert_uint_eq(m.count, 2);
	metrics_done(&m);
	rooms_done();
}
END_TEST

SUITE_MAIN("metric", a_name_ends_at_a_nul, definitions_become_the_list_m_of_the_config,
	   a_definition_adds_to_the_one_before_unless_it_overwrites,
	   a_key_has_its_own_definition_else_that_of_the_longest_glob,
	   step_sync_puts_the_step_metric_s_last_value_beside_the_metric, definitions_are_bounded,
	   dots_in_a_name_are_nesting_unless_escaped,
	   a_name_with_too_many_dots_or_bytes_stays_in_its_room, a_state_that_is_none_is_refused,
	   metrics_survive_every_allocation_failure)
