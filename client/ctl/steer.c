/* wbxctl retry, pause, unpause: what steers delivery. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "proto/base/clock.h"

int retry_run(struct call *c)
{
	struct request q;
	uint64_t count;
	int r;

	request_init(&q, VERB_RETRY);
	request_text(&q, "sink", c->values[OPT_SINK]);
	request_text(&q, "run", c->values[OPT_RUN]);
	r = call_order(c, &q, &count);
	request_done(&q);
	if (r == CODE_OK)
		call_print_count(c, "tried again now", count);
	return r;
}

static void print_pause(struct call *c, uint64_t for_ms)
{
	uint64_t now_us = clock_wall_us();

	(void)buf_add_text(&c->out, "sink "); /* call_print() looks */
	outside_add_text(&c->out, c->words[0]);
	if (for_ms == 0)
		(void)buf_add_text(&c->out, " is paused; wbxctl unpause ");
	else
		(void)buf_printf(&c->out, " is paused until %s; before that: wbxctl unpause ",
				 word_clock(now_us + for_ms * 1000, now_us).text);
	outside_add_text(&c->out, c->words[0]);
	(void)buf_add_text(&c->out, "\n");
}

int pause_run(struct call *c)
{
	struct request q;
	uint64_t for_ms = 0;
	uint64_t count;
	int r;

	if (call_has(c, OPT_FOR) && (duration_read(c->values[OPT_FOR], &for_ms) < 0 || for_ms == 0))
		return say_usage(c->command, "--for wants a time, such as 30s, 15m, 2h or 1d");
	request_init(&q, VERB_PAUSE);
	request_text(&q, "sink", c->words[0]);
	if (for_ms != 0)
		request_uint(&q, "for_ms", for_ms);
	r = call_order(c, &q, &count);
	request_done(&q);
	if (r == CODE_OK && call_has(c, OPT_JSON))
		call_print_count(c, "", count);
	else if (r == CODE_OK)
		print_pause(c, for_ms);
	return r;
}

int unpause_run(struct call *c)
{
	struct request q;
	uint64_t count;
	int r;

	request_init(&q, VERB_UNPAUSE);
	request_text(&q, "sink", c->words[0]);
	r = call_order(c, &q, &count);
	request_done(&q);
	if (r == CODE_OK && call_has(c, OPT_JSON)) {
		call_print_count(c, "", count);
	} else if (r == CODE_OK) {
		(void)buf_add_text(&c->out, "sink "); /* call_print() looks */
		outside_add_text(&c->out, c->words[0]);
		(void)buf_add_text(&c->out, " goes on\n");
	}
	return r;
}
