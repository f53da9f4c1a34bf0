/* What monitors ask over HTTP, on this machine only: /metrics (Prometheus), /healthz (the loop
 * turns), /readyz (records are taken). And the same metrics as a file, written anew by rename every
 * MONITOR_FILE_MS, for node_exporter. One GET a connection, MONITOR_CLIENTS_MAX at a time, the rest
 * wait in the kernel; who is not done after MONITOR_CLIENT_MS is cut off. Loop thread. */
#pragma once

#include "daemon/ingest/exposition.h"
#include "daemon/ingest/listener.h"

enum {
	MONITOR_CLIENTS_MAX = 8,
	MONITOR_CLIENT_MS = 10000,
	MONITOR_FILE_MS = 15000,
	MONITOR_STUCK_MS = 30000, /* a step of the store that takes longer is not ready */
};

struct monitor;

struct monitor_settings {
	const char *listen; /* 127.0.0.1:PORT, [::1]:PORT, or the path of a socket; "": no page */
	const char *file;   /* "": none */
	struct mailbox *worker;
	struct mailbox *replies; /* the loop's box */
	/* Fills what only the loop knows. */
	void (*fill_facts)(void *arg, struct query_facts *ret);
	void *arg;
};

/* Listens. 0, or -errno with a sentence, -EADDRINUSE above all; *ret is then to be freed as well,
 * once the loop has closed its handles. Settings' texts are borrowed. */
int monitor_new(struct monitor **ret, uv_loop_t *loop, const struct monitor_settings *settings,
		char ret_error[256]);
/* Only when monitor_is_idle(). Removes the file. NULL is fine, here and below. */
struct monitor *monitor_free(struct monitor *m);
/* Once a second. */
void monitor_tick(struct monitor *m, uint64_t now_ms);
/* A mail that came back. */
void monitor_on_exposition(struct monitor *m, struct exposition *e);
/* Listens no more and ends every connection; what the worker has still comes back. */
void monitor_stop(struct monitor *m);
bool monitor_is_idle(const struct monitor *m);
