#include "daemon/forward/models/console.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

/* --- what a console says, a line each --- */

struct box {
	struct console console;
	struct buf said; /* ended lines, each with '|' behind it */
};

static void box_init(struct box *b)
{
	*b = (struct box){.console = {.count = 0}};
	buf_init(&b->said, 1 << 24);
}

static void box_done(struct box *b)
{
	console_done(&b->console);
	buf_done(&b->said);
}

static int feed(struct box *b, int64_t producer, bool is_error, struct span text)
{
	const struct console_writer w = {
		.producer = producer, .is_error = is_error, .time_us = (int64_t)b->said.len};
	size_t line;
	int r;

	while ((r = console_feed(&b->console, &w, &text, &line)) == 1) {
		const struct buf *ended = &b->console.lines[line].text;

		(void)buf_add(&b->said, ended->data, ended->len);
		(void)buf_add_byte(&b->said, '|');
		console_drop(&b->console, line);
	}
	return r;
}

static void says(struct box *b, const char *text)
{
	ck_assert_int_eq(feed(b, 1, false, span_of_text(text)), 0);
}

/* As W&B's client 0.31.0 sent it, where it was asked; %: what has not ended. */
START_TEST(a_carriage_return_rewrites_the_line)
{
	static const struct {
		const char *text;
		const char *lines;
		const char *open;
	} cases[] = {
		{"hello\n", "hello|", ""},
		{"\n\n", "||", ""},
		{"10%\r20%\r100% done\n", "100% done|", ""},
		{"longer line\rsh\n", "shnger line|", ""},
		{"a\r\nb\r\n", "a|b|", ""},
		{"12345\x1b[2K\rnew\n", "new45\x1b[2K|", ""},
		{"\rE\r\rF\n", "F|", ""},
		{"\r", "", ""},
		{"prog 1\rprog 2\r", "", "prog 2"},
		{"\xe6\xbc\xa2\xe5\xad\x97\ra\n", "a\xe5\xad\x97|", ""},
		{"ab\r\xe6\xbc\xa2\n",
		 "\xe6\xbc\xa2"
		 "b|",
		 ""},
		{"e\xcc\x81x\ray\n", "ayx|", ""},
		{"\xff\xfex\ra\n", "a\xfex|", ""},
		{"tab\there\bX\n", "tab\there\bX|", ""},
		{"no end", "", "no end"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct box b;

		box_init(&b);
		says(&b, cases[i].text);
		ck_assert_str_eq(buf_text(&b.said), cases[i].lines);
		ck_assert_uint_eq(b.console.count, cases[i].open[0] == '\0' ? 0 : 1);
		if (b.console.count > 0)
			ck_assert_str_eq(buf_text(&b.console.lines[0].text), cases[i].open);
		box_done(&b);
	}
}
END_TEST

START_TEST(pieces_say_what_the_whole_says)
{
	static const char text[] = "one\ntwo\r\nab\xe6\xbc\xa2\xe5\xad\x97\rxy\r\n\rlast\rL\n\n";
	struct box whole;

	box_init(&whole);
	says(&whole, text);
	for (size_t piece = 1; piece < sizeof(text); piece++) {
		struct box b;

		box_init(&b);
		for (size_t at = 0; at < sizeof(text) - 1; at += piece) {
			size_t len = sizeof(text) - 1 - at < piece ? sizeof(text) - 1 - at : piece;

			ck_assert_int_eq(
				feed(&b, 1, false,
				     (struct span){.at = (const uint8_t *)text + at, .len = len}),
				0);
		}
		ck_assert_str_eq(buf_text(&b.said), buf_text(&whole.said));
		box_done(&b);
	}
	box_done(&whole);
}
END_TEST

START_TEST(processes_and_streams_have_lines_of_their_own)
{
	struct box b;

	box_init(&b);
	ck_assert_int_eq(feed(&b, 1, false, SPAN_LITERAL("a1 ")), 0);
	ck_assert_int_eq(feed(&b, 2, false, SPAN_LITERAL("b1 ")), 0);
	ck_assert_int_eq(feed(&b, 1, true, SPAN_LITERAL("e1 ")), 0);
	ck_assert_uint_eq(b.console.count, 3);
	ck_assert_int_eq(feed(&b, 1, true, SPAN_LITERAL("e2\n")), 0);
	ck_assert_int_eq(feed(&b, 1, false, SPAN_LITERAL("a2\n")), 0);
	ck_assert_int_eq(feed(&b, 2, false, SPAN_LITERAL("b2\n")), 0);
	ck_assert_str_eq(buf_text(&b.said), "e1 e2|a1 a2|b1 b2|");
	box_done(&b);
}
END_TEST

START_TEST(lines_and_their_number_are_bounded_and_nothing_is_lost)
{
	auto_buf struct buf text;
	struct box b;
	size_t kept = 0;

	box_init(&b);
	buf_init(&text, 1 << 20);
	for (int i = 0; i < 20000; i++)
		ck_assert_int_eq(buf_add_text(&text, "\xe6\xbc\xa2"), 0); /* cut between them */
	ck_assert_int_eq(feed(&b, 1, false, buf_span(&text)), 0);
	ck_assert_uint_eq(b.console.count, 1);
	for (size_t i = 0; i < b.said.len; i++)
		kept += b.said.data[i] != '|';
	ck_assert_uint_eq(kept + b.console.lines[0].text.len, text.len);
	ck_assert_uint_eq(b.said.len - kept, 3);
	for (int i = 0; i < CONSOLE_OPEN_MAX + 5; i++)
		ck_assert_int_eq(feed(&b, 100 + i, false, SPAN_LITERAL("x")), 0);
	ck_assert_uint_eq(b.console.count, CONSOLE_OPEN_MAX);
	ck_assert_int_eq(b.console.lines[0].producer, 100 + 5);
	box_done(&b);
}
END_TEST

START_TEST(lines_are_written_as_w_b_takes_them)
{
	struct console c = {.count = 0};
	struct console_writer w = {.producer = 1, .time_us = 1795346659146402};
	struct span text = SPAN_LITERAL("a \"b\" \x01");
	auto_buf struct buf out;
	size_t line;

	buf_init(&out, 1 << 20);
	ck_assert_int_eq(console_feed(&c, &w, &text, &line), 0);
	w.is_error = true;
	w.label = SPAN_LITERAL("rank 1");
	text = SPAN_LITERAL("x");
	ck_assert_int_eq(console_feed(&c, &w, &text, &line), 0);
	console_line_text(&c.lines[0], true, &out);
	ck_assert_str_eq(
		buf_text(&out),
		"{\"ts\":\"2026-11-22T11:24:19.146402\",\"content\":\"a \\\"b\\\" \\u0001\"}");
	buf_clear(&out);
	console_line_text(&c.lines[1], true, &out);
	ck_assert_str_eq(buf_text(&out),
			 "{\"level\":\"error\",\"ts\":\"2026-11-22T11:24:19.146402\",\"label\":"
			 "\"rank 1\",\"content\":\"x\"}");
	buf_clear(&out);
	console_line_text(&c.lines[0], false, &out);
	ck_assert_str_eq(buf_text(&out), "2026-11-22T11:24:19.146402 a \"b\" \x01");
	buf_clear(&out);
	console_line_text(&c.lines[1], false, &out);
	ck_assert_str_eq(buf_text(&out), "ERROR 2026-11-22T11:24:19.146402 [rank 1] x");
	console_done(&c);
}
END_TEST

static int feed_once(struct box *b)
{
	int r = feed(b, 1, false, SPAN_LITERAL("one\ntwo\rT\nthree"));

	return r == 0 ? feed(b, 2, true, SPAN_LITERAL("x")) : r;
}

START_TEST(a_console_survives_every_allocation_failure)
{
	struct box b;

	box_init(&b);
	ck_assert_int_eq(buf_reserve(&b.said, 1000), 0);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(
				 feed_once(&b), (console_done(&b.console), buf_clear(&b.said))),
			 0);
	ck_assert_str_eq(buf_text(&b.said), "one|Two|");
	ck_assert_uint_eq(b.console.count, 2);
	box_done(&b);
}
END_TEST

SUITE_MAIN("console", a_carriage_return_rewrites_the_line, pieces_say_what_the_whole_says,
	   processes_and_streams_have_lines_of_their_own,
	   lines_and_their_number_are_bounded_and_nothing_is_lost,
	   lines_are_written_as_w_b_takes_them, a_console_survives_every_allocation_failure)
