/* The rows of a run told again, from a real store. That they are what was planned and sent, with other
 * writers and letters sent again, tests/integration/test_export.py compares. */
#include "daemon/flow/history.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "tests/lib/rooms.h"
#include "tests/lib/storebox.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

enum {
	OUT_MAX = 64 << 20,
	RUN = 1,
};

static int session;

struct fixture {
	struct storebox box;
	struct reader *reader;
	uint64_t seq;
};

static void open_fixture(struct fixture *f)
{
	*f = (struct fixture){.seq = 0};
	storebox_open(&f->box);
}

static void close_fixture(struct fixture *f)
{
	f->reader = reader_close(f->reader);
	storebox_close(&f->box);
	rooms_done();
}

/* Stores the records of one producer: each is a kind and what its body has besides run and time. */
static void store_records(struct fixture *f, const char *const *records, size_t count)
{
	struct batch batch;
	unsigned peer;

	batch_init(&batch);
	peer = storebox_peer(&batch, 1, &session);
	for (size_t i = 0; i < count; i += 2) {
		char text[512];

		f->seq++;
		(void)snprintf(text, sizeof(text), "['%s',%llu,{'run':'r','t':%llu%s%s}]",
			       records[i], (unsigned long long)f->seq,
			       (unsigned long long)(1000000 * f->seq),
			       records[i + 1][0] == '\0' ? "" : ",", records[i + 1]); /* fits */
		(void)mp_text(&room, text);
		storebox_add(&batch, peer, buf_span(&room));
	}
	ck_assert_int_eq(storebox_commit(&f->box, &batch), 0);
	batch_done(&batch);
	if (f->reader == NULL)
		ck_assert_int_eq(reader_open(&f->reader, f->box.dir), 0);
}

static struct history_wish wish_of(enum history_form form)
{
	return (struct history_wish){
		.run = RUN, .form = form, .merge_max_us = 1000000, .now_us = 1};
}

/* All that is told; ret_sums may be NULL. 0, -errno. */
static int tell(struct fixture *f, const struct history_wish *wish, struct buf *out,
		struct history_sums *ret_sums)
{
	struct history *h = NULL;
	int r = history_open(&h, f->reader, wish);

	buf_clear(out);
	if (r < 0)
		return r;
	do {
		r = history_step(h, f->reader, out);
	} while (r == 1);
	if (r == 0 && ret_sums != NULL)
		*ret_sums = *history_sums(h);
	ck_assert_ptr_null(history_close(h));
	return r;
}

static size_t frames_in(const struct buf *out)
{
	struct span rest = buf_span(out);
	struct span payload;
	size_t size;
	size_t count = 0;

	while (rest.len > 0) {
		ck_assert_int_eq(frame_next(rest, OUT_MAX, &payload, &size), FRAME_READY);
		rest.at += size;
		rest.len -= size;
		count++;
	}
	return count;
}

static bool holds(const struct buf *out, const char *text)
{
	return memmem(out->data, out->len, text, strlen(text)) != NULL;
}

START_TEST(rows_are_told_with_their_steps)
{
	static const char *const records[] = {
		"run",    "'project':'p'",
		"log",    "'data':{'x':1}",
		"log",    "'data':{'x':2},'step':5",
		"log",    "'data':{'y':3},'step':5",
		"log",    "'data':{'x':4},'step':9",
		"log",    "'data':{'x':5},'step':7", /* too late for it, and 6 to 8 are free */
		"finish", "",
	};
	struct history_sums sums = {.rows = 0};
	struct history_wish wish = wish_of(HISTORY_LINES);
	auto_buf struct buf out;
	struct fixture f;

	buf_init(&out, OUT_MAX);
	open_fixture(&f);
	store_records(&f, records, array_len(records));
	ck_assert_int_eq(tell(&f, &wish, &out, &sums), 0);
	ck_assert_int_eq(sums.rows, 4);
	ck_assert_int_eq(sums.late + sums.open + sums.monsters, 0);
	ck_assert(!sums.is_part);
	ck_assert_uint_eq(frames_in(&out), 4);
	ck_assert(holds(&out, "\"x\":2,\"y\":3"));
	ck_assert(holds(&out, "\"_step\":0}") && holds(&out, "\"_step\":5}") &&
		  holds(&out, "\"_step\":9}"));
	wish.form = HISTORY_VALUES;
	ck_assert_int_eq(tell(&f, &wish, &out, &sums), 0);
	ck_assert_uint_eq(frames_in(&out), 4);
	ck_assert(!holds(&out, "\"_step\""));
	close_fixture(&f);
}
END_TEST

START_TEST(what_is_open_is_counted_and_what_comes_later_is_not_told)
{
	static const char *const records[] = {
		"run", "'project':'p'",           "log", "'data':{'x':1},'step':3",
		"log", "'data':{'x':2},'step':4",
	};
	static const char *const more[] = {"log", "'data':{'x':3},'step':8", "finish", ""};
	struct history_sums sums = {.rows = 0};
	struct history_wish wish = wish_of(HISTORY_LINES);
	auto_buf struct buf out;
	auto_buf struct buf again;
	struct fixture f;

	buf_init(&out, OUT_MAX);
	buf_init(&again, OUT_MAX);
	open_fixture(&f);
	store_records(&f, records, array_len(records));
	ck_assert_int_eq(tell(&f, &wish, &out, &sums), 0);
	ck_assert_int_eq(sums.rows, 1);
	ck_assert_int_eq(sums.open, 1);
	wish.until_lsn = sums.until_lsn;
	store_records(&f, more, array_len(more));
	ck_assert_int_eq(tell(&f, &wish, &again, &sums), 0); /* told as it was told before */
	ck_assert(span_equal(buf_span(&out), buf_span(&again)));
	wish.until_lsn = 0;
	ck_assert_int_eq(tell(&f, &wish, &again, &sums), 0);
	ck_assert_int_eq(sums.rows, 3);
	ck_assert_int_eq(sums.open, 0);
	ck_assert(again.len > out.len && memcmp(again.data, out.data, out.len) == 0);
	close_fixture(&f);
}
END_TEST

START_TEST(a_run_without_rows_tells_nothing)
{
	static const char *const records[] = {"run", "'project':'p'"};
	struct history_sums sums = {.rows = 1};
	struct history_wish wish = wish_of(HISTORY_LINES);
	auto_buf struct buf out;
	struct fixture f;

	buf_init(&out, OUT_MAX);
	open_fixture(&f);
	store_records(&f, records, array_len(records));
	ck_assert_int_eq(tell(&f, &wish, &out, &sums), 0);
	ck_assert_int_eq(sums.rows, 0);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_ptr_null(history_close(NULL));
	close_fixture(&f);
}
END_TEST

START_TEST(a_history_survives_every_allocation_failure)
{
	static const char *const records[] = {
		"run",    "'project':'p'",
		"define", "'name':'x','summary':['min']",
		"log",    "'data':{'x':1,'m':{'n':'text'}}",
		"log",    "'data':{'x':2},'step':5",
		"log",    "'data':{'x':3}",
	};
	struct history_wish wish = wish_of(HISTORY_VALUES);
	struct history_sums sums = {.rows = 0};
	auto_buf struct buf out;
	auto_buf struct buf again;
	struct fixture f;

	buf_init(&out, OUT_MAX);
	buf_init(&again, OUT_MAX);
	open_fixture(&f);
	store_records(&f, records, array_len(records));
	ck_assert_int_eq(tell(&f, &wish, &out, &sums), 0);
	storebox_stop(&f.box);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(tell(&f, &wish, &again, &sums), (void)0), 0);
	ck_assert(span_equal(buf_span(&out), buf_span(&again)));
	close_fixture(&f);
}
END_TEST

SUITE_MAIN("history", rows_are_told_with_their_steps,
	   what_is_open_is_counted_and_what_comes_later_is_not_told,
	   a_run_without_rows_tells_nothing, a_history_survives_every_allocation_failure)
