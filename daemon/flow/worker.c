/* See worker.h. */
#include "daemon/flow/worker.h"

#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/base/thread.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

struct worker {
	const char *store_dir;
	struct reader *reader;
	struct mailbox box;
	struct bell bell;
	struct thread thread;
	_Atomic bool stopping;
};

static void on_mail(void *data)
{
	bell_ring(data);
}

static void give_back(struct job *job)
{
	int r = mailbox_post(job->reply_to, &job->mail);

	assert(r == 0); /* reply boxes have a place for every mail there is */
}

static void open_reader(struct worker *w)
{
	int r;

	if (w->reader != NULL)
		return;
	r = reader_open(&w->reader, w->store_dir);
	if (r < 0)
		log_warn("worker",
			 "errno=%d the store cannot be read; questions about it fail until it can",
			 -r);
}

static void run_job(struct worker *w, struct job *job)
{
	open_reader(w);
	fault_point("worker.job");
	switch (job->step(job, w->reader)) {
	case JOB_DONE: give_back(job); return;
	case JOB_AGAIN:
		(void)mailbox_post(&w->box, &job->mail);
		return; /* our own box is never full */
	}
}

static void worker_main(void *data)
{
	struct worker *w = data;

	while (!atomic_load(&w->stopping)) {
		struct mail *mail = mailbox_take(&w->box);

		if (mail != NULL)
			run_job(w, container_of(mail, struct job, mail));
		else
			bell_wait(&w->bell, UINT64_MAX);
	}
	for (struct mail *mail; (mail = mailbox_take(&w->box)) != NULL;)
		give_back(container_of(mail, struct job, mail));
	w->reader = reader_close(w->reader);
}

int worker_start(struct worker **ret, const char *store_dir)
{
	struct worker *w = mem_zalloc(sizeof(*w));
	int r;

	if (w == NULL)
		return -ENOMEM;
	w->store_dir = store_dir;
	r = bell_init(&w->bell);
	if (r == 0)
		r = mailbox_init(&w->box, SIZE_MAX, on_mail, &w->bell);
	if (r == 0)
		r = thread_start(&w->thread, "wbx-worker", worker_main, w);
	if (r < 0) {
		(void)mem_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

struct worker *worker_stop(struct worker *w)
{
	if (w == NULL)
		return NULL;
	atomic_store(&w->stopping, true);
	bell_ring(&w->bell);
	thread_join(&w->thread);
	mailbox_done(&w->box);
	bell_done(&w->bell);
	return mem_free(w);
}

struct mailbox *worker_box(struct worker *w)
{
	return &w->box;
}
