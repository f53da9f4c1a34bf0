/* See sinks.h. */
#include "daemon/forward/sinks.h"

#include "daemon/base/log.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>

enum {
	PIECE_BYTES_MIN = 16 << 10 /* what may go at once, however low the limit */
};

static struct sink *site(const struct sinks *s)
{
	return s->list[0];
}

static struct sink *find_sink(const struct sinks *s, int64_t uid)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->list[i]->uid == uid)
			return s->list[i];
	}
	return NULL;
}

static struct user *find_user(const struct sinks *s, uint32_t uid)
{
	for (size_t i = 0; i < s->user_count; i++) {
		if (s->users[i]->uid == uid)
			return s->users[i];
	}
	return NULL;
}

static double bytes_per_s(const struct sinks *s)
{
	return s->wishes.bytes_per_s >= 0 ? (double)s->wishes.bytes_per_s : s->bytes_per_s;
}

/* An operator's limits go before the settings'. */
static void take_limits(struct sinks *s, struct sink *sink, uint64_t now_ms)
{
	const struct sink_limits limits = {
		.requests_per_s = s->wishes.requests_per_s >= 0 ? (double)s->wishes.requests_per_s
								: s->settings.requests_per_s,
		.bytes_per_s = bytes_per_s(s),
		.are_asked_for = s->wishes.requests_per_s >= 0 || s->wishes.bytes_per_s >= 0,
	};

	sink_limit(sink, &limits, now_ms);
}

static void take_all_limits(struct sinks *s, uint64_t now_ms)
{
	double piece = bytes_per_s(s) / 4; /* a quarter of a second's */

	limit_set(&s->pool.bytes, bytes_per_s(s), piece < PIECE_BYTES_MIN ? PIECE_BYTES_MIN : piece,
		  now_ms);
	for (size_t i = 0; i < s->count; i++)
		take_limits(s, s->list[i], now_ms);
}

/* NULL: no memory. */
static struct sink *add_sink(struct sinks *s, int64_t uid, uint64_t now_ms)
{
	struct sink *sink;

	/* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
	sink = mem_room(s->list, s->count, s->cap) < 0 ? NULL : sink_new(s->id, uid, &s->pool);
	if (sink == NULL)
		return NULL;
	s->list[s->count++] = sink;
	if (s->settings.base_url == NULL)
		return sink; /* the site's, before there are settings */
	sink_set(sink, &s->settings, now_ms);
	take_limits(s, sink, now_ms);
	if (s->wishes.paused_until_us != 0)
		sink_pause(sink, s->wishes.paused_until_us, now_ms);
	return sink;
}

/* A key that cannot be used counts as one: its owner wanted no other. */
static bool has_own_key(const struct sinks *s, uint32_t uid)
{
	struct key key = {.text = ""};
	char error[256];
	int r = key_of_user(&key, s->settings.keys_dir, uid, error);

	key_forget(&key);
	return r != -ENOENT;
}

struct sink *sinks_of(struct sinks *s, uint32_t uid, uint64_t now_ms)
{
	struct sink *own;

	if (!has_own_key(s, uid) && user_rules_find(s->rules, uid).len > 0)
		return site(s);
	own = find_sink(s, uid);
	return own != NULL ? own : add_sink(s, uid, now_ms);
}

static void give_sink(struct sinks *s, struct user *user, struct sink *sink)
{
	user->sink = sink;
	user->is_bound = sink->uid == SINK_SITE;
	user->where = user_rules_find(s->rules, user->uid);
}

bool user_may_write(const struct user *u, const char *entity, const char *project)
{
	return !u->is_bound ||
	       user_rules_match(u->where, entity[0] != '\0' ? entity : u->sink->entity, project);
}

/* --- who is there --- */

static void show_use(struct sinks *s)
{
	for (size_t i = 0; i < s->count; i++) {
		bool in_use = false;

		for (size_t u = 0; u < s->user_count && !in_use; u++)
			in_use = s->users[u]->sink == s->list[i];
		sink_show_use(s->list[i], in_use);
	}
	s->pool.users = s->user_count;
}

struct user *sinks_join(struct sinks *s, uint32_t uid, uint64_t now_ms)
{
	struct user *user = find_user(s, uid);
	struct sink *sink;

	if (user != NULL) {
		user->runs++;
		return user;
	}
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
	user = mem_room(s->users, s->user_count, s->user_cap) < 0 ? NULL
								  : mem_zalloc(sizeof(*user));
	if (user == NULL)
		return NULL;
	sink = sinks_of(s, uid, now_ms);
	if (sink == NULL)
		return mem_free(user);
	*user = (struct user){.uid = uid, .runs = 1};
	give_sink(s, user, sink);
	s->users[s->user_count++] = user;
	show_use(s);
	return user;
}

void sinks_leave(struct sinks *s, struct user *user)
{
	size_t at = 0;

	assert(user->runs > 0);
	if (--user->runs > 0)
		return;
	while (s->users[at] != user)
		at++;
	s->users[at] = s->users[--s->user_count];
	(void)mem_free(user);
	show_use(s);
}

void sinks_look(struct sinks *s, uint32_t uid, uint64_t now_ms)
{
	struct user *user = find_user(s, uid);
	struct sink *sink = sinks_of(s, uid, now_ms);
	struct sink *own = find_sink(s, uid);

	if (s->also != NULL)
		sinks_look(s->also, uid, now_ms);
	if (own != NULL)
		sink_look(own, now_ms);
	if (user == NULL)
		return;
	if (sink == NULL)
		log_warn("sender", "uid=%u out of memory: the runs stay with the key they had",
			 uid);
	else
		give_sink(s, user, sink);
	show_use(s);
}

/* --- all of them --- */

static void drop_unused(struct sinks *s)
{
	size_t kept = 1; /* the site's stays */

	for (size_t i = 1; i < s->count; i++) {
		struct sink *sink = s->list[i];

		if (!sink->board.in_use && sink->in_flight == 0 && sink->uploading == 0 &&
		    sink->checks == NULL)
			(void)sink_free(sink);
		else
			s->list[kept++] = sink;
	}
	s->count = kept;
}

uint64_t sinks_turn(struct sinks *s, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;

	drop_unused(s);
	for (size_t i = 0; i < s->count; i++) {
		uint64_t sink_ms = sink_turn(s->list[i], now_ms);

		next_ms = sink_ms < next_ms ? sink_ms : next_ms;
	}
	return next_ms;
}

void sinks_set(struct sinks *s, const struct sinks_settings *settings, uint64_t now_ms)
{
	s->settings = settings->each;
	s->bytes_per_s = settings->bytes_per_s;
	s->rules = settings->rules;
	for (size_t i = 0; i < s->count; i++)
		sink_set(s->list[i], &s->settings, now_ms);
	take_all_limits(s, now_ms);
	for (size_t i = 0; i < s->user_count; i++)
		sinks_look(s, s->users[i]->uid, now_ms);
}

void sinks_steer(struct sinks *s, const struct sink_info *wishes, uint64_t now_ms)
{
	s->wishes = *wishes;
	take_all_limits(s, now_ms);
	for (size_t i = 0; i < s->count; i++)
		sink_pause(s->list[i], wishes->paused_until_us, now_ms);
}

int sinks_init(struct sinks *s, enum sink_id id, const struct sink_pool *pool)
{
	*s = (struct sinks){
		.id = id, .pool = *pool, .wishes = {.requests_per_s = -1, .bytes_per_s = -1}};
	return add_sink(s, SINK_SITE, 0) == NULL ? -ENOMEM : 0;
}

void sinks_done(struct sinks *s)
{
	for (size_t i = 0; i < s->count; i++)
		(void)sink_free(s->list[i]);
	for (size_t i = 0; i < s->user_count; i++)
		(void)mem_free(s->users[i]);
	s->list = mem_free(s->list);
	s->users = mem_free(s->users);
	s->count = s->user_count = 0;
}
