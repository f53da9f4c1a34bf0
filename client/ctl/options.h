/* Reads a command line by a table of options: --name, --name=value, --name value, -x, -x value,
 * -xvalue, -xy; "--" ends them. The same table makes the help and the completions. */
#pragma once

#include <stddef.h>

enum option_value {
	VALUE_NONE,
	VALUE_NEEDED,
	VALUE_NUMBER_MAY, /* --watch, --watch=5, --watch 5 */
};

struct option {
	const char *name; /* without the dashes */
	char letter;      /* '\0': none */
	enum option_value value;
	const char *value_name;
	const char *choices; /* what may stand there, between spaces; NULL: anything */
	const char *help;
};

enum {
	OPTIONS_ERROR_MAX = 256
};

/* An option was read; value is borrowed from argv, "" when there is none. */
typedef int (*options_on_option)(void *arg, size_t number, const char *value);

/* Borrowed while it is read. */
struct option_table {
	const struct option *options;
	size_t count;
	options_on_option on_option;
	void *arg;
	const char *minus_word; /* behind this first word -x is a word, too; NULL: nowhere */
};

/* Reads argv[1..argc-1]. The words that are no options move to the front of argv, in their order.
 * 0 and *ret_words; -EINVAL with a sentence in ret_error; or what on_option answered. */
int options_read(const struct option_table *table, int argc, char **argv, size_t *ret_words,
		 char ret_error[OPTIONS_ERROR_MAX]);
