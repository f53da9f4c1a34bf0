/* A row on its way from the records that make it to the line that W&B gets. For plan_row.c and
 * plan_table.c alone. */
#pragma once

#include "daemon/forward/models/plan.h"

enum {
	WANTS_TABLE = 1
};

struct making {
	struct plan *plan;
	struct reader *reader;
	struct changes *changes;
	const struct row *row;
	int64_t newest_us; /* of its calls */
	bool has_time;     /* the last of them says its _timestamp itself */
	int64_t bytes;
	int64_t lsn;   /* of its oldest record */
	int64_t blobs; /* that its records name */
	int64_t blob_bytes;
	uint8_t *ret_blob;
};

/* Puts the values of their run files in the place of the tables in m->plan->row, and adds the
 * uploads. 0; WANTS_TABLE: nothing was changed, *m->ret_blob has to be known first; -errno. */
int row_replace_tables(struct making *m);

/* Adds a dead letter of this row. */
void row_add_dead(const struct making *m, const char *sink, const char *what, const char *reason,
		  struct span body);
