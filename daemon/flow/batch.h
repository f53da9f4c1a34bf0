/* What goes from ingest to store and back: a batch of checked records, which the store commits as
 * one transaction and returns with what became of each; and parts of blobs. The mail comes back
 * always, also after a failure. Ownership is whose box it is in. */
#pragma once

#include "daemon/base/mailbox.h"
#include "proto/kind.h"
#include "proto/limits.h"

enum {
	MAIL_BATCH = 1,
	MAIL_PART,
	MAIL_FORGET
};

/* A batch is closed at either of these. */
enum {
	BATCH_RECORDS_MAX = 1000,
	BATCH_BYTES_MAX = 4 << 20
};

enum entry_fate {
	ENTRY_STORE, /* in: to be stored. out: stored */
	ENTRY_VOID, /* in: has a seq and nothing to store (a flush, a record that ingest refused) */
	ENTRY_DUPLICATE, /* out */
	ENTRY_REJECTED,  /* out, by the store; `code` and `text` say why */
};

struct batch_entry {
	unsigned peer; /* index into peers */
	enum kind kind;
	enum entry_fate fate;
	uint64_t seq;
	uint64_t time_us;
	uint64_t lost; /* records that the client gave up, by its own word */
	size_t at;     /* of its payload in bytes */
	size_t len;
	bool has_blobs; /* the record names some */
	size_t run_at;  /* of the run id in bytes; run_len 0: none */
	size_t run_len;
	const char *code; /* static text */
	const char *text; /* static text */
	int64_t run;      /* out: the store's number of its run */
	bool run_is_new;  /* out, of `run` and `attach`: nobody here had opened it before */
};

/* One producer with something in this batch. */
struct batch_peer {
	void *session; /* ingest's; the store only compares it */
	uint32_t uid;
	uint8_t producer[PRODUCER_BYTES];
	int64_t producer_id; /* the store's number, 0: not known yet */
	bool is_new;         /* in: a hello is the first thing of this peer in this batch */
	size_t hello_at;     /* its payload in bytes */
	size_t hello_len;
	uint64_t durable_seq; /* out: everything up to here is on disk, or refused for good */
};

struct batch {
	struct mail mail;
	struct buf bytes;
	struct batch_entry *entries;
	size_t entry_count;
	size_t entry_cap;
	struct batch_peer *peers;
	size_t peer_count;
	size_t peer_cap;
	bool wanted; /* somebody waits for it (a flush, a hello): commit as soon as possible */
	uint64_t failures_known; /* by the loop, when it began to fill */
	int result; /* out: 0 committed; -ESTALE: it may follow one that failed; else -errno, nothing of it is stored */
};

void batch_init(struct batch *b);
void batch_done(struct batch *b);
/* Empties it for the next turn; memory above keep_bytes is given back. */
void batch_reset(struct batch *b, size_t keep_bytes);
bool batch_is_empty(const struct batch *b);
bool batch_is_full(const struct batch *b);

/* Both: 0 and the index, or -ENOMEM with nothing added. */
int batch_add_peer(struct batch *b, const struct batch_peer *peer, unsigned *ret_index);
/* Copies the payload; e->at and e->run_at are set here, run_at from an offset into the payload. */
int batch_add(struct batch *b, const struct batch_entry *e, struct span payload, struct span run);
int batch_add_hello(struct batch *b, unsigned peer, struct span payload);
/* Takes back the peer that was added last; it has nothing in the batch. */
void batch_drop_peer(struct batch *b);

static inline struct span batch_bytes(const struct batch *b, size_t at, size_t len)
{
	return (struct span){.at = b->bytes.data + at, .len = len};
}

/* One part of a blob, or word that a session ended and its unnamed blobs can go (type MAIL_FORGET).
 */
struct part {
	struct mail mail;
	void *session;
	uint64_t blob_id; /* the client's */
	uint64_t offset;
	struct buf data;
	bool is_last;
	uint8_t digest[DIGEST_BYTES]; /* of the whole blob, with the last part */
	int result; /* out: 0; -EBADMSG wrong digest; -ENOSPC; other -errno: the blob is lost */
};
