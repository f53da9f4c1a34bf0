/* What wbxctl can be told: one table of commands and one of options. Parsing, usage errors, help
 * and the completions of the shells are all made from them; a test compares. */
#pragma once

#include "client/ctl/options.h"

#include <stdbool.h>
#include <stdint.h>

struct call;

enum {
	OPT_JSON,
	OPT_WATCH,
	OPT_BY,
	OPT_KIND,
	OPT_LINES,
	OPT_FOLLOW,
	OPT_RUN,
	OPT_WAIT,
	OPT_SINK,
	OPT_FOR,
	OPT_STATUS,
	OPT_ALL,
	OPT_REQUESTS,
	OPT_BYTES,
	OPT_DEFAULT,
	OPT_CSV,
	OPT_JSONL,
	OPT_OUTPUT,
	OPT_OLDER_THAN,
	OPT_ALL_DELIVERED,
	OPT_YES,
	OPT_TO,
	OPT_NOTE,
	OPT_STEP,
	OPT_OP,
	OPT_SCORE,
	OPT_ROWS,
	OPT_ERRORS,
	OPT_SLOW,
	OPT_GREP,
	OPT_SEND,
	OPT_SOCKET,
	OPT_STORE,
	OPT_HELP,
	OPT_VERSION,
	OPT_COUNT,
};
#define OPT_BIT(option) (UINT64_C(1) << (option))

enum {
	WORDS_ANY = 1 << 20
};

struct command {
	const char *name;              /* "dead show" */
	const char *arguments;         /* as the usage line has them */
	const char *help;              /* one line */
	int (*run)(struct call *call); /* answers the exit code */
	uint64_t options;              /* bits, beside those that every command has */
	unsigned least_words;
	unsigned most_words;
	const char *choices; /* what a word may be, between spaces; NULL: anything */
};

extern const struct option ctl_options[OPT_COUNT];
extern const uint64_t ctl_options_everywhere; /* bits */
extern const struct command ctl_commands[];   /* ends with a name of NULL */

/* The command that the first words name, and of how many of them its name is made; NULL: none. */
const struct command *command_find(char *const *words, size_t count, size_t *ret_used);

/* status.c */
int status_run(struct call *c);
/* backlog.c */
int backlog_run(struct call *c);
/* runs.c */
int runs_run(struct call *c);
/* url.c */
int url_run(struct call *c);
/* tag.c */
int tag_run(struct call *c);
int promote_run(struct call *c);
/* tail.c */
int tail_run(struct call *c);
/* traces.c */
int traces_run(struct call *c);
/* trace.c */
int trace_run(struct call *c);
/* export.c */
int export_run(struct call *c);
/* table.c */
int table_run(struct call *c);
/* benchmark.c */
int benchmark_run(struct call *c);
/* verify.c */
int verify_run(struct call *c);
/* doctor.c */
int doctor_run(struct call *c);
/* store.c */
int store_prune_run(struct call *c);
int store_compact_run(struct call *c);
/* flush.c */
int flush_run(struct call *c);
/* artifact.c */
int artifact_list_run(struct call *c);
int artifact_send_run(struct call *c);
/* steer.c */
int retry_run(struct call *c);
int pause_run(struct call *c);
int unpause_run(struct call *c);
/* limit.c */
int limit_run(struct call *c);
/* dead.c */
int dead_list_run(struct call *c);
int dead_show_run(struct call *c);
int dead_retry_run(struct call *c);
int dead_drop_run(struct call *c);
int dead_export_run(struct call *c);
/* late.c */
int late_list_run(struct call *c);
int late_drop_run(struct call *c);
/* key.c */
int key_set_run(struct call *c);
int key_check_run(struct call *c);
int key_forget_run(struct call *c);
/* help.c */
int help_run(struct call *c);
/* completion.c */
int completion_run(struct call *c);
