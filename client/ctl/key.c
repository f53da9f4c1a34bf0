/* wbxctl key: hands over the W&B key of its user, asks what W&B says of it, takes it back. The key
 * comes from a terminal, without being shown, or from standard input; never from the command line,
 * which everybody on the machine may read. */
#include "client/ctl/call.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "proto/mp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum {
	KEY_TEXT_MAX = 4096,
	/* longer than a try of the daemon's may take: to connect, and for an answer that stalls */
	CHECK_TIMEOUT_MS = 200000,
};

/* --- reading it --- */

/* One line, or all up to the end. 0; -E2BIG: no key is so long; -errno. */
static int read_input(char ret[KEY_TEXT_MAX], bool is_line)
{
	size_t len = 0;

	for (;;) {
		ssize_t n;

		if (len == KEY_TEXT_MAX - 1)
			return -E2BIG;
		n = read(STDIN_FILENO, ret + len, is_line ? 1 : KEY_TEXT_MAX - 1 - len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && !(is_line && ret[len] == '\n'))
			len += (size_t)n;
		else if (n >= 0)
			break;
	}
	ret[len] = '\0';
	return 0;
}

static int read_terminal(char ret[KEY_TEXT_MAX])
{
	struct termios shown;
	struct termios hidden;
	int r;

	if (tcgetattr(STDIN_FILENO, &shown) < 0)
		return -errno;
	hidden = shown;
	/* without signals: an interrupt would leave the terminal like this */
	hidden.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
	(void)fputs("W&B API key (it is not shown): ", stderr); /* a prompt */
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) < 0)
		return -errno;
	r = read_input(ret, true);
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown); /* it worked a moment ago */
	(void)fputs("\n", stderr);
	return r;
}

/* --- what W&B says of it --- */

static void add_key(struct buf *out, struct mp answer)
{
	bool is_site = span_is(mp_get_str(answer, "owner"), "site");

	(void)buf_add_text(out, is_site ? "the site's key …" : "your key …"); /* errors stay */
	outside_add(out, mp_get_str(answer, "tail"), OUTSIDE_LINE);
	(void)buf_add_text(out, " (");
	outside_add(out, mp_get_str(answer, "source"), OUTSIDE_LINE);
	(void)buf_add_byte(out, ')');
}

static int say_state(struct buf *out, struct mp answer)
{
	struct span state = mp_get_str(answer, "state");
	struct span error = mp_get_str(answer, "error");
	int code = CODE_LATER;

	if (span_is(state, "none")) {
		(void)buf_add_text(out, "there is no key for your runs: wbxctl key set");
		code = CODE_DATA;
	} else if (span_is(state, "accepted")) {
		(void)buf_add_text(out, "W&B accepts ");
		add_key(out, answer);
		(void)buf_add_text(out, ": user ");
		outside_add(out, mp_get_str(answer, "user"), OUTSIDE_LINE);
		(void)buf_add_text(out, ", default entity ");
		outside_add(out, mp_get_str(answer, "entity"), OUTSIDE_LINE);
		code = CODE_OK;
	} else if (span_is(state, "refused")) {
		(void)buf_add_text(out, "W&B refuses ");
		add_key(out, answer);
		code = CODE_DATA;
	} else if (span_is(state, "paused")) {
		(void)buf_add_text(out,
				   "not asked while the sink is paused (wbxctl unpause models): ");
		add_key(out, answer);
	} else {
		(void)buf_add_text(out, "W&B cannot be asked now about ");
		add_key(out, answer);
	}
	if (code != CODE_OK && error.len > 0) {
		(void)buf_add_text(out, ": ");
		outside_add(out, error, OUTSIDE_LINE);
	}
	(void)buf_add_byte(out, '\n');
	return code;
}

static int print_check(struct call *c, const struct control_answer *answer)
{
	struct buf text = {0};
	int code;

	buf_init(&text, 64 << 10);
	code = say_state(&text, mp_of(answer->body));
	if (call_has(c, OPT_JSON))
		(void)call_on_json_item(c, answer->body); /* call_print() looks */
	else
		(void)buf_add(&c->out, text.data, text.len);
	buf_done(&text);
	return code;
}

/* --- commands --- */

int key_check_run(struct call *c)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_KEY_CHECK);
	q.timeout_ms = CHECK_TIMEOUT_MS;
	r = call_ask(c, &q, NULL, NULL, &answer);
	request_done(&q);
	return r == CODE_OK ? print_check(c, &answer) : r;
}

static int send_key(struct call *c, const char *key)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_KEY_SET);
	q.timeout_ms = CHECK_TIMEOUT_MS;
	request_text(&q, "key", key);
	r = call_ask(c, &q, NULL, NULL, &answer);
	if (q.pairs.len > 0)
		explicit_bzero(q.pairs.data, q.pairs.len);
	request_done(&q);
	if (r != CODE_OK)
		return r;
	if (!call_has(c, OPT_JSON))
		(void)buf_add_text(&c->out,
				   "the key is kept for your runs; "); /* call_print() looks */
	r = print_check(c, &answer);
	return r == CODE_LATER ? CODE_OK : r; /* it is kept, and will be tried */
}

int key_set_run(struct call *c)
{
	char key[KEY_TEXT_MAX] = "";
	int r = isatty(STDIN_FILENO) == 1 ? read_terminal(key) : read_input(key, false);

	if (r == -E2BIG) {
		say("no key is that long");
		r = CODE_DATA;
	} else if (r < 0) {
		r = say_errno("standard input", r);
	} else {
		r = send_key(c, key);
	}
	explicit_bzero(key, sizeof(key));
	return r;
}

int key_forget_run(struct call *c)
{
	struct request q;
	uint64_t count;
	int r;

	request_init(&q, VERB_KEY_FORGET);
	r = call_order(c, &q, &count);
	request_done(&q);
	if (r == CODE_OK)
		call_print_count(c, "keys forgotten", count);
	return r;
}
