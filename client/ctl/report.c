/* See report.h. Bytes, seconds and counts are plain numbers; null is: not known, or never. */
#include "client/ctl/report.h"

#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"

#include <string.h>

enum {
	REPORT_BYTES_MAX = 1 << 20
};

static void add_ago(struct json *j, const char *key, const struct facts *f, uint64_t then_us)
{
	if (then_us == 0)
		json_pair_null(j, key);
	else
		json_pair_seconds(j, key,
				  then_us < f->time_us ? (int64_t)((f->time_us - then_us) / 1000)
						       : 0);
}

/* "rate limited" is rate_limited for programs. */
static void add_state(struct json *j, const char *name)
{
	char word[FACTS_TEXT_MAX];
	size_t i = 0;

	for (; name[i] != '\0' && i + 1 < sizeof(word); i++)
		word[i] = (char)(name[i] == ' ' ? '_' : name[i]);
	word[i] = '\0';
	json_pair_text(j, "state", word);
}

static void add_str_lines(struct json *j, const char *key, const struct buf *text)
{
	struct span s = buf_span(text);

	if (s.len > 0 && s.at[s.len - 1] == '\n')
		s.len--;
	json_pair_str(j, key, s);
}

static void add_reasons(struct json *j, const struct judgement *judgement)
{
	json_put_key_text(j, "reasons");
	json_open_array(j);
	for (size_t i = 0; i < judgement->count; i++) {
		const struct reason *r = &judgement->reasons[i];

		json_open_object(j);
		json_pair_text(j, "code", r->code);
		json_pair_text(j, "state", health_word(r->health));
		if (r->sink == NULL)
			json_pair_null(j, "sink");
		else
			json_pair_text(j, "sink", r->sink);
		add_str_lines(j, "text", &r->headline);
		add_str_lines(j, "detail", &r->text);
		add_str_lines(j, "action", &r->action);
		json_close_object(j);
	}
	json_close_array(j);
}

static void add_store(struct json *j, const struct store_facts *s)
{
	json_put_key_text(j, "store");
	json_open_object(j);
	json_pair_text(j, "path", s->dir);
	json_pair_uint(j, "bytes", s->used_bytes);
	json_pair_uint(j, "database_bytes", s->database_bytes);
	json_pair_uint(j, "wal_bytes", s->wal_bytes);
	json_pair_uint(j, "blob_bytes", s->blob_bytes);
	json_pair_uint(j, "limit_bytes", s->limit_bytes);
	json_pair_uint(j, "reserve_bytes", s->reserve_bytes);
	if (s->disk_total_bytes == 0) {
		json_pair_null(j, "disk_free_bytes");
		json_pair_null(j, "disk_total_bytes");
	} else {
		json_pair_uint(j, "disk_free_bytes", s->disk_free_bytes);
		json_pair_uint(j, "disk_total_bytes", s->disk_total_bytes);
	}
	json_pair_text(j, "last_commit_status", s->fault[0] == '\0' ? "ok" : s->fault);
	json_pair_uint(j, "commit_failures", s->commit_failures);
	json_pair_uint(j, "dead", s->dead);
	json_pair_uint(j, "dead_bytes", s->dead_bytes);
	json_pair_uint(j, "late", s->late);
	json_pair_uint(j, "tables_held", s->tables_held);
	json_close_object(j);
}

static void add_ack(struct json *j, const struct ingest_facts *i)
{
	json_put_key_text(j, "ack_ms");
	if (!(i->ack_p50_ms > 0)) {
		json_put_null(j); /* none in the window */
		return;
	}
	json_open_object(j);
	json_pair_real(j, "p50", i->ack_p50_ms);
	json_pair_real(j, "p99", i->ack_p99_ms);
	json_pair_uint(j, "window_s", 60);
	json_close_object(j);
}

static void add_ingest(struct json *j, const struct facts *f)
{
	const struct ingest_facts *i = &f->ingest;

	json_put_key_text(j, "ingest");
	if (!f->running) {
		json_put_null(j);
		return;
	}
	json_open_object(j);
	json_pair_uint(j, "clients", i->clients);
	json_pair_uint(j, "users", i->users);
	json_pair_real(j, "records_per_s", i->records_per_s);
	json_pair_real(j, "bytes_per_s", i->bytes_per_s);
	json_pair_uint(j, "records_total", i->records);
	json_pair_uint(j, "duplicates_total", i->duplicates);
	json_pair_uint(j, "replayed_total", i->replayed);
	json_pair_real(j, "refused_per_s", i->refused_per_s);
	json_pair_uint(j, "refused_total",
		       i->refused_metrics + i->refused_bulk + i->refused_traces + i->refused_rest);
	json_put_key_text(j, "refused_by_kind");
	json_open_object(j);
	json_pair_uint(j, "metrics", i->refused_metrics);
	json_pair_uint(j, "bulk", i->refused_bulk);
	json_pair_uint(j, "traces", i->refused_traces);
	json_pair_uint(j, "rest", i->refused_rest);
	json_close_object(j);
	add_ago(j, "refused_since_s", f, i->refused_since_us);
	add_ack(j, i);
	json_close_object(j);
}

static void add_text_or_null(struct json *j, const char *key, const char *text)
{
	if (text[0] == '\0')
		json_pair_null(j, key);
	else
		json_pair_text(j, key, text);
}

static void add_account(struct json *j, const struct facts *f)
{
	uint64_t last_us = 0;

	for (size_t i = 0; i < f->sink_count; i++)
		last_us = f->sinks[i].last_ok_us > last_us ? f->sinks[i].last_ok_us : last_us;
	json_put_key_text(j, "account");
	json_open_object(j);
	json_pair_text(j, "base_url", f->base_url);
	add_text_or_null(j, "user", f->user);
	add_text_or_null(j, "key_tail", f->key_tail);
	add_ago(j, "last_accepted_s", f, last_us);
	json_close_object(j);
}

static void add_last_error(struct json *j, const struct sink_facts *s)
{
	json_put_key_text(j, "last_error");
	if (s->error[0] == '\0' && s->http == 0) {
		json_put_null(j);
		return;
	}
	json_open_object(j);
	if (s->http == 0)
		json_pair_null(j, "code");
	else
		json_pair_int(j, "code", s->http);
	json_pair_text(j, "text", s->error);
	json_close_object(j);
}

static void add_sink(struct json *j, const struct facts *f, const struct sink_facts *s)
{
	json_open_object(j);
	json_pair_text(j, "name", s->name);
	if (s->uid < 0)
		json_pair_null(j, "uid");
	else
		json_pair_int(j, "uid", s->uid);
	add_text_or_null(j, "user", s->user);
	add_text_or_null(j, "key_tail", s->key_tail);
	add_text_or_null(j, "key_source", s->key_source);
	add_state(j, sink_is_paused(f, s) ? "paused" : s->state_name);
	json_pair_seconds(j, "state_s", s->state_ms);
	json_pair_uint(j, "waiting", s->waiting);
	json_pair_uint(j, "waiting_bytes", s->waiting_bytes);
	json_pair_uint(j, "in_flight", s->in_flight);
	json_pair_uint(j, "dead", s->dead);
	add_ago(j, "oldest_s", f, s->oldest_us);
	json_pair_seconds(j, "next_try_s", s->next_try_ms);
	json_pair_uint(j, "tries", s->tries);
	json_pair_real(j, "sent_per_s", s->sent_per_s);
	json_pair_real(j, "sent_bytes_per_s", s->sent_bytes_per_s);
	if (strcmp(s->name, "weave") == 0) {
		json_pair_uint(j, "day_bytes", s->day_bytes);
		json_pair_uint(j, "month_bytes", s->month_bytes);
		json_pair_uint(j, "held", s->held);
	}
	json_pair_real(j, "retries_per_s", s->retries_per_s);
	add_ago(j, "last_ok_s", f, s->last_ok_us);
	json_pair_seconds(j, "spacing_s", s->spacing_ms == 0 ? -1 : (int64_t)s->spacing_ms);
	json_pair_seconds(j, "retry_after_s",
			  s->retry_after_ms == 0 ? -1 : (int64_t)s->retry_after_ms);
	if (s->paused_until_us > 0)
		json_pair_text(j, "paused_until", word_stamp((uint64_t)s->paused_until_us).text);
	else
		json_pair_null(j, "paused_until");
	json_pair_real(j, "requests_per_s", s->requests_per_s);
	json_pair_real(j, "bytes_per_s", s->bytes_per_s);
	json_pair_bool(j, "limits_are_asked_for", s->limits_are_asked_for);
	add_last_error(j, s);
	json_close_object(j);
}

static void add_dead(struct json *j, const struct facts *f)
{
	json_put_key_text(j, "dead_reasons");
	json_open_array(j);
	for (size_t i = 0; i < f->dead_count; i++) {
		json_open_object(j);
		json_pair_text(j, "sink", f->dead[i].sink);
		json_pair_int(j, "code", f->dead[i].status);
		json_pair_uint(j, "count", f->dead[i].count);
		json_pair_text(j, "text", f->dead[i].reason);
		json_pair_text(j, "run", f->dead[i].run);
		json_close_object(j);
	}
	json_close_array(j);
}

static void add_runs(struct json *j, const struct facts *f)
{
	json_put_key_text(j, "runs");
	json_open_object(j);
	json_pair_uint(j, "live", f->runs.live);
	json_pair_uint(j, "finishing", f->runs.finishing);
	json_pair_uint(j, "done", f->runs.done);
	json_pair_uint(j, "parked", f->runs.parked);
	json_close_object(j);
	json_put_key_text(j, "notable_runs");
	json_open_array(j);
	for (size_t i = 0; i < f->notable_count; i++) {
		const struct notable_run *r = &f->notable[i];

		json_open_object(j);
		json_pair_text(j, "run", r->run);
		json_pair_text(j, "project", r->project);
		json_pair_text(j, "state", r->state);
		json_pair_text(j, "parked", r->parked);
		json_pair_uint(j, "uploads", r->uploads);
		json_pair_uint(j, "late", r->late);
		json_close_object(j);
	}
	json_close_array(j);
}

static void add_spools(struct json *j, const struct facts *f)
{
	json_put_key_text(j, "spools");
	json_open_object(j);
	json_pair_uint(j, "producers", f->spool_producers);
	json_pair_uint(j, "bytes", f->spool_bytes);
	json_pair_uint(j, "bad", f->spool_bad);
	json_pair_uint(j, "unreadable", f->spool_unreadable);
	add_ago(j, "oldest_s", f, f->spool_oldest_us);
	json_close_object(j);
}

static void add_head(struct json *j, const struct facts *f, const struct judgement *judgement)
{
	json_pair_uint(j, "schema", 1);
	json_pair_text(j, "time", word_stamp(f->time_us).text);
	json_pair_text(j, "host", f->host);
	json_pair_text(j, "version", f->version);
	if (f->running) {
		json_pair_int(j, "pid", f->pid);
		json_pair_uint(j, "uptime_s", f->up_ms / 1000);
	} else {
		json_pair_null(j, "pid");
		json_pair_null(j, "uptime_s");
	}
	json_pair_text(j, "state", health_word(judgement->health));
}

void report_add(struct buf *out, const struct facts *f, const struct judgement *j)
{
	auto_buf struct buf line = {0};
	struct json json;

	buf_init(&line, REPORT_BYTES_MAX);
	json_init(&json, &line);
	json_open_object(&json);
	add_head(&json, f, j);
	add_reasons(&json, j);
	add_store(&json, &f->store);
	add_ingest(&json, f);
	add_account(&json, f);
	json_pair_uint(&json, "user_limit_bytes", f->user_limit_bytes);
	json_put_key_text(&json, "users_over_limit");
	json_open_array(&json);
	for (size_t i = 0; i < f->over_count; i++) {
		json_open_object(&json);
		json_pair_int(&json, "uid", f->over[i].uid);
		json_pair_uint(&json, "bytes", f->over[i].bytes);
		json_close_object(&json);
	}
	json_close_array(&json);
	json_put_key_text(&json, "sinks");
	json_open_array(&json);
	for (size_t i = 0; i < f->sink_count; i++)
		add_sink(&json, f, &f->sinks[i]);
	json_close_array(&json);
	add_dead(&json, f);
	add_runs(&json, f);
	add_spools(&json, f);
	json_pair_uint(&json, "lost_records_total", facts_lost(f));
	json_close_object(&json);
	json_line(out, &line);
}
