/* Starts the user's own daemon when there is none: found and serialised by a lock file, detached,
 * ends by itself after 10 idle minutes. */
#pragma once

#include "client/lib/state.h"

/* On the library's thread; waits until the daemon listens or has failed (some seconds at most), and
 * tells the user. */
void spawn_daemon(struct wbx *w);
