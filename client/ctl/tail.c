/* wbxctl tail: the newest records. The daemon counts back over the records of all runs, so those
 * that were asked for are picked from more of them, and the last N kept; what comes in afterwards
 * is a second question that begins a little earlier, and lsns say what was shown already. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/line.h"
#include "proto/base/mem.h"
#include "proto/kind.h"
#include "proto/mp.h"

#include <errno.h>
#include <string.h>

enum {
	LINES = 10,
	LINES_MAX = 100000,
	SEARCH_BACK = 100000, /* records looked at for those of one run or kind */
	OVERLAP = 20000,      /* records that may come in between the two questions */
};

struct tailing {
	struct call *call;
	bool follows;
	int64_t seen;     /* the newest lsn that was shown or passed over */
	struct buf *ring; /* of the last `lines` lines; NULL: all are printed at once */
	size_t lines;
	size_t taken;
};

static int add_record(struct tailing *t, struct buf *out, int64_t lsn, struct span record)
{
	int r;

	if (call_has(t->call, OPT_JSON)) {
		r = line_add_json(out, lsn, record);
	} else {
		r = line_add(out, record, t->call->columns);
		(void)buf_add_byte(out, '\n'); /* looked at when it is printed */
	}
	if (r == -EBADMSG) {
		say("record %lld cannot be shown", (long long)lsn);
		return CODE_OK;
	}
	return r < 0 ? say_errno("tail", r) : CODE_OK;
}

static int on_item(void *arg, struct span body)
{
	struct tailing *t = arg;
	int64_t lsn = mp_get_int(mp_of(body), "lsn", 0);
	struct buf *out = &t->call->out;
	struct span record;
	int r;

	if (lsn <= t->seen)
		return CODE_OK;
	t->seen = lsn;
	if (mp_find_span(mp_of(body), "record", &record) < 0)
		return CODE_OK;
	if (t->ring != NULL) {
		out = &t->ring[t->taken++ % t->lines];
		buf_clear(out);
	}
	r = add_record(t, out, lsn, record);
	if (r != CODE_OK || t->ring != NULL)
		return r;
	return t->follows ? call_print(t->call) : call_print_some(t->call);
}

static void print_ring(struct tailing *t)
{
	size_t from = t->taken > t->lines ? t->taken - t->lines : 0;

	for (size_t i = from; i < t->taken; i++) {
		const struct buf *line = &t->ring[i % t->lines];

		(void)buf_add(&t->call->out, line->data, line->len); /* call_print() looks */
		if (line->error != 0 && t->call->out.error == 0)
			t->call->out.error = line->error;
	}
}

static int ring_new(struct tailing *t)
{
	t->ring = mem_alloc(t->lines * sizeof(*t->ring));
	if (t->ring == NULL)
		return say_errno("tail", -ENOMEM);
	for (size_t i = 0; i < t->lines; i++)
		buf_init(&t->ring[i], 32 << 20);
	return CODE_OK;
}

static void ring_free(struct tailing *t)
{
	for (size_t i = 0; t->ring != NULL && i < t->lines; i++)
		buf_done(&t->ring[i]);
	t->ring = mem_free(t->ring);
}

/* The daemon wants the run's id alone here; people may write entity/project/id. */
static const char *run_id(const struct call *c)
{
	const char *run = call_word(c);
	const char *slash = run == NULL ? NULL : strrchr(run, '/');

	return slash == NULL ? run : slash + 1;
}

static void ask_for(const struct tailing *t, struct request *q, uint64_t back, bool follow)
{
	request_init(q, VERB_TAIL);
	request_text(q, "run", run_id(t->call));
	request_text(q, "kind", t->call->values[OPT_KIND]);
	request_uint(q, "last", back);
	request_bool(q, "follow", follow);
}

static int show_newest(struct tailing *t)
{
	bool is_filtered = call_word(t->call) != NULL || call_has(t->call, OPT_KIND);
	struct control_answer answer;
	struct request q;
	int r = ring_new(t);

	if (r != CODE_OK)
		return r;
	ask_for(t, &q, is_filtered && t->lines < SEARCH_BACK ? SEARCH_BACK : t->lines, false);
	r = call_ask(t->call, &q, on_item, t, &answer);
	request_done(&q);
	if (r == CODE_OK)
		print_ring(t);
	ring_free(t);
	return r == CODE_OK && t->follows ? call_print(t->call) : r;
}

static int follow(struct tailing *t)
{
	struct control_answer answer;
	struct request q;
	int r;

	ask_for(t, &q, t->seen == 0 ? 0 : OVERLAP, true);
	q.timeout_ms = 0; /* there may be nothing for hours */
	r = call_ask(t->call, &q, on_item, t, &answer);
	request_done(&q);
	return r;
}

int tail_run(struct call *c)
{
	struct tailing t = {.call = c, .follows = call_has(c, OPT_FOLLOW), .lines = LINES};
	const char *kind = c->values[OPT_KIND];
	uint64_t lines = LINES;
	int r;

	if (kind != NULL && kind_by_name(span_of_text(kind)) == KIND_UNKNOWN)
		return say_usage(c->command, "there is no such kind of record");
	if (call_has(c, OPT_LINES) &&
	    (number_read(c->values[OPT_LINES], LINES_MAX, &lines) < 0 || lines == 0))
		return say_usage(c->command, "-n wants a whole number from 1 to 100000");
	t.lines = (size_t)lines;
	r = show_newest(&t);
	return r == CODE_OK && t.follows ? follow(&t) : r;
}
