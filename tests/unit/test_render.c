#include "daemon/forward/weave/render.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

enum {
	OUT_MAX = 1 << 16
};

/* A blob of twenty letters. */
static int read_letters(void *arg, struct span digest, size_t max, struct buf *ret,
			int64_t *ret_size)
{
	static const char letters[] = "abcdefghijklmnopqrst";

	if (arg == NULL || digest.len != 2)
		return -ENOENT;
	*ret_size = sizeof(letters) - 1;
	return buf_add(ret, letters, max < sizeof(letters) - 1 ? max : sizeof(letters) - 1);
}

static int print(struct buf *out, struct span value, struct render *r)
{
	struct mp m = mp_of(value);
	struct json j;

	buf_init(out, OUT_MAX);
	json_init(&j, out);
	return render_value(&j, &m, r);
}

static void check(const char *text, size_t text_max, const char *want)
{
	static int has_blobs;
	struct render r = {.text_max = text_max, .read = read_letters, .arg = &has_blobs};
	auto_buf struct buf room = {.data = NULL};
	struct buf out;

	(void)mp_text(&room, text);
	ck_assert_int_eq(print(&out, buf_span(&room), &r), 0);
	ck_assert_str_eq(buf_text(&out), want);
	buf_done(&out);
}

START_TEST(values_are_those_that_the_trace_server_takes)
{
	check("{'a':[1,-2,2.5,true,null],'b':{'c':'x'}}", 100,
	      "{\"a\":[1,-2,2.5,true,null],\"b\":{\"c\":\"x\"}}");
	check("[NaN,Infinity,-Infinity]", 100, "[null,null,null]");
	check("<89504e47>", 100, "\"data:image/png;base64,iVBORw==\"");
	check("{}", 100, "{}");
	check("[]", 100, "[]");
}
END_TEST

START_TEST(secrets_are_hidden_wherever_they_stand)
{
	check("{'api_key':'sk-1','x':{'Authorization':{'a':1},'OPENAI-API-KEY':[1,2],'keys':1}}",
	      100,
	      "{\"api_key\":\"REDACTED\",\"x\":{\"Authorization\":\"REDACTED\",\"OPENAI-API-KEY\":"
	      "\"REDACTED\",\"keys\":1}}");
	ck_assert(render_is_secret(SPAN_LITERAL("wandbApiKey")));
	ck_assert(render_is_secret(SPAN_LITERAL("client_secret")));
	ck_assert(!render_is_secret(SPAN_LITERAL("max_tokens")));
	ck_assert(!render_is_secret(SPAN_LITERAL("tokenizer")));
}
END_TEST

START_TEST(a_long_text_is_cut_between_characters_and_says_so)
{
	check("'abcdefghij'", 4, "\"abcd [wbx: cut, 4 of 10 bytes; whole: wbxctl trace]\"");
	check("'a\xc3\xa4\xc3\xa4'", 2, "\"a [wbx: cut, 1 of 5 bytes; whole: wbxctl trace]\"");
	check("<00000000000000000000>", 8,
	      "\"[wbx: 10 bytes of application/octet-stream, kept here]\"");
}
END_TEST

START_TEST(what_stands_apart_is_read)
{
	check("{'o':{'_type':'text','blob':<0102>,'size':20,'head':'abc'}}", 100,
	      "{\"o\":\"abcdefghijklmnopqrst\"}");
	check("{'_type':'text','blob':<0102>,'size':20,'head':'abc'}", 5,
	      "\"abcde [wbx: cut, 5 of 20 bytes; whole: wbxctl trace]\"");
	check("{'_type':'text','blob':<010203>,'size':20}", 5,
	      "\"[wbx: these bytes are not in the store any more]\"");
	check("{'_type':'own','a':1}", 5, "{\"_type\":\"own\",\"a\":1}");
}
END_TEST

START_TEST(a_value_survives_every_allocation_failure)
{
	auto_buf struct buf room = {.data = NULL};
	struct render r = {.text_max = 4};
	struct buf out;

	(void)mp_text(&room, "{'a':['long enough',<00ff>],'b':1}");
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(
				 print(&out, buf_span(&room), &r) != 0 ? -ENOMEM : out.error,
				 (buf_done(&out), r.error = 0)),
			 0);
	buf_done(&out);
}
END_TEST

SUITE_MAIN("render", values_are_those_that_the_trace_server_takes,
	   secrets_are_hidden_wherever_they_stand,
	   a_long_text_is_cut_between_characters_and_says_so, what_stands_apart_is_read,
	   a_value_survives_every_allocation_failure)
