/* One producer's side of the protocol: takes frames from a socket or from a journal of the dead,
 * checks them and puts them into the open batch. It outlives its source until the store has given
 * back everything of it. Loop thread.
 *
 *   hello ──hello frame──▶ open ──end──▶ ended (freed when nothing of it is at the store)
 */
#pragma once

#include "daemon/base/map.h"
#include "daemon/flow/batch.h"
#include "daemon/ingest/parts.h"

struct ingest;
struct session;

enum session_state {
	SESSION_HELLO,
	SESSION_OPEN,
	SESSION_ENDED,
	SESSION_STATES
};

/* What a session asks of where its frames come from. */
struct session_source {
	/* Bytes for the client; borrowed. May be dropped when it does not read. */
	void (*send)(void *source, struct span bytes);
	/* The session ended by itself (superseded, the store failed, a rule broken): no more is
	 * fed. */
	void (*end)(void *source);
	/* What was held may be fed again. */
	void (*resume)(void *source);
};

struct session {
	struct map_node node; /* by uid and producer, while open */
	struct ingest *ingest;
	const struct session_source *ops;
	void *source;
	enum session_state state;
	uint32_t uid;
	uint8_t producer[PRODUCER_BYTES];
	int64_t producer_id; /* the store's, 0 before welcome */
	bool is_live;        /* a connection, not a journal of the dead */
	bool is_shut_out;    /* this user may not log here: he is told when he says hello */
	uint64_t last_seq;   /* fed */
	uint64_t durable_seq;
	uint64_t stored; /* records taken from this source for storing, known ones among them */
	uint64_t batch_number; /* of the open batch that has us as peer */
	unsigned peer;         /* index there */
	unsigned in_batches;   /* at the store or open */
	struct parts parts;
	unsigned parts_out; /* at the store */
	bool dropped_parts; /* the disk was full: what follows of their blobs fits nowhere */
	struct session *held_next;
	bool held;    /* in the list of those to resume */
	bool was_fed; /* something of it was taken since it was last resumed */
	struct part forget;
};

enum feed_result {
	FEED_MORE,  /* everything whole was taken; more bytes are welcome */
	FEED_HELD,  /* the rest cannot be taken now: resume() will say when */
	FEED_ENDED, /* the session is over: the frames broke a rule */
	FEED_LOST,  /* the session is over, not by their fault (no memory) */
};

/* NULL: no memory. */
struct session *session_new(struct ingest *ingest, uint32_t uid, const struct session_source *ops,
			    void *source);
/* Takes whole frames from the front of `in`; *ret_used says how many bytes went. */
enum feed_result session_feed(struct session *s, struct span in, size_t *ret_used);
/* The source is gone (end of file, error): no more calls to its ops. The session frees itself. */
void session_end(struct session *s);
/* Ends it from inside with a word to the client: another connection of the producer came. */
void session_supersede(struct session *s);
/* The same: it was too slow. */
void session_time_out(struct session *s, const char *text);

/* From the batcher: what became of a batch that this session had a part in; then of its rejected
 * entries one by one. */
void session_settled(struct session *s, const struct batch_peer *peer, int result);
void session_rejected(struct session *s, const struct batch_entry *e);
/* It was to open a run, and that was rejected. */
void session_refused_run(struct session *s, struct span run, const char *why);
/* A notice, as a whole frame. */
void session_tell(struct session *s, struct span frame);
/* It opened a run, and that is on disk: had anybody here opened it before? */
void session_opened_run(struct session *s, struct span run, bool is_known);
/* From the loop's box: a part, or the forget mail, came back. */
void session_part_back(struct part *part);
