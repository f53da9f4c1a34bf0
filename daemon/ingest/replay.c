/* See replay.h.
 *
 *   idle ──a dead one──▶ opening ──▶ reading ⇄ feeding ──end──▶ settling ──all durable──▶ closing
 * ──▶ idle └───────────────── cannot be read, store failed ─────────────────▲
 */
#include "daemon/ingest/replay.h"

#include "daemon/base/log.h"
#include "daemon/ingest/ingest.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"
#include "proto/record.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum replay_state {
	REPLAY_IDLE,
	REPLAY_OPENING,
	REPLAY_READING,
	REPLAY_FEEDING,
	REPLAY_SETTLING,
	REPLAY_CLOSING,
	REPLAY_STATES
};

struct replay {
	struct ingest *ingest;
	struct presence *presence;
	struct mailbox *worker;
	struct scan_job *scan;
	bool scanning; /* the worker has it */
	uint64_t next_scan_ms;
	uint64_t seen_ms;
	struct replay_sums sums; /* of the last look */
	enum replay_state state;
	uint8_t last_tried[PRODUCER_BYTES];
	struct replay_job *job;
	struct session *session;
	size_t fed;   /* of the chunk */
	bool in_feed; /* session_feed() is on the stack: what its end means, its result says */
	bool stopping;
};

static const struct {
	const char *name;
	unsigned allowed;
} states[REPLAY_STATES] = {
	[REPLAY_IDLE] = {"idle", 1u << REPLAY_OPENING},
	[REPLAY_OPENING] = {"opening", 1u << REPLAY_READING | 1u << REPLAY_CLOSING},
	[REPLAY_READING] = {"reading", 1u << REPLAY_FEEDING | 1u << REPLAY_CLOSING},
	[REPLAY_FEEDING] = {"feeding",
			    1u << REPLAY_READING | 1u << REPLAY_SETTLING | 1u << REPLAY_CLOSING},
	[REPLAY_SETTLING] = {"settling", 1u << REPLAY_CLOSING},
	[REPLAY_CLOSING] = {"closing", 1u << REPLAY_IDLE},
};

static void replay_move(struct replay *r, enum replay_state to)
{
	assert(states[r->state].allowed & 1u << to);
	log_debug("replay", "from=%s to=%s", states[r->state].name, states[to].name);
	r->state = to;
}

static void ask_worker(struct replay *r, enum replay_step step)
{
	r->job->next = step;
	(void)mailbox_post(r->worker, &r->job->job.mail); /* never full */
}

static void finish(struct replay *r, enum replay_step how)
{
	if (r->session != NULL) {
		stats_add(ingest_stats(r->ingest), COUNT_REPLAYED, r->session->stored);
		session_end(r->session);
	}
	r->session = NULL;
	replay_move(r, REPLAY_CLOSING);
	ask_worker(r, how);
}

static bool all_is_durable(const struct replay *r)
{
	return r->session->in_batches == 0 && r->session->parts_out == 0 &&
	       r->session->durable_seq >= r->session->last_seq;
}

/* --- as a source of a session --- */

static void on_send(void *source, struct span bytes)
{
	(void)source; /* nobody is there to read it; what matters is seen in on_settled() */
	(void)bytes;
}

static void on_end(void *source)
{
	struct replay *r = source;

	r->session = NULL;
	if (!r->in_feed && (r->state == REPLAY_FEEDING || r->state == REPLAY_SETTLING))
		finish(r, REPLAY_CLOSE); /* superseded, or the store failed: the next look begins
					    again */
}

static void feed(struct replay *r)
{
	struct span rest = {.at = r->job->chunk.data + r->fed, .len = r->job->chunk.len - r->fed};
	enum feed_result result;
	size_t used;

	r->in_feed = true;
	result = session_feed(r->session, rest, &used);
	r->in_feed = false;
	r->fed += used;
	switch (result) {
	case FEED_HELD: return;
	case FEED_ENDED: finish(r, REPLAY_SPOIL); return;
	case FEED_LOST: finish(r, REPLAY_CLOSE); return;
	case FEED_MORE: break;
	}
	if (r->job->is_end) {
		replay_move(r, REPLAY_SETTLING);
		if (all_is_durable(r))
			finish(r, REPLAY_REMOVE);
		return;
	}
	replay_move(r, REPLAY_READING);
	ask_worker(r, REPLAY_READ);
}

static void on_resume(void *source)
{
	struct replay *r = source;

	if (r->state == REPLAY_FEEDING)
		feed(r);
}

static const struct session_source source_ops = {
	.send = on_send, .end = on_end, .resume = on_resume};

/* --- the worker's answers --- */

static bool hello_fits(const struct replay_job *j)
{
	struct record hello;
	struct record_fault fault;

	if (record_parse(buf_span(&j->chunk), &hello, &fault) < 0 || hello.kind != KIND_HELLO)
		return false;
	return span_equal(mp_get_bin(mp_of(hello.body), "producer"),
			  (struct span){.at = j->producer, .len = PRODUCER_BYTES});
}

/* The files are open: their owner says hello. */
static void begin_feeding(struct replay *r)
{
	struct buf hello;

	r->session = session_new(r->ingest, r->job->uid, &source_ops, r);
	if (r->session == NULL) {
		finish(r, REPLAY_CLOSE);
		return;
	}
	buf_init(&hello, RECORD_MAX);
	if (frame_add(&hello, buf_span(&r->job->chunk)) < 0) {
		buf_done(&hello);
		finish(r, REPLAY_CLOSE);
		return;
	}
	replay_move(r, REPLAY_READING);
	replay_move(r, REPLAY_FEEDING);
	buf_done(&r->job->chunk);
	r->job->chunk = hello;
	r->job->chunk.max = REPLAY_CHUNK;
	r->job->is_end = false;
	r->fed = 0;
	feed(r);
}

static void on_opened(struct replay *r)
{
	bool is_whole = r->job->result == 0 && hello_fits(r->job);

	if (is_whole && !r->stopping) {
		begin_feeding(r);
		return;
	}
	replay_move(r, REPLAY_CLOSING);
	if (!is_whole && (r->job->result == 0 || r->job->result == -EBADMSG))
		ask_worker(r, REPLAY_SPOIL);
	else
		ask_worker(r, REPLAY_CLOSE);
}

static void on_chunk(struct replay *r)
{
	struct session *s = r->session;

	if (s == NULL) { /* ended while the worker read */
		replay_move(r, REPLAY_CLOSING);
		ask_worker(r, REPLAY_CLOSE);
		return;
	}
	if (r->stopping) { /* the rest stays in the file */
		finish(r, REPLAY_CLOSE);
		return;
	}
	if (r->job->result < 0) {
		finish(r, r->job->result == -EBADMSG ? REPLAY_SPOIL : REPLAY_CLOSE);
		return;
	}
	replay_move(r, REPLAY_FEEDING);
	r->fed = 0;
	feed(r);
}

void replay_on_job(struct replay *r, struct replay_job *job)
{
	assert(job == r->job);
	switch (r->state) {
	case REPLAY_OPENING: on_opened(r); return;
	case REPLAY_READING: on_chunk(r); return;
	case REPLAY_CLOSING:
		replay_move(r, REPLAY_IDLE);
		if (job->next != REPLAY_CLOSE)
			replay_look_soon(r); /* there may be more dead */
		return;
	case REPLAY_IDLE:
	case REPLAY_FEEDING:
	case REPLAY_SETTLING:
	case REPLAY_STATES: break;
	}
	abort(); /* the worker has nothing of ours in these */
}

static void begin_replay(struct replay *r, const struct scan_entry *dead)
{
	memcpy(r->job->producer, dead->producer, PRODUCER_BYTES);
	memcpy(r->last_tried, dead->producer, PRODUCER_BYTES);
	r->job->uid = dead->uid;
	replay_move(r, REPLAY_OPENING);
	ask_worker(r, REPLAY_OPEN);
}

/* They are tried in turn, round the circle of their names: one whose files cannot be opened keeps
 * nobody else waiting. */
static bool comes_sooner(const struct replay *r, const struct scan_entry *a,
			 const struct scan_entry *b)
{
	bool a_ahead = memcmp(a->producer, r->last_tried, PRODUCER_BYTES) > 0;
	bool b_ahead = memcmp(b->producer, r->last_tried, PRODUCER_BYTES) > 0;

	if (a_ahead != b_ahead)
		return a_ahead;
	return memcmp(a->producer, b->producer, PRODUCER_BYTES) < 0;
}

/* A group's members were looked up by name; of those who have it as their primary one the file
 * tells. */
static bool is_allowed(const struct replay *r, const struct scan_entry *e)
{
	const struct allow_list *list = ingest_allow_list(r->ingest);

	return allow_has_uid(list, e->uid) || allow_has_gid(list, e->gid);
}

void replay_on_scan(struct replay *r, struct scan_job *job)
{
	const struct scan_entry *dead = NULL;
	uint64_t now_ms = clock_mono_ms();

	assert(job == r->scan);
	r->scanning = false;
	r->seen_ms = job->began_ms;
	if (job->unreadable > r->sums.unreadable)
		log_warn("replay",
			 "files=%llu journals or spools cannot be opened by the daemon's user "
			 "(mode, owner); they wait",
			 (unsigned long long)job->unreadable);
	r->sums = (struct replay_sums){.bytes = job->bytes,
				       .oldest_us = job->oldest_us,
				       .bad = job->bad,
				       .unreadable = job->unreadable};
	for (size_t i = 0; i < job->count; i++) {
		const struct scan_entry *e = &job->entries[i];

		/* what it left goes before its `gone` */
		presence_alive(r->presence, e->uid, e->producer, now_ms);
		if (!e->alive && is_allowed(r, e) && (dead == NULL || comes_sooner(r, e, dead)))
			dead = e;
		r->sums.producers += !e->alive;
	}
	if (dead != NULL && r->state == REPLAY_IDLE && !r->stopping)
		begin_replay(r, dead);
}

/* --- life --- */

void replay_tick(struct replay *r, uint64_t now_ms)
{
	/* what settles is looked at here too: the last ack may have come before the last chunk was
	 * known to be the last */
	if (r->state == REPLAY_SETTLING && all_is_durable(r))
		finish(r, REPLAY_REMOVE);
	if (r->scanning || r->stopping || now_ms < r->next_scan_ms)
		return;
	r->next_scan_ms = now_ms + SCAN_EVERY_MS;
	r->scanning = true;
	r->scan->began_ms = now_ms;
	(void)mailbox_post(r->worker, &r->scan->job.mail); /* never full */
}

void replay_look_soon(struct replay *r)
{
	r->next_scan_ms = 0;
}

void replay_stop(struct replay *r)
{
	r->stopping = true;
	if (r->state == REPLAY_FEEDING || r->state == REPLAY_SETTLING)
		finish(r, REPLAY_CLOSE);
}

bool replay_is_idle(const struct replay *r)
{
	return r->state == REPLAY_IDLE && !r->scanning;
}

struct replay *replay_new(struct ingest *ingest, struct presence *presence, struct mailbox *worker,
			  const char *journal_dir, const char *spool_dir)
{
	struct replay *r = mem_zalloc(sizeof(*r));

	if (r == NULL)
		return NULL;
	r->ingest = ingest;
	r->presence = presence;
	r->worker = worker;
	r->scan = scan_job_new(journal_dir, spool_dir, ingest_box(ingest));
	r->job = replay_job_new(journal_dir, spool_dir, ingest_box(ingest));
	if (r->scan == NULL || r->job == NULL)
		return replay_free(r);
	return r;
}

struct replay *replay_free(struct replay *r)
{
	if (r == NULL)
		return NULL;
	r->scan = scan_job_free(r->scan);
	r->job = replay_job_free(r->job);
	return mem_free(r);
}

uint64_t replay_seen_ms(const struct replay *r)
{
	return r->seen_ms;
}

void replay_sums(const struct replay *r, struct replay_sums *ret)
{
	*ret = r->sums;
}
