/* See facts.h. */
#include "client/ctl/facts.h"

#include "proto/base/mem.h"
#include "proto/mp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- fields --- */

static void take_text(struct mp map, const char *key, char *ret, size_t size)
{
	struct span s = mp_get_str(map, key);
	size_t len = s.len < size ? s.len : size - 1;

	if (s.at == NULL)
		len = 0;
	while (len > 0 && len < s.len && (s.at[len] & 0xc0) == 0x80)
		len--; /* a cut text ends with a whole character */
	memcpy(ret, s.at == NULL ? (const uint8_t *)"" : s.at, len);
	ret[len] = '\0';
}
#define TAKE_TEXT(map, key, field) take_text(map, key, field, sizeof(field))

/* Counts and times that are below zero mean "none" (the daemon's -1). */
static uint64_t take_count(struct mp map, const char *key)
{
	return mp_get_uint(map, key, 0);
}

static double take_real(struct mp map, const char *key)
{
	struct mp_value v;

	return mp_find(map, key, &v) == 0 && mp_is_number(&v) ? mp_to_double(&v) : 0;
}

/* The map under key; an empty one when there is none, in which nothing is found. */
static struct mp inner(struct mp map, const char *key)
{
	struct span s = {NULL, 0};

	if (mp_find_span(map, key, &s) < 0)
		s = SPAN_LITERAL("\x80");
	return mp_of(s);
}

/* A cursor at the first value of the array under key, and how many there are. */
static uint32_t list(struct mp map, const char *key, struct mp *ret)
{
	struct mp_value v;

	*ret = inner(map, key);
	return mp_read(ret, &v) == 0 && v.type == MP_ARRAY ? v.count : 0;
}

/* --- parts --- */

static void take_store(struct mp m, struct store_facts *s)
{
	uint64_t space = take_count(m, "space");

	TAKE_TEXT(m, "dir", s->dir);
	TAKE_TEXT(m, "fault", s->fault);
	s->database_bytes = take_count(m, "database_bytes");
	s->wal_bytes = take_count(m, "wal_bytes");
	s->blob_bytes = take_count(m, "blob_bytes");
	s->used_bytes = take_count(m, "used_bytes");
	s->limit_bytes = take_count(m, "limit_bytes");
	s->reserve_bytes = take_count(m, "reserve_bytes");
	s->disk_free_bytes = take_count(m, "disk_free_bytes");
	s->disk_total_bytes = take_count(m, "disk_total_bytes");
	s->space = space == 0 ? STORE_FINE : space == 1 ? STORE_TIGHT : STORE_FULL;
	s->dead = take_count(m, "dead");
	s->dead_bytes = take_count(m, "dead_bytes");
	s->late = take_count(m, "late");
	s->tables_held = take_count(m, "tables_held");
	s->commit_failures = take_count(m, "commit_failures");
}

static void take_ingest(struct mp m, struct ingest_facts *i)
{
	*i = (struct ingest_facts){
		.rejected_ever = take_count(m, "rejected_ever"),
		.refused_ever = take_count(m, "refused_ever"),
		.lost_ever = take_count(m, "lost_ever"),
		.clients = take_count(m, "clients"),
		.users = take_count(m, "users"),
		.records_per_s = take_real(m, "records_per_s"),
		.bytes_per_s = take_real(m, "bytes_per_s"),
		.refused_per_s = take_real(m, "refused_per_s"),
		.records = take_count(m, "records"),
		.duplicates = take_count(m, "duplicates"),
		.replayed = take_count(m, "replayed"),
		.ack_p50_ms = take_real(m, "ack_p50_ms"),
		.ack_p99_ms = take_real(m, "ack_p99_ms"),
		.refused_since_us = take_count(m, "refused_since_us"),
		.refused_metrics = take_count(m, "refused_metrics"),
		.refused_bulk = take_count(m, "refused_bulk"),
		.refused_traces = take_count(m, "refused_traces"),
		.refused_rest = take_count(m, "refused_rest"),
	};
}

enum sink_state sink_state_by_name(const char *name)
{
	static const char *const names[SINK_STATES] = {
		[SINK_UNTRIED] = "untried",
		[SINK_NO_KEY] = "no key",
		[SINK_OK] = "ok",
		[SINK_LINK_DOWN] = "link down",
		[SINK_RATE_LIMITED] = "rate limited",
		[SINK_KEY_REFUSED] = "key refused",
		[SINK_SERVER_ERROR] = "server error",
		[SINK_PAUSED] = "paused",
		[SINK_STORED_ONLY] = "stored only",
	};

	for (unsigned i = 0; i < SINK_UNKNOWN; i++) {
		if (strcmp(name, names[i]) == 0)
			return (enum sink_state)i;
	}
	return SINK_UNKNOWN;
}

static void take_sink(struct mp m, struct sink_facts *s)
{
	*s = (struct sink_facts){
		.uid = mp_get_int(m, "uid", -1),
		.state_ms = mp_get_int(m, "state_ms", -1),
		.waiting = take_count(m, "waiting"),
		.waiting_bytes = take_count(m, "waiting_bytes"),
		.in_flight = take_count(m, "in_flight"),
		.oldest_us = take_count(m, "oldest_us"),
		.next_try_ms = mp_get_int(m, "next_try_ms", -1),
		.tries = take_count(m, "tries"),
		.sent_per_s = take_real(m, "sent_per_s"),
		.sent_bytes_per_s = take_real(m, "sent_bytes_per_s"),
		.day_bytes = take_count(m, "day_bytes"),
		.month_bytes = take_count(m, "month_bytes"),
		.held = take_count(m, "held"),
		.retries_per_s = take_real(m, "retries_per_s"),
		.last_ok_us = take_count(m, "last_ok_us"),
		.paused_until_us = mp_get_int(m, "paused_until_us", 0),
		.http = mp_get_int(m, "http", 0),
		.spacing_ms = take_count(m, "spacing_ms"),
		.retry_after_ms = take_count(m, "retry_after_ms"),
		.requests_per_s = take_real(m, "requests_per_s"),
		.bytes_per_s = take_real(m, "bytes_per_s"),
		.limits_are_asked_for = mp_get_bool(m, "limits_are_asked_for", false),
	};
	TAKE_TEXT(m, "name", s->name);
	TAKE_TEXT(m, "user", s->user);
	TAKE_TEXT(m, "key_tail", s->key_tail);
	TAKE_TEXT(m, "key_source", s->key_source);
	TAKE_TEXT(m, "state", s->state_name);
	TAKE_TEXT(m, "error", s->error);
	s->state = sink_state_by_name(s->state_name);
	memcpy(s->title, s->name, sizeof(s->title));
	if (s->uid >= 0) /* room for a colon and a number: a name is short */
		(void)snprintf(s->title + strnlen(s->title, 200), 32, ":%lld", (long long)s->uid);
}

static void take_dead(struct mp m, struct dead_group *g)
{
	g->count = take_count(m, "count");
	g->status = mp_get_int(m, "status", 0);
	TAKE_TEXT(m, "sink", g->sink);
	TAKE_TEXT(m, "reason", g->reason);
	TAKE_TEXT(m, "run", g->run);
}

static void take_notable(struct mp m, struct notable_run *r)
{
	TAKE_TEXT(m, "run", r->run);
	TAKE_TEXT(m, "project", r->project);
	TAKE_TEXT(m, "state", r->state);
	TAKE_TEXT(m, "parked", r->parked);
	r->uploads = take_count(m, "uploads");
	r->late = take_count(m, "late");
}

static void take_lists(struct mp body, struct facts *f)
{
	struct mp at;
	struct span one;

	for (uint32_t n = list(body, "sinks", &at);
	     n > 0 && f->sink_count < FACTS_SINKS_MAX && mp_take(&at, &one) == 0; n--)
		take_sink(mp_of(one), &f->sinks[f->sink_count++]);
	for (uint32_t n = list(body, "dead", &at);
	     n > 0 && f->dead_count < FACTS_LIST_MAX && mp_take(&at, &one) == 0; n--)
		take_dead(mp_of(one), &f->dead[f->dead_count++]);
	f->user_limit_bytes = take_count(body, "user_limit_bytes");
	for (uint32_t n = list(body, "over_limit", &at);
	     n > 0 && f->over_count < FACTS_LIST_MAX && mp_take(&at, &one) == 0; n--)
		f->over[f->over_count++] = (struct user_over){
			.uid = mp_get_int(mp_of(one), "uid", -1),
			.bytes = take_count(mp_of(one), "bytes"),
		};
	for (uint32_t n = list(body, "notable", &at);
	     n > 0 && f->notable_count < FACTS_LIST_MAX && mp_take(&at, &one) == 0; n--)
		take_notable(mp_of(one), &f->notable[f->notable_count++]);
	for (size_t i = 0; i < f->sink_count; i++) {
		for (size_t g = 0; g < f->dead_count; g++) {
			if (strcmp(f->sinks[i].name, f->dead[g].sink) == 0)
				f->sinks[i].dead += f->dead[g].count;
		}
	}
}

static void take_runs(struct mp m, struct run_counts *r)
{
	r->live = take_count(m, "new") + take_count(m, "created") + take_count(m, "live");
	r->finishing = take_count(m, "finishing");
	r->done = take_count(m, "done");
	r->parked = take_count(m, "parked");
}

int facts_read(struct span body, struct facts *ret)
{
	struct mp m = mp_of(body);
	struct mp check = m;
	struct mp account;

	if (mp_skip(&check, NULL) < 0 || mp_get_uint(m, "schema", 0) == 0)
		return -EBADMSG;
	memset(ret, 0, sizeof(*ret));
	ret->asker = -1;
	ret->running = mp_get_bool(m, "running", false);
	ret->time_us = take_count(m, "time_us");
	ret->pid = mp_get_int(m, "pid", 0);
	ret->up_ms = take_count(m, "up_ms");
	ret->spool_producers = take_count(m, "spool_producers");
	ret->spool_bytes = take_count(m, "spool_bytes");
	ret->spool_bad = take_count(m, "spool_bad");
	ret->spool_unreadable = take_count(m, "spool_unreadable");
	ret->spool_oldest_us = take_count(m, "spool_oldest_us");
	TAKE_TEXT(m, "host", ret->host);
	TAKE_TEXT(m, "version", ret->version);
	account = inner(m, "account");
	TAKE_TEXT(account, "base_url", ret->base_url);
	TAKE_TEXT(account, "user", ret->user);
	TAKE_TEXT(account, "key_tail", ret->key_tail);
	take_store(inner(m, "store"), &ret->store);
	take_ingest(inner(m, "ingest"), &ret->ingest);
	take_runs(inner(m, "runs"), &ret->runs);
	take_lists(m, ret);
	return 0;
}

void facts_sum(const struct facts *f, enum sink_state state, uint64_t *ret_waiting,
	       uint64_t *ret_bytes)
{
	uint64_t waiting = 0;
	uint64_t bytes = 0;

	for (size_t i = 0; i < f->sink_count; i++) {
		if (state != SINK_STATES && f->sinks[i].state != state)
			continue;
		waiting += f->sinks[i].waiting;
		bytes += f->sinks[i].waiting_bytes;
	}
	*ret_waiting = waiting;
	*ret_bytes = bytes;
}

uint64_t facts_lost(const struct facts *f)
{
	return f->ingest.rejected_ever + f->ingest.refused_ever + f->ingest.lost_ever;
}
