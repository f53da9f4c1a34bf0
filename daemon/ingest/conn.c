/* See conn.h. */
#include "daemon/ingest/conn.h"

#include "daemon/base/log.h"
#include "daemon/ingest/ingest.h"
#include "daemon/ingest/loop.h"
#include "daemon/ingest/peer.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>

enum conn_state {
	CONN_OPEN,
	CONN_HELD,
	CONN_CLOSING,
	CONN_STATES
};

enum {
	PARTIAL_FREE = 4096,     /* of an unfinished frame that costs no budget */
	PARTIAL_KEEP = 64 << 10, /* memory that an empty buffer keeps */
};

struct conn {
	uv_pipe_t pipe;
	struct conn *next;
	struct conn **prev;
	struct ingest *ingest;
	struct session *session;
	enum conn_state state;
	uid_t uid;
	struct loop_user *user;
	uint64_t opened_ms;
	uint64_t partial_since_ms;
	struct buf partial; /* bytes that are not a whole frame yet, or that are held */
	size_t budgeted;    /* of them, taken from the common budget */
	struct buf out;     /* waits for the write under way */
	struct buf sending;
	uv_write_t write;
	bool writing;
	bool mute;        /* the client takes no answers any more */
	bool over_budget; /* held for its unfinished frame */
};

static const struct {
	const char *name;
	unsigned allowed;
} states[CONN_STATES] = {
	[CONN_OPEN] = {"open", 1u << CONN_HELD | 1u << CONN_CLOSING},
	[CONN_HELD] = {"held", 1u << CONN_OPEN | 1u << CONN_CLOSING},
	[CONN_CLOSING] = {"closing", 0},
};

static void conn_move(struct conn *c, enum conn_state to)
{
	assert(states[c->state].allowed & 1u << to);
	log_debug("conn", "conn=%p from=%s to=%s", (void *)c, states[c->state].name,
		  states[to].name);
	c->state = to;
}

/* --- closing --- */

static void on_closed(uv_handle_t *handle)
{
	struct conn *c = container_of(handle, struct conn, pipe);

	buf_done(&c->partial);
	buf_done(&c->out);
	buf_done(&c->sending);
	(void)mem_free(c);
}

static void budget_to(struct conn *c, size_t bytes)
{
	loop_budget(c->ingest, c->user, c->budgeted, bytes);
	c->budgeted = bytes;
}

static void conn_drop(struct conn *c)
{
	if (c->state == CONN_CLOSING)
		return;
	conn_move(c, CONN_CLOSING);
	budget_to(c, 0);
	loop_end_turn(c->ingest, c->user, c);
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	loop_conn_gone(c->ingest, c->user);
	uv_close((uv_handle_t *)&c->pipe, on_closed); /* frees c */
}

void conn_close(struct conn *c)
{
	if (c->session != NULL)
		session_end(c->session);
	c->session = NULL;
	conn_drop(c);
}

struct conn *conn_next(const struct conn *c)
{
	return c->next;
}

/* --- out --- */

static void send_more(struct conn *c);

static void on_written(uv_write_t *write, int status)
{
	struct conn *c = container_of(write, struct conn, write);

	c->writing = false;
	buf_trim(&c->sending, PARTIAL_KEEP);
	if (c->state == CONN_CLOSING)
		return;
	if (status < 0)
		c->mute = true;
	else
		send_more(c);
}

static void send_more(struct conn *c)
{
	struct buf swap = c->sending;
	uv_buf_t bytes;

	if (c->out.len == 0)
		return;
	c->sending = c->out;
	c->out = swap;
	bytes = uv_buf_init((char *)c->sending.data, (unsigned)c->sending.len);
	c->writing = true;
	if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &bytes, 1, on_written) < 0) {
		c->writing = false;
		c->mute = true;
	}
}

static void on_send(void *source, struct span bytes)
{
	struct conn *c = source;
	uv_buf_t now = uv_buf_init((char *)(uintptr_t)bytes.at, (unsigned)bytes.len);
	int sent = 0;

	if (c->mute || c->state == CONN_CLOSING)
		return;
	if (!c->writing && c->out.len == 0) {
		sent = uv_try_write((uv_stream_t *)&c->pipe, &now, 1);
		if (sent == UV_EAGAIN)
			sent = 0;
		if (sent < 0) {
			c->mute = true; /* what it sent before is still read */
			return;
		}
	}
	if ((size_t)sent == bytes.len)
		return;
	if (buf_add(&c->out, bytes.at + sent, bytes.len - (size_t)sent) < 0) {
		c->mute = true; /* it reads nothing: a cut stream would be worse than silence */
		return;
	}
	if (!c->writing)
		send_more(c);
}

/* --- in --- */

static void on_end(void *source)
{
	struct conn *c = source;

	c->session = NULL;
	conn_drop(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct conn *c = container_of(handle, struct conn, pipe);

	(void)suggested;
	*ret = loop_read_buffer(c->ingest, c->user);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer);

static void go_on_reading(struct conn *c)
{
	int r;

	if (c->state != CONN_HELD)
		return;
	conn_move(c, CONN_OPEN);
	if (!c->over_budget)
		c->partial_since_ms = clock_mono_ms();
	c->over_budget = false;
	r = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	if (r < 0)
		conn_close(c);
}

void conn_stop_reading(struct conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	conn_move(c, CONN_HELD);
	(void)uv_read_stop((uv_stream_t *)&c->pipe); /* always 0 */
}

/* Unfinished frames of all connections have one budget. Who holds a part of it while it is exceeded
 * waits, with what it has, until others are done or it is its turn; and no longer than any frame
 * may take. */
static bool within_budget(struct conn *c)
{
	return c->budgeted == 0 || loop_budget_is_kept(c->ingest, c->user) ||
	       loop_take_turn(c->ingest, c->user, c);
}

static void after_feed(struct conn *c, enum feed_result result, size_t used)
{
	if (result == FEED_ENDED || result == FEED_LOST)
		return; /* on_end() closed it */
	if (used > 0) {
		buf_drop_front(&c->partial, used);
		c->partial_since_ms = clock_mono_ms();
	}
	if (c->partial.len == 0)
		buf_trim(&c->partial, PARTIAL_KEEP);
	budget_to(c, c->partial.len > PARTIAL_FREE ? c->partial.len - PARTIAL_FREE : 0);
	if (c->budgeted == 0)
		loop_end_turn(c->ingest, c->user, c);
	if (result == FEED_HELD) {
		c->over_budget = false;
		conn_stop_reading(c);
	} else if (!within_budget(c)) {
		c->over_budget = true;
		ingest_hold(c->ingest, c->session);
		conn_stop_reading(c);
	} else {
		go_on_reading(c);
	}
}

static void feed_partial(struct conn *c)
{
	size_t used;
	enum feed_result result = session_feed(c->session, buf_span(&c->partial), &used);

	after_feed(c, result, used);
}

static void on_resume(void *source)
{
	feed_partial(source);
}

static const struct session_source source_ops = {
	.send = on_send, .end = on_end, .resume = on_resume};

static bool keep(struct conn *c, struct span bytes)
{
	if (c->partial.len == 0)
		c->partial_since_ms = clock_mono_ms();
	return buf_add(&c->partial, bytes.at, bytes.len) == 0;
}

static void take_bytes(struct conn *c, struct span bytes)
{
	enum feed_result result;
	size_t used;

	if (c->partial.len > 0) {
		if (keep(c, bytes))
			feed_partial(c);
		else
			conn_close(c); /* no memory: the client sends again */
		return;
	}
	result = session_feed(c->session, bytes, &used);
	if (result == FEED_ENDED || result == FEED_LOST)
		return;
	if (used < bytes.len &&
	    !keep(c, (struct span){.at = bytes.at + used, .len = bytes.len - used})) {
		conn_close(c);
		return;
	}
	after_feed(c, result, 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct conn *c = container_of(stream, struct conn, pipe);

	if (n > 0)
		take_bytes(c, (struct span){.at = (const uint8_t *)buffer->base, .len = (size_t)n});
	else if (n < 0)
		conn_close(c);
}

/* --- life --- */

void conn_tick(struct conn *c, uint64_t now_ms)
{
	bool late_hello = c->session != NULL && c->session->state == SESSION_HELLO &&
			  now_ms - c->opened_ms > HELLO_TIMEOUT_MS;
	bool late_rest = (c->state == CONN_OPEN || c->over_budget) && c->partial.len > 0 &&
			 now_ms - c->partial_since_ms > PARTIAL_TIMEOUT_MS;

	if (c->session != NULL && (late_hello || late_rest))
		session_time_out(c->session,
				 late_hello ? "no hello within 10 s"
					    : "the rest of a frame did not come within 30 s");
}

static void begin(struct conn *c)
{
	c->prev = loop_conns(c->ingest);
	c->next = *c->prev;
	if (c->next != NULL)
		c->next->prev = &c->next;
	*c->prev = c;
	c->session->is_live = true;
	c->session->is_shut_out = !peer_is_allowed(&c->pipe, c->uid, ingest_allow_list(c->ingest));
	if (uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) < 0)
		conn_close(c);
}

int conn_accept(struct ingest *ingest, struct listener *listener)
{
	struct conn *c = mem_zalloc(sizeof(*c));
	int r;

	if (c == NULL) {
		listener_refuse(listener);
		return -ENOMEM;
	}
	c->ingest = ingest;
	c->opened_ms = clock_mono_ms();
	buf_init(&c->partial, RECORD_MAX + (128 << 10));
	buf_init(&c->out, OUTPUT_MAX_BYTES);
	buf_init(&c->sending, OUTPUT_MAX_BYTES);
	(void)uv_pipe_init(listener->pipe.loop, &c->pipe, 0); /* always 0 */
	r = uv_accept((uv_stream_t *)&listener->pipe, (uv_stream_t *)&c->pipe);
	if (r == 0)
		r = peer_uid(&c->pipe, &c->uid);
	if (r == 0)
		r = loop_conn_came(ingest, c->uid, &c->user);
	if (r == 0) {
		c->session = session_new(ingest, c->uid, &source_ops, c);
		if (c->session == NULL) {
			loop_conn_gone(ingest, c->user);
			r = -ENOMEM;
		}
	}
	if (r < 0) {
		c->state = CONN_CLOSING;
		uv_close((uv_handle_t *)&c->pipe, on_closed); /* frees c */
		return r;
	}
	begin(c);
	return 0;
}
