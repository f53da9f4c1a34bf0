/* See help.h. */
#include "client/ctl/help.h"

#include "client/ctl/call.h"

#include <stdio.h>
#include <string.h>

enum {
	USAGE_MAX = 160,
	USAGE_WIDTH = 42,
	OPTION_WIDTH = 22,
	PAGE_WIDTH = 96,
	WRAPPED_INDENT = 6,
};

/* A usage line; what does not fit the page goes on below, further in. It breaks before brackets. */
static void add_wrapped(struct buf *out, const char *text, size_t column)
{
	while (strlen(text) > PAGE_WIDTH - column) {
		size_t cut = PAGE_WIDTH - column;

		while (cut > 0 && !(text[cut] == ' ' && text[cut + 1] == '['))
			cut--;
		if (cut == 0)
			break;
		(void)buf_add(out, text, cut); /* errors stay in out */
		(void)buf_printf(out, "\n%*s", WRAPPED_INDENT, "");
		text += cut + 1;
		column = WRAPPED_INDENT;
	}
	(void)buf_add_text(out, text);
}

void help_add_all(struct buf *out)
{
	(void)buf_add_text(out,
			   "wbxctl [--json] [--socket PATH] [--store DIR] COMMAND ...\n"
			   "  asks the wbx daemon of this machine what waits, how delivery goes, "
			   "what was refused\n\n"); /* errors stay in out */
	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		char usage[USAGE_MAX];
		int len = snprintf(usage, sizeof(usage), "%s %s", c->name, c->arguments);

		if (len > USAGE_WIDTH) {
			(void)buf_add_text(out, "  ");
			add_wrapped(out, usage, 2);
			(void)buf_printf(out, "\n  %*s  %s\n", USAGE_WIDTH, "", c->help);
		} else {
			(void)buf_printf(out, "  %-*s  %s\n", USAGE_WIDTH, usage, c->help);
		}
	}
	(void)buf_add_text(out, "\nwbxctl help COMMAND tells its options, wbxctl(1) everything\n");
}

static void add_option(struct buf *out, const struct option *o)
{
	char text[80];
	char letter[8] = "";

	if (o->letter != '\0')
		(void)snprintf(letter, sizeof(letter), "-%c, ", o->letter); /* fits */
	(void)snprintf(text, sizeof(text), "%s--%s%s%s%s", letter, o->name,
		       o->value == VALUE_NONE     ? ""
		       : o->value == VALUE_NEEDED ? " "
						  : "[=",
		       o->value == VALUE_NONE ? "" : o->value_name,
		       o->value == VALUE_NUMBER_MAY ? "]" : "");            /* short names */
	(void)buf_printf(out, "  %-*s  %s\n", OPTION_WIDTH, text, o->help); /* errors stay in out */
}

void help_add_command(struct buf *out, const struct command *c)
{
	char usage[USAGE_MAX];

	(void)snprintf(usage, sizeof(usage), "wbxctl %s %s", c->name, c->arguments); /* fits */
	add_wrapped(out, usage, 0);
	(void)buf_printf(out, "\n  %s\n\n", c->help); /* errors stay in out */
	for (unsigned i = 0; i < OPT_COUNT; i++) {
		if ((c->options & OPT_BIT(i)) != 0)
			add_option(out, &ctl_options[i]);
	}
	for (unsigned i = 0; i < OPT_COUNT; i++) {
		if ((ctl_options_everywhere & OPT_BIT(i)) != 0)
			add_option(out, &ctl_options[i]);
	}
}

/* "dead" alone names several commands: all that begin with the word. */
static bool add_group(struct buf *out, struct span word)
{
	bool found = false;

	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		struct span name = span_of_text(c->name);

		if (name.len <= word.len || name.at[word.len] != ' ' ||
		    !span_equal((struct span){.at = name.at, .len = word.len}, word))
			continue;
		(void)buf_add_text(out, found ? "\n" : ""); /* errors stay in out */
		help_add_command(out, c);
		found = true;
	}
	return found;
}

int help_run(struct call *c)
{
	const struct command *command = NULL;
	size_t used;

	if (c->word_count > 0)
		command = command_find(c->words, c->word_count, &used);
	if (c->word_count == 0)
		help_add_all(&c->out);
	else if (command != NULL)
		help_add_command(&c->out, command);
	else if (!add_group(&c->out, span_of_text(c->words[0])))
		return say_usage(NULL, "there is no such command");
	return CODE_OK;
}
