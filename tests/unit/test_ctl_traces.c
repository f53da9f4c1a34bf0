#include "client/ctl/trace_error.h"
#include "client/ctl/traceblob.h"
#include "client/ctl/tracefilter.h"
#include "proto/base/mem.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int add(struct book *b, const char *text)
{
	auto_buf struct buf room = {0};

	(void)mp_text(&room, text); /* fails the test itself */
	return book_add_brief(b, buf_span(&room));
}

/* The ops of all trees from top to bottom, those that are shown, each with its depth. */
static const char *told(const struct book *b, struct buf *out)
{
	buf_init(out, 4096);
	for (const struct trace_call *root = b->first_root; root != NULL; root = root->next) {
		for (const struct trace_call *c = root; c != NULL; c = trace_call_next(c, root))
			(void)buf_printf(out, "%u%s ", trace_call_depth(c),
					 c->op); /* shows below */
	}
	return buf_text(out);
}

START_TEST(calls_become_trees_in_whatever_order_they_come)
{
	auto_buf struct buf out = {0};
	struct book b;
	int r = book_init(&b);

	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'end','id':'b','ended_at':9,'score':0.5,'reason':'why'}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'complete','id':'c','trace_id':'t','parent_id':'b','op':'leaf',"
		    "'started_at':4,'ended_at':5,'tokens':7}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'feedback','call_id':'c','type':'x','score':0.25}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'start','id':'b','trace_id':'t','parent_id':'a','op':'judge',"
		    "'started_at':3,'step':2}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'complete','id':'d','trace_id':'t','parent_id':'a','op':'early',"
		    "'started_at':2,'ended_at':3}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'start','id':'a','trace_id':'t','op':'root','started_at':1}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'start','id':'o','trace_id':'u','parent_id':'gone','op':'other',"
		    "'started_at':1}");
	ck_assert_int_eq(r, 0);
	r = book_link(&b);
	ck_assert_int_eq(r, 0);
	ck_assert_str_eq(told(&b, &out), "0root 1early 1judge 2leaf 0other ");
	ck_assert_uint_eq(b.root_count, 2);
	ck_assert_uint_eq(b.first_root->all_tokens, 7);
	ck_assert(!b.first_root->has_ended);
	ck_assert_uint_eq(trace_call_took_us(b.first_root->first_child->next), 6);
	ck_assert(b.first_root->first_child->next->has_score);
	book_done(&b);
}
END_TEST

START_TEST(parents_that_go_in_a_circle_are_cut)
{
	auto_buf struct buf out = {0};
	struct book b;
	int r = book_init(&b);

	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'start','id':'a','parent_id':'b','op':'a','started_at':1}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'start','id':'b','parent_id':'a','op':'b','started_at':2}");
	ck_assert_int_eq(r, 0);
	r = add(&b, "{'phase':'start','id':'s','parent_id':'s','op':'s','started_at':3}");
	ck_assert_int_eq(r, 0);
	r = book_link(&b);
	ck_assert_int_eq(r, 0);
	ck_assert_str_eq(told(&b, &out), "0a 1b 0s ");
	book_done(&b);
}
END_TEST

START_TEST(the_oldest_calls_go_when_there_are_too_many)
{
	struct book b;
	int r = book_init(&b);

	for (int i = 0; r == 0 && i < BOOK_CALLS_MAX + 10; i++) {
		char text[64];

		(void)snprintf(text, sizeof(text), "{'phase':'start','id':'%d'}", i); /* fits */
		r = add(&b, text);
	}
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(b.count, BOOK_CALLS_MAX);
	ck_assert_uint_eq(b.forgotten, 10);
	ck_assert_str_eq(b.oldest->id, "10");
	book_done(&b);
}
END_TEST

START_TEST(filters_say_what_is_meant)
{
	static char nothing[] = "";
	static char judge[] = "judge";
	static char why[] = "{}";
	struct trace_call c = {
		.op = judge, .exception = nothing, .score = 0.2, .has_score = true, .step = 12};
	static const struct {
		const char *text;
		bool fits;
	} scores[] = {
		{"<0.3", true},   {"<0.2", false}, {"<=0.2", true},    {">0.1", true},
		{">=0.2", true},  {">0.2", false}, {"=0.2", true},     {"==0.2", true},
		{"0.2", true},    {"1", false},    {"0.2..0.5", true}, {"-1..0.1", false},
		{"<-0.1", false}, {"<1e3", true},  {"-.5...5", true},
	};
	static const char *const wrong[] = {"",    "<",    "x",    "0.1x", "..",
					    "1..", "2..1", "<nan", "<inf"};
	static const char *const wrong_steps[] = {"",     "..", "x",   "1..x",
						  "2..1", "-1", "1.5", "..x"};
	struct trace_filter f;
	int r;

	for (size_t i = 0; i < array_len(scores); i++) {
		f = (struct trace_filter){.first_step = -1};
		r = score_test_read(scores[i].text, &f);
		ck_assert_int_eq(r, 0);
		ck_assert_msg(trace_filter_fits(&f, &c) == scores[i].fits, "%s", scores[i].text);
	}
	for (size_t i = 0; i < array_len(wrong); i++)
		ck_assert_msg(score_test_read(wrong[i], &f) == -EINVAL, "%s", wrong[i]);
	for (size_t i = 0; i < array_len(wrong_steps); i++)
		ck_assert_msg(step_range_read(wrong_steps[i], &f) == -EINVAL, "%s", wrong_steps[i]);
	f = (struct trace_filter){.first_step = -1};
	ck_assert(trace_filter_is_any(&f));
	r = step_range_read("10..12", &f);
	ck_assert(r == 0 && trace_filter_fits(&f, &c));
	r = step_range_read("13..", &f);
	ck_assert(r == 0 && !trace_filter_fits(&f, &c));
	f = (struct trace_filter){.first_step = -1, .op = "ju*"};
	ck_assert(trace_filter_fits(&f, &c));
	f.op = "jud";
	ck_assert(!trace_filter_fits(&f, &c));
	f = (struct trace_filter){.first_step = -1, .only_errors = true};
	ck_assert(!trace_filter_fits(&f, &c));
	c.exception = why;
	ck_assert(trace_filter_fits(&f, &c));
}
END_TEST

START_TEST(what_stands_apart_is_put_back)
{
	static const char digest[] =
		"<0000000000000000000000000000000000000000000000000000000000000001>";
	static const char inner[] =
		"<0000000000000000000000000000000000000000000000000000000000000002>";
	struct traceblobs b = {.first = NULL};
	auto_buf struct buf value = {0};
	auto_buf struct buf want = {0};
	auto_buf struct buf whole = {0};
	auto_buf struct buf out = {0};
	uint8_t name[2][DIGEST_BYTES] = {{0}, {0}};
	char text[512];
	int r;

	name[0][DIGEST_BYTES - 1] = 1;
	name[1][DIGEST_BYTES - 1] = 2;
	(void)snprintf(text, sizeof(text),
		       "{'rows':[1,{'_type':'text','size':4,'head':'lo','blob':%s}]}",
		       inner); /* fits */
	(void)mp_text(&whole, text);
	r = traceblobs_add(&b, (struct span){.at = name[0], .len = DIGEST_BYTES}, 0,
			   buf_span(&whole));
	ck_assert_int_eq(r, 0);
	r = traceblobs_add(&b, (struct span){.at = name[1], .len = DIGEST_BYTES}, 0,
			   SPAN_LITERAL("lo"));
	ck_assert_int_eq(r, 0);
	r = traceblobs_add(&b, (struct span){.at = name[1], .len = DIGEST_BYTES}, 2,
			   SPAN_LITERAL("ng"));
	ck_assert_int_eq(r, 0);
	r = traceblobs_add(&b, (struct span){.at = name[1], .len = DIGEST_BYTES}, 0,
			   SPAN_LITERAL("lo"));
	ck_assert_int_eq(r, 0); /* another record names it */
	(void)snprintf(text, sizeof(text),
		       "[{'_type':'msgpack','size':9,'blob':%s},{'_type':'text','blob':<00>}]",
		       digest); /* fits */
	(void)mp_text(&value, text);
	(void)mp_text(&want, "[{'rows':[1,'long']},{'_type':'text','blob':<00>}]");
	buf_init(&out, 4096);
	traceblobs_expand(&b, buf_span(&value), &out);
	ck_assert_int_eq(out.error, 0);
	ck_assert_uint_eq(out.len, want.len);
	traceblobs_done(&b);
}
END_TEST

START_TEST(an_exception_is_a_line_and_its_traceback_more)
{
	static const char e[] =
		"{\"type\":\"ValueError\",\"message\":\"no\",\"traceback\":[{\"filename\":"
		"\"a.py\",\"line_number\":3,\"function_name\":\"f\",\"text\":\"x()\"}]}";
	auto_buf struct buf out = {0};

	buf_init(&out, 4096);
	trace_error_add(&out, e);
	ck_assert_str_eq(buf_text(&out), "ValueError: no");
	buf_clear(&out);
	trace_error_add_lines(&out, e, "  ");
	ck_assert_str_eq(buf_text(&out), "  ValueError: no\n    a.py:3 f: x()\n");
	buf_clear(&out);
	trace_error_add(&out, "no JSON");
	ck_assert_str_eq(buf_text(&out), "no JSON");
}
END_TEST

static int some(struct book *b, const struct buf briefs[2])
{
	int r = book_init(b);

	for (int i = 0; r == 0 && i < 2; i++)
		r = book_add_brief(b, buf_span(&briefs[i]));
	return r == 0 ? book_link(b) : r;
}

START_TEST(a_book_survives_every_allocation_failure)
{
	struct buf briefs[2] = {{0}};
	struct book b;

	(void)mp_text(&briefs[0],
		      "{'phase':'start','id':'a','op':'x','reason':'y','started_at':1}");
	(void)mp_text(&briefs[1],
		      "{'phase':'start','id':'b','op':'x','parent_id':'a','started_at':1}");
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(some(&b, briefs), book_done(&b)), 0);
	ck_assert_uint_eq(b.count, 2);
	book_done(&b);
	buf_done(&briefs[0]);
	buf_done(&briefs[1]);
}
END_TEST

SUITE_MAIN("ctl_traces", calls_become_trees_in_whatever_order_they_come,
	   parents_that_go_in_a_circle_are_cut, the_oldest_calls_go_when_there_are_too_many,
	   filters_say_what_is_meant, what_stands_apart_is_put_back,
	   an_exception_is_a_line_and_its_traceback_more, a_book_survives_every_allocation_failure)
