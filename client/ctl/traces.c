/* wbxctl traces: the judges' calls of a run as trees, the newest traces first to go when there are many.
 * Everything that came from a model is escaped: it passes a grid, or JSON. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/grid.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "client/ctl/trace_error.h"
#include "client/ctl/tracefilter.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TRACES = 20, /* shown when nobody says how many */
	TRACES_MAX = 1000000,
	ID_CHARS = 12, /* of an id's end: enough to name it */
	TREE_DEPTH_MAX = 24,
	SLICE_TIMEOUT_MS = 300000,
	LINE_BYTES_MAX = 64 << 10,
	SEND_IDS_MAX = 1000, /* of one request */
};

struct showing {
	struct call *call;
	struct book book;
	struct trace_filter filter;
	struct grid grid;
	uint64_t now_us;
	size_t wanted;
	size_t found;
	size_t stepless; /* calls left out because their step is not known */
};

static const struct grid_column columns[] = {
	{"CALL", false, 12, 56}, {"STEP", true, 4, 0},   {"SCORE", true, 5, 0},
	{"TIME", true, 6, 0},    {"TOKENS", true, 6, 0}, {"ID", false, ID_CHARS, 0},
	{"WHY", false, 0, 0},
};

/* --- which --- */

static int read_options(struct showing *s)
{
	const struct call *c = s->call;
	uint64_t wanted = TRACES;

	s->filter = (struct trace_filter){.first_step = -1, .op = c->values[OPT_OP]};
	s->filter.only_errors = call_has(c, OPT_ERRORS);
	s->filter.only_hits = call_has(c, OPT_GREP);
	if (call_has(c, OPT_STEP) && step_range_read(c->values[OPT_STEP], &s->filter) < 0)
		return say_usage(c->command, "--step wants 12, 10..20, 10.. or ..20");
	if (call_has(c, OPT_SCORE) && score_test_read(c->values[OPT_SCORE], &s->filter) < 0)
		return say_usage(c->command, "--score wants '<0.2', '>=0.9', '=1' or 0.2..0.5");
	if (call_has(c, OPT_GREP) && c->values[OPT_GREP][0] == '\0')
		return say_usage(c->command, "--grep wants a text");
	if (call_has(c, OPT_LINES) &&
	    (number_read(c->values[OPT_LINES], TRACES_MAX, &wanted) < 0 || wanted == 0))
		return say_usage(c->command, "-n wants a whole number from 1 to 1000000");
	if (call_has(c, OPT_ALL) ||
	    ((call_has(c, OPT_JSON) || call_has(c, OPT_JSONL)) && !call_has(c, OPT_LINES)))
		wanted = TRACES_MAX;
	s->wanted = (size_t)wanted;
	return CODE_OK;
}

static int on_item(void *arg, struct span body)
{
	struct showing *s = arg;
	int r = book_add_brief(&s->book, body);

	return r < 0 ? say_errno("traces", r) : CODE_OK;
}

static int ask(struct showing *s)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_TRACES);
	q.timeout_ms = SLICE_TIMEOUT_MS;
	request_text(&q, "run", s->call->words[0]);
	request_text(&q, "grep", s->call->values[OPT_GREP]);
	r = call_ask(s->call, &q, on_item, s, &answer);
	request_done(&q);
	if (r != CODE_OK)
		return r;
	r = book_link(&s->book);
	return r < 0 ? say_errno("traces", r) : CODE_OK;
}

/* Roots that have something to show, the newest (or with --slow the slowest) of them, as they are to
 * be printed. */
static int slowest_first(const void *left, const void *right)
{
	uint64_t a = trace_call_took_us(*(struct trace_call *const *)left);
	uint64_t b = trace_call_took_us(*(struct trace_call *const *)right);

	return a == b ? 0 : a > b ? -1 : 1;
}

static int choose(struct showing *s, struct trace_call ***ret, size_t *ret_count)
{
	struct trace_call **roots =
		mem_alloc((s->book.root_count + 1) * sizeof(struct trace_call *));
	bool is_slow = call_has(s->call, OPT_SLOW);

	if (roots == NULL)
		return say_errno("traces", -ENOMEM);
	for (struct trace_call *c = s->book.first_root; c != NULL; c = c->next) {
		if (s->filter.first_step >= 0 && c->step < 0)
			s->stepless++;
		if (trace_filter_apply(&s->filter, c) > 0)
			roots[s->found++] = c;
	}
	if (is_slow)
		qsort(roots, s->found, sizeof(struct trace_call *), slowest_first);
	*ret_count = s->found < s->wanted ? s->found : s->wanted;
	if (!is_slow)
		memmove(roots, roots + (s->found - *ret_count),
			*ret_count * sizeof(struct trace_call *));
	*ret = roots;
	return CODE_OK;
}

/* --- as a tree --- */

static bool has_shown_sibling(const struct trace_call *c)
{
	const struct trace_call *next = c->next;

	while (next != NULL && !next->is_shown)
		next = next->next;
	return next != NULL;
}

/* The lines that lead to a call below its root. */
static void add_branches(struct buf *out, const struct trace_call *c)
{
	const struct trace_call *path[TREE_DEPTH_MAX];
	unsigned depth = 0;

	for (const struct trace_call *up = c; up->parent != NULL; up = up->parent) {
		if (depth < TREE_DEPTH_MAX)
			path[depth] = up;
		depth++;
	}
	if (depth > TREE_DEPTH_MAX) {
		(void)buf_printf(out, "… %u deep ", depth);
		return;
	}
	while (depth > 1)
		(void)buf_add_text(out, has_shown_sibling(path[--depth]) ? "│  " : "   ");
	if (depth == 1)
		(void)buf_add_text(out, has_shown_sibling(c) ? "├─ " : "└─ ");
}

static void add_call_cell(struct showing *s, const struct trace_call *c)
{
	auto_buf struct buf text = {0};

	buf_init(&text, LINE_BYTES_MAX);
	add_branches(&text, c);
	if (c->parent == NULL && c->started_us != 0)
		(void)buf_printf(&text, "%s ", word_clock(c->started_us, s->now_us).text);
	(void)buf_add_text(&text, c->op[0] != '\0' ? c->op : "(its start is not here)");
	if (c->display_name[0] != '\0')
		(void)buf_printf(&text, " \"%s\"", c->display_name);
	grid_add(&s->grid, buf_span(&text)); /* what does not fit is cut there */
}

static void add_score_cell(struct showing *s, const struct trace_call *c)
{
	char text[32] = "";

	if (c->has_score)
		(void)snprintf(text, sizeof(text), "%.4g", c->score); /* fits */
	grid_add_text(&s->grid, text);
}

static void add_step_cell(struct showing *s, const struct trace_call *c)
{
	char text[32] = "";

	if (c->step >= 0 && c->parent == NULL)
		(void)snprintf(text, sizeof(text), "%lld", (long long)c->step); /* fits */
	grid_add_text(&s->grid, text);
}

static const char *short_id(const struct trace_call *c)
{
	size_t len = strlen(c->id);

	return len > ID_CHARS ? c->id + (len - ID_CHARS) : c->id;
}

static void add_why_cell(struct showing *s, const struct trace_call *c)
{
	auto_buf struct buf text = {0};

	buf_init(&text, LINE_BYTES_MAX);
	if (c->exception[0] != '\0')
		trace_error_add(&text, c->exception);
	else
		(void)buf_add_text(&text, c->reason);
	grid_add(&s->grid, buf_span(&text));
}

static void add_row(struct showing *s, const struct trace_call *c)
{
	uint64_t took_us = trace_call_took_us(c);

	add_call_cell(s, c);
	add_step_cell(s, c);
	add_score_cell(s, c);
	grid_add_text(&s->grid, took_us > 0    ? word_ms((double)took_us / 1000).text
				: c->has_ended ? "0 ms"
					       : "open");
	grid_add_text(&s->grid, c->all_tokens > 0 ? word_count(c->all_tokens).text : "");
	grid_add_text(&s->grid, short_id(c));
	add_why_cell(s, c);
}

static int print_trees(struct showing *s, struct trace_call *const *roots, size_t count)
{
	grid_init(&s->grid, columns, array_len(columns));
	for (size_t i = 0; i < count; i++) {
		for (const struct trace_call *c = roots[i]; c != NULL;
		     c = trace_call_next(c, roots[i])) {
			if (c->is_shown)
				add_row(s, c);
		}
	}
	grid_print(&s->grid, &s->call->out, s->call->columns);
	grid_done(&s->grid);
	return CODE_OK;
}

/* --- as JSON --- */

static void pair_text(struct json *j, const char *key, const char *text)
{
	if (text[0] == '\0')
		json_pair_null(j, key);
	else
		json_pair_text(j, key, text);
}

static void pair_time(struct json *j, const char *key, uint64_t wall_us)
{
	if (wall_us == 0)
		json_pair_null(j, key);
	else
		json_pair_text(j, key, word_stamp(wall_us).text);
}

static void add_object(struct json *j, const struct trace_call *c)
{
	json_open_object(j);
	pair_text(j, "trace_id", c->trace_id);
	json_pair_text(j, "id", c->id);
	pair_text(j, "parent_id", c->parent_id);
	pair_text(j, "op", c->op);
	pair_text(j, "display_name", c->display_name);
	if (c->step >= 0)
		json_pair_int(j, "step", c->step);
	else
		json_pair_null(j, "step");
	pair_time(j, "started_at", c->started_us);
	pair_time(j, "ended_at", c->ended_us);
	if (c->has_ended)
		json_pair_real(j, "latency_ms", (double)trace_call_took_us(c) / 1000);
	else
		json_pair_null(j, "latency_ms");
	json_pair_text(j, "status",
		       c->exception[0] != '\0' ? "error"
		       : c->has_ended          ? "success"
					       : "running");
	if (c->has_score)
		json_pair_real(j, "score", c->score);
	else
		json_pair_null(j, "score");
	pair_text(j, "reason", c->reason);
	json_pair_uint(j, "tokens", c->all_tokens);
	pair_text(j, "exception", c->exception);
	json_close_object(j);
}

static int print_objects(struct showing *s, struct trace_call *const *roots, size_t count)
{
	auto_buf struct buf text = {0};
	int r = CODE_OK;

	buf_init(&text, 1 << 24);
	for (size_t i = 0; r == CODE_OK && i < count; i++) {
		for (const struct trace_call *c = roots[i]; r == CODE_OK && c != NULL;
		     c = trace_call_next(c, roots[i])) {
			struct json j;

			if (!c->is_shown)
				continue;
			buf_clear(&text);
			json_init(&j, &text);
			add_object(&j, c);
			json_line(&s->call->out, &text);
			r = call_print_some(s->call);
		}
	}
	return r;
}

/* --- what was left out is sent after all --- */

static int send_some(struct showing *s, const char *const *ids, size_t count, uint64_t *ret_held)
{
	struct request q;
	int r;

	request_init(&q, VERB_TRACES_SEND);
	request_text(&q, "run", s->call->words[0]);
	if (count > 0)
		request_texts(&q, "traces", ids, count);
	r = call_order(s->call, &q, ret_held);
	request_done(&q);
	return r;
}

static bool names_some(const struct call *c)
{
	static const unsigned options[] = {OPT_STEP, OPT_OP,   OPT_SCORE, OPT_ERRORS,
					   OPT_SLOW, OPT_GREP, OPT_LINES};
	bool has_one = false;

	for (size_t i = 0; i < array_len(options); i++)
		has_one |= call_has(c, options[i]);
	return has_one;
}

static int send_chosen(struct showing *s, struct trace_call *const *roots, size_t count)
{
	const char *ids[SEND_IDS_MAX];
	uint64_t first = 0;
	uint64_t held = 0;
	int r = CODE_OK;

	for (size_t i = 0; r == CODE_OK && i < count;) {
		size_t some = 0;

		while (i < count && some < SEND_IDS_MAX)
			ids[some++] = roots[i++]->trace_id;
		r = send_some(s, ids, some, &held);
		first = held > first ? held : first;
	}
	if (r == CODE_OK)
		call_print_count(s->call, "traces that were left out before", first);
	return r;
}

static int send_all(struct showing *s)
{
	uint64_t held = 0;
	int r = send_some(s, NULL, 0, &held);

	if (r == CODE_OK)
		call_print_count(s->call, "traces that were left out before", held);
	return r;
}

/* --- the command --- */

static void say_rest(const struct showing *s, size_t shown)
{
	if (s->found == 0 && s->book.count == 0)
		say("no calls are kept of this run; @wbx.op traces functions");
	else if (s->found == 0)
		say("none of %s calls fits", word_count(s->book.count).text);
	if (s->found > shown)
		say("%s more traces; -n shows more, --all shows all",
		    word_count(s->found - shown).text);
	if (s->book.forgotten > 0)
		say("%s older calls were left out: say --step, or -n",
		    word_count(s->book.forgotten).text);
	if (s->stepless > 0)
		say("%s traces do not say their step and were left out (the daemon finds it when "
		    "it "
		    "sends them)",
		    word_count(s->stepless).text);
}

int traces_run(struct call *c)
{
	struct showing s = {.call = c, .now_us = clock_wall_us()};
	struct trace_call **roots = NULL;
	size_t count = 0;
	int r = read_options(&s);

	if (r != CODE_OK)
		return r;
	if (call_has(c, OPT_SEND) && !names_some(c)) {
		r = send_all(&s);
		return r == CODE_OK ? call_print(c) : r;
	}
	r = book_init(&s.book);
	if (r < 0)
		return say_errno("traces", r);
	r = ask(&s);
	if (r == CODE_OK)
		r = choose(&s, &roots, &count);
	if (r == CODE_OK && call_has(c, OPT_SEND))
		r = send_chosen(&s, roots, count);
	else if (r == CODE_OK)
		r = call_has(c, OPT_JSON) || call_has(c, OPT_JSONL)
			    ? print_objects(&s, roots, count)
			    : (count > 0 ? print_trees(&s, roots, count) : CODE_OK);
	if (r == CODE_OK)
		r = call_print(c);
	if (r == CODE_OK && !call_has(c, OPT_SEND))
		say_rest(&s, count);
	(void)mem_free(roots);
	book_done(&s.book);
	return r;
}
