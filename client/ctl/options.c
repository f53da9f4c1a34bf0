/* See options.h. */
#include "client/ctl/options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct reading {
	const struct option_table *table;
	char **argv;
	int argc;
	int at; /* being read */
	char *error;
};

static int complain(struct reading *in, const char *before, const char *what, const char *after)
{
	(void)snprintf(in->error, OPTIONS_ERROR_MAX, "%s%.100s%s", before, what, after); /* fits */
	return -EINVAL;
}

static bool is_number(const char *text)
{
	return text[0] >= '0' && text[0] <= '9';
}

/* The value of an option; attached is what stands behind it in the same argument, or NULL. */
static int take_value(struct reading *in, const struct option *o, const char *attached)
{
	const char *next = in->at + 1 < in->argc ? in->argv[in->at + 1] : NULL;
	const char *value = attached;

	switch (o->value) {
	case VALUE_NONE:
		if (attached != NULL)
			return complain(in, "--", o->name, " takes no value");
		break;
	case VALUE_NEEDED:
		if (value == NULL) {
			value = next;
			in->at++;
		}
		if (value == NULL)
			return complain(in, "--", o->name, " needs a value");
		break;
	case VALUE_NUMBER_MAY:
		if (value == NULL && next != NULL && is_number(next)) {
			value = next;
			in->at++;
		}
		break;
	}
	return in->table->on_option(in->table->arg, (size_t)(o - in->table->options),
				    value == NULL ? "" : value);
}

static int take_long(struct reading *in, const char *arg)
{
	size_t len = strcspn(arg, "=");

	for (size_t i = 0; i < in->table->count; i++) {
		const struct option *o = &in->table->options[i];

		if (strlen(o->name) == len && memcmp(o->name, arg, len) == 0)
			return take_value(in, o, arg[len] == '=' ? arg + len + 1 : NULL);
	}
	return complain(in, "there is no option --", arg, "");
}

static const struct option *find_letter(const struct reading *in, char letter)
{
	for (size_t i = 0; i < in->table->count; i++) {
		if (in->table->options[i].letter == letter)
			return &in->table->options[i];
	}
	return NULL;
}

/* -f, -n5, -fn5 */
static int take_letters(struct reading *in, const char *letters)
{
	for (; *letters != '\0'; letters++) {
		const struct option *o = find_letter(in, *letters);
		int r;

		if (o == NULL)
			return complain(in, "there is no option -", letters, "");
		if (o->value != VALUE_NONE && letters[1] != '\0')
			return take_value(in, o, letters + 1);
		r = take_value(in, o, NULL);
		if (r != 0)
			return r;
	}
	return 0;
}

/* "tag RUN -old": a run was named before. */
static bool takes_minus(const struct option_table *table, const char *first, const char *text)
{
	return table->minus_word != NULL && strcmp(first, table->minus_word) == 0 &&
	       text[1] != '-' && strcmp(text, "-h") != 0;
}

int options_read(const struct option_table *table, int argc, char **argv, size_t *ret_words,
		 char ret_error[OPTIONS_ERROR_MAX])
{
	struct reading in = {.table = table, .argv = argv, .argc = argc, .error = ret_error};
	bool ended = false;
	size_t words = 0;

	ret_error[0] = '\0';
	for (in.at = 1; in.at < argc; in.at++) {
		char *text = argv[in.at];
		int r = 0;

		if (ended || text[0] != '-' || text[1] == '\0' ||
		    (words > 1 && takes_minus(table, argv[0], text)))
			argv[words++] = text;
		else if (strcmp(text, "--") == 0)
			ended = true;
		else
			r = text[1] == '-' ? take_long(&in, text + 2) : take_letters(&in, text + 1);
		if (r != 0)
			return r;
	}
	*ret_words = words;
	return 0;
}
