/* The way to one service under one key, the site's or a user's own: whether anything may be sent now, with which key, and what
 * the answers say about the way itself. Every request goes through here. Sender thread only.
 *
 *   NO_KEY ──a key is found──▶ ASK ──"who am I" is answered──▶ OPEN
 *     ▲                         ▲ ▲                              │
 *     └──the key is gone────────┘ └──link down, or key in doubt──┘
 *
 * In ASK one small request at a time, spaced by backoff, finds out when the way is open again; all
 * else waits. */
#pragma once

#include "daemon/base/stats.h"
#include "daemon/flow/send_rules.h"
#include "daemon/forward/http.h"
#include "daemon/forward/key.h"
#include "daemon/forward/retry.h"

enum gate {
	GATE_NO_KEY,
	GATE_ASK,
	GATE_OPEN
};

enum {
	SINK_SLOTS = 8,                /* requests in flight */
	SINK_BODIES_MAX = 12 << 20,    /* bytes of all their bodies */
	UPLOADS_MAX = 4,               /* at a time, of all sinks (upload.h) */
	UPLOAD_BULK_BYTES = 256 << 10, /* more than that is bulk: on a thin link one at a time */
	UPLOAD_THIN_BYTES_PER_S = 10000000 / 8, /* a link with less is a thin one */
	SINK_KEY_LOOK_MS = 2000,   /* between looks for a key that is missing or refused */
	SINK_KEY_PROBE_MS = 60000, /* first wait after a refused key; doubles */
	SINK_KEY_PROBE_MAX_MS = 600000,
};

struct sink_settings {
	const char *base_url;  /* borrowed, as all texts */
	const char *key_file;  /* of the site's key */
	const char *keys_dir;  /* of keys of users */
	double requests_per_s; /* 0: no limit */
	uint64_t backoff_max_ms;
	uint64_t body_max;
};

struct sink;
/* sink: the one that it was sent through. */
typedef void (*sink_on_answer)(void *arg, struct sink *sink, const struct http_answer *answer);

/* What all sinks have together. */
struct sink_pool {
	struct http *http;
	struct stats *stats;
	struct limit bytes;         /* of bodies; of all keys */
	struct limit *bytes_of_all; /* in its place; NULL: it is for all there is */
	size_t bodies_max;          /* bytes of all bodies in flight; 0: SINK_BODIES_MAX */
	size_t body_bytes;          /* in flight */
	size_t users;               /* that have runs: of several, none may use everything */
	bool is_crowded;            /* somebody had to wait for room */
	unsigned uploads;           /* in flight, of all sinks ... */
	unsigned bulks[LANES];      /* ... and those of them that are bulk */
	double upload_rate; /* bytes per s that uploads went at lately, together; 0: not measured */
	struct limit upload_bytes; /* of uploads alone, beside `bytes` */
	struct send_hours upload_hours;
	bool is_off_hours;                /* somebody had to wait for them */
	struct sink_stats *uploads_shown; /* how the way to the storage is; NULL: nobody looks */
	struct sink_board uploads_board;
	int64_t uploads_paused_us; /* 0: not, -1: for good */
	uint64_t uploads_given;    /* bytes that were counted */
	/* A gate opened, a doubt was settled, or there is room again. */
	void (*on_open)(void *arg);
	/* Who the key of this sink belongs to was asked, and there is an answer, or none to be had. */
	void (*on_asked)(void *arg, struct sink *sink);
	void *arg;
};

/* A request in flight. */
struct sink_post {
	struct sink *sink;
	bool used;
	uint32_t uid; /* whose */
	size_t bytes; /* of its body */
	bool is_bulk;
	enum lane lane;
	sink_on_answer on_answer;
	void *arg;
};

struct sink {
	enum sink_id id;
	int64_t uid; /* whose key: SINK_SITE, or a user's own */
	char title[SINK_TITLE_MAX];
	struct sink_pool *pool;
	struct sink_settings settings;
	struct rng jitter;
	enum gate gate;
	struct key key;
	bool key_is_refused;
	char entity[513];    /* the key's own */
	bool knows_features; /* what the server announces; a run that needs it asks */
	bool has_structured_console;
	bool knows_artifact_tags; /* asked for on its own: most runs have no artifact with tags */
	bool has_artifact_tags;
	bool is_wanted;    /* something waits for the gate. A sink of traces asks nothing before */
	bool asking;       /* who am I: the request is under way */
	bool asked_of_old; /* with a key that is another by now */
	unsigned attempt;  /* of asking, with the one under way */
	uint64_t next_ask_ms;
	uint64_t next_look_ms; /* for a key */
	struct limit requests;
	struct sink_post posts[SINK_SLOTS + 1]; /* one is for asking */
	unsigned in_flight;
	struct sink_post uploads[UPLOADS_MAX];
	unsigned uploading;      /* of them */
	double rate;             /* bytes per s that bodies went at lately; 0: not measured */
	double most_remaining;   /* largest RateLimit-Remaining seen */
	int64_t paused_until_us; /* 0: not, -1: for good */
	struct sink_board board;
	struct sink_stats *shown;
	unsigned records;    /* in flight, being counted */
	struct mail *checks; /* of those who want to know about the key; see sinks.h */
};

/* NULL: no memory. */
struct sink *sink_new(enum sink_id id, int64_t uid, struct sink_pool *pool);
/* Not while requests of it are in flight, unless http is gone already. Returns NULL. */
struct sink *sink_free(struct sink *s);
/* Takes settings, also later; looks for the key anew. */
void sink_set(struct sink *s, const struct sink_settings *settings, uint64_t now_ms);
void sink_limit(struct sink *s, const struct sink_limits *limits, uint64_t now_ms);
void sink_pause(struct sink *s, int64_t until_us, uint64_t now_ms);
/* An operator says: try now. */
void sink_retry(struct sink *s, uint64_t now_ms);
/* The key may be another: looks at once. */
void sink_look(struct sink *s, uint64_t now_ms);
/* Asks whose the key is, though it seems to work. False: nothing can be asked now. */
bool sink_ask(struct sink *s, uint64_t now_ms);
/* Whether anybody has runs for it: what is in no use is not shown. */
void sink_show_use(struct sink *s, bool in_use);

/* Something waits for its gate. True when nothing did before: then it wants its turn. */
bool sink_want(struct sink *s);
/* Does what is due. Returns when it wants to be called again. */
uint64_t sink_turn(struct sink *s, uint64_t now_ms);

/* May a request of this user go out? 0: yes, a place and a token are taken for the sink_post() that
 * follows; else: ask again after so many ms (UINT64_MAX: when on_open() says so, or a request
 * ended). */
uint64_t sink_admit(struct sink *s, uint32_t uid, uint64_t now_ms);
/* How many bytes of lines a body of this user should have now, at most. */
size_t sink_body_target(const struct sink *s, uint32_t uid);

/* Gives the place back: there will be no sink_post(). */
void sink_cancel(struct sink *s);
/* Sends after sink_admit() said yes. body is taken. 0, or -ENOMEM: no answer will come. */
int sink_post(struct sink *s, uint32_t uid, const char *url, struct buf *body,
	      sink_on_answer on_answer, void *arg);
/* The same of a body that is no JSON (type: "Content-Type: ...", static; NULL: JSON), in a lane. */
struct sink_body {
	const char *url;
	const char *type;
	struct buf *body; /* taken */
	enum lane lane;
	const struct span *headers; /* "Name:value"; borrowed until it is sent */
	size_t header_count;
};
int sink_post_body(struct sink *s, uint32_t uid, const struct sink_body *body,
		   sink_on_answer on_answer, void *arg);
/* Judges an answer: fills what it says into facts, notes what it says about the way. */
struct retry_verdict sink_judge(struct sink *s, const struct http_answer *answer,
				struct retry_facts *facts, uint64_t now_ms);
/* The wait that the RateLimit headers ask for before the next request of the same run. */
uint64_t sink_spacing_ms(struct sink *s, const struct http_answer *answer);
/* How many records are in requests under way. */
void sink_show_in_flight(struct sink *s, unsigned records);
/* Something was delivered: so many records. */
void sink_delivered(struct sink *s, uint64_t records, uint64_t now_ms);
