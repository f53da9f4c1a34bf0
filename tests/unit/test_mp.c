#include "proto/base/rng.h"
#include "proto/mp.h"
#include "proto/pack.h"
#include "tests/lib/suite.h"

#include <msgpack/unpack.h>
#include <string.h>

static const struct mp_limits tight = {.depth = 4, .items = 20, .keys = 5, .key_bytes = 8};

START_TEST(mp_reads_every_form_that_the_packer_writes)
{
	auto_buf struct buf b;
	struct pack p;
	struct mp m;
	struct mp_value v;
	static const int64_t numbers[] = {
		0,     1,         127,        128,       255,       256,         65535,
		65536, INT32_MAX, 4294967296, INT64_MAX, -1,        -32,         -33,
		-128,  -129,      -32768,     -32769,    INT32_MIN, -2147483649, INT64_MIN};

	buf_init(&b, 1 << 20);
	pack_init(&p, &b);
	for (size_t i = 0; i < array_len(numbers); i++)
		pack_int(&p, numbers[i]);
	pack_uint(&p, UINT64_MAX);
	pack_double(&p, -2.5);
	m = mp_of(buf_span(&b));
	for (size_t i = 0; i < array_len(numbers); i++) {
		int64_t got;

		ck_assert_int_eq(mp_read(&m, &v), 0);
		ck_assert(mp_to_int64(&v, &got));
		ck_assert_int_eq(got, numbers[i]);
	}
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert_uint_eq(v.natural, UINT64_MAX);
	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert_double_eq(v.real, -2.5);
	ck_assert_int_eq(mp_read(&m, &v), -ENODATA);
}
END_TEST

static void check_token(const char *bytes, size_t len, enum mp_type type)
{
	struct mp_value v;

	for (size_t cut = 0; cut < len; cut++) {
		struct mp m = mp_of((struct span){.at = (const uint8_t *)bytes, .len = cut});

		ck_assert_int_eq(mp_read(&m, &v), -ENODATA);
		ck_assert_ptr_eq(m.at, (const uint8_t *)bytes);
	}
	struct mp m = mp_of((struct span){.at = (const uint8_t *)bytes, .len = len});

	ck_assert_int_eq(mp_read(&m, &v), 0);
	ck_assert_int_eq((int)v.type, (int)type);
	ck_assert_uint_eq(mp_left(&m), 0);
}

START_TEST(mp_knows_where_each_token_ends)
{
#define TOKEN(bytes, type) check_token(bytes, sizeof(bytes) - 1, type)
	TOKEN("\xc0", MP_NIL);
	TOKEN("\xc3", MP_BOOL);
	TOKEN("\xc4\x02zz", MP_BIN);
	TOKEN("\xc5\x00\x01z", MP_BIN);
	TOKEN("\xc6\x00\x00\x00\x01z", MP_BIN);
	TOKEN("\xc7\x01\x05z", MP_EXT);
	TOKEN("\xc8\x00\x01\x05z", MP_EXT);
	TOKEN("\xd6\xff\x01\x02\x03\x04", MP_EXT);
	TOKEN("\xca\x00\x00\x00\x00", MP_FLOAT);
	TOKEN("\xd9\x03"
	      "abc",
	      MP_STR);
	TOKEN("\xa3"
	      "abc",
	      MP_STR);
	TOKEN("\xdc\x00\x00", MP_ARRAY);
	TOKEN("\xdf\x00\x00\x00\x00", MP_MAP);
#undef TOKEN
}
END_TEST

START_TEST(mp_skip_stops_at_each_limit)
{
	static const struct {
		const char *bytes;
		size_t len;
		int r;
	} cases[] = {
		{"\x91\x91\x91\x90", 4, 0},
		{"\x91\x91\x91\x91\x90", 5, -E2BIG}, /* five deep */
		{"\xdc\xff\xff", 3, -ENODATA},       /* promises what is not there */
		{"\xdd\xff\xff\xff\xff", 5, -ENODATA},
		{"\xdf\xff\xff\xff\xff", 5, -E2BIG}, /* more keys than allowed */
		{"\x86\x01\x01", 3, -E2BIG},
		{"\x81\xa9"
		 "123456789\x01",
		 12, -E2BIG}, /* a key of nine bytes */
		{"\x81\x01\xa9"
		 "123456789",
		 12, 0}, /* a value may be longer */
		{"\xc1", 1, -EBADMSG},
		{"\x92\x01\xc1", 3, -EBADMSG},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct mp m = mp_of(
			(struct span){.at = (const uint8_t *)cases[i].bytes, .len = cases[i].len});

		ck_assert_msg(mp_skip(&m, &tight) == cases[i].r, "case %zu", i);
		ck_assert(cases[i].r == 0 ? mp_left(&m) == 0 : mp_left(&m) == cases[i].len);
	}
}
END_TEST

START_TEST(mp_skip_of_a_million_brackets_does_not_recurse)
{
	size_t len = 1000000;
	auto_free uint8_t *deep = mem_alloc(len);
	struct mp m;

	ck_assert_ptr_nonnull(deep);
	memset(deep, 0x91, len);
	m = mp_of((struct span){.at = deep, .len = len});
	ck_assert_int_eq(mp_skip(&m, NULL), -E2BIG);
}
END_TEST

static size_t msgpack_c_size(struct span s, bool *ret_ok)
{
	msgpack_zone *zone = msgpack_zone_new(4096);
	msgpack_object object;
	size_t off = 0;
	msgpack_unpack_return r = msgpack_unpack((const char *)s.at, s.len, &off, zone, &object);

	*ret_ok = r == MSGPACK_UNPACK_SUCCESS || r == MSGPACK_UNPACK_EXTRA_BYTES;
	msgpack_zone_free(zone);
	return off;
}

START_TEST(mp_skip_and_msgpack_c_agree_on_random_bytes)
{
	struct rng rng = {.state = 42};
	const struct mp_limits wide = {
		.depth = 30, .items = SIZE_MAX, .keys = SIZE_MAX, .key_bytes = SIZE_MAX};
	int good = 0;

	for (int i = 0; i < 200000; i++) {
		uint8_t bytes[24];
		struct span s = {.at = bytes, .len = 1 + rng_below(&rng, sizeof(bytes))};
		struct mp m = mp_of(s);
		bool ok;
		size_t size;
		int r;

		for (size_t n = 0; n < s.len; n++) {
			uint64_t x = rng_next(&rng);

			bytes[n] =
				(uint8_t)(x % 3 == 0 ? 0x80 + (x >> 8) % 0x80 : (x >> 8) % 0x100);
			if (bytes[n] == 0xdd || bytes[n] == 0xdf || bytes[n] == 0xdc ||
			    bytes[n] == 0xde)
				bytes[n] = 0xc0; /* msgpack-c would allocate gigabytes for a
						    promised count */
		}
		r = mp_skip(&m, &wide);
		size = msgpack_c_size(s, &ok);
		ck_assert_msg((r == 0) == ok, "turn %d: %d", i, r);
		if (ok)
			ck_assert_uint_eq(size, (size_t)(m.at - s.at));
		good += ok;
	}
	ck_assert_int_gt(good, 10000);
}
END_TEST

START_TEST(mp_find_finds_fields_of_the_right_type_only)
{
	auto_buf struct buf b;
	struct pack p;
	struct mp m;

	buf_init(&b, 4096);
	pack_init(&p, &b);
	pack_map(&p, 4);
	pack_pair_text(&p, "name", "x");
	pack_pair_int(&p, "step", -3);
	pack_pair_bool(&p, "on", true);
	pack_pair_bin(&p, "bytes", SPAN_LITERAL("\x00\x01"));
	m = mp_of(buf_span(&b));
	ck_assert(span_is(mp_get_str(m, "name"), "x"));
	ck_assert_ptr_null(mp_get_str(m, "step").at);
	ck_assert_ptr_null(mp_get_str(m, "absent").at);
	ck_assert_uint_eq(mp_get_bin(m, "bytes").len, 2);
	ck_assert_int_eq(mp_get_int(m, "step", 9), -3);
	ck_assert_uint_eq(mp_get_uint(m, "step", 9), 9);
	ck_assert(mp_get_bool(m, "on", false));
}
END_TEST

SUITE_MAIN("mp", mp_reads_every_form_that_the_packer_writes, mp_knows_where_each_token_ends,
	   mp_skip_stops_at_each_limit, mp_skip_of_a_million_brackets_does_not_recurse,
	   mp_skip_and_msgpack_c_agree_on_random_bytes, mp_find_finds_fields_of_the_right_type_only)
