/* A client's socket: bytes in, bytes out, and who is at the other end. What the bytes mean is the
 * session's business. Loop thread.
 *
 *   open ⇄ held ──▶ closing (freed when libuv has closed the handle)
 *
 * A write that fails ends nothing: what the client sent before it died is still read to the end. */
#pragma once

#include "daemon/ingest/listener.h"
#include "daemon/ingest/session.h"

#include <uv.h>

struct conn;

/* Accepts from a listening pipe. 0, or -errno: the client is sent away. */
int conn_accept(struct ingest *ingest, struct listener *listener);
/* Looks at its clocks: a hello, or the rest of a frame, that does not come. */
void conn_tick(struct conn *c, uint64_t now_ms);
/* Reads no more; what it has is left unacknowledged. */
void conn_stop_reading(struct conn *c);
/* Ends it; the session first. */
void conn_close(struct conn *c);
/* Neighbours in the list of all. */
struct conn *conn_next(const struct conn *c);
