/* See request.h. */
#include "client/ctl/request.h"

#include "proto/frame.h"
#include "proto/limits.h"

void request_init(struct request *q, enum verb verb)
{
	q->verb = verb;
	q->timeout_ms = REQUEST_TIMEOUT_MS;
	q->count = 0;
	buf_init(&q->pairs, CONTROL_REQUEST_MAX);
	pack_init(&q->pack, &q->pairs);
}

void request_done(struct request *q)
{
	buf_done(&q->pairs);
}

void request_text(struct request *q, const char *key, const char *text)
{
	if (text == NULL)
		return;
	pack_pair_text(&q->pack, key, text);
	q->count++;
}

void request_uint(struct request *q, const char *key, uint64_t n)
{
	pack_pair_uint(&q->pack, key, n);
	q->count++;
}

void request_bool(struct request *q, const char *key, bool value)
{
	pack_pair_bool(&q->pack, key, value);
	q->count++;
}

void request_ids(struct request *q, const char *key, const uint64_t *ids, size_t count)
{
	pack_text(&q->pack, key);
	pack_array(&q->pack, count);
	for (size_t i = 0; i < count; i++)
		pack_uint(&q->pack, ids[i]);
	q->count++;
}

void request_texts(struct request *q, const char *key, const char *const *texts, size_t count)
{
	pack_text(&q->pack, key);
	pack_array(&q->pack, count);
	for (size_t i = 0; i < count; i++)
		pack_text(&q->pack, texts[i]);
	q->count++;
}

int request_frame(const struct request *q, uint64_t id, struct buf *out)
{
	struct pack p;
	size_t at;

	if (q->pairs.error != 0)
		return q->pairs.error;
	at = frame_open(out, &p, verb_info(q->verb)->name, id, q->count);
	pack_raw(&p, buf_span(&q->pairs));
	frame_close(out, at);
	return out->error;
}
