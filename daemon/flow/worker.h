/* The worker: a thread that reads for others. What takes longer than the loop or the sender may
 * stop for comes here as a job, in slices: queries of wbxctl, digests of tables, journals of the
 * dead. Jobs take turns; a job never writes to the store. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/flow/reader.h"

enum {
	MAIL_JOB = 20
};

enum job_result {
	JOB_DONE,  /* goes back to reply_to */
	JOB_AGAIN, /* wants another slice, after the others had theirs */
};

struct job {
	struct mail mail; /* type MAIL_JOB unless its owner has several kinds */
	/* Worker thread. One slice of at most a few ms. reader is NULL when the store cannot be
	 * read now. */
	enum job_result (*step)(struct job *job, struct reader *reader);
	struct mailbox *reply_to;
};

struct worker;

/* 0, or -errno. store_dir is borrowed for the worker's life; the reader is opened at the first job.
 */
int worker_start(struct worker **ret, const char *store_dir);
/* Ends after the slice under way; jobs that wait are returned unfinished. Returns NULL. */
struct worker *worker_stop(struct worker *w);
/* Where jobs are posted; never full. */
struct mailbox *worker_box(struct worker *w);
