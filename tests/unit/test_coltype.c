#include "daemon/forward/models/coltype.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <string.h>

#define T(name)     "{\"wb_type\":\"" name "\"}"
#define OR_NONE(x)  "{\"wb_type\":\"union\",\"params\":{\"allowed_types\":[" x "," T("none") "]}}"
#define NONE_OR(x)  "{\"wb_type\":\"union\",\"params\":{\"allowed_types\":[" T("none") "," x "]}}"
#define LIST(x, n)  "{\"wb_type\":\"list\",\"params\":{\"element_type\":" x ",\"length\":" n "}}"
#define DICT(pairs) "{\"wb_type\":\"typedDict\",\"params\":{\"type_map\":{" pairs "}}}"
#define ANY         OR_NONE(T("any"))

/* The cells of one column, as text; what they make of it. W&B's client says the same of all but those
 * that are `any`: it raises there. */
static const struct {
	const char *cells;
	const char *type;
} cases[] = {
	{"[]", NONE_OR(T("unknown"))},
	{"[null]", NONE_OR(T("unknown"))},
	{"[NaN]", NONE_OR(T("unknown"))},
	{"[1,2.5,Infinity,null]", NONE_OR(T("number"))},
	{"['a',null]", NONE_OR(T("string"))},
	{"[NaN,'x']", NONE_OR(T("string"))},
	{"[true]", OR_NONE(T("boolean"))},
	{"[!c708010000000000000000!]", NONE_OR(T("timestamp"))},
	{"[!c70801ffffffffffffffff!,NaN]", NONE_OR(T("timestamp"))},
	{"[!d4ff00!]", NONE_OR(T("unknown"))}, /* no extension of ours */
	{"[[1,2],[3]]", NONE_OR(LIST(T("number"), "1"))},
	{"[[1,null]]", NONE_OR(LIST(NONE_OR(T("number")), "2"))},
	{"[[null,NaN]]", NONE_OR(LIST(NONE_OR(T("unknown")), "2"))},
	{"[[NaN]]", OR_NONE(LIST(T("invalid"), "1"))},
	{"[[1,'a']]", OR_NONE(LIST(T("invalid"), "2"))},
	{"[[]]", NONE_OR(LIST(T("unknown"), "0"))},
	{"[[],[1]]", NONE_OR(LIST(T("number"), "1"))},
	{"[[true]]", OR_NONE(LIST(T("boolean"), "1"))},
	{"[[true,null]]", OR_NONE(LIST(OR_NONE(T("boolean")), "2"))},
	{"[[[1],[2,3]]]", NONE_OR(LIST(LIST(T("number"), "2"), "2"))},
	{"[[[1],['a']],[]]", OR_NONE(LIST(T("invalid"), "0"))},
	{"[{}]", NONE_OR(DICT(""))},
	{"[{'role':'u','content':'x'},{'content':'y','role':'a'}]",
	 NONE_OR(DICT("\"role\":" T("string") ",\"content\":" T("string")))},
	{"[[{'role':'u','content':'x'},{'role':'u','content':'y'}]]",
	 NONE_OR(LIST(DICT("\"role\":" T("string") ",\"content\":" T("string")), "2"))},
	{"[[{'role':'u','content':'x'},{'role':'u','content':null}]]",
	 OR_NONE(LIST(T("invalid"), "2"))},
	{"[[{'role':'u'},{'role':'u','c':1}],[]]", OR_NONE(LIST(T("invalid"), "0"))},
	{"[{'a':null}]", NONE_OR(DICT("\"a\":" T("none")))},
	{"[{'a':[null]}]", NONE_OR(DICT("\"a\":" LIST(NONE_OR(T("unknown")), "1")))},
	{"[{'a':[[1,'x'],[2]],'b':1}]",
	 NONE_OR(DICT("\"a\":" LIST(T("invalid"), "2") ",\"b\":" T("number")))},
	{"[{'a':[1,'x'],'b':1}]",
	 NONE_OR(DICT("\"a\":" LIST(T("invalid"), "2") ",\"b\":" T("number")))},
	{"[{'a':1,'a':'x'}]", NONE_OR(DICT("\"a\":" T("number")))},
	{"[{'_type':'html-file','data':<61>}]", OR_NONE(T("html-file"))},
	{"[{'_type':'video-file','data':<61>}]", NONE_OR(T("video-file"))},
	{"[{'_type':'html-file'}]", NONE_OR(DICT("\"_type\":" T("string")))},
	/* it raises */
	{"[1,'a',2]", ANY},
	{"[1,true]", ANY},
	{"[{'a':null},{'a':1}]", ANY},
	{"[{'a':1},{'b':1}]", ANY},
	{"[{'a':1},{}]", ANY},
	{"[[1],['a']]", ANY},
	{"[{'_type':'html-file','data':<61>},{'_type':'audio-file','data':<61>}]", ANY},
	{"[[1],{'a':1}]", ANY},
};

static void take(struct coltypes *t, struct mp cells)
{
	struct mp_value head;

	ck_assert_int_eq(mp_read(&cells, &head), 0);
	for (uint32_t i = 0; i < head.count; i++) {
		struct span cell;

		ck_assert_int_eq(mp_take(&cells, &cell), 0);
		ck_assert_int_eq(coltypes_cell(t, 0, cell), 0);
	}
}

START_TEST(a_column_has_the_type_of_its_cells)
{
	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf room = {.data = NULL};
		auto_buf struct buf out;
		struct coltypes t;
		struct json j;

		buf_init(&out, 1 << 20);
		json_init(&j, &out);
		coltypes_init(&t);
		ck_assert_int_eq(coltypes_add(&t, true, false), 0);
		take(&t, mp_text(&room, cases[i].cells));
		coltypes_write(&t, 0, &j);
		ck_assert_str_eq(buf_text(&out), cases[i].type);
		coltypes_done(&t);
	}
}
END_TEST

/* What is deep, or wide, or of many keys costs no more than its bound, and is of any type. */
START_TEST(structure_is_bounded)
{
	auto_buf struct buf cells;
	auto_buf struct buf out;
	struct coltypes t;
	struct json j;
	static const uint8_t deep[] = {0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91,
				       0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0xc0};

	buf_init(&cells, 1 << 20);
	buf_init(&out, 16 << 20);
	json_init(&j, &out);
	coltypes_init(&t);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(coltypes_add(&t, true, false), 0);
	ck_assert_int_eq(coltypes_cell(&t, 0, (struct span){.at = deep, .len = sizeof(deep)}), 0);
	(void)buf_add(&cells, "\xde\x10\x00", 3); /* 4,096 pairs; the buf remembers */
	for (int i = 0; i < 4096; i++)
		(void)buf_printf(&cells, "%ck%04d%c", 0xa5, i, 1);
	ck_assert_int_eq(coltypes_cell(&t, 1, buf_span(&cells)), 0);
	buf_clear(&cells);
	(void)buf_add(&cells, "\xdc\x40\x00", 3); /* 16,384 lists */
	for (int i = 0; i < 16384; i++)
		(void)buf_add(&cells, "\x91\x01", 2);
	ck_assert_int_eq(coltypes_cell(&t, 2, buf_span(&cells)), 0);
	for (uint32_t i = 0; i < 3; i++) {
		coltypes_write(&t, i, &j);
		ck_assert_int_eq(out.error, 0);
		buf_clear(&out);
		json_init(&j, &out);
	}
	ck_assert_uint_le(t.count, TYPE_NODES_MAX);
	coltypes_done(&t);
}
END_TEST

static int take_all(struct span cell)
{
	struct coltypes t;
	int r;

	coltypes_init(&t);
	r = coltypes_add(&t, true, false);
	if (r == 0)
		r = coltypes_cell(&t, 0, cell);
	coltypes_done(&t);
	return r;
}

START_TEST(types_survive_every_allocation_failure)
{
	auto_buf struct buf room = {.data = NULL};
	struct mp cell = mp_text(&room, "[{'a':[1,'x'],'b':{'c':[[],[1]]}},{'a':[],'b':{'c':[]}}]");
	struct span all = {.at = cell.at, .len = mp_left(&cell)};

	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(take_all(all), (void)0), 0);
}
END_TEST

SUITE_MAIN("coltype", a_column_has_the_type_of_its_cells, structure_is_bounded,
	   types_survive_every_allocation_failure)
