/* A row on its way from the records that make it to the line that W&B gets. For plan_row.c,
 * plan_table.c and plan_media.c alone. */
#pragma once

#include "daemon/forward/models/artifact_take.h"
#include "daemon/forward/models/media.h"
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

/* The same for all other values with files (PROTOCOL.md section 9). 0, -errno. */
int row_replace_files(struct making *m);

/* --- plan_table.c, for plan_media.c too --- */
/* The value of a leaf below parent, when it is of that type. .at NULL: it is not there. */
struct span row_text_leaf(const struct tree *t, const struct node *parent, const char *key,
			  enum mp_type type);
/* The key as folders of a path: no empty, "." or ".." among them. */
void row_add_path_key(struct buf *path, struct span key);
/* Names of a file that a retry must use again: they are stored with the row. Those of a table's
 * artifact are empty for other files. */
struct row_file {
	struct buf path;
	char client_id[ARTIFACT_CLIENT_ID_CHARS + 1];
	char sequence_id[ARTIFACT_CLIENT_ID_CHARS + 1];
};
/* The names that these bytes have under this key, when they were planned before: trainers log the
 * same table twice. 1, 0, -errno. */
int row_find_file(struct row_file *n, const struct making *m, struct span key, struct span blob);

/* Adds a dead letter of this row. */
void row_add_dead(const struct making *m, const char *sink, const char *what, const char *reason,
		  struct span body);
