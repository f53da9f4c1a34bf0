/* The JSON of wbxctl status: one object, keys only ever added (schema 1). Pure. */
#pragma once

#include "client/ctl/judge.h"

/* One line. Errors stay in out. */
void report_add(struct buf *out, const struct facts *f, const struct judgement *j);
