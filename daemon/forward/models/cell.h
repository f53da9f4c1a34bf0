/* A table's cell as JSON, for the run file and for the artifact, which W&B's client writes
 * differently: NaN and null, times as text and as milliseconds, files as the name of their class and
 * as values with a path. Pure, iterative. Any thread. */
#pragma once

#include "proto/base/json.h"
#include "proto/mp.h"

enum table_form {
	TABLE_RUN_FILE, /* {"columns": [..], "data": [[..] ..]} */
	TABLE_ARTIFACT, /* the same with types, in the table's artifact */
};

/* A file that stood in a cell. */
struct cell_file {
	struct span path;   /* in the artifact; borrowed */
	struct span bytes;  /* the same */
	const char *sha256; /* hex, the same */
};

/* Called for each file of a cell, in the form of an artifact. 0 or -errno, which ends the cell. */
typedef int (*cell_on_file)(void *arg, const struct cell_file *file);

struct cell_writer {
	struct json *json;
	enum table_form form;
	cell_on_file on_file; /* NULL: nobody wants to know */
	void *arg;
};

/* Writes the value at the cursor and moves behind it. 0; -EBADMSG: no value; -ENOMEM; what on_file
 * says. */
int cell_write(const struct cell_writer *w, struct mp *m);
