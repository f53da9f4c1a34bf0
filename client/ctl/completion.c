/* See completion.h. Both scripts know commands, their options, and values that are a fixed set. */
#include "client/ctl/completion.h"

#include "client/ctl/call.h"
#include "client/ctl/commands.h"

#include <string.h>

/* The first words of the commands, each once. */
static void add_first_words(struct buf *out)
{
	const char *before = "";

	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		size_t len = strcspn(c->name, " ");

		if (strncmp(before, c->name, len) == 0 && strcspn(before, " ") == len)
			continue;
		(void)buf_printf(out, "%s%.*s", before[0] == '\0' ? "" : " ", (int)len,
				 c->name); /* errors stay in out */
		before = c->name;
	}
}

/* What may stand behind the first word of a command of two words. */
static void add_second_words(struct buf *out, const char *first, size_t len)
{
	bool any = false;

	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		if (strncmp(c->name, first, len) != 0 || c->name[len] != ' ')
			continue;
		(void)buf_printf(out, "%s%s", any ? " " : "", c->name + len + 1);
		any = true;
	}
}

/* A command's options and words. */
static void add_arguments(struct buf *out, const struct command *c)
{
	uint64_t options = c->options | ctl_options_everywhere;

	if (c->choices != NULL)
		(void)buf_add_text(out, c->choices);
	else if (strcmp(c->name, "help") == 0)
		add_first_words(out);
	for (unsigned i = 0; i < OPT_COUNT; i++) {
		if ((options & OPT_BIT(i)) != 0)
			(void)buf_printf(out, " --%s", ctl_options[i].name);
	}
}

/* A pattern of both shells: values of options are no words of the command. */
static void add_skips(struct buf *out)
{
	const char *before = "\t\t";

	for (unsigned i = 0; i < OPT_COUNT; i++) {
		const struct option *o = &ctl_options[i];

		if (o->value != VALUE_NEEDED)
			continue;
		(void)buf_printf(out, "%s--%s", before, o->name); /* errors stay in out */
		if (o->letter != 0)
			(void)buf_printf(out, "|-%c", o->letter);
		before = "|";
	}
	(void)buf_add_text(out, ") ((i++)) ;;\n");
}

/* --- bash --- */

static void add_bash_values(struct buf *out)
{
	(void)buf_add_text(out, "\tcase $prev in\n"); /* errors stay in out */
	for (unsigned i = 0; i < OPT_COUNT; i++) {
		const struct option *o = &ctl_options[i];

		if (o->choices != NULL)
			(void)buf_printf(out, "\t--%s) words='%s' ;;\n", o->name, o->choices);
		else if (i == OPT_SOCKET || i == OPT_STORE)
			(void)buf_printf(
				out, "\t--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
				o->name);
		else if (o->value == VALUE_NEEDED)
			(void)buf_printf(out, "\t--%s) return ;;\n", o->name);
	}
	(void)buf_add_text(out, "\tesac\n");
}

static void add_bash_commands(struct buf *out)
{
	(void)buf_add_text(out, "\t[ -n \"$words\" ] || case \"$command \" in\n");
	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		(void)buf_printf(out, "\t'%s '*) words='", c->name);
		add_arguments(out, c);
		(void)buf_add_text(out, "' ;;\n");
	}
	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		size_t len = strcspn(c->name, " ");

		if (c->name[len] == '\0' ||
		    (c != ctl_commands && strncmp(c[-1].name, c->name, len + 1) == 0))
			continue;
		(void)buf_printf(out, "\t'%.*s '*) words='", (int)len, c->name);
		add_second_words(out, c->name, len);
		(void)buf_add_text(out, "' ;;\n");
	}
	(void)buf_add_text(out, "\t*) words='");
	add_first_words(out);
	(void)buf_add_text(out, "' ;;\n\tesac\n");
}

void completion_add_bash(struct buf *out)
{
	(void)buf_add_text(out, "# bash completion of wbxctl; made by: wbxctl completion bash\n"
				"_wbxctl() {\n"
				"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev= command= words= i\n"
				"\t((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
				"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
				"\t\tcase ${COMP_WORDS[i]} in\n");
	add_skips(out);
	(void)buf_add_text(out, "\t\t-*) ;;\n"
				"\t\t*) command+=\"${command:+ }${COMP_WORDS[i]}\" ;;\n"
				"\t\tesac\n"
				"\tdone\n"); /* errors stay in out */
	add_bash_values(out);
	add_bash_commands(out);
	(void)buf_add_text(out, "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
				"}\n"
				"complete -o default -F _wbxctl wbxctl\n");
}

/* --- zsh --- */

/* A text inside single quotes of _describe: colons and quotes would end it. */
static void add_zsh_text(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == ':')
			(void)buf_add_byte(out, '\\'); /* errors stay in out */
		(void)buf_add_byte(out, *text == '\'' ? '`' : (uint8_t)*text);
	}
}

static void add_zsh_options(struct buf *out, const struct command *c)
{
	uint64_t options = c->options | ctl_options_everywhere;

	for (unsigned i = 0; i < OPT_COUNT; i++) {
		if ((options & OPT_BIT(i)) == 0)
			continue;
		(void)buf_printf(out, " '--%s:", ctl_options[i].name);
		add_zsh_text(out, ctl_options[i].help);
		(void)buf_add_text(out, "'");
	}
}

static void add_zsh_command(struct buf *out, const struct command *c)
{
	(void)buf_printf(out, "\t'%s '*)\n", c->name); /* errors stay in out */
	if (c->choices != NULL)
		(void)buf_printf(out, "\t\tcompadd -- %s\n", c->choices);
	else if (strcmp(c->name, "help") == 0)
		(void)buf_add_text(out, "\t\tcompadd -- $first\n");
	(void)buf_add_text(out, "\t\toptions=(");
	add_zsh_options(out, c);
	(void)buf_add_text(out, ")\n\t\t_describe -o option options ;;\n");
}

static void add_zsh_values(struct buf *out)
{
	(void)buf_add_text(out, "\tcase $words[CURRENT-1] in\n"); /* errors stay in out */
	for (unsigned i = 0; i < OPT_COUNT; i++) {
		const struct option *o = &ctl_options[i];

		if (o->choices != NULL)
			(void)buf_printf(out, "\t--%s) compadd -- %s; return ;;\n", o->name,
					 o->choices);
		else if (i == OPT_SOCKET || i == OPT_STORE)
			(void)buf_printf(out, "\t--%s) _files; return ;;\n", o->name);
		else if (o->value == VALUE_NEEDED)
			(void)buf_printf(out, "\t--%s) return ;;\n", o->name);
	}
	(void)buf_add_text(out, "\tesac\n");
}

void completion_add_zsh(struct buf *out)
{
	(void)buf_add_text(out, "#compdef wbxctl\n"
				"# zsh completion of wbxctl; made by: wbxctl completion zsh\n"
				"_wbxctl() {\n"
				"\tlocal -a first second options\n"
				"\tlocal command= i\n"
				"\tfor ((i = 2; i < CURRENT; i++)); do\n"
				"\t\tcase $words[i] in\n"); /* errors stay in out */
	add_skips(out);
	(void)buf_add_text(out, "\t\t-*) ;;\n"
				"\t\t*) command+=\"$words[i] \" ;;\n"
				"\t\tesac\n"
				"\tdone\n"
				"\tfirst=(");
	add_first_words(out);
	(void)buf_add_text(out, ")\n");
	add_zsh_values(out);
	(void)buf_add_text(out, "\tcase $command in\n");
	for (const struct command *c = ctl_commands; c->name != NULL; c++)
		add_zsh_command(out, c);
	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		size_t len = strcspn(c->name, " ");

		if (c->name[len] == '\0' ||
		    (c != ctl_commands && strncmp(c[-1].name, c->name, len + 1) == 0))
			continue;
		(void)buf_printf(out, "\t'%.*s '*)\n\t\tcompadd -- ", (int)len, c->name);
		add_second_words(out, c->name, len);
		(void)buf_add_text(out, " ;;\n");
	}
	(void)buf_add_text(out, "\t*) compadd -- $first ;;\n\tesac\n}\n_wbxctl \"$@\"\n");
}

int completion_run(struct call *c)
{
	if (strcmp(c->words[0], "bash") == 0)
		completion_add_bash(&c->out);
	else if (strcmp(c->words[0], "zsh") == 0)
		completion_add_zsh(&c->out);
	else
		return say_usage(c->command, "the shells are bash and zsh");
	return CODE_OK;
}
