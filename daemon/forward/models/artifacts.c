/* See artifacts.h. */
#include "daemon/forward/models/artifacts.h"

#include "daemon/base/log.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdlib.h>

enum {
	LOOK_MS = 1000, /* between looks for those that became due by themselves */
	CANDIDATES_MAX = 64,
};

/* --- mails --- */

static void take_mails(struct artifacts *a)
{
	struct mail *mail;

	while ((mail = mailbox_take(&a->box)) != NULL) {
		struct changes *list;
		struct artifact_digest *job;

		switch (mail->type) {
		case MAIL_CHANGES:
			list = container_of(mail, struct changes, mail);
			artifact_send_on_changes(list->owner, list);
			break;
		case MAIL_JOB:
			job = container_of(mail, struct artifact_digest, job.mail);
			artifact_send_on_digest(job->owner, job);
			break;
		default: abort();
		}
	}
}

/* --- slots --- */

static struct artifact_send *end_slot(struct artifacts *a, struct artifact_send *send)
{
	struct user *user = artifact_send_user(send);

	(void)artifact_send_free(send);
	sinks_leave(a->sinks, user);
	return NULL;
}

static bool is_taken(const struct artifacts *a, const struct artifact_info *info,
		     const struct run_info *run)
{
	for (size_t i = 0; i < ARTIFACTS_AT_ONCE; i++) {
		const struct artifact_send *send = a->slots[i];

		if (send != NULL && (artifact_send_id(send) == info->id ||
				     artifact_send_shares(send, run, info->name)))
			return true;
	}
	return false;
}

static struct artifact_send **free_slot(struct artifacts *a)
{
	for (size_t i = 0; i < ARTIFACTS_AT_ONCE; i++) {
		if (a->slots[i] == NULL)
			return &a->slots[i];
	}
	return NULL;
}

/* The number of a due artifact, and its run: rows may not be read while others are. */
struct candidates {
	int64_t ids[CANDIDATES_MAX];
	size_t count;
};

static int on_due(void *arg, const struct artifact_info *info)
{
	struct candidates *c = arg;

	c->ids[c->count++] = info->id;
	return c->count == CANDIDATES_MAX;
}

struct opening {
	struct artifacts *a;
	struct artifact_send *send;
	struct run_info run;
	int64_t run_id;
	bool is_known; /* the run was read */
};

static int on_first_look(void *arg, const struct artifact_info *info)
{
	struct opening *o = arg;

	o->run_id = info->run;
	return 0;
}

static int on_open(void *arg, const struct artifact_info *info)
{
	struct opening *o = arg;
	struct artifacts *a = o->a;
	struct user *user;
	int r;

	if (is_taken(a, info, &o->run))
		return 0;
	user = sinks_join(a->sinks, o->run.uid, clock_mono_ms());
	if (user == NULL)
		return -ENOMEM;
	r = artifact_send_new(&o->send, &a->host, info, &o->run, user);
	if (r < 0)
		sinks_leave(a->sinks, user);
	return r;
}

/* Its run first: one row is read at a time. */
static int open_one(struct artifacts *a, int64_t id, struct artifact_send **ret)
{
	struct opening *o = mem_zalloc(sizeof(*o));
	int r = o == NULL ? -ENOMEM : 0;

	if (r < 0)
		return r;
	o->a = a;
	r = reader_artifact(a->host.reader, id, on_first_look, o);
	if (r == 0)
		r = reader_run(a->host.reader, o->run_id, &o->run);
	if (r == 0)
		r = reader_artifact(a->host.reader, id, on_open, o);
	if (r == 0)
		*ret = o->send;
	(void)mem_free(o);
	return r == -ENOENT ? 0 : r; /* somebody gave it up */
}

static int fill_slots(struct artifacts *a, int64_t after)
{
	struct candidates c = {.count = 0};
	int r = reader_due_artifacts(a->host.reader, after, CANDIDATES_MAX, on_due, &c);

	for (size_t i = 0; r >= 0 && i < c.count; i++) {
		struct artifact_send **slot = free_slot(a);

		if (slot == NULL)
			return 1;
		r = open_one(a, c.ids[i], slot);
		if (r == 0 && *slot != NULL)
			a->after = c.ids[i];
	}
	return r < 0 ? r : c.count == CANDIDATES_MAX;
}

/* From where the last one began, then from the oldest on: so all collections have their turns. */
static void look(struct artifacts *a, uint64_t now_ms)
{
	struct artifact_counts counts;
	int64_t after = a->after;
	int r;

	if (free_slot(a) == NULL || (!a->wants_look && now_ms < a->next_look_ms))
		return;
	a->wants_look = false;
	a->next_look_ms = now_ms + LOOK_MS;
	r = fill_slots(a, after);
	if (r == 0 && after > 0)
		r = fill_slots(a, 0);
	if (r >= 0)
		r = reader_artifact_counts(a->host.reader, &counts);
	a->has_waiting = r < 0 || counts.waiting > 0;
	if (r < 0)
		log_warn("models",
			 "errno=%d artifacts cannot be looked for; the next look tries again", -r);
}

/* --- turns --- */

static uint64_t turn_slot(struct artifacts *a, struct artifact_send **slot, uint64_t now_ms)
{
	uint64_t next_ms = artifact_send_turn(*slot, now_ms);

	if (!artifact_send_is_done(*slot))
		return next_ms;
	a->on_over(a->arg, artifact_send_run(*slot));
	*slot = end_slot(a, *slot);
	a->wants_look = true;
	return now_ms;
}

uint64_t artifacts_turn(struct artifacts *a, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;

	take_mails(a);
	if (a->host.reader == NULL)
		return next_ms;
	look(a, now_ms);
	for (size_t i = 0; i < ARTIFACTS_AT_ONCE; i++) {
		uint64_t slot_ms =
			a->slots[i] == NULL ? UINT64_MAX : turn_slot(a, &a->slots[i], now_ms);

		next_ms = slot_ms < next_ms ? slot_ms : next_ms;
	}
	if (a->has_waiting && free_slot(a) != NULL && a->next_look_ms < next_ms)
		next_ms = a->next_look_ms;
	return next_ms;
}

void artifacts_look(struct artifacts *a)
{
	a->wants_look = true;
}

void artifacts_wake(struct artifacts *a)
{
	for (size_t i = 0; i < ARTIFACTS_AT_ONCE; i++) {
		if (a->slots[i] != NULL)
			artifact_send_wake(a->slots[i]);
	}
}

void artifacts_retry(struct artifacts *a)
{
	a->wants_look = true;
	for (size_t i = 0; i < ARTIFACTS_AT_ONCE; i++) {
		if (a->slots[i] != NULL)
			artifact_send_retry(a->slots[i]);
	}
}

/* --- life --- */

/* A test need not send gigabytes to see a file go in parts. */
static void take_test_bounds(struct artifact_host *host)
{
#ifdef WBX_FAULTS
	const char *bytes = getenv("WBX_MULTIPART_BYTES"); /* set before threads start */

	if (bytes != NULL)
		host->multipart_bytes = host->part_bytes = strtoll(bytes, NULL, 10);
#else
	(void)host;
#endif
}

int artifacts_init(struct artifacts *a, struct sinks *sinks, void (*wake)(void *arg), void *arg)
{
	a->sinks = sinks;
	a->host.replies = &a->box;
	take_test_bounds(&a->host);
	a->wants_look = true;
	return mailbox_init(&a->box, SIZE_MAX, wake, arg);
}

void artifacts_done(struct artifacts *a)
{
	struct mail *mail;

	while ((mail = mailbox_take(&a->box)) != NULL) {
		if (mail->type == MAIL_JOB)
			(void)artifact_digest_free(
				container_of(mail, struct artifact_digest, job.mail));
		/* changes are freed with the artifact */
	}
	for (size_t i = 0; i < ARTIFACTS_AT_ONCE; i++) {
		if (a->slots[i] != NULL)
			a->slots[i] = end_slot(a, a->slots[i]);
	}
	mailbox_done(&a->box);
}
