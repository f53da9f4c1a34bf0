/* See ask.h. */
#include "daemon/forward/ask.h"

#include "daemon/flow/run_search.h"
#include "daemon/forward/compare.h"
#include "daemon/forward/models/plan.h"
#include "daemon/forward/models/side.h"
#include "daemon/forward/models/wire.h"
#include "daemon/forward/sinks.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	URL_MAX = 4096,
	BODY_MAX = 16 << 10,
	TEXT_MAX = 16 << 20
};

static struct ask *free_ask(struct asks *a)
{
	for (size_t i = 0; i < ASKS_MAX; i++) {
		if (a->items[i].order == NULL)
			return &a->items[i];
	}
	return NULL;
}

static void end(struct ask *ask, int result, const char *text)
{
	struct order *o = ask->order;

	ask->order = NULL;
	ask->run = mem_free(ask->run);
	order_give_back(o, o->pairs.error < 0 ? o->pairs.error : result, text);
}

void asks_end(struct asks *a)
{
	for (size_t i = 0; i < ASKS_MAX; i++) {
		if (a->items[i].order != NULL)
			end(&a->items[i], -EINVAL, "the daemon stops");
	}
}

/* Takes body. The answer, or that there will be none, comes to on_answer(). */
static void post(struct ask *ask, const struct sink *sink, struct buf *body,
		 void (*on_answer)(void *arg, const struct http_answer *a))
{
	struct buf url;
	struct http_request q = {
		.user = ask->has_key ? "api" : NULL,
		.password = sink->key.text,
		.is_fresh = true,
		.body = *body,
		.on_answer = on_answer,
		.arg = ask,
	};
	int r;

	buf_init(&url, URL_MAX);
	r = wire_graphql_url(&url, ask->url);
	if (r == 0)
		r = body->error;
	if (r == 0) {
		q.url = (const char *)url.data;
		r = http_start(sink->pool->http, &q);
	} else {
		buf_done(body);
	}
	buf_done(&url);
	if (r < 0)
		end(ask, r, NULL);
}

/* A place for the order, which is refused when there is none. */
static struct ask *begin(const struct order_context *c, struct order *o)
{
	struct ask *ask = free_ask(c->asks);

	if (ask == NULL) {
		order_give_back(o, -EINVAL, "others are asking the same just now; try again");
		return NULL;
	}
	*ask = (struct ask){.order = o, .reader = c->reader};
	return ask;
}

static void take_sink(struct ask *ask, const struct sink *sink)
{
	ask->has_key = sink->key.text[0] != '\0';
	(void)snprintf(ask->url, sizeof(ask->url), "%s", sink->settings.base_url); /* as large */
	(void)snprintf(ask->key_source, sizeof(ask->key_source), "%s", sink->key.source);
	(void)snprintf(ask->key_tail, sizeof(ask->key_tail), "%s", sink->board.key_tail);
	(void)snprintf(ask->key_error, sizeof(ask->key_error), "%s",
		       ask->has_key ? "" : sink->board.last_error);
}

static void pack_way(struct pack *p, const struct ask *ask, const struct http_answer *a)
{
	pack_pair_text(p, "url", ask->url);
	pack_pair_text(p, "failure",
		       a->transport == TRANSPORT_ANSWERED ? "" : transport_text(a->transport));
	pack_pair_text(p, "error", a->transport == TRANSPORT_ANSWERED ? "" : a->error);
	pack_pair_int(p, "status", a->status);
}

/* --- is it reached? --- */

/* What the answer says of the key: none, accepted, refused, or "" when it says nothing. */
static const char *judge_key(const struct ask *ask, const struct http_answer *a, int read_result)
{
	if (!ask->has_key)
		return "none";
	if (a->transport != TRANSPORT_ANSWERED)
		return "";
	if (a->status == 401 || a->status == 403 || (a->status < 300 && read_result == -EREMOTEIO))
		return "refused";
	return a->status < 300 && read_result == 0 ? "accepted" : "";
}

static void on_probed(void *arg, const struct http_answer *a)
{
	struct ask *ask = arg;
	struct wire_user user = {.name = ""};
	char reason[WIRE_REASON_MAX] = "";
	int read_result = wire_read_viewer(a->body, &user);
	struct pack p;

	if (a->status >= 300)
		wire_reason(a->body, reason);
	pack_init(&p, &ask->order->pairs);
	ask->order->pair_count = 17;
	pack_way(&p, ask, a);
	pack_pair_text(&p, "reason", reason);
	pack_pair_bool(&p, "is_wandb", a->status < 300 && read_result != -EBADMSG);
	pack_pair_int(&p, "name_us", a->name_us);
	pack_pair_int(&p, "connect_us", a->connect_us);
	pack_pair_int(&p, "tls_us", a->tls_us);
	pack_pair_int(&p, "first_us", a->first_us);
	pack_pair_uint(&p, "took_ms", a->took_ms);
	pack_pair_int(&p, "date_s", a->date_s);
	pack_pair_text(&p, "key", judge_key(ask, a, read_result));
	pack_pair_text(&p, "key_source", ask->has_key ? ask->key_source : "");
	pack_pair_text(&p, "key_tail", ask->key_tail);
	pack_pair_text(&p, "user", user.name);
	pack_pair_text(&p, "key_error", ask->key_error);
	end(ask, 0, NULL);
}

/* The key of the asker's runs; whoever steers all asks for the site's, when there is one. */
static struct sink *sink_of_asker(const struct order_context *c, const struct order *o)
{
	struct sink *site = c->sinks->list[0];

	return o->is_admin && site->key.text[0] != '\0'
		       ? site
		       : sinks_of(c->sinks, o->uid, clock_mono_ms());
}

void ask_probe(const struct order_context *c, struct order *o)
{
	const struct sink *sink = sink_of_asker(c, o);
	struct ask *ask;
	struct buf body;

	if (sink == NULL) {
		order_give_back(o, -ENOMEM, NULL);
		return;
	}
	ask = begin(c, o);
	if (ask == NULL)
		return;
	take_sink(ask, sink);
	buf_init(&body, BODY_MAX);
	wire_viewer(&body);
	post(ask, sink, &body, on_probed);
}

/* --- does it have a run? --- */

/* 0; or the order's result, with its text. */
static int find_run(struct ask *ask, const char **ret_text)
{
	struct run_search s = {
		.wanted = span_of_text(ask->order->run),
		.is_any = ask->order->is_admin,
		.uid = ask->order->uid,
		.run = ask->run,
	};
	int r;

	do {
		r = run_search_next(&s, ask->reader);
	} while (r > 0);
	*ret_text = r == 0 && s.found != 1 ? run_search_failure(&s) : NULL;
	return *ret_text != NULL ? -ENOENT : r;
}

/* What the store says of the run beside its lines. */
struct local {
	struct plan plan;
	struct side side; /* output and system metrics */
	struct stream_info stream;
	struct buf config;
	struct buf summary;
};

static int read_local(struct local *l, const struct ask *ask)
{
	int64_t id = ask->run->id;
	struct json j;
	int r;

	buf_init(&l->config, TEXT_MAX);
	buf_init(&l->summary, TEXT_MAX);
	side_init(&l->side, id);
	r = plan_init(&l->plan, id, 0);
	if (r == 0)
		r = plan_load(&l->plan, ask->reader);
	if (r == 0)
		r = side_load(&l->side, ask->reader);
	if (r == 0)
		r = reader_stream(ask->reader, stream_of(id, CLASS_METRICS), &l->stream);
	if (r < 0)
		return r;
	json_init(&j, &l->config);
	about_config_to_json(&l->plan.about, &l->plan.metrics, NULL, &j);
	json_init(&j, &l->summary);
	summary_to_json(&l->plan.summary, &j);
	return l->config.error < 0 ? l->config.error : l->summary.error;
}

static void local_done(struct local *l)
{
	plan_done(&l->plan);
	side_done(&l->side);
	buf_done(&l->config);
	buf_done(&l->summary);
}

/* Lines of that file that W&B has confirmed. */
static int64_t side_sent_lines(const struct side *s, enum side_file file)
{
	return s->next[file] - s->unsent[file].count;
}

static void pack_comparison(struct ask *ask, const struct http_answer *a, const struct local *l,
			    const struct wire_whole_run *there, const struct differences *d,
			    struct span differences)
{
	const struct run_info *run = ask->run;
	struct pack p;

	pack_init(&p, &ask->order->pairs);
	ask->order->pair_count = 27;
	pack_way(&p, ask, a);
	pack_pair_text(&p, "run", run->name);
	pack_pair_text(&p, "project", run_project(run));
	pack_pair_text(&p, "entity", run_entity(run));
	pack_pair_text(&p, "state", run_state_name(run->state));
	pack_pair_text(&p, "state_there", there->state);
	pack_pair_bool(&p, "exists", there->exists);
	pack_pair_bool(&p, "is_shared", l->plan.shared.is_on);
	pack_pair_int(&p, "rows", run->done_offset);
	pack_pair_int(&p, "rows_there", there->history_lines);
	pack_pair_int(&p, "rows_planned", run->next_offset);
	pack_pair_int(&p, "events", side_sent_lines(&l->side, SIDE_EVENTS));
	pack_pair_int(&p, "console", side_sent_lines(&l->side, SIDE_CONSOLE) + l->side.shown);
	pack_pair_bool(&p, "side_waits", side_waits(&l->side));
	pack_pair_int(&p, "events_there", there->event_lines);
	pack_pair_int(&p, "console_there", there->console_lines);
	pack_pair_int(&p, "waiting", l->stream.waiting);
	pack_pair_bool(&p, "is_dirty", l->plan.summary_dirty || l->plan.about.dirty != 0);
	pack_pair_int(&p, "uploads", run->uploads);
	pack_pair_int(&p, "late", run->late);
	pack_pair_int(&p, "dead", run->dead);
	pack_pair_uint(&p, "keys", d->keys);
	pack_pair_uint(&p, "difference_count", d->count);
	pack_text(&p, "differences");
	pack_array(&p, d->told);
	pack_raw(&p, differences);
}

static int compare(struct ask *ask, const struct http_answer *a, struct wire_whole_run *there)
{
	struct local l = {.stream = {0}};
	struct differences d = {.count = 0};
	struct buf list;
	int r = read_local(&l, ask);

	buf_init(&list, TEXT_MAX);
	pack_init(&d.to, &list);
	if (r == 0 && a->transport == TRANSPORT_ANSWERED && a->status < 300)
		r = wire_read_whole_run(a->body, there);
	if (r == 0 && there->exists)
		r = compare_objects(&d, "config", buf_span(&l.config), buf_span(&there->config));
	if (r == 0 && there->exists && !l.plan.shared.is_on) /* else it is of several */
		r = compare_objects(&d, "summary", buf_span(&l.summary), buf_span(&there->summary));
	if (r == 0)
		pack_comparison(ask, a, &l, there, &d, buf_span(&list));
	buf_done(&list);
	local_done(&l);
	return r;
}

static void on_verified(void *arg, const struct http_answer *a)
{
	struct ask *ask = arg;
	struct wire_whole_run there;
	int r;

	wire_whole_run_init(&there);
	r = reader_run(ask->reader, ask->run->id, ask->run); /* as it is after the answer came */
	if (r == 0)
		r = compare(ask, a, &there);
	wire_whole_run_done(&there);
	end(ask, r, r == -EBADMSG || r == -EREMOTEIO ? "what W&B answered cannot be read" : NULL);
}

void ask_verify(const struct order_context *c, struct order *o)
{
	struct ask *ask = begin(c, o);
	const struct sink *sink = NULL;
	const char *text = NULL;
	struct wire_name name;
	struct buf body;
	int r = -ENOMEM;

	if (ask == NULL)
		return;
	ask->run = mem_alloc(sizeof(*ask->run));
	if (ask->run != NULL)
		r = find_run(ask, &text);
	if (r == 0)
		sink = sinks_of(c->sinks, ask->run->uid, clock_mono_ms());
	if (sink == NULL) {
		end(ask, r < 0 ? r : -ENOMEM, text);
		return;
	}
	take_sink(ask, sink);
	name = (struct wire_name){.entity = run_entity(ask->run),
				  .project = run_project(ask->run),
				  .run = ask->run->name};
	if (name.entity[0] == '\0')
		name.entity = sink->entity;
	buf_init(&body, BODY_MAX);
	wire_whole_run(&body, &name);
	post(ask, sink, &body, on_verified);
}
