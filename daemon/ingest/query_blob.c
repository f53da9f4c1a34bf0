/* See query_parts.h: the bytes of one blob, by its digest (in hex), piece by piece: items {"bytes"}.
 * Who logged it may have it. */
#include "daemon/ingest/query_parts.h"

#include "daemon/ingest/answer.h"
#include "proto/frame.h"
#include "proto/limits.h"

#include <errno.h>

enum {
	PIECE_BYTES = 256 << 10
};

static int digit(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool digest_of(struct span hex, uint8_t ret[DIGEST_BYTES])
{
	if (hex.at == NULL || hex.len != (size_t)2 * DIGEST_BYTES)
		return false;
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		int high = digit(hex.at[2 * i]);
		int low = digit(hex.at[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

struct search {
	const struct query *q;
	bool may_see;
};

static int on_uid(void *arg, uint32_t uid)
{
	struct search *s = arg;

	s->may_see |= query_may_see(s->q, uid);
	return 0;
}

/* A piece from q->after on. */
static int hand_out(struct query *q, struct reader *reader, struct span digest)
{
	auto_buf struct buf piece;
	struct pack p;
	size_t at;
	int r;

	buf_init(&piece, PIECE_BYTES);
	r = buf_reserve(&piece, PIECE_BYTES);
	if (r == 0)
		r = reader_blob(reader, digest, q->after, piece.data, PIECE_BYTES, &piece.len);
	if (r < 0)
		return r;
	q->after += (int64_t)piece.len;
	if (piece.len > 0) {
		at = frame_open(&q->out, &p, "item", q->id, 1);
		pack_pair_bin(&p, "bytes", buf_span(&piece));
		frame_close(&q->out, at);
	}
	q->more = piece.len == PIECE_BYTES;
	if (!q->more)
		answer_done(&q->out, q->id, q->after);
	return 0;
}

int query_blob(struct query *q, struct reader *reader)
{
	uint8_t digest[DIGEST_BYTES];
	struct span span = {.at = digest, .len = sizeof(digest)};
	struct search s = {.q = q};
	int r;

	if (!digest_of(mp_get_str(mp_of(buf_span(&q->args)), "sha256"), digest)) {
		answer_error(&q->out, q->id, "usage", "which blob? `sha256` is its digest in hex");
		return 0;
	}
	if (q->after == 0) {
		r = reader_blob_uids(reader, span, on_uid, &s);
		if (r < 0)
			return r;
		if (!s.may_see) {
			answer_error(&q->out, q->id, "not_found",
				     "its bytes are not in this store any more (store.keep, "
				     "store.keep_age), or not yours");
			return 0;
		}
	}
	r = hand_out(q, reader, span);
	if (r == -ENOENT && q->after > 0) {
		answer_error(&q->out, q->id, "removed", "it was removed meanwhile");
		return 0;
	}
	return r;
}
