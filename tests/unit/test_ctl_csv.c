#include "client/ctl/csv.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <stdio.h>

/* Rows in, the whole table out. 0, or what failed. */
static int make_table(const char *const *rows, size_t count, struct buf *out)
{
	struct columns c;
	int r = 0;

	columns_init(&c);
	for (int pass = 0; r == 0 && pass < 2; pass++) {
		for (size_t i = 0; r == 0 && i < count; i++) {
			auto_buf struct buf row = {0};
			struct span bytes;

			(void)mp_text(&row, rows[i]); /* fails the test itself */
			bytes = buf_span(&row);

			r = pass == 0 ? columns_add_row(&c, bytes)
				      : columns_print_row(&c, bytes, out);
		}
		if (r == 0 && pass == 0)
			r = columns_print_names(&c, out);
	}
	columns_done(&c);
	return r;
}

static void check_table(const char *const *rows, size_t count, const char *want)
{
	auto_buf struct buf out = {0};

	buf_init(&out, 1 << 20);
	ck_assert_int_eq(make_table(rows, count, &out), 0);
	ck_assert_int_eq(out.error, 0);
	ck_assert_str_eq(buf_text(&out), want);
}

START_TEST(columns_come_in_their_order_and_w_and_b_s_own_first)
{
	static const char *const rows[] = {
		"{'b':1,'_timestamp':2.5,'_step':0}",
		"{'a':2,'b':3,'_runtime':1,'_step':1}",
	};

	check_table(rows, 2, "_step,_timestamp,_runtime,b,a\n0,2.5,,1,\n1,,1,3,2\n");
}
END_TEST

START_TEST(nested_keys_are_joined_and_lists_and_media_are_json)
{
	static const char *const rows[] = {
		"{'a':{'b':{'c':1},'d':2},'l':[1,{'x':null}],'m':{'_type':'html','p':{'q':1}},'e':{"
		"}}",
	};

	check_table(rows, 1,
		    "a.b.c,a.d,l,m,e\n"
		    "1,2,\"[1,{\"\"x\"\":null}]\",\"{\"\"_type\"\":\"\"html\"\",\"\"p\"\":{"
		    "\"\"q\"\":1}}\",{}\n");
}
END_TEST

START_TEST(columns_that_look_alike_stay_two)
{
	static const char *const rows[] = {"{'a.b':1,'a':{'b':2}}", "{'a':{'b':3}}"};

	check_table(rows, 2, "a.b,a.b\n1,2\n,3\n");
}
END_TEST

START_TEST(text_is_quoted_where_it_has_to_be)
{
	static const char *const rows[] = {
		"{'p':'plain','c':'a,b','q':'say \"x\"','n':'two\nlines','s':' "
		"x','e':'','z':null}",
	};

	check_table(rows, 1,
		    "p,c,q,n,s,e,z\nplain,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\" x\",\"\",\n");
}
END_TEST

START_TEST(rows_that_are_none_are_refused)
{
	static const char *const no_map[] = {"[1,2]"};
	static const uint8_t cut[] = {0x81, 0xa1, 'a'};
	struct columns c;
	auto_buf struct buf out = {0};
	auto_buf struct buf row = {0};

	buf_init(&out, 1000);
	ck_assert_int_eq(make_table(no_map, 1, &out), -EBADMSG);
	columns_init(&c);
	ck_assert_int_eq(columns_add_row(&c, (struct span){.at = cut, .len = sizeof(cut)}),
			 -EBADMSG);
	(void)mp_text(&row, "{'new':1}");
	ck_assert_int_eq(columns_print_row(&c, buf_span(&row), &out), -ENOENT);
	columns_done(&c);
}
END_TEST

START_TEST(many_columns_are_found_in_any_order)
{
	enum {
		COUNT = 2000
	};
	struct columns c;
	auto_buf struct buf out = {0};

	buf_init(&out, 1 << 20);
	columns_init(&c);
	for (unsigned i = 0; i < 2 * COUNT; i++) { /* each twice, in another order */
		auto_buf struct buf row = {0};
		char text[32];

		(void)snprintf(text, sizeof(text), "{'k%u':%u}", i * 7919 % COUNT, i % COUNT);
		(void)mp_text(&row, text);
		ck_assert_int_eq(columns_add_row(&c, buf_span(&row)), 0);
	}
	ck_assert_uint_eq(c.count, COUNT);
	ck_assert_int_eq(columns_print_names(&c, &out), 0);
	ck_assert_int_eq(strncmp(buf_text(&out), "k0,k1919,k1838,", 15), 0);
	columns_done(&c);
}
END_TEST

static int table_of(const struct buf rows[2], struct buf *out)
{
	struct columns c;
	int r = 0;

	buf_clear(out);
	columns_init(&c);
	for (int i = 0; r == 0 && i < 2; i++)
		r = columns_add_row(&c, buf_span(&rows[i]));
	if (r == 0)
		r = columns_print_names(&c, out);
	for (int i = 0; r == 0 && i < 2; i++)
		r = columns_print_row(&c, buf_span(&rows[i]), out);
	columns_done(&c);
	return r == 0 ? out->error : r;
}

START_TEST(a_table_survives_every_allocation_failure)
{
	struct buf rows[2] = {{0}};
	struct buf out;

	(void)mp_text(&rows[0], "{'a':{'b':[1]},'c':'x'}");
	(void)mp_text(&rows[1], "{'d':2.5,'a':{'b':1}}");
	buf_init(&out, 1000);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(table_of(rows, &out), buf_done(&out)), 0);
	ck_assert_str_eq(buf_text(&out), "a.b,c,d\n[1],x,\n1,,2.5\n");
	buf_done(&out);
	buf_done(&rows[0]);
	buf_done(&rows[1]);
}
END_TEST

SUITE_MAIN("ctl_csv", columns_come_in_their_order_and_w_and_b_s_own_first,
	   nested_keys_are_joined_and_lists_and_media_are_json, columns_that_look_alike_stay_two,
	   text_is_quoted_where_it_has_to_be, rows_that_are_none_are_refused,
	   many_columns_are_found_in_any_order, a_table_survives_every_allocation_failure)
