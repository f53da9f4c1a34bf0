/* See call.h. */
#include "client/ctl/call.h"

#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "proto/base/mem.h"
#include "proto/mp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	OUT_MAX = 1 << 30,
	PRINT_AT = 64 << 10,
	SAY_MAX = 2048,
	LINE_JSON_MAX = 16 << 20 /* the JSON of one item */
};

static const char system_store[] = "/var/lib/wbx";
static const char system_control[] = "/run/wbx/ctl/ctl.sock";

/* --- words to people --- */

void say(const char *format, ...)
{
	char text[SAY_MAX];
	auto_buf struct buf line = {0};
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args); /* a cut sentence still helps */
	va_end(args);
	buf_init(&line, (size_t)16 * SAY_MAX);
	(void)buf_add_text(&line, "wbxctl: ");
	outside_add(&line, span_of_text(text), OUTSIDE_LINES);
	(void)buf_add_byte(&line, '\n');
	(void)fwrite(line.data, 1, line.len, stderr); /* nowhere else to say it */
}

int say_errno(const char *what, int error)
{
	say("%s: %s", what, strerror(-error));
	return CODE_ERROR;
}

int say_usage(const struct command *command, const char *text)
{
	if (command == NULL)
		say("%s; wbxctl help lists the commands", text);
	else
		say("%s\nusage: wbxctl %s %s", text, command->name, command->arguments);
	return CODE_USAGE;
}

/* --- the command line --- */

static int on_option(void *arg, size_t number, const char *value)
{
	struct call *c = arg;

	c->values[number] = value;
	return 0;
}

static int check_options(const struct call *c)
{
	uint64_t allowed = c->command->options | ctl_options_everywhere;
	char text[128];

	for (unsigned i = 0; i < OPT_COUNT; i++) {
		if (c->values[i] == NULL || (allowed & OPT_BIT(i)) != 0)
			continue;
		(void)snprintf(text, sizeof(text), "wbxctl %s has no option --%s", c->command->name,
			       ctl_options[i].name); /* short names */
		return say_usage(c->command, text);
	}
	return CODE_OK;
}

static int find_command(struct call *c, char **words, size_t count)
{
	size_t used;
	char text[256];

	if (call_has(c, OPT_VERSION) || call_has(c, OPT_HELP) || count == 0)
		return CODE_OK;
	c->command = command_find(words, count, &used);
	if (c->command == NULL) {
		(void)snprintf(text, sizeof(text), "there is no command \"%.60s%s%.60s\"", words[0],
			       count > 1 ? " " : "", count > 1 ? words[1] : ""); /* fits */
		return say_usage(NULL, text);
	}
	c->words = words + used;
	c->word_count = count - used;
	if (c->word_count < c->command->least_words)
		return say_usage(c->command, "something is missing");
	if (c->word_count > c->command->most_words)
		return say_usage(c->command, "there are too many words");
	return check_options(c);
}

/* help wherever --help stands, with as much of a command as there is. */
static int choose_help(struct call *c, char **words, size_t count)
{
	static char help[] = "help";
	static char *help_words[] = {help};
	size_t used = 0;

	if (c->command != NULL || call_has(c, OPT_VERSION))
		return CODE_OK;
	if (count == 0 && !call_has(c, OPT_HELP))
		return say_usage(NULL, "no command was given");
	c->command = command_find(help_words, 1, &used);
	c->words = words;
	c->word_count = count;
	return CODE_OK;
}

/* --- where things are --- */

static int print_path(char ret[PLACE_PATH_MAX], const char *dir, int len, const char *rest)
{
	int n = snprintf(ret, PLACE_PATH_MAX, "%.*s%s", len, dir, rest);

	return n < 0 || n >= PLACE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* The store of the daemon whose place this is, when it has the usual one. */
static int default_store(struct call *c)
{
	const char *slash = strrchr(c->place.control, '/');
	int r;

	if (c->kind == DAEMON_SYSTEM)
		return print_path(c->store, system_store, PLACE_PATH_MAX, "");
	if (c->kind == DAEMON_ELSEWHERE)
		return print_path(c->store, c->place.control, (int)(slash - c->place.control),
				  "/store");
	r = print_path(c->store, c->place.state_dir, PLACE_PATH_MAX, "/store");
	/* A stopped service has no socket, so its place looks like the user's own. */
	if (r < 0 || access(c->store, F_OK) == 0 || access(system_store, F_OK) < 0)
		return r;
	c->kind = DAEMON_SYSTEM;
	r = print_path(c->place.control, system_control, PLACE_PATH_MAX, "");
	return r < 0 ? r : print_path(c->store, system_store, PLACE_PATH_MAX, "");
}

static enum daemon_kind kind_of(const struct place *p)
{
	if (p->is_own)
		return DAEMON_OWN;
	return strcmp(p->control, system_control) == 0 ? DAEMON_SYSTEM : DAEMON_ELSEWHERE;
}

static int find_place(struct call *c)
{
	int r = place_find(&c->place, c->values[OPT_SOCKET]);

	c->kind = kind_of(&c->place);
	c->store_only = call_has(c, OPT_STORE) && !call_has(c, OPT_SOCKET);
	if (r == 0 && call_has(c, OPT_STORE))
		r = print_path(c->store, c->values[OPT_STORE], PLACE_PATH_MAX, "");
	else if (r == 0)
		r = default_store(c);
	return r < 0 ? say_errno("the path of the daemon", r) : CODE_OK;
}

static size_t terminal_columns(void)
{
	struct winsize size = {0};

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		return SIZE_MAX;
	return size.ws_col < 20 ? 80 : size.ws_col;
}

int call_init(struct call *c, int argc, char **argv)
{
	const struct option_table table = {.options = ctl_options,
					   .count = OPT_COUNT,
					   .on_option = on_option,
					   .arg = c,
					   .minus_word = "tag"};
	char error[OPTIONS_ERROR_MAX];
	size_t count;
	int r;

	*c = (struct call){.columns = terminal_columns()};
	buf_init(&c->out, OUT_MAX);
	if (options_read(&table, argc, argv, &count, error) < 0)
		return say_usage(NULL, error);
	r = find_command(c, argv, count);
	if (r == CODE_OK)
		r = choose_help(c, argv, count);
	return r == CODE_OK ? find_place(c) : r;
}

void call_done(struct call *c)
{
	call_hang_up(c);
	buf_done(&c->out);
}

const char *call_word(const struct call *c)
{
	return c->word_count > 0 ? c->words[0] : c->values[OPT_RUN];
}

/* --- asking --- */

void call_hang_up(struct call *c)
{
	c->control = control_close(c->control);
}

/* Why the store cannot be read is told before a wbxd tries and says it in its way. */
static int open_store(struct call *c)
{
	const char *why = c->store_only ? "" : "no daemon runs, and ";
	int r = access(c->store, R_OK | X_OK) < 0 ? -errno : 0;

	if (r == -ENOENT) {
		say("%sthere is no store at %s", why, c->store);
		return CODE_UNREACHABLE;
	}
	if (r == -EACCES) {
		say("%sthe store at %s is readable to its daemon's user and root only; ask one of "
		    "them, or start the daemon",
		    why, c->store);
		return CODE_UNREACHABLE;
	}
	if (r == 0)
		r = control_open_store(&c->control, c->store);
	if (r == -ENOENT)
		say("%sthere is no wbxd in PATH that could read the store at %s", why, c->store);
	else if (r < 0)
		(void)say_errno("wbxd --answer", r);
	if (r < 0)
		return CODE_UNREACHABLE;
	c->is_offline = true;
	return CODE_OK;
}

static int no_daemon(struct call *c, const struct verb_info *verb)
{
	int r;

	if (!verb->offline) {
		say("no daemon answers at %s; %s", c->place.control,
		    c->kind == DAEMON_SYSTEM ? "start it: systemctl start wbxd"
					     : "wbxd(8) tells how one is started");
		return CODE_AWAY;
	}
	r = open_store(c);
	if (r == CODE_OK && verb != verb_info(VERB_STATUS) && !c->store_only)
		say("the daemon is not running; this is what its store at %s has", c->store);
	return r;
}

static int connect_once(struct call *c, enum verb verb)
{
	const struct verb_info *info = verb_info(verb);
	int r;

	if (c->control != NULL)
		return c->is_offline && !info->offline ? no_daemon(c, info) : CODE_OK;
	if (c->store_only && !info->offline) {
		say("%s needs a daemon; leave --store out", c->command->name);
		return CODE_USAGE;
	}
	r = c->store_only ? -ENOENT
			  : control_open(&c->control, c->place.control, c->kind == DAEMON_OWN);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return no_daemon(c, info);
	if (r == -EACCES) {
		say("you may not use the control socket %s", c->place.control);
		return CODE_NOT_ALLOWED;
	}
	if (r == -EPERM) {
		say("another user listens at %s; it is not asked", c->place.control);
		return CODE_NOT_ALLOWED;
	}
	if (r < 0) {
		(void)say_errno(c->place.control, r);
		return CODE_AWAY;
	}
	return CODE_OK;
}

static int code_of(struct span code)
{
	static const struct {
		const char *code;
		int exit_code;
	} table[] = {
		{"not_allowed", CODE_NOT_ALLOWED},
		{"not_yours", CODE_NOT_ALLOWED},
		{"usage", CODE_USAGE},
		{"not_found", CODE_DATA},
		{"ambiguous", CODE_DATA},
		{"removed", CODE_LATER},
		{"no_sender", CODE_AWAY},
	};

	for (size_t i = 0; i < array_len(table); i++) {
		if (span_is(code, table[i].code))
			return table[i].exit_code;
	}
	return CODE_ERROR;
}

static int ask_failed(struct call *c, int r, const struct control_answer *answer)
{
	if (r == -EREMOTEIO) {
		say("%s: %.*s", c->command->name, (int)answer->text.len,
		    (const char *)answer->text.at);
		return code_of(answer->code);
	}
	call_hang_up(c);
	if (c->is_offline) {
		say("wbxd could not read the store at %s", c->store);
		return CODE_UNREACHABLE;
	}
	if (r == -ETIMEDOUT)
		say("the daemon at %s does not answer", c->place.control);
	else if (r == -ECONNRESET)
		say("the daemon at %s ended the connection", c->place.control);
	else if (r == -EBADMSG)
		say("what listens at %s does not speak as wbxd does", c->place.control);
	else
		return say_errno("the control socket", r);
	return CODE_AWAY;
}

int call_ask(struct call *c, const struct request *q, control_on_item on_item, void *arg,
	     struct control_answer *ret)
{
	int r = connect_once(c, q->verb);

	if (r != CODE_OK)
		return r;
	r = control_ask(c->control, q, on_item, arg, ret);
	if (r > 0) { /* on_item has said why */
		call_hang_up(c);
		return r;
	}
	return r == 0 ? CODE_OK : ask_failed(c, r, ret);
}

int call_order(struct call *c, const struct request *q, uint64_t *ret_count)
{
	struct control_answer answer;
	int r = call_ask(c, q, NULL, NULL, &answer);

	if (r == CODE_OK)
		*ret_count = mp_get_uint(mp_of(answer.body), "count", 0);
	return r;
}

/* --- printing --- */

int call_print(struct call *c)
{
	int r = buf_write(&c->out, STDOUT_FILENO);

	if (r < 0)
		return say_errno(c->out.error != 0 ? "the output" : "standard output", r);
	buf_clear(&c->out);
	return CODE_OK;
}

int call_print_some(struct call *c)
{
	return c->out.len >= PRINT_AT || c->out.error != 0 ? call_print(c) : CODE_OK;
}

int call_on_json_item(void *arg, struct span body)
{
	struct call *c = arg;
	auto_buf struct buf line = {0};
	struct json j;

	buf_init(&line, LINE_JSON_MAX);
	json_init(&j, &line);
	if (json_add_mp(&j, body) < 0) {
		say("an item of the answer cannot be shown");
		return CODE_ERROR;
	}
	json_line(&c->out, &line);
	return call_print_some(c);
}

void call_print_count(struct call *c, const char *what, uint64_t count)
{
	auto_buf struct buf line = {0};
	struct json j;

	if (!call_has(c, OPT_JSON)) {
		(void)buf_printf(&c->out, "%s: %s\n", what,
				 word_count(count).text); /* call_print() looks */
		return;
	}
	buf_init(&line, LINE_JSON_MAX);
	json_init(&j, &line);
	json_open_object(&j);
	json_pair_uint(&j, "count", count);
	json_close_object(&j);
	json_line(&c->out, &line);
}
