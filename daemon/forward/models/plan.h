/* Turns a run's records, in their order, into what W&B is to be sent: lines of the history, the
 * summary, the config. Pure but for reading: records go in, changes for the store come out, and the
 * same records at the same stored times always give the same lines. What is planned is committed
 * before anything of it is sent. One owner at a time (the sender). */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"
#include "daemon/flow/send_rules.h"
#include "daemon/forward/models/about.h"
#include "daemon/forward/models/rows.h"
#include "daemon/forward/models/shared.h"
#include "daemon/forward/models/summary.h"

enum {
	/* one plan, that is one transaction, holds about so much */
	PLAN_LINES_MAX = 250,
	PLAN_BYTES_MAX = 256 << 10,
	/* W&B's bound for a line of the history (research: wire/wandb-models 3.2) */
	LINE_BYTES_MAX = (10 << 20) - (100 << 10),
	EXIT_KILLED = 137, /* of a producer that went without a word */
};

/* What is known of a table's run file; digest.h finds it out. */
struct plan_table {
	uint8_t blob[DIGEST_BYTES];
	int result; /* 0, or why it cannot be rendered */
	char sha256[2 * DIGEST_BYTES + 1];
	int64_t size;
	uint64_t rows;
	uint64_t columns;
};
/* What the process that opens a run expects of W&B (`resume` of its record). */
enum plan_resume {
	RESUME_ANY,  /* go on with it when it is there */
	RESUME_MUST, /* it is there */
	RESUME_NEVER /* it is not */
};

enum {
	PLAN_TABLES = 64 /* remembered; more when one row has more */
};

struct plan {
	int64_t run;
	char run_name[NAME_MAX_BYTES + 1]; /* set by its owner, as the next; "": no artifacts */
	enum table_artifacts table_artifacts;
	const struct send_tables_rule *send_tables; /* borrowed; NULL: all */
	struct about about;
	struct metrics metrics;
	struct summary summary;
	struct rows rows;
	struct shared shared;
	int64_t start_us;  /* of the run; 0: not known */
	int64_t newest_us; /* newest time of a call */
	int64_t cursor;    /* records up to here are in */
	int64_t next_offset;
	bool may_write;   /* W&B knows the run: rows can be planned; not stored */
	bool has_run;     /* a `run` record came: it is not only attached to */
	bool is_resumed;  /* W&B had it before, or it had ended here */
	bool is_made;     /* W&B has it, and our clock is the run's */
	bool has_company; /* others write to it, too: what they set is looked at again and again */
	bool has_ended;   /* at W&B, when those who only attached came to it: exit_code says how */
	bool has_written; /* they did, and so opened it again */
	bool was_over;    /* its end was said, and W&B's summary not looked at since */
	enum plan_resume resume; /* of the first who opened it, until W&B has said how it is */
	bool summary_dirty;      /* changed and not sent */
	bool preempting;         /* W&B is to be told that the run's machine will be taken away */
	bool has_exit_code;
	int64_t exit_code; /* the first that is not 0, since ... */
	int64_t exit_us;   /* ... when that producer ended, by its own clock */
	int64_t opened_us; /* when a producer came that opened the run, by its own clock */
	/* records that are no rows, since the last time that everything was sent */
	int64_t side_records;
	int64_t side_bytes;
	int64_t asked_us; /* when rows were looked for last */
	/* not stored: */
	/* Who only tells rows again (history.h) sets this: they go there, and not to the store. The
	 * row's values are in p->row, its line in p->text. 0 goes on, anything else ends. */
	int (*on_row)(void *arg, struct plan *p, const struct row *row, enum row_fate fate);
	void *on_row_arg;
	int64_t planned_step;  /* rows.next_step, as records alone have moved it */
	size_t waypoint_bytes; /* of records since the last waypoint */
	int64_t waypoint_us;   /* its time */
	int64_t resteps;       /* planned rows from this step on were numbered anew ... */
	int64_t resteps_to;    /* ... from here on at least; 0: none since the last waypoint */
	struct tree row;
	struct buf text;
	struct plan_table *tables; /* those known last, in a ring once it is large enough */
	size_t table_count;
	size_t table_next;    /* the place in the ring */
	size_t tables_wanted; /* by the row that is next */
	int64_t at_lsn;       /* the record that is being taken in, and its payload */
	struct span at_payload;
	unsigned lines; /* of the plan under way */
	size_t line_bytes;
	bool touched; /* something to commit */
};

int plan_init(struct plan *p, int64_t run, int64_t merge_max_us); /* 0, -errno */
void plan_done(struct plan *p);
/* Reads a state that was stored when the records up to lsn were in. 0; -EPROTO, -EBADMSG, -ENOMEM as
 * below. */
int plan_load_state(struct plan *p, int64_t lsn, struct span state);
/* Reads what is stored of it. 0, also when nothing is; -EPROTO: written by a newer wbx; -EBADMSG;
 * -ENOMEM; what the disk says. */
int plan_load(struct plan *p, struct reader *reader);

/* Begins a plan of its own transaction. */
void plan_begin(struct plan *p);
/* True when the plan under way should be committed before more is added. */
bool plan_is_full(const struct plan *p);
enum plan_outcome {
	PLAN_IDLE,  /* go on */
	PLAN_STOP,  /* a row is next, and W&B does not know the run yet */
	PLAN_FULL,  /* commit first */
	PLAN_TABLE, /* a row names a table that is not in p->tables: *ret_blob */
};
/* Looks for a `run` record among `max` records above *after, which are not planned yet, and takes it in
 * before its turn: records of those who attached may be stored before those of the one who opened
 * the run. 1: found; 0: not, *after is the last that was looked at, and *ret_more says whether there
 * are more; -errno. */
int plan_find_opening(struct plan *p, struct reader *reader, unsigned max, int64_t *after,
		      bool *ret_more);
/* Adds the rows that are ready at now_us to changes. 0 and *ret; -ENOMEM, what the disk says: the
 * plan is of no use any more. */
int plan_rows(struct plan *p, struct reader *reader, struct changes *changes, int64_t now_us,
	      enum plan_outcome *ret, uint8_t ret_blob[DIGEST_BYTES]);
/* The rows that are ready when the record comes, then the record, then the rows that it made ready.
 * The record is in when p->cursor is its lsn, whatever *ret says. As plan_rows(). */
int plan_take(struct plan *p, struct reader *reader, struct changes *changes,
	      const struct stored_record *record, enum plan_outcome *ret,
	      uint8_t ret_blob[DIGEST_BYTES]);
/* A table's digest is known. 0, -ENOMEM. */
int plan_add_table(struct plan *p, const struct plan_table *table);
/* Adds cursor and state: the plan is complete. */
void plan_end(struct plan *p, struct changes *changes);
/* Adds the state alone, after marks changed it. */
void plan_save(struct plan *p, struct changes *changes);

/* Adds a waypoint when something else than a record has moved the next step: before rows take the
 * numbers behind it. */
void plan_note_move(struct plan *p, struct changes *changes);

/* The process that opened the run was refused: what it said of it goes. 0, -ENOMEM. */
int plan_forget_opening(struct plan *p);
/* W&B has the run already, with so many seconds behind it: ours goes on from there. 0, -ENOMEM,
 * -E2BIG. */
struct wire_run;
struct wire_about;
int plan_go_on(struct plan *p, const struct wire_run *server, const struct wire_about *about);
/* W&B makes the summary of the rows; what was set by hand alone is sent. */
bool plan_derives_summary(const struct plan *p);

/* Nobody is present any more, and every row is planned. */
bool plan_is_over(const struct plan *p);
/* A line for a dead letter that gets another chance: its text with another _step. 0, -EBADMSG: it
 * has none, -ENOMEM. */
int plan_restep(struct span line, int64_t step, struct buf *ret);
