/* See upload.h. */
#include "daemon/forward/upload.h"

#include "daemon/forward/sink_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	RATE_SAMPLE_BYTES = 64 << 10, /* smaller ones tell of latency only */
	SAMPLE_MS = 1000,
	HOURS_MS = 10000,          /* between looks at the clock */
	PIECE_BYTES_MIN = 16 << 10 /* what may go at once, however low the limit */
};

/* --- what status says of the way to the storage --- */

static void publish(struct sink_pool *pool)
{
	if (pool->uploads_shown != NULL)
		stats_set_sink(pool->stats, pool->uploads_shown, &pool->uploads_board);
}

static void show(struct sink_pool *pool, enum sink_mood mood, uint64_t now_ms)
{
	struct sink_board *b = &pool->uploads_board;

	if (pool->uploads_paused_us != 0)
		mood = MOOD_PAUSED;
	if (b->mood != mood) {
		b->mood = mood;
		b->since_ms = now_ms;
	}
	publish(pool);
}

void upload_show(struct sink_pool *pool, struct sink_stats *shown)
{
	pool->uploads_shown = shown;
	pool->uploads_board = (struct sink_board){.mood = MOOD_UNTRIED, .in_use = true};
	publish(pool);
}

void upload_pause(struct sink_pool *pool, int64_t until_us, uint64_t now_ms)
{
	bool was_paused = pool->uploads_paused_us != 0;

	pool->uploads_paused_us = until_us;
	if (until_us == 0 && was_paused) {
		show(pool, MOOD_UNTRIED, now_ms);
		pool->on_open(pool->arg);
	} else if (until_us != 0) {
		show(pool, MOOD_PAUSED, now_ms);
	}
}

void upload_set(struct sink_pool *pool, double bytes_per_s, const struct send_hours *hours,
		uint64_t now_ms)
{
	double piece = bytes_per_s / 4; /* a quarter of a second's */

	limit_set(&pool->upload_bytes, bytes_per_s,
		  piece < PIECE_BYTES_MIN ? PIECE_BYTES_MIN : piece, now_ms);
	pool->upload_hours = *hours;
}

/* By the machine's own clock and zone. */
static bool is_hour(const struct sink_pool *pool)
{
	time_t now = (time_t)(clock_wall_us() / 1000000);
	struct tm tm;

	return localtime_r(&now, &tm) == NULL ||
	       send_hours_have(&pool->upload_hours, tm.tm_hour * 60 + tm.tm_min);
}

uint64_t upload_turn(struct sink_pool *pool, uint64_t now_ms)
{
	uint64_t given = http_given(pool->http, LANE_TABLES) + http_given(pool->http, LANE_FILES);

	if (pool->uploads_shown == NULL)
		return UINT64_MAX;
	if (given > pool->uploads_given)
		rate_add(&pool->uploads_shown->bytes, now_ms, given - pool->uploads_given);
	pool->uploads_given = given;
	if (pool->uploads_paused_us > 0 && (int64_t)clock_wall_us() >= pool->uploads_paused_us)
		upload_pause(pool, 0, now_ms);
	if (pool->is_off_hours && is_hour(pool)) {
		pool->is_off_hours = false;
		pool->on_open(pool->arg);
	}
	if (pool->uploads > 0 || pool->uploads_paused_us > 0)
		return now_ms + SAMPLE_MS;
	return pool->is_off_hours ? now_ms + HOURS_MS : UINT64_MAX;
}

static void note_failure(struct sink_pool *pool, const struct http_answer *a,
			 const struct retry_verdict *v, uint64_t now_ms)
{
	struct sink_board *b = &pool->uploads_board;

	b->http_status = a->status;
	if (a->transport != TRANSPORT_ANSWERED)
		(void)snprintf(b->last_error, sizeof(b->last_error), "%s", a->error);
	else
		(void)snprintf(b->last_error, sizeof(b->last_error), "HTTP %d of the storage",
			       a->status); /* its answer may name the signed URL */
	b->tries++;
	b->next_try_ms = now_ms + v->wait_ms;
	if (pool->uploads_shown != NULL)
		rate_add(&pool->uploads_shown->retries, now_ms, 1);
}

static void note(struct sink_pool *pool, const struct http_answer *a, const struct retry_verdict *v,
		 uint64_t now_ms)
{
	struct sink_board *b = &pool->uploads_board;

	if (v->action == RETRY_SENT) {
		if (pool->uploads_shown != NULL)
			rate_add(&pool->uploads_shown->sent, now_ms, 1);
		b->tries = 0;
		b->next_try_ms = 0;
		b->last_ok_ms = now_ms;
		show(pool, MOOD_OK, now_ms);
		return;
	}
	note_failure(pool, a, v, now_ms);
	switch (v->blame) {
	case BLAME_LINK: show(pool, MOOD_LINK_DOWN, now_ms); return;
	case BLAME_LIMIT: show(pool, MOOD_RATE_LIMITED, now_ms); return;
	case BLAME_SERVER: show(pool, MOOD_SERVER_ERROR, now_ms); return;
	case BLAME_NOTHING:
	case BLAME_KEY:
	case BLAME_REQUEST: publish(pool); return;
	}
}

/* --- uploads --- */

/* Transfers that go at the same time share the link: the rate of one, times how many there were. */
static void measure(struct sink_pool *pool, const struct http_answer *a)
{
	double rate;

	if (a->sent_bytes < RATE_SAMPLE_BYTES)
		return;
	rate = (double)a->sent_bytes * 1000 / (double)(a->active_ms == 0 ? 1 : a->active_ms) *
	       pool->uploads;
	pool->upload_rate = pool->upload_rate <= 0 ? rate : pool->upload_rate * 0.7 + rate * 0.3;
}

static bool is_thin(const struct sink_pool *pool)
{
	return pool->upload_rate < UPLOAD_THIN_BYTES_PER_S; /* also while nothing is known */
}

/* In this lane or a higher one; those in a lower one are held back by http_pace.c. */
static unsigned bulks(const struct sink_pool *pool, enum lane lane)
{
	unsigned n = 0;

	for (unsigned i = 0; i <= (unsigned)lane; i++)
		n += pool->bulks[i];
	return n;
}

bool upload_may_start(struct sink *s, enum lane lane, int64_t size)
{
	struct sink_pool *pool = s->pool;
	/* the last place is for what rows name */
	unsigned places = lane > LANE_TABLES ? UPLOADS_MAX - 1 : UPLOADS_MAX;
	bool has_place = pool->uploads < places && s->uploading < places &&
			 !(size > UPLOAD_BULK_BYTES && is_thin(pool) && bulks(pool, lane) > 0);

	if (s->gate != GATE_OPEN || s->paused_until_us != 0 || pool->uploads_paused_us != 0)
		return false;
	if (has_place && size > UPLOAD_BULK_BYTES && !is_hour(pool)) {
		pool->is_off_hours = true;
		return false;
	}
	if (!has_place)
		pool->is_crowded = true;
	return has_place;
}

static void on_upload_answer(void *arg, const struct http_answer *a)
{
	struct sink_post *p = arg;
	struct sink *s = p->sink;

	measure(s->pool, a);
	p->used = false;
	s->uploading--;
	s->pool->uploads--;
	s->pool->bulks[p->lane] -= p->is_bulk;
	p->on_answer(p->arg, s, a);
	sink_has_room(s);
}

static struct sink_post *free_place(struct sink *s)
{
	for (size_t i = 0; i < array_len(s->uploads); i++) {
		if (!s->uploads[i].used)
			return &s->uploads[i];
	}
	abort(); /* upload_may_start() said that there is one */
}

int upload_start(struct sink *s, struct upload_request *q)
{
	struct sink_post *p = free_place(s);
	bool is_bulk = q->source != NULL && q->source->size > UPLOAD_BULK_BYTES;
	struct http_request r = {
		.url = q->url,
		.source = q->source,
		.headers = q->headers,
		.header_count = q->header_count,
		.lane = q->lane,
		.limit = &s->pool->bytes,
		.owner = q->uid,
		.on_answer = on_upload_answer,
		.arg = p,
	};
	double total = s->pool->bytes.per_s;
	double own = s->pool->upload_bytes.per_s;
	int e;

	if (own > 0 && (total <= 0 || own < total)) {
		r.limit = &s->pool->upload_bytes;
		r.shared = &s->pool->bytes;
	}
	if (q->source == NULL)
		return -ENOMEM;
	q->source = NULL;
	buf_init(&r.body, 0);
	e = http_start(s->pool->http, &r);
	if (e < 0)
		return e;
	*p = (struct sink_post){.sink = s,
				.used = true,
				.uid = q->uid,
				.is_bulk = is_bulk,
				.lane = q->lane,
				.on_answer = q->on_answer,
				.arg = q->arg};
	s->uploading++;
	s->pool->uploads++;
	s->pool->bulks[q->lane] += is_bulk;
	stats_add(s->pool->stats, COUNT_REQUESTS, 1);
	return 0;
}

struct retry_verdict upload_judge(struct sink *s, const struct http_answer *answer,
				  unsigned attempt, uint64_t now_ms)
{
	struct retry_facts facts = {.endpoint = ENDPOINT_STORAGE, .attempt = attempt, .parts = 1};
	struct retry_verdict v = sink_judge(s, answer, &facts, now_ms);

	if (answer->source_error == -ENOENT || answer->source_error == -EBADMSG ||
	    answer->source_error == -EMSGSIZE)
		v = (struct retry_verdict){.action = RETRY_REFUSED, .blame = BLAME_REQUEST};
	note(s->pool, answer, &v, now_ms);
	return v;
}
