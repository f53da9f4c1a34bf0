/* Which log calls make which history row, and under which step. Pure: records' numbers and stored
 * times go in, rows come out; contents are not looked at.
 *
 * Within one producer, step and commit mean what they mean in W&B's client. Between producers of
 * one run (docs/ARCHITECTURE.md, "rows"):
 *  - a row with an explicit step is open until every present producer that uses explicit steps, or
 *    has opened the run and not logged yet, has passed it (a higher step, commit, finish), or
 *    merge_max after the first has;
 *  - a call without a step is a row of its own, or joins the one before it (gather.h), and takes
 *    the next number that no such producer may still use;
 *  - a late call (its step is gone) gets the first free number before the next explicit row, or is
 *    handed out as late.
 * One owner at a time. */
#pragma once

#include "daemon/forward/models/gather.h"

/* One log record that is part of a row. */
struct part {
	int64_t lsn;
	int64_t bytes; /* of its payload, for the accounts */
};

struct parts {
	struct part *items;
	size_t count;
	size_t cap;
};

enum {
	ROWS_PARTS_MAX = 100000, /* records that wait for their row, of one run */
	ROWS_PRODUCERS_MAX = 8192,
};
/* Higher steps are no steps of a training run, and would leave no numbers behind them: late. */
#define ROWS_STEP_MAX (INT64_MAX / 2)
/* A producer with explicit steps that logged nothing for so long holds no number any more. */
#define ROWS_IDLE_US ((int64_t)3600 * 1000000)

struct row_producer { /* one that is present */
	int64_t id;
	bool is_guest;    /* it attached to the run */
	bool is_silent;   /* it opened the run and has not logged: perhaps it will, with steps */
	bool is_explicit; /* it uses steps: `step` and those above are its to log to */
	bool in_row;      /* it has logged to the open row `step`, and may go on */
	int64_t step;
	int64_t last_us;      /* when it logged last */
	int64_t spoke_us;     /* when it said anything last, by its own clock */
	struct parts partial; /* calls without a step whose row may get more */
	bool merges;          /* `partial` is gathered as gather.h says; else by commit=False */
	struct gather gather;
};

struct open_row {
	int64_t step;
	int64_t passed_us; /* when the first producer had passed it; 0: none has */
	struct parts parts;
};

struct free_row {     /* has no number yet */
	int64_t step; /* of a late one: as it was logged; else -1 */
	struct parts parts;
};

struct free_rows { /* in order of arrival */
	struct free_row *items;
	size_t count;
	size_t cap;
};

struct rows {
	int64_t next_step; /* the lowest number that is not taken */
	/* Where it stands in time: the newest of its records, and of the times since at which
	 * something got ready by itself. These come one after the other, so that it does not matter
	 * when somebody looked. */
	int64_t clock_us;
	int64_t merge_max_us;
	struct row_producer *producers;
	size_t producer_count;
	size_t producer_cap;
	struct open_row *open; /* by step, rising */
	size_t open_count;
	size_t open_cap;
	struct free_rows implicit;
	struct free_rows late;
	size_t held; /* parts in all of them */
};

void rows_init(struct rows *r, int64_t merge_max_us);
void rows_done(struct rows *r);

/* All: 0 or -ENOMEM; -E2BIG: ROWS_PRODUCERS_MAX. */
/* is_guest: the producer attached to the run, rather than opened it. One that does both is none. */
int rows_join(struct rows *r, int64_t producer, bool is_guest);
bool rows_has(const struct rows *r, int64_t producer); /* it is present */
/* It said something, by its own clock. Those that are not present are passed over. */
void rows_spoke(struct rows *r, int64_t producer, int64_t call_us);
int64_t rows_spoke_us(const struct rows *r, int64_t producer); /* the newest; 0: not present */
/* From now on the calls without a step of this producer, which is present, are gathered. */
void rows_merge(struct rows *r, int64_t producer);
bool rows_merges(const struct rows *r, int64_t producer);
bool rows_is_guest(const struct rows *r, int64_t producer);
/* It finished or is gone: it has passed everything. */
int rows_leave(struct rows *r, int64_t producer, int64_t now_us);
struct row_call {
	int64_t producer;
	bool has_step;
	int64_t step; /* >= 0 */
	bool has_commit;
	bool commit;
	int64_t time_us; /* when it was stored */
	int64_t call_us; /* when it was made */
	/* what it logs; of a call without a step by a producer that merges, else not looked at */
	struct row_keys keys;
	struct part part;
};
int rows_log(struct rows *r, const struct row_call *call);

enum row_fate {
	ROW_NONE, /* nothing is ready */
	ROW_READY,
	ROW_LATE, /* it has no place in the history */
};
struct row {
	int64_t step;        /* of a late one: as it was logged */
	struct parts *parts; /* borrowed, until rows_pop() */
	enum {
		ROW_FROM_OPEN,
		ROW_FROM_IMPLICIT,
		ROW_FROM_LATE
	} from;
};
/* What can be planned at this time, in the history's order. The same answer until rows_pop().
 * Whoever brings a record takes out first what is ready at the record's time. */
enum row_fate rows_peek(struct rows *r, int64_t now_us, struct row *ret);
void rows_pop(struct rows *r, const struct row *row, enum row_fate fate);

/* Nobody is present; or nobody but guests. */
bool rows_are_deserted(const struct rows *r);
bool rows_have_no_owner(const struct rows *r);
/* Nothing waits for its row. */
bool rows_are_empty(const struct rows *r);
/* The oldest record that a row still needs; INT64_MAX: none. */
int64_t rows_oldest_lsn(const struct rows *r);
/* When rows_peek(), which says that nothing is ready, may say something else although nothing
 * comes; INT64_MAX: never. */
int64_t rows_next_us(const struct rows *r);
/* True when this number is free for good: no open row has it, no producer may still use it. */
bool rows_is_free(const struct rows *r, int64_t step);

/* State: a map, and back (merge_max_us stays as it is). */
void rows_to_msgpack(const struct rows *r, struct pack *p);
int rows_from_msgpack(struct rows *ret, struct mp map);
