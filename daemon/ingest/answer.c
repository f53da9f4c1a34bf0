/* See answer.h. The same queries as a daemon's worker runs, one after the other. */
#include "daemon/ingest/answer.h"

#include "daemon/ingest/query.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum {
	READ_BYTES = 16 << 10,
	FOLLOW_MS = 1000 /* between looks of one who follows a store that perhaps nobody writes */
};

/* Waits a moment. True when the peer is still there. */
static bool peer_waits(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, FOLLOW_MS) == 0;
}

static int run_query(int fd, struct query *q, struct reader *reader)
{
	int r;

	do {
		buf_clear(&q->out);
		q->more = q->idle = false;
		query_step(q, reader);
		r = buf_write(&q->out, fd);
		if (r == 0 && q->idle && q->more && !peer_waits(fd))
			return 0;
	} while (r == 0 && q->more);
	return r;
}

static int refuse(int fd, uint64_t id, const char *code, const char *text)
{
	struct buf out;
	int r;

	buf_init(&out, READ_BYTES);
	answer_error(&out, id, code, text);
	r = buf_write(&out, fd);
	buf_done(&out);
	return r;
}

static int ask_store(int fd, struct reader *reader, const struct answer_settings *s,
		     const struct control_request *request)
{
	struct query_facts facts = {
		.version = s->version,
		.store_dir = s->store_dir,
		.merge_max_us = s->merge_max_us,
		.limit_bytes = s->limit_bytes,
		.reserve_bytes = s->reserve_bytes,
	};
	struct query *q;
	int r;

	(void)snprintf(facts.base_url, sizeof(facts.base_url), "%s", s->base_url);
	if (!verb_info(request->verb)->offline)
		return refuse(fd, request->id, "no_daemon", "no daemon runs that could do that");
	q = query_new(request->verb, request->id, request->body, &facts);
	if (q == NULL)
		return -ENOMEM;
	q->uid = getuid();
	q->is_admin = true; /* who may read the store's files may see what is in them */
	r = run_query(fd, q, reader);
	(void)query_free(q);
	return r;
}

static int answer_one(int fd, struct reader *reader, const struct answer_settings *s,
		      struct span payload)
{
	struct control_request request;

	if (control_request_parse(payload, &request) < 0)
		return -EIO;
	if (request.verb == VERB_UNKNOWN)
		return refuse(fd, request.id, "unknown_verb", CONTROL_UNKNOWN_VERB_TEXT);
	return ask_store(fd, reader, s, &request);
}

/* 1: read something; 0: the end. */
static int read_more(int fd, struct buf *in)
{
	uint8_t bytes[READ_BYTES];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	if (n < 0)
		return errno == EINTR ? 1 : -errno;
	if (n == 0)
		return 0;
	return buf_add(in, bytes, (size_t)n) < 0 ? -ENOMEM : 1;
}

int answer_requests(int fd, struct reader *reader, const struct answer_settings *settings)
{
	struct buf in;
	int r = 1;

	buf_init(&in, CONTROL_REQUEST_MAX + READ_BYTES);
	while (r == 1) {
		struct span payload;
		size_t size;

		switch (frame_next(buf_span(&in), CONTROL_REQUEST_MAX, &payload, &size)) {
		case FRAME_NEED_MORE: r = read_more(fd, &in); break;
		case FRAME_TOO_BIG:
		case FRAME_BAD: r = -EIO; break;
		case FRAME_READY:
			r = answer_one(fd, reader, settings, payload);
			buf_drop_front(&in, size);
			r = r == 0 ? 1 : r;
			break;
		}
	}
	buf_done(&in);
	return r;
}
