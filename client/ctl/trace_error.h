/* The exception of a traced call: JSON text of its type, message and traceback. Pure. */
#pragma once

#include "proto/base/buf.h"

/* "ValueError: no way", on one line, not escaped; the text itself when it is something else. */
void trace_error_add(struct buf *out, const char *exception);
/* The same, and its traceback in lines, each behind `indent`. */
void trace_error_add_lines(struct buf *out, const char *exception, const char *indent);
