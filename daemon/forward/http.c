/* See http.h. libcurl's own low-speed timeout takes a paused upload for a stalled one (measured:
 * research/limits), so stalls are watched here, by bytes that moved. */
#include "daemon/forward/http.h"

#include "daemon/base/thread.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	QUANTUM_BYTES = 16 << 10 /* a held-back transfer goes on when it may send so much, and then
				    waits for its next turn when others are held back too */
};

struct transfer {
	struct transfer *next;
	struct transfer **prev;
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	struct buf body;
	size_t sent; /* of body, given to curl */
	struct limit *limit;
	uint32_t owner;
	uint64_t served;   /* which of all gifts of tokens was its last; 0: none yet */
	bool paused;       /* for want of tokens, or because others wait for theirs */
	size_t granted;    /* bytes that have their tokens */
	uint64_t moved_ms; /* when a byte moved last */
	curl_off_t moved;  /* bytes up and down by then */
	uint64_t stall_ms;
	uint64_t begun_ms;
	struct buf answer;
	int64_t retry_after_ms;
	int64_t reset_ms;
	int64_t date_s;
	double remaining;
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
	unsigned paused; /* of them, held back */
	uint64_t served; /* gifts of tokens so far */
};

/* --- what the answer's headers say --- */

/* Seconds, also with a fraction, or a date; in ms from now. -1: neither. */
static int64_t read_wait(const char *text)
{
	char *end;
	double seconds = strtod(text, &end);
	time_t date;
	int64_t now_s;

	if (end != text && (*end == '\0' || *end == ' ' || *end == '\r' || *end == ','))
		return seconds >= 0 && seconds < 1e9 ? (int64_t)(seconds * 1000) : -1;
	date = curl_getdate(text, NULL);
	if (date < 0)
		return -1;
	now_s = (int64_t)(clock_wall_us() / 1000000);
	return date > now_s ? ((int64_t)date - now_s) * 1000 : 0;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	char text[256];
	size_t len = size * count;
	const char *value;

	if (len >= sizeof(text))
		return len;
	memcpy(text, line, len);
	text[len] = '\0';
	value = strchr(text, ':');
	if (value == NULL)
		return len;
	value += 1 + strspn(value + 1, " \t");
	if (strncasecmp(text, "retry-after:", 12) == 0)
		t->retry_after_ms = read_wait(value);
	else if (strncasecmp(text, "ratelimit-reset:", 16) == 0)
		t->reset_ms = read_wait(value);
	else if (strncasecmp(text, "date:", 5) == 0)
		t->date_s = (int64_t)curl_getdate(value, NULL);
	else if (strncasecmp(text, "ratelimit-remaining:", 20) == 0)
		t->remaining = strtod(value, NULL);
	return len;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * count;
	size_t room = t->answer.max - t->answer.len;

	(void)buf_add(&t->answer, bytes,
		      len < room ? len : room); /* the rest is nobody's business */
	return len;
}

/* --- sending --- */

static void set_paused(struct transfer *t, bool paused)
{
	if (t->paused != paused)
		t->http->paused += paused ? 1 : -1U;
	t->paused = paused;
}

/* What it was given in its turn; or what is in the bucket, when nobody is held back. */
static size_t may_send(struct transfer *t, size_t want)
{
	if (t->granted == 0 && t->http->paused == 0)
		t->granted = limit_take_some(t->limit, want, clock_mono_ms());
	if (want > t->granted)
		want = t->granted;
	t->granted -= want;
	return want;
}

static size_t on_read(char *room, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t want = t->body.len - t->sent;

	if (want > size * count)
		want = size * count;
	if (want > 0 && t->limit != NULL) {
		want = may_send(t, want);
		if (want == 0) {
			set_paused(t, true);
			return CURL_READFUNC_PAUSE;
		}
	}
	if (want > 0)
		memcpy(room, t->body.data + t->sent, want);
	t->sent += want;
	return want;
}

/* curl asks for this when it has to send the body a second time (a kept connection that had died).
 */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transfer *t = arg;

	if (origin != SEEK_SET || offset < 0 || (size_t)offset > t->body.len)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* Ends a transfer in which nothing moves; while we hold it back ourselves, the clock stands. */
static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
		       curl_off_t up)
{
	struct transfer *t = arg;
	uint64_t now_ms = clock_mono_ms();
	uint64_t patience_ms = t->stall_ms;

	(void)down_total;
	(void)up_total;
	if (up + down != t->moved || t->paused) {
		t->moved = up + down;
		t->moved_ms = now_ms;
	}
	if ((size_t)up >= t->body.len)
		patience_ms *= HTTP_ANSWER_STALL_FACTOR;
	return now_ms - t->moved_ms > patience_ms;
}

/* --- transfers --- */

static void transfer_free(struct transfer *t)
{
	set_paused(t, false);
	if (t->easy != NULL) {
		(void)curl_multi_remove_handle(t->http->multi, t->easy); /* it may not be in */
		curl_easy_cleanup(t->easy);
	}
	if (t->prev != NULL) {
		*t->prev = t->next;
		if (t->next != NULL)
			t->next->prev = t->prev;
		t->http->in_flight--;
	}
	curl_slist_free_all(t->headers);
	buf_done(&t->body);
	buf_done(&t->answer);
	(void)mem_free(t);
}

static bool add_header(struct transfer *t, const char *line)
{
	struct curl_slist *longer = curl_slist_append(t->headers, line);

	if (longer != NULL)
		t->headers = longer;
	return longer != NULL;
}

#define SET(option, value)                                                                         \
	if (c == CURLE_OK)                                                                         \
	c = curl_easy_setopt(e, option, value)

static CURLcode set_callbacks(struct transfer *t)
{
	CURL *e = t->easy;
	CURLcode c = CURLE_OK;

	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_READDATA, t);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_SEEKDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_XFERINFOFUNCTION, on_progress);
	SET(CURLOPT_XFERINFODATA, t);
	SET(CURLOPT_ERRORBUFFER, t->error);
	SET(CURLOPT_PRIVATE, t);
	return c;
}

static bool set_up(struct transfer *t, const struct http_request *q)
{
	const struct http_settings *s = &t->http->settings;
	CURL *e = t->easy;
	CURLcode c = set_callbacks(t);

	SET(CURLOPT_URL, q->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body.len);
	SET(CURLOPT_NOPROGRESS, 0L);
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_USERAGENT, s->agent);
	SET(CURLOPT_ACCEPT_ENCODING, "gzip");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* do not wait for a name server that does not answer */
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)s->connect_timeout_ms);
	if (q->is_fresh) {
		SET(CURLOPT_FRESH_CONNECT, 1L);
		SET(CURLOPT_FORBID_REUSE, 1L);
	}
	if (s->ca_file[0] != '\0') {
		SET(CURLOPT_CAINFO, s->ca_file);
	}
	if (s->proxy[0] != '\0') {
		SET(CURLOPT_PROXY, s->proxy);
	}
	if (q->user != NULL) {
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(CURLOPT_USERNAME, q->user);
		SET(CURLOPT_PASSWORD, q->password);
	}
	return c == CURLE_OK;
}
#undef SET

static int curl_is_there(struct http *h)
{
	CURLM *multi = NULL;

	if (h->multi != NULL)
		return 0;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		multi = curl_multi_init();
	if (multi == NULL)
		return -ENOMEM;
	(void)pthread_mutex_lock(&h->lock);
	h->multi = multi;
	(void)curl_multi_wakeup(multi); /* for the bell, which may have been rung */
	(void)pthread_mutex_unlock(&h->lock);
	return 0;
}

static int transfer_start(struct transfer *t, const struct http_request *q)
{
	struct http *h = t->http;

	if (curl_is_there(h) < 0)
		return -ENOMEM;
	t->easy = curl_easy_init();
	/* no "Expect: 100-continue": it costs a round trip per body above 1 MiB */
	if (t->easy == NULL || !add_header(t, "Content-Type: application/json") ||
	    !add_header(t, "Expect:") || !set_up(t, q) ||
	    curl_multi_add_handle(h->multi, t->easy) != CURLM_OK)
		return -ENOMEM;
	t->prev = &h->transfers;
	t->next = h->transfers;
	if (t->next != NULL)
		t->next->prev = &t->next;
	h->transfers = t;
	h->in_flight++;
	return 0;
}

int http_post(struct http *h, struct http_request *request)
{
	struct transfer *t = mem_zalloc(sizeof(*t));
	int r;

	if (t == NULL) {
		buf_done(&request->body);
		return -ENOMEM;
	}
	t->http = h;
	t->body = request->body;
	buf_init(&request->body, 0);
	t->limit = request->limit;
	t->owner = request->owner;
	t->begun_ms = t->moved_ms = clock_mono_ms();
	t->stall_ms = h->settings.stall_timeout_ms;
	t->retry_after_ms = t->reset_ms = t->date_s = -1;
	t->remaining = -1;
	t->on_answer = request->on_answer;
	t->arg = request->arg;
	buf_init(&t->answer, HTTP_ANSWER_MAX);
	r = transfer_start(t, request);
	if (r < 0)
		transfer_free(t);
	return r;
}

/* --- ends --- */

/* The only place that knows curl's codes. */
static enum transport curl_outcome(CURLcode code)
{
	switch ((int)code) {
	case CURLE_OK: return TRANSPORT_ANSWERED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY: return TRANSPORT_NO_NAME;
	case CURLE_COULDNT_CONNECT:
	case CURLE_INTERFACE_FAILED: return TRANSPORT_NO_CONNECTION;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR: return TRANSPORT_BAD_TLS;
	case CURLE_ABORTED_BY_CALLBACK: return TRANSPORT_STALLED;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_FAILED_INIT: return TRANSPORT_LOCAL;
	default: return TRANSPORT_BROKEN;
	}
}

/* A connection that never came about ran into the connect timeout: that is the link, or the name
 * server, not a server that stalls. */
static enum transport timed_out(CURL *easy)
{
	curl_off_t name_us = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &name_us); /* stays 0 */
	return name_us == 0 ? TRANSPORT_NO_NAME : TRANSPORT_NO_CONNECTION;
}

static int64_t elapsed_us(CURL *easy, CURLINFO what)
{
	curl_off_t us = 0;

	(void)curl_easy_getinfo(easy, what, &us); /* stays 0 */
	return us;
}

static void finish(struct transfer *t, CURLcode code)
{
	struct http_answer a = {
		.transport = curl_outcome(code),
		.retry_after_ms = t->retry_after_ms,
		.reset_ms = t->reset_ms,
		.date_s = t->date_s,
		.remaining = t->remaining,
		.body = buf_span(&t->answer),
		.took_ms = clock_mono_ms() - t->begun_ms,
	};
	long status = 0;
	curl_off_t sent = 0;

	(void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status); /* stays 0 */
	(void)curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	a.name_us = elapsed_us(t->easy, CURLINFO_NAMELOOKUP_TIME_T);
	a.connect_us = elapsed_us(t->easy, CURLINFO_CONNECT_TIME_T);
	a.tls_us = elapsed_us(t->easy, CURLINFO_APPCONNECT_TIME_T);
	a.first_us = elapsed_us(t->easy, CURLINFO_STARTTRANSFER_TIME_T);
	a.status = (int)status;
	a.sent_bytes = (uint64_t)sent;
	if (code == CURLE_OPERATION_TIMEDOUT)
		a.transport = timed_out(t->easy);
	if (code == CURLE_UNSUPPORTED_PROTOCOL && sent > 0)
		a.transport = TRANSPORT_BROKEN; /* what speaks there is no HTTP */
	if (a.transport == TRANSPORT_STALLED)
		(void)snprintf(a.error, sizeof(a.error), "%s", transport_text(a.transport));
	else if (a.transport != TRANSPORT_ANSWERED)
		(void)snprintf(a.error, sizeof(a.error), "%.150s",
			       t->error[0] != '\0' ? t->error : curl_easy_strerror(code));
	t->on_answer(t->arg, &a);
	transfer_free(t);
}

/* How long a transfer that is held back stays so. */
static uint64_t pause_ms(struct transfer *t, uint64_t now_ms)
{
	size_t left = t->body.len - t->sent;

	return limit_wait_ms(t->limit, left < QUANTUM_BYTES ? (double)left : QUANTUM_BYTES, now_ms);
}

/* When this owner, with all of its transfers, was served last. */
static uint64_t owner_served(const struct http *h, uint32_t owner)
{
	uint64_t last = 0;

	for (const struct transfer *t = h->transfers; t != NULL; t = t->next) {
		if (t->owner == owner && t->served > last)
			last = t->served;
	}
	return last;
}

/* Whose turn it is among those that are held back: the owner, then the transfer, that was served
 * longest ago. NULL: nobody may go on now. */
static struct transfer *next_paused(struct http *h, uint64_t now_ms)
{
	struct transfer *best = NULL;
	uint64_t best_owner = 0;

	for (struct transfer *t = h->transfers; t != NULL; t = t->next) {
		uint64_t owner = t->paused ? owner_served(h, t->owner) : 0;

		if (!t->paused ||
		    (best != NULL &&
		     (owner > best_owner || (owner == best_owner && t->served >= best->served))))
			continue;
		best = t;
		best_owner = owner;
	}
	return best != NULL && pause_ms(best, now_ms) == 0 ? best : NULL;
}

static void unpause(struct http *h)
{
	uint64_t now_ms = clock_mono_ms();
	struct transfer *t;

	while ((t = next_paused(h, now_ms)) != NULL) {
		size_t left = t->body.len - t->sent;

		t->granted = limit_take_some(t->limit, left < QUANTUM_BYTES ? left : QUANTUM_BYTES,
					     now_ms);
		t->served = ++h->served;
		set_paused(t, false);
		(void)curl_easy_pause(t->easy, CURLPAUSE_CONT); /* a failure ends the transfer */
	}
}

void http_turn(struct http *h)
{
	int running;
	int left;
	CURLMsg *message;

	if (h->multi == NULL)
		return;
	unpause(h);
	(void)curl_multi_perform(h->multi, &running); /* failures are those of transfers */
	while ((message = curl_multi_info_read(h->multi, &left)) != NULL) {
		struct transfer *t = NULL;
		char *private = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		t = (struct transfer *)(void *)private;
		finish(t, message->data.result);
	}
}

void http_wait(struct http *h, uint64_t timeout_ms)
{
	uint64_t now_ms = clock_mono_ms();

	if (h->multi == NULL) {
		bell_wait(&h->bell, timeout_ms);
		return;
	}
	for (struct transfer *t = h->transfers; t != NULL; t = t->next) {
		uint64_t wait_ms = t->paused ? pause_ms(t, now_ms) : UINT64_MAX;

		timeout_ms = wait_ms < timeout_ms ? wait_ms : timeout_ms;
	}
	/* stalls are looked for when curl's own clock ticks, once a second */
	if (h->in_flight > 0 && timeout_ms > 1000)
		timeout_ms = 1000;
	(void)curl_multi_poll(h->multi, NULL, 0,
			      timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms,
			      NULL); /* a failure is a short sleep */
}

void http_wake(struct http *h)
{
	(void)pthread_mutex_lock(&h->lock);
	if (h->multi != NULL)
		(void)curl_multi_wakeup(h->multi); /* fails only when it is being freed */
	else
		bell_ring(&h->bell);
	(void)pthread_mutex_unlock(&h->lock);
}

unsigned http_in_flight(const struct http *h)
{
	return h->in_flight;
}

void http_set(struct http *h, const struct http_settings *settings)
{
	h->settings = *settings;
}

int http_new(struct http **ret, const struct http_settings *settings)
{
	struct http *h = mem_zalloc(sizeof(*h));
	int r = h == NULL ? -ENOMEM : bell_init(&h->bell);

	if (r < 0) {
		(void)mem_free(h);
		return r;
	}
	(void)pthread_mutex_init(&h->lock, NULL); /* cannot fail with these attributes */
	h->settings = *settings;
	*ret = h;
	return 0;
}

struct http *http_free(struct http *h)
{
	if (h == NULL)
		return NULL;
	while (h->transfers != NULL)
		transfer_free(h->transfers);
	if (h->multi != NULL) {
		(void)curl_multi_cleanup(h->multi); /* no handle is in it */
		curl_global_cleanup();
	}
	bell_done(&h->bell);
	(void)pthread_mutex_destroy(&h->lock);
	return mem_free(h);
}
