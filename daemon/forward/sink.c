/* See sink.h: the gate, the key, and whose it is. */
#include "daemon/forward/sink_parts.h"

#include "daemon/base/log.h"
#include "daemon/forward/models/wire.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	URL_MAX = 4096
};

static const uint32_t NOBODY = UINT32_MAX; /* no user has that uid */

void sink_publish(struct sink *s)
{
	stats_set_sink(s->pool->stats, s->shown, &s->board);
}

void sink_show(struct sink *s, enum sink_mood mood, uint64_t now_ms)
{
	if (s->paused_until_us != 0)
		mood = MOOD_PAUSED;
	if (s->board.mood != mood) {
		s->board.mood = mood;
		s->board.since_ms = now_ms;
		log_info("sender", "sink=%s state=\"%s\"", s->title, sink_mood_name(mood));
	}
	sink_publish(s);
}

void sink_move(struct sink *s, enum gate to, uint64_t now_ms)
{
	static const char *const names[] = {"no key", "ask", "open"};

	log_debug("sender", "sink=%s from=%s to=%s", s->title, names[s->gate], names[to]);
	s->gate = to;
	switch (to) {
	case GATE_NO_KEY:
		sink_show(s, MOOD_NO_KEY, now_ms);
		s->pool->on_asked(s->pool->arg, s);
		return;
	case GATE_ASK: sink_publish(s); return;
	case GATE_OPEN:
		s->attempt = 0;
		s->key_is_refused = false;
		s->is_wanted = false;
		s->pool->on_open(s->pool->arg);
		return;
	}
}

/* --- the key --- */

static void take_key(struct sink *s, const struct key *found, uint64_t now_ms)
{
	size_t len = strlen(found->text);

	s->key = *found;
	s->key_is_refused = false;
	s->attempt = 0;
	s->asked_of_old = s->asking;
	s->next_ask_ms = now_ms;
	(void)snprintf(s->board.source, sizeof(s->board.source), "%s",
		       found->source); /* may be cut */
	(void)snprintf(s->board.key_tail, sizeof(s->board.key_tail), "%s",
		       len < 4 ? "" : found->text + len - 4); /* four characters */
	s->board.user[0] = '\0';
	s->entity[0] = '\0';
	s->knows_features = false;
	s->knows_artifact_tags = false;
	if (len == 0) {
		sink_move(s, GATE_NO_KEY, now_ms);
		return;
	}
	log_info("sender", "sink=%s a key is there, from %s", s->title, found->source);
	sink_move(s, GATE_ASK, now_ms);
}

static int find_key(const struct sink *s, struct key *ret, char ret_error[256])
{
	int r;

	if (s->uid == SINK_SITE)
		return key_find(ret, s->settings.key_file, s->settings.base_url, ret_error);
	r = key_of_user(ret, s->settings.keys_dir, (uint32_t)s->uid, ret_error);
	return r == -ENOENT ? 0 : r; /* he has none now */
}

void sink_look(struct sink *s, uint64_t now_ms)
{
	struct key found = {.text = ""};
	char error[256] = "out of memory";
	int r = find_key(s, &found, error);

	s->next_look_ms = now_ms + SINK_KEY_LOOK_MS;
	if (r < 0) {
		(void)snprintf(s->board.last_error, sizeof(s->board.last_error), "%.150s", error);
		log_warn("sender", "sink=%s %s", s->title, error);
	}
	if (!key_equal(&found, &s->key))
		take_key(s, &found, now_ms);
	else
		sink_publish(s);
	key_forget(&found);
}

/* --- who am I --- */

void sink_note_error(struct sink *s, const struct http_answer *a)
{
	char reason[WIRE_REASON_MAX];

	s->board.http_status = a->status;
	if (a->transport != TRANSPORT_ANSWERED) {
		(void)snprintf(s->board.last_error, sizeof(s->board.last_error), "%s", a->error);
		return;
	}
	wire_reason(a->body, reason);
	(void)snprintf(s->board.last_error, sizeof(s->board.last_error), "HTTP %d: %.130s",
		       a->status, reason);
}

void sink_ask_later(struct sink *s, uint64_t wait_ms, uint64_t now_ms)
{
	s->next_ask_ms = now_ms + wait_ms;
	s->board.next_try_ms = s->next_ask_ms;
	s->board.tries = s->attempt;
	sink_publish(s);
}

static void key_refused(struct sink *s, const struct http_answer *a, uint64_t now_ms)
{
	uint64_t wait_ms = SINK_KEY_PROBE_MS;

	for (unsigned i = 1; i < s->attempt && wait_ms < SINK_KEY_PROBE_MAX_MS; i++)
		wait_ms *= 2;
	if (!s->key_is_refused)
		log_error("sender",
			  "sink=%s http=%d W&B refuses the key; everything waits here until it "
			  "is replaced",
			  s->title, a->status);
	s->key_is_refused = true;
	sink_note_error(s, a);
	sink_show(s, MOOD_REFUSED_KEY, now_ms);
	sink_ask_later(s, wait_ms < SINK_KEY_PROBE_MAX_MS ? wait_ms : SINK_KEY_PROBE_MAX_MS,
		       now_ms);
}

/* Something answers that is not W&B: a captive portal, a proxy, another path than base_url's. */
static void strange_answer(struct sink *s, const struct http_answer *a, uint64_t now_ms)
{
	sink_note_error(s, a);
	sink_show(s, MOOD_SERVER_ERROR, now_ms);
	sink_ask_later(s, retry_backoff_ms(s->attempt, s->settings.backoff_max_ms, &s->jitter),
		       now_ms);
}

static void known(struct sink *s, const struct wire_user *user, uint64_t now_ms)
{
	(void)snprintf(s->board.user, sizeof(s->board.user), "%s", user->name); /* same size */
	(void)snprintf(s->entity, sizeof(s->entity), "%s", user->entity);
	/* the API host says whose the key is; how the trace server is, its own answers say */
	if (s->id == SINK_MODELS)
		s->board.last_ok_ms = now_ms;
	if (s->id == SINK_MODELS || s->board.mood == MOOD_OK)
		sink_show(s, MOOD_OK, now_ms);
	else if (s->board.mood == MOOD_REFUSED_KEY || s->board.mood == MOOD_NO_KEY)
		sink_show(s, MOOD_UNTRIED, now_ms);
	sink_move(s, GATE_OPEN, now_ms);
}

static void take_answer(struct sink *s, const struct http_answer *a)
{
	struct retry_facts facts = {
		.endpoint = ENDPOINT_GRAPHQL, .attempt = s->attempt, .parts = 1};
	struct wire_user user = {.name = ""};
	uint64_t now_ms = clock_mono_ms();
	int r = wire_read_viewer(a->body, &user);
	struct retry_verdict v;

	s->asking = false;
	if (s->gate != GATE_ASK || s->asked_of_old) {
		s->asked_of_old = false;
		return; /* the key went meanwhile */
	}
	facts.has_errors = r == -EREMOTEIO;
	v = sink_judge(s, a, &facts, now_ms);
	if (a->transport == TRANSPORT_ANSWERED && a->status < 300 && r == -EBADMSG) {
		strange_answer(s, a, now_ms);
		return;
	}
	switch (v.action) {
	case RETRY_URL: /* of a storage alone */
	case RETRY_AGAIN: sink_ask_later(s, v.wait_ms, now_ms); return;
	case RETRY_KEY: key_refused(s, a, now_ms); return;
	case RETRY_REFUSED:
		if (r == -EREMOTEIO && a->status < 300) {
			key_refused(s, a, now_ms); /* nobody is logged in */
			return;
		}
		known(s, &user, now_ms); /* a server that does not know the question */
		return;
	case RETRY_PARK_RUN: strange_answer(s, a, now_ms); return; /* 404: not each run's fault */
	case RETRY_SENT:
	case RETRY_SPLIT: known(s, &user, now_ms); return;
	}
}

static void on_viewer(void *arg, struct sink *s, const struct http_answer *a)
{
	bool was_old = s->asked_of_old;

	(void)arg; /* the sink */
	take_answer(s, a);
	if (!was_old)
		s->pool->on_asked(s->pool->arg, s);
}

static void ask_who(struct sink *s, uint64_t now_ms)
{
	struct buf url;
	struct buf body;

	buf_init(&url, URL_MAX);
	buf_init(&body, URL_MAX);
	wire_viewer(&body);
	s->attempt++;
	s->next_ask_ms = UINT64_MAX;
	if (wire_graphql_url(&url, s->settings.base_url) < 0 || body.error != 0) {
		buf_done(&body);
		sink_ask_later(s, s->settings.backoff_max_ms, now_ms);
	} else {
		s->in_flight++;
		s->asking = sink_post(s, NOBODY, (const char *)url.data, &body, on_viewer, s) == 0;
		if (!s->asking)
			sink_ask_later(s, s->settings.backoff_max_ms, now_ms);
	}
	buf_done(&url);
}

/* --- turns --- */

static void end_pause(struct sink *s, uint64_t now_ms)
{
	if (s->paused_until_us <= 0 || (int64_t)clock_wall_us() < s->paused_until_us)
		return;
	sink_pause(s, 0, now_ms);
}

static bool has_to_ask(const struct sink *s)
{
	return s->gate == GATE_ASK && !s->asking && (s->is_wanted || s->id == SINK_MODELS);
}

bool sink_want(struct sink *s)
{
	bool was_wanted = s->is_wanted;

	s->is_wanted = true;
	return !was_wanted;
}

uint64_t sink_turn(struct sink *s, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;

	end_pause(s, now_ms);
	if ((s->gate == GATE_NO_KEY || s->key_is_refused) && now_ms >= s->next_look_ms)
		sink_look(s, now_ms);
	if (has_to_ask(s) && s->paused_until_us == 0 && now_ms >= s->next_ask_ms)
		ask_who(s, now_ms);
	if (s->gate == GATE_NO_KEY || s->key_is_refused)
		next_ms = s->next_look_ms;
	if (has_to_ask(s) && s->next_ask_ms < next_ms)
		next_ms = s->next_ask_ms;
	if (s->paused_until_us > 0 && now_ms + 1000 < next_ms)
		next_ms = now_ms + 1000; /* by the wall clock, which may jump */
	return next_ms;
}

void sink_set(struct sink *s, const struct sink_settings *settings, uint64_t now_ms)
{
	s->settings = *settings;
	sink_look(s, now_ms);
	if (s->gate == GATE_NO_KEY)
		sink_show(s, MOOD_NO_KEY, now_ms);
	if (s->gate == GATE_ASK)
		sink_retry(s, now_ms);
}

void sink_limit(struct sink *s, const struct sink_limits *limits, uint64_t now_ms)
{
	/* one request may always go at once */
	limit_set(&s->requests, limits->requests_per_s,
		  limits->requests_per_s < 1 ? 1 : limits->requests_per_s, now_ms);
	s->board.limits = *limits;
	sink_publish(s);
}

void sink_pause(struct sink *s, int64_t until_us, uint64_t now_ms)
{
	bool was_paused = s->paused_until_us != 0;

	s->paused_until_us = until_us;
	if (until_us != 0) {
		sink_show(s, MOOD_PAUSED, now_ms);
		if (!s->asking)
			s->pool->on_asked(s->pool->arg, s);
	} else if (was_paused) {
		sink_show(s,
			  s->gate == GATE_NO_KEY ? MOOD_NO_KEY
			  : s->key_is_refused    ? MOOD_REFUSED_KEY
						 : MOOD_UNTRIED,
			  now_ms);
		if (s->gate == GATE_OPEN)
			s->pool->on_open(s->pool->arg);
	}
}

void sink_retry(struct sink *s, uint64_t now_ms)
{
	s->attempt = s->asking ? 1 : 0;
	s->next_look_ms = now_ms;
	if (!s->asking)
		s->next_ask_ms = now_ms;
}

bool sink_ask(struct sink *s, uint64_t now_ms)
{
	sink_look(s, now_ms);
	if (s->gate == GATE_NO_KEY || s->paused_until_us != 0)
		return false;
	if (s->gate == GATE_OPEN)
		sink_move(s, GATE_ASK, now_ms);
	sink_retry(s, now_ms);
	return true;
}

void sink_show_use(struct sink *s, bool in_use)
{
	if (s->board.in_use == in_use)
		return;
	s->board.in_use = in_use;
	sink_publish(s);
}

struct sink *sink_new(enum sink_id id, int64_t uid, struct sink_pool *pool)
{
	struct sink *s = mem_zalloc(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->shown = stats_add_sink(pool->stats, id, uid);
	if (s->shown == NULL)
		return mem_free(s);
	s->id = id;
	s->uid = uid;
	s->pool = pool;
	sink_title(id, uid, s->title);
	/* without random bytes the jitter is the same every time: no harm */
	(void)rng_bytes(&s->jitter.state, sizeof(s->jitter.state));
	s->board.mood = MOOD_UNTRIED;
	return s;
}

struct sink *sink_free(struct sink *s)
{
	if (s == NULL)
		return NULL;
	(void)stats_drop_sink(s->pool->stats, s->shown);
	key_forget(&s->key);
	return mem_free(s);
}
