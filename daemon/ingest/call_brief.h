/* What a list of traced calls says of one record: who, when, how long, score and reason, tokens. Pure.
 * A call's end does not repeat its beginning, so the reader of the list puts the two together. */
#pragma once

#include "proto/pack.h"
#include "proto/record.h"

enum {
	CALL_BRIEF_MAX = 64 << 10 /* bytes that one brief takes, at most */
};

/* Of a record `call` or `feedback`: appends the pairs of a map, counted in *ret_pairs. False: it is of
 * another kind. Errors stay in p's buf. */
bool call_brief_pack(struct pack *p, const struct record *record, size_t *ret_pairs);
