/* Turns what a run says beside its history, records of its stream `rest` in their order, into what
 * W&B is to be sent: lines of output.log, lines of system metrics, alerts. Pure but for reading, as
 * plan.h: what is planned is committed before anything of it is sent.
 *
 * Every file counts its own lines. A console line gets its offset when it ends; those that have not
 * ended stand behind all others, where each plan writes them anew, as a terminal shows the bar of a
 * progress below what is printed. Nothing is planned while lines wait to be sent, so what may have
 * been sent is sent again as it was. One owner at a time (the sender). */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"
#include "daemon/forward/models/console.h"
#include "daemon/forward/models/rows.h"

enum {
	/* one plan */
	SIDE_LINES_MAX = 1000,
	SIDE_BYTES_MAX = 256 << 10,
	SIDE_ALERTS_MAX = 64, /* titles whose wait is remembered */
	SIDE_TITLE_MAX = 1024,
};

/* An alert that is not to be repeated for a while. */
struct side_alert {
	struct buf title;
	int64_t time_us; /* when it was raised */
};

struct side {
	int64_t run;
	int64_t cursor;           /* records up to here are in */
	size_t into;              /* bytes of the next record's text that are in, too */
	int64_t next[SIDE_FILES]; /* offset of the next line (console: that has ended) */
	int64_t shown;            /* open console lines that stand behind next */
	struct side_count unsent[SIDE_FILES];
	struct console console;
	struct side_alert alerts[SIDE_ALERTS_MAX];
	size_t alert_count;
	int64_t held_back; /* alerts that were not repeated */
	/* records that are in and not confirmed */
	int64_t records;
	int64_t bytes;
	/* not stored: */
	struct buf text;
	int64_t start_us;   /* of the run, for _runtime; 0: not known */
	bool is_structured; /* how W&B wants console lines */
	unsigned lines;     /* of the plan under way */
	size_t line_bytes;
	bool has_ended_lines; /* so that those behind have moved */
	bool touched;         /* something to commit */
};

void side_init(struct side *s, int64_t run);
void side_done(struct side *s);
/* As plan_load(). */
int side_load(struct side *s, struct reader *reader);

/* Something planned waits to be sent. */
bool side_waits(const struct side *s);
/* Some of it for the stream: all but alerts. */
bool side_has_lines(const struct side *s);
/* A line has not ended whose process is not among these. */
bool side_has_orphans(const struct side *s, const struct rows *present);

/* The plan under way is full: perhaps there is more. */
bool side_is_full(const struct side *s);
/* Begins a plan; only while nothing waits. */
void side_begin(struct side *s);
/* Adds the record's lines to changes. The record is in when s->cursor is its lsn: else the plan is
 * full. 0; -ENOMEM: the plan is of no use any more. */
int side_take(struct side *s, struct changes *changes, const struct stored_record *record);
/* Lines end whose process is not among these. As side_take(). */
int side_end_orphans(struct side *s, struct changes *changes, const struct rows *present);
/* A line of system metrics of wbx's own. As side_take(). */
struct side_report {
	int64_t time_us;
	double lag_s; /* age of the oldest that waits */
	int64_t waiting_bytes;
	const char *label; /* of a shared writer; NULL: none */
};
int side_add_report(struct side *s, struct changes *changes, const struct side_report *report);
bool side_is_letter(const struct dead_info *dead); /* what it holds was one of these lines */
/* A dead letter that gets another chance, at the end of its file; others are left alone. As
 * side_take(). */
int side_revive(struct side *s, struct changes *changes, const struct dead_info *dead);
/* The plan is complete: shows the lines that have not ended, adds cursor and state. As
 * side_take(). */
int side_end(struct side *s, struct changes *changes);

/* Marks: the first `count` lines that waited are there; the first is refused for good. Once nothing
 * waits, all that is planned is confirmed. Each adds the state. */
void side_sent(struct side *s, struct changes *changes, const int64_t counts[SIDE_FILES]);
void side_drop(struct side *s, struct changes *changes, enum side_file file);

/* W&B has `count` lines of the file. Lines that it does not have go on behind those of somebody
 * else; with is_new also when it has fewer than it had confirmed. True when something changed,
 * which is added. */
bool side_follow(struct side *s, struct changes *changes, enum side_file file, int64_t count,
		 bool is_new);

const char *side_what(enum side_file file); /* what a dead letter calls it */
