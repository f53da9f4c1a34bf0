/* See query.h. */
#include "daemon/ingest/query.h"

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- frames --- */

void answer_error(struct buf *out, uint64_t id, const char *code, const char *text)
{
	struct pack p;
	size_t at = frame_open(out, &p, "error", id, 2);

	pack_pair_text(&p, "code", code);
	pack_pair_text(&p, "text", text);
	frame_close(out, at);
}

void answer_done(struct buf *out, uint64_t id, int64_t count)
{
	struct pack p;
	size_t at = frame_open(out, &p, "done", id, 1);

	pack_pair_int(&p, "count", count);
	frame_close(out, at);
}

static void fail(struct query *q, int r)
{
	char text[128];

	buf_clear(&q->out);
	(void)snprintf(text, sizeof(text), "the store cannot be read: %s", strerror(-r));
	answer_error(&q->out, q->id, "store", text);
	q->more = false;
}

static bool slice_is_full(const struct query *q)
{
	return q->out.len >= QUERY_SLICE_BYTES;
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

static bool may_see(const struct query *q, uint32_t uid)
{
	return q->is_admin || uid == q->uid;
}

static void pack_run_name(struct pack *p, const struct run_info *run)
{
	pack_pair_text(p, "run", run->name);
	pack_pair_text(p, "project", run_project(run));
	pack_pair_text(p, "entity", run_entity(run));
}

static struct span run_argument(const struct query *q)
{
	return mp_get_str(mp_of(buf_span(&q->args)), "run");
}

/* May it be seen, and is it meant? No run named: all are. */
static bool is_meant(const struct query *q, const struct run_info *run)
{
	return may_see(q, run->uid) &&
	       (run_argument(q).at == NULL || run_is_called(run, run_argument(q)));
}

/* --- status --- */

/* What waits for a sink, summed over streams. */
struct sink_sum {
	int64_t waiting;
	int64_t bytes;
	int64_t oldest_us;
	int64_t delivered_bytes;
};

struct sums {
	const struct query *q;
	struct reader *reader;
	struct sink_sum sinks[SINK_COUNT];
};

static void add_waiting(struct sink_sum *sum, int64_t waiting, int64_t bytes, int64_t oldest_us)
{
	if (waiting <= 0)
		return;
	sum->waiting += waiting;
	sum->bytes += bytes;
	if (sum->oldest_us == 0 || (oldest_us != 0 && oldest_us < sum->oldest_us))
		sum->oldest_us = oldest_us;
}

static int sum_stream(void *arg, const struct stream_info *s)
{
	static const enum sink_id sinks[CLASS_COUNT] = {
		[CLASS_METRICS] = SINK_MODELS,
		[CLASS_BULK] = SINK_ARTIFACTS,
		[CLASS_TRACES] = SINK_WEAVE,
		[CLASS_REST] = SINK_MODELS,
	};
	struct sums *sums = arg;
	enum record_class class = stream_class(s->stream);

	add_waiting(&sums->sinks[sinks[class]], s->waiting, s->waiting_bytes, s->oldest_us);
	if (class == CLASS_METRICS)
		add_waiting(&sums->sinks[SINK_ARTIFACTS], s->waiting_blobs, s->waiting_blob_bytes,
			    s->oldest_us);
	return 0;
}

/* Milliseconds since, or -1 for never. */
static int64_t ago(uint64_t now_ms, uint64_t then_ms)
{
	return then_ms == 0 ? -1 : (int64_t)(now_ms - then_ms);
}

static void pack_sink(struct pack *p, const struct query *q, enum sink_id id,
		      const struct sink_sum *sum, const struct sink_info *stored, uint64_t now_ms)
{
	struct stats *stats = q->facts.stats;
	struct sink_board board = {.mood = id == SINK_MODELS ? MOOD_UNTRIED : MOOD_STORED_ONLY};

	if (stats != NULL)
		stats_get_sink(stats, id, &board);
	pack_map(p, 18);
	pack_pair_text(p, "name", sink_name(id));
	pack_pair_text(p, "state", sink_mood_name(board.mood));
	pack_pair_int(p, "state_ms", ago(now_ms, board.since_ms));
	pack_pair_int(p, "waiting", sum->waiting);
	pack_pair_int(p, "waiting_bytes", sum->bytes);
	pack_pair_uint(p, "in_flight", board.in_flight);
	pack_pair_int(p, "oldest_us", sum->oldest_us);
	pack_pair_int(p, "next_try_ms",
		      board.next_try_ms == 0       ? -1
		      : board.next_try_ms > now_ms ? (int64_t)(board.next_try_ms - now_ms)
						   : 0);
	pack_pair_uint(p, "tries", board.tries);
	pack_pair_double(p, "sent_per_s", stats == NULL ? 0 : rate_per_s(&stats->sent[id], now_ms));
	pack_pair_double(p, "retries_per_s",
			 stats == NULL ? 0 : rate_per_s(&stats->retries[id], now_ms));
	pack_pair_int(p, "last_ok_us", stored->last_ok_us);
	pack_pair_int(p, "sent", stored->sent);
	pack_pair_int(p, "paused_until_us", stored->paused_until_us);
	pack_pair_int(p, "http", board.http_status);
	pack_pair_uint(p, "spacing_ms", board.spacing_ms);
	pack_pair_uint(p, "retry_after_ms", board.retry_after_ms);
	pack_pair_text(p, "error", board.last_error);
}

static int pack_sinks(struct pack *p, const struct sums *sums, uint64_t now_ms)
{
	pack_text(p, "sinks");
	pack_array(p, SINK_COUNT);
	for (unsigned i = 0; i < SINK_COUNT; i++) {
		struct sink_info stored = {0};
		int r = sums->reader == NULL
				? 0
				: reader_sink(sums->reader, sink_name((enum sink_id)i), &stored);

		if (r < 0)
			return r;
		pack_sink(p, sums->q, (enum sink_id)i, &sums->sinks[i], &stored, now_ms);
	}
	return 0;
}

static void pack_store(struct pack *p, const struct query *q, const struct store_totals *t)
{
	struct stats *stats = q->facts.stats;
	char fault[200] = "";

	if (stats != NULL)
		stats_get_store_fault(stats, fault, sizeof(fault));
	pack_text(p, "store");
	pack_map(p, 15);
	pack_pair_text(p, "dir", q->facts.store_dir);
	pack_pair_int(p, "database_bytes", t->database_bytes);
	pack_pair_int(p, "wal_bytes", t->wal_bytes);
	pack_pair_int(p, "blob_bytes", t->blob_bytes);
	pack_pair_uint(p, "used_bytes",
		       stats == NULL ? (uint64_t)(t->database_bytes + t->blob_bytes)
				     : atomic_load(&stats->store_bytes));
	pack_pair_int(p, "limit_bytes", q->facts.limit_bytes);
	pack_pair_int(p, "reserve_bytes", q->facts.reserve_bytes);
	pack_pair_uint(p, "disk_free_bytes",
		       stats == NULL ? 0 : atomic_load(&stats->disk_free_bytes));
	pack_pair_uint(p, "disk_total_bytes",
		       stats == NULL ? 0 : atomic_load(&stats->disk_total_bytes));
	pack_pair_int(p, "space", stats == NULL ? SPACE_FINE : atomic_load(&stats->space));
	pack_pair_text(p, "fault", fault);
	pack_pair_int(p, "dead", t->dead);
	pack_pair_int(p, "dead_bytes", t->dead_bytes);
	pack_pair_int(p, "late", t->late);
	pack_pair_int(p, "commit_failures",
		      stats == NULL ? 0 : (int64_t)stats_get(stats, COUNT_COMMIT_FAILURES));
}

static void pack_ingest(struct pack *p, const struct query *q, const struct store_totals *t,
			uint64_t now_ms)
{
	struct stats *s = q->facts.stats;

	pack_text(p, "ingest");
	if (s == NULL) {
		pack_map(p, 3);
		pack_pair_int(p, "rejected_ever", t->rejected);
		pack_pair_int(p, "refused_ever", t->refused);
		pack_pair_int(p, "lost_ever", t->lost);
		return;
	}
	pack_map(p, 18);
	pack_pair_int(p, "rejected_ever", t->rejected);
	pack_pair_int(p, "refused_ever", t->refused);
	pack_pair_int(p, "lost_ever", t->lost);
	pack_pair_uint(p, "clients", stats_get(s, COUNT_CONNECTIONS));
	pack_pair_uint(p, "users", stats_get(s, COUNT_USERS));
	pack_pair_double(p, "records_per_s", rate_per_s(&s->records, now_ms));
	pack_pair_double(p, "bytes_per_s", rate_per_s(&s->record_bytes, now_ms));
	pack_pair_double(p, "refused_per_s", rate_per_s(&s->refused, now_ms));
	pack_pair_uint(p, "records", stats_get(s, COUNT_RECORDS));
	pack_pair_uint(p, "duplicates", stats_get(s, COUNT_DUPLICATES));
	pack_pair_uint(p, "replayed", stats_get(s, COUNT_REPLAYED));
	pack_pair_double(p, "ack_p50_ms", latency_quantile(&s->ack, now_ms, 0.5) / 1e6);
	pack_pair_double(p, "ack_p99_ms", latency_quantile(&s->ack, now_ms, 0.99) / 1e6);
	pack_pair_uint(p, "refused_since_us", stats_get_refusing(s));
	pack_pair_uint(p, "refused_metrics", stats_get(s, COUNT_REFUSED_METRICS));
	pack_pair_uint(p, "refused_bulk", stats_get(s, COUNT_REFUSED_BULK));
	pack_pair_uint(p, "refused_traces", stats_get(s, COUNT_REFUSED_TRACES));
	pack_pair_uint(p, "refused_rest", stats_get(s, COUNT_REFUSED_REST));
}

static void pack_account(struct pack *p, const struct query *q)
{
	struct sink_board board = {.mood = MOOD_UNTRIED};

	if (q->facts.stats != NULL)
		stats_get_sink(q->facts.stats, SINK_MODELS, &board);
	pack_text(p, "account");
	pack_map(p, 3);
	pack_pair_text(p, "base_url", q->facts.base_url);
	pack_pair_text(p, "user", board.user);
	pack_pair_text(p, "key_tail", board.key_tail);
}

static void pack_runs_sum(struct pack *p, const struct store_totals *t)
{
	pack_text(p, "runs");
	pack_map(p, RUN_STATES + 1);
	for (unsigned i = 0; i < RUN_STATES; i++)
		pack_pair_int(p, run_state_name((enum run_state)i), t->runs[i]);
	pack_pair_int(p, "parked", t->parked);
}

/* Lists whose length is known only at their end are packed apart. */
struct packed_list {
	const struct query *q;
	struct reader *reader;
	struct buf bytes;
	struct pack p;
	size_t count;
};
enum {
	LIST_MAX = 8
};

static void list_init(struct packed_list *l, const struct query *q, struct reader *reader)
{
	l->q = q;
	l->reader = reader;
	l->count = 0;
	buf_init(&l->bytes, 64 << 10);
	pack_init(&l->p, &l->bytes);
}

static void pack_list(struct pack *p, const char *key, struct packed_list *l)
{
	pack_text(p, key);
	pack_array(p, l->count);
	pack_raw(p, buf_span(&l->bytes));
	buf_done(&l->bytes);
}

static int on_dead_group(void *arg, const struct dead_group *g)
{
	struct packed_list *l = arg;
	struct run_info run = {.name = ""};
	int r = reader_run(l->reader, g->run, &run);

	if (r < 0 && r != -ENOENT)
		return r;
	pack_map(&l->p, 5);
	pack_pair_int(&l->p, "count", g->count);
	pack_pair_int(&l->p, "status", g->status);
	pack_pair_str(&l->p, "sink", g->sink);
	pack_pair_str(&l->p, "reason",
		      may_see(l->q, run.uid) ? g->reason : SPAN_LITERAL("(of another user)"));
	pack_pair_text(&l->p, "run", may_see(l->q, run.uid) ? run.name : "");
	l->count++;
	return 0;
}

/* Runs that a person should know of: parked, or finishing while files wait. */
static int on_notable_run(void *arg, const struct run_info *run)
{
	struct packed_list *l = arg;
	bool notable = run->parked[0] != '\0' ||
		       (run->state == RUN_FINISHING && run->uploads > 0) || run->late > 0;

	if (!notable || !may_see(l->q, run->uid))
		return 0;
	if (l->count == LIST_MAX)
		return 1;
	pack_map(&l->p, 7);
	pack_run_name(&l->p, run);
	pack_pair_text(&l->p, "state", run_state_name(run->state));
	pack_pair_text(&l->p, "parked", run->parked);
	pack_pair_int(&l->p, "uploads", run->uploads);
	pack_pair_int(&l->p, "late", run->late);
	l->count++;
	return 0;
}

static int pack_notable(struct pack *p, const struct query *q, struct reader *reader)
{
	struct packed_list dead;
	struct packed_list runs;
	int r;

	list_init(&dead, q, reader);
	list_init(&runs, q, reader);
	r = reader == NULL ? 0 : reader_dead_groups(reader, on_dead_group, &dead);
	if (r == 0 && reader != NULL)
		r = reader_notable_runs(reader, on_notable_run, &runs);
	pack_list(p, "dead", &dead);
	pack_list(p, "notable", &runs);
	return r < 0 ? r : 0;
}

static int pack_status(struct pack *p, struct sums *sums, const struct store_totals *t)
{
	const struct query *q = sums->q;
	uint64_t now_ms = clock_mono_ms();
	char host[NAME_MAX_BYTES] = "";
	int r;

	(void)gethostname(host, sizeof(host) - 1); /* an empty name is displayed as such */
	pack_pair_uint(p, "schema", 1);
	pack_pair_uint(p, "time_us", clock_wall_us());
	pack_pair_text(p, "host", host);
	pack_pair_text(p, "version", q->facts.version);
	pack_pair_bool(p, "running", q->facts.stats != NULL);
	pack_pair_int(p, "pid", q->facts.pid);
	pack_pair_uint(p, "up_ms",
		       q->facts.stats == NULL ? 0 : now_ms - q->facts.stats->started_ms);
	pack_pair_uint(p, "spool_producers", q->facts.left.producers);
	pack_pair_uint(p, "spool_bytes", q->facts.left.bytes);
	pack_pair_int(p, "spool_oldest_us", q->facts.left.oldest_us);
	pack_pair_uint(p, "spool_bad", q->facts.left.bad);
	pack_pair_uint(p, "spool_unreadable", q->facts.left.unreadable);
	pack_store(p, q, t);
	pack_ingest(p, q, t, now_ms);
	pack_account(p, q);
	pack_runs_sum(p, t);
	r = pack_sinks(p, sums, now_ms);
	return r < 0 ? r : pack_notable(p, q, sums->reader);
}

/* The daemon knows what is wrong with its store. */
static bool has_fault(const struct query *q)
{
	char fault[200] = "";

	if (q->facts.stats != NULL)
		stats_get_store_fault(q->facts.stats, fault, sizeof(fault));
	return fault[0] != '\0';
}

static int answer_status(struct query *q, struct reader *reader)
{
	struct sums sums = {.q = q, .reader = reader};
	struct store_totals totals = {0};
	struct pack p;
	size_t at;
	int r = reader_totals(reader, &totals);

	if (r == 0)
		r = reader_waiting_streams(reader, sum_stream, &sums);
	if (r < 0 && !has_fault(q))
		return r;
	if (r < 0) { /* what is wrong is told all the same */
		sums = (struct sums){.q = q};
		totals = (struct store_totals){0};
	}
	at = frame_open(&q->out, &p, "done", q->id, 19);
	r = pack_status(&p, &sums, &totals);
	frame_close(&q->out, at);
	return r;
}

/* --- backlog, runs --- */

struct item_walk {
	struct query *q;
	struct reader *reader;
};

static int on_backlog_stream(void *arg, const struct stream_info *s)
{
	struct item_walk *w = arg;
	struct run_info run;
	struct pack p;
	size_t at;
	int r = reader_run(w->reader, stream_run(s->stream), &run);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!is_meant(w->q, &run))
		return 0;
	at = frame_open(&w->q->out, &p, "item", w->q->id, 14);
	pack_run_name(&p, &run);
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

static int answer_backlog(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	int r = reader_waiting_streams(reader, on_backlog_stream, &w);

	if (r == 0)
		answer_done(&q->out, q->id, q->shown);
	return r;
}

static int on_run(void *arg, const struct run_info *run)
{
	struct item_walk *w = arg;
	struct query *q = w->q;
	struct stream_info s;
	struct pack p;
	size_t at;
	int r;

	if (slice_is_full(q)) {
		q->more = true;
		return 1;
	}
	q->after = run->id;
	if (!may_see(q, run->uid) ||
	    (run_argument(q).at != NULL && !run_is_called(run, run_argument(q))))
		return 0;
	r = reader_stream(w->reader, stream_of(run->id, CLASS_METRICS), &s);
	if (r < 0)
		return r;
	at = frame_open(&q->out, &p, "item", q->id, 16);
	pack_run_name(&p, run);
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

static int answer_runs(struct query *q, struct reader *reader)
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
	int64_t back = (int64_t)mp_get_uint(mp_of(buf_span(&q->args)), "last", 10);
	int64_t newest;
	int r = reader_last_lsn(reader, &newest);

	if (r < 0)
		return r;
	q->after = newest > back ? newest - back : 0;
	return 0;
}

static int answer_tail(struct query *q, struct reader *reader)
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
	pack_run_name(&p, &run);
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

static int answer_dead_list(struct query *q, struct reader *reader)
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

static int answer_dead_show(struct query *q, struct reader *reader)
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
	pack_run_name(&p, &run);
	pack_pair_int(&p, "lsn", late->lsn);
	pack_pair_int(&p, "step", late->step);
	pack_text(&p, "record");
	pack_raw(&p, late->payload);
	frame_close(&q->out, at);
	q->shown++;
	return 0;
}

static int answer_late_list(struct query *q, struct reader *reader)
{
	struct item_walk w = {.q = q, .reader = reader};
	int r = reader_late(reader, q->after_run, q->after, on_late, &w);

	if (r < 0)
		return r;
	if (!q->more)
		answer_done(&q->out, q->id, q->shown);
	return 0;
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
	case VERB_STATUS: r = answer_status(q, reader); break;
	case VERB_BACKLOG: r = answer_backlog(q, reader); break;
	case VERB_RUNS: r = answer_runs(q, reader); break;
	case VERB_TAIL: r = answer_tail(q, reader); break;
	case VERB_DEAD_LIST: r = answer_dead_list(q, reader); break;
	case VERB_LATE_LIST: r = answer_late_list(q, reader); break;
	case VERB_DEAD_SHOW: r = answer_dead_show(q, reader); break;
	case VERB_FLUSH:
	case VERB_RETRY:
	case VERB_PAUSE:
	case VERB_UNPAUSE:
	case VERB_DEAD_RETRY:
	case VERB_DEAD_DROP:
	case VERB_LATE_DROP:
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
	buf_done(&q->args);
	buf_done(&q->out);
	return mem_free(q);
}
