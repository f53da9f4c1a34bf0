/* The inside of http.h, for http.c (requests from their begin to their end) and http_pace.c (when
 * which bytes go out) alone. */
#pragma once

#include "daemon/base/thread.h"
#include "daemon/forward/http.h"

#include <curl/curl.h>
#include <pthread.h>

struct transfer {
	struct transfer *next;
	struct transfer **prev;
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	struct buf body;
	struct source *source; /* in place of the body */
	int source_error;
	uint64_t size; /* of what is sent */
	uint64_t sent; /* of it, given to curl */
	enum lane lane;
	struct limit *limit;
	struct limit *shared;
	uint32_t owner;
	uint64_t served; /* which of all gifts of tokens was its last; 0: none yet */
	bool paused; /* for want of tokens, because others wait for theirs, or for a higher lane */
	size_t granted;    /* bytes that have their tokens */
	size_t share;      /* bytes that may go although a higher lane has something to send */
	uint64_t share_ms; /* when it got its last part of that by time */
	uint64_t moved_ms; /* when a byte moved last */
	curl_off_t moved;  /* bytes up and down by then */
	uint64_t stall_ms;
	uint64_t begun_ms;
	uint64_t paused_ms; /* when the pause under way began; in all, before it: */
	uint64_t pauses_ms;
	struct buf answer;
	int64_t retry_after_ms;
	int64_t reset_ms;
	int64_t date_s;
	double remaining;
	char etag[HTTP_ETAG_MAX];
	char error[CURL_ERROR_SIZE];
	void (*on_answer)(void *arg, const struct http_answer *answer);
	void *arg;
};

struct http {
	pthread_mutex_t lock; /* of who is woken: multi, or the bell while there is none */
	CURLM *multi;         /* from the first request on: libcurl and its TLS take 2 MB */
	struct bell bell;
	struct http_settings settings;
	struct transfer *transfers;
	unsigned in_flight;
	unsigned paused;       /* of them, held back */
	uint64_t served;       /* gifts of tokens so far */
	uint64_t given[LANES]; /* bytes given to curl so far */
};

/* --- http_pace.c --- */
void pace_set_paused(struct transfer *t, bool paused);
/* Those that may go on, do. */
void pace_unpause(struct http *h);
/* How long a transfer that is held back stays so, at most. */
uint64_t pace_wait_ms(struct transfer *t, uint64_t now_ms);
/* curl's */
size_t on_read(char *room, size_t size, size_t count, void *arg);
int on_seek(void *arg, curl_off_t offset, int origin);
int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
		curl_off_t up);
int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose);
