/* See mailbox.h. */
#include "daemon/base/mailbox.h"

#include <errno.h>

int mailbox_init(struct mailbox *box, size_t capacity, void (*wake)(void *), void *wake_arg)
{
	int r = pthread_mutex_init(&box->lock, NULL);

	if (r != 0)
		return -r;
	box->first = NULL;
	box->last = &box->first;
	box->count = 0;
	box->capacity = capacity;
	box->wake = wake;
	box->wake_arg = wake_arg;
	return 0;
}

void mailbox_done(struct mailbox *box)
{
	(void)pthread_mutex_destroy(&box->lock); /* nobody uses it any more */
}

int mailbox_post(struct mailbox *box, struct mail *mail)
{
	int r = -EAGAIN;

	(void)pthread_mutex_lock(&box->lock);
	if (box->count < box->capacity) {
		mail->next = NULL;
		*box->last = mail;
		box->last = &mail->next;
		box->count++;
		r = 0;
	}
	(void)pthread_mutex_unlock(&box->lock);
	if (r == 0)
		box->wake(box->wake_arg);
	return r;
}

struct mail *mailbox_take(struct mailbox *box)
{
	struct mail *mail;

	(void)pthread_mutex_lock(&box->lock);
	mail = box->first;
	if (mail != NULL) {
		box->first = mail->next;
		if (box->first == NULL)
			box->last = &box->first;
		box->count--;
		mail->next = NULL;
	}
	(void)pthread_mutex_unlock(&box->lock);
	return mail;
}
