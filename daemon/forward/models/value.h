/* msgpack values as JSON text. Numbers, text and lists as W&B's own client writes them; bytes as
 * base64, extension types as null, keys that are no text as text. Iterative; any thread. */
#pragma once

#include "proto/base/json.h"
#include "proto/mp.h"

enum value_style {
	VALUE_HISTORY, /* NaN and infinities as the bare tokens that W&B takes */
	VALUE_CONFIG,  /* NaN and infinities as null */
};

/* Writes the value at the cursor and moves behind it. 0, or -EBADMSG: not a value (nothing that was
 * stored is). */
int value_to_json(struct json *j, struct mp *m, enum value_style style);
/* Takes a map's key as text: strings as they are, whole numbers in digits, others by a fixed word.
 * Borrows from the input or from room. 0, or -EBADMSG. */
int value_take_key(struct mp *m, char room[JSON_DOUBLE_MAX], struct span *ret);
