/* See orders.h. */
#include "daemon/forward/orders.h"

#include "daemon/base/log.h"
#include "daemon/flow/run_search.h"
#include "daemon/forward/ask.h"
#include "daemon/forward/models/side.h"
#include "daemon/forward/traces.h"
#include "daemon/forward/upload.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/pack.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void give_back(struct order *o, int result)
{
	int r;

	o->result = result;
	r = mailbox_post(o->reply_to, &o->mail);
	assert(r == 0); /* reply boxes have a place for every mail there is */
}

static void say(struct order *o, const char *text)
{
	(void)snprintf(o->text, sizeof(o->text), "%s", text); /* short texts */
}

static bool may_touch(const struct order *o, uint32_t uid)
{
	return o->is_admin || o->uid == uid;
}

/* May it be touched, and is it meant? No run named: all are. */
static bool is_meant(const struct order *o, const struct run_info *run)
{
	return may_touch(o, run->uid) && (!o->has_run || run_is_called(run, span_of_text(o->run)));
}

/* Calls act for every open run that is meant and that the asker may touch; their number. */
static int64_t each_run(const struct order_context *c, const struct order *o,
			void (*act)(struct models_run *run))
{
	struct run_info *info = mem_alloc(sizeof(*info));
	int64_t count = 0;

	for (size_t i = 0; info != NULL && i < c->run_count; i++) {
		if (reader_run(c->reader, models_run_id(c->runs[i]), info) < 0)
			continue;
		if (!is_meant(o, info))
			continue;
		act(c->runs[i]);
		count++;
	}
	(void)mem_free(info);
	return count;
}

/* The same for runs that have traces to send, whether they are open or done. */
static int64_t each_trace(const struct order_context *c, const struct order *o,
			  void (*act)(struct weave_run *run))
{
	struct run_info *info = mem_alloc(sizeof(*info));
	int64_t count = 0;

	for (size_t i = 0; info != NULL && i < c->traces->count; i++) {
		if (reader_run(c->reader, weave_run_id(c->traces->runs[i]), info) < 0 ||
		    !is_meant(o, info))
			continue;
		act(c->traces->runs[i]);
		count++;
	}
	(void)mem_free(info);
	return count;
}

static void flush(const struct order_context *c, struct order *o)
{
	int64_t traces = each_trace(c, o, weave_run_flush);

	o->count = each_run(c, o, models_run_flush);
	if (o->count == 0)
		o->count = traces;
	give_back(o, 0);
}

/* Of the sinks that are the asker's business: the site's wait for whoever steers all. */
static void end_waits_of(const struct sinks *sinks, const struct order *o)
{
	for (size_t i = 0; i < sinks->count; i++) {
		struct sink *sink = sinks->list[i];

		if (o->is_admin || sink->uid == (int64_t)o->uid)
			sink_retry(sink, clock_mono_ms());
	}
}

static void retry(const struct order_context *c, struct order *o)
{
	int64_t traces = 0;

	if (o->sink == SINK_ARTIFACTS) {
		say(o, "this version keeps what belongs to that sink and does not send it");
		give_back(o, -EINVAL);
		return;
	}
	if (!o->has_run && o->sink != SINK_WEAVE)
		end_waits_of(c->sinks, o);
	if (!o->has_run && o->sink != SINK_MODELS)
		end_waits_of(&c->traces->sinks, o);
	if (o->sink != SINK_MODELS)
		traces = each_trace(c, o, weave_run_retry);
	if (o->sink != SINK_WEAVE)
		o->count = each_run(c, o, models_run_retry);
	if (o->count == 0)
		o->count = traces;
	if (o->has_run && o->count == 0) {
		say(o, "no run of that name is open: it is done, or was never here");
		give_back(o, -ENOENT);
		return;
	}
	give_back(o, 0);
}

static void take_wishes(const struct order_context *c, struct order *o)
{
	struct sink_info info;
	int r = reader_sink(c->reader, sink_name(SINK_MODELS), &info);

	if (r == 0)
		sinks_steer(c->sinks, &info, clock_mono_ms());
	if (r == 0)
		r = reader_sink(c->reader, sink_name(SINK_ARTIFACTS), &info);
	if (r == 0)
		upload_pause(&c->sinks->pool, info.paused_until_us, clock_mono_ms());
	if (r == 0)
		r = reader_sink(c->reader, sink_name(SINK_WEAVE), &info);
	if (r == 0)
		sinks_steer(&c->traces->sinks, &info, clock_mono_ms());
	o->count = 1;
	give_back(o, r);
}

/* --- dead letters --- */

struct letters {
	const struct order_context *c;
	struct order *o;
	struct changes *changes;
	struct run_info *info;
	int64_t last; /* seen */
	bool more;
	int64_t last_run;    /* of late rows */
	bool is_mine;        /* the rows of last_run are meant */
	bool is_foreign;     /* one belongs to somebody else */
	bool is_beyond_help; /* one cannot be sent again */
};

static bool is_wanted(const struct order *o, const struct dead_info *dead)
{
	if (o->status != 0 && dead->status == o->status)
		return true;
	for (size_t i = 0; i < o->id_count; i++) {
		if (o->ids[i] == dead->id)
			return true;
	}
	return false;
}

static bool can_be_sent(const struct dead_info *dead)
{
	return span_is(dead->what, "line") || span_is(dead->what, "file") ||
	       span_is(dead->what, "config") || span_is(dead->what, "summary") ||
	       span_is(dead->what, "artifact") || side_is_letter(dead);
}

static int on_letter(void *arg, const struct dead_info *dead)
{
	struct letters *l = arg;
	bool is_retry = l->o->kind == ORDER_DEAD_RETRY;
	const struct change change = {.kind = is_retry ? CHANGE_DEAD_RETRY : CHANGE_DEAD_DROP,
				      .number = dead->id};
	int r;

	l->last = dead->id;
	l->more = true;
	if (!is_wanted(l->o, dead))
		return 0;
	r = reader_run(l->c->reader, dead->run, l->info);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 ? !may_touch(l->o, l->info->uid) : !l->o->is_admin) {
		l->is_foreign = true;
		return 0;
	}
	if (is_retry && !can_be_sent(dead)) {
		l->is_beyond_help = true;
		return 0;
	}
	changes_add(l->changes, &change);
	l->o->count++;
	return l->changes->error;
}

static int find_letters(struct letters *l)
{
	int r;

	do {
		l->more = false;
		r = reader_dead(l->c->reader, l->last, on_letter, l);
	} while (r == 0 && l->more);
	return r;
}

static int why_none(struct letters *l)
{
	if (l->is_foreign) {
		say(l->o, "those belong to another user");
		return -EPERM;
	}
	if (l->is_beyond_help) {
		say(l->o, "that cannot be sent again as it is: wbxctl dead show, export or drop");
		return -EINVAL;
	}
	say(l->o, "there is no such dead letter; wbxctl dead list shows them");
	return -ENOENT;
}

static int on_late(void *arg, const struct late_info *late)
{
	struct letters *l = arg;
	const struct change change = {.kind = CHANGE_LATE_DROP, .run = late->run};
	bool is_next = late->run != l->last_run;

	l->last = late->lsn;
	l->last_run = late->run;
	l->more = true;
	if (is_next) {
		if (reader_run(l->c->reader, late->run, l->info) < 0)
			l->is_mine = false;
		else
			l->is_mine = is_meant(l->o, l->info);
		if (l->is_mine)
			changes_add(l->changes, &change);
	}
	l->o->count += l->is_mine;
	return l->changes->error;
}

static int find_late(struct letters *l)
{
	int r = l->o->has_run ? 0 : -EINVAL;

	do {
		l->more = false;
		if (r == 0)
			r = reader_late(l->c->reader, l->last_run, l->last, on_late, l);
	} while (r == 0 && l->more);
	return r;
}

static int find(struct letters *l)
{
	int r;

	if (l->o->kind != ORDER_LATE_DROP) {
		r = find_letters(l);
		return r == 0 && l->o->count == 0 ? why_none(l) : r;
	}
	r = find_late(l);
	if (r == 0 && l->o->count == 0) {
		say(l->o, "no run of that name that is yours has late rows");
		r = -ENOENT;
	}
	return r;
}

/* The changes' owner is nobody; the order is found by the list that stands before it in memory. */
struct order_changes {
	struct changes list;
	struct order *order;
};

static void change_letters(const struct order_context *c, struct order *o)
{
	struct letters l = {.c = c, .o = o};
	struct order_changes *oc = mem_zalloc(sizeof(*oc));
	int r = -ENOMEM;

	l.info = mem_alloc(sizeof(*l.info));
	if (oc != NULL && l.info != NULL) {
		oc->list.mail.type = MAIL_CHANGES;
		oc->list.reply_to = c->replies;
		oc->order = o;
		l.changes = &oc->list;
		r = find(&l);
	}
	(void)mem_free(l.info);
	if (r < 0) {
		if (oc != NULL)
			changes_reset(&oc->list);
		(void)mem_free(oc);
		give_back(o, r);
		return;
	}
	(void)mailbox_post(c->store, &oc->list.mail); /* never full */
}

void order_is_stored(struct changes *list)
{
	struct order_changes *oc = container_of(list, struct order_changes, list);

	give_back(oc->order, list->result);
	changes_reset(list);
	(void)mem_free(oc);
}

/* --- traces --- */

static void add_wanted(struct changes *list, int64_t run, struct span ids)
{
	struct change c = {.kind = CHANGE_TRACE_WANT, .run = run, .text = SPAN_LITERAL("")};
	struct mp m = mp_of(ids);
	struct mp_value v;
	uint32_t count;

	if (ids.len == 0 || mp_read(&m, &v) < 0 || v.type != MP_ARRAY) {
		changes_add(list, &c);
		return;
	}
	count = v.count;
	while (count-- > 0 && mp_read(&m, &v) == 0) {
		if (v.type != MP_STR || v.bytes.len == 0)
			continue;
		c.text = v.bytes;
		changes_add(list, &c);
	}
}

static int find_meant(const struct order_context *c, const struct order *o, int64_t *ret_run)
{
	struct run_search s = {
		.wanted = span_of_text(o->run), .is_any = o->is_admin, .uid = o->uid};
	int r;

	s.run = mem_alloc(sizeof(*s.run));
	if (s.run == NULL)
		return -ENOMEM;
	do
		r = run_search_next(&s, c->reader);
	while (r == 1);
	*ret_run = s.run->id;
	(void)mem_free(s.run);
	return r < 0 ? r : s.found == 1 ? 0 : -ENOENT;
}

/* What was left out by sampling, or by a budget. */
static void send_traces(const struct order_context *c, struct order *o)
{
	struct order_changes *oc = mem_zalloc(sizeof(*oc));
	int64_t before = 0;
	int64_t run = 0;
	int r = oc == NULL ? -ENOMEM : find_meant(c, o, &run);

	if (r == 0)
		r = o->traces.error;
	if (r == 0)
		r = reader_run_traces_held(c->reader, run, &before);
	if (r == 0) {
		oc->list.mail.type = MAIL_CHANGES;
		oc->list.reply_to = c->replies;
		oc->order = o;
		o->count = before;
		add_wanted(&oc->list, run, buf_span(&o->traces));
		r = oc->list.error;
	}
	if (r < 0) {
		if (r == -ENOENT)
			say(o, "there is no such run of yours; wbxctl runs shows them");
		if (oc != NULL)
			changes_reset(&oc->list);
		(void)mem_free(oc);
		give_back(o, r);
		return;
	}
	(void)mailbox_post(c->store, &oc->list.mail); /* never full */
}

/* --- keys --- */

/* What is known of the key; the answer of key_set and key_check. */
static void say_key(struct order *o, const struct sink *sink)
{
	const struct sink_board *b = &sink->board;
	const char *state = sink->gate == GATE_NO_KEY    ? "none"
			    : sink->gate == GATE_OPEN    ? "accepted"
			    : sink->key_is_refused       ? "refused"
			    : sink->paused_until_us != 0 ? "paused"
							 : "unreachable";
	struct pack p;

	pack_init(&p, &o->pairs);
	pack_pair_text(&p, "state", state);
	pack_pair_text(&p, "owner", sink->uid == SINK_SITE ? "site" : "user");
	pack_pair_text(&p, "source", b->source);
	pack_pair_text(&p, "tail", b->key_tail);
	pack_pair_text(&p, "user", b->user);
	pack_pair_text(&p, "entity", sink->entity);
	pack_pair_text(&p, "error", sink->gate == GATE_OPEN ? "" : b->last_error);
	o->pair_count = 7;
	o->count = 1;
}

/* Of the key that runs of the asker go out under. */
static void key_check(const struct order_context *c, struct order *o)
{
	uint64_t now_ms = clock_mono_ms();
	struct sink *sink = sinks_of(c->sinks, o->uid, now_ms);

	if (sink == NULL) {
		give_back(o, -ENOMEM);
	} else if (sink_ask(sink, now_ms)) {
		o->mail.next = sink->checks;
		sink->checks = &o->mail;
	} else {
		say_key(o, sink);
		give_back(o, 0);
	}
}

static struct order *next_check(struct sink *sink)
{
	struct mail *mail = sink->checks;

	if (mail == NULL)
		return NULL;
	sink->checks = mail->next;
	mail->next = NULL;
	return container_of(mail, struct order, mail);
}

void orders_on_asked(struct sink *sink)
{
	struct order *o;

	while ((o = next_check(sink)) != NULL) {
		say_key(o, sink);
		give_back(o, 0);
	}
}

/* Another key may do what the one before could not: parked runs of the asker begin again. */
static void key_changed(const struct order_context *c, struct order *o)
{
	sinks_look(c->sinks, o->uid, clock_mono_ms());
	for (size_t i = 0; i < c->run_count; i++) {
		if (models_run_user(c->runs[i])->uid == o->uid)
			models_run_retry(c->runs[i]);
	}
}

static void key_set(const struct order_context *c, struct order *o)
{
	struct key key = {.text = ""};
	int r = key_take(&key, o->key, strlen(o->key));

	explicit_bzero(o->key, sizeof(o->key));
	if (r < 0) {
		say(o, "that is no API key: 20 letters, digits, _ and - or more");
		give_back(o, -EINVAL);
		return;
	}
	r = key_keep(&key, c->keys_dir, o->uid);
	key_forget(&key);
	if (r < 0) {
		(void)snprintf(o->text, sizeof(o->text), "the key cannot be kept: %s",
			       strerror(-r));
		give_back(o, r == -ENOENT ? -EIO : r);
		return;
	}
	log_info("sender", "uid=%u handed over a key", o->uid);
	key_changed(c, o);
	o->count = 1;
	if (o->is_quick)
		give_back(o, 0);
	else
		key_check(c, o);
}

static void key_drop(const struct order_context *c, struct order *o)
{
	int r = key_remove(c->keys_dir, o->uid);

	if (r == -ENOENT)
		say(o, "you have handed over no key");
	else if (r == 0)
		log_info("sender", "uid=%u took his key back", o->uid);
	if (r == 0)
		key_changed(c, o);
	o->count = r == 0;
	give_back(o, r);
}

/* --- all --- */

void order_give_back(struct order *o, int result, const char *text)
{
	if (text != NULL)
		say(o, text);
	give_back(o, result);
}

void order_refuse(struct order *o)
{
	say(o, "the daemon stops");
	give_back(o, -EINVAL);
}

void orders_refuse_checks(struct sink *sink)
{
	struct order *o;

	while ((o = next_check(sink)) != NULL)
		order_refuse(o);
}

static bool needs_store(enum order_kind kind)
{
	return kind != ORDER_KEY_CHECK && kind != ORDER_KEY_FORGET && kind != ORDER_KEY_SET &&
	       kind != ORDER_PROBE;
}

void order_carry_out(const struct order_context *c, struct order *o)
{
	if (c->reader == NULL && needs_store(o->kind)) {
		say(o, "the store cannot be read now; the daemon's log says why");
		give_back(o, -EAGAIN);
		return;
	}
	switch (o->kind) {
	case ORDER_FLUSH: flush(c, o); return;
	case ORDER_RETRY: retry(c, o); return;
	case ORDER_TRACES_SEND: send_traces(c, o); return;
	case ORDER_SINKS: take_wishes(c, o); return;
	case ORDER_DEAD_RETRY:
	case ORDER_DEAD_DROP:
	case ORDER_LATE_DROP: change_letters(c, o); return;
	case ORDER_KEY_SET: key_set(c, o); return;
	case ORDER_KEY_CHECK: key_check(c, o); return;
	case ORDER_KEY_FORGET: key_drop(c, o); return;
	case ORDER_PROBE: ask_probe(c, o); return;
	case ORDER_VERIFY: ask_verify(c, o); return;
	}
}
