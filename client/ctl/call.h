/* One run of wbxctl: the command and its options, the daemon that is asked, what is printed. */
#pragma once

#include "client/ctl/commands.h"
#include "client/ctl/control.h"
#include "client/ctl/facts.h"
#include "client/lib/place.h"

/* What wbxctl ends with, beside 0 .. 3 of status; the names of sysexits.h are macros. */
enum exit_code {
	CODE_OK = 0,
	CODE_UNREACHABLE = 3, /* status, and what is read from a store that cannot be read */
	CODE_USAGE = 64,
	CODE_DATA = 65,
	CODE_AWAY = 69,
	CODE_ERROR = 70,
	CODE_LATER = 75,
	CODE_NOT_ALLOWED = 77,
};

struct call {
	const struct command *command;
	const char *values[OPT_COUNT]; /* NULL: not given; "": without a value */
	char **words;                  /* behind the command's name */
	size_t word_count;
	struct place place;
	enum daemon_kind kind;
	char store[PLACE_PATH_MAX]; /* read when no daemon answers */
	bool store_only;            /* no daemon is asked at all */
	bool is_offline;            /* the store answers, not a daemon */
	struct control *control;    /* NULL: not connected */
	struct buf out;             /* for standard output */
	size_t columns;             /* of the terminal; SIZE_MAX: it is none */
};

/* Reads the words of the command line. CODE_OK, or the exit code with everything said. */
int call_init(struct call *c, int argc, char **argv);
void call_done(struct call *c);
static inline bool call_has(const struct call *c, unsigned option)
{
	return c->values[option] != NULL;
}
/* The RUN of the command line: its word, or its option; NULL: none. */
const char *call_word(const struct call *c);

/* Asks the daemon, or the store. CODE_OK, or the exit code with everything said. The answer is
 * valid until the next question. */
int call_ask(struct call *c, const struct request *q, control_on_item on_item, void *arg,
	     struct control_answer *ret);
/* Asks something that changes something; *ret_count: how much was touched. */
int call_order(struct call *c, const struct request *q, uint64_t *ret_count);
/* The next question connects again. */
void call_hang_up(struct call *c);

/* Writes out to standard output and empties it. 0, or CODE_ERROR. */
int call_print(struct call *c);
/* The same from time to time, so that long lists do not stay in memory. */
int call_print_some(struct call *c);

/* "wbxctl: ..." on standard error. What comes from outside is escaped. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says it and how the command is used: CODE_USAGE. */
int say_usage(const struct command *command, const char *text);
/* "... RUN: the error"; CODE_ERROR. */
int say_errno(const char *what, int error);

/* {"count": N} with --json, else "what: N". */
void call_print_count(struct call *c, const char *what, uint64_t count);
/* An item as a JSON line; arg is the call. */
int call_on_json_item(void *arg, struct span body);
