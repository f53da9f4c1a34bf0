/* See run_parts.h: what is otherwise for a run in W&B's shared mode. */
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/clock.h"

#include <stdio.h>

enum {
	OWN_TRIES_MAX = 8
};

static const char asked_late[] =
	"a process opens it in shared mode, and it had begun without: all its processes have to "
	"say "
	"mode=\"shared\" from the beginning; a retry goes on with it as an ordinary run";
static const char is_shared_there[] =
	"W&B has this run in shared mode, and it was opened here without: open it with "
	"mode=\"shared\", "
	"or another one; a retry writes to it all the same, as an ordinary writer";
static const char is_ordinary_there[] =
	"opened in shared mode, and W&B has this run of a writer who does not share: open it so "
	"everywhere, from the beginning; a retry writes to it all the same, as a shared writer";

static void make_writer(struct models_run *r)
{
	int e = shared_make_writer(&r->plan->shared, clock_wall_us() / 1000);

	if (e < 0) {
		run_give_up(r, "making a writer's id", e);
		return;
	}
	log_info("models", "run=%s writer=%s is shared with others: its lines are counted apart",
		 r->info->name, r->plan->shared.writer);
	plan_save(r->plan, r->changes);
	run_commit(r);
}

bool run_settle_shared(struct models_run *r)
{
	const struct shared *s = &r->plan->shared;

	if (!s->is_asked_late && !shared_wants_writer(s))
		return false;
	if (!run_changes(r))
		return true;
	if (s->is_asked_late) {
		run_park(r, asked_late);
		run_commit(r);
	} else {
		make_writer(r);
	}
	return true;
}

const char *run_mix_of(const struct models_run *r)
{
	const struct shared *s = &r->plan->shared;

	if (s->is_settled || !r->has_about || !r->server.exists)
		return NULL;
	if (!s->is_on && wire_about_is_shared(&r->server_about))
		return is_shared_there;
	if (s->is_on && r->info->state == RUN_NEW && r->info->server_id[0] == '\0' &&
	    wire_about_is_written(&r->server_about) && !wire_about_is_shared(&r->server_about))
		return is_ordinary_there;
	return NULL;
}

void run_join_shared(struct models_run *r)
{
	if (!r->plan->has_run && r->server.exists && wire_about_is_shared(&r->server_about))
		shared_join(&r->plan->shared);
}

/* Values are not looked at: W&B may print them another way. */
static bool has_all(const struct tree *ours, const struct tree *theirs)
{
	for (const struct node *n = ours->first; n != NULL; n = n->next) {
		if (!span_is(node_key(n), "_wandb") &&
		    tree_child(theirs, NULL, node_key(n)) == NULL)
			return false;
	}
	return true;
}

bool run_looks_at_own(struct models_run *r, bool ends, uint64_t now_ms)
{
	const struct plan *p = r->plan;
	bool is_open = r->info->state != RUN_NEW && r->info->state != RUN_DONE;

	if (ends && !r->own_at_end) /* W&B's client does not read before it writes */
		r->own_is_asked = r->own_is_there = false;
	r->own_at_end = ends;
	if (!p->shared.is_on || !is_open || r->own_is_there || p->about.dirty != 0 ||
	    r->own_tries >= OWN_TRIES_MAX ||
	    (!ends && now_ms < r->own_sent_ms + r->host->interval_ms))
		return false;
	if (!r->own_is_asked || !r->has_about) {
		r->own_is_asked = true;
		run_forget_about(r);
		r->request = (struct request){.kind = REQUEST_STATUS, .is_whole = true};
		return true;
	}
	r->own_is_there = has_all(&p->about.config, &r->server_about.config);
	if (!r->own_is_there)
		r->plan->about.dirty |= ABOUT_CONFIG;
	/* a tag that was there and is missing later was taken away by somebody */
	if (r->own_tags_doubted && !has_all(&p->about.tags, &r->server_about.tags)) {
		r->own_is_there = false;
		r->plan->about.dirty |= ABOUT_TAGS;
	}
	r->own_tags_doubted = false;
	if (!r->own_is_there) {
		log_info("models", "run=%s config or tags were written over; ours go again",
			 r->info->name);
		r->own_tries++;
	}
	return false;
}

void run_own_is_sent(struct models_run *r)
{
	r->own_is_asked = r->own_is_there = false;
	r->own_tags_doubted |= (r->request.what & ABOUT_TAGS) != 0;
	r->own_sent_ms = clock_mono_ms();
}

void run_shared_headers(const struct models_run *r, bool is_stream, struct run_headers *ret)
{
	const struct shared *s = r->plan == NULL ? NULL : &r->plan->shared;

	ret->count = 0;
	if (s == NULL || !s->is_on || s->writer[0] == '\0')
		return;
	(void)snprintf(ret->writer, sizeof(ret->writer), "X-WANDB-%sCLIENT-ID:%s",
		       is_stream ? "ASYNC-" : "", s->writer); /* fits */
	ret->list[ret->count++] = SPAN_LITERAL("X-WANDB-USE-ASYNC-FILESTREAM:true");
	ret->list[ret->count++] = span_of_text(ret->writer);
	if (s->derives_summary)
		ret->list[ret->count++] = SPAN_LITERAL("X-WANDB-SERVER-SIDE-DERIVED-SUMMARY:true");
}

void run_complete_key(const struct models_run *r, char ret[COMPLETE_KEY_MAX])
{
	const struct shared *s = &r->plan->shared;
	bool has_label = s->is_on && s->label[0] != '\0';

	(void)snprintf(ret, COMPLETE_KEY_MAX, "wbx/complete%s%s", has_label ? "/l:" : "",
		       has_label ? s->label : ""); /* fits */
}
