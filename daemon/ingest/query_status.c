/* See query_parts.h: `status`, one frame of facts from the stats and the store. */
#include "daemon/ingest/query_parts.h"
#include "daemon/ingest/waiting.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	SINKS_SHOWN_MAX = 24 /* keys of models; more are summed up with the last */
};

/* One sink under one key, as it is shown. */
struct shown_sink {
	enum sink_id id;
	int64_t uid;
	double sent_per_s;
	double sent_bytes_per_s;
	double retries_per_s;
	struct sink_board board;
	struct sink_waiting waiting;
};

struct sums {
	const struct query *q;
	struct reader *reader;
	uint64_t now_ms;
	struct shown_sink sinks[SINKS_SHOWN_MAX];
	size_t count;
};

/* --- which sinks --- */

static struct shown_sink *add_sink(struct sums *s, enum sink_id id, int64_t uid)
{
	struct shown_sink *sink;

	if (s->count == SINKS_SHOWN_MAX)
		return NULL;
	sink = &s->sinks[s->count++];
	*sink = (struct shown_sink){.id = id, .uid = uid};
	sink->board.mood = MOOD_UNTRIED;
	return sink;
}

/* The site's sinks, and those of users that somebody needs, as far as the asker may know of them. */
static void on_sink(void *arg, const struct sink_stats *stats)
{
	struct sums *s = arg;
	struct shown_sink *sink;

	if (stats->uid != SINK_SITE &&
	    (!stats->board.in_use || !query_may_see(s->q, (uint32_t)stats->uid)))
		return;
	sink = add_sink(s, stats->id, stats->uid);
	if (sink == NULL)
		return;
	sink->board = stats->board;
	/* it has the key of models, which says what is wrong with it */
	if (stats->id == SINK_WEAVE &&
	    (stats->board.mood == MOOD_NO_KEY || stats->board.mood == MOOD_REFUSED_KEY))
		sink->board.mood = MOOD_UNTRIED;
	sink->sent_per_s = rate_per_s(&stats->sent, s->now_ms);
	sink->sent_bytes_per_s = rate_per_s(&stats->bytes, s->now_ms);
	sink->retries_per_s = rate_per_s(&stats->retries, s->now_ms);
}

static bool is_of_models(const struct shown_sink *sink)
{
	return sink->id == SINK_MODELS;
}

/* When nobody uses the site's key and somebody has one of his own, only that is of interest; to one
 * who has his own key, the site's is not. */
static void drop_idle_site(struct sums *s)
{
	bool has_own = false;

	for (size_t i = 0; i < s->count; i++)
		has_own |= is_of_models(&s->sinks[i]) && s->sinks[i].uid != SINK_SITE;
	if (!has_own || s->count == 0 || (s->sinks[0].board.in_use && s->q->is_admin))
		return;
	memmove(s->sinks, s->sinks + 1, --s->count * sizeof(s->sinks[0]));
}

static void choose_sinks(struct sums *s)
{
	if (s->q->facts.stats != NULL) {
		stats_each_sink(s->q->facts.stats, on_sink, s);
		drop_idle_site(s);
		return;
	}
	for (unsigned i = 0; i < SINK_COUNT; i++)
		(void)add_sink(s, (enum sink_id)i, SINK_SITE); /* there is room */
}

/* Where what waits of this user is counted. NULL: in a sink that is not shown. */
static struct shown_sink *sink_for(struct sums *s, enum sink_id id, uint32_t uid)
{
	struct shown_sink *site = NULL;

	for (size_t i = 0; i < s->count; i++) {
		if (s->sinks[i].id != id)
			continue;
		if (s->sinks[i].uid == (int64_t)uid)
			return &s->sinks[i];
		if (s->sinks[i].uid == SINK_SITE)
			site = &s->sinks[i];
	}
	return site;
}

static void on_waiting(void *arg, enum sink_id id, uint32_t uid, const struct sink_waiting *part)
{
	struct shown_sink *sink = sink_for(arg, id, uid);

	if (sink != NULL)
		waiting_add(&sink->waiting, part);
}

/* Milliseconds since, or -1 for never. */
static int64_t ago(uint64_t now_ms, uint64_t then_ms)
{
	return then_ms == 0 ? -1 : (int64_t)(now_ms - then_ms);
}

/* Of the trace server; of the others all 0. */
struct trace_figures {
	int64_t day_bytes; /* sent today, and this month (UTC) */
	int64_t month_bytes;
	int64_t held; /* traces that are left out */
};

static int read_figures(const struct sums *s, const struct shown_sink *sink,
			struct trace_figures *ret)
{
	int64_t day = (int64_t)(clock_wall_us() / 86400000000);
	time_t now = (time_t)(clock_wall_us() / 1000000);
	int64_t uid = sink->uid != SINK_SITE ? sink->uid : s->q->is_admin ? -1 : (int64_t)s->q->uid;
	struct tm tm = {.tm_mday = 1};
	int r;

	*ret = (struct trace_figures){.held = 0};
	if (sink->id != SINK_WEAVE || s->reader == NULL)
		return 0;
	(void)gmtime_r(&now, &tm); /* of any time that a clock has */
	r = reader_trace_bytes(s->reader, 0, uid, day, day, &ret->day_bytes);
	if (r == 0)
		r = reader_trace_bytes(s->reader, 0, uid, day - tm.tm_mday + 1, day,
				       &ret->month_bytes);
	return r < 0 ? r : reader_traces_held(s->reader, uid, &ret->held);
}

static void pack_sink(struct pack *p, const struct shown_sink *sink, const struct sink_info *stored,
		      const struct trace_figures *stored_more, uint64_t now_ms)
{
	const struct sink_board *board = &sink->board;

	pack_map(p, 29);
	pack_pair_int(p, "day_bytes", stored_more->day_bytes);
	pack_pair_int(p, "month_bytes", stored_more->month_bytes);
	pack_pair_int(p, "held", stored_more->held);
	pack_pair_text(p, "name", sink_name(sink->id));
	pack_pair_int(p, "uid", sink->uid);
	pack_pair_text(p, "user", board->user);
	pack_pair_text(p, "key_tail", board->key_tail);
	pack_pair_text(p, "key_source", board->source);
	pack_pair_text(p, "state", sink_mood_name(board->mood));
	pack_pair_int(p, "state_ms", ago(now_ms, board->since_ms));
	pack_pair_int(p, "waiting", sink->waiting.records);
	pack_pair_int(p, "waiting_bytes", sink->waiting.bytes);
	pack_pair_uint(p, "in_flight", board->in_flight);
	pack_pair_int(p, "oldest_us", sink->waiting.oldest_us);
	pack_pair_int(p, "next_try_ms",
		      board->next_try_ms == 0       ? -1
		      : board->next_try_ms > now_ms ? (int64_t)(board->next_try_ms - now_ms)
						    : 0);
	pack_pair_uint(p, "tries", board->tries);
	pack_pair_double(p, "sent_per_s", sink->sent_per_s);
	pack_pair_double(p, "sent_bytes_per_s", sink->sent_bytes_per_s);
	pack_pair_double(p, "retries_per_s", sink->retries_per_s);
	pack_pair_int(p, "last_ok_us", stored->last_ok_us);
	pack_pair_int(p, "sent", stored->sent);
	pack_pair_int(p, "paused_until_us", stored->paused_until_us);
	pack_pair_int(p, "http", board->http_status);
	pack_pair_uint(p, "spacing_ms", board->spacing_ms);
	pack_pair_uint(p, "retry_after_ms", board->retry_after_ms);
	pack_pair_text(p, "error", board->last_error);
	pack_pair_double(p, "requests_per_s", board->limits.requests_per_s);
	pack_pair_double(p, "bytes_per_s", board->limits.bytes_per_s);
	pack_pair_bool(p, "limits_are_asked_for", board->limits.are_asked_for);
}

/* A pause is one for all keys; what was sent is counted for each. */
static int read_stored(struct reader *reader, const struct shown_sink *sink, struct sink_info *ret)
{
	char title[SINK_TITLE_MAX];
	struct sink_info own;
	int r;

	if (reader == NULL)
		return 0;
	r = reader_sink(reader, sink_name(sink->id), ret);
	if (r < 0 || sink->uid == SINK_SITE)
		return r;
	sink_title(sink->id, sink->uid, title);
	r = reader_sink(reader, title, &own);
	ret->last_ok_us = own.last_ok_us;
	ret->sent = own.sent;
	return r;
}

static int pack_sinks(struct pack *p, const struct sums *sums)
{
	pack_text(p, "sinks");
	pack_array(p, sums->count);
	for (size_t i = 0; i < sums->count; i++) {
		struct sink_info stored = {0};
		struct trace_figures figures = {0};
		int r = read_stored(sums->reader, &sums->sinks[i], &stored);

		if (r == 0)
			r = read_figures(sums, &sums->sinks[i], &figures);
		if (r < 0)
			return r;
		pack_sink(p, &sums->sinks[i], &stored, &figures, sums->now_ms);
	}
	return 0;
}

/* --- the daemon and its store --- */

static void pack_store(struct pack *p, const struct query *q, const struct store_totals *t)
{
	struct stats *stats = q->facts.stats;
	char fault[200] = "";

	if (stats != NULL)
		stats_get_store_fault(stats, fault, sizeof(fault));
	pack_text(p, "store");
	pack_map(p, 16);
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
	pack_pair_int(p, "tables_held", t->held);
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

/* Of the first of the keys that are shown: mostly there is one. */
static void pack_account(struct pack *p, const struct sums *sums)
{
	const struct sink_board none = {.mood = MOOD_UNTRIED};
	const struct sink_board *board = sums->count > 0 ? &sums->sinks[0].board : &none;

	pack_text(p, "account");
	pack_map(p, 3);
	pack_pair_text(p, "base_url", sums->q->facts.base_url);
	pack_pair_text(p, "user", board->user);
	pack_pair_text(p, "key_tail", board->key_tail);
}

static void pack_runs_sum(struct pack *p, const struct store_totals *t)
{
	pack_text(p, "runs");
	pack_map(p, RUN_STATES + 1);
	for (unsigned i = 0; i < RUN_STATES; i++)
		pack_pair_int(p, run_state_name((enum run_state)i), t->runs[i]);
	pack_pair_int(p, "parked", t->parked);
}

/* --- what a person should know of --- */

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
		      query_may_see(l->q, run.uid) ? g->reason : SPAN_LITERAL("(of another user)"));
	pack_pair_text(&l->p, "run", query_may_see(l->q, run.uid) ? run.name : "");
	l->count++;
	return 0;
}

/* Runs that a person should know of: parked, or finishing while files wait. */
static int on_notable_run(void *arg, const struct run_info *run)
{
	struct packed_list *l = arg;

	if (l->count == LIST_MAX)
		return 1;
	pack_map(&l->p, 7);
	query_pack_run_name(&l->p, run);
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
		r = reader_notable_runs(reader, q->is_admin ? -1 : (int64_t)q->uid, on_notable_run,
					&runs);
	pack_list(p, "dead", &dead);
	pack_list(p, "notable", &runs);
	return r < 0 ? r : 0;
}

/* Users that have more waiting than one may, as far as the asker may know of them. */
static void pack_over(struct pack *p, const struct query *q)
{
	struct user_usage over[LIST_MAX];
	struct packed_list list;
	size_t count = 0;

	list_init(&list, q, NULL);
	if (q->facts.stats != NULL && q->facts.user_limit_bytes > 0)
		count = stats_users_over(q->facts.stats, (uint64_t)q->facts.user_limit_bytes, over,
					 LIST_MAX);
	for (size_t i = 0; i < count; i++) {
		if (!query_may_see(q, over[i].uid))
			continue;
		pack_map(&list.p, 2);
		pack_pair_uint(&list.p, "uid", over[i].uid);
		pack_pair_uint(&list.p, "bytes", over[i].bytes);
		list.count++;
	}
	pack_pair_int(p, "user_limit_bytes", q->facts.user_limit_bytes);
	pack_list(p, "over_limit", &list);
}

/* --- the answer --- */

static int pack_status(struct pack *p, struct sums *sums, const struct store_totals *t)
{
	const struct query *q = sums->q;
	uint64_t now_ms = sums->now_ms;
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
	pack_account(p, sums);
	pack_runs_sum(p, t);
	pack_over(p, q);
	r = pack_sinks(p, sums);
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

static void forget_sums(struct sums *sums)
{
	sums->reader = NULL;
	for (size_t i = 0; i < sums->count; i++)
		sums->sinks[i].waiting = (struct sink_waiting){0};
}

int query_status(struct query *q, struct reader *reader)
{
	struct sums *sums = mem_zalloc(sizeof(*sums)); /* too big for comfort on a stack */
	struct store_totals totals = {0};
	struct pack p;
	size_t at;
	int r = sums == NULL ? -ENOMEM : 0;

	if (r < 0)
		return r;
	*sums = (struct sums){.q = q, .reader = reader, .now_ms = clock_mono_ms()};
	choose_sinks(sums);
	r = reader_totals(reader, &totals);
	if (r == 0)
		r = waiting_read(reader, on_waiting, sums);
	if (r < 0 && has_fault(q)) { /* what is wrong is told all the same */
		forget_sums(sums);
		totals = (struct store_totals){0};
		r = 0;
	}
	if (r == 0) {
		at = frame_open(&q->out, &p, "done", q->id, 21);
		r = pack_status(&p, sums, &totals);
		frame_close(&q->out, at);
	}
	(void)mem_free(sums);
	return r;
}
