/* The inside of rows, for rows.c (what calls do), rows_next.c (what comes out) and rows_state.c
 * alone. */
#pragma once

#include "daemon/forward/models/rows.h"

/* All: 0, -ENOMEM. */
int row_parts_add(struct parts *p, struct part part);
int free_rows_add(struct free_rows *rows, int64_t step, struct parts parts);
/* The open row with this step, made when there is none. */
int rows_make_open(struct rows *r, int64_t step, struct open_row **ret);
/* NULL: it is not present. */
struct row_producer *rows_producer(const struct rows *r, int64_t id);
/* What is gathered and due becomes a row. */
void rows_close_due(struct rows *r);
