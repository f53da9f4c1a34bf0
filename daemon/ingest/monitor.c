/* See monitor.h.
 *
 *   free ──accepted──▶ reading ──/metrics──▶ asking ──the worker's text──▶ writing
 *    ▲                    └──other answers──────────────────────────────────▶┤
 *    └── libuv has closed the handle ◀── closing ◀───────────────────────────┘ (or any)
 *
 * What a client that was cut off had asked the worker for comes back all the same: an orphan. So a
 * disk that hangs takes no place of those who ask whether the loop turns.
 */
#include "daemon/ingest/monitor.h"

#include "daemon/base/log.h"
#include "daemon/ingest/http_get.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum client_state {
	CLIENT_FREE,
	CLIENT_READING,
	CLIENT_ASKING,
	CLIENT_WRITING,
	CLIENT_CLOSING,
	CLIENT_STATES
};

struct client {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} uv;
	struct monitor *monitor;
	enum client_state state;
	uint64_t since_ms;
	struct http_get get;
	struct exposition *asked; /* at the worker */
	struct buf out;
	uv_write_t write;
};

struct monitor {
	uv_loop_t *loop;
	struct monitor_settings settings;
	uint64_t started_us;
	struct listener listener; /* on a path */
	uv_tcp_t tcp;             /* or on an address */
	bool is_tcp;
	bool is_listening;
	bool stopping;
	bool somebody_waits; /* to be accepted */
	struct exposition *file_asked;
	bool file_written;
	unsigned orphans;
	uint64_t next_file_ms;
	struct client clients[MONITOR_CLIENTS_MAX];
	char read_bytes[HTTP_HEAD_MAX];
};

static const struct {
	const char *name;
	unsigned allowed;
} states[CLIENT_STATES] = {
	[CLIENT_FREE] = {"free", 1u << CLIENT_READING},
	[CLIENT_READING] = {"reading",
			    1u << CLIENT_ASKING | 1u << CLIENT_WRITING | 1u << CLIENT_CLOSING},
	[CLIENT_ASKING] = {"asking", 1u << CLIENT_WRITING | 1u << CLIENT_CLOSING},
	[CLIENT_WRITING] = {"writing", 1u << CLIENT_CLOSING},
	[CLIENT_CLOSING] = {"closing", 1u << CLIENT_FREE},
};

static void client_move(struct client *c, enum client_state to)
{
	assert(states[c->state].allowed & 1u << to);
	log_debug("monitor", "client=%p from=%s to=%s", (void *)c, states[c->state].name,
		  states[to].name);
	c->state = to;
}

/* --- closing --- */

static void accept_clients(struct monitor *m);

static void on_closed(uv_handle_t *handle)
{
	struct client *c = container_of(handle, struct client, uv.handle);

	buf_done(&c->out);
	client_move(c, CLIENT_FREE);
	accept_clients(c->monitor);
}

static void client_close(struct client *c)
{
	if (c->state == CLIENT_FREE || c->state == CLIENT_CLOSING)
		return;
	client_move(c, CLIENT_CLOSING);
	c->monitor->orphans += c->asked != NULL;
	c->asked = NULL;
	uv_close(&c->uv.handle, on_closed);
}

/* --- answers --- */

static void on_written(uv_write_t *write, int status)
{
	(void)status; /* the connection ends either way */
	client_close(container_of(write, struct client, write));
}

static void send_answer(struct client *c, const char *status, const char *type, struct span body)
{
	uv_buf_t bytes;

	client_move(c, CLIENT_WRITING);
	buf_init(&c->out, EXPOSITION_MAX + 1024);
	(void)buf_printf(&c->out,
			 "HTTP/1.1 %s\r\nContent-Type: %s; charset=utf-8\r\n"
			 "Content-Length: %zu\r\nConnection: close\r\n\r\n",
			 status, type, body.len);
	(void)buf_add(&c->out, body.at, body.len);
	bytes = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
	if (c->out.error != 0 || uv_write(&c->write, &c->uv.stream, &bytes, 1, on_written) < 0)
		client_close(c);
}

static void answer_text(struct client *c, const char *status, const char *text)
{
	send_answer(c, status, "text/plain", span_of_text(text));
}

static struct exposition *ask_worker(const struct monitor *m, const char *file)
{
	struct query_facts facts = {0};
	struct exposition *e;

	m->settings.fill_facts(m->settings.arg, &facts);
	e = exposition_new(&facts, m->started_us, file);
	if (e == NULL)
		return NULL;
	e->job.reply_to = m->settings.replies;
	(void)mailbox_post(m->settings.worker, &e->job.mail); /* never full */
	return e;
}

static void answer_metrics(struct client *c)
{
	if (c->monitor->orphans < MONITOR_CLIENTS_MAX)
		c->asked = ask_worker(c->monitor, NULL);
	if (c->asked == NULL)
		answer_text(c, "503 Service Unavailable", "the store does not answer\n");
	else
		client_move(c, CLIENT_ASKING);
}

/* Empty when records are taken and brought to disk, or what keeps them from it. */
static void why_not_ready(struct stats *s, char ret[256])
{
	uint64_t busy_ms = atomic_load(&s->store_busy_ms);
	uint64_t now_ms = clock_mono_ms();

	stats_get_store_fault(s, ret, 256);
	if (ret[0] == '\0' && atomic_load(&s->space) == SPACE_NONE)
		(void)snprintf(ret, 256, "no room on the disk: nothing is read");
	if (ret[0] == '\0' && busy_ms != 0 && now_ms > busy_ms &&
	    now_ms - busy_ms > MONITOR_STUCK_MS)
		(void)snprintf(ret, 256, "the disk has not answered for %llu s",
			       (unsigned long long)((now_ms - busy_ms) / 1000));
}

static void answer_ready(struct client *c)
{
	struct query_facts facts = {0};
	char why[256];
	char line[260];

	c->monitor->settings.fill_facts(c->monitor->settings.arg, &facts);
	why_not_ready(facts.stats, why);
	(void)snprintf(line, sizeof(line), "%s\n", why[0] == '\0' ? "ok" : why); /* fits */
	answer_text(c, why[0] == '\0' ? "200 OK" : "503 Service Unavailable", line);
}

static void answer_path(struct client *c, const char *path)
{
	if (strcmp(path, "/metrics") == 0)
		answer_metrics(c);
	else if (strcmp(path, "/healthz") == 0)
		answer_text(c, "200 OK", "ok\n"); /* who answers is the loop */
	else if (strcmp(path, "/readyz") == 0)
		answer_ready(c);
	else
		answer_text(c, "404 Not Found", "there are /metrics, /healthz and /readyz\n");
}

/* --- requests --- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct client *c = container_of(handle, struct client, uv.handle);

	(void)suggested;
	*ret = uv_buf_init(c->monitor->read_bytes, HTTP_HEAD_MAX);
}

static void take_bytes(struct client *c, struct span bytes)
{
	enum http_get_result result = http_get_feed(&c->get, bytes);

	if (result == HTTP_GET_MORE)
		return;
	(void)uv_read_stop(&c->uv.stream); /* always 0 */
	switch (result) {
	case HTTP_GET_READY: answer_path(c, c->get.path); return;
	case HTTP_GET_METHOD:
		answer_text(c, "405 Method Not Allowed\r\nAllow: GET", "GET only\n");
		return;
	case HTTP_GET_TOO_LARGE:
		answer_text(c, "431 Request Header Fields Too Large", "too large\n");
		return;
	case HTTP_GET_BAD: answer_text(c, "400 Bad Request", "this is HTTP/1.1\n"); return;
	case HTTP_GET_MORE: return;
	}
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct client *c = container_of(stream, struct client, uv.stream);

	if (n < 0)
		client_close(c);
	else if (n > 0 && c->state == CLIENT_READING)
		take_bytes(c, (struct span){.at = (uint8_t *)buffer->base, .len = (size_t)n});
}

/* --- connections --- */

static struct client *free_client(struct monitor *m)
{
	for (size_t i = 0; i < array_len(m->clients); i++) {
		if (m->clients[i].state == CLIENT_FREE)
			return &m->clients[i];
	}
	return NULL;
}

/* False: nobody waits, or there is no place. */
static bool accept_one(struct monitor *m)
{
	uv_stream_t *server = m->is_tcp ? (uv_stream_t *)&m->tcp : (uv_stream_t *)&m->listener.pipe;
	struct client *c = free_client(m);
	int r;

	if (c == NULL || !m->somebody_waits || m->stopping)
		return false;
	m->somebody_waits = false; /* an accept makes libuv look for the next one */
	*c = (struct client){.monitor = m, .since_ms = clock_mono_ms()};
	if (m->is_tcp)
		(void)uv_tcp_init(m->loop, &c->uv.tcp); /* these two: always 0 */
	else
		(void)uv_pipe_init(m->loop, &c->uv.pipe, 0);
	http_get_init(&c->get);
	client_move(c, CLIENT_READING);
	r = uv_accept(server, &c->uv.stream);
	if (r == 0)
		r = uv_read_start(&c->uv.stream, on_alloc, on_read);
	if (r < 0)
		client_close(c);
	return true;
}

static void accept_clients(struct monitor *m)
{
	while (accept_one(m))
		;
}

static void on_pipe_connection(struct listener *l)
{
	struct monitor *m = l->data;

	m->somebody_waits = true;
	accept_clients(m);
}

static void on_tcp_connection(uv_stream_t *server, int status)
{
	struct monitor *m = server->data;

	m->somebody_waits = status == 0;
	accept_clients(m);
}

static void on_file(struct monitor *m, const struct exposition *e)
{
	m->file_asked = NULL;
	if (e->error < 0)
		log_warn("monitor", "errno=%d file=%s the metrics cannot be written there",
			 -e->error, m->settings.file);
	else
		m->file_written = true;
}

static void on_page(struct monitor *m, const struct exposition *e)
{
	struct client *c = NULL;

	for (size_t i = 0; i < array_len(m->clients); i++) {
		if (m->clients[i].asked == e)
			c = &m->clients[i];
	}
	if (c == NULL) {
		m->orphans--;
		return;
	}
	c->asked = NULL;
	if (e->out.error != 0)
		answer_text(c, "503 Service Unavailable", "no memory\n");
	else
		send_answer(c, "200 OK", "text/plain; version=0.0.4", buf_span(&e->out));
}

void monitor_on_exposition(struct monitor *m, struct exposition *e)
{
	if (m->file_asked == e)
		on_file(m, e);
	else
		on_page(m, e);
	(void)exposition_free(e);
}

void monitor_tick(struct monitor *m, uint64_t now_ms)
{
	if (m == NULL || m->stopping)
		return;
	for (size_t i = 0; i < array_len(m->clients); i++) {
		if (now_ms - m->clients[i].since_ms >= MONITOR_CLIENT_MS)
			client_close(&m->clients[i]);
	}
	if (m->settings.file[0] == '\0' || m->file_asked != NULL || now_ms < m->next_file_ms)
		return;
	m->next_file_ms = now_ms + MONITOR_FILE_MS;
	m->file_asked = ask_worker(m, m->settings.file);
}

/* --- start and stop --- */

static int listen_tcp(struct monitor *m, const char *text)
{
	struct sockaddr_storage address = {0};
	const char *colon = strrchr(text, ':'); /* config.c has let it through: HOST:PORT */
	bool is_v6 = text[0] == '[';
	int port = (int)strtol(colon + 1, NULL, 10);
	int len = sizeof(address);
	int r = is_v6 ? uv_ip6_addr("::1", port, (struct sockaddr_in6 *)&address)
		      : uv_ip4_addr("127.0.0.1", port, (struct sockaddr_in *)&address);

	m->is_tcp = true;
	m->tcp.data = m;
	if (r == 0)
		r = uv_tcp_bind(&m->tcp, (const struct sockaddr *)&address, 0);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&m->tcp, LISTENER_BACKLOG, on_tcp_connection);
	if (r == 0)
		r = uv_tcp_getsockname(&m->tcp, (struct sockaddr *)&address, &len);
	if (r == 0) /* port 0 is one of the kernel's choice; both have it at the same place */
		log_info("monitor", "port=%d metrics on %.*s",
			 ntohs(((const struct sockaddr_in *)&address)->sin_port),
			 (int)(colon - text), text);
	return r;
}

static int start_listening(struct monitor *m, char ret_error[256])
{
	const char *text = m->settings.listen;
	int r;

	if (text[0] == '\0')
		return 0;
	m->is_listening = true;
	if (text[0] == '/') {
		m->listener.on_connection = on_pipe_connection;
		m->listener.data = m;
		return listener_open(&m->listener, m->loop, -1, text, 0666, ret_error);
	}
	(void)uv_tcp_init(m->loop, &m->tcp); /* always 0 */
	r = listen_tcp(m, text);
	if (r < 0)
		(void)snprintf(ret_error, 256, "daemon.metrics: %.100s: %s", text, uv_strerror(r));
	return r;
}

int monitor_new(struct monitor **ret, uv_loop_t *loop, const struct monitor_settings *settings,
		char ret_error[256])
{
	struct monitor *m = mem_zalloc(sizeof(*m));

	if (m == NULL) {
		(void)snprintf(ret_error, 256, "out of memory");
		return -ENOMEM;
	}
	m->loop = loop;
	m->settings = *settings;
	m->started_us = clock_wall_us();
	*ret = m; /* also after a failure: its handles are the loop's until it has closed them */
	return start_listening(m, ret_error);
}

struct monitor *monitor_free(struct monitor *m)
{
	if (m != NULL && m->file_written)
		(void)unlink(m->settings.file); /* nobody is there whose state it tells */
	return mem_free(m);
}

void monitor_stop(struct monitor *m)
{
	if (m == NULL || m->stopping)
		return;
	m->stopping = true;
	if (m->is_listening && m->is_tcp)
		uv_close((uv_handle_t *)&m->tcp, NULL); /* embedded: m outlives the loop */
	else if (m->is_listening)
		listener_close(&m->listener);
	for (size_t i = 0; i < array_len(m->clients); i++)
		client_close(&m->clients[i]);
}

bool monitor_is_idle(const struct monitor *m)
{
	if (m == NULL)
		return true;
	if (m->file_asked != NULL || m->orphans > 0)
		return false;
	for (size_t i = 0; i < array_len(m->clients); i++) {
		if (m->clients[i].state != CLIENT_FREE)
			return false;
	}
	return true;
}
