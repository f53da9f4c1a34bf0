/* See sink.h. */
#include "daemon/forward/sink.h"

#include "daemon/base/log.h"
#include "daemon/forward/models/wire.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIRST_BODY_BYTES = 1 << 20, /* before a rate is known */
	SLOWEST_BODY_BYTES = 64 << 10,
	RATE_SECONDS_A_BODY = 5,
	RATE_SAMPLE_BYTES = 32 << 10, /* smaller bodies tell of latency only */
	URL_MAX = 4096,
};

static void publish(struct sink *s)
{
	stats_set_sink(s->stats, s->id, &s->board);
}

static void show(struct sink *s, enum sink_mood mood, uint64_t now_ms)
{
	if (s->paused_until_us != 0)
		mood = MOOD_PAUSED;
	if (s->board.mood != mood) {
		s->board.mood = mood;
		s->board.since_ms = now_ms;
		log_info("sender", "sink=%s state=\"%s\"", sink_name(s->id), sink_mood_name(mood));
	}
	publish(s);
}

static void gate_move(struct sink *s, enum gate to, uint64_t now_ms)
{
	static const char *const names[] = {"no key", "ask", "open"};

	log_debug("sender", "sink=%s from=%s to=%s", sink_name(s->id), names[s->gate], names[to]);
	s->gate = to;
	switch (to) {
	case GATE_NO_KEY: show(s, MOOD_NO_KEY, now_ms); return;
	case GATE_ASK: publish(s); return;
	case GATE_OPEN:
		s->attempt = 0;
		s->key_is_refused = false;
		s->on_open(s->arg);
		return;
	}
}

/* --- the key --- */

static void take_key(struct sink *s, const struct key *found, uint64_t now_ms)
{
	size_t len = strlen(found->text);

	s->key = *found;
	s->key_is_refused = false;
	s->attempt = 0;
	s->asked_of_old = s->asking;
	s->next_ask_ms = now_ms;
	(void)snprintf(s->board.key_tail, sizeof(s->board.key_tail), "%s",
		       len < 4 ? "" : found->text + len - 4); /* four characters */
	s->board.user[0] = '\0';
	if (len == 0) {
		gate_move(s, GATE_NO_KEY, now_ms);
		return;
	}
	log_info("sender", "sink=%s a key is there, from %s", sink_name(s->id), found->source);
	gate_move(s, GATE_ASK, now_ms);
}

static void look_for_key(struct sink *s, uint64_t now_ms)
{
	struct key found = {.text = ""};
	char error[256] = "out of memory";
	int r = key_find(&found, s->settings.key_file, s->settings.base_url, error);

	s->next_look_ms = now_ms + SINK_KEY_LOOK_MS;
	if (r < 0) {
		(void)snprintf(s->board.last_error, sizeof(s->board.last_error), "%.150s", error);
		log_warn("sender", "sink=%s %s", sink_name(s->id), error);
	}
	if (!key_equal(&found, &s->key))
		take_key(s, &found, now_ms);
	else
		publish(s);
	key_forget(&found);
}

/* --- who am I --- */

static void note_error(struct sink *s, const struct http_answer *a)
{
	char reason[WIRE_REASON_MAX];

	s->board.http_status = a->status;
	if (a->transport != TRANSPORT_ANSWERED) {
		(void)snprintf(s->board.last_error, sizeof(s->board.last_error), "%s", a->error);
		return;
	}
	wire_reason(a->body, reason);
	(void)snprintf(s->board.last_error, sizeof(s->board.last_error), "HTTP %d: %.130s",
		       a->status, reason);
}

static void ask_later(struct sink *s, uint64_t wait_ms, uint64_t now_ms)
{
	s->next_ask_ms = now_ms + wait_ms;
	s->board.next_try_ms = s->next_ask_ms;
	s->board.tries = s->attempt;
	publish(s);
}

static void key_refused(struct sink *s, const struct http_answer *a, uint64_t now_ms)
{
	uint64_t wait_ms = SINK_KEY_PROBE_MS;

	for (unsigned i = 1; i < s->attempt && wait_ms < SINK_KEY_PROBE_MAX_MS; i++)
		wait_ms *= 2;
	if (!s->key_is_refused)
		log_error("sender",
			  "sink=%s http=%d W&B refuses the key; everything waits here until it "
			  "is replaced",
			  sink_name(s->id), a->status);
	s->key_is_refused = true;
	note_error(s, a);
	show(s, MOOD_REFUSED_KEY, now_ms);
	ask_later(s, wait_ms < SINK_KEY_PROBE_MAX_MS ? wait_ms : SINK_KEY_PROBE_MAX_MS, now_ms);
}

/* Something answers that is not W&B: a captive portal, a proxy, another path than base_url's. */
static void strange_answer(struct sink *s, const struct http_answer *a, uint64_t now_ms)
{
	note_error(s, a);
	show(s, MOOD_SERVER_ERROR, now_ms);
	ask_later(s, retry_backoff_ms(s->attempt, s->settings.backoff_max_ms, &s->jitter), now_ms);
}

static void known(struct sink *s, const struct wire_user *user, uint64_t now_ms)
{
	(void)snprintf(s->board.user, sizeof(s->board.user), "%s", user->name); /* same size */
	(void)snprintf(s->entity, sizeof(s->entity), "%s", user->entity);
	s->board.last_ok_ms = now_ms;
	show(s, MOOD_OK, now_ms);
	gate_move(s, GATE_OPEN, now_ms);
}

static void on_viewer(void *arg, const struct http_answer *a)
{
	struct sink *s = arg;
	struct retry_facts facts = {
		.endpoint = ENDPOINT_GRAPHQL, .attempt = s->attempt, .parts = 1};
	struct wire_user user = {.name = ""};
	uint64_t now_ms = clock_mono_ms();
	int r = wire_read_viewer(a->body, &user);
	struct retry_verdict v;

	s->asking = false;
	if (s->gate != GATE_ASK || s->asked_of_old) {
		s->asked_of_old = false;
		return; /* the key went meanwhile */
	}
	facts.has_errors = r == -EREMOTEIO;
	v = sink_judge(s, a, &facts, now_ms);
	if (a->transport == TRANSPORT_ANSWERED && a->status < 300 && r == -EBADMSG) {
		strange_answer(s, a, now_ms);
		return;
	}
	switch (v.action) {
	case RETRY_AGAIN: ask_later(s, v.wait_ms, now_ms); return;
	case RETRY_KEY: key_refused(s, a, now_ms); return;
	case RETRY_REFUSED:
		if (r == -EREMOTEIO && a->status < 300) {
			key_refused(s, a, now_ms); /* nobody is logged in */
			return;
		}
		known(s, &user, now_ms); /* a server that does not know the question */
		return;
	case RETRY_PARK_RUN: strange_answer(s, a, now_ms); return; /* 404: not each run's fault */
	case RETRY_SENT:
	case RETRY_SPLIT: known(s, &user, now_ms); return;
	}
}

static void ask_who(struct sink *s, uint64_t now_ms)
{
	struct buf url;
	struct buf body;

	buf_init(&url, URL_MAX);
	buf_init(&body, URL_MAX);
	wire_viewer(&body);
	s->attempt++;
	s->next_ask_ms = UINT64_MAX;
	if (wire_graphql_url(&url, s->settings.base_url) < 0 || body.error != 0) {
		buf_done(&body);
		ask_later(s, s->settings.backoff_max_ms, now_ms);
	} else {
		s->in_flight++;
		s->asking = sink_post(s, (const char *)url.data, &body, on_viewer, s) == 0;
		if (!s->asking)
			ask_later(s, s->settings.backoff_max_ms, now_ms);
	}
	buf_done(&url);
}

/* --- turns --- */

static void end_pause(struct sink *s, uint64_t now_ms)
{
	if (s->paused_until_us <= 0 || (int64_t)clock_wall_us() < s->paused_until_us)
		return;
	sink_pause(s, 0, now_ms);
}

uint64_t sink_turn(struct sink *s, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;

	end_pause(s, now_ms);
	if ((s->gate == GATE_NO_KEY || s->key_is_refused) && now_ms >= s->next_look_ms)
		look_for_key(s, now_ms);
	if (s->gate == GATE_ASK && !s->asking && s->paused_until_us == 0 &&
	    now_ms >= s->next_ask_ms)
		ask_who(s, now_ms);
	if (s->gate == GATE_NO_KEY || s->key_is_refused)
		next_ms = s->next_look_ms;
	if (s->gate == GATE_ASK && !s->asking && s->next_ask_ms < next_ms)
		next_ms = s->next_ask_ms;
	if (s->paused_until_us > 0 && now_ms + 1000 < next_ms)
		next_ms = now_ms + 1000; /* by the wall clock, which may jump */
	return next_ms;
}

void sink_set(struct sink *s, const struct sink_settings *settings, uint64_t now_ms)
{
	s->settings = *settings;
	/* one request may always go at once; bytes in pieces of a quarter of a second */
	limit_set(&s->requests, settings->requests_per_s,
		  settings->requests_per_s < 1 ? 1 : settings->requests_per_s, now_ms);
	limit_set(&s->bytes, settings->bytes_per_s,
		  settings->bytes_per_s / 4 < 16 << 10 ? 16 << 10 : settings->bytes_per_s / 4,
		  now_ms);
	look_for_key(s, now_ms);
	if (s->gate == GATE_NO_KEY)
		show(s, MOOD_NO_KEY, now_ms);
	if (s->gate == GATE_ASK)
		sink_retry(s, now_ms);
}

void sink_pause(struct sink *s, int64_t until_us, uint64_t now_ms)
{
	bool was_paused = s->paused_until_us != 0;

	s->paused_until_us = until_us;
	if (until_us != 0) {
		show(s, MOOD_PAUSED, now_ms);
	} else if (was_paused) {
		show(s,
		     s->gate == GATE_NO_KEY ? MOOD_NO_KEY
		     : s->key_is_refused    ? MOOD_REFUSED_KEY
					    : MOOD_UNTRIED,
		     now_ms);
		if (s->gate == GATE_OPEN)
			s->on_open(s->arg);
	}
}

void sink_retry(struct sink *s, uint64_t now_ms)
{
	s->attempt = s->asking ? 1 : 0;
	s->next_look_ms = now_ms;
	if (!s->asking)
		s->next_ask_ms = now_ms;
}

/* --- requests --- */

uint64_t sink_admit(struct sink *s, uint64_t now_ms)
{
	uint64_t wait_ms;

	if (s->gate != GATE_OPEN || s->paused_until_us != 0)
		return UINT64_MAX;
	if (s->in_flight >= SINK_SLOTS || s->body_bytes >= SINK_BODIES_MAX - SLOWEST_BODY_BYTES) {
		s->is_crowded = true;
		return UINT64_MAX;
	}
	wait_ms = limit_take(&s->requests, 1, now_ms);
	if (wait_ms == 0)
		s->in_flight++;
	return wait_ms;
}

size_t sink_body_target(const struct sink *s)
{
	size_t target = s->rate <= 0 ? FIRST_BODY_BYTES : (size_t)(s->rate * RATE_SECONDS_A_BODY);
	size_t room = s->body_bytes < SINK_BODIES_MAX ? SINK_BODIES_MAX - s->body_bytes : 0;

	if (target < SLOWEST_BODY_BYTES)
		target = SLOWEST_BODY_BYTES;
	if (target > s->settings.body_max)
		target = s->settings.body_max;
	return target < room ? target : room;
}

/* A body that stalled or broke may be more than the link can carry in a server's patience: nobody
 * knows how much of it arrived, so the next one has half of it. */
static void measure(struct sink *s, const struct http_answer *a, size_t bytes)
{
	double rate;

	if ((a->transport == TRANSPORT_STALLED || a->transport == TRANSPORT_BROKEN) &&
	    bytes > SLOWEST_BODY_BYTES)
		s->rate = (double)bytes / 2 / RATE_SECONDS_A_BODY;
	if (a->transport != TRANSPORT_ANSWERED || a->sent_bytes < RATE_SAMPLE_BYTES)
		return;
	rate = (double)a->sent_bytes * 1000 / (double)(a->took_ms == 0 ? 1 : a->took_ms);
	s->rate = s->rate <= 0 ? rate : s->rate * 0.7 + rate * 0.3;
}

static void on_post_answer(void *arg, const struct http_answer *a)
{
	struct sink_post *p = arg;
	struct sink *s = p->sink;

	p->used = false;
	s->in_flight--;
	s->body_bytes -= p->bytes;
	measure(s, a, p->bytes);
	p->on_answer(p->arg, a);
	if (s->is_crowded) {
		s->is_crowded = false;
		s->on_open(s->arg);
	}
}

static struct sink_post *free_post(struct sink *s)
{
	for (size_t i = 0; i < array_len(s->posts); i++) {
		if (!s->posts[i].used)
			return &s->posts[i];
	}
	abort(); /* in_flight says that there is one */
}

void sink_cancel(struct sink *s)
{
	assert(s->in_flight > 0);
	s->in_flight--;
}

int sink_post(struct sink *s, const char *url, struct buf *body, sink_on_answer on_answer,
	      void *arg)
{
	struct sink_post *p = free_post(s);
	struct http_request q = {
		.url = url,
		.user = "api",
		.password = s->key.text,
		.body = *body,
		.limit = s->settings.bytes_per_s > 0 ? &s->bytes : NULL,
		.on_answer = on_post_answer,
		.arg = p,
	};
	size_t bytes = body->len;
	int r;

	assert(s->in_flight > 0); /* sink_admit() came first */
	buf_init(body, 0);
	r = http_post(s->http, &q);
	if (r < 0) {
		s->in_flight--;
		return r;
	}
	*p = (struct sink_post){
		.sink = s, .used = true, .bytes = bytes, .on_answer = on_answer, .arg = arg};
	s->body_bytes += bytes;
	stats_add(s->stats, COUNT_REQUESTS, 1);
	return 0;
}

/* --- what answers say about the way --- */

/* Nobody gets through when there is no connection; a request that broke or stalled may have been
 * alone in that. */
static bool is_link_down(enum transport t)
{
	return t == TRANSPORT_NO_NAME || t == TRANSPORT_NO_CONNECTION || t == TRANSPORT_BAD_TLS;
}

static void blame(struct sink *s, const struct http_answer *a, const struct retry_verdict *v,
		  uint64_t now_ms)
{
	switch (v->blame) {
	case BLAME_NOTHING:
	case BLAME_REQUEST: return;
	case BLAME_KEY:
		if (s->gate == GATE_OPEN) {
			s->next_ask_ms = now_ms;
			gate_move(s, GATE_ASK, now_ms);
		}
		return;
	case BLAME_LINK:
		note_error(s, a);
		show(s, MOOD_LINK_DOWN, now_ms);
		if (s->gate == GATE_OPEN && is_link_down(a->transport)) {
			s->attempt = 1;
			ask_later(s, v->wait_ms, now_ms);
			gate_move(s, GATE_ASK, now_ms);
		}
		break;
	case BLAME_LIMIT:
		note_error(s, a);
		s->board.retry_after_ms = v->wait_ms;
		show(s, MOOD_RATE_LIMITED, now_ms);
		break;
	case BLAME_SERVER:
		note_error(s, a);
		show(s, MOOD_SERVER_ERROR, now_ms);
		break;
	}
	rate_add(&s->stats->retries[s->id], now_ms, 1);
	if (s->gate == GATE_OPEN) {
		s->board.next_try_ms = now_ms + v->wait_ms;
		s->board.tries++;
	}
	publish(s);
}

struct retry_verdict sink_judge(struct sink *s, const struct http_answer *answer,
				struct retry_facts *facts, uint64_t now_ms)
{
	struct retry_verdict v;

	facts->transport = answer->transport;
	facts->status = answer->status;
	facts->retry_after_ms = answer->retry_after_ms;
	facts->reset_ms = answer->reset_ms;
	facts->backoff_max_ms = s->settings.backoff_max_ms;
	v = retry_decide(facts, &s->jitter);
	blame(s, answer, &v, now_ms);
	if (v.action == RETRY_SENT && s->gate == GATE_OPEN) {
		s->board.last_ok_ms = now_ms;
		s->board.tries = 0;
		s->board.next_try_ms = 0;
		show(s, MOOD_OK, now_ms);
	}
	return v;
}

uint64_t sink_spacing_ms(struct sink *s, const struct http_answer *answer)
{
	uint64_t spacing_ms = 0;

	if (answer->remaining < 0 || answer->reset_ms < 0)
		return 0;
	if (answer->remaining > s->most_remaining)
		s->most_remaining = answer->remaining;
	if (answer->remaining < s->most_remaining / 10 || answer->remaining < 1)
		spacing_ms = (uint64_t)((double)answer->reset_ms /
					(answer->remaining < 1 ? 1 : answer->remaining));
	s->board.spacing_ms = spacing_ms;
	publish(s);
	return spacing_ms;
}

void sink_show_in_flight(struct sink *s, unsigned records)
{
	if (s->board.in_flight == records)
		return;
	s->board.in_flight = records;
	publish(s);
}

void sink_delivered(struct sink *s, uint64_t records, uint64_t now_ms)
{
	rate_add(&s->stats->sent[s->id], now_ms, records);
}

void sink_init(struct sink *s, enum sink_id id, struct http *http, struct stats *stats)
{
	*s = (struct sink){.id = id, .http = http, .stats = stats};
	/* without random bytes the jitter is the same every time: no harm */
	(void)rng_bytes(&s->jitter.state, sizeof(s->jitter.state));
	s->board.mood = MOOD_UNTRIED;
}

void sink_done(struct sink *s)
{
	key_forget(&s->key);
}
