#include "daemon/forward/http.h"
#include "proto/base/clock.h"
#include "tests/lib/suite.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KEY "0123456789abcdefghij0123456789abcdefghij"

/* --- a server of one answer --- */

enum manner {
	ANSWERS,
	BLURTS, /* without reading the request */
	HANGS,  /* until the client goes */
	RESETS  /* after the request */
};

struct server {
	int fd;
	char url[64];
	enum manner manner;
	struct span answer;
	pthread_t thread;
	char request[8192]; /* what came, as far as it fits */
	size_t request_len; /* all of it */
};

/* Reads a whole request: its head, and as many bytes as that says. */
static void read_request(struct server *s, int fd)
{
	size_t want = SIZE_MAX;

	while (s->request_len < want) {
		char piece[65536];
		ssize_t n = read(fd, piece, sizeof(piece));
		size_t room = sizeof(s->request) - 1 - s->request_len;
		const char *end;

		if (n <= 0)
			return;
		if (s->request_len < sizeof(s->request) - 1)
			memcpy(s->request + s->request_len, piece,
			       (size_t)n < room ? (size_t)n : room);
		s->request_len += (size_t)n;
		end = strstr(s->request, "\r\n\r\n");
		if (want == SIZE_MAX && end != NULL) {
			const char *length = strcasestr(s->request, "\r\ncontent-length:");

			want = (size_t)(end + 4 - s->request);
			if (length != NULL)
				want += strtoul(length + 17, NULL, 10);
		}
	}
}

static void write_all(int fd, struct span bytes)
{
	while (bytes.len > 0) {
		ssize_t n = send(fd, bytes.at, bytes.len, MSG_NOSIGNAL);

		if (n <= 0)
			return; /* the client has enough */
		bytes.at += n;
		bytes.len -= (size_t)n;
	}
}

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->fd, NULL, NULL);
	char byte;

	if (fd < 0)
		return NULL;
	if (s->manner != BLURTS)
		read_request(s, fd);
	if (s->manner == RESETS) {
		const struct linger at_once = {.l_onoff = 1};

		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	} else {
		write_all(fd, s->answer);
	}
	while (s->manner == HANGS || s->manner == BLURTS) {
		if (read(fd, &byte, 1) <= 0)
			break;
	}
	(void)close(fd);
	return NULL;
}

static void server_start(struct server *s, enum manner manner, struct span answer)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);

	*s = (struct server){.manner = manner, .answer = answer};
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(s->fd, 0);
	ck_assert_int_eq(bind(s->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
	ck_assert_int_eq(listen(s->fd, 4), 0);
	(void)snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u/graphql", ntohs(at.sin_port));
	ck_assert_int_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
	(void)shutdown(s->fd, SHUT_RDWR); /* wakes one that nobody came to */
	ck_assert_int_eq(pthread_join(s->thread, NULL), 0);
	ck_assert_int_eq(close(s->fd), 0);
}

/* --- a client --- */

struct got {
	bool is_there;
	struct http_answer answer; /* its body is below */
	struct buf body;
};

static void on_answer(void *arg, const struct http_answer *answer)
{
	struct got *g = arg;

	ck_assert(!g->is_there); /* once */
	g->is_there = true;
	g->answer = *answer;
	ck_assert_int_eq(buf_add(&g->body, answer->body.at, answer->body.len), 0);
}

static const struct http_settings settings = {
	.ca_file = "",
	.proxy = "",
	.agent = "wbx-test",
	.connect_timeout_ms = 30000,
	.stall_timeout_ms = 30000,
};

static int post_of(struct http *h, struct got *g, const char *url, size_t body_bytes,
		   struct limit *limit, uint32_t owner)
{
	struct http_request q = {
		.url = url,
		.user = "api",
		.password = KEY,
		.limit = limit,
		.owner = owner,
		.on_answer = on_answer,
		.arg = g,
	};

	buf_init(&q.body, 64 << 20);
	for (size_t i = 0; i < body_bytes; i++) {
		if (buf_add_byte(&q.body, (uint8_t)('a' + i % 26)) < 0) {
			buf_done(&q.body);
			return -ENOMEM;
		}
	}
	return http_start(h, &q);
}

static int post(struct http *h, struct got *g, const char *url, size_t body_bytes,
		struct limit *limit)
{
	return post_of(h, g, url, body_bytes, limit, 0);
}

static void wait_for(struct http *h, struct got *g)
{
	for (;;) {
		http_turn(h);
		if (g->is_there)
			break;
		http_wait(h, 1000);
	}
	ck_assert_uint_eq(http_in_flight(h), 0);
}

/* One request from beginning to end. */
static void ask(struct got *g, const struct http_settings *how, const char *url, size_t body_bytes)
{
	struct http *h;

	*g = (struct got){.is_there = false};
	buf_init(&g->body, 64 << 20);
	ck_assert_int_eq(setenv("no_proxy", "*", 1), 0);
	ck_assert_int_eq(http_new(&h, how), 0);
	ck_assert_int_eq(post(h, g, url, body_bytes, NULL), 0);
	wait_for(h, g);
	ck_assert_ptr_null(strstr(g->answer.error, KEY));
	h = http_free(h);
}

START_TEST(a_request_has_its_head_its_key_and_its_body)
{
	struct server s;
	struct got g;
	const char *body;

	server_start(&s, ANSWERS, SPAN_LITERAL("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
	ask(&g, &settings, s.url, 1000);
	server_stop(&s);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_ANSWERED);
	ck_assert_int_eq(g.answer.status, 200);
	ck_assert_str_eq(buf_text(&g.body), "{}");
	ck_assert_int_eq(g.answer.retry_after_ms, -1);
	ck_assert_int_eq(g.answer.reset_ms, -1);
	ck_assert_ptr_eq(strstr(s.request, "POST /graphql HTTP/1.1\r\n"), s.request);
	ck_assert_ptr_nonnull(strstr(s.request, "\r\nUser-Agent: wbx-test\r\n"));
	ck_assert_ptr_nonnull(strstr(s.request, "\r\nContent-Type: application/json\r\n"));
	ck_assert_ptr_nonnull(strstr(s.request,
				     "\r\nAuthorization: Basic "
				     "YXBpOjAxMjM0NTY3ODlhYmNkZWZnaGlqMDEyMzQ1Njc4OWFiY2RlZ"
				     "mdoaWo=\r\n"));
	body = strstr(s.request, "\r\n\r\n");
	ck_assert_ptr_nonnull(body);
	ck_assert_uint_eq(strlen(body + 4), 1000);
	ck_assert_int_eq(strncmp(body + 4, "abcdefghijklmnopqrstuvwxyzabc", 29), 0);
	buf_done(&g.body);
}
END_TEST

START_TEST(headers_say_how_long_to_wait)
{
	static const struct {
		const char *headers;
		int64_t retry_after_ms;
		int64_t reset_ms;
		int remaining; /* a whole number; -1: not said */
	} cases[] = {
		{"Retry-After: 3\r\n", 3000, -1, -1},
		{"retry-after:0.25\r\n", 250, -1, -1},
		{"RETRY-AFTER: \t 7 \r\n", 7000, -1, -1},
		{"Retry-After: 0\r\n", 0, -1, -1},
		{"Retry-After: 86400\r\n", 86400000, -1, -1},
		{"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", 0, -1, -1}, /* that is over */
		{"Retry-After: -5\r\n", -1, -1, -1},
		{"Retry-After: soon\r\n", -1, -1, -1},
		{"Retry-After:\r\n", -1, -1, -1},
		{"Retry-After: nan\r\n", -1, -1, -1},
		{"Retry-After: inf\r\n", -1, -1, -1},
		{"Retry-After: 1e300\r\n", -1, -1, -1},
		{"Retry-After: 5 minutes\r\n", 5000, -1, -1},
		{"X-Retry-After: 3\r\n", -1, -1, -1},
		{"RateLimit-Remaining: 2\r\nRateLimit-Reset: 10\r\n", -1, 10000, 2},
		{"ratelimit-remaining: 999\r\nratelimit-reset: 0.5\r\nRetry-After: 1\r\n", 1000,
		 500, 999},
		{"RateLimit-Reset\r\n", -1, -1, -1},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		char answer[512];
		struct server s;
		struct got g;

		(void)snprintf(answer, sizeof(answer),
			       "HTTP/1.1 429 Too Many\r\n%sContent-Length: 0\r\n\r\n",
			       cases[i].headers);
		server_start(&s, ANSWERS, span_of_text(answer));
		ask(&g, &settings, s.url, 10);
		server_stop(&s);
		ck_assert_int_eq(g.answer.status, 429);
		ck_assert_msg(g.answer.retry_after_ms == cases[i].retry_after_ms &&
				      g.answer.reset_ms == cases[i].reset_ms &&
				      (int)g.answer.remaining == cases[i].remaining,
			      "%s: %lld %lld %g", cases[i].headers,
			      (long long)g.answer.retry_after_ms, (long long)g.answer.reset_ms,
			      g.answer.remaining);
		buf_done(&g.body);
	}
}
END_TEST

START_TEST(a_date_to_come_is_waited_for)
{
	char answer[256];
	char date[64];
	time_t then = time(NULL) + 3600;
	struct tm tm;
	struct server s;
	struct got g;

	ck_assert_ptr_nonnull(gmtime_r(&then, &tm));
	ck_assert_uint_gt(strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm), 0);
	(void)snprintf(answer, sizeof(answer),
		       "HTTP/1.1 503 No\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", date);
	server_start(&s, ANSWERS, span_of_text(answer));
	ask(&g, &settings, s.url, 10);
	server_stop(&s);
	ck_assert_int_gt(g.answer.retry_after_ms,
			 1800 * INT64_C(1000)); /* however slow this machine is */
	ck_assert_int_le(g.answer.retry_after_ms, 3600 * INT64_C(1000));
	buf_done(&g.body);
}
END_TEST

START_TEST(what_is_no_whole_answer_is_told_apart)
{
	static const struct {
		const char *answer;
		enum manner manner;
		enum transport transport;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half", ANSWERS,
		 TRANSPORT_BROKEN},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ANSWERS,
		 TRANSPORT_BROKEN},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", ANSWERS,
		 TRANSPORT_BROKEN},
		{"HTTP/1.1 2", ANSWERS, TRANSPORT_BROKEN},
		{"", ANSWERS, TRANSPORT_BROKEN},
		{"SSH-2.0-OpenSSH_9.2\r\n", ANSWERS, TRANSPORT_BROKEN},
		{"", RESETS, TRANSPORT_BROKEN},
		{"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
		 ANSWERS, TRANSPORT_BROKEN},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct server s;
		struct got g;

		server_start(&s, cases[i].manner, span_of_text(cases[i].answer));
		ask(&g, &settings, s.url, 10);
		server_stop(&s);
		ck_assert_msg(g.answer.transport == cases[i].transport, "case %zu: %d %s", i,
			      (int)g.answer.transport, g.answer.error);
		ck_assert_uint_gt(strlen(g.answer.error), 0);
		buf_done(&g.body);
	}
}
END_TEST

START_TEST(a_server_that_says_nothing_has_stalled)
{
	struct http_settings hasty = settings;
	struct server s;
	struct got g;

	hasty.stall_timeout_ms = 100;
	server_start(&s, HANGS, SPAN_LITERAL("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"));
	ask(&g, &hasty, s.url, 10);
	server_stop(&s);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_STALLED);
	buf_done(&g.body);
	server_start(&s, HANGS, SPAN_LITERAL(""));
	ask(&g, &hasty, s.url, 10);
	server_stop(&s);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_STALLED);
	buf_done(&g.body);
}
END_TEST

START_TEST(addresses_that_lead_nowhere_are_told_apart)
{
	struct server s;
	struct got g;
	char url[80];

	server_start(&s, ANSWERS, SPAN_LITERAL(""));
	(void)snprintf(url, sizeof(url), "%s", s.url);
	server_stop(&s); /* nobody listens there any more */
	ask(&g, &settings, url, 10);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_NO_CONNECTION);
	ck_assert_int_eq(g.answer.status, 0);
	buf_done(&g.body);
	ask(&g, &settings, "http://wbx-no-such-host.invalid/", 10);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_NO_NAME);
	buf_done(&g.body);
	ask(&g, &settings, "gopher://127.0.0.1/", 10);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_LOCAL);
	buf_done(&g.body);
	ask(&g, &settings, "http://[bad/", 10);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_LOCAL);
	buf_done(&g.body);
	/* no TLS where TLS should be */
	server_start(&s, BLURTS, SPAN_LITERAL("HTTP/1.1 400 Bad\r\n\r\n"));
	(void)snprintf(url, sizeof(url), "https%s", s.url + 4);
	ask(&g, &settings, url, 10);
	server_stop(&s);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_BAD_TLS);
	buf_done(&g.body);
}
END_TEST

START_TEST(a_redirect_is_not_followed)
{
	struct server s;
	struct got g;

	server_start(&s, ANSWERS,
		     SPAN_LITERAL("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
				  "Content-Length: 0\r\n\r\n"));
	ask(&g, &settings, s.url, 10);
	server_stop(&s);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_ANSWERED);
	ck_assert_int_eq(g.answer.status, 302);
	buf_done(&g.body);
}
END_TEST

START_TEST(an_answer_that_is_too_long_is_cut)
{
	auto_buf struct buf answer;
	struct server s;
	struct got g;

	buf_init(&answer, 64 << 20);
	ck_assert_int_eq(buf_printf(&answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
				    HTTP_ANSWER_MAX + 100000),
			 0);
	for (int i = 0; i < HTTP_ANSWER_MAX + 100000; i++)
		(void)buf_add_byte(&answer, 'x'); /* the buf remembers */
	ck_assert_int_eq(answer.error, 0);
	server_start(&s, ANSWERS, buf_span(&answer));
	ask(&g, &settings, s.url, 10);
	server_stop(&s);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_ANSWERED);
	ck_assert_uint_eq(g.body.len, HTTP_ANSWER_MAX);
	buf_done(&g.body);
}
END_TEST

START_TEST(a_body_goes_no_faster_than_its_limit)
{
	enum {
		BODY = 300 << 10,
		RATE = 1 << 20
	};
	struct limit limit = {.per_s = 0};
	struct server s;
	struct got g = {.is_there = false};
	struct http *h;
	uint64_t begun_ms = clock_mono_ms();

	server_start(&s, ANSWERS, SPAN_LITERAL("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
	buf_init(&g.body, 1000);
	ck_assert_int_eq(setenv("no_proxy", "*", 1), 0);
	ck_assert_int_eq(http_new(&h, &settings), 0);
	limit_set(&limit, RATE, 64 << 10, begun_ms);
	ck_assert_int_eq(post(h, &g, s.url, BODY, &limit), 0);
	wait_for(h, &g);
	h = http_free(h);
	server_stop(&s);
	ck_assert_int_eq(g.answer.status, 200);
	ck_assert_uint_ge(s.request_len, BODY);
	/* never faster; how much slower is the machine's business */
	ck_assert_uint_ge(clock_mono_ms() - begun_ms, (BODY - (64 << 10)) * 1000 / RATE);
	buf_done(&g.body);
}
END_TEST

/* The one who asked first, and has one transfer beside the three of another, is not the last. */
START_TEST(owners_share_a_limit_evenly_whatever_number_of_bodies_they_have)
{
	enum {
		BURST = 32 << 10,
		SMALL = 96 << 10,
		BIG = 400 << 10,
		MANY = 3
	};
	const struct span ok = SPAN_LITERAL("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	struct limit limit = {.per_s = 0};
	struct server small_server;
	struct server servers[MANY];
	struct got small = {.is_there = false};
	struct got big[MANY];
	struct http *h;

	ck_assert_int_eq(setenv("no_proxy", "*", 1), 0);
	ck_assert_int_eq(http_new(&h, &settings), 0);
	limit_set(&limit, 1 << 20, BURST, clock_mono_ms());
	server_start(&small_server, ANSWERS, ok);
	ck_assert_int_eq(post_of(h, &small, small_server.url, SMALL, &limit, 1), 0);
	for (int i = 0; i < MANY; i++) {
		big[i] = (struct got){.is_there = false};
		server_start(&servers[i], ANSWERS, ok);
		ck_assert_int_eq(post_of(h, &big[i], servers[i].url, BIG, &limit, 2), 0);
	}
	while (!small.is_there) {
		http_turn(h);
		http_wait(h, 1000);
	}
	/* what the other has sent by now is as much, and not three times as much */
	ck_assert_int_eq(small.answer.status, 200);
	for (int i = 0; i < MANY; i++)
		ck_assert(!big[i].is_there);
	h = http_free(h);
	server_stop(&small_server);
	for (int i = 0; i < MANY; i++) {
		server_stop(&servers[i]);
		ck_assert_uint_lt(servers[i].request_len, SMALL);
	}
}
END_TEST

/* --- uploads --- */

/* A source of letters, on the test's stack. */
struct letters {
	struct source source;
	int64_t done;
	int fails; /* what the second read says */
	unsigned reads;
	unsigned freed;
};

static int read_letters(struct source *s, void *ret_bytes, size_t len, size_t *ret_len)
{
	struct letters *l = container_of(s, struct letters, source);
	uint8_t *to = ret_bytes;

	if (l->reads++ > 0 && l->fails < 0)
		return l->fails;
	ck_assert_int_gt((int64_t)len, 0);
	ck_assert_int_le((int64_t)len, s->size - l->done); /* never beyond the end */
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)('a' + (l->done + (int64_t)i) % 26);
	l->done += (int64_t)len;
	*ret_len = len;
	return 0;
}

static int rewind_letters(struct source *s)
{
	container_of(s, struct letters, source)->done = 0;
	return 0;
}

static void free_letters(struct source *s)
{
	container_of(s, struct letters, source)->freed++;
}

static int put(struct http *h, struct got *g, const char *url, struct letters *l, int64_t size,
	       struct limit *limit, const struct span *headers, size_t header_count)
{
	struct http_request q = {
		.url = url,
		.source = &l->source,
		.headers = headers,
		.header_count = header_count,
		.lane = LANE_TABLES,
		.limit = limit,
		.on_answer = on_answer,
		.arg = g,
	};

	l->source = (struct source){
		.size = size, .read = read_letters, .rewind = rewind_letters, .free = free_letters};
	buf_init(&q.body, 0);
	return http_start(h, &q);
}

START_TEST(an_upload_has_the_server_s_headers_and_not_our_key)
{
	static const int64_t sizes[] = {0, 1, 1000, 5 << 20};
	const struct span headers[] = {SPAN_LITERAL("Content-Type:application/json"),
				       SPAN_LITERAL("x-amz-acl: private "),
				       SPAN_LITERAL("X-Empty:")};

	for (size_t i = 0; i < array_len(sizes); i++) {
		struct letters l = {.done = 0};
		struct server s;
		struct got g = {.is_there = false};
		struct http *h;
		char length[64];

		server_start(&s, ANSWERS,
			     SPAN_LITERAL("HTTP/1.1 200 OK\r\nETag: \"abc-1\"\r\n"
					  "Content-Length: 0\r\n\r\n"));
		buf_init(&g.body, 1000);
		ck_assert_int_eq(setenv("no_proxy", "*", 1), 0);
		ck_assert_int_eq(http_new(&h, &settings), 0);
		ck_assert_int_eq(put(h, &g, s.url, &l, sizes[i], NULL, headers, array_len(headers)),
				 0);
		while (!g.is_there) {
			http_turn(h);
			http_wait(h, 1000);
		}
		h = http_free(h);
		server_stop(&s);
		ck_assert_int_eq(g.answer.status, 200);
		ck_assert_uint_eq(l.freed, 1);
		ck_assert_int_eq(l.done, sizes[i]);
		(void)snprintf(length, sizeof(length), "\r\nContent-Length: %lld\r\n",
			       (long long)sizes[i]);
		ck_assert_ptr_eq(strstr(s.request, "PUT /graphql HTTP/1.1\r\n"), s.request);
		ck_assert_ptr_nonnull(strstr(s.request, length));
		ck_assert_ptr_nonnull(strstr(s.request, "\r\nContent-Type:application/json\r\n"));
		ck_assert_ptr_nonnull(strstr(s.request, "\r\nx-amz-acl: private"));
		ck_assert_ptr_nonnull(strstr(s.request, "\r\nX-Empty:"));
		ck_assert_ptr_null(strcasestr(s.request, "\r\nauthorization:"));
		ck_assert_ptr_null(strcasestr(s.request, "\r\ntransfer-encoding:"));
		ck_assert_ptr_null(strcasestr(s.request, "\r\nexpect:"));
		buf_done(&g.body);
	}
}
END_TEST

START_TEST(a_header_that_would_be_two_is_none)
{
	const struct span bad[] = {
		SPAN_LITERAL("X: a\r\nAuthorization: b"),
		SPAN_LITERAL("no colon"),
		SPAN_LITERAL(": no name"),
		SPAN_LITERAL("a b: c"),
		SPAN_LITERAL(""),
	};
	struct http *h;

	ck_assert_int_eq(http_new(&h, &settings), 0);
	for (size_t i = 0; i < array_len(bad); i++) {
		struct letters l = {.done = 0};
		struct got g = {.is_there = false};

		ck_assert_int_eq(put(h, &g, "http://127.0.0.1:1/", &l, 10, NULL, &bad[i], 1),
				 -EINVAL);
		ck_assert_uint_eq(l.freed, 1);
		ck_assert_uint_eq(http_in_flight(h), 0);
	}
	h = http_free(h);
}
END_TEST

START_TEST(a_source_that_fails_ends_its_upload_and_says_why)
{
	struct letters l = {.fails = -ENOENT};
	struct server s;
	struct got g = {.is_there = false};
	struct http *h;

	server_start(&s, ANSWERS, SPAN_LITERAL(""));
	buf_init(&g.body, 1000);
	ck_assert_int_eq(http_new(&h, &settings), 0);
	ck_assert_int_eq(put(h, &g, s.url, &l, 5 << 20, NULL, NULL, 0), 0);
	wait_for(h, &g);
	h = http_free(h);
	server_stop(&s);
	ck_assert_int_eq((int)g.answer.transport, (int)TRANSPORT_LOCAL);
	ck_assert_int_eq(g.answer.source_error, -ENOENT);
	ck_assert_uint_gt(strlen(g.answer.error), 0);
	ck_assert_uint_eq(l.freed, 1);
	buf_done(&g.body);
}
END_TEST

/* An upload is under way when a body of the highest lane comes: that goes first, though the upload
 * was there before; the upload is not given up for it, however long it is held back. */
START_TEST(an_upload_makes_way_for_rows_and_goes_on_behind_them)
{
	enum {
		RATE = 1 << 20,
		BODY = 600 << 10,
		FILE_BYTES = 1 << 20
	};
	const struct span ok = SPAN_LITERAL("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	struct http_settings hasty = settings;
	struct limit limit = {.per_s = 0};
	struct letters l = {.done = 0};
	struct server storage;
	struct server api;
	struct got file = {.is_there = false};
	struct got rows = {.is_there = false};
	struct http *h;
	int64_t before;
	uint64_t given;

	hasty.stall_timeout_ms = 300; /* less than the rows take */
	ck_assert_int_eq(setenv("no_proxy", "*", 1), 0);
	ck_assert_int_eq(http_new(&h, &hasty), 0);
	limit_set(&limit, RATE, 64 << 10, clock_mono_ms());
	server_start(&storage, ANSWERS, ok);
	server_start(&api, ANSWERS, ok);
	ck_assert_int_eq(put(h, &file, storage.url, &l, FILE_BYTES, &limit, NULL, 0), 0);
	while (l.done < 100 << 10) {
		http_turn(h);
		http_wait(h, 1000);
	}
	before = l.done;
	ck_assert_int_eq(post(h, &rows, api.url, BODY, &limit), 0);
	given = http_given(h, LANE_METRICS);
	while (http_given(h, LANE_METRICS) < given + BODY) {
		http_turn(h);
		http_wait(h, 1000);
	}
	ck_assert_int_gt(l.done, before);                 /* a share */
	ck_assert_int_lt(l.done - before, BODY / 16 * 2); /* no more than that */
	while (!file.is_there || !rows.is_there) {
		http_turn(h);
		http_wait(h, 1000);
	}
	ck_assert_int_eq(rows.answer.status, 200);
	ck_assert_int_eq(file.answer.status, 200);
	ck_assert_int_eq(l.done, FILE_BYTES);
	ck_assert_uint_lt(file.answer.active_ms, file.answer.took_ms);
	h = http_free(h);
	server_stop(&storage);
	server_stop(&api);
}
END_TEST

START_TEST(what_runs_is_dropped_without_a_word)
{
	struct server s;
	struct got g = {.is_there = false};
	struct http *h;

	server_start(&s, HANGS, SPAN_LITERAL(""));
	ck_assert_int_eq(setenv("no_proxy", "*", 1), 0);
	ck_assert_int_eq(http_new(&h, &settings), 0);
	ck_assert_int_eq(post(h, &g, s.url, 10, NULL), 0);
	ck_assert_uint_eq(http_in_flight(h), 1);
	http_turn(h);
	ck_assert_ptr_null(http_free(h));
	server_stop(&s);
	ck_assert(!g.is_there);
	ck_assert_ptr_null(http_free(NULL));
}
END_TEST

START_TEST(a_wake_ends_a_wait)
{
	struct http *h;

	struct got g;

	ck_assert_int_eq(http_new(&h, &settings), 0);
	http_wake(h);
	http_wait(h, 3600000);
	http_wake(h); /* a wake from before the first request is not forgotten over it */
	ck_assert_int_eq(post(h, &g, "http://127.0.0.1:1/", 100, NULL), 0);
	while (!g.is_there)
		http_turn(h);
	http_wait(h, 3600000);
	http_wake(h);
	http_wait(h, 3600000);
	h = http_free(h);
}
END_TEST

static int start_once(struct http **ret, struct got *g)
{
	int r = http_new(ret, &settings);

	return r == 0 ? post(*ret, g, "http://127.0.0.1:1/", 100, NULL) : r;
}

START_TEST(a_request_survives_every_allocation_failure)
{
	struct http *h = NULL;
	struct got g = {.is_there = false};

	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(start_once(&h, &g), h = http_free(h)), 0);
	h = http_free(h);
	ck_assert(!g.is_there);
}
END_TEST

SUITE_MAIN("http", a_request_has_its_head_its_key_and_its_body, headers_say_how_long_to_wait,
	   a_date_to_come_is_waited_for, what_is_no_whole_answer_is_told_apart,
	   a_server_that_says_nothing_has_stalled, addresses_that_lead_nowhere_are_told_apart,
	   a_redirect_is_not_followed, an_answer_that_is_too_long_is_cut,
	   a_body_goes_no_faster_than_its_limit,
	   owners_share_a_limit_evenly_whatever_number_of_bodies_they_have,
	   an_upload_has_the_server_s_headers_and_not_our_key, a_header_that_would_be_two_is_none,
	   a_source_that_fails_ends_its_upload_and_says_why,
	   an_upload_makes_way_for_rows_and_goes_on_behind_them,
	   what_runs_is_dropped_without_a_word, a_wake_ends_a_wait,
	   a_request_survives_every_allocation_failure)
