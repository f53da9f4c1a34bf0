/* See traceblob.h. msgpack is a stream of tokens, so a value is put back by copying all of them but those
 * that stand for it. */
#include "client/ctl/traceblob.h"

#include "proto/base/mem.h"
#include "proto/mp.h"
#include "proto/pack.h"

#include <errno.h>
#include <string.h>

void traceblobs_done(struct traceblobs *b)
{
	while (b->first != NULL) {
		struct traceblob *gone = b->first;

		b->first = gone->next;
		buf_done(&gone->bytes);
		(void)mem_free(gone);
	}
}

static struct traceblob *find(const struct traceblobs *b, struct span digest)
{
	struct traceblob *t = b->first;

	while (t != NULL &&
	       (digest.len != DIGEST_BYTES || memcmp(t->digest, digest.at, DIGEST_BYTES) != 0))
		t = t->next;
	return t;
}

int traceblobs_add(struct traceblobs *b, struct span digest, uint64_t offset, struct span piece)
{
	struct traceblob *t = find(b, digest);

	if (digest.len != DIGEST_BYTES)
		return 0;
	if (t == NULL) {
		t = mem_zalloc(sizeof(*t));
		if (t == NULL)
			return -ENOMEM;
		memcpy(t->digest, digest.at, DIGEST_BYTES);
		buf_init(&t->bytes, TRACEBLOB_MAX);
		t->next = b->first;
		b->first = t;
	}
	if (offset != t->bytes.len)
		return 0; /* another record names it, too */
	if (piece.len > TRACEBLOB_MAX - t->bytes.len || piece.len > TRACEBLOBS_MAX - b->bytes) {
		t->is_cut = true;
		return 0;
	}
	b->bytes += piece.len;
	return buf_add(&t->bytes, piece.at, piece.len);
}

/* The blob that this map stands for, or NULL. */
static const struct traceblob *stands_for(const struct traceblobs *b, struct mp map, bool *ret_text)
{
	struct span type = mp_get_str(map, "_type");
	struct traceblob *t;

	*ret_text = span_is(type, "text");
	if (!*ret_text && !span_is(type, "msgpack"))
		return NULL;
	t = find(b, mp_get_bin(map, "blob"));
	return t == NULL || t->bytes.len == 0 || (t->is_cut && !*ret_text) ? NULL : t;
}

/* One pass; true when something was put back. */
static bool expand_once(const struct traceblobs *b, struct span value, struct buf *out)
{
	struct mp m = mp_of(value);
	bool has_changed = false;
	struct mp_value v;
	struct pack p;

	pack_init(&p, out);
	while (mp_left(&m) > 0) {
		struct mp before = m;
		const struct traceblob *t;
		bool is_text;

		if (mp_read(&m, &v) < 0)
			break; /* checked when it was stored */
		t = v.type == MP_MAP ? stands_for(b, before, &is_text) : NULL;
		if (t == NULL) {
			(void)buf_add(out, before.at,
				      (size_t)(m.at - before.at)); /* stays in out */
			continue;
		}
		m = before;
		if (mp_skip(&m, NULL) < 0)
			break;
		has_changed = true;
		if (is_text)
			pack_str(&p, buf_span(&t->bytes));
		else
			pack_raw(&p, buf_span(&t->bytes));
	}
	return has_changed;
}

void traceblobs_expand(const struct traceblobs *b, struct span value, struct buf *out)
{
	auto_buf struct buf first = {0};

	buf_init(&first, TRACEBLOBS_MAX);
	if (!expand_once(b, value, &first)) {
		(void)buf_add(out, value.at, value.len); /* errors stay in out */
		return;
	}
	(void)expand_once(b, buf_span(&first), out); /* texts in what was put back; no deeper */
	if (first.error != 0 && out->error == 0)
		out->error = first.error;
}
