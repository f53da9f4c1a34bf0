/* The connection to the daemon and the thread that keeps it: connects, says hello, sends what is
 * kept, takes acks, begins again. */
#pragma once

#include "client/lib/state.h"

/* Starts the thread. 0, or -errno. */
int link_start(struct wbx *w);
/* Ends it and closes the socket. No lock held. */
void link_stop(struct wbx *w);
/* Sends now what can be sent without waiting; the thread does the rest. No lock held. */
void link_push(struct wbx *w);
/* After a record was added: need it not be pushed? While an ack is due a few small ones wait for
 * it, and go together then (they are kept outside the process meanwhile). A daemon that is busy
 * with one wakes up for all of them once, not for each. lock held. */
bool link_may_wait(const struct wbx *w);
/* In a forked child: forgets thread and socket. */
void link_abandon(struct wbx *w);
/* The thread looks at everything soon. */
void link_wake(struct wbx *w);
