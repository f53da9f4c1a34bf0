/* What the threads tell about themselves while they work: counters that anybody may read at any
 * time, rates and latencies of the last minute, and the board on which the sender writes how each
 * sink is. Nothing here steers anything. */
#pragma once

#include "proto/base/buf.h"

#include <pthread.h>
#include <stdatomic.h>

enum counter {
	COUNT_CONNECTIONS, /* gauges: go up and down */
	COUNT_USERS,
	COUNT_RECORDS, /* totals since start */
	COUNT_RECORD_BYTES,
	COUNT_DUPLICATES,
	COUNT_REJECTED,        /* broke a rule of the protocol */
	COUNT_REFUSED_METRICS, /* for want of disk, by class */
	COUNT_REFUSED_BULK,
	COUNT_REFUSED_TRACES,
	COUNT_REFUSED_REST,
	COUNT_COMMITS,
	COUNT_COMMIT_FAILURES,
	COUNT_REPLAYED,    /* records from journals and spools of the dead */
	COUNT_REQUESTS,    /* HTTP, sent */
	COUNT_ALERTS_HELD, /* not repeated within their wait */
	COUNTERS,
};

/* How often something happened in the last seconds; one writer. */
enum {
	RATE_SECONDS = 10
};
struct rate {
	_Atomic uint64_t
		second[RATE_SECONDS + 1]; /* which second since the clock's start a slot counts */
	_Atomic uint64_t count[RATE_SECONDS + 1];
};
void rate_add(struct rate *r, uint64_t now_ms, uint64_t n);
/* Per second, over the last RATE_SECONDS whole seconds. */
double rate_per_s(const struct rate *r, uint64_t now_ms);

/* Durations of the last minute in buckets a quarter power of two wide; one writer. */
enum {
	LATENCY_BUCKETS = 120,
	LATENCY_WINDOWS = 6,
	LATENCY_WINDOW_MS = 10000
};
struct latency {
	_Atomic uint64_t window[LATENCY_WINDOWS]; /* number of the window that a row counts */
	_Atomic uint64_t count[LATENCY_WINDOWS][LATENCY_BUCKETS];
	_Atomic uint64_t ever[LATENCY_BUCKETS]; /* since the start */
	_Atomic uint64_t ever_ns;               /* their sum */
};
void latency_add(struct latency *l, uint64_t now_ms, uint64_t duration_ns);
/* The duration that `part` (0 .. 1) of them do not exceed, in ns; 0 when there were none. */
double latency_quantile(const struct latency *l, uint64_t now_ms, double part);
/* How many there were since the start that took less than 2 to the power `log2_us` microseconds. */
uint64_t latency_below(const struct latency *l, unsigned log2_us);

/* How a sink is, as the sender saw it last. Times on the monotonic clock in ms, 0: never. */
enum sink_id {
	SINK_MODELS,
	SINK_ARTIFACTS,
	SINK_WEAVE,
	SINK_COUNT
};
enum sink_mood {
	MOOD_UNTRIED, /* nothing was sent since the start */
	MOOD_NO_KEY,
	MOOD_OK,
	MOOD_LINK_DOWN,
	MOOD_RATE_LIMITED,
	MOOD_REFUSED_KEY,  /* 401 or 403 of the API host */
	MOOD_SERVER_ERROR, /* 5xx */
	MOOD_PAUSED,
	MOOD_STORED_ONLY, /* this version keeps, and does not send */
	MOOD_COUNT,
};
const char *sink_name(enum sink_id id);
const char *sink_mood_name(enum sink_mood mood);

enum {
	SINK_SITE = -1, /* in place of a uid: the site's key */
	SINK_TITLE_MAX = 32
};
/* What the store and wbxctl call a sink: "models" under the site's key, else "models:1001". */
void sink_title(enum sink_id id, int64_t uid, char ret[SINK_TITLE_MAX]);

struct sink_limits {
	double requests_per_s; /* under this key; 0: no limit, as the next */
	double bytes_per_s;    /* of all keys together */
	bool are_asked_for;    /* by an operator, not by the settings */
};

struct sink_board {
	bool in_use; /* somebody has runs for it */
	enum sink_mood mood;
	uint64_t since_ms; /* in this mood */
	uint64_t next_try_ms;
	uint64_t last_ok_ms;
	uint64_t spacing_ms;     /* between requests, while rate limited; 0: not */
	uint64_t retry_after_ms; /* what the last 429 asked for */
	unsigned tries;          /* since the last success */
	unsigned in_flight;      /* records in requests under way */
	int http_status;         /* of the last failure */
	char last_error[160];    /* of the last failure, words for people */
	char user[64];           /* whom the key belongs to */
	char key_tail[8];        /* last four characters of the key */
	struct sink_limits limits;
	char source[64]; /* where the key was found; may be cut */
};

/* One sink under one key. Added, written and dropped by the sender, read by anybody. */
struct sink_stats {
	struct sink_stats *next;
	enum sink_id id;
	int64_t uid;      /* whose key, or SINK_SITE */
	struct rate sent; /* records confirmed */
	struct rate retries;
	struct rate bytes;       /* of files that are sent; artifacts alone */
	struct sink_board board; /* under the lock of stats */
};

/* What waits of one user, records and files. */
struct user_usage {
	uint32_t uid;
	uint64_t bytes;
};

/* How much room the store has; written by the store thread. */
enum space {
	SPACE_FINE,
	SPACE_TIGHT, /* bulk and traces are refused */
	SPACE_NONE,  /* nothing is read: it waits in journals and spools */
};

struct stats {
	_Atomic uint64_t counters[COUNTERS];
	_Atomic int space;                /* enum space */
	_Atomic uint64_t disk_free_bytes; /* where the store is */
	_Atomic uint64_t disk_total_bytes;
	_Atomic uint64_t store_bytes; /* used by database, log and blobs */
	_Atomic uint64_t backlog;     /* what waits for any sink; written by the sender */
	struct rate records;          /* writer: loop */
	struct rate record_bytes;
	struct rate refused;
	struct latency ack;             /* arrival of a record to its ack; writer: loop */
	_Atomic uint64_t loop_beat_ms;  /* when the loop last turned */
	_Atomic uint64_t store_beat_ms; /* when the store thread last finished a step */
	_Atomic uint64_t store_busy_ms; /* since when it works on its present step, 0: asleep */
	pthread_mutex_t lock;           /* of what follows */
	struct sink_stats *sinks;
	struct user_usage *usage; /* by user, as the sender counted last */
	size_t usage_count;
	char store_fault[200]; /* why the store does not take records; empty: it does */
	uint64_t
		refused_since_us; /* wall time of the first refusal for want of disk, 0: none now */
	uint64_t started_ms;
};

int stats_init(struct stats *s); /* 0, or -errno */
void stats_done(struct stats *s);

void stats_add(struct stats *s, enum counter c, uint64_t n);
void stats_sub(struct stats *s, enum counter c, uint64_t n);
uint64_t stats_get(const struct stats *s, enum counter c);

/* NULL: no memory. */
struct sink_stats *stats_add_sink(struct stats *s, enum sink_id id, int64_t uid);
struct sink_stats *stats_drop_sink(struct stats *s, struct sink_stats *sink);
void stats_set_sink(struct stats *s, struct sink_stats *sink, const struct sink_board *board);
/* Calls for each, in the order of their id and uid, under the lock: on_sink copies what it wants. */
void stats_each_sink(struct stats *s, void (*on_sink)(void *arg, const struct sink_stats *sink),
		     void *arg);
/* All keys of a sink as one: the worst state of those that somebody needs, sums of their counts. */
void stats_get_sink(struct stats *s, enum sink_id id, struct sink_board *ret);
/* Copied. 0, or -ENOMEM: what was there stays. */
int stats_set_usage(struct stats *s, const struct user_usage *usage, size_t count);
/* Those with at least so many bytes, up to max of them; how many. */
size_t stats_users_over(struct stats *s, uint64_t bytes, struct user_usage *ret, size_t max);
/* text NULL or "": healthy again. */
void stats_set_store_fault(struct stats *s, const char *text);
void stats_get_store_fault(struct stats *s, char *ret_text, size_t size);
void stats_set_refusing(struct stats *s, uint64_t since_us); /* 0: no more */
uint64_t stats_get_refusing(struct stats *s);
