/* See stats.h. */
#include "daemon/base/stats.h"

#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int stats_init(struct stats *s)
{
	*s = (struct stats){.started_ms = clock_mono_ms()};
	return -pthread_mutex_init(&s->lock, NULL);
}

void stats_done(struct stats *s)
{
	while (s->sinks != NULL)
		(void)stats_drop_sink(s, s->sinks);
	s->usage = mem_free(s->usage);
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

void sink_title(enum sink_id id, int64_t uid, char ret[SINK_TITLE_MAX])
{
	if (uid == SINK_SITE)
		(void)snprintf(ret, SINK_TITLE_MAX, "%s", sink_name(id)); /* short names */
	else
		(void)snprintf(ret, SINK_TITLE_MAX, "%s:%lld", sink_name(id), (long long)uid);
}

static bool is_before(const struct sink_stats *a, const struct sink_stats *b)
{
	return a->id != b->id ? a->id < b->id : a->uid < b->uid;
}

struct sink_stats *stats_add_sink(struct stats *s, enum sink_id id, int64_t uid)
{
	struct sink_stats *sink = mem_zalloc(sizeof(*sink));
	struct sink_stats **at = &s->sinks;

	if (sink == NULL)
		return NULL;
	sink->id = id;
	sink->uid = uid;
	(void)pthread_mutex_lock(&s->lock);
	while (*at != NULL && is_before(*at, sink))
		at = &(*at)->next;
	sink->next = *at;
	*at = sink;
	(void)pthread_mutex_unlock(&s->lock);
	return sink;
}

struct sink_stats *stats_drop_sink(struct stats *s, struct sink_stats *sink)
{
	struct sink_stats **at = &s->sinks;

	if (sink == NULL)
		return NULL;
	(void)pthread_mutex_lock(&s->lock);
	while (*at != sink)
		at = &(*at)->next;
	*at = sink->next;
	(void)pthread_mutex_unlock(&s->lock);
	return mem_free(sink);
}

void stats_set_sink(struct stats *s, struct sink_stats *sink, const struct sink_board *board)
{
	(void)pthread_mutex_lock(&s->lock);
	sink->board = *board;
	(void)pthread_mutex_unlock(&s->lock);
}

void stats_each_sink(struct stats *s, void (*on_sink)(void *arg, const struct sink_stats *sink),
		     void *arg)
{
	(void)pthread_mutex_lock(&s->lock);
	for (const struct sink_stats *sink = s->sinks; sink != NULL; sink = sink->next)
		on_sink(arg, sink);
	(void)pthread_mutex_unlock(&s->lock);
}

/* Rising from nothing to tell to what a person has to do something about. */
static int gravity(enum sink_mood mood)
{
	static const int gravities[MOOD_COUNT] = {
		[MOOD_STORED_ONLY] = 0, [MOOD_UNTRIED] = 1,      [MOOD_OK] = 2,
		[MOOD_PAUSED] = 3,      [MOOD_RATE_LIMITED] = 4, [MOOD_SERVER_ERROR] = 5,
		[MOOD_LINK_DOWN] = 6,   [MOOD_NO_KEY] = 7,       [MOOD_REFUSED_KEY] = 8,
	};

	return gravities[mood];
}

void stats_get_sink(struct stats *s, enum sink_id id, struct sink_board *ret)
{
	bool is_found = false;

	(void)pthread_mutex_lock(&s->lock);
	for (const struct sink_stats *sink = s->sinks; sink != NULL; sink = sink->next) {
		const struct sink_board *b = &sink->board;
		unsigned in_flight = is_found ? ret->in_flight + b->in_flight : b->in_flight;
		unsigned tries = is_found ? ret->tries + b->tries : b->tries;

		if (sink->id != id || (is_found && ret->in_use && !b->in_use))
			continue;
		if (!is_found || (b->in_use && !ret->in_use) ||
		    gravity(b->mood) > gravity(ret->mood))
			*ret = *b;
		ret->in_flight = in_flight;
		ret->tries = tries;
		is_found = true;
	}
	(void)pthread_mutex_unlock(&s->lock);
	if (!is_found)
		*ret = (struct sink_board){.mood = MOOD_STORED_ONLY};
}

int stats_set_usage(struct stats *s, const struct user_usage *usage, size_t count)
{
	struct user_usage *copy = count == 0 ? NULL : mem_dup(usage, count * sizeof(*usage));
	struct user_usage *old;

	if (count > 0 && copy == NULL)
		return -ENOMEM;
	(void)pthread_mutex_lock(&s->lock);
	old = s->usage;
	s->usage = copy;
	s->usage_count = count;
	(void)pthread_mutex_unlock(&s->lock);
	(void)mem_free(old);
	return 0;
}

size_t stats_users_over(struct stats *s, uint64_t bytes, struct user_usage *ret, size_t max)
{
	size_t count = 0;

	(void)pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->usage_count && count < max; i++) {
		if (s->usage[i].bytes >= bytes)
			ret[count++] = s->usage[i];
	}
	(void)pthread_mutex_unlock(&s->lock);
	return count;
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
