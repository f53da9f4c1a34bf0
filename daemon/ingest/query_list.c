/* See query_parts.h: answers that are lists, a slice at a time: backlog, runs, records as they
 * come, dead letters, late rows. */
#include "daemon/ingest/query_parts.h"

#include "daemon/flow/run_url.h"
#include "proto/frame.h"

#include <errno.h>

/* --- what is meant, and how much fits --- */

struct item_walk {
	struct query *q;
	struct reader *reader;
};

static bool slice_is_full(const struct query *q)
{
	return q->out.len >= QUERY_SLICE_BYTES;
}

static struct span run_argument(const struct query *q)
{
	return mp_get_str(mp_of(buf_span(&q->args)), "run");
}

/* May it be seen, and is it meant? No run named: all are. */
static bool is_meant(const struct query *q, const struct run_info *run)
{
	return query_may_see(q, run->uid) &&
	       (run_argument(q).at == NULL || run_is_called(run, run_argument(q)));
}

/* --- backlog, runs --- */

static int on_backlog_stream(void *arg, const struct stream_info *s)
{
	struct item_walk *w = arg;
	struct run_info run;
	struct pack p;
	size_t at;
	int r;

	if (slice_is_full(w->q)) {
		w->q->more = true;
		return 1;
	}
	w->q->after = s->stream;
	r = reader_run(w->reader, stream_run(s->stream), &run);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!is_meant(w->q, &run))
		return 0;
	at = frame_open(&w->q->out, &p, "item", w->q->id, 14);
	query_pack_run_name(&p, &run);
	pack_pair_text(&p, "name", run.display_name);
	pack_pair_uint(&p, "uid", run.uid);
	pack_pair_text(&p, "class", class_name(stream_class(s->stream)));
	pack_pair_text(&p, "state", run_state_name(run.state));
	pack_pair_text(&p, "parked", run.parked);
	pack_pair_int(&p, "waiting", s->waiting);
	pack_pair_int(&p, "bytes", s->waiting_bytes);
	pack_pair_int(&p, "blobs", s->waiting_blobs);
	pack_pair_int(&p, "blob_bytes", s->waiting_blob_bytes);
	pack_pair_int(&p, "oldest_us", s->oldest_us);
	pack_pair_int(&p, "dead", run.dead);
	frame_close(&w->q->out, at);
	w->q->shown++;
	return 0;
}

int query_backlog(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	int r;

	q->more = false;
	r = reader_waiting_streams(reader, q->after, on_backlog_stream, &w);
	if (r == 0)
		answer_done(&q->out, q->id, q->shown);
	return r < 0 ? r : 0;
}

static int on_run(void *arg, const struct run_info *run)
{
	struct item_walk *w = arg;
	struct query *q = w->q;
	struct stream_info s;
	auto_buf struct buf url = {0};
	struct pack p;
	size_t at;
	int r;

	if (slice_is_full(q)) {
		q->more = true;
		return 1;
	}
	q->after = run->id;
	if (!is_meant(q, run))
		return 0;
	r = reader_stream(w->reader, stream_of(run->id, CLASS_METRICS), &s);
	if (r < 0)
		return r;
	buf_init(&url, 4096);
	run_url_add(&url, run, q->facts.base_url);
	at = frame_open(&q->out, &p, "item", q->id, 17);
	query_pack_run_name(&p, run);
	pack_pair_str(&p, "url", buf_span(&url));
	pack_pair_text(&p, "name", run->display_name);
	pack_pair_uint(&p, "uid", run->uid);
	pack_pair_text(&p, "state", run_state_name(run->state));
	pack_pair_text(&p, "parked", run->parked);
	pack_text(&p, "exit_code");
	if (run->has_exit_code)
		pack_int(&p, run->exit_code);
	else
		pack_nil(&p);
	pack_pair_int(&p, "created_us", run->created_us);
	pack_pair_int(&p, "last_us", run->last_us);
	pack_pair_int(&p, "rows", run->next_offset);
	pack_pair_int(&p, "rows_done", run->done_offset);
	pack_pair_int(&p, "waiting", s.waiting);
	pack_pair_int(&p, "waiting_bytes", s.waiting_bytes);
	pack_pair_int(&p, "uploads", run->uploads > 0 ? run->uploads : s.waiting_blobs);
	pack_pair_int(&p, "late", run->late);
	frame_close(&q->out, at);
	q->shown++;
	return 0;
}

int query_runs(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	int64_t before = q->after;
	int r;

	q->more = false;
	r = reader_runs(reader, q->after, on_run, &w);
	if (r < 0)
		return r;
	if (r == 0 && q->after != before)
		q->more = true; /* a page ended; the next one may be empty */
	if (!q->more)
		answer_done(&q->out, q->id, q->shown);
	return 0;
}

/* --- tail --- */

/* uid and run of a record: its producer's, and what its body says. */
static int on_tail_record(void *arg, const struct stored_record *record)
{
	struct item_walk *w = arg;
	struct query *q = w->q;
	struct span kind = mp_get_str(mp_of(buf_span(&q->args)), "kind");
	struct mp payload = mp_of(record->payload);
	struct mp_value v;
	struct span run;
	struct pack p;
	size_t at;

	if (slice_is_full(q))
		return 1;
	q->after = record->lsn;
	if (mp_read(&payload, &v) < 0)
		return 0; /* checked when it came */
	if (mp_read(&payload, &v) < 0)
		return 0;
	if (kind.at != NULL && !span_equal(kind, v.bytes))
		return 0;
	if (mp_read(&payload, &v) < 0)
		return 0;
	run = mp_get_str(payload, "run");
	if (run_argument(q).at != NULL && !span_equal(run, run_argument(q)))
		return 0;
	if (!q->is_admin) {
		uint32_t uid;
		int r = reader_producer_uid(w->reader, record->producer, &uid);

		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (uid != q->uid)
			return 0;
	}
	at = frame_open(&q->out, &p, "item", q->id, 2);
	pack_pair_int(&p, "lsn", record->lsn);
	pack_text(&p, "record");
	pack_raw(&p, record->payload);
	frame_close(&q->out, at);
	q->shown++;
	return 0;
}

static int tail_begins_at(struct query *q, struct reader *reader)
{
	uint64_t back = mp_get_uint(mp_of(buf_span(&q->args)), "last", 10);
	int64_t newest;
	int r = reader_last_lsn(reader, &newest);

	if (r < 0)
		return r;
	q->after = (uint64_t)newest > back ? newest - (int64_t)back : 0;
	return 0;
}

int query_tail(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	bool follow = mp_get_bool(mp_of(buf_span(&q->args)), "follow", false);
	unsigned count = 0;
	int r = 0;

	if (q->after < 0)
		r = tail_begins_at(q, reader);
	if (r == 0)
		r = reader_all_records(reader, q->after, READER_PAGE, on_tail_record, &w, &count);
	if (r < 0)
		return r;
	q->idle = count == 0;
	q->more = count > 0 || follow;
	if (!q->more)
		answer_done(&q->out, q->id, q->shown);
	return 0;
}

/* --- dead letters --- */

static int on_dead(void *arg, const struct dead_info *dead)
{
	struct item_walk *w = arg;
	struct query *q = w->q;
	struct run_info run = {.name = ""};
	struct pack p;
	size_t at;
	int r;

	if (slice_is_full(q))
		return 1;
	q->after = dead->id;
	r = reader_run(w->reader, dead->run, &run);
	if (r < 0 && r != -ENOENT)
		return r;
	if (!is_meant(q, &run))
		return 0;
	at = frame_open(&q->out, &p, "item", q->id, 14);
	pack_pair_int(&p, "id", dead->id);
	query_pack_run_name(&p, &run);
	pack_pair_str(&p, "sink", dead->sink);
	pack_pair_int(&p, "time_us", dead->time_us);
	pack_pair_int(&p, "status", dead->status);
	pack_pair_str(&p, "what", dead->what);
	pack_pair_int(&p, "step", dead->step);
	pack_pair_str(&p, "reason", dead->reason);
	pack_pair_str(&p, "request", dead->request);
	pack_pair_int(&p, "bytes", dead->bytes);
	pack_pair_bin(&p, "answer", dead->answer);
	pack_pair_bin(&p, "body",
		      dead->body.len < RECORD_MAX / 2
			      ? dead->body
			      : (struct span){.at = dead->body.at, .len = RECORD_MAX / 2});
	frame_close(&q->out, at);
	q->shown++;
	return 0;
}

int query_dead_list(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	int64_t before = q->after;
	int r = reader_dead(reader, q->after, on_dead, &w);

	if (r < 0)
		return r;
	q->more = q->after != before;
	if (!q->more)
		answer_done(&q->out, q->id, q->shown);
	return 0;
}

int query_dead_show(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	int64_t id = mp_get_int(mp_of(buf_span(&q->args)), "id", 0);
	int r = reader_dead_letter(reader, id, on_dead, &w);

	if (r == -ENOENT || (r == 0 && q->shown == 0)) {
		answer_error(&q->out, q->id, "not_found",
			     "there is no dead letter of that number that is yours");
		return 0;
	}
	if (r == 0)
		answer_done(&q->out, q->id, q->shown);
	return r;
}

/* --- rows that came late --- */

static int on_late(void *arg, const struct late_info *late)
{
	struct item_walk *w = arg;
	struct query *q = w->q;
	struct run_info run = {.name = ""};
	struct pack p;
	size_t at;
	int r;

	if (slice_is_full(q))
		return 1;
	q->more = true;
	q->after_run = late->run;
	q->after = late->lsn;
	r = reader_run(w->reader, late->run, &run);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!is_meant(q, &run))
		return 0;
	at = frame_open(&q->out, &p, "item", q->id, 6);
	query_pack_run_name(&p, &run);
	pack_pair_int(&p, "lsn", late->lsn);
	pack_pair_int(&p, "step", late->step);
	pack_text(&p, "record");
	pack_raw(&p, late->payload);
	frame_close(&q->out, at);
	q->shown++;
	return 0;
}

int query_late_list(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	int r = reader_late(reader, q->after_run, q->after, on_late, &w);

	if (r < 0)
		return r;
	if (!q->more)
		answer_done(&q->out, q->id, q->shown);
	return 0;
}
