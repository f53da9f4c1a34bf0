/* wbxctl verify: does W&B have a run as the store says that it was delivered? The daemon asks W&B and
 * compares; here it is said. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/outside.h"
#include "proto/mp.h"

enum {
	ASK_TIMEOUT_MS = 120000
};

static uint64_t number(struct mp item, const char *key)
{
	return mp_get_uint(item, key, 0);
}

/* Of a shared run W&B counts the lines of all its writers. */
static bool is_equal(struct mp item, const char *here, const char *there)
{
	return mp_get_bool(item, "is_shared", false) ? number(item, here) <= number(item, there)
						     : number(item, here) == number(item, there);
}

static void add_count(struct buf *out, const char *what, struct mp item, const char *here,
		      const char *there)
{
	(void)buf_printf(out, "%-8s  here %s, W&B %s%s\n", what,
			 word_count(number(item, here)).text, word_count(number(item, there)).text,
			 is_equal(item, here, there) ? "" : "  DIFFERENT");
}

/* "config lr: here 0.1, W&B 0.2" */
static void add_difference(struct buf *out, struct mp d)
{
	struct span there = mp_get_str(d, "there");

	outside_add(out, mp_get_str(d, "what"), OUTSIDE_LINE);
	(void)buf_add_byte(out, ' '); /* call_print() looks */
	outside_add(out, mp_get_str(d, "key"), OUTSIDE_LINE);
	(void)buf_add_text(out, ": here ");
	outside_add(out, mp_get_str(d, "here"), OUTSIDE_LINE);
	(void)buf_add_text(out, ", W&B ");
	outside_add(out, there.at == NULL ? SPAN_LITERAL("does not have it") : there, OUTSIDE_LINE);
	(void)buf_add_byte(out, '\n');
}

static void add_differences(struct buf *out, struct mp item)
{
	struct mp_value head;
	struct span list;
	struct mp at;

	if (mp_find_span(item, "differences", &list) < 0)
		return;
	at = mp_of(list);
	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY)
		return;
	for (uint32_t i = 0; i < head.count; i++) {
		struct span one;

		if (mp_take(&at, &one) < 0)
			return;
		add_difference(out, mp_of(one));
	}
	if (number(item, "difference_count") > head.count)
		(void)buf_printf(out, "... and %s more\n",
				 word_count(number(item, "difference_count") - head.count).text);
}

static bool is_waiting(struct mp item)
{
	return number(item, "waiting") > 0 || number(item, "uploads") > 0 ||
	       number(item, "rows_planned") > number(item, "rows") ||
	       mp_get_bool(item, "is_dirty", false) || mp_get_bool(item, "side_waits", false);
}

static int judge_run(struct mp item)
{
	if (mp_get_str(item, "failure").len > 0 || number(item, "status") >= 300)
		return CODE_AWAY;
	if (is_waiting(item))
		return CODE_LATER;
	return !mp_get_bool(item, "exists", false) || !is_equal(item, "rows", "rows_there") ||
			       !is_equal(item, "events", "events_there") ||
			       !is_equal(item, "console", "console_there") ||
			       number(item, "difference_count") > 0
		       ? CODE_DATA
		       : CODE_OK;
}

static void say_unreached(struct mp item)
{
	struct span failure = mp_get_str(item, "failure");
	struct span error = mp_get_str(item, "error");

	if (failure.len > 0)
		say("W&B cannot be asked: %.*s%s%.*s; wbxctl doctor net", (int)failure.len,
		    (const char *)failure.at, error.len > 0 ? ": " : "", (int)error.len,
		    (const char *)error.at);
	else
		say("W&B answered with HTTP %llu; wbxctl doctor key",
		    (unsigned long long)number(item, "status"));
}

static void print_run(struct call *c, struct mp item, int code)
{
	struct buf *out = &c->out;

	if (!mp_get_bool(item, "exists", false)) {
		(void)buf_add_text(out, "W&B does not have the run\n"); /* call_print() looks */
	} else {
		add_count(out, "rows", item, "rows", "rows_there");
		add_count(out, "events", item, "events", "events_there");
		add_count(out, "output", item, "console", "console_there");
		if (mp_get_bool(item, "is_shared", false))
			(void)buf_add_text(out, "shared: W&B counts the lines of all writers, and "
						"has one summary of theirs\n");
		add_differences(out, item);
	}
	(void)buf_printf(out, "%s values of config and summary compared, %s different\n",
			 word_count(number(item, "keys")).text,
			 word_count(number(item, "difference_count")).text);
	if (number(item, "late") > 0 || number(item, "dead") > 0)
		(void)buf_printf(
			out,
			"not sent for good: %s late rows (wbxctl late list), %s dead letters "
			"(wbxctl dead list)\n",
			word_count(number(item, "late")).text,
			word_count(number(item, "dead")).text);
	if (code == CODE_LATER)
		(void)buf_printf(out,
				 "not all is sent yet: %s records and %s files wait; wbxctl status "
				 "says why\n",
				 word_count(number(item, "waiting")).text,
				 word_count(number(item, "uploads")).text);
	(void)buf_add_text(out, code == CODE_OK     ? "equal\n"
				: code == CODE_DATA ? "DIFFERENT\n"
						    : "");
}

int verify_run(struct call *c)
{
	struct control_answer answer;
	struct request q;
	struct mp found;
	int code;
	int r;

	request_init(&q, VERB_VERIFY);
	q.timeout_ms = ASK_TIMEOUT_MS;
	request_text(&q, "run", c->words[0]);
	r = call_ask(c, &q, NULL, NULL, &answer);
	request_done(&q);
	if (r != CODE_OK)
		return r;
	found = mp_of(answer.body);
	code = judge_run(found);
	if (call_has(c, OPT_JSON))
		r = call_on_json_item(c, answer.body);
	else if (code == CODE_AWAY)
		say_unreached(found);
	else
		print_run(c, found, code);
	return r == CODE_OK ? code : r;
}
