/* See storebox.h. */
#include "tests/lib/storebox.h"

#include "daemon/base/thread.h"
#include "proto/pack.h"
#include "proto/record.h"
#include "tests/lib/scratch.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_commit(void *data)
{
	struct storebox *b = data;

	b->commits++;
}

static void on_reply(void *data)
{
	bell_ring(data);
}

void storebox_open(struct storebox *b)
{
	char error[STORE_ERROR_MAX];

	memset(b, 0, sizeof(*b));
	scratch_dir(b->dir, sizeof(b->dir), "store");
	ck_assert_int_eq(stats_init(&b->stats), 0);
	ck_assert_int_eq(bell_init(&b->bell), 0);
	ck_assert_int_eq(mailbox_init(&b->replies, SIZE_MAX, on_reply, &b->bell), 0);
	b->settings = (struct store_settings){
		.dir = b->dir,
		.limit_bytes = (int64_t)50 << 30,
		.reserve_bytes = 1 << 20,
		.keep_bytes = (int64_t)20 << 30,
		.keep_us = (int64_t)7 * 86400 * 1000000,
		.retention_round_ms = 20,
		.stats = &b->stats,
		.to_loop = &b->replies,
		.on_commit = on_commit,
		.on_commit_arg = b,
	};
	ck_assert_int_eq(storebox_start(b, error), 0);
}

int storebox_start(struct storebox *b, char ret_error[STORE_ERROR_MAX])
{
	return store_start(&b->store, &b->settings, ret_error);
}

void storebox_stop(struct storebox *b)
{
	b->store = store_stop(b->store);
}

void storebox_close(struct storebox *b)
{
	char command[300];

	storebox_stop(b);
	mailbox_done(&b->replies);
	bell_done(&b->bell);
	stats_done(&b->stats);
	(void)snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	ck_assert_int_eq(system(command), 0); /* NOLINT: a path of our own */
}

static void await(struct storebox *b, const struct mail *mail)
{
	for (;;) {
		struct mail *got = mailbox_take(&b->replies);

		if (got == mail)
			return;
		ck_assert_ptr_null(got);
		bell_wait(&b->bell, 10000);
	}
}

int storebox_commit(struct storebox *b, struct batch *batch)
{
	ck_assert_int_eq(mailbox_post(store_batches(b->store), &batch->mail), 0);
	await(b, &batch->mail);
	return batch->result;
}

int storebox_part(struct storebox *b, struct part *part)
{
	ck_assert_int_eq(mailbox_post(store_parts(b->store), &part->mail), 0);
	await(b, &part->mail);
	return part->result;
}

int storebox_change(struct storebox *b, struct changes *changes)
{
	ck_assert_int_eq(changes->error, 0);
	changes->reply_to = &b->replies;
	ck_assert_int_eq(mailbox_post(store_changes(b->store), &changes->mail), 0);
	await(b, &changes->mail);
	return changes->result;
}

unsigned storebox_peer(struct batch *batch, uint8_t number, void *session)
{
	struct batch_peer peer = {.session = session, .uid = 1000};
	struct buf hello;
	struct pack p;
	unsigned index = 0;

	memset(peer.producer, 0, sizeof(peer.producer));
	peer.producer[0] = number;
	ck_assert_int_eq(batch_add_peer(batch, &peer, &index), 0);
	buf_init(&hello, 1024);
	pack_init(&p, &hello);
	pack_array(&p, 3);
	pack_text(&p, "hello");
	pack_uint(&p, 0);
	pack_map(&p, 2);
	pack_pair_uint(&p, "v", 1);
	pack_pair_bin(&p, "producer", (struct span){.at = peer.producer, .len = PRODUCER_BYTES});
	ck_assert_int_eq(batch_add_hello(batch, index, buf_span(&hello)), 0);
	buf_done(&hello);
	return index;
}

void storebox_add(struct batch *batch, unsigned peer, struct span payload)
{
	struct record record;
	struct record_fault fault;
	struct batch_entry e = {.peer = peer, .fate = ENTRY_STORE};

	ck_assert_msg(record_parse(payload, &record, &fault) == 0, "%s", fault.text);
	e.kind = record.kind;
	e.seq = record.seq;
	e.time_us = record.time_us;
	e.has_blobs = record.blobs.at != NULL;
	ck_assert_int_eq(batch_add(batch, &e, payload, record.run), 0);
}

static void open_record(struct buf *b, struct pack *p, const char *kind, uint64_t seq,
			const char *run, size_t pairs)
{
	buf_init(b, RECORD_MAX);
	pack_init(p, b);
	pack_array(p, 3);
	pack_text(p, kind);
	pack_uint(p, seq);
	pack_map(p, pairs + 2);
	pack_pair_text(p, "run", run);
	pack_pair_uint(p, "t", 1700000000000000 + seq);
}

static void close_record(struct buf *b, struct batch *batch, unsigned peer)
{
	storebox_add(batch, peer, buf_span(b));
	buf_done(b);
}

void storebox_run(struct batch *batch, unsigned peer, uint64_t seq, const char *run,
		  const char *project)
{
	struct buf b;
	struct pack p;

	open_record(&b, &p, "run", seq, run, 1);
	pack_pair_text(&p, "project", project);
	close_record(&b, batch, peer);
}

void storebox_log(struct batch *batch, unsigned peer, uint64_t seq, const char *run, double value)
{
	struct buf b;
	struct pack p;

	open_record(&b, &p, "log", seq, run, 1);
	pack_text(&p, "data");
	pack_map(&p, 1);
	pack_pair_double(&p, "x", value);
	close_record(&b, batch, peer);
}

void storebox_log_blob(struct batch *batch, unsigned peer, uint64_t seq, const char *run,
		       const uint8_t digest[DIGEST_BYTES])
{
	struct buf b;
	struct pack p;

	open_record(&b, &p, "log", seq, run, 2);
	pack_text(&p, "data");
	pack_map(&p, 0);
	pack_text(&p, "blobs");
	pack_array(&p, 1);
	pack_bin(&p, (struct span){.at = digest, .len = DIGEST_BYTES});
	close_record(&b, batch, peer);
}
