#include "daemon/forward/models/value.h"
#include "proto/base/rng.h"
#include "proto/limits.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <string.h>

static const char *print(struct buf *out, struct mp m, enum value_style style)
{
	struct json j;

	buf_done(out);
	buf_init(out, 16 << 20);
	json_init(&j, out);
	ck_assert_int_eq(value_to_json(&j, &m, style), 0);
	ck_assert_uint_eq(mp_left(&m), 0);
	return buf_text(out);
}

START_TEST(values_are_written_as_w_b_s_client_writes_them)
{
	static const struct {
		const char *value;
		const char *history;
		const char *config; /* NULL: the same */
	} cases[] = {
		{"null", "null", NULL},
		{"true", "true", NULL},
		{"false", "false", NULL},
		{"0", "0", NULL},
		{"-1", "-1", NULL},
		{"9223372036854775807", "9223372036854775807", NULL},
		{"-9223372036854775808", "-9223372036854775808", NULL},
		{"9223372036854775808", "9223372036854775808", NULL},
		{"18446744073709551615", "18446744073709551615", NULL},
		{"0.0", "0", NULL},
		{"-0.0", "-0", NULL},
		{"1.0", "1", NULL},
		{"0.1", "0.1", NULL},
		{"5e-324", "4.94065645841247e-324", NULL},
		{"1.7976931348623157e308", "1.7976931348623157e+308", NULL},
		{"NaN", "NaN", "null"},
		{"Infinity", "Infinity", "null"},
		{"-Infinity", "-Infinity", "null"},
		{"!ca3dcccccd!", "0.10000000149011612", NULL}, /* a float of 32 bits */
		{"!ca7fc00000!", "NaN", "null"},
		{"!caff800000!", "-Infinity", "null"},
		{"''", "\"\"", NULL},
		{"'a\\\\b\\\"c/\n'", "\"a\\\\b\\\"c/\\n\"", NULL},
		{"'\xc3\xa9\xff'", "\"\xc3\xa9\xef\xbf\xbd\"", NULL},
		{"<>", "\"\"", NULL},
		{"<00>", "\"AA==\"", NULL},
		{"<fffe>", "\"//4=\"", NULL},
		{"<010203>", "\"AQID\"", NULL},
		{"!d4052a!", "null", NULL},       /* an extension */
		{"!d6ff00000000!", "null", NULL}, /* a time stamp */
		{"[]", "[]", NULL},
		{"{}", "{}", NULL},
		{"[1,[2,[],{}],NaN]", "[1,[2,[],{}],NaN]", "[1,[2,[],{}],null]"},
		{"{'a':{'b':[{'c':Infinity}]},'d':1}", "{\"a\":{\"b\":[{\"c\":Infinity}]},\"d\":1}",
		 "{\"a\":{\"b\":[{\"c\":null}]},\"d\":1}"},
		/* a histogram, as W&B's client logs it */
		{"{'_type':'histogram','values':[1,2,0],'bins':[-0.5,0.0,0.5,1e3]}",
		 "{\"_type\":\"histogram\",\"values\":[1,2,0],\"bins\":[-0.5,0,0.5,1000]}", NULL},
		{"{'packedBins':{'min':-1.5,'size':0.25,'count':64},'_type':'histogram'}",
		 "{\"packedBins\":{\"min\":-1.5,\"size\":0.25,\"count\":64},\"_type\":"
		 "\"histogram\"}",
		 NULL},
		/* keys that are no text */
		{"{[1,[2]]:3,'k':{{}:4}}", "{\"?\":3,\"k\":{\"?\":4}}", NULL},
		{"{1:2,-3:4,1.5:6,true:7,false:8,null:9,<61>:1,NaN:2}",
		 "{\"1\":2,\"-3\":4,\"1.5\":6,\"true\":7,\"false\":8,\"null\":9,\"?\":1,\"NaN\":2}",
		 NULL},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf room = {.data = NULL};
		auto_buf struct buf out = {.data = NULL};
		struct mp m = mp_text(&room, cases[i].value);
		const char *config = cases[i].config == NULL ? cases[i].history : cases[i].config;

		ck_assert_str_eq(print(&out, m, VALUE_HISTORY), cases[i].history);
		ck_assert_str_eq(print(&out, m, VALUE_CONFIG), config);
	}
}
END_TEST

START_TEST(a_value_leaves_the_cursor_behind_it)
{
	auto_buf struct buf out;
	struct span two = SPAN_LITERAL("\x92\x01\x91\x02\xa1x");
	struct mp m = mp_of(two);
	struct json j;

	buf_init(&out, 100);
	json_init(&j, &out);
	json_open_array(&j);
	ck_assert_int_eq(value_to_json(&j, &m, VALUE_HISTORY), 0);
	ck_assert_int_eq(value_to_json(&j, &m, VALUE_HISTORY), 0);
	json_close_array(&j);
	ck_assert_str_eq(buf_text(&out), "[[1,[2]],\"x\"]");
	ck_assert_uint_eq(mp_left(&m), 0);
}
END_TEST

START_TEST(bad_bytes_are_refused)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
#define BAD(bytes) {bytes, sizeof(bytes) - 1}
		BAD(""),
		BAD("\xc1"),
		BAD("\x91"),                     /* one to come */
		BAD("\x81\xa1k"),                /* a key without a value */
		BAD("\x81\xa1"),                 /* half a key */
		BAD("\xcb\x00\x00"),             /* half a double */
		BAD("\xdd\xff\xff\xff\xff\x01"), /* promises 2^32 */
		BAD("\xdf\xff\xff\xff\xff\xa1k\x01"),
		BAD("\xdb\xff\xff\xff\xffx"),
		BAD("\x92\x01\xc1"),
#undef BAD
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		auto_buf struct buf out;
		struct span in = {.at = (const uint8_t *)bad[i].bytes, .len = bad[i].len};
		struct mp m = mp_of(in);
		struct json j;

		buf_init(&out, 1 << 20);
		json_init(&j, &out);
		ck_assert_msg(value_to_json(&j, &m, VALUE_HISTORY) == -EBADMSG, "case %zu", i);
	}
}
END_TEST

static int print_nested(unsigned depth, uint8_t head, struct buf *out)
{
	uint8_t bytes[3 * JSON_DEPTH_MAX];
	size_t len = 0;
	struct json j;
	struct mp m;

	for (unsigned i = 0; i < depth; i++) {
		bytes[len++] = head;
		if (head == 0x81)
			bytes[len++] = 0x01;
	}
	bytes[len++] = 0xc0;
	m = mp_of((struct span){.at = bytes, .len = len});
	json_init(&j, out);
	return value_to_json(&j, &m, VALUE_HISTORY);
}

START_TEST(a_value_as_deep_as_a_record_may_be_is_written_and_a_deeper_one_refused)
{
	static const uint8_t heads[] = {0x91, 0x81};

	for (size_t i = 0; i < array_len(heads); i++) {
		auto_buf struct buf out;

		buf_init(&out, 4096);
		ck_assert_int_eq(print_nested(RECORD_DEPTH_MAX, heads[i], &out), 0);
		ck_assert_int_eq(out.error, 0);
		ck_assert_int_eq(print_nested(JSON_DEPTH_MAX + 1, heads[i], &out), -EBADMSG);
	}
}
END_TEST

START_TEST(any_value_that_msgpack_skips_is_written)
{
	static const struct mp_limits limits = {.depth = RECORD_DEPTH_MAX,
						.items = SIZE_MAX,
						.keys = SIZE_MAX,
						.key_bytes = SIZE_MAX};
	struct rng rng = {.state = 11};
	int good = 0;

	for (int i = 0; i < 100000; i++) {
		auto_buf struct buf out;
		uint8_t bytes[24];
		struct span in = {.at = bytes, .len = 1 + rng_below(&rng, sizeof(bytes))};
		struct mp skipped = mp_of(in);
		struct mp m = mp_of(in);
		struct json j;
		int r;

		for (size_t n = 0; n < in.len; n++)
			bytes[n] = (uint8_t)(rng_below(&rng, 3) == 0 ? 0x80 + rng_below(&rng, 0x80)
								     : rng_below(&rng, 0x100));
		buf_init(&out, 1 << 16);
		json_init(&j, &out);
		r = value_to_json(&j, &m, VALUE_CONFIG);
		if (mp_skip(&skipped, &limits) < 0) {
			ck_assert_int_eq(r, -EBADMSG);
		} else {
			ck_assert_int_eq(r, 0);
			ck_assert_ptr_eq(m.at, skipped.at);
			ck_assert_uint_eq(j.depth, 0);
			good++;
		}
	}
	ck_assert_int_gt(good, 10000);
}
END_TEST

static int print_once(struct span value, struct buf *out)
{
	struct mp m = mp_of(value);
	struct json j;
	int r;

	json_init(&j, out);
	r = value_to_json(&j, &m, VALUE_HISTORY);
	return r == 0 ? out->error : r;
}

START_TEST(a_value_survives_every_allocation_failure)
{
	auto_buf struct buf room = {.data = NULL};
	auto_buf struct buf out;

	(void)mp_text(&room, "{'a':[1,'two',3.5],'b':<00ff00>,'c':'text of some length'}");
	buf_init(&out, 4096);
	ck_assert_int_eq(
		WITH_EACH_ALLOCATION_FAILING(print_once(buf_span(&room), &out), buf_done(&out)), 0);
	ck_assert_str_eq(buf_text(&out),
			 "{\"a\":[1,\"two\",3.5],\"b\":\"AP8A\",\"c\":\"text of some length\"}");
}
END_TEST

SUITE_MAIN("value", values_are_written_as_w_b_s_client_writes_them,
	   a_value_leaves_the_cursor_behind_it, bad_bytes_are_refused,
	   a_value_as_deep_as_a_record_may_be_is_written_and_a_deeper_one_refused,
	   any_value_that_msgpack_skips_is_written, a_value_survives_every_allocation_failure)
