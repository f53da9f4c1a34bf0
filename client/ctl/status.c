/* wbxctl status: asks for the facts, has them judged, prints the screen or the JSON. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/report.h"
#include "client/ctl/screen.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WATCH_S = 2,
	WATCH_S_MAX = 86400
};

static int get_facts(struct call *c, struct facts *ret)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_STATUS);
	r = call_ask(c, &q, NULL, NULL, &answer);
	request_done(&q);
	if (r != CODE_OK)
		return CODE_UNREACHABLE;
	if (facts_read(answer.body, ret) < 0) {
		say("the daemon's answer is not one to status; its version may be another than "
		    "wbxctl's");
		return CODE_UNREACHABLE;
	}
	ret->kind = c->kind;
	ret->asker = (int64_t)getuid();
	if (!c->store_only)
		memcpy(ret->control, c->place.control, sizeof(ret->control));
	return CODE_OK;
}

static bool has_colour(void)
{
	const char *no = getenv("NO_COLOR");

	return (no == NULL || no[0] == '\0') && isatty(STDOUT_FILENO) == 1;
}

static int show(struct call *c, const struct facts *f)
{
	struct judgement j;
	int r = judge(f, &j);
	int code = health_exit_code(j.health);

	if (r < 0)
		code = say_errno("status", r);
	else if (call_has(c, OPT_JSON))
		report_add(&c->out, f, &j);
	else
		screen_add(&c->out, f, &j, has_colour());
	judgement_done(&j);
	return call_print(c) == CODE_OK ? code : CODE_ERROR;
}

static int show_once(struct call *c)
{
	struct facts *f = mem_alloc(sizeof(*f)); /* too big for comfort on a stack */
	int r;

	if (f == NULL)
		return say_errno("status", -ENOMEM);
	r = get_facts(c, f);
	if (r == CODE_OK)
		r = show(c, f);
	(void)mem_free(f);
	return r;
}

/* Until a signal ends it. A daemon that comes and goes is shown coming and going. */
static int watch(struct call *c, uint64_t every_s)
{
	bool has_screen = isatty(STDOUT_FILENO) == 1 && !call_has(c, OPT_JSON);

	for (;;) {
		if (has_screen)
			(void)buf_add_text(&c->out, "\x1b[H\x1b[2J"); /* call_print() looks */
		if (show_once(c) == CODE_ERROR)
			return CODE_ERROR;
		(void)poll(NULL, 0, (int)(every_s * 1000)); /* a wait */
		call_hang_up(c);
		c->is_offline = false;
	}
}

int status_run(struct call *c)
{
	uint64_t every_s = WATCH_S;
	const char *text = c->values[OPT_WATCH];

	if (text == NULL)
		return show_once(c);
	if (text[0] != '\0' && (number_read(text, WATCH_S_MAX, &every_s) < 0 || every_s == 0))
		return say_usage(c->command, "--watch wants seconds, a whole number from 1 on");
	return watch(c, every_s);
}
