/* wbxctl flush: send now; and, with --wait, until W&B has confirmed what the models sink has. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/mp.h"

#include <poll.h>

enum {
	FIRST_POLL_MS = 100,
	LAST_POLL_MS = 1000,
	WAIT_S_MAX = 86400 * 365
};

struct progress {
	uint64_t waiting; /* records of the models sink */
	uint64_t newest_dead;
};

/* The models sink has metrics, and what belongs to no other class. */
static int on_backlog_item(void *arg, struct span body)
{
	struct progress *p = arg;
	struct span class = mp_get_str(mp_of(body), "class");

	if (span_is(class, "metrics") || span_is(class, "rest"))
		p->waiting += mp_get_uint(mp_of(body), "waiting", 0);
	return CODE_OK;
}

static int on_dead_item(void *arg, struct span body)
{
	struct progress *p = arg;
	uint64_t id = mp_get_uint(mp_of(body), "id", 0);

	p->newest_dead = id > p->newest_dead ? id : p->newest_dead;
	return CODE_OK;
}

static int on_run_item(void *arg, struct span body)
{
	(void)body;
	*(uint64_t *)arg += 1;
	return CODE_OK;
}

static int ask_about_run(struct call *c, enum verb verb, control_on_item on_item, void *arg)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, verb);
	request_text(&q, "run", c->values[OPT_RUN]);
	r = call_ask(c, &q, on_item, arg, &answer);
	request_done(&q);
	return r;
}

/* A run that is spelled wrong has nothing waiting either. */
static int check_run(struct call *c)
{
	uint64_t count = 0;
	int r;

	if (!call_has(c, OPT_RUN))
		return CODE_OK;
	r = ask_about_run(c, VERB_RUNS, on_run_item, &count);
	if (r == CODE_OK && count == 0) {
		say("there is no run %s that is yours; wbxctl runs lists them", c->values[OPT_RUN]);
		return CODE_DATA;
	}
	return r;
}

static int wait_until(struct call *c, uint64_t until_ms, struct progress *p)
{
	int wait_ms = FIRST_POLL_MS;

	for (;;) {
		uint64_t now_ms = clock_mono_ms();
		int r;

		p->waiting = 0;
		r = ask_about_run(c, VERB_BACKLOG, on_backlog_item, p);
		if (r != CODE_OK || p->waiting == 0)
			return r;
		if (now_ms >= until_ms)
			return CODE_LATER;
		if ((uint64_t)wait_ms > until_ms - now_ms)
			wait_ms = (int)(until_ms - now_ms);
		(void)poll(NULL, 0, wait_ms); /* a wait */
		wait_ms = wait_ms * 2 < LAST_POLL_MS ? wait_ms * 2 : LAST_POLL_MS;
	}
}

static void print_result(struct call *c, int code, const struct progress *p)
{
	auto_buf struct buf line = {0};
	struct json j;

	if (call_has(c, OPT_JSON)) {
		buf_init(&line, 256);
		json_init(&j, &line);
		json_open_object(&j);
		json_pair_text(&j, "result",
			       code == CODE_OK      ? "done"
			       : code == CODE_LATER ? "not_in_time"
						    : "dead_letters");
		json_pair_uint(&j, "waiting", p->waiting);
		json_close_object(&j);
		json_line(&c->out, &line);
	} else if (code == CODE_LATER) {
		say("not in time: %s record%s wait for W&B; they stay on disk. wbxctl status says "
		    "why",
		    word_count(p->waiting).text, p->waiting == 1 ? "" : "s");
	} else if (code == CODE_DATA) {
		say("W&B has the rest, but refused something for good; wbxctl dead list shows it");
	}
}

static int flush_and_wait(struct call *c, uint64_t wait_s)
{
	uint64_t until_ms = clock_mono_ms() + wait_s * 1000;
	struct progress before = {0};
	struct progress p = {0};
	int code;
	int r = ask_about_run(c, VERB_DEAD_LIST, on_dead_item, &before);

	if (r == CODE_OK)
		r = ask_about_run(c, VERB_FLUSH, NULL, NULL);
	if (r != CODE_OK)
		return r;
	code = wait_until(c, until_ms, &p);
	if (code != CODE_OK && code != CODE_LATER)
		return code;
	r = ask_about_run(c, VERB_DEAD_LIST, on_dead_item, &p);
	if (r != CODE_OK)
		return r;
	if (code == CODE_OK && p.newest_dead > before.newest_dead)
		code = CODE_DATA;
	print_result(c, code, &p);
	return code;
}

int flush_run(struct call *c)
{
	const char *text = c->values[OPT_WAIT];
	uint64_t wait_s = WAIT_S_MAX;
	int r;

	if (text != NULL && text[0] != '\0' && number_read(text, WAIT_S_MAX, &wait_s) < 0)
		return say_usage(c->command, "--wait wants seconds, a whole number");
	r = check_run(c);
	if (r == CODE_OK)
		r = text != NULL ? flush_and_wait(c, wait_s)
				 : ask_about_run(c, VERB_FLUSH, NULL, NULL);
	return r;
}
