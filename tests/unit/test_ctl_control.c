#include "client/ctl/control.h"
#include "client/ctl/facts.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/mp.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the other end answers to question 1. */
static void add_item(struct buf *b, uint64_t id, uint64_t n)
{
	struct pack p;
	size_t at = frame_open(b, &p, "item", id, 1);

	pack_pair_uint(&p, "n", n);
	frame_close(b, at);
}

static void add_end(struct buf *b, const char *kind, uint64_t id)
{
	struct pack p;
	size_t at = frame_open(b, &p, kind, id, 3);

	pack_pair_uint(&p, "count", 3);
	pack_pair_text(&p, "code", "not_found");
	pack_pair_text(&p, "text", "nothing there");
	frame_close(b, at);
}

/* A control whose other end has said `answer` already, and ends. */
static struct control *control_told(const struct buf *answer)
{
	int ends[2];
	struct control *c;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(write(ends[1], answer->data, answer->len), (ssize_t)answer->len);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	c = control_of(ends[0]);
	if (c == NULL)
		(void)close(ends[1]); /* a test's */
	else
		ck_assert_int_gt(dup2(ends[1], 100), 0); /* the question has to go somewhere */
	if (c != NULL)
		(void)close(ends[1]);
	return c;
}

static int on_item(void *arg, struct span body)
{
	uint64_t *sum = arg;

	*sum = *sum * 10 + mp_get_uint(mp_of(body), "n", 0);
	return 0;
}

static int ask(struct control *c, uint64_t *sum, struct control_answer *ret)
{
	struct request q;
	int r;

	request_init(&q, VERB_RUNS);
	request_text(&q, "run", "r1");
	r = control_ask(c, &q, on_item, sum, ret);
	request_done(&q);
	return r;
}

START_TEST(items_come_in_order_and_then_the_end)
{
	auto_buf struct buf b = {0};
	struct control_answer answer;
	struct control *c;
	uint64_t sum = 0;

	buf_init(&b, 1 << 20);
	add_item(&b, 0, 9); /* of a question that was given up */
	add_item(&b, 1, 1);
	add_item(&b, 1, 2);
	add_end(&b, "later", 1); /* a newer daemon's word */
	add_item(&b, 1, 3);
	add_end(&b, "done", 1);
	c = control_told(&b);
	ck_assert_int_eq(ask(c, &sum, &answer), 0);
	ck_assert_uint_eq(sum, 123);
	ck_assert_uint_eq(mp_get_uint(mp_of(answer.body), "count", 0), 3);
	ck_assert_ptr_null(control_close(c));
}
END_TEST

START_TEST(an_error_has_a_code_and_a_text)
{
	auto_buf struct buf b = {0};
	struct control_answer answer;
	struct control *c;
	uint64_t sum = 0;

	buf_init(&b, 1 << 20);
	add_end(&b, "error", 1);
	c = control_told(&b);
	ck_assert_int_eq(ask(c, &sum, &answer), -EREMOTEIO);
	ck_assert(span_is(answer.code, "not_found"));
	ck_assert(span_is(answer.text, "nothing there"));
	(void)control_close(c);
}
END_TEST

START_TEST(an_end_in_the_middle_and_nonsense_are_told_apart)
{
	static const struct {
		const char *bytes;
		size_t len;
		int r;
	} cases[] = {
		{"", 0, -ECONNRESET},          {"\xc6\x00\x00", 3, -ECONNRESET},
		{"hello", 5, -EBADMSG},        {"\xc6\x7f\xff\xff\xff", 5, -EBADMSG},
		{"\xc4\x01\x90", 3, -EBADMSG}, {"\xc4\x04\x93\x01\x01\x80", 6, -EBADMSG},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf b = {0};
		struct control_answer answer;
		struct control *c;
		uint64_t sum = 0;

		buf_init(&b, 4096);
		(void)buf_add(&b, cases[i].bytes, cases[i].len);
		c = control_told(&b);
		ck_assert_int_eq(ask(c, &sum, &answer), cases[i].r);
		(void)control_close(c);
	}
}
END_TEST

START_TEST(who_says_nothing_is_not_waited_for_longer_than_told)
{
	struct control_answer answer;
	struct control *c;
	struct request q;
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	c = control_of(ends[0]);
	request_init(&q, VERB_STATUS);
	q.timeout_ms = 10;
	ck_assert_int_eq(control_ask(c, &q, NULL, NULL, &answer), -ETIMEDOUT);
	request_done(&q);
	(void)control_close(c);
	(void)close(ends[1]);
}
END_TEST

static int on_item_enough(void *arg, struct span body)
{
	(void)arg;
	(void)body;
	return 42;
}

START_TEST(who_reads_may_have_enough)
{
	auto_buf struct buf b = {0};
	struct control_answer answer;
	struct control *c;
	struct request q;

	buf_init(&b, 4096);
	add_item(&b, 1, 1);
	c = control_told(&b);
	request_init(&q, VERB_RUNS);
	ck_assert_int_eq(control_ask(c, &q, on_item_enough, NULL, &answer), 42);
	request_done(&q);
	(void)control_close(c);
}
END_TEST

/* Writes in small pieces what no socket holds at once. */
static void write_slowly(int fd, const struct buf *b)
{
	size_t at = 0;

	while (at < b->len) {
		size_t len = b->len - at < 7001 ? b->len - at : 7001;
		ssize_t n = write(fd, b->data + at, len);

		if (n < 0)
			_exit(1);
		at += (size_t)n;
	}
	_exit(0);
}

static int on_big_item(void *arg, struct span body)
{
	*(size_t *)arg += mp_get_bin(mp_of(body), "record").len;
	return 0;
}

START_TEST(items_as_large_as_a_record_come_in_pieces)
{
	auto_buf struct buf record = {0};
	auto_buf struct buf b = {0};
	struct control_answer answer;
	struct control *c;
	struct request q;
	size_t sum = 0;
	int status;
	int ends[2];
	pid_t pid;

	buf_init(&record, RECORD_MAX);
	buf_init(&b, 64 << 20);
	ck_assert_int_eq(buf_reserve(&record, RECORD_MAX), 0);
	memset(record.data, 'x', RECORD_MAX);
	record.len = RECORD_MAX;
	for (unsigned i = 0; i < 5; i++) {
		struct pack p;
		size_t at = frame_open(&b, &p, "item", 1, 1);

		pack_pair_bin(&p, "record", buf_span(&record));
		frame_close(&b, at);
	}
	add_end(&b, "done", 1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		write_slowly(ends[1], &b);
	c = control_of(ends[0]);
	request_init(&q, VERB_TAIL);
	ck_assert_int_eq(control_ask(c, &q, on_big_item, &sum, &answer), 0);
	ck_assert_uint_eq(sum, (size_t)5 * RECORD_MAX);
	request_done(&q);
	(void)control_close(c);
	(void)close(ends[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(a_question_is_a_verb_a_number_and_its_arguments)
{
	static const uint64_t ids[] = {3, 500};
	auto_buf struct buf b = {0};
	struct request q;
	struct span payload;
	struct mp_value v;
	struct mp m;
	size_t size;

	buf_init(&b, 4096);
	request_init(&q, VERB_DEAD_RETRY);
	request_text(&q, "run", "r1");
	request_text(&q, "sink", NULL);
	request_ids(&q, "ids", ids, 2);
	request_bool(&q, "follow", true);
	request_uint(&q, "last", 7);
	ck_assert_int_eq(request_frame(&q, 5, &b), 0);
	request_done(&q);
	ck_assert_int_eq(frame_next(buf_span(&b), CONTROL_REQUEST_MAX, &payload, &size),
			 FRAME_READY);
	m = mp_of(payload);
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert_uint_eq(v.count, 3);
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert(span_is(v.bytes, "dead_retry"));
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert_uint_eq(v.natural, 5);
	ck_assert(span_is(mp_get_str(m, "run"), "r1"));
	ck_assert_int_eq(mp_find(m, "sink", &v), -ENOENT);
	ck_assert_int_eq(mp_find(m, "ids", &v), 0);
	ck_assert_uint_eq(v.count, 2);
	ck_assert(mp_get_bool(m, "follow", false));
	ck_assert_uint_eq(mp_get_uint(m, "last", 0), 7);
}
END_TEST

static int ask_afresh(const struct buf *answer_bytes)
{
	struct control_answer answer;
	struct control *c = control_told(answer_bytes);
	uint64_t sum = 0;
	int r = c == NULL ? -ENOMEM : ask(c, &sum, &answer);

	(void)control_close(c);
	return r;
}

START_TEST(asking_survives_every_allocation_failure)
{
	auto_buf struct buf b = {0};

	buf_init(&b, 1 << 20);
	add_item(&b, 1, 1);
	add_end(&b, "done", 1);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(ask_afresh(&b), (void)0), 0);
}
END_TEST

/* --- facts --- */

static void pack_status(struct buf *b)
{
	struct pack p;

	buf_init(b, 1 << 16);
	pack_init(&p, b);
	pack_map(&p, 8);
	pack_pair_uint(&p, "schema", 1);
	pack_pair_bool(&p, "running", true);
	pack_pair_text(&p, "host", "gpu07");
	pack_text(&p, "store");
	pack_map(&p, 2);
	pack_pair_text(&p, "dir", "/var/lib/wbx");
	pack_pair_int(&p, "space", 1);
	pack_text(&p, "sinks");
	pack_array(&p, 2);
	for (unsigned i = 0; i < 2; i++) {
		pack_map(&p, 5);
		pack_pair_text(&p, "name", i == 0 ? "models" : "weave");
		pack_pair_text(&p, "state", i == 0 ? "link down" : "dreaming");
		pack_pair_int(&p, "state_ms", -1);
		pack_pair_int(&p, "waiting", 12);
		pack_pair_double(&p, "sent_per_s", 0.5);
	}
	pack_text(&p, "dead");
	pack_array(&p, 2);
	for (int i = 0; i < 2; i++) {
		pack_map(&p, 3);
		pack_pair_int(&p, "count", i + 2);
		pack_pair_int(&p, "status", 400 + i);
		pack_pair_text(&p, "sink", "models");
	}
	pack_text(&p, "notable");
	pack_array(&p, 1);
	pack_map(&p, 2);
	pack_pair_text(&p, "run", "r1");
	pack_pair_int(&p, "uploads", 11);
	pack_text(&p, "runs");
	pack_map(&p, 3);
	pack_pair_int(&p, "new", 1);
	pack_pair_int(&p, "live", 2);
	pack_pair_int(&p, "done", 27);
	ck_assert_int_eq(b->error, 0);
}

START_TEST(facts_are_read_and_what_is_missing_is_nothing)
{
	auto_buf struct buf b = {0};
	struct facts f;
	uint64_t waiting;
	uint64_t bytes;

	pack_status(&b);
	ck_assert_int_eq(facts_read(buf_span(&b), &f), 0);
	ck_assert(f.running);
	ck_assert_str_eq(f.host, "gpu07");
	ck_assert_str_eq(f.version, "");
	ck_assert_str_eq(f.store.dir, "/var/lib/wbx");
	ck_assert_int_eq(f.store.space, STORE_TIGHT);
	ck_assert_uint_eq(f.sink_count, 2);
	ck_assert_int_eq(f.sinks[0].state, SINK_LINK_DOWN);
	ck_assert_int_eq(f.sinks[1].state, SINK_UNKNOWN);
	ck_assert_str_eq(f.sinks[1].state_name, "dreaming");
	ck_assert_int_eq(f.sinks[0].state_ms, -1);
	ck_assert_int_eq(f.sinks[0].next_try_ms, -1);
	ck_assert_uint_eq(f.sinks[0].dead, 5);
	ck_assert_uint_eq(f.dead_count, 2);
	ck_assert_int_eq(f.dead[1].status, 401);
	ck_assert_uint_eq(f.notable[0].uploads, 11);
	ck_assert_uint_eq(f.runs.live, 3);
	facts_sum(&f, SINK_STATES, &waiting, &bytes);
	ck_assert_uint_eq(waiting, 24);
	facts_sum(&f, SINK_LINK_DOWN, &waiting, &bytes);
	ck_assert_uint_eq(waiting, 12);
}
END_TEST

START_TEST(an_answer_that_is_cut_or_of_other_types_does_no_harm)
{
	auto_buf struct buf b = {0};
	struct facts f;

	pack_status(&b);
	for (size_t len = 0; len < b.len; len++)
		ck_assert_int_eq(facts_read((struct span){.at = b.data, .len = len}, &f), -EBADMSG);
	for (size_t i = 0; i < b.len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			b.data[i] ^= (uint8_t)(1u << bit);
			(void)facts_read(buf_span(&b), &f); /* any answer, no fault */
			b.data[i] ^= (uint8_t)(1u << bit);
		}
	}
	ck_assert_int_eq(facts_read(SPAN_LITERAL("\x80"), &f), -EBADMSG);
	ck_assert_int_eq(facts_read(SPAN_LITERAL("\x81\xa6schema\x01"), &f), 0);
}
END_TEST

START_TEST(a_long_text_is_cut_at_a_whole_character)
{
	auto_buf struct buf b = {0};
	char host[400];
	struct facts f;
	struct pack p;

	for (size_t i = 0; i + 3 < sizeof(host); i += 3)
		memcpy(host + i, "要", 4);
	buf_init(&b, 4096);
	pack_init(&p, &b);
	pack_map(&p, 2);
	pack_pair_uint(&p, "schema", 1);
	pack_pair_text(&p, "host", host);
	ck_assert_int_eq(facts_read(buf_span(&b), &f), 0);
	ck_assert_uint_eq(strlen(f.host), FACTS_TEXT_MAX - 1 - (FACTS_TEXT_MAX - 1) % 3);
}
END_TEST

SUITE_MAIN("ctl_control", items_come_in_order_and_then_the_end, an_error_has_a_code_and_a_text,
	   an_end_in_the_middle_and_nonsense_are_told_apart,
	   who_says_nothing_is_not_waited_for_longer_than_told, who_reads_may_have_enough,
	   items_as_large_as_a_record_come_in_pieces,
	   a_question_is_a_verb_a_number_and_its_arguments,
	   asking_survives_every_allocation_failure, facts_are_read_and_what_is_missing_is_nothing,
	   an_answer_that_is_cut_or_of_other_types_does_no_harm,
	   a_long_text_is_cut_at_a_whole_character)
