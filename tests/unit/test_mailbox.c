#include "daemon/base/mailbox.h"
#include "tests/lib/suite.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

static void on_wake(void *arg)
{
	++*(unsigned *)arg;
}

START_TEST(mailbox_gives_mails_in_the_order_of_their_posts)
{
	unsigned wakes = 0;
	struct mailbox box;
	struct mail mails[3] = {{.type = 1}, {.type = 2}, {.type = 3}};

	ck_assert_int_eq(mailbox_init(&box, SIZE_MAX, on_wake, &wakes), 0);
	ck_assert_ptr_null(mailbox_take(&box));
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(mailbox_post(&box, &mails[i]), 0);
	for (int i = 0; i < 3; i++) {
		struct mail *got = mailbox_take(&box);

		ck_assert_ptr_eq(got, &mails[i]);
		ck_assert_ptr_null(got->next);
	}
	ck_assert_ptr_null(mailbox_take(&box));
	ck_assert_uint_eq(wakes, 3);
	mailbox_done(&box);
}
END_TEST

START_TEST(mailbox_that_is_full_leaves_the_mail_to_its_poster_and_wakes_nobody)
{
	unsigned wakes = 0;
	struct mailbox box;
	struct mail mails[4] = {{0}};
	struct mail mark = {0};

	ck_assert_int_eq(mailbox_init(&box, 2, on_wake, &wakes), 0);
	mails[2].next = &mark;
	ck_assert_int_eq(mailbox_post(&box, &mails[0]), 0);
	ck_assert_int_eq(mailbox_post(&box, &mails[1]), 0);
	ck_assert_int_eq(mailbox_post(&box, &mails[2]), -EAGAIN);
	ck_assert_ptr_eq(mails[2].next, &mark);
	ck_assert_uint_eq(wakes, 2);
	ck_assert_ptr_eq(mailbox_take(&box), &mails[0]); /* room for one, and only one */
	ck_assert_int_eq(mailbox_post(&box, &mails[2]), 0);
	ck_assert_int_eq(mailbox_post(&box, &mails[3]), -EAGAIN);
	ck_assert_ptr_eq(mailbox_take(&box), &mails[1]);
	ck_assert_ptr_eq(mailbox_take(&box), &mails[2]);
	ck_assert_ptr_null(mailbox_take(&box));
	ck_assert_int_eq(mailbox_post(&box, &mails[0]), 0); /* emptied, it begins again */
	ck_assert_ptr_eq(mailbox_take(&box), &mails[0]);
	mailbox_done(&box);
}
END_TEST

START_TEST(mailbox_without_a_place_takes_nothing)
{
	unsigned wakes = 0;
	struct mailbox box;
	struct mail mail = {0};

	ck_assert_int_eq(mailbox_init(&box, 0, on_wake, &wakes), 0);
	ck_assert_int_eq(mailbox_post(&box, &mail), -EAGAIN);
	ck_assert_ptr_null(mailbox_take(&box));
	ck_assert_uint_eq(wakes, 0);
	mailbox_done(&box);
}
END_TEST

enum {
	POSTERS = 4,
	ROUNDS = 20000
};

struct poster {
	pthread_t thread;
	struct mailbox *box;
	unsigned number;
};

struct numbered {
	struct mail mail; /* type: its poster */
	unsigned number;
};

static void on_wake_atomic(void *arg)
{
	atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static void *post_all(void *arg)
{
	const struct poster *p = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct numbered *n = NULL;

		while (n == NULL) /* one may fail in test_memory.py */
			n = mem_alloc(sizeof(*n));
		n->mail.type = (int)p->number;
		n->number = i;
		while (mailbox_post(p->box, &n->mail) < 0)
			(void)sched_yield(); /* cannot fail */
	}
	return NULL;
}

START_TEST(mailbox_that_is_nearly_always_full_loses_nothing_of_four_posters)
{
	_Atomic unsigned wakes = 0;
	struct mailbox box;
	struct poster posters[POSTERS];
	unsigned next[POSTERS] = {0};
	unsigned left = POSTERS * ROUNDS;

	ck_assert_int_eq(mailbox_init(&box, 2, on_wake_atomic, &wakes), 0);
	for (unsigned i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){.box = &box, .number = i};
		ck_assert_int_eq(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]),
				 0);
	}
	while (left > 0) {
		struct mail *mail = mailbox_take(&box);

		if (mail == NULL) {
			(void)sched_yield(); /* cannot fail */
			continue;
		}
		ck_assert_uint_eq(container_of(mail, struct numbered, mail)->number,
				  next[mail->type]++);
		(void)mem_free(mail);
		left--;
	}
	for (unsigned i = 0; i < POSTERS; i++)
		ck_assert_int_eq(pthread_join(posters[i].thread, NULL), 0);
	ck_assert_ptr_null(mailbox_take(&box));
	ck_assert_uint_eq(wakes, POSTERS * ROUNDS);
	mailbox_done(&box);
}
END_TEST

SUITE_MAIN("mailbox", mailbox_gives_mails_in_the_order_of_their_posts,
	   mailbox_that_is_full_leaves_the_mail_to_its_poster_and_wakes_nobody,
	   mailbox_without_a_place_takes_nothing,
	   mailbox_that_is_nearly_always_full_loses_nothing_of_four_posters)
