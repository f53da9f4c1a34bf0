/* Cases of judge.h: how delivery goes. */
#include "client/ctl/format.h"
#include "client/ctl/judge_words.h"
#include "client/ctl/outside.h"

#include <string.h>

enum {
	SLOW_AGE_MS = 900000, /* older than this is behind, though the sink answers */
	KEYS_SAID_MAX = 3,    /* reasons about keys of one kind */
	SLOW_SECONDS = 60,    /* ... when what waits is more than it confirms in this time */
};

/* "api.wandb.ai" of "https://api.wandb.ai/x". */
static struct span host_of(const char *url)
{
	const char *at = strstr(url, "://");

	at = at == NULL ? url : at + 3;
	return (struct span){.at = (const uint8_t *)at, .len = strcspn(at, "/")};
}

/* Whose answers a sink waits for; the address of weave's is not among the facts. */
static void say_server(struct buf *b, const struct facts *f, const struct sink_facts *s)
{
	if (strcmp(s->name, "weave") != 0 && f->base_url[0] != '\0') {
		outside_add(b, host_of(f->base_url), OUTSIDE_LINE);
		return;
	}
	(void)buf_add_text(b, "the server of sink ");
	outside_add_text(b, s->name);
}

static void say_since(struct buf *b, const struct sink_facts *s)
{
	if (s->state_ms >= 0)
		(void)buf_printf(b, " for %s", word_age((uint64_t)s->state_ms).text);
}

/* Whole, because the table may have to cut it. */
static void say_error(struct buf *b, const struct sink_facts *s)
{
	if (s->error[0] == '\0')
		return;
	(void)buf_add_text(b, "\nThe last error: ");
	outside_add_text(b, s->error);
}

/* systemd hands the service its key at the start only; any other daemon looks for it by itself
 * (daemon/forward/sink.c). */
static void say_where_key(struct buf *b, const struct facts *f, const char *what)
{
	if (f->kind == DAEMON_SYSTEM)
		(void)buf_printf(b,
				 "Put %s into /etc/wbx/wandb-api-key, mode 0600, then:\n"
				 "systemctl restart wbxd",
				 what);
	else
		(void)buf_printf(b,
				 "Put %s into the key file (models.key_file in wbxd.conf(5)) or "
				 "into ~/.netrc: it is found within seconds",
				 what);
}

static const struct sink_facts *first_in(const struct facts *f, enum sink_state state)
{
	for (size_t i = 0; i < f->sink_count; i++) {
		if (f->sinks[i].state == state)
			return &f->sinks[i];
	}
	return NULL;
}

/* What to do about one user's own key. */
static void say_own_key(struct buf *b, const struct facts *f, const struct sink_facts *s)
{
	if (s->uid != f->asker)
		(void)buf_printf(b, "As user %lld: ", (long long)s->uid);
	(void)buf_add_text(b, "wbxctl key set");
}

static void refused_key(const struct facts *f, const struct sink_facts *s, struct judgement *j)
{
	struct reason *r = reason_add(j, HEALTH_ATTENTION, "auth_refused", s);

	r->see = "man 8 wbxd, KEYS";
	(void)buf_add_text(&r->headline, "W&B refused the key");
	if (s->key_tail[0] != '\0') {
		(void)buf_add_text(&r->headline, " …");
		outside_add_text(&r->headline, s->key_tail);
	}
	if (s->uid >= 0) {
		(void)buf_add_text(&r->headline, " of ");
		say_owner(&r->headline, f, s);
	}
	if (s->http != 0)
		(void)buf_printf(&r->headline, " (HTTP %lld)", (long long)s->http);
	if (s->uid >= 0)
		say_safe_sink(&r->text, f, s);
	else
		say_safe(&r->text, f, SINK_KEY_REFUSED);
	say_forecast(&r->text, f);
	if (s->next_try_ms >= 0)
		(void)buf_printf(&r->text, " The key is probed again in %s.",
				 word_rough((uint64_t)s->next_try_ms).text);
	say_error(&r->text, s);
	if (s->uid >= 0)
		say_own_key(&r->action, f, s);
	else
		say_where_key(&r->action, f, "a valid key");
}

static void no_key(const struct facts *f, const struct sink_facts *s, struct judgement *j)
{
	struct reason *r = reason_add(j, HEALTH_BEHIND, "no_key", s);

	r->see = "man 8 wbxd, KEYS";
	if (s->uid < 0) {
		(void)buf_add_text(&r->headline, "no key: everything waits on disk");
		say_safe(&r->text, f, SINK_NO_KEY);
		say_forecast(&r->text, f);
		if (f->kind != DAEMON_SYSTEM)
			(void)buf_add_text(&r->action, "wbxctl key set   hands over yours. Or: ");
		say_where_key(&r->action, f, "the key of a W&B account");
		return;
	}
	(void)buf_add_text(&r->headline, "no key for runs of ");
	say_owner(&r->headline, f, s);
	(void)buf_add_text(&r->headline, ": they wait on disk");
	say_safe_sink(&r->text, f, s);
	say_forecast(&r->text, f);
	say_error(&r->text, s);
	say_own_key(&r->action, f, s);
}

/* Each key needs its owner; with many of them the first few are told, and the table shows all. */
static void each_key_in(const struct facts *f, enum sink_state state, struct judgement *j,
			void (*say)(const struct facts *, const struct sink_facts *,
				    struct judgement *))
{
	unsigned said = 0;

	for (size_t i = 0; i < f->sink_count && said < KEYS_SAID_MAX; i++) {
		if (f->sinks[i].state != state)
			continue;
		say(f, &f->sinks[i], j);
		said++;
	}
}

void judge_refused_key(const struct facts *f, struct judgement *j)
{
	each_key_in(f, SINK_KEY_REFUSED, j, refused_key);
}

void judge_no_key(const struct facts *f, struct judgement *j)
{
	each_key_in(f, SINK_NO_KEY, j, no_key);
}

void judge_link(const struct facts *f, struct judgement *j)
{
	const struct sink_facts *s = first_in(f, SINK_LINK_DOWN);
	struct reason *r;

	if (s == NULL)
		return;
	r = reason_add(j, HEALTH_BEHIND, "link_down", s);
	r->see = "man 8 wbxd, LINK DOWN";
	(void)buf_add_text(&r->headline, "no answer from ");
	say_server(&r->headline, f, s);
	say_since(&r->headline, s);
	say_safe(&r->text, f, SINK_LINK_DOWN);
	say_forecast(&r->text, f);
	say_error(&r->text, s);
	(void)buf_add_text(&r->action,
			   "None, if the link comes back: delivery goes on by itself. To "
			   "try it at once: wbxctl retry");
}

void judge_rate(const struct facts *f, struct judgement *j)
{
	const struct sink_facts *s = first_in(f, SINK_RATE_LIMITED);
	struct reason *r;

	if (s == NULL)
		return;
	r = reason_add(j, HEALTH_BEHIND, "rate_limited", s);
	r->see = "man 8 wbxd, RATE LIMITS; wbxctl backlog --by run";
	say_server(&r->headline, f, s);
	(void)buf_add_text(&r->headline, " limits the rate of sink ");
	outside_add_text(&r->headline, s->name);
	(void)buf_add_text(&r->headline, " (HTTP 429)");
	say_safe(&r->text, f, SINK_RATE_LIMITED);
	if (s->retry_after_ms != 0)
		(void)buf_printf(&r->text, " The last answer asked for a pause of %s.",
				 word_ms((double)s->retry_after_ms).text);
	if (s->spacing_ms != 0)
		(void)buf_printf(&r->text, " Requests are spaced at 1 in %s.",
				 word_ms((double)s->spacing_ms).text);
	(void)buf_add_text(&r->action,
			   "None. If the backlog grows: log fewer keys, or give other jobs "
			   "of this key less to do (limits count for the whole account, "
			   "and other nodes share it).");
}

void judge_server(const struct facts *f, struct judgement *j)
{
	const struct sink_facts *s = first_in(f, SINK_SERVER_ERROR);
	struct reason *r;

	if (s == NULL)
		return;
	r = reason_add(j, HEALTH_BEHIND, "server_error", s);
	r->see = "man 8 wbxd, SERVER ERRORS";
	say_server(&r->headline, f, s);
	if (s->http != 0)
		(void)buf_printf(&r->headline, " answers with HTTP %lld", (long long)s->http);
	else
		(void)buf_add_text(&r->headline, " answers with errors");
	say_since(&r->headline, s);
	say_safe(&r->text, f, SINK_SERVER_ERROR);
	say_forecast(&r->text, f);
	say_error(&r->text, s);
	(void)buf_add_text(&r->action,
			   "None: it is tried again by itself. If it lasts, tell those who run ");
	say_server(&r->action, f, s);
}

/* Of sinks under several keys one stands for all. */
static bool is_first_of_name(const struct facts *f, size_t at)
{
	for (size_t i = 0; i < at; i++) {
		if (strcmp(f->sinks[i].name, f->sinks[at].name) == 0)
			return false;
	}
	return true;
}

/* A sink that answers and is behind all the same. A single old record is no reason: the row of an
 * open step waits for as long as the step takes. */
void judge_slow(const struct facts *f, struct judgement *j)
{
	for (size_t i = 0; i < f->sink_count; i++) {
		const struct sink_facts *s = &f->sinks[i];
		uint64_t age_ms = s->oldest_us != 0 && f->time_us > s->oldest_us
					  ? (f->time_us - s->oldest_us) / 1000
					  : 0;
		double rate = s->sent_per_s > 1 ? s->sent_per_s : 1;
		struct reason *r;

		if (s->state != SINK_OK || age_ms < SLOW_AGE_MS || !is_first_of_name(f, i) ||
		    (double)s->waiting < SLOW_SECONDS * rate || sink_is_paused(f, s))
			continue;
		r = reason_add(j, HEALTH_BEHIND, "slow", s);
		r->see = "man 8 wbxd, BEHIND; wbxctl backlog --by run";
		(void)buf_add_text(&r->headline, "sink ");
		outside_add_text(&r->headline, s->name);
		(void)buf_printf(&r->headline, " is %s behind", word_age(age_ms).text);
		(void)buf_printf(&r->text, "Training is not affected: ");
		say_waiting(&r->text, s->waiting, s->waiting_bytes);
		if (s->sent_per_s > 0)
			(void)buf_printf(
				&r->text, " At %s rec/s that takes %s, if nothing comes in.",
				word_rate(s->sent_per_s).text,
				word_rough((uint64_t)((double)s->waiting / s->sent_per_s * 1000))
					.text);
		(void)buf_add_text(&r->action, "None: W&B answers, and the backlog is being sent.");
	}
}

bool sink_is_paused(const struct facts *f, const struct sink_facts *s)
{
	if (s->state == SINK_STORED_ONLY)
		return false; /* there is nothing to pause */
	return s->state == SINK_PAUSED || s->paused_until_us < 0 ||
	       (uint64_t)s->paused_until_us > f->time_us;
}

void judge_paused(const struct facts *f, struct judgement *j)
{
	for (size_t i = 0; i < f->sink_count; i++) {
		const struct sink_facts *s = &f->sinks[i];
		struct reason *r;

		if (!sink_is_paused(f, s) || !is_first_of_name(f, i))
			continue; /* a pause is one for all keys */
		r = reason_add(j, HEALTH_PAUSED, "paused", s);
		r->see = "man 8 wbxd, PAUSED";
		(void)buf_add_text(&r->headline, "sink ");
		outside_add_text(&r->headline, s->name);
		if (s->paused_until_us > 0)
			(void)buf_printf(&r->headline, " is paused until %s",
					 word_clock((uint64_t)s->paused_until_us, f->time_us).text);
		else
			(void)buf_add_text(&r->headline, " is paused until somebody unpauses it");
		if (s->waiting > 0)
			(void)buf_add_text(&r->text, "Training is not affected: ");
		say_waiting(&r->text, s->waiting, s->waiting_bytes);
		(void)buf_add_text(&r->action, "wbxctl unpause ");
		outside_add_text(&r->action, s->name);
	}
}
