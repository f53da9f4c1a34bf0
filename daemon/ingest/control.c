/* See control.h.
 *
 *   ready ──request──▶ asking ──slice──▶ writing ──written──▶ asking (more) or ready
 *                        └──nothing new, follows──▶ following ──commit──▶ asking
 *   any ──▶ closing (freed when libuv has closed the handle and no thread works for it)
 */
#include "daemon/ingest/control.h"

#include "daemon/base/log.h"
#include "daemon/flow/change.h"
#include "daemon/ingest/peer.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum asker_state {
	ASKER_READY,
	ASKER_ASKING,
	ASKER_FOLLOWING,
	ASKER_WRITING,
	ASKER_CLOSING,
	ASKER_STATES
};
enum {
	READ_BYTES = 16 << 10
};

struct asker {
	uv_pipe_t pipe;
	struct asker *next;
	struct asker **prev;
	struct control *control;
	enum asker_state state;
	bool handle_closed;
	bool at_work; /* another thread has the request's mail */
	uint32_t uid;
	bool is_admin;
	struct buf in;
	char read_bytes[READ_BYTES];
	struct query *query; /* the request under way, when the worker answers it */
	struct order *order;
	struct changes *changes;
	uint64_t id;    /* of the request under way */
	enum verb verb; /* the same */
	struct buf out;
	uv_write_t write;
};

struct control {
	uv_loop_t *loop;
	struct control_settings settings;
	struct asker *askers;
	unsigned count;
};

static const struct {
	const char *name;
	unsigned allowed;
} states[ASKER_STATES] = {
	[ASKER_READY] = {"ready", 1u << ASKER_ASKING | 1u << ASKER_WRITING | 1u << ASKER_CLOSING},
	[ASKER_ASKING] = {"asking",
			  1u << ASKER_WRITING | 1u << ASKER_FOLLOWING | 1u << ASKER_CLOSING},
	[ASKER_FOLLOWING] = {"following", 1u << ASKER_ASKING | 1u << ASKER_CLOSING},
	[ASKER_WRITING] = {"writing", 1u << ASKER_READY | 1u << ASKER_ASKING | 1u << ASKER_CLOSING},
	[ASKER_CLOSING] = {"closing", 0},
};

static void asker_move(struct asker *a, enum asker_state to)
{
	assert(states[a->state].allowed & 1u << to);
	log_debug("control", "asker=%p from=%s to=%s", (void *)a, states[a->state].name,
		  states[to].name);
	a->state = to;
}

/* --- closing --- */

static void maybe_free(struct asker *a)
{
	if (!a->handle_closed || a->at_work)
		return;
	*a->prev = a->next;
	if (a->next != NULL)
		a->next->prev = a->prev;
	a->control->count--;
	a->query = query_free(a->query);
	a->order = order_free(a->order);
	a->changes = changes_free(a->changes);
	buf_done(&a->in);
	buf_done(&a->out);
	(void)mem_free(a);
}

static void on_closed(uv_handle_t *handle)
{
	struct asker *a = container_of(handle, struct asker, pipe);

	a->handle_closed = true;
	maybe_free(a);
}

static void asker_close(struct asker *a)
{
	if (a->state == ASKER_CLOSING)
		return;
	asker_move(a, ASKER_CLOSING);
	uv_close((uv_handle_t *)&a->pipe, on_closed);
}

/* --- answers --- */

static void take_requests(struct asker *a);

static void forget_request(struct asker *a)
{
	a->query = query_free(a->query);
	a->order = order_free(a->order);
	a->changes = changes_free(a->changes);
}

static void give_to_worker(struct asker *a)
{
	a->at_work = true;
	(void)mailbox_post(a->control->settings.worker, &a->query->job.mail); /* never full */
}

static void ask_again(struct asker *a)
{
	asker_move(a, ASKER_ASKING);
	give_to_worker(a);
}

static void on_written(uv_write_t *write, int status)
{
	struct asker *a = container_of(write, struct asker, write);

	if (a->state == ASKER_CLOSING)
		return;
	if (status < 0) {
		asker_close(a);
		return;
	}
	buf_trim(&a->out, QUERY_SLICE_BYTES);
	if (a->query != NULL && a->query->more) {
		ask_again(a);
		return;
	}
	forget_request(a);
	asker_move(a, ASKER_READY);
	take_requests(a);
}

static void send_out(struct asker *a)
{
	uv_buf_t bytes = uv_buf_init((char *)a->out.data, (unsigned)a->out.len);

	asker_move(a, ASKER_WRITING);
	if (a->out.error != 0 ||
	    uv_write(&a->write, (uv_stream_t *)&a->pipe, &bytes, 1, on_written) < 0)
		asker_close(a);
}

static void refuse(struct asker *a, const char *code, const char *text)
{
	answer_error(&a->out, a->id, code, text);
	send_out(a);
}

/* Back from another thread: still somebody there? */
static bool is_back(struct asker *a)
{
	a->at_work = false;
	if (a->state != ASKER_CLOSING)
		return true;
	maybe_free(a);
	return false;
}

void control_on_query(struct control *c, struct query *q)
{
	struct asker *a = c->askers;
	struct buf swap;

	while (a != NULL && a->query != q)
		a = a->next;
	assert(a != NULL); /* an asker outlives its query */
	if (!is_back(a))
		return;
	if (q->out.len == 0 && q->idle && q->more) {
		asker_move(a, ASKER_FOLLOWING);
		return;
	}
	swap = a->out;
	a->out = q->out;
	q->out = swap;
	if (a->out.len == 0 && q->more) { /* a slice in which nothing was of interest */
		give_to_worker(a);
		return;
	}
	send_out(a);
}

void control_on_commit(struct control *c)
{
	for (struct asker *a = c->askers; a != NULL; a = a->next) {
		if (a->state == ASKER_FOLLOWING)
			ask_again(a);
	}
}

static const struct packed_pairs no_pairs = {.count = 0};

static void answer_result(struct asker *a, int result, int64_t count, const char *text,
			  const struct packed_pairs *pairs)
{
	switch (result) {
	case 0: answer_done_with(&a->out, a->id, count, pairs); break;
	case -ENOENT:
		answer_error(&a->out, a->id, "not_found",
			     text[0] != '\0' ? text : "there is nothing of that name");
		break;
	case -EPERM:
		answer_error(&a->out, a->id, "not_yours",
			     text[0] != '\0' ? text : "that belongs to another user");
		break;
	case -EINVAL: answer_error(&a->out, a->id, "usage", text); break;
	default:
		answer_error(&a->out, a->id, "store", text[0] != '\0' ? text : strerror(-result));
		break;
	}
	send_out(a);
}

static void answer_order(struct asker *a, const struct order *o)
{
	const struct packed_pairs pairs = {.bytes = buf_span(&o->pairs), .count = o->pair_count};

	answer_result(a, o->pairs.error != 0 ? o->pairs.error : o->result, o->count, o->text,
		      &pairs);
}

static struct asker *find_working(const struct control *c, const struct order *o,
				  const struct changes *list)
{
	for (struct asker *a = c->askers; a != NULL; a = a->next) {
		if ((o != NULL && a->order == o) || (list != NULL && a->changes == list))
			return a;
	}
	return NULL;
}

void control_on_order(struct control *c, struct order *o)
{
	struct asker *a = find_working(c, o, NULL);

	assert(a != NULL); /* an asker outlives its order */
	if (is_back(a))
		answer_order(a, o);
}

/* --- requests --- */

static int sink_of(struct span name)
{
	for (int i = 0; i < SINK_COUNT; i++) {
		if (span_is(name, sink_name((enum sink_id)i)))
			return i;
	}
	return -1;
}

static void take_ids(struct order *o, struct mp args)
{
	struct span list;
	struct mp m;
	struct mp_value v;

	if (mp_find_span(args, "ids", &list) < 0)
		return;
	m = mp_of(list);
	if (mp_read(&m, &v) < 0 || v.type != MP_ARRAY)
		return;
	for (uint32_t left = v.count; left > 0 && o->id_count < ORDER_IDS_MAX; left--) {
		struct mp_value id;

		if (mp_read(&m, &id) < 0)
			return;
		if (id.type == MP_UINT)
			o->ids[o->id_count++] = (int64_t)id.natural;
	}
}

static void take_traces(struct order *o, struct mp args)
{
	struct span list;

	if (mp_find_span(args, "traces", &list) == 0)
		(void)buf_add(&o->traces, list.at, list.len); /* the buf remembers */
}

/* One that is longer than any is left out, and refused as none. */
static void take_key(struct order *o, struct mp args)
{
	struct span key = mp_get_str(args, "key");

	if (key.at != NULL && key.len <= ORDER_KEY_MAX)
		memcpy(o->key, key.at, key.len);
	o->is_quick = mp_get_bool(args, "quick", false);
}

static void post_order(struct asker *a, enum order_kind kind, struct mp args)
{
	struct span run = mp_get_str(args, "run");
	struct span sink = mp_get_str(args, "sink");
	struct order *o;

	if (a->control->settings.sender == NULL) {
		refuse(a, "no_sender", "this daemon does not send");
		return;
	}
	o = order_new(kind, a->control->settings.replies);
	if (o == NULL) {
		asker_close(a);
		return;
	}
	o->uid = a->uid;
	o->is_admin = a->is_admin;
	o->sink = sink_of(sink);
	o->status = (int)mp_get_uint(args, "status", 0);
	o->has_run = run.at != NULL;
	if (run.at != NULL)
		(void)snprintf(o->run, sizeof(o->run), "%.*s", (int)run.len,
			       (const char *)run.at); /* a cut name matches nothing */
	take_ids(o, args);
	take_traces(o, args);
	take_key(o, args);
	a->order = o;
	if (sink.at != NULL && o->sink < 0) {
		refuse(a, "usage", "the sinks are models, artifacts and weave");
		return;
	}
	asker_move(a, ASKER_ASKING);
	a->at_work = true;
	(void)mailbox_post(a->control->settings.sender, &o->mail); /* never full */
}

static void post_change(struct asker *a, const struct change *change)
{
	a->changes = changes_new(a, a->control->settings.replies);
	if (a->changes == NULL) {
		asker_close(a);
		return;
	}
	changes_add(a->changes, change);
	if (a->changes->error != 0) {
		asker_close(a);
		return;
	}
	asker_move(a, ASKER_ASKING);
	a->at_work = true;
	(void)mailbox_post(a->control->settings.store_changes, &a->changes->mail); /* never full */
}

static void post_prune(struct asker *a, struct mp args)
{
	const struct change change = {
		.kind = CHANGE_PRUNE,
		.time_us = mp_get_int(args, "before_us", 0),
	};

	if (change.time_us <= 0)
		refuse(a, "usage", "before which time?");
	else
		post_change(a, &change);
}

static int64_t limit_of(struct mp args, const char *key, int64_t absent)
{
	uint64_t n = mp_get_uint(args, key, UINT64_MAX);

	return n > INT64_MAX ? absent : (int64_t)n;
}

/* pause, unpause, limit. */
static void steer_sink(struct asker *a, enum verb verb, struct mp args)
{
	uint64_t for_ms = mp_get_uint(args, "for_ms", 0);
	int64_t absent =
		mp_get_bool(args, "default", false) ? CHANGE_LIMIT_DEFAULT : CHANGE_LIMIT_KEEP;
	struct change change = {
		.kind = verb == VERB_LIMIT ? CHANGE_SINK_LIMIT : CHANGE_SINK_PAUSE,
		.text = mp_get_str(args, "sink"),
		.requests_per_s = limit_of(args, "requests_per_s", absent),
		.bytes_per_s = limit_of(args, "bytes_per_s", absent),
	};

	if (sink_of(change.text) < 0) {
		refuse(a, "usage", "the sinks are models, artifacts and weave");
		return;
	}
	if (verb == VERB_LIMIT && sink_of(change.text) != SINK_MODELS) {
		refuse(a, "usage", "only the sink models sends, and has limits");
		return;
	}
	if (verb == VERB_PAUSE)
		change.time_us = for_ms == 0 ? -1 : (int64_t)(clock_wall_us() + for_ms * 1000);
	post_change(a, &change);
}

void control_on_changes(struct control *c, struct changes *list)
{
	struct asker *a = find_working(c, NULL, list);
	int result = list->result;

	assert(a != NULL); /* an asker outlives its changes */
	if (!is_back(a))
		return;
	if (result == 0 && a->verb != VERB_PRUNE &&
	    c->settings.sender != NULL) { /* the sender has to know before the asker does */
		a->order = order_new(ORDER_SINKS, c->settings.replies);
		if (a->order == NULL) {
			asker_close(a);
			return;
		}
		a->order->is_admin = true;
		a->at_work = true;
		(void)mailbox_post(c->settings.sender, &a->order->mail); /* never full */
		return;
	}
	answer_result(a, result, 1, "", &no_pairs);
}

static void post_query(struct asker *a, enum verb verb, struct span body)
{
	struct query_facts facts = {0};

	a->control->settings.fill_facts(a->control->settings.arg, &facts);
	a->query = query_new(verb, a->id, body, &facts);
	if (a->query == NULL) {
		asker_close(a);
		return;
	}
	a->query->uid = a->uid;
	a->query->is_admin = a->is_admin;
	a->query->job.reply_to = a->control->settings.replies;
	ask_again(a);
}

static void dispatch(struct asker *a, enum verb verb, struct span body)
{
	const struct verb_info *info = verb_info(verb);
	struct mp args = mp_of(body);

	if (info->who == WHO_ADMIN && !a->is_admin) {
		refuse(a, "not_allowed",
		       "only root, the daemon's user and members of group wbx-admin may do that");
		return;
	}
	if (info->thread == AT_WORKER) {
		post_query(a, verb, body);
	} else if (verb == VERB_PRUNE) {
		post_prune(a, args);
	} else if (info->thread == AT_STORE) {
		steer_sink(a, verb, args);
	} else {
		static const enum order_kind kinds[VERB_COUNT] = {
			[VERB_FLUSH] = ORDER_FLUSH,
			[VERB_RETRY] = ORDER_RETRY,
			[VERB_DEAD_RETRY] = ORDER_DEAD_RETRY,
			[VERB_DEAD_DROP] = ORDER_DEAD_DROP,
			[VERB_TRACES_SEND] = ORDER_TRACES_SEND,
			[VERB_LATE_DROP] = ORDER_LATE_DROP,
			[VERB_KEY_SET] = ORDER_KEY_SET,
			[VERB_KEY_CHECK] = ORDER_KEY_CHECK,
			[VERB_KEY_FORGET] = ORDER_KEY_FORGET,
			[VERB_PROBE] = ORDER_PROBE,
			[VERB_VERIFY] = ORDER_VERIFY,
		};

		post_order(a, kinds[verb], args);
	}
}

static void take_request(struct asker *a, struct span payload)
{
	struct control_request request;

	if (control_request_parse(payload, &request) < 0) {
		asker_close(a);
		return;
	}
	a->id = request.id;
	a->verb = request.verb;
	if (request.verb == VERB_UNKNOWN)
		refuse(a, "unknown_verb", CONTROL_UNKNOWN_VERB_TEXT);
	else
		dispatch(a, request.verb, request.body);
}

static void take_requests(struct asker *a)
{
	struct span payload;
	size_t size;

	if (a->state != ASKER_READY)
		return;
	switch (frame_next(buf_span(&a->in), CONTROL_REQUEST_MAX, &payload, &size)) {
	case FRAME_NEED_MORE: return;
	case FRAME_TOO_BIG:
	case FRAME_BAD: asker_close(a); return;
	case FRAME_READY: break;
	}
	take_request(a, payload);
	explicit_bzero((void *)(uintptr_t)payload.at, payload.len); /* it may hold a key */
	buf_drop_front(&a->in, size);
}

/* --- connections --- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct asker *a = container_of(handle, struct asker, pipe);

	(void)suggested;
	*ret = uv_buf_init(a->read_bytes, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct asker *a = container_of(stream, struct asker, pipe);

	if (n == 0 || a->state == ASKER_CLOSING)
		return;
	if (n < 0 || buf_add(&a->in, buffer->base, (size_t)n) < 0) {
		asker_close(a);
		return;
	}
	explicit_bzero(buffer->base, (size_t)n);
	take_requests(a);
}

static int identify(struct asker *a)
{
	const struct control_settings *s = &a->control->settings;
	uid_t uid;
	int r = peer_uid(&a->pipe, &uid);

	if (r < 0)
		return r;
	a->uid = uid;
	a->is_admin = uid == 0 || uid == s->own_uid || peer_is_in_group(&a->pipe, s->admin_gid);
	return 0;
}

void control_accept(struct control *c, struct listener *l)
{
	struct asker *a = mem_zalloc(sizeof(*a));
	int r;

	if (a == NULL) {
		listener_refuse(l);
		return;
	}
	a->control = c;
	buf_init(&a->in, CONTROL_REQUEST_MAX + READ_BYTES);
	buf_init(&a->out, QUERY_SLICE_BYTES + 4 * CONTROL_REPLY_MAX);
	a->prev = &c->askers;
	a->next = c->askers;
	if (a->next != NULL)
		a->next->prev = &a->next;
	c->askers = a;
	c->count++;
	(void)uv_pipe_init(c->loop, &a->pipe, 0); /* always 0 */
	r = uv_accept((uv_stream_t *)&l->pipe, (uv_stream_t *)&a->pipe);
	if (r == 0 && c->count > CONTROL_CONNECTIONS_MAX)
		r = -EUSERS;
	if (r == 0)
		r = identify(a);
	if (r == 0)
		r = uv_read_start((uv_stream_t *)&a->pipe, on_alloc, on_read);
	if (r < 0)
		asker_close(a);
}

struct control *control_new(uv_loop_t *loop, const struct control_settings *settings)
{
	struct control *c = mem_zalloc(sizeof(*c));

	if (c == NULL)
		return NULL;
	c->loop = loop;
	c->settings = *settings;
	return c;
}

struct control *control_free(struct control *c)
{
	return mem_free(c);
}

void control_stop(struct control *c)
{
	for (struct asker *a = c->askers; a != NULL; a = a->next)
		asker_close(a);
}

bool control_is_idle(const struct control *c)
{
	return c->askers == NULL;
}

unsigned control_clients(const struct control *c)
{
	return c->count;
}
