/* What a process has logged and the daemon has not acknowledged: one logical stream of frames, kept
 * outside the process so that its death costs nothing. Most of the time it is a ring in a mapped
 * file (the journal); what does not fit goes on in append-only files (the spool), and the ring
 * takes over again once those are sent. PROTOCOL.md section 6 has the formats.
 *
 *   places:  [spool files, oldest first] [ring] [spool files]      a ring that is empty moves
 * behind the files head ................ sent ................ tail
 *
 * Not thread-safe: the caller's lock is held for every call, but for reading bytes that
 * keep_unsent() gave out (they do not move before they are acknowledged). */
#pragma once

#include "proto/journal.h"

struct keep;

struct keep_settings {
	const char *journal_dir;
	const char *spool_dir;
	size_t journal_bytes;
	uint64_t spool_max_bytes;
	size_t heap_bytes; /* of the ring when there is no journal directory */
	uint8_t producer[PRODUCER_BYTES];
	struct span hello; /* payload of the hello frame; copied */
};

/* 0 and *ret, or -ENOMEM. Directories that cannot be used are no error: keep_is_durable() tells.
 * Settings' paths are copied. */
int keep_open(struct keep **ret, const struct keep_settings *settings);
/* Removes the files when everything is acknowledged; else leaves them, unlocked, to the daemon.
 * Returns NULL. */
struct keep *keep_close(struct keep *k);
/* In a forked child: closes what was inherited, touching nothing of the parent's.
 * Async-signal-safe, k is useless afterwards but for keep_free(). */
void keep_abandon(struct keep *k);
struct keep *keep_free(struct keep *k);

/* Pieces of one frame, copied one after the other. seq 0: a part of blob `blob`. 0; -ENOBUFS: no
 * room anywhere; nothing was kept. */
struct keep_frame {
	const struct span *pieces;
	size_t piece_count;
	uint64_t seq;
	uint64_t blob;
};
int keep_add(struct keep *k, const struct keep_frame *f);

/* A blob's parts stay until the record that names it is acknowledged: it begins, then gets the
 * record's seq, or is given up. */
int keep_blob_begin(struct keep *k, uint64_t blob); /* 0, or -ENOMEM */
void keep_blob_named(struct keep *k, uint64_t blob, uint64_t seq);
void keep_blob_dropped(struct keep *k, uint64_t blob); /* no record will name it */

/* Everything up to seq is on the daemon's disk. */
void keep_acked(struct keep *k, uint64_t seq);
/* A new connection: what is not acknowledged is to be sent again. */
void keep_rewind(struct keep *k);
/* Bytes to send next, all of whole frames or the rest of one; len 0: none. Reads a spool into its
 * own buffer. 0; -errno: the spool cannot be read now: the connection must begin again. A part of it
 * that cannot be read at several tries is passed over. */
int keep_unsent(struct keep *k, struct span *ret);
/* So many of the bytes that keep_unsent() gave out last were sent; they may be acknowledged
 * already. */
void keep_sent(struct keep *k, size_t len);

/* Records that were passed over since this was asked last. */
uint64_t keep_take_lost(struct keep *k);
/* Parts of blobs that were dropped may lie at the daemon, which forgets them with the connection;
 * nothing of them would be sent again. */
bool keep_wants_connection_anew(const struct keep *k);

bool keep_is_durable(const struct keep *k); /* a journal or spool file holds it, not the heap */
bool keep_is_empty(const struct keep *k);   /* all acknowledged */
uint64_t keep_unsent_bytes(const struct keep *k);
uint64_t keep_waiting_bytes(const struct keep *k);
