/* One frame's payload, checked: [kind, seq, body] against the table in kind.h and the limits in
 * limits.h. What passes here is stored as it came and may later be read without further checks of
 * form. Any thread. */
#pragma once

#include "proto/kind.h"
#include "proto/mp.h"

/* All spans borrow from the payload. */
struct record {
	enum kind kind; /* KIND_UNKNOWN: seq is valid, the rest is not */
	uint64_t seq;   /* 0 when the kind is not numbered */
	struct span payload;
	struct span body;  /* a map */
	struct span run;   /* run id; .at == NULL when the body has none */
	struct span blobs; /* an array of digests; .at == NULL when the record names no blob */
	uint64_t time_us;  /* `t`, 0 when absent */
};

/* Why a payload was refused: `code` goes to the client and into counters, `text` is for people and
 * names the field. Both are empty when the record is fine. */
struct record_fault {
	const char *code; /* malformed, too_big, unknown_kind, bad_field, missing_field */
	char text[160];
};

/* 0 and *ret; or -EBADMSG and *ret_fault. ret->seq is set in both cases when it could be read, else
 * 0, and ret->kind too. */
int record_parse(struct span payload, struct record *ret, struct record_fault *ret_fault);
/* The same for what the daemon sends to a client. */
int record_parse_answer(struct span payload, struct record *ret, struct record_fault *ret_fault);
/* The same for what is in the store: also what the daemon itself put there. */
int record_parse_stored(struct span payload, struct record *ret, struct record_fault *ret_fault);

/* Field of the body, as mp_find(). */
int record_field(const struct record *r, const char *key, struct mp_value *ret);

/* Digest number i of r->blobs; false when there is none. ret borrows. */
bool record_blob(const struct record *r, uint32_t i, struct span *ret);
uint32_t record_blob_count(const struct record *r);
