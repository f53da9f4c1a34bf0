/* The inside of a run's traces, for run.c (what next), run_take.c (records become rows), run_plan.c
 * (traces become lines), run_call.c (a call becomes text), run_item.c
 * (so does what is about calls), run_send.c (requests and answers) alone. */
#pragma once

#include "daemon/forward/weave/calltext.h"
#include "daemon/forward/weave/forest.h"
#include "daemon/forward/weave/ref.h"
#include "daemon/forward/weave/run.h"
#include "daemon/forward/weave/steps.h"

enum {
	WEAVE_CALL_BYTES_MAX = 3 << 20, /* of a call's text */
	WEAVE_BODY_BYTES_MAX = 8 << 20,
	WEAVE_BODY_CALLS_MAX = 1000,
	WEAVE_BLOB_MAX =
		32 << 20, /* a value that stands apart as a whole; a bigger one is told of */
	WEAVE_OPS_KNOWN = 64,
};

/* What it is at; one thing at a time. */
enum weave_work {
	WEAVE_IDLE,
	WEAVE_COMMITTING, /* the store has r->changes */
	WEAVE_SENDING,    /* the server has r->request */
};

struct weave_request {
	enum trace_line_kind kind;
	int64_t first; /* ids of lines */
	int64_t last;
	unsigned count;
	int64_t records;
	size_t bytes;
};

/* An op that the store has been told of. */
struct weave_op {
	char name[REF_NAME_MAX + 1];
	char digest[REF_DIGEST_MAX];
};

/* A trace of an op that the plan under way sends. */
struct weave_kept {
	char op[REF_NAME_MAX + 1];
	int64_t step;
};

struct weave_run {
	struct weave_host *host;
	struct user *user; /* his sink is ours */
	int64_t id;
	enum weave_work work;
	bool is_done;
	bool is_parked;
	bool may_have_records;
	bool may_have_plans;
	bool wants_flush;
	bool wants_retry; /* as soon as it is idle */
	bool is_loaded;
	uint64_t next_ms;
	uint64_t not_before_ms; /* after a failure, or as the server asked */
	unsigned attempt;       /* that failed, of the request under way */
	unsigned doubts;        /* 401 or 403 since the last success */
	unsigned parts_max;     /* of a request, while a refused part is looked for; 0: all */
	size_t text_max;        /* of one text, after a 413; 0: as it is */
	char table_digest
		[72]; /* of the table at the head of the lines, which the server has; "": it has not */
	/* loaded */
	struct run_info info;
	struct trace_run_info state;
	struct steps steps;
	int64_t cursor; /* records of traces up to here have become rows */
	struct weave_op ops[WEAVE_OPS_KNOWN];
	size_t op_count;
	int64_t hello_of; /* the producer whose hello is here */
	struct buf hello;
	/* a plan under way */
	size_t planned_calls;
	size_t planned_bytes;
	size_t target;
	size_t held; /* traces that it leaves out */
	struct weave_kept *kept;
	size_t kept_count;
	size_t kept_cap;
	/* under way */
	struct changes *changes;
	struct weave_request request;
};

/* --- run.c --- */
void weave_to_work(struct weave_run *r, enum weave_work to);
bool weave_changes(struct weave_run *r);
void weave_commit(struct weave_run *r);
/* Something failed on this side: it is read again and tried again. */
void weave_give_up(struct weave_run *r, const char *what, int error);
/* It waits for a person. Adds the change. */
void weave_park(struct weave_run *r, const char *why);
/* Adds a dead letter, and says so. what is static. */
void weave_add_dead(struct weave_run *r, int status, const char *what, const char *reason,
		    struct span request, struct span answer, struct span body);

/* --- run_take.c --- */
/* Takes the next records. 1: changes are committed, or nothing is left to look at in this turn; 0:
 * there are none; -errno. */
int weave_take(struct weave_run *r);
/* The name and digest by which W&B knows the op of a call. 0, -ENOMEM. */
int weave_op_of(struct span start, struct weave_op *ret);

/* --- run_plan.c --- */
/* Plans what is due. 1: something is committed; 0: nothing is due, *ret_due_us says when; -errno. */
int weave_plan(struct weave_run *r, int64_t now_us, int64_t *ret_due_us);
int64_t weave_step_at(struct weave_run *r, int64_t time_us);

/* --- run_sample.c --- */
/* Is the trace sent? 1; 0: it is left out, and the change is added; -errno. */
int weave_sample(struct weave_run *r, const struct trace_row *row, const struct forest *f,
		 int64_t now_us);
int64_t weave_day_of(int64_t time_us); /* since 1970, UTC */

/* --- run_item.c --- */
int weave_plan_items(struct weave_run *r); /* 0, -errno */

/* --- run_call.c --- */
struct weave_call {
	const struct call_row *row;
	const struct usage *usage_below;
	int64_t ok_below;
	int64_t errors_below;
	int64_t step;
	int64_t step_end;
	struct usage usage; /* out: with its own; the caller frees */
};
/* Appends the text of a line. 0; -ENOENT: its records are gone; -EBADMSG; -errno. */
int weave_call_text(struct weave_run *r, enum trace_line_kind kind, struct weave_call *c,
		    struct buf *ret);
/* The body map of a record, copied into room: *ret borrows from that. 0, -ENOENT, -errno. */
int weave_read_body(struct weave_run *r, int64_t lsn, struct buf *room, struct record *ret);
/* Reads up to max bytes of a blob: a render_read. arg: the run. */
int weave_read_blob(void *arg, struct span digest, size_t max, struct buf *ret, int64_t *ret_size);
/* The value, or what stands apart in its place as a whole. */
int weave_resolve(struct weave_run *r, struct span value, struct buf *room, struct span *ret);

/* --- run_send.c --- */
/* Sends the lines that wait. Returns 0 when a request is under way, else when to try again. */
uint64_t weave_send(struct weave_run *r, uint64_t now_ms);
