#include "daemon/forward/models/shared.h"
#include "tests/lib/rooms.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

static void run(struct shared *s, const char *body, bool can_begin)
{
	shared_run(s, mp_text(&room, body), can_begin);
}

/* Through its state, as after a restart. */
static struct shared reloaded(const struct shared *s)
{
	struct shared again = {.is_on = false};
	auto_buf struct buf bytes;
	struct pack p;

	buf_init(&bytes, 1 << 16);
	pack_init(&p, &bytes);
	shared_to_msgpack(s, &p);
	ck_assert_int_eq(bytes.error, 0);
	shared_from_msgpack(&again, mp_of(buf_span(&bytes)));
	ck_assert_mem_eq(&again, s, sizeof(again));
	return again;
}

START_TEST(a_run_is_shared_when_the_first_who_opens_it_says_so)
{
	struct shared s = {.is_on = false};

	run(&s, "{'label':'x'}", true);
	ck_assert(!s.is_on && !shared_wants_writer(&s) && s.label[0] == '\0');
	run(&s, "{'shared':true,'label':'one'}", true);
	ck_assert(s.is_on && s.is_primary && s.updates_end && !s.derives_summary);
	ck_assert_str_eq(s.label, "one");
	run(&s, "{}", false); /* another process of the machine */
	ck_assert(s.is_on && !s.is_asked_late);
	(void)reloaded(&s);
	rooms_done();
}
END_TEST

START_TEST(what_its_processes_may_adds_up)
{
	struct shared s = {.is_on = false};

	run(&s,
	    "{'shared':true,'primary':false,'update_finish_state':false,'derived_summary':true,"
	    "'label':'one'}",
	    true);
	ck_assert(s.is_on && !s.is_primary && !s.updates_end && s.derives_summary);
	run(&s, "{'shared':true,'primary':true,'update_finish_state':true,'label':'two'}", false);
	ck_assert(s.is_primary && s.updates_end && s.derives_summary);
	ck_assert_str_eq(s.label, "one");
	rooms_done();
}
END_TEST

START_TEST(who_comes_too_late_is_noted_until_a_person_has_looked)
{
	struct shared s = {.is_on = false};

	run(&s, "{'shared':true}", false);
	ck_assert(!s.is_on && s.is_asked_late);
	s = reloaded(&s);
	s.is_asked_late = false;
	s.is_settled = true;
	run(&s, "{'shared':true}", false);
	ck_assert(!s.is_on && !s.is_asked_late);
	rooms_done();
}
END_TEST

START_TEST(a_label_that_is_too_long_or_no_text_is_none)
{
	char body[2 * NAME_MAX_BYTES];
	struct shared s = {.is_on = false};

	(void)snprintf(body, sizeof(body), "{'shared':true,'label':'%0*d'}", NAME_MAX_BYTES + 1, 0);
	run(&s, body, true);
	ck_assert(s.is_on && s.label[0] == '\0');
	run(&s, "{'shared':true,'label':null}", true);
	ck_assert_str_eq(s.label, "");
	(void)snprintf(body, sizeof(body), "{'shared':true,'label':'%0*d'}", NAME_MAX_BYTES, 0);
	run(&s, body, true);
	ck_assert_uint_eq(strlen(s.label), NAME_MAX_BYTES);
	(void)reloaded(&s);
	rooms_done();
}
END_TEST

START_TEST(a_writer_s_id_is_a_uuid_of_its_time)
{
	struct shared s = {.is_on = true};
	struct shared other = {.is_on = true};

	ck_assert(shared_wants_writer(&s));
	ck_assert_int_eq(shared_make_writer(&s, 0x0123456789abu), 0);
	ck_assert(!shared_wants_writer(&s));
	ck_assert_uint_eq(strlen(s.writer), UUID_CHARS);
	ck_assert_int_eq(strncmp(s.writer, "01234567-89ab-7", 15), 0);
	ck_assert(s.writer[18] == '-' && s.writer[23] == '-');
	ck_assert_ptr_nonnull(strchr("89ab", s.writer[19]));
	ck_assert_int_eq(shared_make_writer(&other, 0x0123456789abu), 0);
	ck_assert_str_ne(s.writer, other.writer);
	(void)reloaded(&s);
}
END_TEST

SUITE_MAIN("shared", a_run_is_shared_when_the_first_who_opens_it_says_so,
	   what_its_processes_may_adds_up, who_comes_too_late_is_noted_until_a_person_has_looked,
	   a_label_that_is_too_long_or_no_text_is_none, a_writer_s_id_is_a_uuid_of_its_time)
