/* wbxctl url: where a run is in the browser. */
#include "client/ctl/call.h"
#include "client/ctl/outside.h"
#include "proto/mp.h"

struct search {
	struct call *call;
	uint64_t runs;
	uint64_t urls;
};

static int on_item(void *arg, struct span body)
{
	struct search *s = arg;
	struct span url = mp_get_str(mp_of(body), "url");

	s->runs++;
	if (url.len == 0)
		return CODE_OK;
	s->urls++;
	outside_add(&s->call->out, url, OUTSIDE_LINE);
	(void)buf_add_byte(&s->call->out, '\n'); /* call_print() looks */
	return CODE_OK;
}

int url_run(struct call *c)
{
	struct search s = {.call = c};
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_RUNS);
	request_text(&q, "run", c->words[0]);
	r = call_ask(c, &q, on_item, &s, &answer);
	request_done(&q);
	if (r != CODE_OK)
		return r;
	if (s.runs == 0) {
		say("there is no run %s that is yours; wbxctl runs lists them", c->words[0]);
		return CODE_DATA;
	}
	if (s.urls < s.runs) {
		say("W&B does not have the run yet; wbxctl status says why");
		return CODE_LATER;
	}
	return CODE_OK;
}
