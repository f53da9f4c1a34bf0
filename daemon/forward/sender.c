/* See sender.h. Each turn: mails, the sink, curl, runs that are due; then sleep until the first of
 * them wants something. */
#include "daemon/forward/sender.h"

#include "daemon/base/log.h"
#include "daemon/base/thread.h"
#include "daemon/flow/notice.h"
#include "daemon/forward/ask.h"
#include "daemon/forward/models/artifacts.h"
#include "daemon/forward/models/run.h"
#include "daemon/forward/orders.h"
#include "daemon/forward/traces.h"
#include "daemon/forward/turns.h"
#include "daemon/forward/upload.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOK_MS = 50,      /* between looks for new records, while they come */
	BACKLOG_MS = 2000, /* between counts of everything that waits */
	READER_RETRY_MS = 1000,
	WEAVE_BODY_MAX = 8 << 20,
	RUNS_LOADED_MAX = 96, /* runs with their state in memory; the others take turns */
	ROUND_MS = 20,        /* of work on runs, before mails and answers are looked at again */
};

struct sender {
	struct sender_settings settings;
	struct sender_neighbours neighbours;
	struct thread thread;
	struct mailbox box;
	char keys_dir[SENDER_TEXT_MAX + 8];
	struct reader *reader;
	struct http *http;
	struct sinks sinks;
	struct traces traces;
	struct run_host host;
	struct artifacts artifacts;
	struct asks asks;         /* of operators, under way */
	struct models_run **runs; /* by number, rising */
	size_t run_count;
	size_t run_cap;
	struct turn *turns; /* room for the runs that are due, as many as there are runs */
	size_t turn_cap;
	size_t first_unload; /* which run gives its state's memory back first */
	uint64_t next_look_ms;
	uint64_t next_count_ms;
	uint64_t next_reader_ms;
	_Atomic bool committed; /* since the last look */
	_Atomic bool stopping;
	pthread_mutex_t lock;
	struct sender_settings *fresh; /* under the lock: to be taken */
};

static const char agent[] = "wbx/" WBX_VERSION;

/* --- runs --- */

static size_t place_of(const struct sender *s, int64_t id)
{
	size_t low = 0;
	size_t high = s->run_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (models_run_id(s->runs[middle]) < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct models_run *new_run(struct sender *s, int64_t id, uint32_t uid)
{
	struct user *user = sinks_join(&s->sinks, uid, clock_mono_ms());
	struct models_run *run = user == NULL ? NULL : models_run_new(&s->host, id, user);

	if (run == NULL && user != NULL)
		sinks_leave(&s->sinks, user);
	return run;
}

static struct models_run *free_run(struct sender *s, struct models_run *run)
{
	struct user *user = models_run_user(run);

	(void)models_run_free(run);
	sinks_leave(&s->sinks, user);
	return NULL;
}

static int on_open_run(void *arg, int64_t id, uint32_t uid)
{
	struct sender *s = arg;
	size_t at = place_of(s, id);
	struct models_run *run = NULL;

	if (at < s->run_count && models_run_id(s->runs[at]) == id)
		return 0;
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
	if (mem_room(s->runs, s->run_count, s->run_cap) == 0 &&
	    mem_room(s->turns, s->run_count, s->turn_cap) == 0)
		run = new_run(s, id, uid);
	if (run == NULL)
		return -ENOMEM; /* the next look tries again */
	memmove(s->runs + at + 1, s->runs + at, (s->run_count - at) * sizeof(struct models_run *));
	s->runs[at] = run;
	s->run_count++;
	return 0;
}

/* True when some went. */
static bool drop_done_runs(struct sender *s)
{
	size_t count = s->run_count;
	size_t kept = 0;

	for (size_t i = 0; i < s->run_count; i++) {
		if (models_run_is_done(s->runs[i])) {
			(void)free_run(s, s->runs[i]);
		} else {
			s->runs[kept++] = s->runs[i];
		}
	}
	s->run_count = kept;
	return kept < count;
}

/* Before a run that is not loaded gets its turn: the state of another that does nothing now may
 * go. */
static void make_room(struct sender *s)
{
	for (size_t i = 0; s->host.loaded >= RUNS_LOADED_MAX && i < s->run_count; i++) {
		struct models_run *run = s->runs[(s->first_unload + i) % s->run_count];

		if (models_run_is_loaded(run) && !models_run_is_away(run))
			models_run_unload(run);
	}
}

static void show_in_flight(struct sender *s)
{
	for (size_t i = 0; i < s->run_count; i++)
		models_run_user(s->runs[i])->sink->records += models_run_in_flight(s->runs[i]);
	for (size_t i = 0; i < s->sinks.count; i++) {
		sink_show_in_flight(s->sinks.list[i], s->sinks.list[i]->records);
		s->sinks.list[i]->records = 0;
	}
}

static size_t due_runs(struct sender *s, uint64_t now_ms, uint64_t *ret_next_ms)
{
	size_t count = 0;

	*ret_next_ms = UINT64_MAX;
	for (size_t i = 0; i < s->run_count; i++) {
		uint64_t run_ms = models_run_next_ms(s->runs[i]);

		if (run_ms <= now_ms)
			s->turns[count++] = (struct turn){.run = s->runs[i]};
		else if (run_ms < *ret_next_ms)
			*ret_next_ms = run_ms;
	}
	return count;
}

/* Those that are due, fairly among users (turns.h), a few ms of them. */
static uint64_t turn_runs(struct sender *s, uint64_t now_ms)
{
	uint64_t next_ms;
	size_t count;

	if (s->reader == NULL)
		return UINT64_MAX;
	count = due_runs(s, now_ms, &next_ms);
	turns_order(s->turns, count);
	s->first_unload = s->run_count == 0 ? 0 : (s->first_unload + 1) % s->run_count;
	for (size_t i = 0; i < count; i++) {
		struct models_run *run = s->turns[i].run;
		uint64_t run_ms;

		if (i > 0 && clock_mono_ms() >= now_ms + ROUND_MS) {
			next_ms = now_ms;
			break;
		}
		if (!models_run_is_loaded(run))
			make_room(s);
		run_ms = models_run_turn(run, now_ms);
		next_ms = run_ms < next_ms ? run_ms : next_ms;
	}
	show_in_flight(s);
	if (!drop_done_runs(s))
		return next_ms;
	s->next_look_ms = 0; /* they may have been opened again meanwhile */
	return now_ms;
}

static void wake_runs(struct sender *s)
{
	for (size_t i = 0; i < s->run_count; i++)
		models_run_wake(s->runs[i]);
}

static void on_gate_open(void *arg)
{
	struct sender *s = arg;

	wake_runs(s);
	artifacts_wake(&s->artifacts);
	traces_wake(&s->traces);
}

static void on_asked(void *arg, struct sink *sink)
{
	(void)arg; /* the sink has the orders that wait */
	orders_on_asked(sink);
}

/* --- the store --- */

static void open_reader(struct sender *s, uint64_t now_ms)
{
	struct sink_info info;
	int r;

	if (s->reader != NULL || now_ms < s->next_reader_ms)
		return;
	s->next_reader_ms = now_ms + READER_RETRY_MS;
	r = reader_open(&s->reader, s->neighbours.store_dir);
	if (r < 0) {
		log_warn("sender",
			 "errno=%d the store cannot be read; nothing is sent until it can", -r);
		return;
	}
	s->host.reader = s->traces.host.reader = s->reader;
	s->artifacts.host.reader = s->reader;
	s->next_look_ms = 0;
	if (reader_sink(s->reader, sink_name(SINK_MODELS), &info) == 0)
		sinks_steer(&s->sinks, &info, now_ms);
	if (reader_sink(s->reader, sink_name(SINK_ARTIFACTS), &info) == 0)
		upload_pause(&s->sinks.pool, info.paused_until_us, now_ms);
	if (reader_sink(s->reader, sink_name(SINK_WEAVE), &info) == 0)
		sinks_steer(&s->traces.sinks, &info, now_ms);
}

/* Which runs there are, and that those we know may have more. */
static uint64_t look(struct sender *s, uint64_t now_ms)
{
	if (!atomic_load(&s->committed) && s->next_look_ms != 0)
		return UINT64_MAX;
	if (now_ms < s->next_look_ms)
		return s->next_look_ms;
	atomic_store(&s->committed, false);
	s->next_look_ms = now_ms + LOOK_MS;
	if (s->reader == NULL)
		return s->next_look_ms;
	(void)reader_open_runs(s->reader, on_open_run, s); /* the next look tries again */
	artifacts_look(&s->artifacts);
	for (size_t i = 0; i < s->run_count; i++) {
		models_run_look(s->runs[i]);
		traces_offer(&s->traces, models_run_id(s->runs[i]),
			     models_run_user(s->runs[i])->uid);
	}
	traces_look(&s->traces);
	return now_ms;
}

struct backlog {
	struct traces *traces;
	struct user_usage *users;
	size_t count;
	size_t cap;
	uint64_t waiting; /* records and files */
};

static struct user_usage *usage_of(struct backlog *u, uint32_t uid)
{
	for (size_t i = u->count; i > 0; i--) { /* mostly the one before */
		if (u->users[i - 1].uid == uid)
			return &u->users[i - 1];
	}
	if (mem_room(u->users, u->count, u->cap) < 0)
		return NULL;
	u->users[u->count] = (struct user_usage){.uid = uid};
	return &u->users[u->count++];
}

static uint64_t above_zero(int64_t n)
{
	return n > 0 ? (uint64_t)n : 0;
}

static int on_waiting(void *arg, const struct stream_info *stream)
{
	struct backlog *u = arg;
	struct user_usage *user = usage_of(u, stream->uid);

	if (user == NULL)
		return -ENOMEM;
	u->waiting += above_zero(stream->waiting) + above_zero(stream->waiting_blobs);
	if (stream_class(stream->stream) == CLASS_TRACES)
		traces_offer(u->traces, stream_run(stream->stream), stream->uid);
	user->bytes += above_zero(stream->waiting_bytes) + above_zero(stream->waiting_blob_bytes);
	return 0;
}

/* What waits, in all (a daemon of one user goes home when nothing does) and of each user (whose share
 * of the disk may be limited). */
static uint64_t count_backlog(struct sender *s, uint64_t now_ms)
{
	struct backlog u = {.traces = &s->traces};

	if (now_ms < s->next_count_ms)
		return s->next_count_ms;
	s->next_count_ms = now_ms + BACKLOG_MS;
	if (s->reader != NULL && reader_waiting_streams(s->reader, 0, on_waiting, &u) == 0) {
		atomic_store(&s->neighbours.stats->backlog, u.waiting);
		(void)stats_set_usage(s->neighbours.stats, u.users,
				      u.count); /* the next count is soon */
	}
	(void)mem_free(u.users);
	return s->next_count_ms;
}

/* --- settings --- */

static void take_settings(struct sender *s)
{
	const struct sender_settings *c = &s->settings;
	const struct http_settings http = {
		.ca_file = c->ca_file,
		.proxy = c->proxy,
		.agent = agent,
		.connect_timeout_ms = c->connect_timeout_ms,
		.stall_timeout_ms = c->stall_timeout_ms,
	};
	struct sinks_settings sinks = {
		.each = {.base_url = c->base_url,
			 .key_file = c->key_file,
			 .keys_dir = s->keys_dir,
			 .requests_per_s = c->requests_per_s,
			 .backoff_max_ms = c->backoff_max_ms,
			 .body_max = c->body_max},
		.bytes_per_s = c->bytes_per_s,
		.rules = &c->users,
	};

	http_set(s->http, &http);
	s->host.base_url = c->base_url;
	s->artifacts.host.base_url = c->base_url;
	s->host.interval_ms = c->interval_ms;
	s->host.heartbeat_ms = c->heartbeat_ms;
	s->host.merge_max_us = c->merge_max_us;
	s->host.self_report_ms = c->self_report_ms;
	s->host.tables = c->tables;
	s->host.send_tables = c->send_tables;
	upload_set(&s->sinks.pool, c->upload_bytes_per_s, &c->upload_hours, clock_mono_ms());
	sinks_set(&s->sinks, &sinks, clock_mono_ms());
	/* the key is the same, and the API host knows whose it is */
	sinks.each.body_max = WEAVE_BODY_MAX;
	s->traces.host.base_url = c->weave_url;
	s->traces.host.is_old = false;
	s->traces.host.rules = &c->sampling;
	sinks_set(&s->traces.sinks, &sinks, clock_mono_ms());
}

int sender_reload(struct sender *s, const struct sender_settings *settings)
{
	struct sender_settings *copy = mem_dup(settings, sizeof(*settings));
	struct sender_settings *old;

	if (copy == NULL)
		return -ENOMEM;
	(void)pthread_mutex_lock(&s->lock); /* cannot fail */
	old = s->fresh;
	s->fresh = copy;
	(void)pthread_mutex_unlock(&s->lock);
	(void)mem_free(old);
	sender_wake(s);
	return 0;
}

static void take_fresh(struct sender *s)
{
	struct sender_settings *fresh;

	(void)pthread_mutex_lock(&s->lock); /* cannot fail */
	fresh = s->fresh;
	s->fresh = NULL;
	(void)pthread_mutex_unlock(&s->lock);
	if (fresh == NULL)
		return;
	s->settings = *fresh;
	(void)mem_free(fresh);
	take_settings(s);
	wake_runs(s);
}

/* --- mails --- */

static void take_order(struct sender *s, struct order *o)
{
	struct order_context c = {
		.reader = s->reader,
		.sinks = &s->sinks,
		.keys_dir = s->keys_dir,
		.store = s->neighbours.store_changes,
		.replies = &s->box,
		.runs = s->runs,
		.run_count = s->run_count,
		.traces = &s->traces,
		.asks = &s->asks,
	};

	if (o->kind == ORDER_RETRY)
		artifacts_retry(&s->artifacts);
	order_carry_out(&c, o);
}

/* Dead letters may have come back to life. */
static void flush_runs(struct sender *s)
{
	for (size_t i = 0; i < s->run_count; i++)
		models_run_flush(s->runs[i]);
	traces_look(&s->traces);
}

static struct models_run *find_run(const struct sender *s, int64_t id)
{
	size_t at = place_of(s, id);

	return at < s->run_count && models_run_id(s->runs[at]) == id ? s->runs[at] : NULL;
}

/* The loop wants to know how a run is; it may be so new that nobody has looked yet. */
static void take_notice(struct sender *s, struct notice *n)
{
	struct models_run *run = find_run(s, n->run);

	if (run == NULL && s->reader != NULL) {
		(void)reader_open_runs(s->reader, on_open_run, s); /* else: what the store says */
		run = find_run(s, n->run);
	}
	if (run != NULL && !models_run_is_loaded(run))
		make_room(s);
	models_run_fill_notice(&s->host, run, n);
	(void)mailbox_post(s->host.loop, &n->mail); /* never full */
}

static void take_mails(struct sender *s)
{
	struct mail *mail;

	while ((mail = mailbox_take(&s->box)) != NULL) {
		struct changes *list;
		struct digest_job *job;

		switch (mail->type) {
		case MAIL_CHANGES:
			list = container_of(mail, struct changes, mail);
			if (list->of_traces) {
				weave_run_on_changes(list->owner, list);
			} else if (list->owner != NULL) {
				models_run_on_changes(list->owner, list);
			} else {
				order_is_stored(list);
				flush_runs(s);
				artifacts_look(&s->artifacts);
			}
			break;
		case MAIL_JOB:
			job = container_of(mail, struct digest_job, job.mail);
			models_run_on_digest(job->owner, job);
			break;
		case MAIL_ORDER: take_order(s, container_of(mail, struct order, mail)); break;
		case MAIL_NOTICE: take_notice(s, container_of(mail, struct notice, mail)); break;
		default: abort();
		}
	}
}

/* --- the thread --- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void sender_main(void *arg)
{
	struct sender *s = arg;

	take_settings(s);
	while (!atomic_load(&s->stopping)) {
		uint64_t now_ms = clock_mono_ms();
		uint64_t next_ms;

		open_reader(s, now_ms); /* orders need it */
		take_mails(s);
		take_fresh(s);
		http_turn(s->http);
		next_ms = sinks_turn(&s->sinks, now_ms);
		next_ms = earlier(next_ms, look(s, now_ms));
		next_ms = earlier(next_ms, turn_runs(s, now_ms));
		next_ms = earlier(next_ms, artifacts_turn(&s->artifacts, now_ms));
		next_ms = earlier(next_ms, traces_turn(&s->traces, now_ms));
		next_ms = earlier(next_ms, count_backlog(s, now_ms));
		next_ms = earlier(next_ms, upload_turn(&s->sinks.pool, now_ms));
		if (s->reader == NULL)
			next_ms = earlier(next_ms, s->next_reader_ms);
		now_ms = clock_mono_ms();
		http_wait(s->http, next_ms > now_ms ? next_ms - now_ms : 0);
	}
}

/* It may end now. */
static void on_artifact_over(void *arg, int64_t run)
{
	struct models_run *found = find_run(arg, run);

	if (found != NULL)
		models_run_look(found);
}

static void on_mail(void *arg)
{
	struct sender *s = arg;

	http_wake(s->http);
}

void sender_wake(struct sender *s)
{
	atomic_store(&s->committed, true);
	http_wake(s->http);
}

struct mailbox *sender_box(struct sender *s)
{
	return &s->box;
}

static int show_other_sinks(struct sender *s)
{
	struct stats *stats = s->neighbours.stats;
	struct sink_stats *artifacts = stats_add_sink(stats, SINK_ARTIFACTS, SINK_SITE);

	if (artifacts == NULL)
		return -ENOMEM;
	upload_show(&s->sinks.pool, artifacts);
	return 0;
}

static int init_sinks(struct sender *s)
{
	const struct sink_pool pool = {
		.http = s->http,
		.stats = s->neighbours.stats,
		.on_open = on_gate_open,
		.on_asked = on_asked,
		.arg = s,
	};
	const struct weave_host traces = {.store = s->neighbours.store_changes, .replies = &s->box};
	int n = snprintf(s->keys_dir, sizeof(s->keys_dir), "%s/keys", s->neighbours.store_dir);
	int r = n < 0 || (size_t)n >= sizeof(s->keys_dir) ? -ENAMETOOLONG : 0;

	if (r == 0)
		r = sinks_init(&s->sinks, SINK_MODELS, &pool);
	if (r == 0)
		r = traces_init(&s->traces, &traces, &pool);
	s->sinks.also = &s->traces.sinks;
	s->traces.sinks.pool.bytes_of_all = &s->sinks.pool.bytes;
	return r == 0 ? show_other_sinks(s) : r;
}

int sender_start(struct sender **ret, const struct sender_settings *settings,
		 const struct sender_neighbours *neighbours)
{
	const struct http_settings none = {.ca_file = "", .proxy = "", .agent = agent};
	struct sender *s = mem_zalloc(sizeof(*s));
	int r;

	if (s == NULL)
		return -ENOMEM;
	s->settings = *settings;
	s->neighbours = *neighbours;
	(void)pthread_mutex_init(&s->lock, NULL); /* cannot fail with these attributes */
	r = http_new(&s->http, &none);
	if (r == 0)
		r = mailbox_init(&s->box, SIZE_MAX, on_mail, s);
	if (r == 0)
		r = init_sinks(s);
	if (r == 0)
		r = artifacts_init(&s->artifacts, &s->sinks, on_mail, s);
	if (r == 0) {
		s->artifacts.host.store = neighbours->store_changes;
		s->artifacts.host.worker = neighbours->worker;
		s->artifacts.on_over = on_artifact_over;
		s->artifacts.arg = s;
		s->host.store = neighbours->store_changes;
		s->host.worker = neighbours->worker;
		s->host.loop = neighbours->loop;
		s->host.replies = &s->box;
		r = thread_start(&s->thread, "wbx-sender", sender_main, s);
	}
	if (r < 0) {
		s->http = http_free(s->http);
		sinks_done(&s->sinks);
		traces_done(&s->traces);
		(void)mem_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void sender_stop(struct sender *s)
{
	if (s == NULL)
		return;
	atomic_store(&s->stopping, true);
	http_wake(s->http);
	thread_join(&s->thread);
	s->reader = reader_close(s->reader); /* before the store, which then writes the log back */
}

static void drop_mails(struct sender *s)
{
	struct mail *mail;

	while ((mail = mailbox_take(&s->box)) != NULL) {
		if (mail->type == MAIL_CHANGES &&
		    container_of(mail, struct changes, mail)->owner == NULL)
			order_is_stored(container_of(mail, struct changes, mail));
		else if (mail->type == MAIL_JOB)
			(void)digest_free(container_of(mail, struct digest_job, job.mail));
		else if (mail->type == MAIL_ORDER)
			order_refuse(container_of(mail, struct order, mail));
		else if (mail->type == MAIL_NOTICE)
			(void)notice_free(container_of(mail, struct notice, mail));
		/* the changes of a run are freed with it */
	}
}

struct sender *sender_free(struct sender *s)
{
	if (s == NULL)
		return NULL;
	drop_mails(s);
	for (size_t i = 0; i < s->sinks.count; i++)
		orders_refuse_checks(s->sinks.list[i]);
	for (size_t i = 0; i < s->run_count; i++)
		(void)free_run(s, s->runs[i]);
	(void)mem_free(s->runs);
	(void)mem_free(s->turns);
	s->http = http_free(s->http);
	artifacts_done(&s->artifacts);
	asks_end(&s->asks);
	sinks_done(&s->sinks);
	traces_done(&s->traces);
	mailbox_done(&s->box);
	(void)mem_free(s->fresh);
	(void)pthread_mutex_destroy(&s->lock); /* nobody holds it */
	return mem_free(s);
}
