#include "proto/base/clock.h"
#include "proto/pack.h"
#include "tests/lib/storebox.h"
#include "tests/lib/suite.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int session_a;
static int session_b;

static int64_t number(const struct storebox *b, const char *sql)
{
	char path[96];
	sqlite3 *db;
	sqlite3_stmt *s;
	int64_t n;

	(void)snprintf(path, sizeof(path), "%s/wbx.db", b->dir);
	ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
	n = sqlite3_column_int64(s, 0);
	(void)sqlite3_finalize(s);
	(void)sqlite3_close(db);
	return n;
}

/* A run of producer 1 with `logs` records in one batch; seqs from 1. */
static void commit_logs(struct storebox *b, int logs)
{
	struct batch batch;
	unsigned peer;

	batch_init(&batch);
	peer = storebox_peer(&batch, 1, &session_a);
	storebox_run(&batch, peer, 1, "r1", "demo");
	for (int i = 0; i < logs; i++)
		storebox_log(&batch, peer, (uint64_t)i + 2, "r1", i);
	ck_assert_int_eq(storebox_commit(b, &batch), 0);
	ck_assert_uint_eq(batch.peers[0].durable_seq, (uint64_t)logs + 1);
	batch_done(&batch);
}

START_TEST(store_keeps_what_it_committed)
{
	struct storebox b;

	storebox_open(&b);
	commit_logs(&b, 10);
	storebox_stop(&b);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM record"), 11);
	ck_assert_int_eq(number(&b, "SELECT last_seq FROM producer"), 11);
	ck_assert_int_eq(number(&b, "SELECT records FROM extent"), 11);
	storebox_close(&b);
}
END_TEST

START_TEST(store_drops_duplicates_and_says_so)
{
	struct storebox b;
	struct batch batch;
	unsigned peer;

	storebox_open(&b);
	commit_logs(&b, 3);
	batch_init(&batch);
	peer = storebox_peer(&batch, 1, &session_b); /* the same producer again */
	storebox_log(&batch, peer, 3, "r1", 1);
	storebox_log(&batch, peer, 4, "r1", 2);
	storebox_log(&batch, peer, 5, "r1", 3);
	ck_assert_int_eq(storebox_commit(&b, &batch), 0);
	ck_assert_int_eq((int)batch.entries[0].fate, (int)ENTRY_DUPLICATE);
	ck_assert_int_eq((int)batch.entries[1].fate, (int)ENTRY_DUPLICATE);
	ck_assert_int_eq((int)batch.entries[2].fate, (int)ENTRY_STORE);
	ck_assert_uint_eq(batch.peers[0].durable_seq, 5);
	batch_done(&batch);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM record"), 5);
	storebox_close(&b);
}
END_TEST

START_TEST(store_knows_producers_by_uid_and_name)
{
	struct storebox b;
	struct batch batch;
	unsigned peer;

	storebox_open(&b);
	commit_logs(&b, 3);
	batch_init(&batch);
	peer = storebox_peer(&batch, 1, &session_b);
	batch.peers[peer].uid = 1001; /* the same 16 bytes of another user are another producer */
	storebox_run(&batch, peer, 1, "r1", "demo");
	ck_assert_int_eq(storebox_commit(&b, &batch), 0);
	ck_assert_int_eq((int)batch.entries[0].fate, (int)ENTRY_STORE);
	batch_done(&batch);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM producer"), 2);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM run"), 2);
	storebox_close(&b);
}
END_TEST

START_TEST(store_rejects_records_of_runs_that_were_not_opened)
{
	struct storebox b;
	struct batch batch;
	unsigned peer;

	storebox_open(&b);
	batch_init(&batch);
	peer = storebox_peer(&batch, 1, &session_a);
	storebox_log(&batch, peer, 1, "r1", 1);
	storebox_run(&batch, peer, 2, "r1", "demo");
	storebox_log(&batch, peer, 3, "r1", 1);
	storebox_run(&batch, peer, 4, "r1", "other");
	storebox_run(&batch, peer, 5, "a/b", "demo");
	ck_assert_int_eq(storebox_commit(&b, &batch), 0);
	ck_assert_str_eq(batch.entries[0].code, "unknown_run");
	ck_assert_int_eq((int)batch.entries[2].fate, (int)ENTRY_STORE);
	ck_assert_str_eq(batch.entries[3].code, "bad_field");
	ck_assert_str_eq(batch.entries[4].code, "bad_field");
	ck_assert_uint_eq(batch.peers[0].durable_seq, 5); /* rejected ones are acknowledged too */
	batch_done(&batch);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM record"), 2);
	ck_assert_int_eq(number(&b, "SELECT sum(count) FROM tally"), 3);
	storebox_close(&b);
}
END_TEST

struct seen {
	int64_t lsns[4096];
	size_t count;
};

static int see(void *arg, const struct stored_record *record)
{
	struct seen *seen = arg;

	ck_assert_uint_lt(seen->count, array_len(seen->lsns));
	seen->lsns[seen->count++] = record->lsn;
	return 0;
}

static size_t count_stream(struct reader *reader, int64_t stream, int64_t after)
{
	struct seen seen = {.count = 0};
	unsigned page = READER_PAGE;
	int64_t last = after;

	while (page == READER_PAGE) {
		ck_assert_int_eq(
			reader_records(reader, stream, last, READER_PAGE, see, &seen, &page), 0);
		last = seen.count > 0 ? seen.lsns[seen.count - 1] : last;
	}
	for (size_t i = 1; i < seen.count; i++)
		ck_assert_int_gt(seen.lsns[i], seen.lsns[i - 1]);
	return seen.count;
}

START_TEST(store_writes_each_stream_in_one_piece_per_commit)
{
	struct storebox b;
	struct reader *reader = NULL;

	storebox_open(&b);
	for (uint64_t turn = 0; turn < 7; turn++) {
		struct batch batch;
		unsigned peers[3];

		batch_init(&batch);
		for (unsigned i = 0; i < 3; i++) {
			char run[8];

			peers[i] = storebox_peer(&batch, (uint8_t)(i + 1), &session_a);
			(void)snprintf(run, sizeof(run), "r%u", i);
			if (turn == 0)
				storebox_run(&batch, peers[i], 1, run, "demo");
		}
		for (uint64_t n = 0; n < 300; n++) {
			char run[8];

			(void)snprintf(run, sizeof(run), "r%u", (unsigned)(n % 3));
			storebox_log(&batch, peers[n % 3], turn * 300 + n + 2, run, 1);
		}
		ck_assert_int_eq(storebox_commit(&b, &batch), 0);
		batch_done(&batch);
	}
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM extent"), 21);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM record"), 2103);
	ck_assert_int_eq(reader_open(&reader, b.dir), 0);
	for (int64_t run = 1; run <= 3; run++) {
		struct stream_info info;

		ck_assert_uint_eq(count_stream(reader, stream_of(run, CLASS_METRICS), 0), 701);
		ck_assert_int_eq(reader_stream(reader, stream_of(run, CLASS_METRICS), &info), 0);
		ck_assert_int_eq(info.waiting, 701);
		ck_assert_int_gt(info.oldest_us, 0);
	}
	ck_assert_ptr_null(reader_close(reader));
	storebox_close(&b);
}
END_TEST

/* --- blobs --- */

static void digest_of(const void *bytes, size_t len, uint8_t ret[DIGEST_BYTES])
{
	ck_assert_int_eq(EVP_Digest(bytes, len, ret, NULL, EVP_sha256(), NULL), 1);
}

/* Sends a blob in parts of part_len; the answer of the last. */
static int send_blob(struct storebox *b, void *session, uint64_t id, const uint8_t *bytes,
		     size_t len, size_t part_len)
{
	size_t at = 0;
	int r = 0;

	do {
		struct part part = {.mail = {.type = MAIL_PART},
				    .session = session,
				    .blob_id = id,
				    .offset = at};
		size_t n = len - at < part_len ? len - at : part_len;

		buf_init(&part.data, BLOB_PART_MAX);
		ck_assert_int_eq(buf_add(&part.data, bytes + at, n), 0);
		at += n;
		part.is_last = at == len;
		digest_of(bytes, len, part.digest);
		r = storebox_part(b, &part);
		buf_done(&part.data);
	} while (at < len && r == 0);
	return r;
}

static int count_files(const char *dir, const char *sub)
{
	char path[160];
	struct dirent *entry;
	DIR *list;
	int n = 0;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, sub);
	list = opendir(path);
	ck_assert_ptr_nonnull(list);
	while ((entry = readdir(list)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (strcmp(sub, "blobs") == 0) {
			char deeper[160];

			(void)snprintf(deeper, sizeof(deeper), "blobs/%.8s", entry->d_name);
			n += count_files(dir, deeper);
		} else {
			n++;
		}
	}
	(void)closedir(list);
	return n;
}

static void commit_blob(struct storebox *b, void *session, uint64_t seq,
			const uint8_t digest[DIGEST_BYTES], enum entry_fate fate)
{
	struct batch batch;
	unsigned peer;

	batch_init(&batch);
	peer = storebox_peer(&batch, 1, session);
	storebox_run(&batch, peer, seq, "r1", "demo");
	storebox_log_blob(&batch, peer, seq + 1, "r1", digest);
	ck_assert_int_eq(storebox_commit(b, &batch), 0);
	ck_assert_int_eq((int)batch.entries[1].fate, (int)fate);
	batch_done(&batch);
}

START_TEST(store_puts_big_blobs_into_files_and_small_ones_into_rows)
{
	struct storebox b;
	struct reader *reader = NULL;
	size_t len = 700000;
	auto_free uint8_t *bytes = mem_alloc(len);
	auto_free uint8_t *back = mem_alloc(len);
	uint8_t big[DIGEST_BYTES];
	uint8_t small[DIGEST_BYTES];
	size_t got = 0;

	ck_assert(bytes != NULL && back != NULL);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	digest_of(bytes, len, big);
	digest_of(bytes, 1000, small);
	storebox_open(&b);
	ck_assert_int_eq(send_blob(&b, &session_a, 1, bytes, len, 100000), 0);
	ck_assert_int_eq(count_files(b.dir, "tmp"), 1);
	commit_blob(&b, &session_a, 1, big, ENTRY_STORE);
	ck_assert_int_eq(count_files(b.dir, "tmp"), 0);
	ck_assert_int_eq(count_files(b.dir, "blobs"), 1);
	ck_assert_int_eq(send_blob(&b, &session_a, 2, bytes, 1000, 2000), 0);
	commit_blob(&b, &session_a, 3, small, ENTRY_STORE);
	ck_assert_int_eq(count_files(b.dir, "blobs"), 1);

	ck_assert_int_eq(reader_open(&reader, b.dir), 0);
	ck_assert_int_eq(reader_blob(reader, (struct span){.at = big, .len = DIGEST_BYTES}, 100,
				     back, len, &got),
			 0);
	ck_assert_uint_eq(got, len - 100);
	ck_assert_int_eq(memcmp(back, bytes + 100, got), 0);
	ck_assert_int_eq(reader_blob(reader, (struct span){.at = small, .len = DIGEST_BYTES}, 990,
				     back, len, &got),
			 0);
	ck_assert_uint_eq(got, 10);
	ck_assert_int_eq(memcmp(back, bytes + 990, got), 0);
	ck_assert_ptr_null(reader_close(reader));
	storebox_close(&b);
}
END_TEST

START_TEST(store_shares_equal_blobs)
{
	struct storebox b;
	size_t len = 300000;
	auto_free uint8_t *bytes = mem_zalloc(len);
	uint8_t digest[DIGEST_BYTES];

	digest_of(bytes, len, digest);
	storebox_open(&b);
	for (uint64_t turn = 0; turn < 3; turn++) {
		ck_assert_int_eq(send_blob(&b, &session_a, turn, bytes, len, 100000), 0);
		commit_blob(&b, &session_a, turn * 2 + 1, digest, ENTRY_STORE);
	}
	ck_assert_int_eq(count_files(b.dir, "blobs"), 1);
	ck_assert_int_eq(count_files(b.dir, "tmp"), 0);
	ck_assert_int_eq(number(&b, "SELECT refs FROM blob"), 3);
	storebox_close(&b);
}
END_TEST

START_TEST(store_refuses_blobs_with_a_wrong_digest_and_records_that_name_them)
{
	struct storebox b;
	uint8_t bytes[100] = {1};
	uint8_t digest[DIGEST_BYTES] = {2};
	struct part part = {
		.mail = {.type = MAIL_PART}, .session = &session_a, .blob_id = 1, .is_last = true};

	storebox_open(&b);
	buf_init(&part.data, 1000);
	ck_assert_int_eq(buf_add(&part.data, bytes, sizeof(bytes)), 0);
	memcpy(part.digest, digest, sizeof(digest));
	ck_assert_int_eq(storebox_part(&b, &part), -EBADMSG);
	buf_done(&part.data);
	commit_blob(&b, &session_a, 1, digest, ENTRY_REJECTED);
	/* a blob of another connection is not this one's */
	digest_of(bytes, sizeof(bytes), digest);
	ck_assert_int_eq(send_blob(&b, &session_b, 1, bytes, sizeof(bytes), 1000), 0);
	commit_blob(&b, &session_a, 3, digest, ENTRY_REJECTED);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM blob"), 0);
	storebox_close(&b);
}
END_TEST

START_TEST(store_forgets_unnamed_blobs_with_their_session_and_at_start)
{
	struct storebox b;
	size_t len = 300000;
	auto_free uint8_t *bytes = mem_zalloc(len);
	struct part forget = {.mail = {.type = MAIL_FORGET}, .session = &session_a};
	char orphan[160];
	char error[STORE_ERROR_MAX];

	storebox_open(&b);
	ck_assert_int_eq(send_blob(&b, &session_a, 1, bytes, len, 100000), 0);
	ck_assert_int_eq(count_files(b.dir, "tmp"), 1);
	ck_assert_int_eq(storebox_part(&b, &forget), 0);
	ck_assert_int_eq(count_files(b.dir, "tmp"), 0);

	(void)snprintf(orphan, sizeof(orphan), "%s/blobs/ab", b.dir);
	ck_assert_int_eq(mkdir(orphan, 0700), 0);
	(void)snprintf(orphan, sizeof(orphan), "%s/blobs/ab/ab%062d", b.dir, 0);
	ck_assert_int_ge(open(orphan, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), 0);
	ck_assert_int_eq(count_files(b.dir, "blobs"), 1);
	storebox_stop(&b);
	ck_assert_int_eq(storebox_start(&b, error), 0);
	ck_assert_int_eq(count_files(b.dir, "blobs"), 0);
	storebox_close(&b);
}
END_TEST

/* --- changes --- */

static struct changes *list(void)
{
	struct changes *c = changes_new(NULL, NULL);

	ck_assert_ptr_nonnull(c);
	return c;
}

static void add_line(struct changes *c, int64_t run, int64_t offset)
{
	char text[32];
	struct change line = {.kind = CHANGE_LINE_ADD,
			      .run = run,
			      .offset = offset,
			      .step = offset * 10,
			      .lsn = offset + 2,
			      .records = 1,
			      .bytes = 20};

	(void)snprintf(text, sizeof(text), "{\"_step\":%d}", (int)offset * 10);
	line.text = span_of_text(text);
	changes_add(c, &line);
}

static int collect_line(void *arg, const struct planned_line *line)
{
	struct buf *b = arg;

	return buf_printf(b, "%lld:%.*s ", (long long)line->offset, (int)line->text.len,
			  (const char *)line->text.at);
}

static void check_lines(struct storebox *b, int64_t from, const char *want)
{
	struct reader *reader = NULL;
	struct buf got;

	buf_init(&got, 4096);
	ck_assert_int_eq(reader_open(&reader, b->dir), 0);
	ck_assert_int_eq(reader_lines(reader, 1, from, collect_line, &got), 0);
	ck_assert_str_eq(buf_text(&got), want);
	ck_assert_ptr_null(reader_close(reader));
	buf_done(&got);
}

START_TEST(store_commits_a_list_of_changes_whole_or_not_at_all)
{
	struct storebox b;
	struct changes *c = list();

	storebox_open(&b);
	commit_logs(&b, 5);
	add_line(c, 1, 0);
	add_line(c, 1, 1);
	ck_assert_int_eq(storebox_change(&b, c), 0);
	changes_reset(c);
	add_line(c, 1, 2);
	add_line(c, 1, 4); /* not the next offset */
	ck_assert_int_eq(storebox_change(&b, c), -ENOENT);
	check_lines(&b, 0, "0:{\"_step\":0} 1:{\"_step\":10} ");
	changes_reset(c);
	changes_add(c, &(struct change){.kind = CHANGE_LINES_DONE, .run = 1, .offset = 1});
	changes_add(c, &(struct change){.kind = CHANGE_CONFIRM,
					.stream = stream_of(1, CLASS_METRICS),
					.lsn = 6,
					.records = 2,
					.bytes = 40});
	ck_assert_int_eq(storebox_change(&b, c), 0);
	check_lines(&b, 0, "1:{\"_step\":10} ");
	/* the records of the line that is not confirmed stay needed, whatever the mark says */
	ck_assert_int_eq(number(&b, "SELECT done_lsn FROM cursor"), 2);
	c = changes_free(c);
	storebox_close(&b);
}
END_TEST

START_TEST(store_closes_the_gap_that_a_dead_line_leaves)
{
	struct storebox b;
	struct changes *c = list();

	storebox_open(&b);
	commit_logs(&b, 5);
	for (int64_t i = 0; i < 5; i++)
		add_line(c, 1, i);
	ck_assert_int_eq(storebox_change(&b, c), 0);
	changes_reset(c);
	changes_add(c, &(struct change){.kind = CHANGE_LINE_DEAD, .run = 1, .offset = 2});
	changes_add(c, &(struct change){.kind = CHANGE_DEAD_ADD,
					.run = 1,
					.text = SPAN_LITERAL("models"),
					.dead = {.status = 400,
						 .what = "line",
						 .step = 20,
						 .reason = SPAN_LITERAL("bad row"),
						 .body = SPAN_LITERAL("{}")}});
	ck_assert_int_eq(storebox_change(&b, c), 0);
	check_lines(&b, 1, "1:{\"_step\":10} 2:{\"_step\":30} 3:{\"_step\":40} ");
	changes_reset(c);
	add_line(c, 1, 4);
	ck_assert_int_eq(storebox_change(&b, c), 0);
	ck_assert_int_eq(number(&b, "SELECT step FROM dead"), 20);
	c = changes_free(c);
	storebox_close(&b);
}
END_TEST

static int on_open_run(void *arg, int64_t id, uint32_t uid)
{
	ck_assert_uint_eq(uid, 1000);
	*(int64_t *)arg = id;
	return 0;
}

static int64_t open_run(struct storebox *b)
{
	struct reader *reader = NULL;
	int64_t id = 0;

	ck_assert_int_eq(reader_open(&reader, b->dir), 0);
	ck_assert_int_eq(reader_open_runs(reader, on_open_run, &id), 0);
	ck_assert_ptr_null(reader_close(reader));
	return id;
}

/* A person asks for a letter to be sent again while W&B is being told that its run is over. */
START_TEST(store_opens_a_run_again_whose_letter_was_wanted_while_it_ended)
{
	struct storebox b;
	struct changes *c = list();
	const struct change done = {.kind = CHANGE_RUN_STATE, .run = 1, .state = RUN_DONE};

	storebox_open(&b);
	commit_logs(&b, 1);
	changes_add(c, &(struct change){.kind = CHANGE_CURSOR,
					.stream = stream_of(1, CLASS_METRICS),
					.lsn = 1000});
	changes_add(c, &(struct change){.kind = CHANGE_DEAD_ADD,
					.run = 1,
					.text = SPAN_LITERAL("models"),
					.dead = {.status = 400,
						 .what = "line",
						 .reason = SPAN_LITERAL("bad row"),
						 .body = SPAN_LITERAL("{}")}});
	changes_add(c, &done);
	ck_assert_int_eq(storebox_change(&b, c), 0);
	ck_assert_int_eq(open_run(&b), 0); /* a letter that nobody wants keeps none open */
	changes_reset(c);
	changes_add(c,
		    &(struct change){.kind = CHANGE_RUN_STATE, .run = 1, .state = RUN_FINISHING});
	changes_add(c, &(struct change){.kind = CHANGE_DEAD_RETRY, .number = 1});
	ck_assert_int_eq(storebox_change(&b, c), 0);
	changes_reset(c);
	changes_add(c, &done);
	ck_assert_int_eq(storebox_change(&b, c), 0);
	ck_assert_int_eq(open_run(&b), 1);
	changes_reset(c);
	changes_add(c, &(struct change){.kind = CHANGE_DEAD_KEEP, .number = 1});
	changes_add(c, &done);
	ck_assert_int_eq(storebox_change(&b, c), 0);
	ck_assert_int_eq(open_run(&b), 0); /* it cannot be sent after all */
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM dead"), 1);
	c = changes_free(c);
	storebox_close(&b);
}
END_TEST

/* --- retention --- */

static void confirm_all(struct storebox *b, int64_t run, int64_t lsn, int64_t records)
{
	struct changes *c = list();

	changes_add(c, &(struct change){.kind = CHANGE_CURSOR,
					.stream = stream_of(run, CLASS_METRICS),
					.lsn = lsn});
	changes_add(c, &(struct change){.kind = CHANGE_CONFIRM,
					.stream = stream_of(run, CLASS_METRICS),
					.lsn = lsn,
					.records = records,
					.bytes = 1});
	ck_assert_int_eq(storebox_change(b, c), 0);
	c = changes_free(c);
}

/* Waits for the store thread to have done it: its next round is at most a second away. */
static void await_records(const struct storebox *b, int64_t want)
{
	for (int i = 0; i < 2000 && number(b, "SELECT count(*) FROM record") != want; i++)
		(void)sched_yield();
	while (number(b, "SELECT count(*) FROM record") !=
	       want) /* the test's own time limit ends this */
		(void)poll(NULL, 0, 10);
}

START_TEST(store_never_gives_an_lsn_twice_even_after_retention_emptied_the_table)
{
	struct storebox b;
	char error[STORE_ERROR_MAX];
	struct batch batch;
	unsigned peer;

	storebox_open(&b);
	commit_logs(&b, 9);
	confirm_all(&b, 1, 10, 10);
	storebox_stop(&b);
	b.settings.keep_us = -1000000; /* everything delivered is too old */
	ck_assert_int_eq(storebox_start(&b, error), 0);
	await_records(&b, 0);
	storebox_stop(&b);
	ck_assert_int_eq(storebox_start(&b, error), 0);
	batch_init(&batch);
	peer = storebox_peer(&batch, 1, &session_a);
	storebox_log(&batch, peer, 11, "r1", 1);
	ck_assert_int_eq(storebox_commit(&b, &batch), 0);
	batch_done(&batch);
	ck_assert_int_eq(number(&b, "SELECT lsn FROM record"), 11);
	ck_assert_int_eq(number(&b, "SELECT max(records) FROM extent"), 11); /* the sums go on */
	storebox_close(&b);
}
END_TEST

START_TEST(store_retains_while_it_takes_records_and_touches_only_what_is_done)
{
	struct storebox b;
	char error[STORE_ERROR_MAX];
	struct reader *reader = NULL;

	storebox_open(&b);
	commit_logs(&b, 900);
	confirm_all(&b, 1, 600, 600);
	storebox_stop(&b);
	b.settings.keep_us = -1000000;
	ck_assert_int_eq(storebox_start(&b, error), 0);
	for (uint64_t i = 0; i < 50; i++) {
		struct batch batch;
		unsigned peer;

		batch_init(&batch);
		peer = storebox_peer(&batch, 1, &session_a);
		storebox_log(&batch, peer, 902 + i, "r1", 1);
		ck_assert_int_eq(storebox_commit(&b, &batch), 0);
		batch_done(&batch);
	}
	/* the first extent holds 901 records of which 301 are not done: it stays whole */
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM record"), 951);
	confirm_all(&b, 1, 920, 320);
	await_records(&b, 951 - 920);
	ck_assert_int_eq(reader_open(&reader, b.dir), 0);
	ck_assert_uint_eq(count_stream(reader, stream_of(1, CLASS_METRICS), 920), 31);
	ck_assert_ptr_null(reader_close(reader));
	storebox_close(&b);
}
END_TEST

START_TEST(store_drops_the_blob_file_with_the_last_record_that_names_it)
{
	struct storebox b;
	char error[STORE_ERROR_MAX];
	size_t len = 300000;
	auto_free uint8_t *bytes = mem_zalloc(len);
	uint8_t digest[DIGEST_BYTES];

	digest_of(bytes, len, digest);
	storebox_open(&b);
	for (uint64_t turn = 0; turn < 2; turn++) {
		ck_assert_int_eq(send_blob(&b, &session_a, turn, bytes, len, 100000), 0);
		commit_blob(&b, &session_a, turn * 2 + 1, digest, ENTRY_STORE);
	}
	confirm_all(&b, 1, 2, 2);
	storebox_stop(&b);
	b.settings.keep_us = -1000000;
	ck_assert_int_eq(storebox_start(&b, error), 0);
	await_records(&b, 2);
	ck_assert_int_eq(count_files(b.dir, "blobs"), 1);
	confirm_all(&b, 1, 4, 2);
	await_records(&b, 0);
	storebox_stop(&b); /* the file goes right after the commit */
	ck_assert_int_eq(count_files(b.dir, "blobs"), 0);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM blob"), 0);
	storebox_close(&b);
}
END_TEST

/* --- what may not be opened --- */

START_TEST(store_is_opened_by_one_daemon_only)
{
	struct storebox b;
	struct store *second = NULL;
	char error[STORE_ERROR_MAX];

	storebox_open(&b);
	ck_assert_int_eq(store_start(&second, &b.settings, error), -EBUSY);
	ck_assert_ptr_nonnull(strstr(error, "another wbxd"));
	ck_assert_ptr_null(second);
	storebox_close(&b);
}
END_TEST

static void overwrite(const struct storebox *b, const char *name, const char *text)
{
	char path[160];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(store_refuses_files_of_others_and_leaves_them_as_they_are)
{
	struct storebox b;
	char error[STORE_ERROR_MAX];
	char path[160];
	char first[8] = "";
	FILE *f;

	storebox_open(&b);
	storebox_stop(&b);
	overwrite(&b, "wbx.db",
		  "this is a text of somebody who likes long texts, and no database at all, not "
		  "even nearly so. "
		  "It goes on for more than a hundred bytes, so that nobody takes it for an empty "
		  "file.");
	ck_assert_int_eq(storebox_start(&b, error), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(error, "move it away"));
	(void)snprintf(path, sizeof(path), "%s/wbx.db", b.dir);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(fgets(first, sizeof(first), f));
	(void)fclose(f);
	ck_assert_str_eq(first, "this is");
	b.store = NULL;
	storebox_close(&b);
}
END_TEST

static void exec_sql(const struct storebox *b, const char *sql)
{
	char path[160];
	sqlite3 *db;

	(void)snprintf(path, sizeof(path), "%s/wbx.db", b->dir);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	(void)sqlite3_close(db);
}

START_TEST(store_refuses_a_newer_database_and_one_of_another_machine)
{
	struct storebox b;
	char error[STORE_ERROR_MAX];

	storebox_open(&b);
	storebox_stop(&b);
	exec_sql(&b, "PRAGMA user_version = 99");
	ck_assert_int_eq(storebox_start(&b, error), -EPROTO);
	ck_assert_ptr_nonnull(strstr(error, "newer wbx"));
	exec_sql(&b, "PRAGMA user_version = 3");
	if (access("/etc/machine-id", R_OK) == 0) {
		overwrite(&b, "machine-id", "0123456789abcdef0123456789abcdef\n");
		ck_assert_int_eq(storebox_start(&b, error), -EXDEV);
		ck_assert_ptr_nonnull(strstr(error, "--adopt-store"));
		b.settings.adopt = true;
	}
	ck_assert_int_eq(storebox_start(&b, error), 0);
	storebox_close(&b);
}
END_TEST

static void commit_output(struct storebox *b, uint64_t seq, const char *text)
{
	auto_buf struct buf payload;
	struct batch batch;
	struct pack p;

	buf_init(&payload, RECORD_MAX);
	pack_init(&p, &payload);
	pack_array(&p, 3);
	pack_text(&p, "output");
	pack_uint(&p, seq);
	pack_map(&p, 4);
	pack_pair_text(&p, "run", "r1");
	pack_pair_uint(&p, "t", 1700000000000000);
	pack_pair_text(&p, "stream", "stdout");
	pack_pair_text(&p, "text", text);
	batch_init(&batch);
	storebox_add(&batch, storebox_peer(&batch, 1, &session_a), buf_span(&payload));
	ck_assert_int_eq(storebox_commit(b, &batch), 0);
	batch_done(&batch);
}

START_TEST(a_store_of_version_1_is_brought_up_to_date)
{
	struct waypoint_info at;
	struct storebox b;
	struct reader *r = NULL;
	struct buf state;
	char error[STORE_ERROR_MAX];

	storebox_open(&b);
	commit_logs(&b, 1);
	commit_output(&b, 3, "never sent by that version");
	storebox_stop(&b);
	exec_sql(&b,
		 "DROP TABLE trace_run; DROP TABLE call; DROP TABLE trace; DROP TABLE trace_item; "
		 "DROP TABLE trace_line; DROP TABLE op; DROP TABLE step_mark; DROP TABLE "
		 "trace_day; DROP TABLE trace_kept; "
		 "DROP TABLE artifact; DROP TABLE artifact_file; DROP TABLE collection; "
		 "DROP TABLE sent_file; ALTER TABLE upload DROP COLUMN state; ALTER TABLE upload "
		 "DROP COLUMN nth; ALTER TABLE upload DROP COLUMN dead; "
		 "DROP INDEX run_name; DROP TABLE waypoint; DROP TABLE side; DROP TABLE side_line; "
		 "DROP TABLE token; ALTER TABLE sink DROP COLUMN requests_per_s; ALTER TABLE sink "
		 "DROP "
		 "COLUMN bytes_per_s; "
		 "ALTER TABLE run DROP COLUMN refused; UPDATE run SET state = 4; PRAGMA "
		 "user_version = 1");
	ck_assert_int_eq(reader_open(&r, b.dir), -EPROTO);
	ck_assert_int_eq(storebox_start(&b, error), 0);
	ck_assert_int_eq(reader_open(&r, b.dir), 0);
	buf_init(&state, 100);
	ck_assert_int_eq(reader_waypoint(r, 1, -1, 0, &at, &state), -ENOENT);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM token"), 0);
	ck_assert_int_eq(number(&b, "SELECT count(bytes_per_s) FROM sink"), 0);
	buf_done(&state);
	ck_assert_ptr_null(reader_close(r));
	ck_assert_int_eq(number(&b, "PRAGMA user_version"), 3);
	ck_assert_int_eq(number(&b, "SELECT count(*) FROM record"), 3);
	ck_assert_int_eq(open_run(&b), 1); /* to send it now */
	storebox_close(&b);
}
END_TEST

START_TEST(waypoints_are_found_in_their_order)
{
	struct storebox b;
	struct reader *r = NULL;
	struct changes *c = list();
	struct waypoint_info at = {.lsn = -1};
	static const struct waypoint_info all[] = {
		{3, 10, 7, 5, 6}, {3, 20, 9, 0, 0}, {8, 15, 9, 0, 0}};
	struct buf state;

	storebox_open(&b);
	for (size_t i = array_len(all); i-- > 0;)
		changes_add(c, &(struct change){.kind = CHANGE_WAYPOINT,
						.run = 1,
						.lsn = all[i].lsn,
						.time_us = all[i].time_us,
						.step = all[i].next_step,
						.offset = all[i].resteps,
						.number = all[i].resteps_to,
						.text = SPAN_LITERAL("state")});
	ck_assert_int_eq(storebox_change(&b, c), 0);
	ck_assert_int_eq(reader_open(&r, b.dir), 0);
	buf_init(&state, 100);
	for (size_t i = 0; i < array_len(all); i++) {
		buf_clear(&state);
		ck_assert_int_eq(reader_waypoint(r, 1, at.lsn, at.time_us, &at, &state), 0);
		ck_assert_int_eq(at.lsn, all[i].lsn);
		ck_assert_int_eq(at.time_us, all[i].time_us);
		ck_assert_int_eq(at.next_step, all[i].next_step);
		ck_assert_int_eq(at.resteps_to, all[i].resteps_to);
		ck_assert_int_eq(at.resteps, all[i].resteps);
		ck_assert(span_is(buf_span(&state), "state"));
	}
	ck_assert_int_eq(reader_waypoint(r, 1, at.lsn, at.time_us, &at, &state), -ENOENT);
	ck_assert_int_eq(reader_waypoint(r, 2, -1, 0, &at, &state), -ENOENT);
	buf_done(&state);
	ck_assert_ptr_null(reader_close(r));
	c = changes_free(c);
	storebox_close(&b);
}
END_TEST

static int collect_side_line(void *arg, const struct side_line *line)
{
	return buf_printf(arg, "%lld:%.*s ", (long long)line->offset, (int)line->text.len,
			  (const char *)line->text.at);
}

static void check_side(struct storebox *b, int64_t first, const char *want)
{
	struct reader *reader = NULL;
	struct side_count counts[SIDE_FILES];
	struct buf got;

	buf_init(&got, 4096);
	ck_assert_int_eq(reader_open(&reader, b->dir), 0);
	ck_assert_int_eq(reader_side_lines(reader, 1, SIDE_EVENTS, 0, collect_side_line, &got), 0);
	ck_assert_str_eq(buf_text(&got), want);
	ck_assert_int_eq(reader_side_counts(reader, 1, counts), 0);
	ck_assert_int_eq(counts[SIDE_EVENTS].first, first);
	ck_assert_int_eq(counts[SIDE_CONSOLE].first, 4); /* is left alone */
	ck_assert_int_eq(counts[SIDE_CONSOLE].count, 1);
	ck_assert_ptr_null(reader_close(reader));
	buf_done(&got);
}

static void change_side(struct storebox *b, struct changes *c, enum change_kind kind,
			int64_t offset)
{
	changes_reset(c);
	changes_add(c, &(struct change){.kind = kind,
					.run = 1,
					.file = SIDE_EVENTS,
					.offset = offset,
					.number = offset,
					.text = SPAN_LITERAL("new")});
	ck_assert_int_eq(storebox_change(b, c), 0);
}

START_TEST(store_keeps_lines_beside_the_history_until_they_are_confirmed)
{
	struct storebox b;
	struct changes *c = list();

	storebox_open(&b);
	commit_logs(&b, 1);
	changes_add(c, &(struct change){.kind = CHANGE_SIDE_ADD,
					.run = 1,
					.file = SIDE_CONSOLE,
					.offset = 4,
					.text = SPAN_LITERAL("x")});
	ck_assert_int_eq(storebox_change(&b, c), 0);
	for (int64_t i = 0; i < 5; i++)
		change_side(&b, c, CHANGE_SIDE_ADD, i);
	check_side(&b, 0, "0:new 1:new 2:new 3:new 4:new ");
	exec_sql(&b, "UPDATE side_line SET text = line WHERE file = 1");
	change_side(&b, c, CHANGE_SIDE_ADD, 4); /* takes the place of what is there */
	change_side(&b, c, CHANGE_SIDE_DONE, 2);
	check_side(&b, 2, "2:2 3:3 4:new ");
	change_side(&b, c, CHANGE_SIDE_DROP, 3);
	check_side(&b, 2, "2:2 3:new ");
	change_side(&b, c, CHANGE_SIDE_MOVE, 7);
	check_side(&b, 9, "9:2 10:new ");
	change_side(&b, c, CHANGE_SIDE_MOVE, -9);
	check_side(&b, 0, "0:2 1:new ");
	changes_reset(c);
	changes_add(c,
		    &(struct change){
			    .kind = CHANGE_SIDE_DROP, .run = 1, .file = SIDE_EVENTS, .offset = 5});
	ck_assert_int_eq(storebox_change(&b, c), -ENOENT);
	c = changes_free(c);
	storebox_close(&b);
}
END_TEST

START_TEST(store_opens_a_run_again_for_its_output)
{
	struct storebox b;
	struct changes *c = list();

	storebox_open(&b);
	commit_logs(&b, 1);
	changes_add(c, &(struct change){.kind = CHANGE_CURSOR,
					.stream = stream_of(1, CLASS_METRICS),
					.lsn = 1000});
	changes_add(c, &(struct change){.kind = CHANGE_RUN_STATE, .run = 1, .state = RUN_DONE});
	ck_assert_int_eq(storebox_change(&b, c), 0);
	ck_assert_int_eq(open_run(&b), 0);
	commit_output(&b, 3, "late");
	ck_assert_int_eq(open_run(&b), 1);
	ck_assert_int_eq(storebox_change(&b, c), 0); /* it came while the run ended */
	ck_assert_int_eq(open_run(&b), 1);
	c = changes_free(c);
	storebox_close(&b);
}
END_TEST

static int add_many(struct changes *c)
{
	changes_reset(c);
	for (int i = 0; i < 50; i++)
		changes_add(c, &(struct change){.kind = CHANGE_RUN_PARK,
						.run = i,
						.text = SPAN_LITERAL("why")});
	return c->error;
}

START_TEST(changes_survive_every_allocation_failure)
{
	struct changes *c = list();

	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(add_many(c), (void)0), 0);
	ck_assert_uint_eq(c->count, 50);
	ck_assert(span_is(c->items[49].text, "why"));
	c = changes_free(c);
}
END_TEST

SUITE_MAIN("store", store_keeps_what_it_committed, store_drops_duplicates_and_says_so,
	   store_knows_producers_by_uid_and_name,
	   store_rejects_records_of_runs_that_were_not_opened,
	   store_writes_each_stream_in_one_piece_per_commit,
	   store_puts_big_blobs_into_files_and_small_ones_into_rows, store_shares_equal_blobs,
	   store_refuses_blobs_with_a_wrong_digest_and_records_that_name_them,
	   store_forgets_unnamed_blobs_with_their_session_and_at_start,
	   store_commits_a_list_of_changes_whole_or_not_at_all,
	   store_closes_the_gap_that_a_dead_line_leaves,
	   store_opens_a_run_again_whose_letter_was_wanted_while_it_ended,
	   store_never_gives_an_lsn_twice_even_after_retention_emptied_the_table,
	   store_retains_while_it_takes_records_and_touches_only_what_is_done,
	   store_drops_the_blob_file_with_the_last_record_that_names_it,
	   store_is_opened_by_one_daemon_only,
	   store_refuses_files_of_others_and_leaves_them_as_they_are,
	   store_refuses_a_newer_database_and_one_of_another_machine,
	   a_store_of_version_1_is_brought_up_to_date, waypoints_are_found_in_their_order,
	   store_keeps_lines_beside_the_history_until_they_are_confirmed,
	   store_opens_a_run_again_for_its_output, changes_survive_every_allocation_failure)
