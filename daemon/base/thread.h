/* Threads with names, and the bell that wakes one. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct thread {
	pthread_t id;
	void (*main)(void *);
	void *arg;
	char name[16];
};

/* Starts main(arg) with every signal blocked (the loop thread takes them all). 0, or -errno. `t`
 * must stay where it is until thread_join(). */
int thread_start(struct thread *t, const char *name, void (*main)(void *), void *arg);
void thread_join(struct thread *t);

/* What a thread that has no loop of its own sleeps on. Rung once or many times before the sleeper
 * looks: it wakes once. */
struct bell {
	pthread_mutex_t lock;
	pthread_cond_t rung_cond;
	bool rung;
};

int bell_init(struct bell *b); /* 0, or -errno */
void bell_done(struct bell *b);
void bell_ring(struct bell *b);
/* Sleeps until rung or for timeout_ms (UINT64_MAX: for ever), and takes the ring. */
void bell_wait(struct bell *b, uint64_t timeout_ms);
