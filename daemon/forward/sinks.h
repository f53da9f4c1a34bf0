/* Everybody who has runs, and the sink that each one's runs go through. Who handed over a key of his
 * own has a sink of his own; the others share the site's, as far as [users] lets them; who has
 * neither waits in a sink of his own without a key. Sinks are made when somebody needs them and
 * freed when nobody does. Sender thread only. */
#pragma once

#include "daemon/flow/reader.h"
#include "daemon/flow/user_rules.h"
#include "daemon/forward/sink.h"

/* Borrowed by his runs for as long as they are there. */
struct user {
	uint32_t uid;
	struct sink *sink; /* may become another, when a key comes or goes */
	size_t runs;       /* that are open */
	uint64_t served;   /* number of the last request of his, of all */
	bool is_bound;     /* the key is the site's: he may write to `where` only */
	struct span where; /* borrowed from the rules */
};

struct sinks {
	enum sink_id id;
	struct sink_pool pool;
	struct sink_settings settings;
	const struct user_rules *rules;
	double bytes_per_s;
	struct sink_info wishes; /* of operators */
	struct user **users;
	size_t user_count;
	size_t user_cap;
	struct sink **list; /* the site's first */
	size_t count;
	size_t cap;
	struct sinks *also; /* of another service under the same keys: looks for them, too; NULL */
};

/* pool: http, stats, and the callbacks. 0, or -ENOMEM. */
int sinks_init(struct sinks *s, enum sink_id id, const struct sink_pool *pool);
/* After http, so that nothing is in flight. Not while anybody waits for a check. */
void sinks_done(struct sinks *s);

struct sinks_settings {
	struct sink_settings each;
	double bytes_per_s;             /* of all together; 0: no limit */
	const struct user_rules *rules; /* borrowed, as texts are */
};
/* Takes settings, also later; looks for keys anew. */
void sinks_set(struct sinks *s, const struct sinks_settings *settings, uint64_t now_ms);
/* What operators asked for, as the store has it: a pause, and limits in place of those set. */
void sinks_steer(struct sinks *s, const struct sink_info *wishes, uint64_t now_ms);
/* Does what is due. Returns when it wants to be called again. */
uint64_t sinks_turn(struct sinks *s, uint64_t now_ms);

/* The user with one run more. NULL: no memory. */
struct user *sinks_join(struct sinks *s, uint32_t uid, uint64_t now_ms);
void sinks_leave(struct sinks *s, struct user *user);
/* The sink that runs of this user go through, or would. NULL: no memory. */
struct sink *sinks_of(struct sinks *s, uint32_t uid, uint64_t now_ms);
/* May his runs be written there, under the key that they have? entity "": the default of that key,
 * which is known once the gate is open. */
bool user_may_write(const struct user *u, const char *entity, const char *project);
/* A key of his came, changed or went. */
void sinks_look(struct sinks *s, uint32_t uid, uint64_t now_ms);
