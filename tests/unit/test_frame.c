#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/mp.h"
#include "tests/lib/suite.h"

START_TEST(frame_of_each_bin_form_is_read)
{
	static const struct {
		const char *bytes;
		size_t len;
		enum frame_status status;
	} cases[] = {
		{"", 0, FRAME_NEED_MORE},
		{"\xc4", 1, FRAME_NEED_MORE},
		{"\xc4\x02z", 3, FRAME_NEED_MORE},
		{"\xc4\x02zz", 4, FRAME_READY},
		{"\xc5\x00\x02zzmore", 9, FRAME_READY},
		{"\xc6\x00\x00\x00\x02zz", 7, FRAME_READY},
		{"\xc6\xff\xff\xff\xff", 5, FRAME_TOO_BIG},
		{"\xc6\x00\x10\x00\x01", 5, FRAME_TOO_BIG},
		{"\xc6\x00\x10\x00", 4, FRAME_NEED_MORE},
		{"\x93", 1, FRAME_BAD},
		{"GET / HTTP/1.1", 14, FRAME_BAD},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct span payload = {0};
		size_t size = 0;
		enum frame_status s = frame_next(
			(struct span){.at = (const uint8_t *)cases[i].bytes, .len = cases[i].len},
			RECORD_MAX, &payload, &size);

		ck_assert_msg(s == cases[i].status, "case %zu", i);
		if (s == FRAME_READY)
			ck_assert_uint_eq(payload.len, 2);
		else
			ck_assert_uint_eq(size, 0);
	}
}
END_TEST

static int write_frame(struct buf *b)
{
	struct pack p;
	size_t at;

	buf_done(b);
	at = frame_open(b, &p, "log", 77, 1);
	pack_pair_text(&p, "run",
		       "a run with a name that makes the buffer grow beyond its first piece of "
		       "memory, which is 256 bytes "
		       "long: so this text goes on for a while, and then for another while, until "
		       "it is long enough, "
		       "which it should be about now, or now, or now at the very latest");
	frame_close(b, at);
	return b->error;
}

START_TEST(frame_written_is_frame_read_whatever_allocation_fails)
{
	auto_buf struct buf b;
	struct span payload;
	struct mp m;
	struct mp_value v;
	size_t size;

	buf_init(&b, RECORD_MAX);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(write_frame(&b), buf_done(&b)), 0);
	ck_assert_int_eq((int)frame_next(buf_span(&b), RECORD_MAX, &payload, &size),
			 (int)FRAME_READY);
	ck_assert_uint_eq(size, b.len);
	m = mp_of(payload);
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert_uint_eq(v.count, 3);
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert(span_is(v.bytes, "log"));
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert_uint_eq(v.natural, 77);
	ck_assert_ptr_nonnull(mp_get_str(m, "run").at);
}
END_TEST

SUITE_MAIN("frame", frame_of_each_bin_form_is_read,
	   frame_written_is_frame_read_whatever_allocation_fails)
