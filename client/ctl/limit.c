/* wbxctl limit: how fast is sent at most, shown and changed while the daemon runs. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/screen.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

enum {
	REQUESTS_MAX = 100000, /* as models.requests_per_s */
	LINE_MAX_BYTES = 4096
};

/* --- showing --- */

static void add_json(struct buf *out, const struct sink_facts *s)
{
	auto_buf struct buf line = {0};
	struct json j;

	buf_init(&line, LINE_MAX_BYTES);
	json_init(&j, &line);
	json_open_object(&j);
	json_pair_text(&j, "sink", s->name);
	json_pair_real(&j, "requests_per_s", s->requests_per_s);
	json_pair_real(&j, "bytes_per_s", s->bytes_per_s);
	json_pair_bool(&j, "limits_are_asked_for", s->limits_are_asked_for);
	json_close_object(&j);
	json_line(out, &line);
}

static void add_limits(struct call *c, const struct sink_facts *s)
{
	if (call_has(c, OPT_JSON)) {
		add_json(&c->out, s);
		return;
	}
	limits_add(&c->out, s);
	(void)buf_add_text(&c->out, s->limits_are_asked_for
					    ? " (asked for; --default takes that back)\n"
					    : " (as the settings say)\n");
}

/* They are the same for all keys: the first line of a sink tells them. Only models sends. */
static int show(struct call *c, const char *sink)
{
	struct control_answer answer = {.body = {NULL, 0}};
	struct request q;
	struct facts *f = mem_alloc(sizeof(*f)); /* too big for comfort on a stack */
	int r;

	if (f == NULL)
		return say_errno("limit", -ENOMEM);
	request_init(&q, VERB_STATUS);
	r = call_ask(c, &q, NULL, NULL, &answer);
	request_done(&q);
	if (r == CODE_OK && facts_read(answer.body, f) < 0) {
		say("the daemon's answer is not one to status");
		r = CODE_AWAY;
	} else if (r == CODE_OK && !f->running) {
		say("no daemon runs that could send anything");
		r = CODE_AWAY;
	}
	for (size_t i = 0; r == CODE_OK && i < f->sink_count; i++) {
		if (strcmp(f->sinks[i].name, sink) == 0) {
			add_limits(c, &f->sinks[i]);
			break;
		}
	}
	(void)mem_free(f);
	return r;
}

/* --- changing --- */

static int add_wishes(const struct call *c, struct request *q)
{
	uint64_t n;

	if (call_has(c, OPT_REQUESTS)) {
		if (number_read(c->values[OPT_REQUESTS], REQUESTS_MAX, &n) < 0)
			return say_usage(c->command,
					 "--requests-per-s wants a whole number up to 100000");
		request_uint(q, "requests_per_s", n);
	}
	if (call_has(c, OPT_BYTES)) {
		if (bytes_read(c->values[OPT_BYTES], &n) < 0)
			return say_usage(c->command,
					 "--bytes-per-s wants bytes, such as 4096, 512K or 2M");
		request_uint(q, "bytes_per_s", n);
	}
	if (call_has(c, OPT_DEFAULT))
		request_bool(q, "default", true);
	return CODE_OK;
}

int limit_run(struct call *c)
{
	const char *sink = c->word_count > 0 ? c->words[0] : "models";
	struct request q;
	uint64_t count;
	int r;

	if (strcmp(sink, "models") != 0)
		return say_usage(c->command, "only the sink models sends, and has limits");
	if (!call_has(c, OPT_REQUESTS) && !call_has(c, OPT_BYTES) && !call_has(c, OPT_DEFAULT))
		return show(c, sink);
	request_init(&q, VERB_LIMIT);
	request_text(&q, "sink", sink);
	r = add_wishes(c, &q);
	if (r == CODE_OK)
		r = call_order(c, &q, &count);
	request_done(&q);
	return r == CODE_OK ? show(c, sink) : r;
}
