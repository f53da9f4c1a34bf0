/* See commands.h. */
#include "client/ctl/commands.h"

#include <string.h>

#define SINKS "models artifacts weave"
#define KINDS                                                                                      \
	"run attach log call feedback object cost summary config tags define output stats alert "  \
	"file artifact preempting finish gone"

const struct option ctl_options[OPT_COUNT] = {
	[OPT_JSON] = {"json", 0, VALUE_NONE, NULL, NULL,
		      "one JSON object, or one a line for lists"},
	[OPT_WATCH] = {"watch", 0, VALUE_NUMBER_MAY, "SECONDS", NULL,
		       "again and again, every 2 seconds if nothing else is said"},
	[OPT_BY] = {"by", 0, VALUE_NEEDED, "sink|run", "sink run", "sums by sink, or by run"},
	[OPT_KIND] = {"kind", 0, VALUE_NEEDED, "KIND", KINDS, "only records of this kind"},
	[OPT_LINES] = {"lines", 'n', VALUE_NEEDED, "N", NULL,
		       "so many of the newest; 10, or 20 traces"},
	[OPT_FOLLOW] = {"follow", 'f', VALUE_NONE, NULL, NULL, "goes on with what comes in"},
	[OPT_RUN] = {"run", 0, VALUE_NEEDED, "RUN", NULL,
		     "of this run: its id, or entity/project/id"},
	[OPT_WAIT] = {"wait", 0, VALUE_NUMBER_MAY, "SECONDS", NULL,
		      "until W&B has all of it; without a number as long as that takes"},
	[OPT_SINK] = {"sink", 0, VALUE_NEEDED, "SINK", SINKS, "of this sink"},
	[OPT_FOR] = {"for", 0, VALUE_NEEDED, "TIME", NULL, "for 30s, 15m, 2h or 1d"},
	[OPT_STATUS] = {"status", 0, VALUE_NEEDED, "HTTP", NULL,
			"those that were refused with this HTTP status"},
	[OPT_ALL] = {"all", 0, VALUE_NONE, NULL, NULL, "all of them"},
	[OPT_REQUESTS] = {"requests-per-s", 0, VALUE_NEEDED, "N", NULL,
			  "so many requests a second at most; 0: no limit"},
	[OPT_BYTES] = {"bytes-per-s", 0, VALUE_NEEDED, "BYTES", NULL,
		       "so many bytes a second, such as 512K or 2M; 0: no limit"},
	[OPT_DEFAULT] = {"default", 0, VALUE_NONE, NULL, NULL, "what the settings say"},
	[OPT_CSV] = {"csv", 0, VALUE_NONE, NULL, NULL,
		     "comma-separated values, a column for each key"},
	[OPT_JSONL] = {"jsonl", 0, VALUE_NONE, NULL, NULL, "JSON, one object a line"},
	[OPT_OUTPUT] = {"output", 'o', VALUE_NEEDED, "FILE", NULL, "to a new file"},
	[OPT_OLDER_THAN] = {"older-than", 0, VALUE_NEEDED, "TIME", NULL,
			    "what was stored before 12h, 2d or another time ago"},
	[OPT_ALL_DELIVERED] = {"all-delivered", 0, VALUE_NONE, NULL, NULL, "all that W&B has"},
	[OPT_YES] = {"yes", 0, VALUE_NONE, NULL, NULL, "does not ask"},
	[OPT_TO] = {"to", 0, VALUE_NEEDED, "NAME", NULL,
		    "what it becomes: the tag status:NAME; staged"},
	[OPT_NOTE] = {"note", 0, VALUE_NEEDED, "TEXT", NULL, "why"},
	[OPT_STEP] = {"step", 0, VALUE_NEEDED, "A..B", NULL,
		      "of these steps of the training: 12, 10..20, 10.. or ..20"},
	[OPT_OP] = {"op", 0, VALUE_NEEDED, "NAME", NULL,
		    "of this function; a * at its end: of all that begin so"},
	[OPT_SCORE] = {"score", 0, VALUE_NEEDED, "N", NULL,
		       "the score; or with such: '<0.2', '>=0.9', '=1', 0.2..0.5"},
	[OPT_ROWS] = {"rows", 0, VALUE_NEEDED, "FILE", NULL,
		      "question, answer and score of each, JSON lines"},
	[OPT_ERRORS] = {"errors", 0, VALUE_NONE, NULL, NULL, "that ended with an exception"},
	[OPT_SLOW] = {"slow", 0, VALUE_NONE, NULL, NULL, "those that took longest first"},
	[OPT_GREP] = {"grep", 0, VALUE_NEEDED, "TEXT", NULL,
		      "that hold this text, as it is written"},
	[OPT_SEND] = {"send", 0, VALUE_NONE, NULL, NULL,
		      "sends those to W&B that sampling or a budget left out"},
	[OPT_SOCKET] = {"socket", 0, VALUE_NEEDED, "PATH", NULL,
			"the daemon's record socket; else $WBX_SOCKET, the system's, yours"},
	[OPT_STORE] = {"store", 0, VALUE_NEEDED, "DIR", NULL,
		       "reads this store; with --socket only when no daemon answers there"},
	[OPT_HELP] = {"help", 'h', VALUE_NONE, NULL, NULL, "what the command does"},
	[OPT_VERSION] = {"version", 0, VALUE_NONE, NULL, NULL, "which wbxctl this is"},
};

const uint64_t ctl_options_everywhere = OPT_BIT(OPT_JSON) | OPT_BIT(OPT_SOCKET) |
					OPT_BIT(OPT_STORE) | OPT_BIT(OPT_HELP) |
					OPT_BIT(OPT_VERSION);

const struct command ctl_commands[] = {
	{"status", "[--watch [SECONDS]]", "how the daemon is, and the one thing to do", status_run,
	 OPT_BIT(OPT_WATCH), 0, 0, NULL},
	{"backlog", "[--by sink|run] [RUN]", "what waits for W&B, by run and class", backlog_run,
	 OPT_BIT(OPT_BY), 0, 1, NULL},
	{"runs", "[RUN]", "runs, how far W&B has them", runs_run, 0, 0, 1, NULL},
	{"url", "RUN", "where it is in the browser", url_run, 0, 1, 1, NULL},
	{"tag", "RUN +TAG.. -TAG..", "adds tags, and takes tags away", tag_run, 0, 2, WORDS_ANY,
	 NULL},
	{"promote", "[--to NAME] [--note TEXT] RUN", "tags it status:staged, or another",
	 promote_run, OPT_BIT(OPT_TO) | OPT_BIT(OPT_NOTE), 1, 1, NULL},
	{"tail", "[--kind KIND] [-n N] [-f] [RUN]", "the newest records, one a line", tail_run,
	 OPT_BIT(OPT_KIND) | OPT_BIT(OPT_LINES) | OPT_BIT(OPT_FOLLOW), 0, 1, NULL},
	{"traces",
	 "[--step A..B] [--op NAME] [--score N] [--grep TEXT] [--errors] [--slow] "
	 "[-n N] [--all] [--send] [--jsonl] RUN",
	 "judges' calls as trees: score and why, time, tokens", traces_run,
	 OPT_BIT(OPT_STEP) | OPT_BIT(OPT_OP) | OPT_BIT(OPT_SCORE) | OPT_BIT(OPT_ERRORS) |
		 OPT_BIT(OPT_SLOW) | OPT_BIT(OPT_GREP) | OPT_BIT(OPT_LINES) | OPT_BIT(OPT_ALL) |
		 OPT_BIT(OPT_JSONL) | OPT_BIT(OPT_SEND),
	 1, 1, NULL},
	{"trace", "[--jsonl] ID", "one trace whole, with arguments and results", trace_run,
	 OPT_BIT(OPT_JSONL), 1, 1, NULL},
	{"export", "--csv|--jsonl [-o FILE] RUN", "the rows of a run, from the local store",
	 export_run, OPT_BIT(OPT_CSV) | OPT_BIT(OPT_JSONL) | OPT_BIT(OPT_OUTPUT), 1, 1, NULL},
	{"table", "[--step N] [--csv|--jsonl] RUN KEY",
	 "a table that was logged, from the local store", table_run,
	 OPT_BIT(OPT_STEP) | OPT_BIT(OPT_CSV) | OPT_BIT(OPT_JSONL), 2, 2, NULL},
	{"benchmark", "[--score N] [--rows FILE] RUN NAME", "adds what a benchmark came to",
	 benchmark_run, OPT_BIT(OPT_SCORE) | OPT_BIT(OPT_ROWS), 2, 2, NULL},
	{"verify", "RUN", "asks W&B whether it has the run as it is here", verify_run, 0, 1, 1,
	 NULL},
	{"flush", "[--run RUN] [--wait[=SECONDS]]", "sends what waits now; exit 75: not in time",
	 flush_run, OPT_BIT(OPT_RUN) | OPT_BIT(OPT_WAIT), 0, 0, NULL},
	{"retry", "[--sink SINK] [--run RUN]", "ends waits and parked runs: tries again now",
	 retry_run, OPT_BIT(OPT_SINK) | OPT_BIT(OPT_RUN), 0, 0, NULL},
	{"pause", "[--for TIME] SINK", "stops delivery of a sink, not the taking of records",
	 pause_run, OPT_BIT(OPT_FOR), 1, 1, SINKS},
	{"unpause", "SINK", "lets a paused sink go on", unpause_run, 0, 1, 1, SINKS},
	{"dead list", "[--run RUN]", "what W&B refused for good, and why", dead_list_run,
	 OPT_BIT(OPT_RUN), 0, 0, NULL},
	{"dead show", "ID", "one of them, with the answer and the bytes", dead_show_run, 0, 1, 1,
	 NULL},
	{"dead retry", "ID.. | [--status HTTP] [--run RUN] | --all", "sends them once more",
	 dead_retry_run, OPT_BIT(OPT_STATUS) | OPT_BIT(OPT_RUN) | OPT_BIT(OPT_ALL), 0, WORDS_ANY,
	 NULL},
	{"dead drop", "ID..", "gives them up", dead_drop_run, 0, 1, WORDS_ANY, NULL},
	{"dead export", "FILE", "writes all of them as JSON lines", dead_export_run, 0, 1, 1, NULL},
	{"artifact list", "", "big artifacts of yours that no process hands over",
	 artifact_list_run, 0, 0, 0, NULL},
	{"artifact send", "RUN NAME", "hands one of them over to the daemon", artifact_send_run, 0,
	 2, 2, NULL},
	{"late list", "[--run RUN]", "rows that came after their step had gone, one a line",
	 late_list_run, OPT_BIT(OPT_RUN), 0, 0, NULL},
	{"late drop", "RUN", "gives up those of a run", late_drop_run, 0, 1, 1, NULL},
	{"limit", "[--requests-per-s N] [--bytes-per-s BYTES] [--default] [SINK]",
	 "shows or changes how fast is sent", limit_run,
	 OPT_BIT(OPT_REQUESTS) | OPT_BIT(OPT_BYTES) | OPT_BIT(OPT_DEFAULT), 0, 1, "models"},
	{"key set", "", "hands over your W&B key, typed or from standard input", key_set_run, 0, 0,
	 0, NULL},
	{"key check", "", "asks W&B whose the key of your runs is", key_check_run, 0, 0, 0, NULL},
	{"key forget", "", "takes your key back", key_forget_run, 0, 0, 0, NULL},
	{"doctor", "[net|disk|key|clock|socket|store]", "looks at each and says what to do",
	 doctor_run, 0, 0, 1, "net disk key clock socket store"},
	{"store prune", "--older-than TIME|--all-delivered [--yes]",
	 "removes what W&B has, at once", store_prune_run,
	 OPT_BIT(OPT_OLDER_THAN) | OPT_BIT(OPT_ALL_DELIVERED) | OPT_BIT(OPT_YES), 0, 0, NULL},
	{"store compact", "", "gives free pages of the database to the disk", store_compact_run, 0,
	 0, 0, NULL},
	{"help", "[COMMAND]", "this list, or how one command is used", help_run, 0, 0, 2, NULL},
	{"completion", "bash|zsh", "a script that completes commands in your shell", completion_run,
	 0, 1, 1, "bash zsh"},
	{NULL, NULL, NULL, NULL, 0, 0, 0, NULL},
};

/* How many of the words the name is made of; 0: it is another. */
static size_t name_words(const char *name, char *const *words, size_t count)
{
	size_t used = 0;

	while (*name != '\0') {
		size_t len = strcspn(name, " ");

		if (used == count || strlen(words[used]) != len ||
		    memcmp(words[used], name, len) != 0)
			return 0;
		used++;
		name += len + (name[len] == ' ');
	}
	return used;
}

const struct command *command_find(char *const *words, size_t count, size_t *ret_used)
{
	for (const struct command *c = ctl_commands; c->name != NULL; c++) {
		size_t used = name_words(c->name, words, count);

		if (used > 0) {
			*ret_used = used;
			return c;
		}
	}
	return NULL;
}
