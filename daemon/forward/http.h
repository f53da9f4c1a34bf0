/* HTTP POSTs and PUTs over libcurl's multi interface: many at once, none of them waited for. Sender
 * thread only, but for http_wake(). What an answer means is retry.c's business. */
#pragma once

#include "daemon/forward/lane.h"
#include "daemon/forward/limit.h"
#include "daemon/forward/retry.h"
#include "daemon/forward/source.h"
#include "proto/base/buf.h"

struct http;

struct http_settings {
	const char *ca_file; /* "": the system's; borrowed, as all texts here, until http_set() */
	const char *proxy;   /* "": what the environment says */
	const char *agent;
	uint64_t connect_timeout_ms; /* name, connection and TLS together */
	uint64_t stall_timeout_ms;   /* without a byte in either direction */
};

enum {
	HTTP_ANSWER_MAX = 16 << 20, /* bytes of an answer's body, such as a run's last row, escaped
				       twice; more is cut off */
	HTTP_ANSWER_STALL_FACTOR =
		3,              /* a server may think so many stall times over a whole request */
	HTTP_HEADER_MAX = 4096, /* of a PUT, as the server gave it */
	HTTP_ETAG_MAX = 256
};

struct http_answer {
	enum transport transport;
	int status;             /* 0: none came */
	int64_t retry_after_ms; /* -1: not said, as the next two */
	int64_t reset_ms;       /* RateLimit-Reset */
	double remaining;       /* RateLimit-Remaining */
	struct span body;       /* borrowed until on_answer() returns */
	uint64_t sent_bytes;
	uint64_t took_ms;
	uint64_t active_ms; /* of it, not held back by a limit or a higher lane */
	int source_error;   /* what the source said when it ended the request; 0: it did not */
	const char *etag;   /* borrowed as the body is; "": not said */
	/* from its begin until the name was known, the connection stood, TLS did, the answer began;
	   0: it did not get there, or it was a kept connection's */
	int64_t name_us;
	int64_t connect_us;
	int64_t tls_us;
	int64_t first_us;
	int64_t date_s;  /* Date, since 1970; -1: not said */
	char error[160]; /* curl's words, when the transport failed */
};

struct http_request {
	const char *url;
	const char *user;      /* NULL: none; borrowed until http_start() returns */
	const char *password;  /* never leaves this and curl */
	struct buf body;       /* of a POST; taken */
	const char *type;      /* "Content-Type: ..." of a POST, static; NULL: of JSON */
	struct source *source; /* a PUT of these bytes, in place of the body; taken. NULL: a POST */
	const struct span *headers; /* "Name:value"; borrowed as the user is */
	size_t header_count;
	enum lane lane;
	bool is_fresh;        /* over a connection of its own, to see that one comes about */
	struct limit *limit;  /* of bytes, borrowed while the request runs; NULL: none */
	struct limit *shared; /* the same: what goes is taken from there, too, but not waited for */
	uint32_t owner; /* who has the limit in common with others shares it with them evenly */
	/* Sender thread, from http_turn() alone. */
	void (*on_answer)(void *arg, const struct http_answer *answer);
	void *arg;
};

/* 0, or -errno. */
int http_new(struct http **ret, const struct http_settings *settings);
/* Aborts what runs, without a word. Returns NULL. */
struct http *http_free(struct http *h);
/* Settings for requests from now on. */
void http_set(struct http *h, const struct http_settings *settings);

/* Starts it. 0: the answer comes to on_answer(), always; -ENOMEM, -EINVAL (a header that is none):
 * none will, body and source are freed all the same. */
int http_start(struct http *h, struct http_request *q);
/* Bytes of bodies that went to curl since the start, of one lane. */
uint64_t http_given(const struct http *h, enum lane lane);
unsigned http_in_flight(const struct http *h);

/* Does what can be done without waiting, calls on_answer() for what ended. */
void http_turn(struct http *h);
/* Sleeps until something moves, http_wake() is called or timeout_ms are over. */
void http_wait(struct http *h, uint64_t timeout_ms);
/* Ends the present or the next http_wait(). Any thread. */
void http_wake(struct http *h);
