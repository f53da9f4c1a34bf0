/* See exposition.h. The names and what they mean: wbxd(8), METRICS. */
#include "daemon/ingest/exposition.h"

#include "daemon/ingest/waiting.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- lines --- */

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
	(void)buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
	head(out, name, "counter", help);
	(void)buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void add_gauge(struct buf *out, const char *name, const char *help, int64_t value)
{
	head(out, name, "gauge", help);
	(void)buf_printf(out, "%s %lld\n", name, (long long)value);
}

static void add_labelled(struct buf *out, const char *name, const char *label, const char *word,
			 int64_t value)
{
	(void)buf_printf(out, "%s{%s=\"%s\"} %lld\n", name, label, word, (long long)value);
}

/* Microseconds as seconds, without a detour over binary fractions. */
static void add_seconds(struct buf *out, const char *name, const char *sink, int64_t us)
{
	(void)buf_printf(out, "%s{sink=\"%s\"} %lld.%06lld\n", name, sink,
			 (long long)(us / 1000000), (long long)(us % 1000000));
}

/* --- the daemon --- */

static void add_daemon(struct buf *out, const struct exposition *e)
{
	struct stats *s = e->facts.stats;

	head(out, "wbx_build_info", "gauge", "The version that runs.");
	(void)buf_printf(out, "wbx_build_info{version=\"%s\"} 1\n", e->facts.version);
	head(out, "wbx_start_time_seconds", "gauge", "When the daemon started, since 1970.");
	(void)buf_printf(out, "wbx_start_time_seconds %llu.%06llu\n",
			 (unsigned long long)(e->started_us / 1000000),
			 (unsigned long long)(e->started_us % 1000000));
	add_gauge(out, "wbx_clients", "Processes that are connected.",
		  (int64_t)stats_get(s, COUNT_CONNECTIONS));
	add_gauge(out, "wbx_users", "Users that those processes belong to.",
		  (int64_t)stats_get(s, COUNT_USERS));
	add_gauge(out, "wbx_spool_producers",
		  "Processes that ended and left records to be read in.",
		  (int64_t)e->facts.left.producers);
	add_gauge(out, "wbx_spool_bytes", "Size of what they left.", (int64_t)e->facts.left.bytes);
}

static void add_records(struct buf *out, const struct stats *s)
{
	static const struct {
		const char *class;
		enum counter counter;
	} refused[] = {{"metrics", COUNT_REFUSED_METRICS},
		       {"bulk", COUNT_REFUSED_BULK},
		       {"traces", COUNT_REFUSED_TRACES},
		       {"rest", COUNT_REFUSED_REST}};

	add_counter(out, "wbx_records_stored_total", "Records that were put on disk.",
		    stats_get(s, COUNT_RECORDS));
	add_counter(out, "wbx_record_bytes_stored_total", "Their bytes, as they were sent.",
		    stats_get(s, COUNT_RECORD_BYTES));
	add_counter(out, "wbx_records_duplicate_total",
		    "Records that came again, and were known: dropped.",
		    stats_get(s, COUNT_DUPLICATES));
	add_counter(out, "wbx_records_replayed_total",
		    "Records read from journals and spools of processes that ended.",
		    stats_get(s, COUNT_REPLAYED));
	add_counter(out, "wbx_records_rejected_total",
		    "Records that broke a rule of the protocol: lost.",
		    stats_get(s, COUNT_REJECTED));
	head(out, "wbx_records_refused_total", "counter",
	     "Records refused for lack of disk, by class: lost.");
	for (size_t i = 0; i < array_len(refused); i++)
		(void)buf_printf(out, "wbx_records_refused_total{class=\"%s\"} %llu\n",
				 refused[i].class,
				 (unsigned long long)stats_get(s, refused[i].counter));
}

/* Bounds are powers of two of a microsecond, as the stats have them. */
static void add_latency(struct buf *out, const struct latency *l)
{
	static const unsigned log2_us[] = {8, 10, 12, 14, 16, 18, 20, 22, 24};
	uint64_t below[array_len(log2_us)];
	uint64_t all;

	for (size_t i = 0; i < array_len(log2_us); i++)
		below[i] = latency_below(l, log2_us[i]);
	all = latency_below(l, UINT_MAX); /* last: the loop counts meanwhile, and buckets rise */
	head(out, "wbx_ack_duration_seconds", "histogram",
	     "From the arrival of a batch's first record until the batch is on disk.");
	for (size_t i = 0; i < array_len(log2_us); i++)
		(void)buf_printf(out, "wbx_ack_duration_seconds_bucket{le=\"%.6f\"} %llu\n",
				 (double)(1u << log2_us[i]) / 1e6, (unsigned long long)below[i]);
	(void)buf_printf(out,
			 "wbx_ack_duration_seconds_bucket{le=\"+Inf\"} %llu\n"
			 "wbx_ack_duration_seconds_sum %.6f\nwbx_ack_duration_seconds_count %llu\n",
			 (unsigned long long)all,
			 (double)atomic_load_explicit(&l->ever_ns, memory_order_relaxed) / 1e9,
			 (unsigned long long)all);
}

static void add_disk(struct buf *out, const struct exposition *e)
{
	struct stats *s = e->facts.stats;
	char fault[200];

	stats_get_store_fault(s, fault, sizeof(fault));
	add_counter(out, "wbx_commits_total", "Transactions that brought records to disk.",
		    stats_get(s, COUNT_COMMITS));
	add_counter(out, "wbx_commit_failures_total", "Transactions that were undone.",
		    stats_get(s, COUNT_COMMIT_FAILURES));
	add_gauge(out, "wbx_store_faulty", "1: a fault of the store keeps it from taking records.",
		  fault[0] != '\0');
	head(out, "wbx_store_room", "gauge",
	     "1 for how much room there is: tight refuses tables and calls, none reads nothing.");
	for (int i = SPACE_FINE; i <= SPACE_NONE; i++) {
		static const char *const names[] = {"fine", "tight", "none"};

		add_labelled(out, "wbx_store_room", "room", names[i], atomic_load(&s->space) == i);
	}
	add_gauge(out, "wbx_store_bytes", "What the store takes on disk.",
		  (int64_t)atomic_load(&s->store_bytes));
	add_gauge(out, "wbx_store_limit_bytes", "What it may take (store.limit).",
		  e->facts.limit_bytes);
	add_gauge(out, "wbx_disk_free_bytes", "Free on the disk of the store.",
		  (int64_t)atomic_load(&s->disk_free_bytes));
	add_gauge(out, "wbx_disk_reserve_bytes", "What stays free there (store.reserve).",
		  e->facts.reserve_bytes);
}

/* --- sinks --- */

struct sinks {
	struct sink_board board[SINK_COUNT];
	struct sink_info stored[SINK_COUNT];
	struct sink_waiting waiting[SINK_COUNT];
};

static void add_moods(struct buf *out, const struct sinks *sinks)
{
	head(out, "wbx_sink_state", "gauge",
	     "1 for the state that the sink is in, as wbxctl status names them.");
	for (unsigned i = 0; i < SINK_COUNT; i++) {
		for (unsigned mood = 0; mood < MOOD_COUNT; mood++)
			(void)buf_printf(out, "wbx_sink_state{sink=\"%s\",state=\"%s\"} %d\n",
					 sink_name((enum sink_id)i),
					 sink_mood_name((enum sink_mood)mood),
					 sinks->board[i].mood == mood);
	}
	head(out, "wbx_sink_tries", "gauge", "Tries since the sink last took anything.");
	for (unsigned i = 0; i < SINK_COUNT; i++)
		add_labelled(out, "wbx_sink_tries", "sink", sink_name((enum sink_id)i),
			     sinks->board[i].tries);
	head(out, "wbx_sink_in_flight_records", "gauge", "Records in requests under way.");
	for (unsigned i = 0; i < SINK_COUNT; i++)
		add_labelled(out, "wbx_sink_in_flight_records", "sink", sink_name((enum sink_id)i),
			     sinks->board[i].in_flight);
}

static void add_backlog(struct buf *out, const struct sinks *sinks)
{
	const struct sink_waiting *waiting = sinks->waiting;
	int64_t now_us = (int64_t)clock_wall_us();

	head(out, "wbx_backlog_records", "gauge", "Records that the sink has not confirmed.");
	for (unsigned i = 0; i < SINK_COUNT; i++)
		add_labelled(out, "wbx_backlog_records", "sink", sink_name((enum sink_id)i),
			     waiting[i].records);
	head(out, "wbx_backlog_bytes", "gauge", "Their bytes.");
	for (unsigned i = 0; i < SINK_COUNT; i++)
		add_labelled(out, "wbx_backlog_bytes", "sink", sink_name((enum sink_id)i),
			     waiting[i].bytes);
	head(out, "wbx_oldest_waiting_seconds", "gauge", "Age of the oldest of them, 0: none.");
	for (unsigned i = 0; i < SINK_COUNT; i++) {
		int64_t then_us = waiting[i].oldest_us;

		add_seconds(out, "wbx_oldest_waiting_seconds", sink_name((enum sink_id)i),
			    then_us == 0 || then_us > now_us ? 0 : now_us - then_us);
	}
	head(out, "wbx_delivered_records_total", "counter",
	     "Records that the sink confirmed since the store was made.");
	for (unsigned i = 0; i < SINK_COUNT; i++)
		add_labelled(out, "wbx_delivered_records_total", "sink", sink_name((enum sink_id)i),
			     sinks->stored[i].sent);
	head(out, "wbx_sink_last_success_timestamp_seconds", "gauge",
	     "When the sink last confirmed anything, since 1970; 0: never.");
	for (unsigned i = 0; i < SINK_COUNT; i++)
		add_seconds(out, "wbx_sink_last_success_timestamp_seconds",
			    sink_name((enum sink_id)i), sinks->stored[i].last_ok_us);
}

/* --- the store --- */

static void add_store(struct buf *out, const struct store_totals *t)
{
	add_counter(out, "wbx_records_lost_total",
		    "Records that processes gave up, since the store was made.", (uint64_t)t->lost);
	add_gauge(out, "wbx_dead_letters", "What W&B refused for good and a person has to decide.",
		  t->dead);
	add_gauge(out, "wbx_dead_letter_bytes", "Its size.", t->dead_bytes);
	add_gauge(out, "wbx_late_rows", "Rows that came after their step had gone.", t->late);
	head(out, "wbx_runs", "gauge", "Runs by how far W&B has them.");
	for (unsigned i = 0; i < RUN_STATES; i++)
		add_labelled(out, "wbx_runs", "state", run_state_name((enum run_state)i),
			     t->runs[i]);
	add_gauge(out, "wbx_runs_parked", "Runs that W&B refused as a whole.", t->parked);
}

static void on_waiting(void *arg, enum sink_id id, uint32_t uid, const struct sink_waiting *part)
{
	struct sinks *sinks = arg;

	(void)uid; /* of all users */
	waiting_add(&sinks->waiting[id], part);
}

static int read_store(struct reader *reader, struct sinks *ret, struct store_totals *ret_totals)
{
	int r = reader == NULL ? -EIO : reader_totals(reader, ret_totals);

	if (r == 0)
		r = waiting_read(reader, on_waiting, ret);
	for (unsigned i = 0; r == 0 && i < SINK_COUNT; i++)
		r = reader_sink_total(reader, sink_name((enum sink_id)i), &ret->stored[i]);
	return r;
}

void exposition_render(struct exposition *e, struct reader *reader)
{
	struct sinks sinks = {.waiting = {{0}}};
	struct store_totals totals = {0};
	struct buf *out = &e->out;
	int r = read_store(reader, &sinks, &totals);

	buf_clear(out);
	for (unsigned i = 0; i < SINK_COUNT; i++)
		stats_get_sink(e->facts.stats, (enum sink_id)i, &sinks.board[i]);
	add_daemon(out, e);
	add_records(out, e->facts.stats);
	add_latency(out, &e->facts.stats->ack);
	add_disk(out, e);
	add_counter(out, "wbx_requests_total", "HTTP requests to W&B.",
		    stats_get(e->facts.stats, COUNT_REQUESTS));
	add_counter(out, "wbx_alerts_held_total",
		    "Alerts that were not repeated within their wait.",
		    stats_get(e->facts.stats, COUNT_ALERTS_HELD));
	add_moods(out, &sinks);
	add_gauge(out, "wbx_store_up",
		  "1: the store can be read; 0: what it knows is missing here.", r == 0);
	if (r < 0)
		return;
	add_backlog(out, &sinks);
	add_store(out, &totals);
}

/* --- the file --- */

/* Not synced: a file of a minute ago is of no use after a power loss. */
static int write_file(const struct buf *text, const char *path)
{
	char fresh[PATH_MAX];
	int n = snprintf(fresh, sizeof(fresh), "%s.new", path);
	int fd;
	int r;

	if (n < 0 || (size_t)n >= sizeof(fresh))
		return -ENAMETOOLONG;
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = fchmod(fd, 0644) < 0 ? -errno : buf_write(text, fd); /* others read it */
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(fresh); /* the old one stays */
	return r;
}

static enum job_result on_step(struct job *job, struct reader *reader)
{
	struct exposition *e = container_of(job, struct exposition, job);

	exposition_render(e, reader);
	if (e->file != NULL)
		e->error = write_file(&e->out, e->file);
	return JOB_DONE;
}

struct exposition *exposition_new(const struct query_facts *facts, uint64_t started_us,
				  const char *file)
{
	struct exposition *e = mem_zalloc(sizeof(*e));

	if (e == NULL)
		return NULL;
	e->job = (struct job){.mail = {.type = MAIL_EXPOSITION}, .step = on_step};
	e->facts = *facts;
	e->started_us = started_us;
	e->file = file;
	buf_init(&e->out, EXPOSITION_MAX);
	return e;
}

struct exposition *exposition_free(struct exposition *e)
{
	if (e == NULL)
		return NULL;
	buf_done(&e->out);
	return mem_free(e);
}
