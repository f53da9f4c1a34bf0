/* See ingest_parts.h: what sessions ask of the loop: who is connected, who waits for room, and what
 * goes to the store. */
#include "daemon/flow/notice.h"
#include "daemon/ingest/ingest_parts.h"
#include "daemon/ingest/replay.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/mp.h"
#include "proto/pack.h"

#include <string.h>

/* --- who is connected --- */

struct session_key {
	uint32_t uid;
	const uint8_t *producer;
};

static bool session_matches(struct map_node *node, const void *key)
{
	const struct session *s = container_of(node, struct session, node);
	const struct session_key *k = key;

	return s->uid == k->uid && memcmp(s->producer, k->producer, PRODUCER_BYTES) == 0;
}

static struct session *find_session(const struct ingest *in, uint32_t uid,
				    const uint8_t producer[PRODUCER_BYTES])
{
	struct session_key key = {.uid = uid, .producer = producer};
	uint64_t hash = map_hash(&in->sessions, producer, PRODUCER_BYTES) ^ uid;
	struct map_node *node = map_find(&in->sessions, hash, session_matches, &key);

	return node == NULL ? NULL : container_of(node, struct session, node);
}

bool ingest_is_connected(const struct ingest *in, uint32_t uid,
			 const uint8_t producer[PRODUCER_BYTES])
{
	return find_session(in, uid, producer) != NULL;
}

int ingest_session_opens(struct ingest *in, struct session *s, struct span hello)
{
	struct session *old = find_session(in, s->uid, s->producer);
	int r = batcher_hello(&in->batcher, s, hello);

	if (r < 0)
		return r;
	if (old != NULL)
		session_supersede(old);
	r = map_add(&in->sessions, &s->node,
		    map_hash(&in->sessions, s->producer, PRODUCER_BYTES) ^ s->uid);
	if (r == 0)
		presence_connected(&in->presence, s->uid, s->producer);
	return r;
}

void ingest_session_closed(struct ingest *in, struct session *s)
{
	map_remove(&in->sessions, &s->node);
	presence_disconnected(&in->presence, s->uid, s->producer, clock_mono_ms());
	if (in->replay != NULL)
		replay_look_soon(in->replay); /* it may have died: its journal is free then */
}

/* --- who waits for room --- */

static void append_held(struct ingest *in, struct session *s)
{
	s->held_next = NULL;
	*in->held_end = s;
	in->held_end = &s->held_next;
}

void ingest_hold(struct ingest *in, struct session *s)
{
	if (s->held)
		return;
	s->held = true;
	append_held(in, s);
}

void ingest_unhold(struct ingest *in, struct session *s)
{
	struct session **at = &in->held;

	if (!s->held)
		return;
	while (*at != s)
		at = &(*at)->held_next;
	*at = s->held_next;
	if (in->held_end == &s->held_next)
		in->held_end = at;
	s->held = false;
}

/* Whose frames were taken in this round goes behind those who got nothing: the next room is theirs. */
static void put_fed_last(struct ingest *in)
{
	struct session *list = in->held;
	struct session *fed = NULL;
	struct session **fed_end = &fed;

	in->held = NULL;
	in->held_end = &in->held;
	while (list != NULL) {
		struct session *s = list;

		list = s->held_next;
		if (!s->was_fed) {
			append_held(in, s);
			continue;
		}
		s->held_next = NULL;
		*fed_end = s;
		fed_end = &s->held_next;
	}
	if (fed == NULL)
		return;
	*in->held_end = fed;
	in->held_end = fed_end;
}

void ingest_resume_held(struct ingest *in)
{
	struct session *list = in->held;

	in->resume_held = false;
	in->held = NULL;
	in->held_end = &in->held;
	for (struct session *s = list; s != NULL; s = s->held_next)
		s->held = s->was_fed = false;
	while (list != NULL) {
		struct session *s = list;

		list = s->held_next;
		if (s->state != SESSION_ENDED)
			s->ops->resume(s->source);
	}
	put_fed_last(in);
}

/* --- to the store --- */

int ingest_add(struct ingest *in, struct session *s, struct batch_entry *e, struct span payload,
	       struct span run)
{
	return batcher_add(&in->batcher, s, e, payload, run);
}

bool ingest_part_fits(const struct ingest *in, size_t len)
{
	return in->parts_bytes == 0 || in->parts_bytes + len <= BLOB_WINDOW_BYTES;
}

void ingest_post_part(struct ingest *in, struct part *part)
{
	in->parts_bytes += part->data.len;
	in->parts_out++;
	(void)mailbox_post(in->neighbours.store_parts,
			   &part->mail); /* never full: what goes in is counted here */
}

void ingest_count_refusal(struct ingest *in, enum counter counter)
{
	struct stats *s = in->settings.stats;

	stats_add(s, counter, 1);
	rate_add(&s->refused, clock_mono_ms(), 1);
	if (ingest_space(in) != SPACE_FINE && stats_get_refusing(s) == 0)
		stats_set_refusing(s, clock_wall_us());
}

static struct asked *find_asked(struct ingest *in, int64_t run)
{
	for (size_t i = 0; i < ASKED_MAX; i++) {
		if (in->asked[i].run == run)
			return &in->asked[i];
	}
	return NULL;
}

void ingest_notice_came(struct ingest *in, int64_t run)
{
	struct asked *asked = find_asked(in, run);
	bool again = asked != NULL && asked->again;

	in->notices_out--;
	if (asked != NULL)
		*asked = (struct asked){.run = 0};
	if (again)
		ingest_ask_notice(in, run);
}

void ingest_ask_notice(struct ingest *in, int64_t run)
{
	struct asked *asked = find_asked(in, run);
	struct notice *n;

	if (in->neighbours.sender == NULL || in->state != INGEST_RUNNING)
		return;
	if (asked != NULL) { /* one answer for all who come while it is on its way */
		asked->again = true;
		return;
	}
	n = notice_new(run);
	if (n == NULL)
		return; /* a client does not wait for it without end */
	asked = find_asked(in, 0);
	if (asked != NULL)
		asked->run = run;
	n->is_asked = true;
	in->notices_out++;
	(void)mailbox_post(in->neighbours.sender, &n->mail); /* never full */
}

void ingest_tell(struct ingest *in, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
		 struct span frame)
{
	struct session *s = find_session(in, uid, producer);

	if (s != NULL)
		session_tell(s, frame);
}

int ingest_post_gone(struct ingest *in, uint32_t uid, const uint8_t producer[PRODUCER_BYTES],
		     int64_t producer_id, struct span run)
{
	struct batch_peer peer = {.uid = uid, .producer_id = producer_id};
	struct batch_entry e = {.kind = KIND_GONE, .fate = ENTRY_STORE, .time_us = clock_wall_us()};
	auto_buf struct buf payload;
	struct pack p;
	struct mp_value skipped;
	struct mp at;

	memcpy(peer.producer, producer, PRODUCER_BYTES);
	buf_init(&payload, RECORD_MAX);
	pack_init(&p, &payload);
	pack_array(&p, 3);
	pack_text(&p, "gone");
	pack_uint(&p, 0);
	pack_map(&p, 2);
	pack_text(&p, "run");
	pack_str(&p, run);
	pack_pair_uint(&p, "t", e.time_us);
	if (payload.error != 0)
		return payload.error;
	at = mp_of(buf_span(&payload));
	for (int i = 0; i < 3; i++)
		(void)mp_read(&at, &skipped); /* the array, the kind, the seq: packed above */
	return batcher_gone(&in->batcher, &peer, &e, buf_span(&payload), mp_get_str(at, "run"));
}
