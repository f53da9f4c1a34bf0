/* See http.h: requests, from their begin to their end. */
#include "daemon/forward/http_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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
	else if (strncasecmp(text, "etag:", 5) == 0)
		(void)snprintf(t->etag, sizeof(t->etag), "%.*s", (int)strcspn(value, "\r\n"),
			       value); /* one that does not fit is none of a storage's */
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

/* --- transfers --- */

static void transfer_free(struct transfer *t)
{
	pace_set_paused(t, false);
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
	t->source = source_free(t->source);
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

/* "Name:value" of the server's, with nothing in it that would make another header of it. */
static bool is_header(struct span text)
{
	size_t name = 0;

	while (name < text.len && text.at[name] != ':' && text.at[name] > ' ' &&
	       text.at[name] < 0x7f)
		name++;
	if (name == 0 || name == text.len || text.at[name] != ':')
		return false;
	for (size_t i = name; i < text.len; i++) {
		if (iscntrl(text.at[i]) && text.at[i] != '\t')
			return false;
	}
	return true;
}

/* 0, -EINVAL, -ENOMEM. */
static int add_given_header(struct transfer *t, struct span text)
{
	struct buf line;
	const char *value;
	int r = 0;

	if (!is_header(text))
		return -EINVAL;
	buf_init(&line, HTTP_HEADER_MAX);
	(void)buf_add(&line, text.at, text.len); /* the buf remembers, here and below */
	if (buf_text(&line) != NULL) {
		value = strchr(buf_text(&line), ':') + 1;
		if (value[strspn(value, " \t")] == '\0') /* curl wants an empty one so */
			line.data[(const uint8_t *)value - 1 - line.data] = ';';
	}
	if (line.error != 0 || !add_header(t, (const char *)line.data))
		r = line.error == -EMSGSIZE ? -EINVAL : -ENOMEM;
	buf_done(&line);
	return r;
}

static int add_headers(struct transfer *t, const struct http_request *q)
{
	int r = 0;

	if (t->source == NULL &&
	    !add_header(t, q->type != NULL ? q->type : "Content-Type: application/json"))
		return -ENOMEM;
	for (size_t i = 0; i < q->header_count && r == 0; i++)
		r = add_given_header(t, q->headers[i]);
	return r;
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

static CURLcode set_method(struct transfer *t)
{
	CURL *e = t->easy;
	CURLcode c = CURLE_OK;

	if (t->source != NULL) {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->size);
		SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
	} else {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->size);
	}
	return c;
}

static bool set_up(struct transfer *t, const struct http_request *q)
{
	const struct http_settings *s = &t->http->settings;
	CURL *e = t->easy;
	CURLcode c = set_callbacks(t);

	if (c == CURLE_OK)
		c = set_method(t);
	SET(CURLOPT_URL, q->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
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
	int r = add_headers(t, q);

	if (r == 0)
		r = curl_is_there(h);
	if (r < 0)
		return r;
	t->easy = curl_easy_init();
	/* no "Expect: 100-continue": it costs a round trip per body above 1 MiB */
	if (t->easy == NULL || !add_header(t, "Expect:") || !set_up(t, q) ||
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

int http_start(struct http *h, struct http_request *q)
{
	struct transfer *t = mem_zalloc(sizeof(*t));
	int r;

	if (t == NULL) {
		buf_done(&q->body);
		q->source = source_free(q->source);
		return -ENOMEM;
	}
	t->http = h;
	t->body = q->body;
	buf_init(&q->body, 0);
	t->source = take_ptr(q->source);
	t->size = t->source != NULL ? (uint64_t)t->source->size : t->body.len;
	t->lane = q->lane;
	t->limit = q->limit;
	t->shared = q->shared;
	t->owner = q->owner;
	t->begun_ms = t->moved_ms = t->share_ms = clock_mono_ms();
	t->stall_ms = h->settings.stall_timeout_ms;
	t->retry_after_ms = t->reset_ms = t->date_s = -1;
	t->remaining = -1;
	t->on_answer = q->on_answer;
	t->arg = q->arg;
	buf_init(&t->answer, HTTP_ANSWER_MAX);
	r = transfer_start(t, q);
	if (r < 0)
		transfer_free(t);
	return r;
}

uint64_t http_given(const struct http *h, enum lane lane)
{
	return h->given[lane];
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
		.source_error = t->source_error,
		.etag = t->etag,
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
	a.active_ms = a.took_ms - (t->pauses_ms < a.took_ms ? t->pauses_ms : a.took_ms);
	if (t->source_error < 0) {
		a.transport = TRANSPORT_LOCAL;
		(void)snprintf(a.error, sizeof(a.error), "the bytes to be sent cannot be read: %s",
			       strerrordesc_np(-t->source_error));
	} else if (a.transport == TRANSPORT_STALLED)
		(void)snprintf(a.error, sizeof(a.error), "%s", transport_text(a.transport));
	else if (a.transport != TRANSPORT_ANSWERED)
		(void)snprintf(a.error, sizeof(a.error), "%.150s",
			       t->error[0] != '\0' ? t->error : curl_easy_strerror(code));
	t->on_answer(t->arg, &a);
	transfer_free(t);
}

void http_turn(struct http *h)
{
	int running;
	int left;
	CURLMsg *message;

	if (h->multi == NULL)
		return;
	pace_unpause(h);
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
		uint64_t wait_ms = t->paused ? pace_wait_ms(t, now_ms) : UINT64_MAX;

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
