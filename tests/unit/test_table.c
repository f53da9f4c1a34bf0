#include "daemon/forward/models/table.h"
#include "proto/pack.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

/* A blob in memory that is read in pieces, and blobs with rows of it: part n has the digest "nnn...". */
struct source {
	struct span blob;
	struct span parts[4];
	int fails_at; /* which read fails; 0: none */
	int reads;
	size_t largest;    /* read */
	struct buf *files; /* what was told of them; NULL: nothing */
};

static int read_source(void *arg, const uint8_t *part, int64_t offset, void *ret_bytes, size_t len,
		       size_t *ret_len)
{
	struct source *s = arg;
	struct span blob = part == NULL ? s->blob : s->parts[part[0]];
	size_t at = (size_t)offset;

	if (++s->reads == s->fails_at)
		return -EIO;
	ck_assert_uint_le(at, blob.len);
	if (len > blob.len - at)
		len = blob.len - at;
	if (len > s->largest)
		s->largest = len;
	if (len > 0)
		memcpy(ret_bytes, blob.at + at, len);
	*ret_len = len;
	return 0;
}

struct rendered {
	struct buf text;
	int result;
	unsigned steps;
	size_t most_in; /* memory of a step */
	size_t most_out;
	uint64_t rows;
	uint64_t columns;
	uint64_t rows_written;
};

/* Notes each file: "path=bytes;". */
static int note_file(void *arg, const struct table_file *file)
{
	struct source *s = arg;
	struct span blob = file->part == NULL ? s->blob : s->parts[file->part[0]];
	struct span there = {.at = blob.at + file->offset, .len = file->bytes.len};

	ck_assert(span_equal(there, file->bytes));
	ck_assert_uint_eq(strlen(file->sha256), 64);
	return buf_printf(s->files, "%.*s=%.*s;", (int)file->path.len, (const char *)file->path.at,
			  (int)file->bytes.len, (const char *)file->bytes.at);
}

static void render_as(struct rendered *ret, struct source *s, enum table_form form)
{
	struct table t;

	*ret = (struct rendered){.result = 1};
	buf_init(&ret->text, (size_t)1 << 30);
	table_init(&t, form, read_source, s);
	if (s->files != NULL)
		t.on_file = note_file;
	while (ret->result == 1) {
		ret->result = table_step(&t);
		ret->steps++;
		ck_assert_int_eq(buf_add(&ret->text, t.out.data, t.out.len), 0);
		ret->most_out = t.out.len > ret->most_out ? t.out.len : ret->most_out;
		ret->most_in = t.in.cap > ret->most_in ? t.in.cap : ret->most_in;
		buf_clear(&t.out);
	}
	if (ret->result == 0)
		ck_assert_int_eq(table_step(&t), 0); /* and it stays at its end */
	ret->rows = t.rows;
	ret->columns = t.columns;
	ret->rows_written = t.rows_written;
	table_done(&t);
}

static void render(struct rendered *ret, struct source *s)
{
	render_as(ret, s, TABLE_RUN_FILE);
}

START_TEST(a_table_becomes_the_run_file)
{
	static const struct {
		const char *blob;
		const char *json;
		uint64_t columns;
		uint64_t rows;
	} cases[] = {
		{"{'columns':[],'data':[]}", "{\"columns\":[],\"data\":[]}", 0, 0},
		{"{'columns':['a'],'data':[]}", "{\"columns\":[\"a\"],\"data\":[]}", 1, 0},
		{"{'columns':['prompt','reward'],'data':[['2+2?',1.0],['\"x\"\n',-0.5]]}",
		 "{\"columns\":[\"prompt\",\"reward\"],\"data\":[[\"2+2?\",1],[\"\\\"x\\\"\\n\",-0."
		 "5]]}",
		 2, 2},
		{"{'columns':['n'],'data':[[null],[true],[NaN],[-Infinity],[18446744073709551615]]"
		 "}",
		 "{\"columns\":[\"n\"],\"data\":[[null],[true],[NaN],[-Infinity],"
		 "[18446744073709551615]]}",
		 1, 5},
		{"{'columns':['c'],'data':[[[1,{'k':[]}]],[<00ff>],[!d4ff00!]]}",
		 "{\"columns\":[\"c\"],\"data\":[[[1,{\"k\":[]}]],[\"AP8=\"],[null]]}", 1, 3},
		{"{'columns':[1,2.5],'data':[[]]}", "{\"columns\":[1,2.5],\"data\":[[]]}", 2, 1},
		{"{'columns':['\xc3\xa9'],'data':[['\xff']]}",
		 "{\"columns\":[\"\xc3\xa9\"],\"data\":[[\"\xef\xbf\xbd\"]]}", 1, 1},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf room = {.data = NULL};
		struct source s;
		struct rendered r;

		(void)mp_text(&room, cases[i].blob);
		s = (struct source){.blob = buf_span(&room)};
		render(&r, &s);
		ck_assert_int_eq(r.result, 0);
		ck_assert_str_eq(buf_text(&r.text), cases[i].json);
		ck_assert_uint_eq(r.columns, cases[i].columns);
		ck_assert_uint_eq(r.rows, cases[i].rows);
		ck_assert_uint_eq(r.rows_written, cases[i].rows);
		buf_done(&r.text);
	}
}
END_TEST

START_TEST(what_is_no_table_is_refused)
{
	static const char *const bad[] = {
		"null",
		"[]",
		"{}",
		"{'columns':['a']}",
		"{'columns':['a'],'rows':[]}",
		"{'data':[],'columns':[]}", /* the columns come first */
		"{'columns':'a','data':[]}",
		"{'columns':{},'data':[]}",
		"{'columns':[],'data':{}}",
		"{'columns':[],'data':null}",
		"{'columns':[],'types':{}}",
		"{'columns':[],'parts':[],'types':{},'data':[]}", /* in another order */
		"{'columns':[],'parts':[1],'data':[]}",
		"{'columns':[],'parts':[<00ff>],'data':[]}",
		"!82a7636f6c756d6e7391!",                       /* ends in the columns */
		"!82a7636f6c756d6e7390a464617461dd7fffffff90!", /* 2^31 rows, one is there */
		"!82a7636f6c756d6e73ddffffffffa161!",           /* 2^32 columns */
		"!82a7636f6c756d6e7390a46461746191c1!",         /* a row that is no msgpack */
		"!c1!",
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		auto_buf struct buf room = {.data = NULL};
		struct source s;
		struct rendered r;

		(void)mp_text(&room, bad[i]);
		s = (struct source){.blob = buf_span(&room)};
		render(&r, &s);
		ck_assert_msg(r.result == -EBADMSG, "%s: %d", bad[i], r.result);
		buf_done(&r.text);
	}
}
END_TEST

START_TEST(a_table_that_is_cut_anywhere_is_refused)
{
	auto_buf struct buf room = {.data = NULL};

	(void)mp_text(&room, "{'columns':['a','b'],'data':[[1,'text'],[2.5,{'k':[null]}]]}");
	for (size_t len = 0; len < room.len; len++) {
		struct source s = {.blob = {.at = room.data, .len = len}};
		struct rendered r;

		render(&r, &s);
		ck_assert_int_eq(r.result, -EBADMSG);
		buf_done(&r.text);
	}
}
END_TEST

/* Packs rows of one text of so many bytes each, and writes what is to come out. */
static void make_rows(struct buf *blob, struct buf *json, size_t count, size_t bytes, char fill)
{
	auto_free char *text = mem_alloc(bytes + 1);
	struct pack p;

	ck_assert_ptr_nonnull(text);
	memset(text, fill, bytes);
	text[bytes] = '\0';
	buf_init(blob, (size_t)1 << 30);
	buf_init(json, (size_t)1 << 30);
	pack_init(&p, blob);
	pack_map(&p, 2);
	pack_text(&p, "columns");
	pack_array(&p, 2);
	pack_text(&p, "i");
	pack_text(&p, "text");
	pack_text(&p, "data");
	pack_array(&p, count);
	(void)buf_add_text(json,
			   "{\"columns\":[\"i\",\"text\"],\"data\":["); /* the buf remembers */
	for (size_t i = 0; i < count; i++) {
		pack_array(&p, 2);
		pack_uint(&p, i);
		pack_text(&p, text);
		if (i < TABLE_FILE_ROWS_MAX) {
			(void)buf_printf(json, "%s[%zu,\"", i > 0 ? "," : "", i); /* as above */
			json_escape(json, span_of_text(text));
			(void)buf_add_text(json, "\"]"); /* as above */
		}
	}
	(void)buf_add_text(json, "]}"); /* as above */
	ck_assert_int_eq(blob->error, 0);
	ck_assert_int_eq(json->error, 0);
}

START_TEST(a_big_table_is_rendered_in_pieces_with_the_memory_of_a_few)
{
	static const struct {
		size_t count;
		size_t bytes;
		char fill;
		size_t in_max;
		size_t out_max;
	} cases[] = {
		{100000, 10, 'x', 1 << 20, 1 << 20},
		{8000, 4096, 'x', 1 << 20, 1 << 20},
		{300, 127 << 10, 'x', 1 << 20, 1 << 20}, /* about a read each */
		{300, 128 << 10, '"', 1 << 20, 1 << 20}, /* twice as long when it is out */
		{5, 3 << 20, 'x', 16 << 20, 8 << 20},
		{2, 2 << 20, '\x01', 16 << 20, 32 << 20}, /* six times as long */
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf blob;
		auto_buf struct buf json;
		struct source s;
		struct rendered r;

		make_rows(&blob, &json, cases[i].count, cases[i].bytes, cases[i].fill);
		s = (struct source){.blob = buf_span(&blob)};
		render(&r, &s);
		ck_assert_int_eq(r.result, 0);
		ck_assert(span_equal(buf_span(&r.text), buf_span(&json)));
		ck_assert_uint_eq(r.rows, cases[i].count);
		ck_assert_uint_eq(r.rows_written, cases[i].count < TABLE_FILE_ROWS_MAX
							  ? cases[i].count
							  : TABLE_FILE_ROWS_MAX);
		ck_assert_msg(r.most_in <= cases[i].in_max, "case %zu: %zu", i, r.most_in);
		ck_assert_msg(r.most_out <= cases[i].out_max, "case %zu: %zu", i, r.most_out);
		ck_assert_uint_ge(r.steps, 2);
		buf_done(&r.text);
	}
}
END_TEST

START_TEST(a_row_above_its_bound_is_refused)
{
	auto_buf struct buf blob;
	auto_buf struct buf json;
	struct source s;
	struct rendered r;

	make_rows(&blob, &json, 1, TABLE_ROW_MAX + (1 << 20), 'x');
	s = (struct source){.blob = buf_span(&blob)};
	render(&r, &s);
	ck_assert_int_eq(r.result, -EMSGSIZE);
	buf_done(&r.text);
}
END_TEST

START_TEST(a_row_of_its_bound_is_rendered)
{
	auto_buf struct buf blob;
	auto_buf struct buf json;
	struct source s;
	struct rendered r;

	make_rows(&blob, &json, 2, TABLE_ROW_MAX - 64, 'x');
	s = (struct source){.blob = buf_span(&blob)};
	render(&r, &s);
	ck_assert_int_eq(r.result, 0);
	ck_assert(span_equal(buf_span(&r.text), buf_span(&json)));
	buf_done(&r.text);
}
END_TEST

START_TEST(what_reading_says_is_said)
{
	auto_buf struct buf blob;
	auto_buf struct buf json;

	make_rows(&blob, &json, 2000, 1000, 'x');
	for (int fails_at = 1;; fails_at++) {
		struct source s = {.blob = buf_span(&blob), .fails_at = fails_at};
		struct rendered r;

		render(&r, &s);
		buf_done(&r.text);
		if (s.reads < fails_at) {
			ck_assert_int_eq(r.result, 0);
			ck_assert_int_gt(fails_at, 10);
			return;
		}
		ck_assert_int_eq(r.result, -EIO);
	}
}
END_TEST

static int render_once(struct source *s, struct buf *ret)
{
	struct table t;
	int r = 1;

	table_init(&t, TABLE_RUN_FILE, read_source, s);
	while (r == 1) {
		r = table_step(&t);
		if (r >= 0 && buf_add(ret, t.out.data, t.out.len) < 0)
			r = -ENOMEM;
		buf_clear(&t.out);
	}
	table_done(&t);
	return r;
}

START_TEST(a_table_survives_every_allocation_failure)
{
	auto_buf struct buf blob;
	auto_buf struct buf json;
	auto_buf struct buf out;
	struct source s;

	make_rows(&blob, &json, 500, 2000, '"');
	s = (struct source){.blob = buf_span(&blob)};
	buf_init(&out, 16 << 20);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(render_once(&s, &out), buf_done(&out)), 0);
	ck_assert(span_equal(buf_span(&out), buf_span(&json)));
}
END_TEST

#define NONE_OR(type)                                                                              \
	"{\"wb_type\":\"union\",\"params\":{\"allowed_types\":[{\"wb_type\":\"none\"},"            \
	"{\"wb_type\":\"" type "\"}]}}"
#define ARTIFACT(columns, data, count, rows, mode, types)                                          \
	"{\"_type\":\"table\",\"columns\":" columns ",\"data\":" data ",\"ncols\":" count          \
	",\"nrows\":" rows ",\"log_mode\":\"" mode                                                 \
	"\",\"column_types\":{\"wb_type\":\"typedDict\",\"params\":{\"type_map\":{" types "}}}}"

START_TEST(the_artifact_has_the_types_of_the_columns)
{
	static const struct {
		const char *blob;
		const char *json;
	} cases[] = {
		{"{'columns':[],'data':[]}", ARTIFACT("[]", "[]", "0", "0", "IMMUTABLE", "")},
		{"{'columns':['a',2],'data':[['x',1],[null,NaN]]}",
		 ARTIFACT("[\"a\",2]", "[[\"x\",1],[null,null]]", "2", "2", "IMMUTABLE",
			  "\"a\":" NONE_OR("string") ",\"2\":" NONE_OR("number"))},
		{"{'columns':['a'],'types':{'optional':false,'log_mode':'MUTABLE'},'data':[[1]]}",
		 ARTIFACT("[\"a\"]", "[[1]]", "1", "1", "MUTABLE",
			  "\"a\":{\"wb_type\":\"number\"}")},
		{"{'columns':['a','b'],'types':{'optional':[true,false]},'data':[[1,true]]}",
		 ARTIFACT("[\"a\",\"b\"]", "[[1,true]]", "2", "1", "IMMUTABLE",
			  "\"a\":" NONE_OR("number") ",\"b\":{\"wb_type\":\"boolean\"}")},
		/* rows that are none, or too long, are written as they are */
		{"{'columns':['a'],'data':[3,[1,2],[]]}",
		 ARTIFACT("[\"a\"]", "[3,[1,2],[]]", "1", "3", "IMMUTABLE",
			  "\"a\":" NONE_OR("number"))},
		/* a time: 1000 ms, "then" */
		{"{'columns':['t'],'data':[[!c70c0100000000000003e87468656e!]]}",
		 ARTIFACT("[\"t\"]", "[[1000]]", "1", "1", "IMMUTABLE",
			  "\"t\":" NONE_OR("timestamp"))},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf room = {.data = NULL};
		struct source s;
		struct rendered r;

		(void)mp_text(&room, cases[i].blob);
		s = (struct source){.blob = buf_span(&room)};
		render_as(&r, &s, TABLE_ARTIFACT);
		ck_assert_int_eq(r.result, 0);
		ck_assert_str_eq(buf_text(&r.text), cases[i].json);
		buf_done(&r.text);
	}
}
END_TEST

START_TEST(a_time_is_a_text_in_the_run_file)
{
	auto_buf struct buf room = {.data = NULL};
	struct source s;
	struct rendered r;

	(void)mp_text(&room, "{'columns':['t'],'data':[[!c70c0100000000000003e87468656e!]]}");
	s = (struct source){.blob = buf_span(&room)};
	render(&r, &s);
	ck_assert_str_eq(buf_text(&r.text), "{\"columns\":[\"t\"],\"data\":[[\"then\"]]}");
	buf_done(&r.text);
}
END_TEST

START_TEST(rows_of_other_blobs_come_before_its_own)
{
	struct buf rooms[4] = {{.data = NULL}};
	struct source s = {.fails_at = 0};
	struct rendered r;

	(void)mp_text(&rooms[0],
		      "{'columns':['a'],'parts':"
		      "[<0101010101010101010101010101010101010101010101010101010101010101>,"
		      "<0202020202020202020202020202020202020202020202020202020202020202>,"
		      "<0301010101010101010101010101010101010101010101010101010101010101>],"
		      "'data':[[5]]}");
	(void)mp_text(&rooms[1], "[[1],[2]]");
	(void)mp_text(&rooms[2], "[]");
	(void)mp_text(&rooms[3], "[[3],[4]]");
	s.blob = buf_span(&rooms[0]);
	for (size_t i = 1; i < array_len(rooms); i++)
		s.parts[i] = buf_span(&rooms[i]);
	render(&r, &s);
	ck_assert_int_eq(r.result, 0);
	ck_assert_str_eq(buf_text(&r.text), "{\"columns\":[\"a\"],\"data\":[[1],[2],[3],[4],[5]]}");
	ck_assert_uint_eq(r.rows, 5);
	buf_done(&r.text);
	for (size_t len = 0; len < rooms[3].len; len++) {
		s.parts[3].len = len;
		render(&r, &s);
		ck_assert_int_eq(r.result, -EBADMSG);
		buf_done(&r.text);
	}
	for (size_t i = 0; i < array_len(rooms); i++)
		buf_done(&rooms[i]);
}
END_TEST

/* sha256 of "abc" begins with ba7816bf8f01cfea4141 */
#define ABC      "ba7816bf8f01cfea4141"
#define ABC_REST "40de5dae2223b00361a396177a9cb410ff61f20015ad"

START_TEST(files_in_cells_stand_beside_the_artifact_and_as_their_class_in_the_run_file)
{
	auto_buf struct buf room = {.data = NULL};
	auto_buf struct buf files;
	struct source s;
	struct rendered r;

	buf_init(&files, 4096);
	(void)mp_text(
		&room,
		"{'columns':['a','i'],'data':[[1,{'_type':'image-file','ext':'.png','width':2,"
		"'data':<616263>}],"
		"[2,[{'_type':'image-file','data':<616263>,'ext':'../x'}]],"
		"[3,{'_type':'html-file','ext':'.html'}]]}"); /* without data it is a map */
	s = (struct source){.blob = buf_span(&room), .files = &files};
	render(&r, &s);
	ck_assert_str_eq(buf_text(&r.text),
			 "{\"columns\":[\"a\",\"i\"],\"data\":[[1,\"Image\"],[2,[\"Image\"]],"
			 "[3,{\"_type\":\"html-file\",\"ext\":\".html\"}]]}");
	ck_assert_uint_eq(files.len, 0);
	buf_done(&r.text);
	render_as(&r, &s, TABLE_ARTIFACT);
	ck_assert_ptr_nonnull(strstr(
		buf_text(&r.text),
		"\"data\":[[1,{\"_type\":\"image-file\",\"width\":2,\"path\":\"media/images/" ABC
		".png\",\"sha256\":\"" ABC ABC_REST "\"}],[2,[{\"_type\":\"image-file\","));
	ck_assert_str_eq(buf_text(&files),
			 "media/images/" ABC ".png=abc;media/images/" ABC "=abc;");
	buf_done(&r.text);
}
END_TEST

SUITE_MAIN("table", a_table_becomes_the_run_file, what_is_no_table_is_refused,
	   a_table_that_is_cut_anywhere_is_refused,
	   a_big_table_is_rendered_in_pieces_with_the_memory_of_a_few,
	   a_row_above_its_bound_is_refused, a_row_of_its_bound_is_rendered,
	   the_artifact_has_the_types_of_the_columns, a_time_is_a_text_in_the_run_file,
	   rows_of_other_blobs_come_before_its_own,
	   files_in_cells_stand_beside_the_artifact_and_as_their_class_in_the_run_file,
	   what_reading_says_is_said, a_table_survives_every_allocation_failure)
