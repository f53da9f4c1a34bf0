#include "daemon/forward/models/about.h"
#include "tests/lib/rooms.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

/* "run ...", "config ..." or "tags ...". */
static int take(struct about *a, const char *what)
{
	const char *body = strchr(what, ' ');
	struct mp m;

	ck_assert_ptr_nonnull(body);
	m = mp_text(&room, body);
	return what[0] == 'r'   ? about_run(a, m)
	       : what[0] == 'c' ? about_config(a, m)
				: about_tags(a, m);
}

static const char *config_beside(const struct about *a, const struct wire_about *server)
{
	const struct metrics none = {.count = 0};
	struct json j;

	json_begin(&j);
	about_config_to_json(a, &none, server, &j);
	ck_assert_int_eq(json_room.error, 0);
	return buf_text(&json_room);
}

static const char *config_of(const struct about *a)
{
	return config_beside(a, NULL);
}

static int load(struct about *a, struct span state)
{
	int r = about_init(a);

	return r == 0 ? about_from_msgpack(a, mp_of(state)) : r;
}

/* Through its state, as after a restart. */
static void reload(struct about *a)
{
	auto_buf struct buf bytes;
	auto_buf struct buf again;
	struct pack p;

	buf_init(&bytes, 1 << 24);
	buf_init(&again, 1 << 24);
	pack_init(&p, &bytes);
	about_to_msgpack(a, &p);
	about_done(a);
	ck_assert_int_eq(load(a, buf_span(&bytes)), 0);
	pack_init(&p, &again);
	about_to_msgpack(a, &p);
	ck_assert(span_equal(buf_span(&bytes), buf_span(&again)));
}

#define WANDB                                                                                      \
	"\"_wandb\":{\"value\":{\"cli_version\":\"0.31.0\",\"t\":{\"5\":\"0.31.0\",\"12\":\"0.31." \
	"0\"},"                                                                                    \
	"\"m\":[]}}"

START_TEST(the_config_is_written_as_upsert_bucket_takes_it)
{
	static const struct {
		const char *records[4];
		const char *json;
	} cases[] = {
		{{NULL}, "{" WANDB "}"},
		{{"run {'config':{'lr':1e-6,'model':{'name':'q','layers':3},'list':[1,2]}}"},
		 "{\"lr\":{\"value\":1e-06},\"model\":{\"value\":{\"name\":\"q\",\"layers\":3}},"
		 "\"list\":{\"value\":[1,2]}," WANDB "}"},
		{{"run {'config':{'a':NaN,'b':[Infinity],'c':{'d':-Infinity}}}"},
		 "{\"a\":{\"value\":null},\"b\":{\"value\":[null]},\"c\":{\"value\":{\"d\":null}}"
		 "," WANDB "}"},
		{{"run {'config':null}"}, "{" WANDB "}"},
		{{"run {'config':{}}"}, "{" WANDB "}"},
		{{"run {'config':{'a':{}}}"}, "{\"a\":{\"value\":{}}," WANDB "}"},
		/* our own key is nobody else's */
		{{"run {'config':{'_wandb':{'value':5},'a':1}}"},
		 "{\"a\":{\"value\":1}," WANDB "}"},
		/* merged as it comes */
		{{"run {'config':{'a':1,'m':{'x':1}}}", "config {'data':{'a':2,'m':{'y':2}}}"},
		 "{\"a\":{\"value\":2},\"m\":{\"value\":{\"x\":1,\"y\":2}}," WANDB "}"},
		{{"run {'config':{'a':1,'m':{'x':1,'y':2},'b':3}}",
		  "config {'remove':['a',['m','x'],'nothing']}"},
		 "{\"m\":{\"value\":{\"y\":2}},\"b\":{\"value\":3}," WANDB "}"},
		{{"config {'data':{'a':1},'remove':['a']}"}, "{" WANDB "}"},
		{{"config {'data':{'a':1}}", "config {'data':null}"},
		 "{\"a\":{\"value\":1}," WANDB "}"},
		{{"run {'python':'3.11.7'}"},
		 "{\"_wandb\":{\"value\":{\"cli_version\":\"0.31.0\",\"python_version\":\"3.11.7\","
		 "\"t\":{\"4\":\"3.11.7\",\"5\":\"0.31.0\",\"12\":\"0.31.0\"},\"m\":[]}}}"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct about a;

		ck_assert_int_eq(about_init(&a), 0);
		for (size_t n = 0; n < 4 && cases[i].records[n] != NULL; n++) {
			ck_assert_int_eq(take(&a, cases[i].records[n]), 0);
			reload(&a);
		}
		ck_assert_str_eq(config_of(&a), cases[i].json);
		about_done(&a);
	}
	rooms_done();
}
END_TEST

START_TEST(what_was_taken_out_does_not_come_back_from_w_and_b)
{
	static const struct {
		const char *records[3];
		const char *json; /* without what W&B alone has */
	} cases[] = {
		{{"config {'data':{'a':1}}", "config {'remove':['a']}"}, ""},
		{{"config {'remove':['a']}", "config {'data':{'a':2}}"}, "\"a\":{\"value\":2},"},
		{{"config {'data':{'a':{'b':{'c':1}}}}", "config {'remove':[['a','b','c']]}"}, ""},
		{{"config {'data':{'a':{'b':1,'d':2}}}", "config {'remove':[['a','b']]}"},
		 "\"a\":{\"value\":{\"d\":2}},"},
		{{"config {'data':{'a':{'b':1}}}", "config {'remove':[['a','b']]}",
		  "config {'data':{'a':3}}"},
		 "\"a\":{\"value\":3},"},
		{{"config {'remove':[['a','b']]}"}, "\"a\":{\"value\":{\"b\":1}},"}, /* not ours */
	};
	struct wire_about server;

	ck_assert_int_eq(wire_about_init(&server), 0);
	ck_assert_int_eq(wire_about_config(&server, SPAN_LITERAL("{\"a\":{\"value\":{\"b\":1}}}")),
			 0);
	for (size_t i = 0; i < array_len(cases); i++) {
		char want[512];
		struct about a;

		ck_assert_int_eq(about_init(&a), 0);
		for (size_t n = 0; n < 3 && cases[i].records[n] != NULL; n++) {
			ck_assert_int_eq(take(&a, cases[i].records[n]), 0);
			reload(&a);
		}
		(void)snprintf(want, sizeof(want), "{%s" WANDB "}", cases[i].json); /* fits */
		ck_assert_str_eq(config_beside(&a, &server), want);
		about_done(&a);
	}
	wire_about_done(&server);
	rooms_done();
}
END_TEST

START_TEST(the_first_producer_to_say_a_name_is_heard)
{
	struct about a;

	ck_assert_int_eq(about_init(&a), 0);
	ck_assert_int_eq(take(&a, "run {'name':!a20061!,'notes':!a20061!}"),
			 0); /* ends at its NUL */
	ck_assert_uint_eq(a.dirty, 0);
	ck_assert_int_eq(take(&a, "run {'name':'one','group':'','host':'h0','program':'a.py'}"), 0);
	ck_assert_uint_eq(a.dirty, 1u << ABOUT_NAME | 1u << ABOUT_HOST | 1u << ABOUT_PROGRAM);
	a.dirty = 0;
	ck_assert_int_eq(
		take(&a, "run {'name':'two','group':'g','host':'h1','notes':'n','job_type':'t'}"),
		0);
	ck_assert_uint_eq(a.dirty, 1u << ABOUT_GROUP | 1u << ABOUT_NOTES | 1u << ABOUT_JOB_TYPE);
	ck_assert_str_eq(a.texts[ABOUT_NAME], "one");
	ck_assert_str_eq(a.texts[ABOUT_HOST], "h0");
	ck_assert_str_eq(a.texts[ABOUT_GROUP], "g");
	ck_assert_ptr_null(a.texts[ABOUT_SDK]);
	a.dirty = 0;
	ck_assert_int_eq(take(&a, "run {'python':'3.11','sdk':'0.1'}"), 0);
	ck_assert_uint_eq(a.dirty, ABOUT_CONFIG); /* there they stand */
	reload(&a);
	ck_assert_uint_eq(a.dirty, ABOUT_CONFIG);
	ck_assert_str_eq(a.texts[ABOUT_NAME], "one");
	about_done(&a);
	rooms_done();
}
END_TEST

static void tags_are(const struct about *a, const char *yes, const char *no)
{
	char text[200] = "";
	size_t len = 0;

	for (const struct node *n = a->tags.first; n != NULL; n = n->next)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%.*s ", (int)n->key_len,
					(const char *)n->key);
	ck_assert_str_eq(text, yes);
	text[len = 0] = '\0';
	for (const struct node *n = a->no_tags.first; n != NULL; n = n->next)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%.*s ", (int)n->key_len,
					(const char *)n->key);
	ck_assert_str_eq(text, no);
}

START_TEST(tags_are_added_and_taken_away)
{
	struct about a;

	ck_assert_int_eq(about_init(&a), 0);
	ck_assert_int_eq(take(&a, "run {'tags':null}"), 0);
	ck_assert_uint_eq(a.dirty, 0);
	ck_assert_int_eq(take(&a, "run {'tags':['grpo','qwen','grpo','']}"), 0);
	ck_assert_uint_eq(a.dirty, ABOUT_TAGS);
	tags_are(&a, "grpo qwen ", "");
	a.dirty = 0;
	ck_assert_int_eq(take(&a, "tags {'add':['new'],'remove':['qwen','status:staged']}"), 0);
	ck_assert_uint_eq(a.dirty, ABOUT_TAGS);
	tags_are(&a, "grpo new ", "qwen status:staged ");
	reload(&a);
	ck_assert_int_eq(take(&a, "tags {'add':['qwen',5,['x']]}"), 0);
	tags_are(&a, "grpo new qwen ", "status:staged ");
	reload(&a);
	tags_are(&a, "grpo new qwen ", "status:staged ");
	about_done(&a);
	rooms_done();
}
END_TEST

static void add_key(struct pack *p, int number)
{
	char key[16];

	(void)snprintf(key, sizeof(key), "k%d", number);
	pack_pair_int(p, key, number);
}

START_TEST(a_config_has_so_many_keys_and_no_more)
{
	enum {
		KEYS = 1 << 17
	};
	struct about a;
	struct pack p;

	ck_assert_int_eq(about_init(&a), 0);
	buf_init(&room, 16 << 20);
	pack_init(&p, &room);
	pack_map(&p, 1);
	pack_text(&p, "data");
	pack_map(&p, KEYS + 1);
	for (int i = 0; i <= KEYS; i++)
		add_key(&p, i);
	ck_assert_int_eq(room.error, 0);
	ck_assert_int_eq(about_config(&a, mp_of(buf_span(&room))), -E2BIG);
	ck_assert_uint_eq(a.config.count, KEYS);
	ck_assert_int_eq(take(&a, "config {'data':{'k5':{'deeper':1}}}"), -E2BIG);
	reload(&a); /* what is there stays whole */
	ck_assert_uint_eq(a.config.count, KEYS - 1);
	ck_assert_int_eq(take(&a, "config {'data':{'k6':7}}"), 0);
	about_done(&a);
	rooms_done();
}
END_TEST

START_TEST(bad_records_and_states_are_refused)
{
	static const char *const bad[] = {
		"null",
		"{}",
		"{'config':{},'tags':{}}",
		"{'config':5,'tags':{},'no_tags':{}}",
		"{'config':{},'tags':[],'no_tags':{}}",
	};
	struct about a;

	ck_assert_int_eq(about_init(&a), 0);
	ck_assert_int_eq(take(&a, "config {'remove':[5]}"), 0); /* names nothing */
	ck_assert_int_eq(take(&a, "config {'data':5}"), 0);     /* no map has no keys */
	ck_assert_int_eq(take(&a, "tags {'add':'x'}"), 0);
	about_done(&a);
	for (size_t i = 0; i < array_len(bad); i++) {
		(void)mp_text(&room, bad[i]);
		ck_assert_msg(load(&a, buf_span(&room)) == -EBADMSG, "%s", bad[i]);
		about_done(&a);
	}
	(void)mp_text(&room, "{'config':{},'tags':{},'no_tags':{},'dirty':4294967295}");
	ck_assert_int_eq(load(&a, buf_span(&room)), 0);
	ck_assert_uint_eq(a.dirty, ABOUT_ALL); /* bits that nobody knows are none */
	about_done(&a);
	rooms_done();
}
END_TEST

static int all_of_it(struct about *a, struct span run, struct span config)
{
	int r = about_init(a);

	if (r == 0)
		r = about_run(a, mp_of(run));
	return r == 0 ? about_config(a, mp_of(config)) : r;
}

START_TEST(what_is_known_of_a_run_survives_every_allocation_failure)
{
	auto_buf struct buf config = {.data = NULL};
	auto_buf struct buf state;
	struct about a;
	struct pack p;

	(void)mp_text(&room, "{'name':'n','python':'3','config':{'a':{'b':1}},'tags':['t','u']}");
	(void)mp_text(&config, "{'data':{'a':{'c':'text'}},'remove':['x',['a','b']]}");
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(
				 all_of_it(&a, buf_span(&room), buf_span(&config)), about_done(&a)),
			 0);
	buf_init(&state, 4096);
	pack_init(&p, &state);
	about_to_msgpack(&a, &p);
	about_done(&a);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(load(&a, buf_span(&state)), about_done(&a)),
			 0);
	ck_assert_uint_eq(a.config.count, 2);
	about_done(&a);
	rooms_done();
}
END_TEST

SUITE_MAIN("about", the_config_is_written_as_upsert_bucket_takes_it,
	   what_was_taken_out_does_not_come_back_from_w_and_b,
	   the_first_producer_to_say_a_name_is_heard, tags_are_added_and_taken_away,
	   a_config_has_so_many_keys_and_no_more, bad_records_and_states_are_refused,
	   what_is_known_of_a_run_survives_every_allocation_failure)
