/* The only way from one thread of the daemon to another. Posting a mail gives it away: nobody else
 * may touch it until the taker posts it back. A mail is embedded in what it carries, so posting
 * never allocates. */
#pragma once

#include <pthread.h>
#include <stddef.h>

struct mail {
	struct mail *next;
	int type; /* says what the mail is embedded in; numbers belong to each box's owner */
};

/* First in, first out. `wake` is called after a post, on the poster's thread, outside the lock. */
struct mailbox {
	pthread_mutex_t lock;
	struct mail *first;
	struct mail **last;
	size_t count;
	size_t capacity;
	void (*wake)(void *);
	void *wake_arg;
};

/* 0, or -errno. capacity SIZE_MAX: as many as there are mails (a slot of its own for each: the post
 * cannot fail). */
int mailbox_init(struct mailbox *box, size_t capacity, void (*wake)(void *), void *wake_arg);
void mailbox_done(struct mailbox *box); /* must be empty of what anybody still owns */

/* 0 and the mail is given away; -EAGAIN and it is still the caller's: the box is full. Any thread.
 */
int mailbox_post(struct mailbox *box, struct mail *mail);
/* The oldest, or NULL. Never sleeps. The box's owner's thread. */
struct mail *mailbox_take(struct mailbox *box);
