/* What a process has logged survives it: the kept stream against a model, sent, acknowledged,
 * connected anew and replayed in random order. */
#include "client/lib/claim.h"
#include "client/lib/keep.h"
#include "client/lib/ring.h"
#include "daemon/base/thread.h"
#include "daemon/ingest/journal.h"
#include "proto/base/rng.h"
#include "proto/frame.h"
#include "proto/record.h"
#include "tests/lib/scratch.h"
#include "tests/lib/suite.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	FRAMES_MAX = 20000,
	RING_BYTES = 64 << 10
};

struct model_frame {
	uint64_t seq;  /* 0: a part */
	uint64_t blob; /* of a part */
	uint64_t mark; /* a number of its own, in the frame */
};

struct fixture {
	char dir[256];
	char journal[300];
	char spool[80];
	struct keep *keep;
	struct rng rng;
	uint64_t seq;
	uint64_t acked;
	uint64_t sent_seq; /* the highest seq whose frame was sent whole on this connection */
	uint64_t mark;
	uint64_t next_blob;
	uint64_t open_blobs[8];
	size_t open_blob_count;
	uint64_t named_by[4096]; /* blob: seq of its record; 0: none yet */
	bool dropped[4096];
	struct model_frame frames[FRAMES_MAX];
	size_t frame_count;
	struct buf wire; /* what was sent on this connection and not looked at */
};

/* In memory that a child shares: a death is a child that ends without closing anything. */
static struct fixture *shared;
#define f (*shared)

static void open_keep(size_t ring_bytes, bool with_journal_dir)
{
	struct keep_settings settings = {
		.journal_bytes = ring_bytes, .heap_bytes = ring_bytes, .spool_max_bytes = 1 << 30};
	struct buf hello;
	struct pack p;

	memset(settings.producer, 0xab, PRODUCER_BYTES);
	buf_init(&hello, 4096);
	pack_init(&p, &hello);
	pack_array(&p, 3);
	pack_text(&p, "hello");
	pack_uint(&p, 0);
	pack_map(&p, 2);
	pack_pair_uint(&p, "v", 1);
	pack_pair_bin(&p, "producer",
		      (struct span){.at = settings.producer, .len = PRODUCER_BYTES});
	settings.hello = buf_span(&hello);
	settings.journal_dir = with_journal_dir ? f.journal : "/nonexistent";
	settings.spool_dir = f.spool;
	ck_assert_int_eq(keep_open(&f.keep, &settings), 0);
	buf_done(&hello);
}

static void setup(uint64_t seed)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	f.rng.state = seed;
	scratch_dir(f.dir, sizeof(f.dir), "keep");
	(void)snprintf(f.journal, sizeof(f.journal), "%s/journal", f.dir);
	(void)snprintf(f.spool, sizeof(f.spool), "%s/spool", f.dir);
	ck_assert_int_eq(mkdir(f.journal, 0700) | mkdir(f.spool, 0700), 0);
	buf_init(&f.wire, 64 << 20);
}

static void teardown(void)
{
	char command[300];

	buf_done(&f.wire);
	(void)snprintf(command, sizeof(command), "rm -rf %s", f.dir);
	ck_assert_int_eq(system(command), 0);
}

static int add(uint64_t seq, uint64_t blob, size_t size)
{
	static uint8_t filler[RECORD_MAX];
	struct buf frame;
	struct pack p;
	struct span pieces[2];
	struct keep_frame kf = {.pieces = pieces, .piece_count = 2, .seq = seq, .blob = blob};
	size_t at;
	int r;

	buf_init(&frame, RECORD_MAX + 4096);
	at = frame_open(&frame, &p, seq == 0 ? "blob" : "log", seq, 3);
	pack_pair_uint(&p, "id", blob);
	pack_pair_uint(&p, "mark", ++f.mark);
	pack_pair_bin(&p, "x", (struct span){.at = filler, .len = size});
	frame_close(&frame, at);
	pieces[0] = (struct span){.at = frame.data, .len = frame.len / 2};
	pieces[1] =
		(struct span){.at = frame.data + frame.len / 2, .len = frame.len - frame.len / 2};
	r = keep_add(f.keep, &kf);
	buf_done(&frame);
	if (r == 0)
		f.frames[f.frame_count++] =
			(struct model_frame){.seq = seq, .blob = blob, .mark = f.mark};
	return r;
}

/* A record that names all open blobs. */
static void add_record(size_t size)
{
	ck_assert_int_eq(add(f.seq + 1, 0, size), 0);
	f.seq++;
	for (size_t i = 0; i < f.open_blob_count; i++) {
		keep_blob_named(f.keep, f.open_blobs[i], f.seq);
		f.named_by[f.open_blobs[i]] = f.seq;
	}
	f.open_blob_count = 0;
}

/* No record will name it: what was begun to be sent of it is sent to the end, the rest need not be.
 */
static void drop_blob(void)
{
	size_t i;

	if (f.open_blob_count == 0)
		return;
	i = rng_below(&f.rng, f.open_blob_count);
	keep_blob_dropped(f.keep, f.open_blobs[i]);
	f.dropped[f.open_blobs[i]] = true;
	f.open_blobs[i] = f.open_blobs[--f.open_blob_count];
}

static void add_part(void)
{
	if (f.open_blob_count == 0 ||
	    (f.open_blob_count < array_len(f.open_blobs) && rng_below(&f.rng, 4) == 0)) {
		ck_assert_int_eq(keep_blob_begin(f.keep, ++f.next_blob), 0);
		f.open_blobs[f.open_blob_count++] = f.next_blob;
	}
	ck_assert_int_eq(
		add(0, f.open_blobs[rng_below(&f.rng, f.open_blob_count)], rng_below(&f.rng, 3000)),
		0);
}

/* Must the daemon still get this frame? */
static bool is_needed(const struct model_frame *m)
{
	if (m->seq != 0)
		return m->seq > f.acked;
	if (f.dropped[m->blob])
		return false;
	return f.named_by[m->blob] == 0 || f.named_by[m->blob] > f.acked;
}

/* Frames come in the model's order; whatever is left out was not needed. *cursor: the next one that
 * may come. */
static void check_frame(struct span payload, size_t *cursor)
{
	struct mp m = mp_of(payload);
	struct mp_value v;
	uint64_t mark;

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(mp_read(&m, &v), 0);
	mark = mp_get_uint(m, "mark", 0);
	while (*cursor < f.frame_count && f.frames[*cursor].mark != mark) {
		ck_assert_msg(!is_needed(&f.frames[*cursor]),
			      "frame %zu was left out before mark %llu", *cursor,
			      (unsigned long long)mark);
		++*cursor;
	}
	ck_assert_msg(*cursor < f.frame_count, "a frame came again or out of order: mark %llu",
		      (unsigned long long)mark);
	if (v.natural != 0)
		f.sent_seq = v.natural;
	++*cursor;
}

static size_t cursor;

static void look_at_wire(void)
{
	struct span payload;
	size_t size;

	for (;;) {
		enum frame_status state =
			frame_next(buf_span(&f.wire), RECORD_MAX, &payload, &size);

		ck_assert(state == FRAME_READY || state == FRAME_NEED_MORE);
		if (state == FRAME_NEED_MORE)
			break;
		check_frame(payload, &cursor);
		buf_drop_front(&f.wire, size);
	}
}

/* Sends up to len bytes. */
static void send_some(size_t len)
{
	while (len > 0) {
		struct span bytes;
		size_t n;

		ck_assert_int_eq(keep_unsent(f.keep, &bytes), 0);
		if (bytes.len == 0)
			break;
		n = bytes.len < len ? bytes.len : len;
		ck_assert_int_eq(buf_add(&f.wire, bytes.at, n), 0);
		keep_sent(f.keep, n);
		len -= n;
	}
	look_at_wire();
}

static void ack_some(void)
{
	if (f.sent_seq > f.acked)
		f.acked += 1 + rng_below(&f.rng, f.sent_seq - f.acked);
	keep_acked(f.keep, f.acked);
}

static void reconnect(void)
{
	buf_clear(&f.wire);
	keep_rewind(f.keep);
	cursor = 0;
	f.sent_seq = f.acked;
}

static void one_step(void)
{
	switch (rng_below(&f.rng, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
	case 5: add_record(rng_below(&f.rng, 4000)); break;
	case 6:
	case 7: add_part(); break;
	case 8:
	case 9:
	case 10:
	case 11: send_some(rng_below(&f.rng, 60000)); break;
	case 12:
	case 13:
	case 14: ack_some(); break;
	default:
		if (rng_below(&f.rng, 10) == 0)
			reconnect();
		else if (rng_below(&f.rng, 3) == 0)
			drop_blob();
		else
			send_some(SIZE_MAX);
	}
}

static void everything_left_is_sent(void)
{
	reconnect();
	send_some(SIZE_MAX);
	while (cursor < f.frame_count)
		ck_assert_msg(!is_needed(&f.frames[cursor++]), "a needed frame was not sent");
}

START_TEST(keep_sends_what_is_needed_in_order_through_ring_and_spool)
{
	setup((uint64_t)_i + 1);
	open_keep(RING_BYTES, true);
	for (int step = 0; step < 8000 && f.frame_count < FRAMES_MAX - 10; step++)
		one_step();
	everything_left_is_sent();
	ck_assert(keep_is_durable(f.keep));
	f.acked = f.seq;
	for (size_t i = 0; i < f.open_blob_count; i++)
		keep_blob_dropped(f.keep, f.open_blobs[i]);
	keep_acked(f.keep, f.acked);
	ck_assert(keep_is_empty(f.keep));
	f.keep = keep_close(f.keep);
	teardown();
}
END_TEST

START_TEST(keep_frees_no_part_of_a_dropped_blob_that_is_being_sent)
{
	struct span bytes;

	setup(5);
	open_keep(RING_BYTES, true);
	ck_assert_int_eq(keep_blob_begin(f.keep, ++f.next_blob), 0);
	ck_assert_int_eq(add(0, f.next_blob, 20000), 0);
	ck_assert_int_eq(keep_unsent(f.keep, &bytes), 0);
	ck_assert_int_eq(buf_add(&f.wire, bytes.at, 5000), 0);
	keep_sent(f.keep, 5000); /* the socket was full */
	keep_blob_dropped(f.keep, f.next_blob);
	f.dropped[f.next_blob] = true;
	keep_acked(f.keep, 0);
	ck_assert(!keep_wants_connection_anew(f.keep));
	add_record(100);
	send_some(SIZE_MAX); /* sees that the frame is whole */
	ck_assert_uint_eq(f.sent_seq, 1);
	f.acked = 1;
	keep_acked(f.keep, 1);
	ck_assert(keep_is_empty(f.keep));
	ck_assert(keep_wants_connection_anew(f.keep)); /* the daemon holds a part for nobody */
	keep_rewind(f.keep);
	ck_assert(!keep_wants_connection_anew(f.keep));
	f.keep = keep_close(f.keep);
	teardown();
}
END_TEST

/* Sends and begins again while the spool cannot be read. How often that was. */
static unsigned send_with_errors(unsigned errors_max)
{
	unsigned errors = 0;

	reconnect();
	for (;;) {
		struct span bytes;
		int r = keep_unsent(f.keep, &bytes);

		if (r == 0 && bytes.len == 0)
			return errors;
		if (r == 0) {
			ck_assert_int_eq(buf_add(&f.wire, bytes.at, bytes.len), 0);
			keep_sent(f.keep, bytes.len);
			continue;
		}
		ck_assert_uint_le(++errors, errors_max);
		buf_clear(&f.wire);
		keep_rewind(f.keep);
	}
}

/* The seqs of what was sent last. */
static uint64_t count_wire(uint64_t *ret_last)
{
	uint64_t count = 0;
	struct span payload;
	size_t size;

	while (frame_next(buf_span(&f.wire), RECORD_MAX, &payload, &size) == FRAME_READY) {
		struct mp m = mp_of(payload);
		struct mp_value v;

		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(mp_read(&m, &v), 0);
		*ret_last = v.natural;
		count++;
		buf_drop_front(&f.wire, size);
	}
	ck_assert_uint_eq(f.wire.len, 0); /* whole frames */
	return count;
}

START_TEST(keep_passes_over_what_it_cannot_read_and_tells_how_many_records_that_were)
{
	uint8_t producer[PRODUCER_BYTES];
	char name[JOURNAL_NAME_MAX];
	char path[400];
	uint64_t last = 0;
	uint64_t lost;

	setup(6);
	open_keep(RING_BYTES, true);
	while (f.seq < 2000)
		add_record(1000);
	memset(producer, 0xab, sizeof(producer));
	spool_name(producer, 0, name);
	(void)snprintf(path, sizeof(path), "%s/%s", f.spool, name);
	ck_assert_int_eq(truncate(path, 700000), 0); /* a read behind this is an error */
	ck_assert_uint_le(send_with_errors(6), 5);
	lost = keep_take_lost(f.keep);
	ck_assert_uint_gt(lost, 1000);
	ck_assert_uint_eq(keep_take_lost(f.keep), 0);
	ck_assert_uint_eq(count_wire(&last) + lost, f.seq);
	add_record(10); /* goes where it can be read */
	f.acked = last;
	keep_acked(f.keep, last);
	ck_assert_uint_eq(send_with_errors(0), 0);
	ck_assert_uint_eq(count_wire(&last), 1);
	ck_assert_uint_eq(last, f.seq);
	keep_acked(f.keep, f.seq);
	ck_assert(keep_is_empty(f.keep));
	f.keep = keep_close(f.keep);
	teardown();
}
END_TEST

/* --- files --- */

static mode_t mode_of(const char *pattern)
{
	char command[400];
	char mode[16] = "";
	FILE *list;

	(void)snprintf(command, sizeof(command), "stat -c %%a %s/%s", f.dir, pattern);
	list = popen(command, "r");
	ck_assert_ptr_nonnull(list);
	ck_assert_ptr_nonnull(fgets(mode, sizeof(mode), list));
	(void)pclose(list);
	return (mode_t)strtoul(mode, NULL, 8);
}

START_TEST(keep_files_are_readable_to_the_group_whatever_the_umask)
{
	mode_t before = umask(077);

	setup(8);
	open_keep(RING_BYTES, true);
	while (f.seq < 100)
		add_record(1000);
	(void)umask(before);
	ck_assert_uint_eq(mode_of("journal/*.journal"), 0640);
	ck_assert_uint_eq(mode_of("spool/*.spool"), 0640);
	f.keep = keep_close(f.keep);
	teardown();
}
END_TEST

static void *unlock_soon(void *fd)
{
	(void)poll(NULL, 0, 30); /* whoever comes first, the claim is made in the end */
	(void)flock(*(int *)fd, LOCK_UN);
	return NULL;
}

START_TEST(keep_file_is_claimed_though_the_daemon_looks_at_it)
{
	static const uint8_t header[JOURNAL_HEADER] = {1};
	char new_path[400];
	char path[400];
	pthread_t other;
	int looking;
	int fd;

	setup(9);
	(void)snprintf(path, sizeof(path), "%s/x", f.journal);
	(void)snprintf(new_path, sizeof(new_path), "%s.new", path);
	fd = claim_open(new_path);
	ck_assert_int_ge(fd, 0);
	looking = open(new_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(flock(looking, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(pthread_create(&other, NULL, unlock_soon, &looking), 0);
	ck_assert_int_eq(claim_finish(fd, new_path, path, header), 0);
	ck_assert_int_eq(pthread_join(other, NULL), 0);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_lt(flock(looking, LOCK_EX | LOCK_NB), 0);
	(void)close(looking);
	(void)close(fd);
	teardown();
}
END_TEST

/* --- death --- */

static void on_mail(void *data)
{
	bell_ring(data);
}

static struct bell bell;

static void run_step(struct replay_job *j, struct mailbox *box, enum replay_step step)
{
	(void)box;
	j->next = step;
	ck_assert_int_eq((int)j->job.step(&j->job, NULL), (int)JOB_DONE);
}

/* Reads the files as the daemon does after the owner's death. */
static void replay_all(void)
{
	struct mailbox box;
	struct replay_job *j;

	ck_assert_int_eq(bell_init(&bell), 0);
	ck_assert_int_eq(mailbox_init(&box, SIZE_MAX, on_mail, &bell), 0);
	j = replay_job_new(f.journal, f.spool, &box);
	ck_assert_ptr_nonnull(j);
	memset(j->producer, 0xab, PRODUCER_BYTES);
	run_step(j, &box, REPLAY_OPEN);
	ck_assert_int_eq(j->result, 0);
	ck_assert_uint_eq(j->uid, getuid());
	cursor = 0;
	for (;;) {
		struct span rest;
		struct span payload;
		size_t size;

		run_step(j, &box, REPLAY_READ);
		ck_assert_int_eq(j->result, 0);
		rest = buf_span(&j->chunk);
		while (frame_next(rest, RECORD_MAX, &payload, &size) == FRAME_READY) {
			check_frame(payload, &cursor);
			rest.at += size;
			rest.len -= size;
		}
		ck_assert_uint_eq(rest.len, 0); /* whole frames only */
		if (j->is_end)
			break;
	}
	while (cursor < f.frame_count)
		ck_assert_msg(!is_needed(&f.frames[cursor++]), "a needed frame was not replayed");
	run_step(j, &box, REPLAY_REMOVE);
	j = replay_job_free(j);
	mailbox_done(&box);
	bell_done(&bell);
}

/* Runs `life` in a child that dies at its end, files open and locked. */
static void live_and_die(void (*life)(void))
{
	int status = 0;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		open_keep(RING_BYTES, true);
		life();
		(void)kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	buf_init(&f.wire, 64 << 20); /* the child's memory is not ours */
}

static void random_life(void)
{
	int steps = 100 + (int)rng_below(&f.rng, 4000);

	for (int step = 0; step < steps && f.frame_count < FRAMES_MAX - 10; step++)
		one_step();
}

START_TEST(keep_of_a_dead_process_is_replayed_whole_by_the_daemon)
{
	setup((uint64_t)_i + 100);
	live_and_die(random_life);
	replay_all();
	teardown();
}
END_TEST

static void cut_last_spool(void)
{
	char path[256];
	char newest[300] = "";
	long bytes = 0;
	FILE *list;

	(void)snprintf(path, sizeof(path), "ls -t %s/*.spool | head -n 1", f.spool);
	list = popen(path, "r");
	ck_assert_ptr_nonnull(list);
	ck_assert_ptr_nonnull(fgets(newest, sizeof(newest), list));
	(void)pclose(list);
	newest[strcspn(newest, "\n")] = '\0';
	bytes = (long)JOURNAL_HEADER;
	{
		struct stat st;

		ck_assert_int_eq(stat(newest, &st), 0);
		bytes = (long)st.st_size;
	}
	ck_assert_int_eq(truncate(newest, bytes - 7), 0);
}

static void long_life_without_a_daemon(void)
{
	for (int i = 0; i < 300; i++)
		add_record(1000);
}

START_TEST(keep_with_a_torn_end_loses_only_the_call_that_did_not_return)
{
	setup(7);
	live_and_die(long_life_without_a_daemon);
	f.frame_count--; /* the last one is torn: as if its write had been cut by the kill */
	cut_last_spool();
	replay_all();
	teardown();
}
END_TEST

START_TEST(keep_belongs_to_its_process_while_that_lives)
{
	struct mailbox box;
	struct replay_job *j;
	struct scan_job *scan;

	setup(1);
	open_keep(RING_BYTES, true);
	add_record(10);
	ck_assert_int_eq(bell_init(&bell), 0);
	ck_assert_int_eq(mailbox_init(&box, SIZE_MAX, on_mail, &bell), 0);
	j = replay_job_new(f.journal, f.spool, &box);
	memset(j->producer, 0xab, PRODUCER_BYTES);
	run_step(j, &box, REPLAY_OPEN);
	ck_assert_int_eq(j->result, -EAGAIN);
	run_step(j, &box, REPLAY_CLOSE);
	scan = scan_job_new(f.journal, f.spool, &box);
	ck_assert_int_eq((int)scan->job.step(&scan->job, NULL), (int)JOB_DONE);
	ck_assert_uint_eq(scan->count, 1);
	ck_assert(scan->entries[0].alive);
	f.keep = keep_close(
		f.keep); /* not all is acknowledged: the journal stays, and its lock is free */
	ck_assert_int_eq((int)scan->job.step(&scan->job, NULL), (int)JOB_DONE);
	ck_assert_uint_eq(scan->count, 1);
	ck_assert(!scan->entries[0].alive);
	scan = scan_job_free(scan);
	j = replay_job_free(j);
	mailbox_done(&box);
	bell_done(&bell);
	teardown();
}
END_TEST

/* --- bounds --- */

START_TEST(keep_refuses_what_has_no_room_and_goes_on_afterwards)
{
	struct keep_settings settings = {.journal_bytes = RING_BYTES,
					 .heap_bytes = RING_BYTES,
					 .spool_max_bytes = 100000,
					 .journal_dir = "/nonexistent"};
	uint64_t taken = 0;

	setup(3);
	settings.spool_dir = f.spool;
	settings.hello = SPAN_LITERAL("\x90");
	ck_assert_int_eq(keep_open(&f.keep, &settings), 0);
	ck_assert(!keep_is_durable(f.keep));
	while (add(f.seq + 1, 0, 1000) == 0) {
		f.seq++;
		taken++;
	}
	ck_assert_uint_gt(taken, 140); /* 64 KiB of heap and 100 KB of spool */
	ck_assert_uint_lt(taken, 165);
	ck_assert_int_eq(add(f.seq + 1, 0, 1000), -ENOBUFS);
	send_some(SIZE_MAX);
	f.acked = f.seq;
	keep_acked(f.keep, f.acked);
	ck_assert(keep_is_empty(f.keep));
	ck_assert_int_eq(add(f.seq + 1, 0, 1000), 0);
	f.keep = keep_close(f.keep);
	teardown();
}
END_TEST

static int try_open(void)
{
	struct keep_settings settings = {
		.journal_bytes = RING_BYTES, .heap_bytes = RING_BYTES, .spool_max_bytes = 1 << 20};
	int r;

	settings.journal_dir = f.journal;
	settings.spool_dir = f.spool;
	settings.hello = SPAN_LITERAL("\x90");
	r = keep_open(&f.keep, &settings);
	if (r == 0)
		r = keep_blob_begin(f.keep, 1);
	for (uint64_t i = 1; r == 0 && i < 80; i++) {
		static const uint8_t bytes[2000] = {0xc5, 0x07, 0xcd};
		struct span piece = {.at = bytes, .len = sizeof(bytes)};
		struct keep_frame kf = {.pieces = &piece, .piece_count = 1, .seq = i};

		r = keep_add(f.keep, &kf);
		if (r == -ENOBUFS) /* what a failed allocation looks like from here */
			r = -ENOMEM;
	}
	return r;
}

START_TEST(keep_survives_every_allocation_failure)
{
	setup(3);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(try_open(), f.keep = keep_close(f.keep)), 0);
	f.keep = keep_close(f.keep);
	teardown();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("keep");
	TCase *tc = tcase_create("keep");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, keep_sends_what_is_needed_in_order_through_ring_and_spool, 0, 12);
	tcase_add_test(tc, keep_frees_no_part_of_a_dropped_blob_that_is_being_sent);
	tcase_add_test(tc,
		       keep_passes_over_what_it_cannot_read_and_tells_how_many_records_that_were);
	tcase_add_test(tc, keep_files_are_readable_to_the_group_whatever_the_umask);
	tcase_add_test(tc, keep_file_is_claimed_though_the_daemon_looks_at_it);
	tcase_add_loop_test(tc, keep_of_a_dead_process_is_replayed_whole_by_the_daemon, 0, 12);
	tcase_add_test(tc, keep_with_a_torn_end_loses_only_the_call_that_did_not_return);
	tcase_add_test(tc, keep_belongs_to_its_process_while_that_lives);
	tcase_add_test(tc, keep_refuses_what_has_no_room_and_goes_on_afterwards);
	tcase_add_test(tc, keep_survives_every_allocation_failure);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
