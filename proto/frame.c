/* See frame.h. */
#include "proto/frame.h"

#include "proto/mp.h"

#include <assert.h>
#include <errno.h>

enum {
	BIN8 = 0xc4,
	BIN16 = 0xc5,
	BIN32 = 0xc6
};

static void put_u32(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 24);
	at[1] = (uint8_t)(v >> 16);
	at[2] = (uint8_t)(v >> 8);
	at[3] = (uint8_t)v;
}

static void put_u64(uint8_t *at, uint64_t v)
{
	put_u32(at, (uint32_t)(v >> 32));
	put_u32(at + 4, (uint32_t)v);
}

enum frame_status frame_next(struct span in, size_t max_payload, struct span *ret_payload,
			     size_t *ret_size)
{
	size_t head;
	uint64_t len = 0;

	if (in.len == 0)
		return FRAME_NEED_MORE;
	switch (in.at[0]) {
	case BIN8: head = 2; break;
	case BIN16: head = 3; break;
	case BIN32: head = 5; break;
	default: return FRAME_BAD;
	}
	if (in.len < head)
		return FRAME_NEED_MORE;
	for (size_t i = 1; i < head; i++)
		len = len << 8 | in.at[i];
	if (len > max_payload)
		return FRAME_TOO_BIG;
	if (len > in.len - head)
		return FRAME_NEED_MORE;
	*ret_payload = (struct span){.at = in.at + head, .len = (size_t)len};
	*ret_size = head + (size_t)len;
	return FRAME_READY;
}

int frame_parts(struct span payload, struct frame_parts *ret)
{
	struct mp m = mp_of(payload);
	struct mp_value head;
	struct mp_value kind;
	struct mp_value seq;
	struct span body;

	if (mp_read(&m, &head) < 0 || head.type != MP_ARRAY || head.count < 3 ||
	    mp_read(&m, &kind) < 0 || kind.type != MP_STR || mp_read(&m, &seq) < 0 ||
	    seq.type != MP_UINT || mp_take(&m, &body) < 0)
		return -EBADMSG;
	*ret = (struct frame_parts){.kind = kind.bytes, .seq = seq.natural, .body = body};
	return 0;
}

size_t frame_open(struct buf *out, struct pack *ret_pack, const char *kind, uint64_t seq,
		  size_t pairs)
{
	static const uint8_t head[FRAME_HEAD] = {BIN32};
	uint8_t wide_seq[9] = {0xcf}; /* uint 64 */
	size_t at = out->len;

	put_u64(wide_seq + 1, seq);
	(void)buf_add(out, head, sizeof(head)); /* the length comes in frame_close() */
	pack_init(ret_pack, out);
	pack_array(ret_pack, 3);
	pack_text(ret_pack, kind);
	(void)buf_add(out, wide_seq, sizeof(wide_seq));
	pack_map(ret_pack, pairs);
	return at;
}

void frame_set_length(uint8_t head[FRAME_HEAD], size_t len)
{
	assert(len <= UINT32_MAX);
	put_u32(head + 1, (uint32_t)len);
}

void frame_close(struct buf *out, size_t at)
{
	if (out->error != 0)
		return;
	assert(out->len >= at + FRAME_HEAD);
	frame_set_length(out->data + at, out->len - at - FRAME_HEAD);
}

int frame_add(struct buf *out, struct span payload)
{
	uint8_t head[FRAME_HEAD] = {BIN32};

	frame_set_length(head, payload.len);
	(void)buf_add(out, head, sizeof(head)); /* the next call reports it */
	return buf_add(out, payload.at, payload.len);
}
