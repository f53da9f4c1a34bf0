/* See run.h: what those who log to a run are told about it. */
#include "daemon/flow/notice.h"
#include "daemon/flow/run_url.h"
#include "daemon/forward/models/run_parts.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>

enum {
	TEXT_MAX = 384 << 10, /* of a config or summary: a frame holds both */
	URL_MAX = 4096,
};

/* Why nothing can be heard of W&B now; NULL: it can, or that is being found out. */
static const char *why_silent(const struct sink *s)
{
	if (s->paused_until_us != 0)
		return "sending is paused (wbxctl unpause)";
	switch (s->gate) {
	case GATE_OPEN: return NULL;
	case GATE_NO_KEY: return "there is no key for W&B (wbxctl key set, or wandb login)";
	case GATE_ASK:
		return s->key_is_refused ? "W&B refuses the key (wbxctl status)"
		       : s->board.tries > 0
			       ? "W&B does not answer; it is tried again (wbxctl status)"
			       : NULL;
	}
	return NULL;
}

static int64_t waiting_of(struct reader *reader, int64_t run)
{
	int64_t sum = 0;

	for (unsigned class = 0; class < CLASS_COUNT; class ++) {
		struct stream_info stream;

		if (reader_stream(reader, stream_of(run, (enum record_class) class), &stream) == 0)
			sum += stream.waiting;
	}
	return sum;
}

static void put_text(struct pack *p, const char *key, const struct buf *text)
{
	pack_text(p, key);
	if (text->error == 0 && text->len > 0)
		pack_str(p, buf_span(text));
	else
		pack_nil(p); /* too long to be told */
}

/* What the run has so far, for who comes to it. */
static void put_past(struct pack *p, const struct models_run *r)
{
	const struct wire_about *server = r->has_about ? &r->server_about : NULL;
	struct buf text;
	struct json j;

	buf_init(&text, TEXT_MAX);
	json_init(&j, &text);
	about_values_to_json(&r->plan->about, server, &j);
	put_text(p, "config", &text);
	buf_done(&text);
	buf_init(&text, TEXT_MAX);
	json_init(&j, &text);
	summary_to_json(&r->plan->summary, &j);
	put_text(p, "summary", &text);
	buf_done(&text);
}

/* A run that is over, and about which something came: what W&B says to that is not known yet. */
static const char *state_of(struct models_run *r)
{
	bool is_reopened = r->info->state == RUN_DONE && run_has_records(r);

	return run_state_name(is_reopened ? RUN_NEW : r->info->state);
}

static void put_run(struct pack *p, const struct run_info *i, const char *state,
		    const char *base_url)
{
	struct buf url;

	buf_init(&url, URL_MAX);
	run_url_add(&url, i, base_url);
	pack_pair_text(p, "run", i->name);
	pack_pair_text(p, "state", state);
	pack_pair_text(p, "entity", run_entity(i));
	pack_pair_text(p, "project", run_project(i));
	pack_pair_text(p, "name", i->display_name);
	put_text(p, "url", &url);
	buf_done(&url);
}

static const char *reason_of(const struct models_run *r, const struct run_info *i)
{
	if (i->parked[0] != '\0')
		return i->parked;
	return r->conflict != NULL ? r->conflict : why_silent(r->user->sink);
}

static void fill(struct models_run *r, struct notice *n)
{
	const struct run_info *i = r->info;
	struct pack p;
	size_t at = frame_open(&n->frame, &p, "notice", 0, 14);

	put_run(&p, i, state_of(r), r->host->base_url);
	pack_pair_text(&p, "reason", reason_of(r, i));
	pack_pair_bool(&p, "conflict", r->conflict != NULL);
	pack_pair_bool(&p, "stopped", r->is_pressed);
	pack_pair_bool(&p, "resumed", r->plan->is_resumed);
	pack_pair_uint(&p, "step", (uint64_t)r->plan->rows.next_step);
	pack_pair_int(&p, "waiting", waiting_of(r->host->reader, r->id));
	if ((n->is_asked && i->state != RUN_NEW) || (r->plan->is_resumed && r->has_about)) {
		put_past(&p, r);
	} else { /* it was told when W&B said it */
		pack_pair_text(&p, "config", NULL);
		pack_pair_text(&p, "summary", NULL);
	}
	frame_close(&n->frame, at);
}

static void fill_stored(struct run_host *host, struct notice *n)
{
	struct run_info *i = mem_alloc(sizeof(*i));
	struct pack p;
	size_t at;

	if (i != NULL && host->reader != NULL && reader_run(host->reader, n->run, i) == 0) {
		at = frame_open(&n->frame, &p, "notice", 0, 8);
		put_run(&p, i, run_state_name(i->state), host->base_url);
		pack_pair_text(&p, "reason", i->parked[0] != '\0' ? i->parked : NULL);
		pack_pair_int(&p, "waiting", waiting_of(host->reader, n->run));
		frame_close(&n->frame, at);
	}
	(void)mem_free(i);
}

void models_run_fill_notice(struct run_host *host, struct models_run *run, struct notice *n)
{
	if (run != NULL && run_load(run) == 0)
		fill(run, n);
	else
		fill_stored(host, n);
	if (n->frame.error != 0)
		buf_clear(&n->frame);
}

void run_tell(struct models_run *r)
{
	struct notice *n;

	if (r->host->loop == NULL || r->plan == NULL)
		return;
	n = notice_new(r->id);
	if (n == NULL)
		return; /* nobody waits for it without end */
	fill(r, n);
	if (n->frame.error != 0)
		buf_clear(&n->frame);
	(void)mailbox_post(r->host->loop, &n->mail); /* never full */
}
