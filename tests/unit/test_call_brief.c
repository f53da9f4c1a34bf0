#include "daemon/ingest/call_brief.h"
#include "proto/base/mem.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <math.h>
#include <stdio.h>

/* The brief of a record as a map in `room`. */
static struct mp brief_of(struct buf *room, const char *kind, const char *body)
{
	auto_buf struct buf record_room = {0};
	auto_buf struct buf pairs = {0};
	struct record_fault fault;
	struct record record;
	struct pack p;
	char text[2048];
	size_t count = 0;
	int r;

	(void)snprintf(text, sizeof(text), "['%s',1,%s]", kind, body); /* fits */
	(void)mp_text(&record_room, text);
	r = record_parse_stored(buf_span(&record_room), &record, &fault);
	ck_assert_msg(r == 0, "%s", fault.text);
	buf_init(&pairs, CALL_BRIEF_MAX);
	pack_init(&p, &pairs);
	ck_assert(call_brief_pack(&p, &record, &count));
	ck_assert_int_eq(pairs.error, 0);
	buf_init(room, CALL_BRIEF_MAX + 8);
	pack_init(&p, room);
	pack_map(&p, count);
	pack_raw(&p, buf_span(&pairs));
	return mp_of(buf_span(room));
}

static void check_verdict(const char *output, double score, const char *reason)
{
	auto_buf struct buf room = {0};
	struct mp_value v;
	char body[1024];
	struct mp m;
	int r;

	(void)snprintf(body, sizeof(body), "{'t':1,'phase':'end','id':'a','output':%s}",
		       output); /* fits */
	m = brief_of(&room, "call", body);
	r = mp_find(m, "score", &v);
	if (isnan(score))
		ck_assert_msg(r < 0, "%s has a score", output);
	else
		ck_assert_msg(r == 0 && !isless(mp_to_double(&v), score) &&
				      !isgreater(mp_to_double(&v), score),
			      "%s", output);
	if (reason == NULL)
		ck_assert_ptr_null(mp_get_str(m, "reason").at);
	else
		ck_assert_msg(span_is(mp_get_str(m, "reason"), reason), "%s", output);
}

START_TEST(scores_and_reasons_are_found_where_judges_put_them)
{
	check_verdict("0.5", 0.5, NULL);
	check_verdict("true", 1, NULL);
	check_verdict("{'score':0.25,'reasoning':'so'}", 0.25, "so");
	check_verdict("{'rating':3,'explanation':'x','usage':{'score':9}}", 3, "x");
	check_verdict("{'score':{'value':0.5},'why':'x'}", 0.5, NULL);
	check_verdict("'a text'", NAN, "a text");
	check_verdict("{'_type':'text','size':9,'head':'begin','blob':<00>}", NAN, "begin");
	check_verdict("{'choices':[{'message':{'content':'said'}}]}", NAN, "said");
	check_verdict("{'choices':[]}", NAN, NULL);
	check_verdict("[0.5,1]", NAN, NULL);
	check_verdict("null", NAN, NULL);
}
END_TEST

START_TEST(a_brief_says_who_when_and_how_many_tokens)
{
	auto_buf struct buf room = {0};
	struct mp m = brief_of(
		&room, "call",
		"{'t':1,'phase':'complete','id':'i','trace_id':'t','op':'o','step':7,'started_at':"
		"3,"
		"'ended_at':5,'exception':'{}','inputs':{'secret':'x'},'summary':{'usage':{'m':{"
		"'total_tokens':5},'n':{'input_tokens':2,'output_tokens':1}}}}");
	struct mp_value v;

	ck_assert_uint_eq(mp_get_uint(m, "tokens", 0), 8);
	ck_assert_uint_eq(mp_get_uint(m, "step", 0), 7);
	ck_assert(span_is(mp_get_str(m, "exception"), "{}"));
	ck_assert_int_lt(mp_find(m, "inputs", &v), 0);
	buf_done(&room);
	m = brief_of(&room, "feedback",
		     "{'t':1,'id':'f','call_id':'i','type':'x','payload':{'output':{'score':0.5,'"
		     "reason':'r'}}}");
	ck_assert(span_is(mp_get_str(m, "call_id"), "i") &&
		  span_is(mp_get_str(m, "phase"), "feedback"));
	ck_assert(span_is(mp_get_str(m, "reason"), "r") && mp_find(m, "score", &v) == 0);
}
END_TEST

SUITE_MAIN("call_brief", scores_and_reasons_are_found_where_judges_put_them,
	   a_brief_says_who_when_and_how_many_tokens)
