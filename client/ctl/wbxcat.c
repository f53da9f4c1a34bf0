/* wbxcat: JSON lines on standard input become records of a run, through libwbx. */
#include "client/ctl/format.h"
#include "client/ctl/jsonrow.h"
#include "client/ctl/options.h"
#include "client/ctl/outside.h"
#include "client/lib/wbx.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	CAT_PROJECT,
	CAT_ENTITY,
	CAT_ID,
	CAT_NAME,
	CAT_GROUP,
	CAT_TAG,
	CAT_ATTACH,
	CAT_EXIT_CODE,
	CAT_TIMEOUT,
	CAT_SOCKET,
	CAT_HELP,
	CAT_VERSION,
	CAT_OPTIONS,
};

static const struct option options[CAT_OPTIONS] = {
	[CAT_PROJECT] = {"project", 'p', VALUE_NEEDED, "PROJECT", NULL, "of the run; needed"},
	[CAT_ENTITY] = {"entity", 'e', VALUE_NEEDED, "ENTITY", NULL, "else the default of the key"},
	[CAT_ID] = {"id", 0, VALUE_NEEDED, "ID", NULL, "of the run; else eight random characters"},
	[CAT_NAME] = {"name", 0, VALUE_NEEDED, "NAME", NULL, "as W&B shows it"},
	[CAT_GROUP] = {"group", 0, VALUE_NEEDED, "GROUP", NULL, "of the run"},
	[CAT_TAG] = {"tag", 0, VALUE_NEEDED, "TAG", NULL, "of the run; may be given again"},
	[CAT_ATTACH] = {"attach", 0, VALUE_NONE, NULL, NULL,
			"joins a run of another process; wants --id"},
	[CAT_EXIT_CODE] = {"exit-code", 0, VALUE_NEEDED, "N", NULL, "the run ends with it; 0"},
	[CAT_TIMEOUT] = {"timeout", 0, VALUE_NEEDED, "SECONDS", NULL,
			 "waits so long for the daemon at the end; 10"},
	[CAT_SOCKET] = {"socket", 0, VALUE_NEEDED, "PATH", NULL, "the daemon's record socket"},
	[CAT_HELP] = {"help", 'h', VALUE_NONE, NULL, NULL, "this text"},
	[CAT_VERSION] = {"version", 0, VALUE_NONE, NULL, NULL, "which wbxcat this is"},
};

/* Of sysexits.h, by name. */
enum {
	CODE_OK = 0,
	CODE_USAGE = 64,
	CODE_DATA = 65,
	CODE_ERROR = 70,
	CODE_LATER = 75,
};

enum {
	TAGS_MAX = 64,
	TIMEOUT_S = 10,
	TIMEOUT_S_MAX = 86400,
	READ_BYTES = 64 << 10,
	LINE_MAX_BYTES = 8 << 20, /* a record of 1 MiB is never longer as JSON, escapes included */
	SAY_MAX = 1024,
	ROOM_WAIT_MS = 1000, /* for the daemon to take something, when nothing more fits */
	SIGNAL_EXIT = 128,
};

struct cat {
	const char *values[CAT_OPTIONS];
	const char *tags[TAGS_MAX + 1];
	size_t tag_count;
	int exit_code;
	int timeout_ms;
	struct wbx *wbx;
	struct wbx_run *run;
	struct wbx_map *map;
	struct buf line;
	bool line_too_long;
	uint64_t line_number;
	uint64_t rows;
	uint64_t bad;
	int failed; /* -errno that ends it */
};

static volatile sig_atomic_t signal_seen;

static void on_signal(int number)
{
	signal_seen = number;
}

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	char text[SAY_MAX];
	auto_buf struct buf safe = {0};
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args); /* a cut sentence still helps */
	va_end(args);
	buf_init(&safe, (size_t)16 * SAY_MAX);
	outside_add(&safe, span_of_text(text), OUTSIDE_LINE);
	(void)fprintf(stderr, "wbxcat: %.*s\n", (int)safe.len,
		      (const char *)safe.data); /* nowhere else to say it */
}

/* --- the command line --- */

static int on_option(void *arg, size_t number, const char *value)
{
	struct cat *c = arg;

	if (number != CAT_TAG) {
		c->values[number] = value;
		return 0;
	}
	if (c->tag_count == TAGS_MAX) {
		say("there are more than %d tags", TAGS_MAX);
		return CODE_USAGE;
	}
	c->tags[c->tag_count++] = value;
	return 0;
}

static int print_help(void)
{
	(void)printf("wbxcat --project PROJECT [OPTION ...] <rows.jsonl\n"
		     "  JSON lines become rows of a run; _step, _commit and _kind (log, summary, "
		     "config, system) steer\n\n");
	for (size_t i = 0; i < CAT_OPTIONS; i++) {
		char text[64];

		(void)snprintf(text, sizeof(text), "--%s %s", options[i].name,
			       options[i].value == VALUE_NONE ? ""
							      : options[i].value_name); /* fits */
		(void)printf("  %-22s  %s\n", text, options[i].help);
	}
	return fflush(stdout) == 0 ? CODE_OK : CODE_ERROR;
}

static int take_numbers(struct cat *c)
{
	uint64_t seconds = TIMEOUT_S;
	uint64_t exit_code = 0;

	if (c->values[CAT_TIMEOUT] != NULL &&
	    number_read(c->values[CAT_TIMEOUT], TIMEOUT_S_MAX, &seconds) < 0) {
		say("--timeout wants seconds, a whole number");
		return CODE_USAGE;
	}
	if (c->values[CAT_EXIT_CODE] != NULL &&
	    number_read(c->values[CAT_EXIT_CODE], 255, &exit_code) < 0) {
		say("--exit-code wants a number from 0 to 255");
		return CODE_USAGE;
	}
	c->timeout_ms = (int)(seconds * 1000);
	c->exit_code = (int)exit_code;
	return CODE_OK;
}

/* CODE_OK; else the exit code, with everything said. */
static int take_arguments(struct cat *c, int argc, char **argv)
{
	const struct option_table table = {
		.options = options, .count = CAT_OPTIONS, .on_option = on_option, .arg = c};
	char error[OPTIONS_ERROR_MAX];
	size_t words = 0;
	int r = options_read(&table, argc, argv, &words, error);

	if (r > 0)
		return r;
	if (r < 0)
		say("%s; wbxcat --help lists the options", error);
	else if (words > 0)
		say("\"%s\" is no option; rows are read from standard input", argv[0]);
	if (r < 0 || words > 0)
		return CODE_USAGE;
	if (c->values[CAT_HELP] != NULL || c->values[CAT_VERSION] != NULL)
		return CODE_OK;
	if (c->values[CAT_PROJECT] == NULL) {
		say("which project? wbxcat --project PROJECT");
		return CODE_USAGE;
	}
	if (c->values[CAT_ATTACH] != NULL && c->values[CAT_ID] == NULL) {
		say("--attach wants the run: --id ID");
		return CODE_USAGE;
	}
	return take_numbers(c);
}

/* --- rows --- */

static void bad_line(struct cat *c, const char *why)
{
	c->bad++;
	say("line %" PRIu64 ": %s; skipped", c->line_number, why);
}

static int hand_over(struct cat *c, const struct json_row *row)
{
	switch (row->kind) {
	case ROW_LOG: return wbx_log(c->run, c->map, row->step, row->commit);
	case ROW_SUMMARY: return wbx_summary(c->run, c->map);
	case ROW_CONFIG: return wbx_config(c->run, c->map);
	case ROW_SYSTEM: return wbx_system(c->run, c->map);
	}
	return -EINVAL;
}

/* Nobody trains here, so wbxcat may wait where a trainer may not: until the daemon has taken
 * something, when journal, spool and memory are full. */
static int hand_over_patiently(struct cat *c, const struct json_row *row)
{
	uint64_t until_ms = clock_mono_ms() + (uint64_t)c->timeout_ms;
	int r = hand_over(c, row);

	while (r == -ENOBUFS && clock_mono_ms() < until_ms && signal_seen == 0) {
		(void)wbx_flush(c->wbx, ROOM_WAIT_MS); /* the next try tells */
		r = hand_over(c, row);
	}
	return r;
}

static void take_line(struct cat *c, struct span line)
{
	char why[JSONROW_ERROR_MAX];
	struct json_row row;
	int r;

	while (line.len > 0 && (line.at[line.len - 1] == '\r' || line.at[line.len - 1] == ' '))
		line.len--;
	if (line.len == 0)
		return;
	r = jsonrow_read(line, c->map, &row, why);
	if (r == -EINVAL) {
		bad_line(c, why);
		return;
	}
	if (r == 0)
		r = hand_over_patiently(c, &row);
	if (r == -EMSGSIZE)
		bad_line(c, "larger than one record may be (1 MiB)");
	else if (r == -EINVAL)
		bad_line(c, "libwbx does not take it");
	else if (r < 0)
		c->failed = r;
	else
		c->rows += row.kind == ROW_LOG;
}

/* A line has ended. */
static void end_line(struct cat *c)
{
	c->line_number++;
	if (c->line_too_long)
		bad_line(c, "longer than 8 MiB");
	else if (c->line.error != 0)
		c->failed = c->line.error;
	else
		take_line(c, buf_span(&c->line));
	buf_clear(&c->line);
	c->line_too_long = false;
}

static void add_bytes(struct cat *c, struct span bytes)
{
	if (c->line_too_long || bytes.len > LINE_MAX_BYTES - c->line.len) {
		c->line_too_long = true;
		return;
	}
	(void)buf_add(&c->line, bytes.at, bytes.len); /* end_line() looks */
}

static void take_bytes(struct cat *c, struct span bytes)
{
	while (bytes.len > 0 && c->failed == 0) {
		const uint8_t *end = memchr(bytes.at, '\n', bytes.len);
		size_t len = end == NULL ? bytes.len : (size_t)(end - bytes.at);

		add_bytes(c, (struct span){.at = bytes.at, .len = len});
		if (end != NULL) {
			end_line(c);
			len++;
		}
		bytes.at += len;
		bytes.len -= len;
	}
}

/* Until the input ends, or a signal ends it. 0, or -errno. */
static int read_rows(struct cat *c)
{
	static uint8_t bytes[READ_BYTES];

	while (c->failed == 0 && signal_seen == 0) {
		ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		take_bytes(c, (struct span){.at = bytes, .len = (size_t)n});
	}
	if (c->failed == 0 && (c->line.len > 0 || c->line_too_long))
		end_line(c); /* without a line end */
	return c->failed;
}

/* --- the run --- */

static int open_run(struct cat *c)
{
	const struct wbx_run_options run = {
		.project = c->values[CAT_PROJECT],
		.entity = c->values[CAT_ENTITY],
		.id = c->values[CAT_ID],
		.name = c->values[CAT_NAME],
		.group = c->values[CAT_GROUP],
		.tags = c->tag_count > 0 ? c->tags : NULL,
		.program = "wbxcat",
	};
	const struct wbx_options wbx = {.socket = c->values[CAT_SOCKET]};
	int r = wbx_open(&c->wbx, &wbx);

	c->map = wbx_map_new();
	if (r == 0 && c->map == NULL)
		r = -ENOMEM;
	if (r == 0 && c->values[CAT_ATTACH] != NULL)
		r = wbx_attach(c->wbx, &run, &c->run);
	else if (r == 0)
		r = wbx_run(c->wbx, &run, &c->run);
	return r;
}

/* Ends the run, and tells where its rows are. */
static int end_run(struct cat *c)
{
	struct wbx_stats stats;
	int r = signal_seen != 0 ? wbx_exit(c->run, SIGNAL_EXIT + signal_seen)
				 : wbx_finish(c->run, c->exit_code);

	if (r == 0)
		r = wbx_flush(c->wbx, c->timeout_ms);
	wbx_get_stats(c->wbx, &stats);
	if (r == 0) {
		say("run %s: %" PRIu64 " row%s on disk", wbx_run_id(c->run), c->rows,
		    c->rows == 1 ? "" : "s");
	} else if (r == -ETIMEDOUT) {
		say("run %s: %" PRIu64 " row%s taken, and not all on the daemon's disk yet; %s",
		    wbx_run_id(c->run), c->rows, c->rows == 1 ? "" : "s",
		    stats.durable ? "they are kept in journal and spool until a daemon takes them"
				  : "there is no journal, what is not there now is lost");
		return CODE_LATER;
	} else {
		say("run %s: %s", wbx_run_id(c->run), strerror(-r));
		return CODE_ERROR;
	}
	if (stats.rejected > 0)
		say("the daemon rejected %" PRIu64 " of the records", stats.rejected);
	if (signal_seen != 0)
		return SIGNAL_EXIT + signal_seen;
	return stats.rejected > 0 || c->bad > 0 ? CODE_DATA : CODE_OK;
}

static int cat_run(struct cat *c)
{
	int code;
	int r = open_run(c);

	if (r < 0) {
		say("the run cannot be opened: %s", strerror(-r));
		return r == -EINVAL || r == -EMSGSIZE ? CODE_USAGE : CODE_ERROR;
	}
	r = read_rows(c);
	if (r < 0)
		say("line %" PRIu64 ": %s; what came before it is kept", c->line_number,
		    strerror(-r));
	code = end_run(c);
	if (c->bad > 0)
		say("%" PRIu64 " line%s skipped", c->bad, c->bad == 1 ? " was" : "s were");
	if (r == -ENOBUFS && code != CODE_ERROR)
		return CODE_LATER;
	return r < 0 ? CODE_ERROR : code;
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: read() is to end */

	(void)sigaction(SIGINT, &action, NULL); /* cannot fail */
	(void)sigaction(SIGTERM, &action, NULL);
}

int main(int argc, char **argv)
{
	static struct cat c;
	int code = take_arguments(&c, argc, argv);

	if (code != CODE_OK)
		return code;
	if (c.values[CAT_HELP] != NULL)
		return print_help();
	if (c.values[CAT_VERSION] != NULL) {
		(void)printf("wbxcat " WBX_VERSION "\n"); /* the exit code says it */
		return fflush(stdout) == 0 ? CODE_OK : CODE_ERROR;
	}
	catch_signals();
	buf_init(&c.line, LINE_MAX_BYTES + 1);
	code = cat_run(&c);
	(void)wbx_close(c.wbx, 0); /* what is not on disk stays in the journal: end_run() said it */
	wbx_map_free(c.map);
	buf_done(&c.line);
	return code;
}
