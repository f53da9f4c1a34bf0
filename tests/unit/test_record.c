#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/record.h"
#include "tests/lib/suite.h"

#include <string.h>

struct fixture {
	struct buf b;
	struct pack p;
};

static void begin(struct fixture *f, const char *kind, uint64_t seq, size_t pairs)
{
	buf_init(&f->b, RECORD_MAX + 4096);
	pack_init(&f->p, &f->b);
	pack_array(&f->p, 3);
	pack_text(&f->p, kind);
	pack_uint(&f->p, seq);
	pack_map(&f->p, pairs);
}

static void begin_log(struct fixture *f, size_t more_pairs)
{
	begin(f, "log", 5, 2 + more_pairs);
	pack_pair_text(&f->p, "run", "r1");
	pack_pair_uint(&f->p, "t", 1000);
}

static const char *code_of(struct fixture *f)
{
	static struct record_fault fault;
	struct record r;

	ck_assert_int_eq(f->b.error, 0);
	(void)record_parse(buf_span(&f->b), &r, &fault);
	buf_done(&f->b);
	return fault.code;
}

START_TEST(record_with_all_its_fields_is_taken)
{
	struct fixture f;
	struct record r;
	struct record_fault fault;
	struct span blob;
	uint8_t digest[DIGEST_BYTES];

	memset(digest, 7, sizeof(digest));
	begin_log(&f, 4);
	pack_text(&f.p, "data");
	pack_map(&f.p, 1);
	pack_pair_double(&f.p, "loss", 0.5);
	pack_pair_int(&f.p, "step", -1);
	pack_text(&f.p, "commit");
	pack_nil(&f.p);
	pack_text(&f.p, "blobs");
	pack_array(&f.p, 2);
	pack_bin(&f.p, (struct span){.at = digest, .len = sizeof(digest)});
	digest[0] = 8;
	pack_bin(&f.p, (struct span){.at = digest, .len = sizeof(digest)});
	ck_assert_int_eq(record_parse(buf_span(&f.b), &r, &fault), 0);
	ck_assert_str_eq(fault.code, "");
	ck_assert_int_eq((int)r.kind, (int)KIND_LOG);
	ck_assert_uint_eq(r.seq, 5);
	ck_assert_uint_eq(r.time_us, 1000);
	ck_assert(span_is(r.run, "r1"));
	ck_assert_uint_eq(record_blob_count(&r), 2);
	ck_assert(record_blob(&r, 1, &blob));
	ck_assert_uint_eq(blob.at[0], 8);
	ck_assert(!record_blob(&r, 2, &blob));
	buf_done(&f.b);
}
END_TEST

START_TEST(record_faults_name_the_field)
{
	struct fixture f;
	struct record r;
	struct record_fault fault;

	begin(&f, "log", 5, 1);
	pack_pair_text(&f.p, "run", "r1");
	ck_assert_int_eq(record_parse(buf_span(&f.b), &r, &fault), -EBADMSG);
	ck_assert_str_eq(fault.text, "log: `t` is missing");
	ck_assert_uint_eq(r.seq, 5);
	buf_done(&f.b);

	begin_log(&f, 1);
	pack_pair_text(&f.p, "data", "not a map");
	ck_assert_int_eq(record_parse(buf_span(&f.b), &r, &fault), -EBADMSG);
	ck_assert_str_eq(fault.text, "log: `data` must be a map");
	buf_done(&f.b);
}
END_TEST

START_TEST(record_names_must_be_short_utf8)
{
	struct fixture f;
	char name[NAME_MAX_BYTES + 2];

	begin(&f, "finish", 1, 2);
	pack_pair_uint(&f.p, "t", 1);
	pack_pair_text(&f.p, "run", "");
	ck_assert_str_eq(code_of(&f), "bad_field");
	begin(&f, "finish", 1, 2);
	pack_pair_uint(&f.p, "t", 1);
	pack_pair_text(&f.p, "run", "\xff");
	ck_assert_str_eq(code_of(&f), "bad_field");
	memset(name, 'x', sizeof(name));
	name[NAME_MAX_BYTES + 1] = '\0';
	begin(&f, "finish", 1, 2);
	pack_pair_uint(&f.p, "t", 1);
	pack_pair_text(&f.p, "run", name);
	ck_assert_str_eq(code_of(&f), "bad_field");
	name[NAME_MAX_BYTES] = '\0';
	begin(&f, "finish", 1, 2);
	pack_pair_uint(&f.p, "t", 1);
	pack_pair_text(&f.p, "run", name);
	ck_assert_str_eq(code_of(&f), "");
}
END_TEST

START_TEST(record_of_a_million_keys_is_refused_in_one_pass)
{
	struct fixture f;

	begin_log(&f, 1);
	pack_text(&f.p, "data");
	pack_map(&f.p, 200000);
	for (int i = 0; i < 200000; i++) {
		pack_text(&f.p, "k");
		pack_uint(&f.p, 1);
	}
	ck_assert_str_eq(code_of(&f), "too_big");
	begin_log(&f, 1);
	pack_text(&f.p, "data");
	pack_map(&f.p, RECORD_KEYS_MAX);
	for (int i = 0; i < RECORD_KEYS_MAX; i++) {
		pack_text(&f.p, "k");
		pack_uint(&f.p, 1);
	}
	ck_assert_str_eq(code_of(&f), "");
}
END_TEST

START_TEST(record_depth_counts_the_frame)
{
	for (unsigned deep = RECORD_DEPTH_MAX - 2; deep <= RECORD_DEPTH_MAX - 1; deep++) {
		struct fixture f;

		begin_log(&f, 1);
		pack_text(&f.p, "data");
		pack_map(&f.p, 1); /* the first of the levels */
		pack_text(&f.p, "x");
		for (unsigned i = 1; i < deep; i++)
			pack_array(&f.p, 1);
		pack_nil(&f.p);
		ck_assert_str_eq(code_of(&f), deep <= RECORD_DEPTH_MAX - 2 ? "" : "too_big");
	}
}
END_TEST

START_TEST(record_larger_than_a_record_is_refused)
{
	struct fixture f;
	auto_free char *text = mem_zalloc(RECORD_MAX + 1);

	ck_assert_ptr_nonnull(text);
	memset(text, 'x', RECORD_MAX);
	begin_log(&f, 1);
	pack_pair_text(&f.p, "more", text);
	ck_assert_str_eq(code_of(&f), "too_big");
}
END_TEST

START_TEST(record_kinds_of_the_daemon_are_not_taken_from_clients)
{
	static const char *const kinds[] = {"ack", "welcome", "gone", "notice", "", "logs"};

	for (size_t i = 0; i < array_len(kinds); i++) {
		struct fixture f;

		begin(&f, kinds[i], 1, 0);
		ck_assert_str_eq(code_of(&f), "unknown_kind");
	}
}
END_TEST

START_TEST(record_blobs_must_be_digests)
{
	struct fixture f;

	begin(&f, "summary", 1, 3);
	pack_pair_text(&f.p, "run", "r");
	pack_pair_uint(&f.p, "t", 1);
	pack_text(&f.p, "blobs");
	pack_array(&f.p, 1);
	pack_bin(&f.p, SPAN_LITERAL("short"));
	ck_assert_str_eq(code_of(&f), "bad_field");
}
END_TEST

/* PROTOCOL.md section 4 has one row per kind and names each of its fields. */
START_TEST(record_kinds_and_fields_stand_in_the_protocol_document)
{
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *file = fopen("proto/PROTOCOL.md", "r");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_gt(getdelim(&text, &len, '\0', file), 0);
	(void)fclose(file); /* read only */
	for (unsigned k = 0; k < KIND_GONE; k++) {
		const struct kind_info *info = kind_info((enum kind)k);
		char row[64];
		const char *at;
		const char *end;

		(void)snprintf(row, sizeof(row), "\n| `%s` | ", info->name); /* names are short */
		at = strstr(text, row);
		ck_assert_msg(at != NULL, "no row for %s", info->name);
		end = strchr(at + 1, '\n');
		for (int i = 0; i < KIND_FIELDS_MAX && info->fields[i].name != NULL; i++) {
			char field[64];
			const char *found;

			(void)snprintf(field, sizeof(field), "`%s`", info->fields[i].name);
			found = strstr(at, field);
			ck_assert_msg(found != NULL && found < end, "%s of %s", field, info->name);
		}
	}
}
END_TEST

SUITE_MAIN("record", record_with_all_its_fields_is_taken, record_faults_name_the_field,
	   record_names_must_be_short_utf8, record_of_a_million_keys_is_refused_in_one_pass,
	   record_depth_counts_the_frame, record_larger_than_a_record_is_refused,
	   record_kinds_of_the_daemon_are_not_taken_from_clients, record_blobs_must_be_digests,
	   record_kinds_and_fields_stand_in_the_protocol_document)
