/* See news.h, and wbx.h: what is known of a run. */
#include "client/lib/news.h"

#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	AWAY_MS = 1500 /* so long a daemon may take to answer at all */
};

struct news *news_free(struct news *n)
{
	if (n == NULL)
		return NULL;
	(void)mem_free(n->entity);
	(void)mem_free(n->project);
	(void)mem_free(n->name);
	(void)mem_free(n->url);
	(void)mem_free(n->reason);
	(void)mem_free(n->config);
	(void)mem_free(n->summary);
	return mem_free(n);
}

/* --- taking --- */

static void take_text(char **text, struct mp body, const char *key)
{
	struct span value = mp_get_str(body, key);

	if (value.at == NULL)
		return;
	(void)mem_free(*text);
	*text = mem_strndup((const char *)value.at, value.len); /* NULL: as if it was not said */
}

/* Said once: what a run that is gone on with brought along. */
static void take_past(char **text, struct mp body, const char *key)
{
	if (*text == NULL)
		take_text(text, body, key);
}

static void take_word(struct news *n, struct mp body)
{
	struct span state = mp_get_str(body, "state");

	n->count++;
	(void)snprintf(n->state, sizeof(n->state), "%.*s", (int)state.len,
		       state.at == NULL ? "" : (const char *)state.at);
	n->reason = mem_free(n->reason);
	take_text(&n->reason, body, "reason");
	take_text(&n->entity, body, "entity");
	take_text(&n->project, body, "project");
	take_text(&n->name, body, "name");
	take_text(&n->url, body, "url");
	take_past(&n->config, body, "config");
	take_past(&n->summary, body, "summary");
	n->resumed = mp_get_bool(body, "resumed", n->resumed);
	n->conflict = mp_get_bool(body, "conflict", false);
	n->stopped |= mp_get_bool(body, "stopped", false);
	n->step = mp_get_int(body, "step", n->step);
	n->waiting = mp_get_uint(body, "waiting", n->waiting);
}

static void take(struct wbx_run *run, struct mp body)
{
	struct span value;

	if (run->news == NULL) {
		run->news = mem_zalloc(sizeof(*run->news));
		if (run->news == NULL)
			return; /* the next one may fit */
		run->news->step = -1;
	}
	if (mp_find_span(body, "known", &value) == 0)
		run->news->known |= mp_get_bool(body, "known", false);
	/* what is rejected may be another one of that id */
	if (mp_find_span(body, "state", &value) == 0 &&
	    !(run->news->count > 0 && span_is(mp_get_str(body, "state"), "rejected")))
		take_word(run->news, body);
	if (run->news->stopped)
		atomic_store(&run->stopped, true);
}

/* A text of the run for the user, once; freed by the caller. */
static char *url_to_show(struct wbx_run *run)
{
	struct news *n = run->news;

	if (n == NULL || n->url_shown || n->url == NULL || n->url[0] == '\0' || run->attached)
		return NULL;
	n->url_shown = true;
	return mem_strdup(n->url);
}

/* Why nothing comes of what is added to a run, for who only attached: nobody waits for it. What is
 * rejected was shown as that. Once; freed by the caller. */
static char *conflict_to_show(struct wbx_run *run)
{
	struct news *n = run->news;

	if (n == NULL || !n->conflict || n->conflict_shown || n->reason == NULL || !run->attached ||
	    strcmp(n->state, "rejected") == 0)
		return NULL;
	n->conflict_shown = true;
	return mem_strdup(n->reason);
}

void news_take(struct wbx *w, const struct record *r)
{
	struct mp body = mp_of(r->body);
	struct span id = mp_get_str(body, "run");
	char *url = NULL;
	char *conflict = NULL;

	(void)pthread_mutex_lock(&w->lock);
	for (struct wbx_run *run = w->runs; run != NULL; run = run->next) {
		if (!span_is(id, run->id))
			continue;
		take(run, body);
		url = url == NULL ? url_to_show(run) : url;
		conflict = conflict == NULL ? conflict_to_show(run) : conflict;
	}
	(void)pthread_cond_broadcast(&w->acked_cond);
	(void)pthread_mutex_unlock(&w->lock);
	if (url != NULL)
		state_say(w, 2, "run %.*s is at %s", (int)id.len, (const char *)id.at, url);
	if (conflict != NULL)
		state_say(w, 1, "run %.*s: %s; what is added to it is kept on this machine",
			  (int)id.len, (const char *)id.at, conflict);
	(void)mem_free(url);
	(void)mem_free(conflict);
}

/* --- what is known --- */

static void put(char *ret, size_t size, const char *text)
{
	(void)snprintf(ret, size, "%s", text == NULL ? "" : text); /* may be cut */
}

void wbx_get_run_info(struct wbx_run *run, struct wbx_run_info *ret)
{
	const struct news *n;

	*ret = (struct wbx_run_info){.next_step = -1};
	(void)pthread_mutex_lock(&run->w->lock);
	n = run->news;
	if (n != NULL) {
		put(ret->state, sizeof(ret->state), n->state);
		put(ret->entity, sizeof(ret->entity), n->entity);
		put(ret->project, sizeof(ret->project), n->project);
		put(ret->name, sizeof(ret->name), n->name);
		put(ret->url, sizeof(ret->url), n->url);
		put(ret->reason, sizeof(ret->reason), n->reason);
		ret->known = n->known;
		ret->resumed = n->resumed;
		ret->conflict = n->conflict;
		ret->next_step = n->step;
		ret->waiting = n->waiting;
	}
	ret->stopped = atomic_load(&run->stopped);
	(void)pthread_mutex_unlock(&run->w->lock);
}

char *wbx_get_past(struct wbx_run *run, enum wbx_past which)
{
	const char *text = NULL;
	char *copy;

	(void)pthread_mutex_lock(&run->w->lock);
	if (run->news != NULL)
		text = which == WBX_PAST_CONFIG ? run->news->config : run->news->summary;
	copy = text == NULL ? NULL : strdup(text);
	(void)pthread_mutex_unlock(&run->w->lock);
	return copy;
}

bool wbx_stopped(const struct wbx_run *run)
{
	return atomic_load(&run->stopped);
}

/* Called with lock held. 1: nothing yet. */
static int word_of(const struct wbx_run *run)
{
	const struct news *n = run->news;

	if (n == NULL || n->count <= run->news_before)
		return 1;
	if (run->finished)
		return 0;
	if (n->conflict)
		return -EEXIST;
	if (n->reason != NULL && n->reason[0] != '\0')
		return -EAGAIN;
	return strcmp(n->state, "new") == 0 ? 1 : 0;
}

int wbx_wait_for_run(struct wbx_run *run, int timeout_ms)
{
	uint64_t now_ms = clock_mono_ms();
	uint64_t until_ms = now_ms + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms);
	uint64_t away_ms = now_ms + AWAY_MS;
	struct wbx *w;
	int r;

	if (run == NULL)
		return -EINVAL;
	w = run->w;
	(void)pthread_mutex_lock(&w->lock);
	while ((r = word_of(run)) == 1 && (now_ms = clock_mono_ms()) < until_ms) {
		bool is_away = w->link.state != LINK_OPEN;
		uint64_t next_ms = is_away && away_ms < until_ms ? away_ms : until_ms;
		struct timespec at = {.tv_sec = (time_t)(next_ms / 1000),
				      .tv_nsec = (long)(next_ms % 1000) * 1000000};

		if (is_away && now_ms >= away_ms)
			break;
		(void)pthread_cond_timedwait(&w->acked_cond, &w->lock, &at); /* looks again */
	}
	if (r == 1)
		r = w->link.state == LINK_OPEN ? -ETIMEDOUT : -EAGAIN;
	(void)pthread_mutex_unlock(&w->lock);
	return r;
}
