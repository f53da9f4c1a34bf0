/* See artifact_parts.h: what W&B's answers mean for an artifact. */
#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/models/artifact_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>

enum {
	DOUBTS_MAX = 6,        /* of the key, while it is good elsewhere */
	FEATURE_TRIES_MAX = 3, /* then the server is taken to know none */
	DOUBT_WAIT_MS = 5000,
};

/* --- taken --- */

static int created(struct artifact_send *a, struct span body)
{
	struct wire_created *c = mem_alloc(sizeof(*c));
	struct change_artifact more = {.state = ARTIFACT_CREATED};
	int r = c == NULL ? -ENOMEM : wire_read_created(body, c);

	if (r == 0 && c->is_committed) {
		artifact_end(a);
	} else if (r == 0) {
		(void)snprintf(a->server_id, sizeof(a->server_id), "%s", c->id); /* same size */
		(void)snprintf(a->base_id, sizeof(a->base_id), "%s", c->latest); /* the same */
		more.server_id = span_of_text(a->server_id);
		more.base_id = span_of_text(a->base_id);
		artifact_move(a, ARTIFACT_CREATED, &more);
	}
	(void)mem_free(c);
	return r;
}

static int opened(struct artifact_send *a, struct span body)
{
	struct change_artifact more = {.state = ARTIFACT_OPENED};
	int r = wire_read_manifest(body, a->manifest_id, NULL);

	more.manifest_id = span_of_text(a->manifest_id);
	if (r == 0)
		artifact_move(a, ARTIFACT_OPENED, &more);
	return r;
}

static int manifest_has_place(struct artifact_send *a, struct span body)
{
	struct wire_place *place = mem_alloc(sizeof(*place));
	char id[WIRE_ID_MAX];
	int r = place == NULL ? -ENOMEM : wire_read_manifest(body, id, place);

	if (r == 0)
		r = artifact_put_manifest(a, place);
	if (r == 0)
		artifact_to_work(a, ARTIFACT_PUTTING);
	(void)mem_free(place);
	return r;
}

static int files_answer(struct artifact_send *a, struct span body)
{
	struct artifact_put *whole = artifact_whole_parts(a);
	int r;

	if (whole != NULL) {
		r = wire_read_multipart(body);
		if (r == 0)
			whole->state = PUT_DONE;
	} else {
		r = artifact_take_places(a, body);
	}
	if (r == 0)
		artifact_to_work(a, ARTIFACT_PUTTING);
	return r;
}

static int committed(struct artifact_send *a, struct span body)
{
	int r = wire_read_committed(body);

	if (r == 0)
		artifact_end(a);
	return r;
}

/* The body of a 2xx. 0: it was taken, and something follows; -EBADMSG, -EREMOTEIO, -ENOMEM. */
static int take_body(struct artifact_send *a, struct span body)
{
	switch (a->state) {
	case ARTIFACT_DIGESTED: return created(a, body);
	case ARTIFACT_CREATED: return opened(a, body);
	case ARTIFACT_OPENED: return files_answer(a, body);
	case ARTIFACT_FILED: return manifest_has_place(a, body);
	case ARTIFACT_SEALED: return committed(a, body);
	case ARTIFACT_COLLECTING:
	case ARTIFACT_HELD:
	case ARTIFACT_READY:
	case ARTIFACT_REFUSED:
	case ARTIFACT_STATES: break;
	}
	return -EBADMSG;
}

/* What the server announces; whatever it answers, the question is settled in the end. */
static bool take_features(struct artifact_send *a, struct sink *sink,
			  const struct http_answer *http)
{
	bool has_tags = false;
	int r;

	if (http->transport != TRANSPORT_ANSWERED || http->status == 401 || http->status == 403)
		return false;
	r = wire_read_feature(http->body, "ARTIFACT_TAGS", &has_tags);
	if (r < 0 && r != -EREMOTEIO && a->attempt + 1 < FEATURE_TRIES_MAX)
		return false;
	sink->knows_artifact_tags = true;
	sink->has_artifact_tags = has_tags;
	if (!has_tags)
		log_info("models", "run=%s artifact=%s this server knows no tags of artifacts",
			 a->run_name, a->name);
	a->attempt = 0;
	a->next_ms = 0;
	return true;
}

/* --- not taken --- */

static const char *request_name(const struct artifact_send *a)
{
	switch (a->state) {
	case ARTIFACT_DIGESTED: return "POST /graphql createArtifact";
	case ARTIFACT_CREATED:
	case ARTIFACT_FILED: return "POST /graphql createArtifactManifest";
	case ARTIFACT_OPENED: return "POST /graphql createArtifactFiles";
	case ARTIFACT_SEALED: return "POST /graphql commitArtifact";
	case ARTIFACT_COLLECTING:
	case ARTIFACT_HELD:
	case ARTIFACT_READY:
	case ARTIFACT_REFUSED:
	case ARTIFACT_STATES: break;
	}
	return "";
}

static void refuse(struct artifact_send *a, const struct http_answer *http)
{
	char reason[WIRE_REASON_MAX];

	wire_reason(http->body, reason);
	artifact_refuse(a, http, reason, request_name(a));
}

/* W&B does not know it any more, or what was sent of it is not as it should be: it begins again, once. */
static void begin_afresh(struct artifact_send *a, const struct http_answer *http)
{
	const struct change c = {.kind = CHANGE_ARTIFACT_AFRESH, .number = a->id};

	if (a->is_afresh || a->state <= ARTIFACT_DIGESTED) {
		refuse(a, http);
		return;
	}
	log_warn("models", "run=%s artifact=%s http=%d W&B has lost it half-way; it is begun again",
		 a->run_name, a->name, http->status);
	a->is_afresh = true;
	artifact_forget_puts(a);
	buf_clear(&a->manifest);
	if (!artifact_changes(a))
		return;
	changes_add(a->changes, &c);
	artifact_commit(a, ARTIFACT_DIGESTED);
}

static void refused(struct artifact_send *a, const struct http_answer *http)
{
	bool are_files = a->state == ARTIFACT_OPENED && artifact_whole_parts(a) == NULL;

	if (are_files && a->put_count > 1) { /* which one is it? */
		a->batch_max = (a->put_count + 1) / 2;
		artifact_forget_puts(a);
		a->next_ms = 0;
		return;
	}
	refuse(a, http);
}

static void doubt_key(struct artifact_send *a, const struct http_answer *http, uint64_t now_ms)
{
	if (++a->doubts >= DOUBTS_MAX || (a->doubts > 1 && http->status == 403)) {
		refuse(a, http);
		return;
	}
	a->not_before_ms = now_ms + (a->doubts > 1 ? DOUBT_WAIT_MS : 0);
}

static void again(struct artifact_send *a, const struct http_answer *http, uint64_t wait_ms,
		  uint64_t now_ms)
{
	a->attempt++;
	if (now_ms + wait_ms > a->not_before_ms)
		a->not_before_ms = now_ms + wait_ms;
	log_warn("models", "run=%s artifact=%s http=%d wait_ms=%llu %s; it is tried again",
		 a->run_name, a->name, http->status, (unsigned long long)wait_ms,
		 http->transport == TRANSPORT_ANSWERED ? "W&B could not take it"
		 : http->error[0] != '\0'              ? http->error
						       : transport_text(http->transport));
}

static void obey(struct artifact_send *a, const struct http_answer *http, struct retry_verdict v,
		 uint64_t now_ms)
{
	switch (v.action) {
	case RETRY_SENT: return;
	case RETRY_AGAIN:
	case RETRY_URL: again(a, http, v.wait_ms, now_ms); return;
	case RETRY_SPLIT:
	case RETRY_REFUSED: refused(a, http); return;
	case RETRY_PARK_RUN: begin_afresh(a, http); return;
	case RETRY_KEY: doubt_key(a, http, now_ms); return;
	}
}

static bool is_ok(const struct http_answer *http)
{
	return http->transport == TRANSPORT_ANSWERED && http->status >= 200 && http->status < 300;
}

void artifact_on_answer(void *arg, struct sink *sink, const struct http_answer *http)
{
	struct artifact_send *a = arg;
	struct retry_facts facts = {
		.endpoint = ENDPOINT_GRAPHQL, .attempt = a->attempt + 1, .parts = 1};
	struct http_answer answer = *http;
	uint64_t now_ms = clock_mono_ms();
	int r = 0;

	fault_point("artifact.answered");
	artifact_to_work(a, ARTIFACT_IDLE);
	if (a->asks_features) {
		if (take_features(a, sink, http))
			return;
	} else if (is_ok(http)) {
		r = take_body(a, http->body);
	}
	if (r == 0 && is_ok(http) && !a->asks_features) {
		(void)sink_judge(sink, http, &facts, now_ms); /* the way is open */
		a->doubts = 0;
		return;
	}
	if (r == -EBADMSG || r == -ENOMEM) { /* half an answer, or somebody else's */
		answer.transport = TRANSPORT_BROKEN;
		(void)snprintf(answer.error, sizeof(answer.error), "an answer that cannot be read");
	}
	facts.has_errors = r == -EREMOTEIO;
	obey(a, &answer, sink_judge(sink, &answer, &facts, now_ms), now_ms);
}
