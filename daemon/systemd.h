/* The two small protocols of systemd: sockets that it passes on, and messages about our state
 * (sd_listen_fds(3), sd_notify(3)); ours, because libsystemd brings three compression libraries
 * into a daemon on the network. Main thread, before others start, but for systemd_notify(), which
 * any thread may call. */
#pragma once

#include <stdint.h>

/* The inherited listening socket with this name (FileDescriptorName=), or -1. */
int systemd_listen_fd(const char *name);
/* Sends e.g. "READY=1\nSTATUS=..."; does nothing when systemd did not start us. */
void systemd_notify(const char *message);
/* How often at most systemd wants to hear WATCHDOG=1 (sd_watchdog_enabled(3)); 0: never. */
uint64_t systemd_watchdog_ms(void);
