/* Everybody who has runs, and the sink that each one's runs go through. Who handed over a key of his
 * own has a sink of his own; the others share the site's. Sinks are made when somebody needs them
 * and freed when nobody does. Sender thread only. */
#pragma once

#include "daemon/forward/sink.h"

/* Borrowed by his runs for as long as they are there. */
struct user {
	uint32_t uid;
	struct sink *sink; /* may become another, when a key comes or goes */
	size_t runs;       /* that are open */
	uint64_t served;   /* number of the last request of his, of all */
};

struct sinks {
	struct sink_pool pool;
	struct sink_settings settings;
	int64_t paused_until_us;
	struct user **users;
	size_t user_count;
	size_t user_cap;
	struct sink **list; /* the site's first */
	size_t count;
	size_t cap;
};

/* pool: http, stats, and the callbacks. 0, or -ENOMEM. */
int sinks_init(struct sinks *s, const struct sink_pool *pool);
/* After http, so that nothing is in flight. Not while anybody waits for a check. */
void sinks_done(struct sinks *s);

/* Takes settings, also later (texts are borrowed); looks for keys anew. bytes_per_s: of all sinks
 * together, 0: no limit. */
void sinks_set(struct sinks *s, const struct sink_settings *settings, double bytes_per_s,
	       uint64_t now_ms);
void sinks_pause(struct sinks *s, int64_t until_us, uint64_t now_ms);
void sinks_retry(struct sinks *s, uint64_t now_ms);
/* Does what is due. Returns when it wants to be called again. */
uint64_t sinks_turn(struct sinks *s, uint64_t now_ms);

/* The user with one run more. NULL: no memory. */
struct user *sinks_join(struct sinks *s, uint32_t uid, uint64_t now_ms);
void sinks_leave(struct sinks *s, struct user *user);
/* The sink that runs of this user go through, or would. NULL: no memory. */
struct sink *sinks_of(struct sinks *s, uint32_t uid, uint64_t now_ms);
/* A key of his came, changed or went. */
void sinks_look(struct sinks *s, uint32_t uid, uint64_t now_ms);
