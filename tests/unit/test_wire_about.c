#include "daemon/forward/models/jsonslice.h"
#include "daemon/forward/models/wire_about.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <string.h>

/* --- slices --- */

START_TEST(objects_are_cut_into_pairs)
{
	static const struct {
		const char *object;
		const char *pairs; /* key=value; each */
		int end;
	} cases[] = {
		{"{}", "", 0},
		{" { } ", "", 0},
		{"{\"a\":1}", "\"a\"=1;", 0},
		{"{ \"a\" : 1.50 , \"b\":NaN,\"c\":-Infinity }",
		 "\"a\"=1.50;\"b\"=NaN;\"c\"=-Infinity;", 0},
		{"{\"a\":\"}\\\"{\",\"\\\"b\":[1,{\"x\":\"]\"}]}",
		 "\"a\"=\"}\\\"{\";\"\\\"b\"=[1,{\"x\":\"]\"}];", 0},
		{"{\"a\":123456789012345678901234567890}", "\"a\"=123456789012345678901234567890;",
		 0},
		{"{\"a\":1,}", "", -EBADMSG},
		{"{\"a\":1", "", -EBADMSG},
		{"{\"a\":}", "", -EBADMSG},
		{"{\"a\"}", "", -EBADMSG},
		{"{\"a", "", -EBADMSG},
		{"{a:1}", "", -EBADMSG},
		{"{\"a\":[}]}", "", -EBADMSG},
		{"{\"a\":[1}", "", -EBADMSG},
		{"{\"a\":\"x}", "", -EBADMSG},
		{"{\"a\":1 2}", "", -EBADMSG},
		{"{", "", -EBADMSG},
		{"[]", "", -EBADMSG},
		{"", "", -EBADMSG},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf got;
		struct span rest;
		struct span key;
		struct span value;
		int r = jsonslice_open(span_of_text(cases[i].object), &rest);

		buf_init(&got, 4096);
		while (r == 0 && (r = jsonslice_next(&rest, &key, &value)) == 1) {
			(void)buf_printf(&got, "%.*s=%.*s;", (int)key.len, (const char *)key.at,
					 (int)value.len, (const char *)value.at);
			r = 0;
		}
		ck_assert_msg(r == cases[i].end, "%s: %d", cases[i].object, r);
		ck_assert_msg(r < 0 || strcmp(buf_text(&got), cases[i].pairs) == 0, "%s: %s",
			      cases[i].object, buf_text(&got));
	}
}
END_TEST

START_TEST(depth_has_a_bound)
{
	auto_buf struct buf deep;
	struct span rest;
	struct span key;
	struct span value;

	for (unsigned depth = JSONSLICE_DEPTH_MAX; depth <= JSONSLICE_DEPTH_MAX + 1; depth++) {
		buf_init(&deep, 1 << 16);
		(void)buf_add_text(&deep, "{\"a\":");
		for (unsigned i = 0; i < depth; i++)
			(void)buf_add_byte(&deep, '[');
		for (unsigned i = 0; i < depth; i++)
			(void)buf_add_byte(&deep, ']');
		(void)buf_add_byte(&deep, '}');
		ck_assert_int_eq(jsonslice_open(buf_span(&deep), &rest), 0);
		ck_assert_int_eq(jsonslice_next(&rest, &key, &value),
				 depth <= JSONSLICE_DEPTH_MAX ? 1 : -EBADMSG);
		buf_done(&deep);
	}
}
END_TEST

START_TEST(one_value_is_found)
{
	struct span value;

	ck_assert_int_eq(jsonslice_find(SPAN_LITERAL("{\"b\":1,\"a\":{\"b\":2}}"), "a", &value), 0);
	ck_assert(span_is(value, "{\"b\":2}"));
	ck_assert_int_eq(jsonslice_find(SPAN_LITERAL("{\"ab\":1}"), "a", &value), -ENOENT);
	ck_assert_int_eq(jsonslice_find(SPAN_LITERAL("5"), "a", &value), -EBADMSG);
	ck_assert_int_eq(jsonslice_find((struct span){.at = NULL}, "a", &value), -EBADMSG);
}
END_TEST

/* --- config and summary --- */

static const char config[] =
	"{\"lr\":{\"value\":1e-06,\"desc\":null},\"model\":{\"value\":{\"n\":[NaN]}},\"odd\":5,"
	"\"_wandb\":{\"value\":{\"t\":{\"1\":[2]},\"viz\":{\"x\":1},\"m\":["
	"{\"1\":\"acc\",\"6\":[3],\"7\":[2,8],\"8\":2},{\"2\":\"tr/*\",\"5\":3,\"6\":[1],\"7\":[]},"
	"{\"1\":\"gs\",\"6\":[],\"7\":[]},{\"6\":[3]},5]}}}";

static int read_both(struct wire_about *a)
{
	int r = wire_about_init(a);

	if (r == 0)
		r = wire_about_config(a, span_of_text(config));
	if (r == 0)
		r = wire_about_tag(a, SPAN_LITERAL("tag"));
	return r == 0 ? wire_about_summary(a, SPAN_LITERAL("{\"s\":{\"max\":1}}")) : r;
}

static void leaf_is(const struct tree *t, const char *key, const char *text)
{
	const struct node *n = tree_child(t, NULL, span_of_text(key));

	ck_assert_ptr_nonnull(n);
	ck_assert_msg(span_is(buf_span(&n->value), text), "%s: %.*s", key, (int)n->value.len,
		      (const char *)n->value.data);
}

START_TEST(a_config_and_a_summary_are_taken_apart)
{
	struct wire_about a;
	struct buf expected = {.data = NULL};

	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(read_both(&a), wire_about_done(&a)), 0);
	ck_assert_uint_eq(a.config.count, 2);
	leaf_is(&a.config, "lr", "1e-06");
	leaf_is(&a.config, "model", "{\"n\":[NaN]}");
	leaf_is(&a.wandb, "viz", "{\"x\":1}");
	leaf_is(&a.summary, "s", "{\"max\":1}");
	(void)mp_text(&expected,
		      "[{'name':'acc','step_metric':null,'step_sync':false,'hidden':false,"
		      "'goal':'maximize','summary':['max','first']},"
		      "{'name':'tr/*','step_metric':'gs','step_sync':true,'hidden':false,"
		      "'goal':null,'summary':null}]");
	ck_assert(span_equal(buf_span(&a.defines), buf_span(&expected)));
	wire_about_clear(&a);
	ck_assert_uint_eq(a.config.count + a.wandb.count + a.summary.count + a.tags.count, 0);
	wire_about_done(&a);
	buf_done(&expected);
}
END_TEST

START_TEST(what_is_no_config_counts_as_none)
{
	static const char *const texts[] = {"",
					    "null",
					    "[]",
					    "{",
					    "{\"a\":5}",
					    "{\"a\":{\"v\":1}}",
					    "{\"_wandb\":{\"value\":{\"m\":{}}}}",
					    "{\"_wandb\":{\"value\":{\"m\":[[]]}}}"};

	for (size_t i = 0; i < array_len(texts); i++) {
		struct wire_about a;

		ck_assert_int_eq(wire_about_init(&a), 0);
		ck_assert_msg(wire_about_config(&a, span_of_text(texts[i])) == 0, "%s", texts[i]);
		ck_assert_uint_eq(a.config.count, 0);
		wire_about_done(&a);
	}
}
END_TEST

START_TEST(who_wrote_it_is_seen_by_what_its_client_noted)
{
	static const struct {
		const char *config;
		bool is_written;
		bool is_shared;
	} cases[] = {
		{"{}", false, false},
		{"{\"_wandb\":{\"value\":{\"m\":[]}}}", false, false},
		{"{\"_wandb\":{\"value\":{\"t\":{}}}}", true, false},
		{"{\"_wandb\":{\"value\":{\"t\":{\"3\":[13,14],\"5\":\"67\"}}}}", true, false},
		{"{\"_wandb\":{\"value\":{\"t\":{\"3\":[2,67,69]}}}}", true, true},
		{"{\"_wandb\":{\"value\":{\"t\":{\"3\":67}}}}", true, false},
		{"{\"_wandb\":{\"value\":{\"t\":[67]}}}", true, false},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct wire_about a;

		ck_assert_int_eq(wire_about_init(&a), 0);
		ck_assert_int_eq(wire_about_config(&a, span_of_text(cases[i].config)), 0);
		ck_assert_msg(wire_about_is_written(&a) == cases[i].is_written, "%s",
			      cases[i].config);
		ck_assert_msg(wire_about_is_shared(&a) == cases[i].is_shared, "%s",
			      cases[i].config);
		wire_about_done(&a);
	}
}
END_TEST

SUITE_MAIN("wire_about", objects_are_cut_into_pairs, depth_has_a_bound, one_value_is_found,
	   a_config_and_a_summary_are_taken_apart, what_is_no_config_counts_as_none,
	   who_wrote_it_is_seen_by_what_its_client_noted)
