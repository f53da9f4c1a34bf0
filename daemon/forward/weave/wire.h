/* Addresses and bodies of W&B's trace server, and what its answers say. Pure. */
#pragma once

#include "daemon/flow/trace.h"

/* Where a line of this kind goes. is_old: a server of before the routes of today. 0, -ENOMEM. */
int trace_wire_url(struct buf *ret, const char *base_url, const char *entity, const char *project,
		   enum trace_line_kind kind, bool is_old);
/* The beginning of a request with several lines, what stands between two, and its end. */
void trace_wire_begin(struct buf *ret, enum trace_line_kind kind, bool is_old);
int trace_wire_add(struct buf *ret, enum trace_line_kind kind, bool is_old, bool is_first,
		   struct span text);
void trace_wire_end(struct buf *ret, enum trace_line_kind kind, bool is_old);
/* Lines of this kind that go into one request: 1 or many. */
unsigned trace_wire_most(enum trace_line_kind kind);
/* The body that uploads a source. */
void trace_wire_file(struct buf *ret, const char *entity, const char *project, struct span source);
extern const char trace_wire_file_type[]; /* Content-Type: ... */

/* Which item of a batch a 422 complains of; -1: it does not say. */
int64_t trace_wire_culprit(struct span answer);
/* It says that there is no such route, so an older server; that a project wants the routes of today. */
bool trace_wire_is_old(struct span answer);
bool trace_wire_wants_new(struct span answer);
/* The reason in words, cut. */
void trace_wire_reason(struct span answer, char *ret, size_t size);
/* The digest that a created table got. False: it says none. */
bool trace_wire_digest(struct span answer, char *ret, size_t size);
