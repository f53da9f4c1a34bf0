/* wbxctl tag, wbxctl promote: tags of a run, from outside of it. They go in as records of a process
 * that attaches to the run, so they wait in its journal when no daemon is there, and in the store
 * while W&B is not. */
#include "client/ctl/target.h"
#include "client/lib/wbx.h"
#include "proto/base/clock.h"
#include "proto/limits.h"
#include "proto/mp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	TAGS_MAX = 64,
	FLUSH_MS = 10000,
};

struct wish {
	const char *add[TAGS_MAX + 1]; /* end with NULL */
	const char *remove[TAGS_MAX + 1];
	size_t add_count;
	size_t remove_count;
	struct wbx_map *config; /* NULL: none */
};

static void on_message(void *arg, int level, const char *text)
{
	(void)arg;
	if (level < 2)
		say("%s", text);
}

/* 0, -errno; -ETIMEDOUT: it is in the journal, the daemon has not said that it has it. */
static int hand_over(struct wbx *w, const struct target *t, const struct wish *wish)
{
	const struct wbx_run_options options = {
		.project = t->project,
		.entity = t->entity[0] == '\0' ? NULL : t->entity,
		.id = t->id,
	};
	struct wbx_run *run;
	int r = wbx_attach(w, &options, &run);

	if (r == 0)
		r = wbx_tags(run, wish->add, wish->remove);
	if (r == 0 && wish->config != NULL)
		r = wbx_config(run, wish->config);
	if (r == 0)
		r = wbx_finish(run, 0);
	return r == 0 ? wbx_flush(w, FLUSH_MS) : r;
}

static int queue(struct call *c, const struct wish *wish)
{
	const struct wbx_options options = {
		.socket = c->place.socket, .daemon = "", .on_message = on_message};
	struct wbx_stats stats = {.records = 0};
	struct target t;
	struct wbx *w;
	int r = target_find(c, &t);

	if (r != CODE_OK)
		return r;
	r = wbx_open(&w, &options);
	if (r < 0)
		return say_errno("tag", r);
	r = hand_over(w, &t, wish);
	wbx_get_stats(w, &stats);
	(void)wbx_close(w, 0); /* what is not acknowledged stays in the journal */
	if (stats.rejected > 0)
		return CODE_DATA;
	if (r == -ETIMEDOUT && stats.durable) {
		say("no daemon answers at %s: the change waits in its journal for the next one",
		    c->place.socket);
		return CODE_LATER;
	}
	return r < 0 ? say_errno("tag", r) : CODE_OK;
}

/* +x adds, -x removes. False: too many, or neither. */
static bool take_word(struct wish *wish, const char *word)
{
	if (word[0] != '\0' && word[1] != '\0') {
		if (word[0] == '+' && wish->add_count < TAGS_MAX) {
			wish->add[wish->add_count++] = word + 1;
			return true;
		}
		if (word[0] == '-' && wish->remove_count < TAGS_MAX) {
			wish->remove[wish->remove_count++] = word + 1;
			return true;
		}
	}
	return false;
}

int tag_run(struct call *c)
{
	struct wish wish = {.add_count = 0};

	for (size_t i = 1; i < c->word_count; i++) {
		if (!take_word(&wish, c->words[i]))
			return say_usage(c->command,
					 "a tag is +NAME or -NAME, and 64 of each at most");
	}
	return queue(c, &wish);
}

/* The run's config says when it was promoted, to what, and why. */
static void describe(struct wbx_map *m, const char *to, const char *note)
{
	time_t now = (time_t)(clock_wall_us() / 1000000);
	struct tm tm = {.tm_year = 70};
	char at[32];

	(void)gmtime_r(&now, &tm); /* fails in no year that has a clock */
	(void)strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm); /* fits */
	(void)wbx_begin_map(m, "promoted");                        /* errors stay in m */
	(void)wbx_put_text(m, "to", to);
	(void)wbx_put_text(m, "at", at);
	(void)wbx_put_text(m, "note", note);
	(void)wbx_end(m);
}

int promote_run(struct call *c)
{
	const char *to = call_has(c, OPT_TO) ? c->values[OPT_TO] : "staged";
	char tag[NAME_MAX_BYTES + 1];
	struct wish wish = {
		.add = {tag}, .add_count = 1, .remove = {"status:*"}, .remove_count = 1};
	int r;

	if (to[0] == '\0' || snprintf(tag, sizeof(tag), "status:%s", to) >= (int)sizeof(tag))
		return say_usage(c->command, "--to names what the run becomes");
	if (call_has(c, OPT_NOTE)) {
		wish.config = wbx_map_new();
		if (wish.config == NULL)
			return say_errno("promote", -ENOMEM);
		describe(wish.config, to, c->values[OPT_NOTE]);
	}
	r = queue(c, &wish);
	wbx_map_free(wish.config);
	return r;
}
