/* The rows of a run, told again from its records with the numbers that they got: what forward offers
 * to queries (forward/models/history.c implements it; as reader.h, the rooms meet at the link). A
 * reader comes with every call; the records are read as the reader gives them, a slice of a few ms at
 * a time. One owner at a time. */
#pragma once

#include "daemon/flow/reader.h"

struct history;

enum history_form {
	HISTORY_LINES,  /* JSON, as W&B gets the row */
	HISTORY_VALUES, /* the same as a msgpack map of maps */
};

struct history_wish {
	int64_t run;
	enum history_form form;
	int64_t merge_max_us; /* the setting */
	int64_t until_lsn;    /* records behind it do not count; 0: all that are there now */
	int64_t now_us;       /* rows that are open at the end: as they would be planned now */
};

struct history_sums {
	int64_t rows;
	int64_t until_lsn;
	bool is_part;       /* the run's first records are not here any more */
	int64_t first_step; /* then: rows below it are not told, or not all of them */
	int64_t open;       /* records of rows that are not complete yet */
	int64_t late;       /* rows without a place, which W&B does not get */
	int64_t monsters;   /* rows that are too big for W&B */
};

/* 0 and *ret; -ENOMEM; what the disk says. */
int history_open(struct history **ret, struct reader *reader, const struct history_wish *wish);
struct history *history_close(struct history *h); /* NULL */
/* Appends frames (proto/frame.h), one for each row: about 256 KiB, or a longer row. 1: there is more;
 * 0: that was all; -ESTALE: retention has removed records meanwhile, what was told is not whole;
 * -ENOMEM; -EPROTO: a newer wbx wrote it; what the disk says. */
int history_step(struct history *h, struct reader *reader, struct buf *out);
const struct history_sums *history_sums(const struct history *h);
