/* The frame of both sockets: a msgpack `bin` object whose length is known before its bytes, holding
 * one array [kind, seq, body]. Reading accepts bin 8, 16 and 32; writing always uses bin 32 and a
 * 64-bit seq, so that both stand at fixed places. PROTOCOL.md section 2. Any thread. */
#pragma once

#include "proto/base/buf.h"
#include "proto/pack.h"

enum {
	FRAME_HEAD = 5
}; /* bytes before the payload, as we write them */

enum frame_status {
	FRAME_READY,
	FRAME_NEED_MORE, /* the input ends inside a frame, or is empty */
	FRAME_TOO_BIG,   /* the length is above max: known from the first 5 bytes */
	FRAME_BAD,       /* not a bin object */
};

/* Looks at the start of `in`. FRAME_READY: *ret_payload borrows from `in`, *ret_size is what the
 * whole frame takes. Otherwise both stay untouched. */
enum frame_status frame_next(struct span in, size_t max_payload, struct span *ret_payload,
			     size_t *ret_size);

/* What a payload holds; borrowed. */
struct frame_parts {
	struct span kind;
	uint64_t seq; /* control requests: the question's id */
	struct span body;
};
/* 0, or -EBADMSG: it is not [string, natural number, anything ...]. */
int frame_parts(struct span payload, struct frame_parts *ret);

/* Begins a frame [kind, seq, {pairs ...}] at the end of `out` and readies *ret_pack for the pairs;
 * frame_close() with the returned position writes the length. Errors stay in the buf. */
size_t frame_open(struct buf *out, struct pack *ret_pack, const char *kind, uint64_t seq,
		  size_t pairs);
/* The length of a payload that begins in one buffer and goes on elsewhere. */
void frame_set_length(uint8_t head[FRAME_HEAD], size_t len);
void frame_close(struct buf *out, size_t at);

/* A frame around a payload that exists already. */
int frame_add(struct buf *out, struct span payload);
