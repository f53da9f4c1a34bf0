/* The sender: a thread that plans and sends what the store has. Neighbours: the store, which
 * commits plans and marks; the worker, which renders; the loop, whose operators give orders. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/base/stats.h"
#include "daemon/flow/artifact.h"
#include "daemon/flow/sample_rules.h"
#include "daemon/flow/send_rules.h"
#include "daemon/flow/user_rules.h"

#include <stdbool.h>
#include <stdint.h>

struct sender;

enum {
	SENDER_TEXT_MAX = 1024
};

/* Copied. */
struct sender_settings {
	char base_url[SENDER_TEXT_MAX];
	char weave_url[SENDER_TEXT_MAX]; /* of the trace server */
	char key_file[SENDER_TEXT_MAX];  /* "": none */
	char ca_file[SENDER_TEXT_MAX];
	char proxy[SENDER_TEXT_MAX];
	uint64_t interval_ms;
	uint64_t heartbeat_ms;
	int64_t merge_max_us;
	uint64_t self_report_ms; /* 0: none */
	enum table_artifacts tables;
	uint64_t connect_timeout_ms;
	uint64_t stall_timeout_ms;
	uint64_t backoff_max_ms;
	double requests_per_s; /* 0: no limit */
	double bytes_per_s;
	uint64_t body_max;
	struct send_tables_rule send_tables;
	struct send_hours upload_hours;
	double upload_bytes_per_s; /* 0: no limit of their own */
	struct user_rules users;
	struct sample_rules sampling;
};

struct sender_neighbours {
	const char *store_dir; /* borrowed for the sender's life */
	struct mailbox *store_changes;
	struct mailbox *worker;
	struct stats *stats;
	struct mailbox *loop; /* notices go there (flow/notice.h); NULL: nobody wants them */
};

/* Makes the sender and starts its thread. 0, or -errno. */
int sender_start(struct sender **ret, const struct sender_settings *settings,
		 const struct sender_neighbours *neighbours);
/* Ends the thread; requests under way are aborted (what they carried is sent again after the next
 * start). Mails that other threads have still come to its box. */
void sender_stop(struct sender *s);
/* After the threads that may have mails of it have ended. Returns NULL. */
struct sender *sender_free(struct sender *s);

/* Where orders (flow/order.h) go; never full. */
struct mailbox *sender_box(struct sender *s);
/* Something was committed. Any thread. */
void sender_wake(struct sender *s);
/* New settings; the key is looked for again. Any one thread at a time. 0, or -ENOMEM. */
int sender_reload(struct sender *s, const struct sender_settings *settings);
