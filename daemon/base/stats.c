/* See stats.h. */
#include "daemon/base/stats.h"

#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int stats_init(struct stats *s)
{
	*s = (struct stats){.started_ms = clock_mono_ms()};
	return -pthread_mutex_init(&s->lock, NULL);
}

void stats_done(struct stats *s)
{
	(void)pthread_mutex_destroy(&s->lock); /* nobody uses it any more */
}

void stats_add(struct stats *s, enum counter c, uint64_t n)
{
	atomic_fetch_add_explicit(&s->counters[c], n, memory_order_relaxed);
}

void stats_sub(struct stats *s, enum counter c, uint64_t n)
{
	atomic_fetch_sub_explicit(&s->counters[c], n, memory_order_relaxed);
}

uint64_t stats_get(const struct stats *s, enum counter c)
{
	return atomic_load_explicit(&s->counters[c], memory_order_relaxed);
}

void rate_add(struct rate *r, uint64_t now_ms, uint64_t n)
{
	uint64_t second = now_ms / 1000;
	size_t slot = second % (RATE_SECONDS + 1);

	if (atomic_load_explicit(&r->second[slot], memory_order_relaxed) != second) {
		atomic_store_explicit(&r->count[slot], 0, memory_order_relaxed);
		atomic_store_explicit(&r->second[slot], second, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&r->count[slot], n, memory_order_relaxed);
}

double rate_per_s(const struct rate *r, uint64_t now_ms)
{
	uint64_t second = now_ms / 1000;
	uint64_t sum = 0;

	for (size_t i = 0; i <= RATE_SECONDS; i++) {
		uint64_t of = atomic_load_explicit(&r->second[i], memory_order_relaxed);

		if (of < second && of + RATE_SECONDS >= second)
			sum += atomic_load_explicit(&r->count[i], memory_order_relaxed);
	}
	return (double)sum / RATE_SECONDS;
}

/* Bucket 4 * log2(us) with two bits of fraction; one below a microsecond. */
static size_t latency_bucket(uint64_t duration_ns)
{
	uint64_t us = duration_ns / 1000;
	unsigned top = 0;
	size_t bucket;

	if (us == 0)
		return 0;
	while (us >> (top + 1) != 0)
		top++;
	bucket = 1 + 4u * top + (top >= 2 ? (us >> (top - 2)) & 3 : (us << (2 - top)) & 3);
	return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

static double latency_bucket_ns(size_t bucket)
{
	double us;

	if (bucket == 0)
		return 500;
	us = (double)(1ull << ((bucket - 1) / 4)) * (1 + ((double)((bucket - 1) % 4) + 0.5) / 4);
	return us * 1000;
}

void latency_add(struct latency *l, uint64_t now_ms, uint64_t duration_ns)
{
	uint64_t window = now_ms / LATENCY_WINDOW_MS;
	size_t row = window % LATENCY_WINDOWS;
	size_t bucket = latency_bucket(duration_ns);

	if (atomic_load_explicit(&l->window[row], memory_order_relaxed) != window) {
		for (size_t i = 0; i < LATENCY_BUCKETS; i++)
			atomic_store_explicit(&l->count[row][i], 0, memory_order_relaxed);
		atomic_store_explicit(&l->window[row], window, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&l->count[row][bucket], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->ever[bucket], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->ever_ns, duration_ns, memory_order_relaxed);
}

double latency_quantile(const struct latency *l, uint64_t now_ms, double part)
{
	uint64_t sums[LATENCY_BUCKETS] = {0};
	uint64_t window = now_ms / LATENCY_WINDOW_MS;
	uint64_t total = 0;
	uint64_t seen = 0;

	for (size_t row = 0; row < LATENCY_WINDOWS; row++) {
		uint64_t of = atomic_load_explicit(&l->window[row], memory_order_relaxed);

		if (of + LATENCY_WINDOWS <= window)
			continue;
		for (size_t i = 0; i < LATENCY_BUCKETS; i++)
			sums[i] += atomic_load_explicit(&l->count[row][i], memory_order_relaxed);
	}
	for (size_t i = 0; i < LATENCY_BUCKETS; i++)
		total += sums[i];
	for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
		seen += sums[i];
		if (total != 0 && (double)seen >= part * (double)total && sums[i] != 0)
			return latency_bucket_ns(i);
	}
	return 0;
}

uint64_t latency_below(const struct latency *l, unsigned log2_us)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < 1 + 4 * (size_t)log2_us && i < LATENCY_BUCKETS; i++)
		sum += atomic_load_explicit(&l->ever[i], memory_order_relaxed);
	return sum;
}

const char *sink_name(enum sink_id id)
{
	static const char *const names[SINK_COUNT] = {"models", "artifacts", "weave"};

	assert(id < SINK_COUNT);
	return names[id];
}

const char *sink_mood_name(enum sink_mood mood)
{
	static const char *const names[MOOD_COUNT] = {
		[MOOD_UNTRIED] = "untried",
		[MOOD_NO_KEY] = "no key",
		[MOOD_OK] = "ok",
		[MOOD_LINK_DOWN] = "link down",
		[MOOD_RATE_LIMITED] = "rate limited",
		[MOOD_REFUSED_KEY] = "key refused",
		[MOOD_SERVER_ERROR] = "server error",
		[MOOD_PAUSED] = "paused",
		[MOOD_STORED_ONLY] = "stored only",
	};

	assert(mood < MOOD_COUNT);
	return names[mood];
}

void stats_set_sink(struct stats *s, enum sink_id id, const struct sink_board *board)
{
	(void)pthread_mutex_lock(&s->lock);
	s->sinks[id] = *board;
	(void)pthread_mutex_unlock(&s->lock);
}

void stats_get_sink(struct stats *s, enum sink_id id, struct sink_board *ret)
{
	(void)pthread_mutex_lock(&s->lock);
	*ret = s->sinks[id];
	(void)pthread_mutex_unlock(&s->lock);
}

void stats_set_store_fault(struct stats *s, const char *text)
{
	(void)pthread_mutex_lock(&s->lock);
	(void)snprintf(s->store_fault, sizeof(s->store_fault), "%s",
		       text == NULL ? "" : text); /* cut is fine */
	(void)pthread_mutex_unlock(&s->lock);
}

void stats_get_store_fault(struct stats *s, char *ret_text, size_t size)
{
	(void)pthread_mutex_lock(&s->lock);
	(void)snprintf(ret_text, size, "%s", s->store_fault);
	(void)pthread_mutex_unlock(&s->lock);
}

void stats_set_refusing(struct stats *s, uint64_t since_us)
{
	(void)pthread_mutex_lock(&s->lock);
	s->refused_since_us = since_us;
	(void)pthread_mutex_unlock(&s->lock);
}

uint64_t stats_get_refusing(struct stats *s)
{
	uint64_t since;

	(void)pthread_mutex_lock(&s->lock);
	since = s->refused_since_us;
	(void)pthread_mutex_unlock(&s->lock);
	return since;
}
