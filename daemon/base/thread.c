/* See thread.h. */
#include "daemon/base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

static void *on_thread(void *data)
{
	struct thread *t = data;

	(void)pthread_setname_np(pthread_self(), t->name); /* a name is a help, no need */
	t->main(t->arg);
	return NULL;
}

int thread_start(struct thread *t, const char *name, void (*main)(void *), void *arg)
{
	sigset_t all;
	sigset_t before;
	int r;

	t->main = main;
	t->arg = arg;
	(void)snprintf(t->name, sizeof(t->name), "%s", name); /* cut to what the kernel keeps */
	(void)sigfillset(&all);                               /* cannot fail */
	r = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (r != 0)
		return -r;
	r = pthread_create(&t->id, NULL, on_thread, t);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* was valid above */
	return -r;
}

void thread_join(struct thread *t)
{
	(void)pthread_join(t->id, NULL); /* fails only for threads that do not exist */
}

int bell_init(struct bell *b)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r != 0)
		return -r;
	b->rung = false;
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* a valid clock */
	r = pthread_mutex_init(&b->lock, NULL);
	if (r == 0) {
		r = pthread_cond_init(&b->rung_cond, &attr);
		if (r != 0)
			(void)pthread_mutex_destroy(&b->lock); /* unused yet */
	}
	(void)pthread_condattr_destroy(&attr);
	return -r;
}

void bell_done(struct bell *b)
{
	(void)pthread_cond_destroy(&b->rung_cond); /* nobody waits any more */
	(void)pthread_mutex_destroy(&b->lock);
}

void bell_ring(struct bell *b)
{
	(void)pthread_mutex_lock(&b->lock);
	b->rung = true;
	(void)pthread_cond_signal(&b->rung_cond);
	(void)pthread_mutex_unlock(&b->lock);
}

void bell_wait(struct bell *b, uint64_t timeout_ms)
{
	struct timespec until = {0};
	int r = 0;

	if (timeout_ms != UINT64_MAX) {
		(void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
		until.tv_sec += (time_t)(timeout_ms / 1000);
		until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
	}
	(void)pthread_mutex_lock(&b->lock);
	while (!b->rung && r == 0)
		r = timeout_ms == UINT64_MAX
			    ? pthread_cond_wait(&b->rung_cond, &b->lock)
			    : pthread_cond_timedwait(&b->rung_cond, &b->lock, &until);
	b->rung = false;
	(void)pthread_mutex_unlock(&b->lock);
}
