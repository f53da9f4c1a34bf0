/* What the daemon's answer to `status` says, as a struct: facts only. Judging them is judge.h's.
 * Texts are as they came, so they are escaped where they are printed. What an older or newer daemon
 * does not tell is 0 or "". */
#pragma once

#include "proto/base/buf.h"
#include "proto/limits.h"

enum {
	FACTS_TEXT_MAX = 256,
	FACTS_PATH_MAX = 1024,
	FACTS_SINKS_MAX = 32,
	FACTS_LIST_MAX = 8 /* dead letter groups, notable runs: what the daemon sends at most */
};

/* As the daemon names them (daemon/base/stats.c); the words are part of the control protocol. */
enum sink_state {
	SINK_UNTRIED,
	SINK_NO_KEY,
	SINK_OK,
	SINK_LINK_DOWN,
	SINK_RATE_LIMITED,
	SINK_KEY_REFUSED,
	SINK_SERVER_ERROR,
	SINK_PAUSED,
	SINK_STORED_ONLY,
	SINK_UNKNOWN, /* a newer daemon's word */
	SINK_STATES,
};

struct sink_facts {
	char name[FACTS_TEXT_MAX];
	char title
		[FACTS_TEXT_MAX]; /* name, and whose key when it is not the site's: "models:1001" */
	int64_t uid;              /* whose own key it is; -1: the site's */
	char user[FACTS_TEXT_MAX]; /* whom W&B knows the key as */
	char key_tail[FACTS_TEXT_MAX];
	char key_source[FACTS_TEXT_MAX];
	char state_name[FACTS_TEXT_MAX];
	enum sink_state state;
	int64_t state_ms; /* since when, -1: not known */
	uint64_t waiting;
	uint64_t waiting_bytes;
	uint64_t in_flight;
	uint64_t oldest_us;  /* wall time, 0: nothing waits */
	int64_t next_try_ms; /* from now, -1: no try is due */
	uint64_t tries;
	double sent_per_s;
	double sent_bytes_per_s; /* of files */
	uint64_t day_bytes;      /* of traces, today and this month (UTC) */
	uint64_t month_bytes;
	uint64_t held; /* traces that are left out by sampling or a budget */
	double retries_per_s;
	uint64_t last_ok_us;     /* wall time, 0: never */
	int64_t paused_until_us; /* -1: until unpaused, 0: is not */
	int64_t http;
	uint64_t spacing_ms;
	uint64_t retry_after_ms;
	char error[FACTS_TEXT_MAX];
	double requests_per_s; /* the limits; 0: none */
	double bytes_per_s;
	bool limits_are_asked_for; /* by wbxctl limit */
	uint64_t dead;             /* counted from the groups below */
};

/* How much room the store has; the numbers are part of the control protocol. */
enum store_space {
	STORE_FINE,
	STORE_TIGHT, /* bulk and traces are refused */
	STORE_FULL,  /* nothing is read */
};

struct store_facts {
	char dir[FACTS_PATH_MAX];
	char fault[FACTS_TEXT_MAX];
	uint64_t database_bytes;
	uint64_t wal_bytes;
	uint64_t blob_bytes;
	uint64_t used_bytes;
	uint64_t limit_bytes;
	uint64_t reserve_bytes;
	uint64_t disk_free_bytes;
	uint64_t disk_total_bytes; /* 0: not known */
	enum store_space space;
	uint64_t dead;
	uint64_t dead_bytes;
	uint64_t late;
	uint64_t tables_held; /* not sent, for the settings say so; ever */
	uint64_t commit_failures;
};

struct ingest_facts {
	uint64_t rejected_ever;
	uint64_t refused_ever;
	uint64_t lost_ever; /* given up by clients that had no room */
	uint64_t clients;
	uint64_t users;
	double records_per_s;
	double bytes_per_s;
	double refused_per_s;
	uint64_t records;
	uint64_t duplicates;
	uint64_t replayed;
	double ack_p50_ms; /* 0: none in the last minute */
	double ack_p99_ms;
	uint64_t refused_since_us; /* wall time, 0: nothing is refused now */
	uint64_t refused_metrics;  /* since the start */
	uint64_t refused_bulk;
	uint64_t refused_traces;
	uint64_t refused_rest;
};

struct user_over { /* has more waiting than one user may */
	int64_t uid;
	uint64_t bytes;
};

struct run_counts {
	uint64_t live; /* new and created ones too */
	uint64_t finishing;
	uint64_t done;
	uint64_t parked; /* of all users */
};

struct dead_group {
	uint64_t count;
	int64_t status; /* HTTP, 0: found here */
	char sink[FACTS_TEXT_MAX];
	char reason[FACTS_TEXT_MAX];
	char run[NAME_MAX_BYTES + 1];
};

struct notable_run {
	char run[NAME_MAX_BYTES + 1];
	char project[NAME_MAX_BYTES + 1];
	char state[FACTS_TEXT_MAX];
	char parked[FACTS_TEXT_MAX]; /* why; "": is not */
	uint64_t uploads;
	uint64_t late;
};

/* Whose daemon it is: how it is started and told to read its settings again. */
enum daemon_kind {
	DAEMON_SYSTEM,    /* the service */
	DAEMON_OWN,       /* of one user, started by the first process that logs */
	DAEMON_ELSEWHERE, /* at a socket that was named */
};

struct facts {
	bool running;
	uint64_t time_us;
	char host[FACTS_TEXT_MAX];
	char version[FACTS_TEXT_MAX];
	int64_t pid;
	uint64_t up_ms;
	uint64_t spool_producers;
	uint64_t spool_bytes;
	uint64_t spool_bad;        /* files that nobody can read, put aside as *.bad */
	uint64_t spool_unreadable; /* files that the daemon's user may not open */
	uint64_t spool_oldest_us;  /* wall time, 0: not known */
	struct store_facts store;
	struct ingest_facts ingest;
	char base_url[FACTS_TEXT_MAX];
	char user[FACTS_TEXT_MAX];
	char key_tail[FACTS_TEXT_MAX];
	struct run_counts runs;
	struct sink_facts sinks[FACTS_SINKS_MAX];
	size_t sink_count;
	struct dead_group dead[FACTS_LIST_MAX];
	size_t dead_count;
	uint64_t user_limit_bytes; /* 0: none */
	struct user_over over[FACTS_LIST_MAX];
	size_t over_count;
	struct notable_run notable[FACTS_LIST_MAX];
	size_t notable_count;
	/* Not from the daemon: where it was looked for, for one that is not running. */
	char control[FACTS_PATH_MAX]; /* "": only the store was asked */
	enum daemon_kind kind;
	int64_t asker; /* uid; -1: nobody in particular */
};

/* body: the map of the daemon's "done". 0; -EBADMSG: not an answer to status. */
int facts_read(struct span body, struct facts *ret);
/* state_name tells `state`. */
enum sink_state sink_state_by_name(const char *name);
/* What waits for sinks of this state, or for all with SINK_STATES. */
void facts_sum(const struct facts *f, enum sink_state state, uint64_t *ret_waiting,
	       uint64_t *ret_bytes);
/* Records that were refused, rejected or given up since the store was made: what nobody will get.
 */
uint64_t facts_lost(const struct facts *f);
