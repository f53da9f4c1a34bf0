/* See artifact_send.h: what an artifact does next. */
#include "daemon/forward/models/artifact_send.h"

#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/models/artifact_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	RETRY_MS = 1000,
	URL_MAX = 16 << 10,
	BODY_MAX = 4 << 20,
	LETTER_MAX = 4096,
	ANSWER_KEPT = 4096,
};

static const unsigned allowed[ARTIFACT_STATES] = {
	[ARTIFACT_READY] = 1u << ARTIFACT_DIGESTED | 1u << ARTIFACT_REFUSED,
	[ARTIFACT_DIGESTED] = 1u << ARTIFACT_CREATED | 1u << ARTIFACT_REFUSED,
	[ARTIFACT_CREATED] =
		1u << ARTIFACT_OPENED | 1u << ARTIFACT_REFUSED | 1u << ARTIFACT_DIGESTED,
	[ARTIFACT_OPENED] = 1u << ARTIFACT_OPENED | 1u << ARTIFACT_FILED | 1u << ARTIFACT_REFUSED |
			    1u << ARTIFACT_DIGESTED,
	[ARTIFACT_FILED] = 1u << ARTIFACT_SEALED | 1u << ARTIFACT_REFUSED | 1u << ARTIFACT_DIGESTED,
	[ARTIFACT_SEALED] = 1u << ARTIFACT_REFUSED | 1u << ARTIFACT_DIGESTED,
};

void artifact_to_work(struct artifact_send *a, enum artifact_work to)
{
	static const char *const names[] = {"idle", "digesting", "committing", "asking", "putting"};

	log_debug("models", "artifact=%lld from=%s to=%s", (long long)a->id, names[a->work],
		  names[to]);
	a->work = to;
	a->next_ms = 0;
}

void artifact_give_up(struct artifact_send *a, const char *what, int error)
{
	log_warn("models", "run=%s artifact=%s errno=%d %s failed here; it is tried again",
		 a->run_name, a->name, -error, what);
	a->changes = changes_free(a->changes);
	artifact_forget_puts(a);
	a->not_before_ms = clock_mono_ms() + RETRY_MS;
	artifact_to_work(a, ARTIFACT_IDLE);
}

bool artifact_changes(struct artifact_send *a)
{
	if (a->changes == NULL)
		a->changes = changes_new(a, a->host->replies);
	if (a->changes == NULL)
		artifact_give_up(a, "planning", -ENOMEM);
	return a->changes != NULL;
}

void artifact_commit(struct artifact_send *a, enum artifact_state next)
{
	if (a->changes->error != 0) {
		artifact_give_up(a, "planning", a->changes->error);
		return;
	}
	a->next_state = next;
	artifact_to_work(a, ARTIFACT_COMMITTING);
	(void)mailbox_post(a->host->store, &a->changes->mail); /* never full */
}

void artifact_move(struct artifact_send *a, enum artifact_state next,
		   const struct change_artifact *more)
{
	struct change c = {.kind = CHANGE_ARTIFACT_MOVE, .number = a->id};

	assert(allowed[a->state] & 1u << next);
	if (!artifact_changes(a))
		return;
	if (more != NULL)
		c.artifact = *more;
	c.artifact.state = next;
	changes_add(a->changes, &c);
	artifact_commit(a, next);
}

void artifact_end(struct artifact_send *a)
{
	const struct change done = {.kind = CHANGE_ARTIFACT_DONE, .number = a->id};
	const struct change ok = {
		.kind = CHANGE_SINK_OK,
		.text = SPAN_LITERAL("artifacts"),
		.time_us = (int64_t)clock_wall_us(),
		.records = 1,
	};

	if (!artifact_changes(a))
		return;
	changes_add(a->changes, &done);
	changes_add(a->changes, &ok);
	a->is_done = true;
	artifact_commit(a, a->state);
}

/* `{"artifact":ID` comes first: the store and who revives it read it there. */
static void letter(const struct artifact_send *a, struct buf *ret)
{
	struct json j;

	json_init(&j, ret);
	json_open_object(&j);
	json_put_key_text(&j, "artifact");
	json_put_int(&j, a->id);
	json_put_key_text(&j, "name");
	json_put_text(&j, a->name);
	json_put_key_text(&j, "type");
	json_put_text(&j, a->type);
	json_put_key_text(&j, "state");
	json_put_text(&j, artifact_state_name(a->state));
	json_close_object(&j);
}

void artifact_refuse(struct artifact_send *a, const struct http_answer *http, const char *reason,
		     const char *request)
{
	auto_buf struct buf body;
	struct change c = {
		.kind = CHANGE_DEAD_ADD,
		.run = a->run,
		.text = SPAN_LITERAL("artifacts"),
		.time_us = (int64_t)clock_wall_us(),
		.dead = {.status = http == NULL ? 0 : http->status,
			 .what = "artifact",
			 .step = -1,
			 .reason = span_of_text(reason),
			 .request = span_of_text(request),
			 .answer = http == NULL ? SPAN_LITERAL("") : http->body},
	};

	buf_init(&body, LETTER_MAX);
	letter(a, &body);
	if (!artifact_changes(a))
		return;
	if (c.dead.answer.len > ANSWER_KEPT)
		c.dead.answer.len = ANSWER_KEPT;
	c.dead.body = buf_span(&body);
	changes_add(a->changes, &c);
	log_error("models",
		  "run=%s artifact=%s http=%d refused for good: %s; its bytes stay here (wbxctl "
		  "dead list)",
		  a->run_name, a->name, c.dead.status, reason);
	artifact_forget_puts(a);
	a->is_done = true;
	artifact_move(a, ARTIFACT_REFUSED, NULL);
}

struct wire_name artifact_wire_name(const struct artifact_send *a)
{
	return (struct wire_name){.entity = a->entity, .project = a->project, .run = a->run_name};
}

/* --- requests --- */

static void create_body(const struct artifact_send *a, struct buf *body)
{
	struct mp about = mp_of(buf_span(&a->about));
	struct wire_artifact w = {
		.name = artifact_wire_name(a),
		.type = span_of_text(a->type),
		.collection = span_of_text(a->name),
		.digest = a->digest,
		.client_id = span_of_text(a->client_id),
		.sequence_client_id = span_of_text(a->sequence_client_id),
		.description = mp_get_str(about, "description"),
		.metadata = mp_get_str(about, "metadata"),
		.is_latest = a->id > a->newest, /* an older one moves it not back */
		.step = mp_get_int(about, "step", -1),
	};

	(void)mp_find_span(about, "aliases", &w.aliases); /* .at NULL: none */
	if (a->user->sink->has_artifact_tags)
		(void)mp_find_span(about, "tags", &w.tags);
	wire_create_artifact(body, &w);
}

static void manifest_body(const struct artifact_send *a, struct buf *body)
{
	const struct wire_manifest w = {
		.name = artifact_wire_name(a),
		.artifact = a->server_id,
		.base = a->base_id,
		.digest = a->state == ARTIFACT_FILED ? a->manifest_md5 : "",
	};

	wire_artifact_manifest(body, &w);
}

static void multipart_body(const struct artifact_send *a, const struct artifact_put *p,
			   struct buf *body)
{
	const struct wire_multipart w = {
		.artifact = a->server_id,
		.storage_path = p->storage_path,
		.upload_id = p->upload_id,
		.count = p->part_count,
		.etags = (const char *const *)p->etags,
	};

	wire_complete_multipart(body, &w);
}

static void build(struct artifact_send *a, struct buf *body)
{
	struct artifact_put *whole = artifact_whole_parts(a);

	if (a->asks_features) {
		wire_features(body);
		return;
	}
	switch (a->state) {
	case ARTIFACT_DIGESTED: create_body(a, body); return;
	case ARTIFACT_CREATED:
	case ARTIFACT_FILED: manifest_body(a, body); return;
	case ARTIFACT_OPENED:
		if (whole != NULL)
			multipart_body(a, whole, body);
		else
			artifact_files_body(a, body);
		return;
	case ARTIFACT_SEALED: wire_commit_artifact(body, a->server_id); return;
	case ARTIFACT_COLLECTING:
	case ARTIFACT_HELD:
	case ARTIFACT_READY:
	case ARTIFACT_REFUSED:
	case ARTIFACT_STATES: break;
	}
	assert(false && "a state without a request");
}

static uint64_t ask(struct artifact_send *a, uint64_t now_ms)
{
	struct sink *sink = a->user->sink;
	uint64_t wait_ms = sink_admit(sink, a->user->uid, now_ms);
	struct buf url;
	struct buf body;
	int e;

	if (wait_ms != 0)
		return wait_ms == UINT64_MAX ? UINT64_MAX : now_ms + wait_ms;
	buf_init(&url, URL_MAX);
	buf_init(&body, BODY_MAX);
	build(a, &body);
	e = wire_graphql_url(&url, a->host->base_url);
	if (e == 0)
		e = body.error;
	if (e < 0)
		sink_cancel(sink);
	else
		e = sink_post(sink, a->user->uid, (const char *)url.data, &body, artifact_on_answer,
			      a);
	buf_done(&url);
	buf_done(&body);
	if (e < 0) {
		artifact_give_up(a, "making a request", e);
		return a->not_before_ms;
	}
	artifact_to_work(a, ARTIFACT_ASKING);
	return UINT64_MAX;
}

/* --- what next --- */

static uint64_t digest(struct artifact_send *a, uint64_t now_ms)
{
	a->digest_job = artifact_digest_new(a, a->host->replies, a->id);
	if (a->digest_job == NULL) {
		artifact_give_up(a, "planning", -ENOMEM);
		return now_ms + RETRY_MS;
	}
	if (a->host->multipart_bytes != 0) {
		a->digest_job->multipart_bytes = a->host->multipart_bytes;
		a->digest_job->part_bytes = a->host->part_bytes;
	}
	artifact_to_work(a, ARTIFACT_DIGESTING);
	(void)mailbox_post(a->host->worker, &a->digest_job->job.mail); /* never full */
	return UINT64_MAX;
}

static bool has_tags(const struct artifact_send *a)
{
	struct mp_value tags;

	return mp_find(mp_of(buf_span(&a->about)), "tags", &tags) == 0 && tags.type == MP_ARRAY &&
	       tags.count > 0;
}

static uint64_t create(struct artifact_send *a, uint64_t now_ms)
{
	a->asks_features = has_tags(a) && !a->user->sink->knows_artifact_tags;
	return ask(a, now_ms);
}

/* Its files, a batch at a time, until W&B has them all. */
static uint64_t send_files(struct artifact_send *a, uint64_t now_ms)
{
	int e = 0;

	if (a->put_count == 0)
		e = artifact_next_files(a, &a->put_count);
	if (e < 0) {
		artifact_give_up(a, "reading its files", e);
		return a->not_before_ms;
	}
	if (a->put_count > 0)
		return ask(a, now_ms);
	artifact_move(a, ARTIFACT_FILED, NULL);
	return UINT64_MAX;
}

static uint64_t send_manifest(struct artifact_send *a, uint64_t now_ms)
{
	int e = a->manifest.len > 0 ? 0 : artifact_make_manifest(a);

	if (e == 0)
		return ask(a, now_ms);
	artifact_give_up(a, "making its manifest", e);
	return a->not_before_ms;
}

static uint64_t act(struct artifact_send *a, uint64_t now_ms)
{
	if (a->state == ARTIFACT_READY)
		return digest(a, now_ms);
	if (a->user->sink->gate != GATE_OPEN || a->user->sink->paused_until_us != 0)
		return UINT64_MAX;
	switch (a->state) {
	case ARTIFACT_DIGESTED: return create(a, now_ms);
	case ARTIFACT_CREATED:
	case ARTIFACT_SEALED: return ask(a, now_ms);
	case ARTIFACT_OPENED: return send_files(a, now_ms);
	case ARTIFACT_FILED: return send_manifest(a, now_ms);
	case ARTIFACT_COLLECTING:
	case ARTIFACT_HELD:
	case ARTIFACT_READY:
	case ARTIFACT_REFUSED:
	case ARTIFACT_STATES: break;
	}
	return UINT64_MAX;
}

uint64_t artifact_send_turn(struct artifact_send *a, uint64_t now_ms)
{
	if (now_ms < a->next_ms)
		return a->next_ms;
	if (now_ms < a->not_before_ms)
		a->next_ms = a->not_before_ms;
	else if (a->work == ARTIFACT_IDLE && !a->is_done)
		a->next_ms = act(a, now_ms);
	else if (a->work == ARTIFACT_PUTTING)
		a->next_ms = artifact_put_turn(a, now_ms);
	else
		a->next_ms = UINT64_MAX;
	return a->next_ms;
}

/* --- what happens to it --- */

void artifact_send_wake(struct artifact_send *a)
{
	a->next_ms = 0;
}

void artifact_send_retry(struct artifact_send *a)
{
	a->not_before_ms = 0;
	a->doubts = 0;
	a->next_ms = 0;
	for (size_t i = 0; i < a->put_count; i++)
		a->puts[i].not_before_ms = 0;
}

static void note_state(const struct artifact_send *a)
{
	char point[64];

	(void)snprintf(point, sizeof(point), "artifact.%s",
		       artifact_state_name(a->state)); /* fits */
	fault_point(point);
	log_debug("models", "run=%s artifact=%s state=%s", a->run_name, a->name,
		  artifact_state_name(a->state));
}

void artifact_send_on_changes(struct artifact_send *a, struct changes *list)
{
	bool is_news = a->next_state != a->state;

	assert(a->changes == list && a->work == ARTIFACT_COMMITTING);
	if (list->result < 0) {
		a->is_done = list->result == -ENOENT; /* somebody gave it up meanwhile */
		artifact_give_up(a, "storing", list->result);
		return;
	}
	a->changes = changes_free(list);
	a->state = a->next_state;
	a->attempt = 0;
	artifact_to_work(a, ARTIFACT_IDLE);
	if (is_news)
		note_state(a);
	if (a->is_done && a->state != ARTIFACT_REFUSED)
		log_info("models", "run=%s artifact=%s W&B has it", a->run_name, a->name);
}

void artifact_send_on_digest(struct artifact_send *a, struct artifact_digest *job)
{
	struct change_artifact found = {.state = ARTIFACT_DIGESTED};
	int result = job->result;
	bool is_again = job->found > 0;

	assert(a->digest_job == job && a->work == ARTIFACT_DIGESTING);
	if (result == 0) {
		a->changes = job->changes;
		job->changes = NULL;
		(void)snprintf(a->digest, sizeof(a->digest), "%s", job->digest); /* same size */
		found.digest = span_of_text(a->digest);
	}
	a->digest_job = artifact_digest_free(job);
	artifact_to_work(a, ARTIFACT_IDLE);
	switch (result) {
	case 0:
		if (is_again)
			artifact_commit(a, ARTIFACT_READY);
		else
			artifact_move(a, ARTIFACT_DIGESTED, &found);
		return;
	case -ENOENT: artifact_refuse(a, NULL, "bytes of a file of it are not here", ""); return;
	case -EBADMSG:
	case -EMSGSIZE:
		artifact_refuse(a, NULL, "the bytes of a table in it are no table", "");
		return;
	default: artifact_give_up(a, "reading its files", result); return;
	}
}

/* --- life --- */

static bool copy(char *ret, size_t size, struct span text)
{
	if (text.len >= size)
		return false;
	if (text.len > 0)
		memcpy(ret, text.at, text.len);
	ret[text.len] = '\0';
	return true;
}

#define COPY(to, text) copy(to, sizeof(to), text)

static bool copy_run(struct artifact_send *a, const struct run_info *run)
{
	return COPY(a->entity, span_of_text(run_entity(run))) &&
	       COPY(a->project, span_of_text(run_project(run))) &&
	       COPY(a->run_name, span_of_text(run->name)) &&
	       COPY(a->own_entity, span_of_text(run->entity)) &&
	       COPY(a->own_project, span_of_text(run->project));
}

static bool copy_texts(struct artifact_send *a, const struct artifact_info *i)
{
	return COPY(a->name, i->name) && COPY(a->type, i->type) &&
	       COPY(a->client_id, i->client_id) &&
	       COPY(a->sequence_client_id, i->sequence_client_id) && COPY(a->digest, i->digest) &&
	       COPY(a->server_id, i->server_id) && COPY(a->base_id, i->base_id) &&
	       COPY(a->manifest_id, i->manifest_id);
}

int artifact_send_new(struct artifact_send **ret, struct artifact_host *host,
		      const struct artifact_info *info, const struct run_info *run,
		      struct user *user)
{
	struct artifact_send *a = mem_zalloc(sizeof(*a));
	int r = a == NULL ? -ENOMEM : 0;

	if (r < 0)
		return r;
	a->host = host;
	a->user = user;
	a->id = info->id;
	a->run = info->run;
	a->newest = info->newest;
	a->state = info->state == ARTIFACT_HELD ? ARTIFACT_READY : info->state;
	buf_init(&a->about, SIZE_MAX);
	buf_init(&a->manifest, SIZE_MAX);
	r = buf_add(&a->about, info->about.at, info->about.len);
	if (r == 0 && (!copy_run(a, run) || !copy_texts(a, info)))
		r = -E2BIG;
	if (r < 0) {
		(void)artifact_send_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct artifact_send *artifact_send_free(struct artifact_send *a)
{
	if (a == NULL)
		return NULL;
	a->going = 0; /* what went was given up with its sink's requests */
	artifact_forget_puts(a);
	a->changes = changes_free(a->changes);
	buf_done(&a->about);
	buf_done(&a->manifest);
	return mem_free(a);
}

int64_t artifact_send_id(const struct artifact_send *a)
{
	return a->id;
}

int64_t artifact_send_run(const struct artifact_send *a)
{
	return a->run;
}

struct user *artifact_send_user(const struct artifact_send *a)
{
	return a->user;
}

struct span artifact_send_name(const struct artifact_send *a)
{
	return span_of_text(a->name);
}

bool artifact_send_is_done(const struct artifact_send *a)
{
	return a->is_done && a->work == ARTIFACT_IDLE;
}

bool artifact_send_is_idle(const struct artifact_send *a)
{
	return a->work == ARTIFACT_IDLE || (a->work == ARTIFACT_PUTTING && a->going == 0);
}

bool artifact_send_shares(const struct artifact_send *a, const struct run_info *run,
			  struct span name)
{
	return a->user->uid == run->uid && span_is(name, a->name) &&
	       strcmp(a->own_entity, run->entity) == 0 && strcmp(a->own_project, run->project) == 0;
}
