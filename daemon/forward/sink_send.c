/* See sink_parts.h: requests, and what answers say about the way. */
#include "daemon/forward/sink_parts.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <stdlib.h>

enum {
	FIRST_BODY_BYTES = 1 << 20, /* before a rate is known */
	SLOWEST_BODY_BYTES = 64 << 10,
	RATE_SECONDS_A_BODY = 5,
	RATE_SAMPLE_BYTES = 32 << 10, /* smaller bodies tell of latency only */
};

/* --- requests --- */

/* Of places and bytes the last quarter is for others, when there are any: whoever has little to send
 * finds room, however much somebody else has. */
static bool has_room(const struct sink *s, uint32_t uid, size_t *ret_bytes)
{
	bool has_others = s->pool->users > 1;
	unsigned places = has_others ? SINK_SLOTS - SINK_SLOTS / 4 : SINK_SLOTS;
	size_t most = s->pool->bodies_max != 0 ? s->pool->bodies_max : SINK_BODIES_MAX;
	size_t bytes = has_others ? most - most / 4 : most;
	size_t room = s->pool->body_bytes < most ? most - s->pool->body_bytes : 0;

	for (size_t i = 0; i < array_len(s->posts); i++) {
		const struct sink_post *p = &s->posts[i];

		if (!p->used || p->uid != uid)
			continue;
		places -= places > 0;
		bytes -= p->bytes < bytes ? p->bytes : bytes;
	}
	*ret_bytes = bytes < room ? bytes : room;
	return s->in_flight < SINK_SLOTS && places > 0 && *ret_bytes > SLOWEST_BODY_BYTES;
}

uint64_t sink_admit(struct sink *s, uint32_t uid, uint64_t now_ms)
{
	uint64_t wait_ms;
	size_t bytes;

	if (s->gate != GATE_OPEN || s->paused_until_us != 0)
		return UINT64_MAX;
	if (!has_room(s, uid, &bytes)) {
		s->pool->is_crowded = true;
		return UINT64_MAX;
	}
	wait_ms = limit_take(&s->requests, 1, now_ms);
	if (wait_ms == 0)
		s->in_flight++;
	return wait_ms;
}

size_t sink_body_target(const struct sink *s, uint32_t uid)
{
	size_t target = s->rate <= 0 ? FIRST_BODY_BYTES : (size_t)(s->rate * RATE_SECONDS_A_BODY);
	size_t room;

	(void)has_room(s, uid, &room); /* how many bytes, whether or not there is a place */
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
	s->pool->body_bytes -= p->bytes;
	measure(s, a, p->bytes);
	p->on_answer(p->arg, s, a);
	sink_has_room(s);
}

void sink_has_room(struct sink *s)
{
	if (!s->pool->is_crowded)
		return;
	s->pool->is_crowded = false;
	s->pool->on_open(s->pool->arg);
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

int sink_post(struct sink *s, uint32_t uid, const char *url, struct buf *body,
	      sink_on_answer on_answer, void *arg)
{
	const struct sink_body json = {.url = url, .body = body, .lane = LANE_METRICS};

	return sink_post_body(s, uid, &json, on_answer, arg);
}

int sink_post_body(struct sink *s, uint32_t uid, const struct sink_body *b,
		   sink_on_answer on_answer, void *arg)
{
	struct buf *body = b->body;
	struct sink_post *p = free_post(s);
	struct http_request q = {
		.url = b->url,
		.type = b->type,
		.user = "api",
		.password = s->key.text,
		.body = *body,
		.headers = b->headers,
		.header_count = b->header_count,
		.lane = b->lane,
		.limit = s->pool->bytes_of_all != NULL ? s->pool->bytes_of_all : &s->pool->bytes,
		.owner = uid,
		.on_answer = on_post_answer,
		.arg = p,
	};
	size_t bytes = body->len;
	int r;

	assert(s->in_flight > 0); /* sink_admit() came first */
	buf_init(body, 0);
	r = http_start(s->pool->http, &q);
	if (r < 0) {
		s->in_flight--;
		return r;
	}
	*p = (struct sink_post){.sink = s,
				.used = true,
				.uid = uid,
				.bytes = bytes,
				.on_answer = on_answer,
				.arg = arg};
	s->pool->body_bytes += bytes;
	stats_add(s->pool->stats, COUNT_REQUESTS, 1);
	return 0;
}

/* --- what answers say about the way --- */

/* Nobody gets through when there is no connection; a request that broke or stalled may have been
 * alone in that. */
bool sink_is_link_down(enum transport t)
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
			sink_move(s, GATE_ASK, now_ms);
		}
		return;
	case BLAME_LINK:
		sink_note_error(s, a);
		sink_show(s, MOOD_LINK_DOWN, now_ms);
		if (s->gate == GATE_OPEN && sink_is_link_down(a->transport)) {
			s->attempt = 1;
			sink_ask_later(s, v->wait_ms, now_ms);
			sink_move(s, GATE_ASK, now_ms);
		}
		break;
	case BLAME_LIMIT:
		sink_note_error(s, a);
		s->board.retry_after_ms = v->wait_ms;
		sink_show(s, MOOD_RATE_LIMITED, now_ms);
		break;
	case BLAME_SERVER:
		sink_note_error(s, a);
		sink_show(s, MOOD_SERVER_ERROR, now_ms);
		break;
	}
	rate_add(&s->shown->retries, now_ms, 1);
	if (s->gate == GATE_OPEN) {
		s->board.next_try_ms = now_ms + v->wait_ms;
		s->board.tries++;
	}
	sink_publish(s);
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
	if (facts->endpoint == ENDPOINT_STORAGE)
		return v; /* says nothing of the way to W&B (upload.c) */
	blame(s, answer, &v, now_ms);
	if (v.action == RETRY_SENT && s->gate == GATE_OPEN) {
		s->board.last_ok_ms = now_ms;
		s->board.tries = 0;
		s->board.next_try_ms = 0;
		sink_show(s, MOOD_OK, now_ms);
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
	sink_publish(s);
	return spacing_ms;
}

void sink_show_in_flight(struct sink *s, unsigned records)
{
	if (s->board.in_flight == records)
		return;
	s->board.in_flight = records;
	sink_publish(s);
}

void sink_delivered(struct sink *s, uint64_t records, uint64_t now_ms)
{
	rate_add(&s->shown->sent, now_ms, records);
}
