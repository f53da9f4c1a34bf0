/* What the rooms files of ingest/ share of the loop. Loop thread. */
#pragma once

#include "daemon/ingest/ingest.h"

#include <uv.h>

struct conn;

uv_loop_t *loop_uv(struct ingest *in);
/* The one buffer that all sockets read into; smaller while the budget for unfinished frames is used
 * up. */
uv_buf_t loop_read_buffer(struct ingest *in);

/* The budget for unfinished frames: a connection's part changes from old_bytes to new_bytes. */
void loop_budget(struct ingest *in, size_t old_bytes, size_t new_bytes);
bool loop_budget_is_kept(const struct ingest *in);
/* While it is exceeded one connection at a time may finish its frame all the same: true when it is
 * c, which keeps the turn until it ends it. */
bool loop_take_turn(struct ingest *in, const struct conn *c);
void loop_end_turn(struct ingest *in, const struct conn *c);

/* Connections, in all and of one uid. */
/* One more: 0; -EUSERS there are enough; -ENOMEM. */
int loop_conn_came(struct ingest *in, uid_t uid);
void loop_conn_gone(struct ingest *in, uid_t uid);
struct conn **loop_conns(struct ingest *in); /* head of the list */
