/* wbxctl late: rows that came after their step had gone. They stay in the store until a person
 * writes them elsewhere and drops them. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/line.h"
#include "proto/mp.h"

#include <errno.h>

static int on_item(void *arg, struct span body)
{
	struct call *c = arg;
	struct span record;
	int r;

	if (mp_find_span(mp_of(body), "record", &record) < 0)
		return CODE_OK;
	if (call_has(c, OPT_JSON)) {
		r = line_add_json(&c->out, mp_get_int(mp_of(body), "lsn", 0), record);
	} else {
		r = line_add(&c->out, record, c->columns);
		(void)buf_add_byte(&c->out, '\n'); /* looked at when it is printed */
	}
	if (r < 0 && r != -EBADMSG)
		return say_errno("late", r);
	return call_print_some(c);
}

int late_list_run(struct call *c)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_LATE_LIST);
	request_text(&q, "run", c->values[OPT_RUN]);
	r = call_ask(c, &q, on_item, c, &answer);
	request_done(&q);
	if (r == CODE_OK && mp_get_uint(mp_of(answer.body), "count", 1) == 0 &&
	    !call_has(c, OPT_JSON))
		(void)buf_add_text(&c->out, "no late rows\n"); /* call_print() looks */
	return r;
}

int late_drop_run(struct call *c)
{
	struct request q;
	uint64_t count;
	int r;

	request_init(&q, VERB_LATE_DROP);
	request_text(&q, "run", c->words[0]);
	r = call_order(c, &q, &count);
	request_done(&q);
	if (r == CODE_OK)
		call_print_count(c, "late rows given up", count);
	return r;
}
