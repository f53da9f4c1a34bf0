/* msgpack written as text, for tests: JSON, and beyond it NaN, Infinity, -Infinity; numbers with a
 * point or an exponent are doubles, others integers; <c0ffee> are bytes (bin), !c0ffee! is raw
 * msgpack, 'single quotes' do for text. */
#pragma once

#include "proto/mp.h"

/* Replaces what is in room; the cursor is over its bytes. The test fails when it is no such text.
 */
struct mp mp_text(struct buf *room, const char *text);
