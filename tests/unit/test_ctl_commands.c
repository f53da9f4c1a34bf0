#include "client/ctl/call.h"
#include "client/ctl/completion.h"
#include "client/ctl/help.h"
#include "proto/kind.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

/* --- options --- */

enum {
	TEST_ALL,
	TEST_LINES,
	TEST_WATCH,
	TEST_COUNT
};
static const struct option options[TEST_COUNT] = {
	[TEST_ALL] = {"all", 'a', VALUE_NONE, NULL, NULL, ""},
	[TEST_LINES] = {"lines", 'n', VALUE_NEEDED, "N", NULL, ""},
	[TEST_WATCH] = {"watch", 0, VALUE_NUMBER_MAY, "S", NULL, ""},
};

struct taken {
	const char *values[TEST_COUNT];
};

static int on_option(void *arg, size_t number, const char *value)
{
	((struct taken *)arg)->values[number] = value;
	return 0;
}

/* Reads a command line of words between spaces; the words that are left, between spaces. */
static int read_line(const char *line, struct taken *ret, char ret_words[256],
		     char ret_error[OPTIONS_ERROR_MAX])
{
	const struct option_table table = {
		.options = options, .count = TEST_COUNT, .on_option = on_option, .arg = ret};
	static char text[256];
	char *argv[32] = {text};
	int argc = 1;
	size_t words = 0;
	char *save = NULL;
	int r;

	*ret = (struct taken){{NULL}};
	(void)snprintf(text, sizeof(text), "%s", line);
	for (char *at = strtok_r(text, " ", &save); at != NULL; at = strtok_r(NULL, " ", &save))
		argv[argc++] = at;
	r = options_read(&table, argc, argv, &words, ret_error);
	ret_words[0] = '\0';
	for (size_t i = 0, len = 0; r == 0 && i < words; i++)
		len += (size_t)snprintf(ret_words + len, 256 - len, "%s%s", i > 0 ? " " : "",
					argv[i]);
	return r;
}

START_TEST(options_and_words_come_in_any_order)
{
	static const struct {
		const char *line;
		const char *all;
		const char *lines;
		const char *watch;
		const char *words;
	} cases[] = {
		{"a b", NULL, NULL, NULL, "a b"},
		{"--all a", "", NULL, NULL, "a"},
		{"a --lines 5 b", NULL, "5", NULL, "a b"},
		{"a --lines=5", NULL, "5", NULL, "a"},
		{"-n5 a", NULL, "5", NULL, "a"},
		{"-n 5 a", NULL, "5", NULL, "a"},
		{"-an5", "", "5", NULL, ""},
		{"--watch a", NULL, NULL, "", "a"},
		{"--watch 5 a", NULL, NULL, "5", "a"},
		{"--watch=5", NULL, NULL, "5", ""},
		{"a -- --all -", NULL, NULL, NULL, "a --all -"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		char error[OPTIONS_ERROR_MAX];
		char words[256];
		struct taken t;

		ck_assert_int_eq(read_line(cases[i].line, &t, words, error), 0);
		ck_assert_pstr_eq(t.values[TEST_ALL], cases[i].all);
		ck_assert_pstr_eq(t.values[TEST_LINES], cases[i].lines);
		ck_assert_pstr_eq(t.values[TEST_WATCH], cases[i].watch);
		ck_assert_str_eq(words, cases[i].words);
	}
}
END_TEST

START_TEST(wrong_options_are_named)
{
	static const struct {
		const char *line;
		const char *error;
	} cases[] = {
		{"--frob", "there is no option --frob"}, {"--lin=5", "there is no option --lin=5"},
		{"-x", "there is no option -x"},         {"a --lines", "--lines needs a value"},
		{"-n", "--lines needs a value"},         {"--all=3", "--all takes no value"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		char error[OPTIONS_ERROR_MAX];
		char words[256];
		struct taken t;

		ck_assert_int_eq(read_line(cases[i].line, &t, words, error), -EINVAL);
		ck_assert_str_eq(error, cases[i].error);
	}
}
END_TEST

/* --- the table --- */

/* As a whole word: --json is not in --jsonl, --all not in --all-delivered. */
static bool names_option(const char *usage, const char *option)
{
	size_t len = strlen(option);

	for (; (usage = strstr(usage, option)) != NULL; usage += len) {
		if ((usage[len] < 'a' || usage[len] > 'z') && usage[len] != '-')
			return true;
	}
	return false;
}

START_TEST(usage_lines_name_every_option_of_their_command)
{
	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		ck_assert_uint_eq(c->options & ctl_options_everywhere, 0);
		for (unsigned i = 0; i < OPT_COUNT; i++) {
			char text[32];

			if (ctl_options[i].letter != '\0')
				(void)snprintf(text, sizeof(text), "[-%c", ctl_options[i].letter);
			else
				(void)snprintf(text, sizeof(text), "--%s", ctl_options[i].name);
			ck_assert_msg(names_option(c->arguments, text) ==
					      ((c->options & OPT_BIT(i)) != 0),
				      "%s and %s", c->name, text);
		}
	}
}
END_TEST

START_TEST(every_command_stands_in_help_and_completions)
{
	void (*const makers[])(struct buf *) = {help_add_all, completion_add_bash,
						completion_add_zsh};

	for (size_t m = 0; m < array_len(makers); m++) {
		auto_buf struct buf b = {0};

		buf_init(&b, 1 << 20);
		makers[m](&b);
		for (const struct command *c = ctl_commands; c->name != NULL; c++) {
			char text[64];

			(void)snprintf(text, sizeof(text), m == 0 ? "  %s " : "'%s '*)", c->name);
			ck_assert_msg(strstr(buf_text(&b), text) != NULL, "no %s in text %zu", text,
				      m);
		}
	}
}
END_TEST

START_TEST(help_fits_the_page)
{
	auto_buf struct buf b = {0};
	size_t column = 0;

	buf_init(&b, 1 << 20);
	help_add_all(&b);
	for (const struct command *c = ctl_commands; c->name != NULL; c++)
		help_add_command(&b, c);
	ck_assert_int_eq(b.error, 0);
	for (size_t i = 0; i < b.len; i++) {
		column = b.data[i] == '\n' ? 0 : column + 1;
		ck_assert_uint_le(column, 100);
	}
}
END_TEST

START_TEST(kinds_that_can_be_asked_for_are_those_that_are_stored)
{
	char text[256];

	(void)snprintf(text, sizeof(text), " %s ", ctl_options[OPT_KIND].choices);
	for (unsigned k = 0; k < KIND_COUNT; k++) {
		const struct kind_info *info = kind_info((enum kind)k);
		char word[64];

		(void)snprintf(word, sizeof(word), " %s ", info->name);
		ck_assert_msg((strstr(text, word) != NULL) == info->stored, "%s", info->name);
	}
}
END_TEST

START_TEST(commands_of_two_words_are_found_by_both)
{
	static char dead[] = "dead";
	static char show[] = "show";
	static char more[] = "7";
	static char runs[] = "runs";
	char *const two[] = {dead, show, more};
	char *const one[] = {runs, show};
	size_t used = 0;

	ck_assert_str_eq(command_find(two, 3, &used)->name, "dead show");
	ck_assert_uint_eq(used, 2);
	ck_assert_str_eq(command_find(one, 2, &used)->name, "runs");
	ck_assert_uint_eq(used, 1);
	ck_assert_ptr_null(command_find(two, 1, &used));
	ck_assert_ptr_null(command_find(two + 2, 1, &used));
	ck_assert_ptr_null(command_find(two, 0, &used));
}
END_TEST

/* --- calls --- */

/* What the command line of words between spaces is answered with. */
static int init_call(struct call *c, const char *line)
{
	static char text[256];
	static char *argv[32];
	int argc = 1;
	char *save = NULL;

	(void)snprintf(text, sizeof(text), "%s", line);
	argv[0] = text;
	for (char *at = strtok_r(text, " ", &save); at != NULL; at = strtok_r(NULL, " ", &save))
		argv[argc++] = at;
	return call_init(c, argc, argv);
}

START_TEST(wrong_command_lines_end_with_64)
{
	static const char *const lines[] = {
		"",         "frob",       "dead",      "dead frob", "status now",
		"--frob",   "pause",      "pause a b", "dead show", "status --kind log",
		"runs a b", "tail --all", "flush a",   "dead drop", "completion",
	};

	for (size_t i = 0; i < array_len(lines); i++) {
		struct call c;

		ck_assert_msg(init_call(&c, lines[i]) == CODE_USAGE, "%s", lines[i]);
		call_done(&c);
	}
}
END_TEST

START_TEST(right_command_lines_find_command_words_and_store)
{
	struct call c;

	(void)unsetenv("WBX_SOCKET");
	ck_assert_int_eq(init_call(&c, "--socket /a/b/wbx.sock dead retry 3 4 --json"), CODE_OK);
	ck_assert_str_eq(c.command->name, "dead retry");
	ck_assert_uint_eq(c.word_count, 2);
	ck_assert_str_eq(c.words[1], "4");
	ck_assert(call_has(&c, OPT_JSON));
	ck_assert_str_eq(c.place.control, "/a/b/ctl.sock");
	ck_assert_str_eq(c.store, "/a/b/store");
	ck_assert_int_eq(c.kind, DAEMON_ELSEWHERE);
	ck_assert(!c.store_only);
	call_done(&c);
	ck_assert_int_eq(init_call(&c, "status --store /x"), CODE_OK);
	ck_assert_str_eq(c.store, "/x");
	ck_assert(c.store_only);
	call_done(&c);
	ck_assert_int_eq(init_call(&c, "status --socket /run/wbx.sock --store /x"), CODE_OK);
	ck_assert(!c.store_only);
	call_done(&c);
	ck_assert_int_eq(init_call(&c, "dead --help"), CODE_OK);
	ck_assert_str_eq(c.command->name, "help");
	ck_assert_str_eq(c.words[0], "dead");
	call_done(&c);
}
END_TEST

START_TEST(without_a_daemon_what_needs_one_ends_with_69_and_what_reads_with_3)
{
	struct call c;

	(void)setenv("PATH", "/nowhere", 1);
	ck_assert_int_eq(init_call(&c, "retry --socket /nowhere/wbx.sock"), CODE_OK);
	ck_assert_int_eq(c.command->run(&c), CODE_AWAY);
	call_done(&c);
	ck_assert_int_eq(init_call(&c, "runs --socket /nowhere/wbx.sock"), CODE_OK);
	ck_assert_int_eq(c.command->run(&c), CODE_UNREACHABLE);
	call_done(&c);
	ck_assert_int_eq(init_call(&c, "status --socket /nowhere/wbx.sock"), CODE_OK);
	ck_assert_int_eq(c.command->run(&c), CODE_UNREACHABLE);
	call_done(&c);
}
END_TEST

SUITE_MAIN("ctl_commands", options_and_words_come_in_any_order, wrong_options_are_named,
	   usage_lines_name_every_option_of_their_command,
	   every_command_stands_in_help_and_completions, help_fits_the_page,
	   kinds_that_can_be_asked_for_are_those_that_are_stored,
	   commands_of_two_words_are_found_by_both, wrong_command_lines_end_with_64,
	   right_command_lines_find_command_words_and_store,
	   without_a_daemon_what_needs_one_ends_with_69_and_what_reads_with_3)
