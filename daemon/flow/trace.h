/* What the planner of traces (forward/weave) and the store say to one another about calls: rows of
 * the tables `call`, `trace`, `trace_item` and `trace_line`. */
#pragma once

#include "proto/base/buf.h"

/* How far a call is; stored as these numbers. */
enum call_state {
	CALL_COLLECTED, /* some of its records are here */
	CALL_PLANNED,   /* its line is to be sent */
	CALL_HELD,      /* left out by sampling or a budget; kept */
	CALL_PRESUMED,  /* W&B has it as ended by a death; a real end may still come */
};

/* Why a call has an end that nobody said; stored as these numbers. */
enum call_loss {
	LOSS_NONE,
	LOSS_GONE,     /* its process is gone */
	LOSS_FINISHED, /* its process finished the run meanwhile */
};

/* What a line is, and so where it goes; stored as these numbers. */
enum trace_line_kind {
	TRACE_CALL,  /* a whole call */
	TRACE_START, /* the start of one that is open for long */
	TRACE_END,   /* its end */
	TRACE_FEEDBACK,
	TRACE_FILE,   /* the source of an op */
	TRACE_OBJECT, /* an op, a prompt ... */
	TRACE_TABLE,  /* the rows of a data set */
	TRACE_COST,
	TRACE_LINE_KINDS
};

enum {
	CALL_ID_MAX = 64, /* bytes of a call's or a trace's id */
	/* how long after its newest record a trace is whole: when its root is here; when its parent is
	   elsewhere, or may come yet */
	TRACE_SETTLE_US = 200 * 1000,
	TRACE_GRACE_US = 5 * 1000 * 1000,
	TRACE_LONG_US = 30 * 1000 * 1000, /* open for so long: its start is sent */
	TRACE_AGAIN_US = 2 * 1000 * 1000, /* between looks at such a one while it goes on */
	STRAY_END_US = 600 * 1000 * 1000, /* an end waits so long for its start */
};

/* Is it sent? Stored as these numbers. */
enum trace_held {
	TRACE_USUAL, /* as sampling and budgets say */
	TRACE_LEFT_OUT,
	TRACE_WANTED, /* a person wants it sent */
};

/* Of a plan's change: one record of a call. */
struct call_fact {
	struct span id;
	struct span trace;  /* with a start */
	struct span parent; /* empty: none */
	bool has_start;
	bool has_end;
	bool is_error;
	int64_t producer;
	int64_t started_us;
	int64_t ended_us;
	int64_t step; /* -1: it does not say */
};

/* What a line stands for, in records and blobs of the stream. */
struct trace_share {
	int64_t records;
	int64_t bytes;
	int64_t blobs;
	int64_t blob_bytes;
};

struct call_row {
	char id[CALL_ID_MAX + 1];
	char trace[CALL_ID_MAX + 1];
	char parent[CALL_ID_MAX + 1]; /* "": none */
	enum call_state state;
	enum call_loss loss;
	bool is_there; /* W&B has its start */
	bool is_error;
	int64_t producer;
	int64_t start_lsn; /* 0: not here yet, as the next */
	int64_t end_lsn;
	int64_t started_us;
	int64_t ended_us;
	int64_t step; /* -1: its process does not say */
	struct trace_share share;
	int64_t ok_below; /* calls below it that were sent already */
	int64_t errors_below;
	struct span usage_below; /* msgpack; borrowed */
};

struct trace_row {
	char id[CALL_ID_MAX + 1];
	int64_t calls; /* not planned yet */
	int64_t open;  /* of these: without an end */
	int64_t roots; /* of these: without a parent */
	int64_t opened_us;
	int64_t last_us;
	int64_t due_us;
	bool is_long; /* its open calls' starts are sent */
	enum trace_held held;
};

struct trace_line {
	int64_t id;
	enum trace_line_kind kind;
	struct span trace; /* borrowed, as the next two; empty: none */
	struct span call;
	struct span text;
	struct trace_share share;
};

/* A feedback, an object or a cost that is not planned yet. */
struct trace_item {
	int64_t lsn;
	struct trace_share share;
};

struct op_row {
	struct span name; /* borrowed, as the next */
	struct span digest;
	int64_t lsn; /* of the record that has the source; 0: nobody sent it */
};

/* How the traces of a run are. */
struct trace_run_info {
	int64_t metrics_lsn; /* records of the metrics up to here are looked through for steps */
	int64_t due_us;      /* when the next trace is due; INT64_MAX: there is none */
	int64_t lines;       /* planned and not confirmed */
	int64_t items;
	char parked[256]; /* "": is not */
};
