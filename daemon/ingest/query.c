/* See query.h. */
#include "daemon/ingest/query_parts.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- frames --- */

void answer_error(struct buf *out, uint64_t id, const char *code, const char *text)
{
	struct pack p;
	size_t at = frame_open(out, &p, "error", id, 2);

	pack_pair_text(&p, "code", code);
	pack_pair_text(&p, "text", text);
	frame_close(out, at);
}

void answer_done_with(struct buf *out, uint64_t id, int64_t count, const struct packed_pairs *more)
{
	struct pack p;
	size_t at = frame_open(out, &p, "done", id, 1 + more->count);

	pack_pair_int(&p, "count", count);
	pack_raw(&p, more->bytes);
	frame_close(out, at);
}

void answer_done(struct buf *out, uint64_t id, int64_t count)
{
	const struct packed_pairs none = {.count = 0};

	answer_done_with(out, id, count, &none);
}

static void fail(struct query *q, int r)
{
	char text[128];

	buf_clear(&q->out);
	(void)snprintf(text, sizeof(text), "the store cannot be read: %s", strerror(-r));
	answer_error(&q->out, q->id, "store", text);
	q->more = false;
}

/* --- requests --- */

const char CONTROL_UNKNOWN_VERB_TEXT[] =
	"this daemon does not know that verb; wbxctl may be of a newer version";

int control_request_parse(struct span payload, struct control_request *ret)
{
	static const struct mp_limits limits = {
		.depth = 8, .items = 4096, .keys = 256, .key_bytes = KEY_MAX};
	struct mp check = mp_of(payload);
	struct frame_parts parts;

	if (mp_skip(&check, &limits) < 0 || mp_left(&check) != 0 ||
	    frame_parts(payload, &parts) < 0)
		return -EBADMSG;
	ret->verb = verb_by_name(parts.kind);
	ret->id = parts.seq;
	ret->body = parts.body;
	return 0;
}

/* --- what belongs to whom --- */

bool query_may_see(const struct query *q, uint32_t uid)
{
	return q->is_admin || uid == q->uid;
}

void query_search(const struct query *q, struct run_search *ret, struct run_info *run)
{
	*ret = (struct run_search){
		.wanted = mp_get_str(mp_of(buf_span(&q->args)), "run"),
		.is_any = q->is_admin,
		.uid = q->uid,
		.run = run,
	};
}

void query_pack_run_name(struct pack *p, const struct run_info *run)
{
	pack_pair_text(p, "run", run->name);
	pack_pair_text(p, "project", run_project(run));
	pack_pair_text(p, "entity", run_entity(run));
}

/* --- the job --- */

void query_step(struct query *q, struct reader *reader)
{
	int r = -EINVAL;

	buf_clear(&q->out);
	q->more = false;
	q->idle = false;
	if (reader == NULL) {
		fail(q, -EIO);
		return;
	}
	switch (q->verb) {
	case VERB_STATUS: r = query_status(q, reader); break;
	case VERB_BACKLOG: r = query_backlog(q, reader); break;
	case VERB_RUNS: r = query_runs(q, reader); break;
	case VERB_TAIL: r = query_tail(q, reader); break;
	case VERB_EXPORT: r = query_export(q, reader); break;
	case VERB_BLOB: r = query_blob(q, reader); break;
	case VERB_CHECK: r = query_check(q, reader); break;
	case VERB_DISK: r = query_disk(q, reader); break;
	case VERB_PRUNABLE: r = query_prunable(q, reader); break;
	case VERB_DEAD_LIST: r = query_dead_list(q, reader); break;
	case VERB_LATE_LIST: r = query_late_list(q, reader); break;
	case VERB_TRACES: r = query_traces(q, reader); break;
	case VERB_TRACE: r = query_trace_one(q, reader); break;
	case VERB_DEAD_SHOW: r = query_dead_show(q, reader); break;
	case VERB_FLUSH:
	case VERB_RETRY:
	case VERB_PAUSE:
	case VERB_UNPAUSE:
	case VERB_DEAD_RETRY:
	case VERB_DEAD_DROP:
	case VERB_TRACES_SEND:
	case VERB_LATE_DROP:
	case VERB_LIMIT:
	case VERB_KEY_SET:
	case VERB_KEY_CHECK:
	case VERB_KEY_FORGET:
	case VERB_PROBE:
	case VERB_VERIFY:
	case VERB_PRUNE:
	case VERB_COUNT: break; /* others answer these */
	}
	if (r == 0 && q->out.error != 0)
		r = q->out.error;
	if (r < 0)
		fail(q, r);
}

static enum job_result on_job_step(struct job *job, struct reader *reader)
{
	query_step(container_of(job, struct query, job), reader);
	return JOB_DONE;
}

struct query *query_new(enum verb verb, uint64_t id, struct span args,
			const struct query_facts *facts)
{
	struct query *q = mem_zalloc(sizeof(*q));

	if (q == NULL)
		return NULL;
	q->job = (struct job){.mail = {.type = MAIL_QUERY}, .step = on_job_step};
	q->facts = *facts;
	q->verb = verb;
	q->id = id;
	q->after = verb == VERB_TAIL ? -1 : 0;
	buf_init(&q->args, CONTROL_REQUEST_MAX);
	buf_init(&q->out, QUERY_SLICE_BYTES + 4 * CONTROL_REPLY_MAX);
	if (buf_add(&q->args, args.at, args.len) < 0)
		return query_free(q);
	return q;
}

struct query *query_free(struct query *q)
{
	if (q == NULL)
		return NULL;
	q->export = query_export_free(q->export);
	q->check = query_check_free(q->check);
	q->trace = query_trace_free(q->trace);
	buf_done(&q->args);
	buf_done(&q->out);
	return mem_free(q);
}
