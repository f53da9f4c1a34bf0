/* A stored record as one line for people: time, run, kind, seq, what it holds. Pure, but for the
 * time zone. */
#pragma once

#include "proto/base/buf.h"

/* record is [kind, seq, body]. Appends the line, without its end, cut to `columns` of the terminal
 * (SIZE_MAX: not, but for very many keys). Errors stay in out; -EBADMSG: not a record. */
int line_add(struct buf *out, struct span record, size_t columns);
/* The same as one JSON object with its lsn, and the line's end. */
int line_add_json(struct buf *out, int64_t lsn, struct span record);
