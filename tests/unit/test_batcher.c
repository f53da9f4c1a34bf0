/* The loop's batches against a store that this test plays: it takes what is posted and gives each
 * back with the result it likes. */
#include "daemon/ingest/batcher.h"
#include "daemon/ingest/presence.h"
#include "tests/lib/suite.h"

enum {
	SESSIONS = 3
};

/* What the batcher asks of its neighbours, noted. */
static int results[SESSIONS][8];
static unsigned settled[SESSIONS];
static struct session sessions[SESSIONS];

void session_settled(struct session *s, const struct batch_peer *peer, int result)
{
	size_t i = (size_t)(s - sessions);

	ck_assert_ptr_eq(peer->session, s);
	ck_assert_uint_lt(settled[i], array_len(results[i]));
	results[i][settled[i]++] = result;
}

void session_rejected(struct session *s, const struct batch_entry *e)
{
	(void)s;
	(void)e;
	ck_abort_msg("nothing is rejected here");
}

void session_refused_run(struct session *s, struct span run, const char *why)
{
	(void)s;
	(void)run;
	(void)why;
	ck_abort_msg("nothing is rejected here");
}

void session_opened_run(struct session *s, struct span run, bool is_known)
{
	(void)s;
	(void)run;
	(void)is_known;
}

void presence_joined(struct presence *p, const struct batch_peer *peer, struct span run,
		     int64_t run_id)
{
	(void)run_id;
	(void)p;
	(void)peer;
	(void)run;
}

void presence_left(struct presence *p, const struct batch_peer *peer, struct span run)
{
	(void)p;
	(void)peer;
	(void)run;
}

static void on_post(void *arg)
{
	(void)arg;
}

static struct mailbox box;
static struct stats stats;
static struct batcher batcher;
static uint64_t failures; /* that the store had */

static void setup(void)
{
	ck_assert_int_eq(stats_init(&stats), 0);
	ck_assert_int_eq(mailbox_init(&box, BATCHES - 1, on_post, NULL), 0);
	batcher_init(&batcher, &box, &stats);
	failures = 0;
	for (unsigned i = 0; i < SESSIONS; i++) {
		sessions[i] = (struct session){.state = SESSION_OPEN, .uid = i};
		settled[i] = 0;
	}
}

static void teardown(void)
{
	batcher_done(&batcher);
	mailbox_done(&box);
	stats_done(&stats);
}

/* One record of the session, which somebody waits for. */
static int add(unsigned session)
{
	struct span payload = {.at = (const uint8_t *)"row", .len = 3};
	struct batch_entry e = {
		.kind = KIND_FLUSH, .fate = ENTRY_STORE, .seq = ++sessions[session].last_seq};

	return batcher_add(&batcher, &sessions[session], &e, payload, (struct span){0});
}

static void post(void)
{
	ck_assert_uint_eq(batcher_pump(&batcher, 1000), UINT64_MAX);
}

/* What the store does with the next batch; it refuses by itself what may follow one that failed. */
static void give_back(int result)
{
	struct mail *mail = mailbox_take(&box);
	struct batch *batch;

	ck_assert_ptr_nonnull(mail);
	batch = container_of(mail, struct batch, mail);
	batch->result = batch->failures_known < failures ? -ESTALE : result;
	failures += batch->result < 0 && batch->result != -ESTALE;
	batcher_take_back(&batcher, batch, NULL);
}

static void assert_settled(unsigned session, unsigned count, int last)
{
	ck_assert_uint_eq(settled[session], count);
	ck_assert_int_eq(results[session][count - 1], last);
}

START_TEST(batcher_tells_each_session_of_its_batch)
{
	setup();
	ck_assert_int_eq(add(0), 0);
	ck_assert_int_eq(add(1), 0);
	ck_assert_int_eq(add(0), 0);
	post();
	ck_assert_int_eq(add(2), 0);
	give_back(0);
	assert_settled(0, 1, 0);
	assert_settled(1, 1, 0);
	ck_assert_uint_eq(settled[2], 0);
	post();
	give_back(0);
	assert_settled(2, 1, 0);
	ck_assert(batcher_is_idle(&batcher));
	teardown();
}
END_TEST

/* Session 1 has records in the batch that was filling when the one before it failed. What it sends
 * next must not be stored: those records come again under lower numbers. */
START_TEST(batcher_stores_nothing_behind_what_the_store_refused)
{
	setup();
	ck_assert_int_eq(add(0), 0);
	post();
	ck_assert_int_eq(add(1), 0);
	give_back(-EBUSY);
	assert_settled(0, 1, -EBUSY);
	ck_assert_int_eq(add(1), -EAGAIN);
	ck_assert_int_eq(add(2), -EAGAIN);
	give_back(0);
	assert_settled(1, 1, -ESTALE);
	ck_assert_int_eq(add(2), 0); /* it lost nothing and goes on */
	post();
	give_back(0);
	assert_settled(2, 1, 0);
	teardown();
}
END_TEST

/* The same with one more batch full and waiting at the store. */
START_TEST(batcher_waits_for_all_that_were_under_way)
{
	setup();
	ck_assert_int_eq(add(0), 0);
	post();
	while (add(1) == 0)
		;
	post();
	ck_assert_int_eq(add(2), 0);
	give_back(-ENOMEM);
	ck_assert_int_eq(add(1), -EAGAIN);
	give_back(0);
	assert_settled(1, 1, -ESTALE);
	ck_assert_int_eq(add(2), -EAGAIN);
	give_back(0);
	assert_settled(2, 1, -ESTALE);
	ck_assert_int_eq(add(0), 0);
	post();
	give_back(-EBUSY); /* and so for the next failure, with nothing else under way */
	ck_assert_int_eq(add(1), 0);
	post();
	give_back(0);
	assert_settled(1, 2, 0);
	teardown();
}
END_TEST

/* A producer must not get into a batch without its hello. */
START_TEST(batcher_takes_no_half_of_a_hello)
{
	static const uint8_t hello[64 << 10] = {1};
	struct span payload = {.at = hello, .len = sizeof(hello)};
	struct mail *mail;

	setup();
	ck_assert_int_eq(add(0), 0);
	ck_assert_int_eq(
		WITH_EACH_ALLOCATION_FAILING(batcher_hello(&batcher, &sessions[1], payload),
					     ck_assert_uint_eq(batcher.open->peer_count, 1)),
		0);
	ck_assert_uint_eq(sessions[1].in_batches, 1);
	post();
	mail = mailbox_take(&box);
	ck_assert_ptr_nonnull(mail);
	ck_assert_uint_eq(container_of(mail, struct batch, mail)->peers[1].hello_len,
			  sizeof(hello));
	batcher_take_back(&batcher, container_of(mail, struct batch, mail), NULL);
	assert_settled(1, 1, 0);
	teardown();
}
END_TEST

SUITE_MAIN("batcher", batcher_takes_no_half_of_a_hello, batcher_tells_each_session_of_its_batch,
	   batcher_stores_nothing_behind_what_the_store_refused,
	   batcher_waits_for_all_that_were_under_way)
