/* The control socket: who asks, whether they may, and which thread answers. One request of a
 * connection is worked on at a time; a long answer goes out slice by slice, as fast as the asker
 * reads. Loop thread. */
#pragma once

#include "daemon/flow/order.h"
#include "daemon/ingest/listener.h"
#include "daemon/ingest/query.h"

struct ingest;
struct control;
struct changes;

struct control_settings {
	uid_t own_uid;
	gid_t admin_gid;
	struct mailbox *worker;
	struct mailbox *sender; /* NULL: no sender */
	struct mailbox *store_changes;
	struct mailbox *replies; /* the loop's box */
	/* Fills what only the loop knows. */
	void (*fill_facts)(void *arg, struct query_facts *ret);
	void *arg;
};

struct control *control_new(uv_loop_t *loop,
			    const struct control_settings *settings); /* NULL: no memory */
/* Only when control_is_idle(). */
struct control *control_free(struct control *c);
/* A client connected to l. */
void control_accept(struct control *c, struct listener *l);
/* Ends every connection; what other threads work on still comes back. */
void control_stop(struct control *c);
bool control_is_idle(const struct control *c);
/* Something was committed: those who follow may go on. */
void control_on_commit(struct control *c);
/* Mails that came back. */
void control_on_query(struct control *c, struct query *q);
void control_on_order(struct control *c, struct order *o);
void control_on_changes(struct control *c, struct changes *list);
unsigned control_clients(const struct control *c);
