/* What the rooms files of ingest/ share of the loop. Loop thread. */
#pragma once

#include "daemon/ingest/ingest.h"

#include <uv.h>

struct conn;

uv_loop_t *loop_uv(struct ingest *in);
/* What the loop knows of one user; there for as long as a connection of his is. */
struct loop_user;

/* The one buffer that all sockets read into; smaller while the budget for unfinished frames, or this
 * user's share of it, is used up. */
uv_buf_t loop_read_buffer(struct ingest *in, const struct loop_user *u);

/* The budget for unfinished frames: a connection's part changes from old_bytes to new_bytes. */
void loop_budget(struct ingest *in, struct loop_user *u, size_t old_bytes, size_t new_bytes);
bool loop_budget_is_kept(const struct ingest *in, const struct loop_user *u);
/* While it is exceeded one connection at a time may finish its frame all the same, while a user's
 * share is one of his: true when it is c, which keeps the turn until it ends it. */
bool loop_take_turn(struct ingest *in, struct loop_user *u, const struct conn *c);
void loop_end_turn(struct ingest *in, struct loop_user *u, const struct conn *c);

/* Connections, in all and of one uid. */
/* One more: 0 and whose; -EUSERS there are enough; -ENOMEM. */
int loop_conn_came(struct ingest *in, uid_t uid, struct loop_user **ret);
void loop_conn_gone(struct ingest *in, struct loop_user *u);
struct conn **loop_conns(struct ingest *in); /* head of the list */
