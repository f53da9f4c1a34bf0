#include "client/ctl/jsonrow.h"
#include "client/ctl/line.h"
#include "client/ctl/mpjson.h"
#include "client/lib/map.h"
#include "proto/mp.h"
#include "tests/lib/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- msgpack to JSON --- */

static int to_json(struct buf *out, const char *msgpack, size_t len)
{
	struct json j;

	buf_init(out, 1 << 20);
	json_init(&j, out);
	return json_add_mp(&j, (struct span){.at = (const uint8_t *)msgpack, .len = len});
}

START_TEST(msgpack_becomes_json)
{
#define CASE(mp, json)                                                                             \
	{                                                                                          \
		mp, sizeof(mp) - 1, json                                                           \
	}
	static const struct {
		const char *mp;
		size_t len;
		const char *json;
	} cases[] = {
		CASE("\xc0", "null"),
		CASE("\x93\xc2\xc3\xff", "[false,true,-1]"),
		CASE("\x80", "{}"),
		CASE("\x90", "[]"),
		CASE("\x82\xa1x\x90\xa1y\x81\xa1z\x91\x07", "{\"x\":[],\"y\":{\"z\":[7]}}"),
		CASE("\x81\x05\xa1v", "{\"5\":\"v\"}"),
		CASE("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
		CASE("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1"),
		CASE("\x93\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xca\x7f\x80\x00\x00\xca\xff\x80\x00"
		     "\x00",
		     "[\"NaN\",\"Infinity\",\"-Infinity\"]"),
		CASE("\xc4\x02\x00\xff", "\"00ff\""),
		CASE("\xa2\xff\x01", "\"\xef\xbf\xbd\\u0001\""),
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf b = {0};

		ck_assert_int_eq(to_json(&b, cases[i].mp, cases[i].len), 0);
		ck_assert_str_eq(buf_text(&b), cases[i].json);
	}
}
END_TEST

START_TEST(what_is_no_msgpack_or_too_deep_is_refused)
{
	auto_buf struct buf deep = {0};

	buf_init(&deep, 4096);
	for (unsigned i = 0; i < 200; i++)
		ck_assert_int_eq(buf_add_byte(&deep, 0x91), 0);
	ck_assert_int_eq(buf_add_byte(&deep, 0xc0), 0);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const bad[] = {"\xc1", "\x92\x01", "\x81\x90\x01"};
		auto_buf struct buf b = {0};

		ck_assert_int_eq(to_json(&b, bad[i], strlen(bad[i])), -EBADMSG);
	}
	for (unsigned depth = 60; depth < 70; depth++) {
		auto_buf struct buf b = {0};

		ck_assert_int_eq(to_json(&b, (const char *)deep.data + 200 - depth, depth + 1),
				 depth <= JSON_DEPTH_MAX ? 0 : -EBADMSG);
	}
}
END_TEST

START_TEST(a_json_line_is_safe_for_a_terminal)
{
	auto_buf struct buf text = {0};
	auto_buf struct buf line = {0};
	struct json j;

	buf_init(&text, 4096);
	buf_init(&line, 4096);
	json_init(&j, &text);
	json_open_object(&j);
	json_pair_text(&j, "a", "\x1b\x7f\xc2\x9b\xe2\x80\xae\xf3\xa0\x81\x81");
	json_pair_bytes(&j, "b", "b_hex", SPAN_LITERAL("\xff"));
	json_close_object(&j);
	json_line(&line, &text);
	ck_assert_str_eq(buf_text(&line), "{\"a\":\"\\u001b\\u007f\\u009b\\u202e\\udb40\\udc41\","
					  "\"b_hex\":\"ff\"}\n");
}
END_TEST

/* --- records as lines --- */

/* ["log", 7, {run: "r1", t: 2026-11-22T12:00:00.5, step: 3, data: ...}] */
static void make_record(struct buf *b)
{
	struct pack p;

	buf_init(b, 4096);
	pack_init(&p, b);
	pack_array(&p, 3);
	pack_text(&p, "log");
	pack_uint(&p, 7);
	pack_map(&p, 6);
	pack_pair_text(&p, "run", "r1");
	pack_pair_uint(&p, "t", (uint64_t)1795348800500000);
	pack_text(&p, "data");
	pack_map(&p, 5);
	pack_pair_double(&p, "loss", 0.25);
	pack_pair_double(&p, "nan", (double)NAN);
	pack_pair_text(&p, "text", "two words\x1b");
	pack_text(&p, "list");
	pack_array(&p, 1);
	pack_nil(&p);
	pack_text(&p, "table");
	pack_map(&p, 3);
	pack_pair_text(&p, "_type", "table");
	pack_pair_uint(&p, "nrows", 64);
	pack_pair_uint(&p, "ncols", 6);
	pack_pair_uint(&p, "step", 3);
	pack_pair_text(&p, "gone", NULL);
	pack_pair_bool(&p, "commit", false);
	ck_assert_int_eq(b->error, 0);
}

START_TEST(a_record_is_one_line_with_its_step_first)
{
	auto_buf struct buf record = {0};
	auto_buf struct buf out = {0};

	(void)setenv("TZ", "UTC", 1);
	tzset();
	make_record(&record);
	buf_init(&out, 4096);
	ck_assert_int_eq(line_add(&out, buf_span(&record), SIZE_MAX), 0);
	ck_assert_str_eq(buf_text(&out),
			 "12:00:00.500  r1  log         7  step=3 commit=false loss=0.25 nan=NaN "
			 "text=\"two words\\x1b\" list=[1] table=<table 64 x 6>");
	buf_clear(&out);
	ck_assert_int_eq(line_add(&out, buf_span(&record), 40), 0);
	ck_assert_str_eq(buf_text(&out), "12:00:00.500  r1  log         7  step=3…");
	ck_assert_int_eq(line_add(&out, SPAN_LITERAL("\x01"), 40), -EBADMSG);
}
END_TEST

START_TEST(a_record_is_one_json_object)
{
	auto_buf struct buf record = {0};
	auto_buf struct buf out = {0};

	make_record(&record);
	buf_init(&out, 4096);
	ck_assert_int_eq(line_add_json(&out, 12, buf_span(&record)), 0);
	ck_assert_str_eq(buf_text(&out),
			 "{\"lsn\":12,\"kind\":\"log\",\"seq\":7,\"body\":{\"run\":\"r1\","
			 "\"t\":1795348800500000,\"data\":{\"loss\":0.25,\"nan\":\"NaN\","
			 "\"text\":\"two words\\u001b\",\"list\":[null],\"table\":{\"_type\":"
			 "\"table\",\"nrows\":64,\"ncols\":6}},\"step\":3,\"gone\":null,"
			 "\"commit\":false}}\n");
}
END_TEST

START_TEST(very_many_keys_are_counted)
{
	auto_buf struct buf record = {0};
	auto_buf struct buf out = {0};
	struct pack p;

	buf_init(&record, 1 << 20);
	buf_init(&out, 1 << 20);
	pack_init(&p, &record);
	pack_array(&p, 3);
	pack_text(&p, "log");
	pack_uint(&p, 1);
	pack_map(&p, 1);
	pack_text(&p, "data");
	pack_map(&p, 1000);
	for (unsigned i = 0; i < 1000; i++)
		pack_pair_uint(&p, "k", i);
	ck_assert_int_eq(line_add(&out, buf_span(&record), SIZE_MAX), 0);
	ck_assert_ptr_nonnull(strstr(buf_text(&out), " k=63 (936 more)"));
}
END_TEST

/* --- JSON lines to rows --- */

/* Reads the line and gives what the map holds as JSON; NULL: refused. */
static const char *read_row(const char *line, struct json_row *ret, struct buf *out)
{
	char error[JSONROW_ERROR_MAX] = "";
	struct wbx_map *m = wbx_map_new();
	auto_buf struct buf bytes = {0};
	uint8_t head[5];
	struct json j;
	int r;

	ck_assert_ptr_nonnull(m);
	r = jsonrow_read(span_of_text(line), m, ret, error);
	buf_init(out, 1 << 20);
	buf_init(&bytes, 1 << 20);
	if (r == 0) {
		ck_assert_int_eq(map_check(m), 0);
		map_head(m, head);
		(void)buf_add(&bytes, head, sizeof(head));
		(void)buf_add(&bytes, m->bytes.data, m->bytes.len);
		json_init(&j, out);
		ck_assert_int_eq(json_add_mp(&j, buf_span(&bytes)), 0);
	} else {
		ck_assert_int_eq(r, -EINVAL);
		ck_assert_uint_gt(strlen(error), 5);
	}
	wbx_map_free(m);
	return r == 0 ? buf_text(out) : NULL;
}

START_TEST(json_lines_become_rows_with_all_their_nesting)
{
	static const struct {
		const char *line;
		const char *map;
	} cases[] = {
		{"{}", "{}"},
		{"{\"a\":1,\"b\":-2.5,\"c\":\"x\",\"d\":null,\"e\":true,\"f\":false}",
		 "{\"a\":1,\"b\":-2.5,\"c\":\"x\",\"d\":null,\"e\":true,\"f\":false}"},
		{"{\"a\":{},\"b\":[],\"c\":[[1,[2]],{\"d\":{\"e\":3}}],\"f\":4}",
		 "{\"a\":{},\"b\":[],\"c\":[[1,[2]],{\"d\":{\"e\":3}}],\"f\":4}"},
		{"{\"n\":NaN,\"i\":[Infinity,-Infinity],\"s\":\"NaN -Infinity \\\" NaN\"}",
		 "{\"n\":\"NaN\",\"i\":[\"Infinity\",\"-Infinity\"],\"s\":\"NaN -Infinity \\\" "
		 "NaN\"}"},
		{"{\"nul\":\"a\\u0000b\"}", "{\"nul\":\"a\\u0000b\"}"},
		{"{\"x\":{\"_step\":5}}", "{\"x\":{\"_step\":5}}"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf out = {0};
		struct json_row row;
		const char *got = read_row(cases[i].line, &row, &out);

		ck_assert_pstr_eq(got, cases[i].map);
		ck_assert_int_eq(row.kind, ROW_LOG);
		ck_assert(row.step == WBX_NO_STEP);
	}
}
END_TEST

START_TEST(not_a_number_becomes_a_number_not_a_text)
{
	char error[JSONROW_ERROR_MAX];
	struct wbx_map *m = wbx_map_new();
	struct json_row row;
	struct mp_value v;
	struct mp at;

	ck_assert_ptr_nonnull(m);
	ck_assert_int_eq(jsonrow_read(SPAN_LITERAL("{\"a\":NaN}"), m, &row, error), 0);
	at = mp_of(buf_span(&m->bytes));
	ck_assert_int_eq(mp_read(&at, &v), 0);
	ck_assert_int_eq(mp_read(&at, &v), 0);
	ck_assert_int_eq(v.type, MP_FLOAT);
	ck_assert(isnan(v.real));
	wbx_map_free(m);
}
END_TEST

START_TEST(special_keys_steer_and_are_no_values)
{
	auto_buf struct buf out = {0};
	struct json_row row;

	ck_assert_str_eq(read_row("{\"_step\":7,\"a\":1,\"_commit\":false}", &row, &out),
			 "{\"a\":1}");
	ck_assert_int_eq(row.step, 7);
	ck_assert_int_eq(row.commit, WBX_COMMIT_NO);
	buf_done(&out);
	ck_assert_str_eq(read_row("{\"_kind\":\"summary\",\"best\":1}", &row, &out),
			 "{\"best\":1}");
	ck_assert_int_eq(row.kind, ROW_SUMMARY);
	ck_assert_int_eq(row.commit, WBX_COMMIT_AUTO);
	buf_done(&out);
	ck_assert_str_eq(read_row("{\"_kind\":\"config\",\"_commit\":true}", &row, &out), "{}");
	ck_assert_int_eq(row.kind, ROW_CONFIG);
	ck_assert_int_eq(row.commit, WBX_COMMIT_YES);
	buf_done(&out);
	ck_assert_str_eq(read_row("{\"_kind\":\"system\",\"cpu\":1}", &row, &out), "{\"cpu\":1}");
	ck_assert_int_eq(row.kind, ROW_SYSTEM);
}
END_TEST

START_TEST(bad_lines_are_refused_with_a_reason)
{
	static const char *const lines[] = {
		"bad",
		"",
		"[1]",
		"3",
		"{\"a\":}",
		"{\"a\":1",
		"{\"a\":1} {}",
		"{\"a\":Nan}",
		"{\"_step\":1.5}",
		"{\"_step\":\"1\"}",
		"{\"_commit\":1}",
		"{\"_kind\":\"frob\"}",
		"{\"_kind\":7}",
		"{\"a\":99999999999999999999}",
		"{\"a\":\"\xff\"}",
		"\"unended",
	};

	for (size_t i = 0; i < array_len(lines); i++) {
		auto_buf struct buf out = {0};
		struct json_row row;

		ck_assert_msg(read_row(lines[i], &row, &out) == NULL, "%s", lines[i]);
	}
}
END_TEST

START_TEST(a_line_may_nest_as_deep_as_a_record_and_no_deeper)
{
	for (unsigned depth = 1; depth < 100; depth++) {
		auto_buf struct buf line = {0};
		auto_buf struct buf out = {0};
		struct json_row row;

		buf_init(&line, 4096);
		(void)buf_add_text(&line, "{\"a\":");
		for (unsigned i = 0; i < depth; i++)
			(void)buf_add_byte(&line, '[');
		for (unsigned i = 0; i < depth; i++)
			(void)buf_add_byte(&line, ']');
		(void)buf_add_byte(&line, '}');
		ck_assert_msg((read_row(buf_text(&line), &row, &out) != NULL) ==
				      (depth < MAP_DEPTH_MAX),
			      "depth %u", depth);
	}
}
END_TEST

SUITE_MAIN("ctl_json", msgpack_becomes_json, what_is_no_msgpack_or_too_deep_is_refused,
	   a_json_line_is_safe_for_a_terminal, a_record_is_one_line_with_its_step_first,
	   a_record_is_one_json_object, very_many_keys_are_counted,
	   json_lines_become_rows_with_all_their_nesting, not_a_number_becomes_a_number_not_a_text,
	   special_keys_steer_and_are_no_values, bad_lines_are_refused_with_a_reason,
	   a_line_may_nest_as_deep_as_a_record_and_no_deeper)
