/* The connection to the daemon and the thread that keeps it: connects, says hello, sends what is
 * kept, takes acks, begins again. */
#pragma once

#include "client/lib/state.h"

/* Starts the thread. 0, or -errno. */
int link_start(struct wbx *w);
/* Ends it and closes the socket. No lock held. */
void link_stop(struct wbx *w);
/* After something was added: sends it now when that needs no waiting, or leaves it to the thread.
 * No lock held. */
void link_push(struct wbx *w);
/* In a forked child: forgets thread and socket. */
void link_abandon(struct wbx *w);
/* The thread looks at everything soon. */
void link_wake(struct wbx *w);
