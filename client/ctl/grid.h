/* A table of text: cells go in row by row, columns are as wide as their widest cell. What is put in
 * may come from outside: it is escaped here. One owner. */
#pragma once

#include "proto/base/buf.h"

enum {
	GRID_COLUMNS_MAX = 16,
	GRID_GAP = 2
};

struct grid_column {
	const char *title;
	bool is_number; /* to the right */
	unsigned least; /* columns of the terminal */
	unsigned most;  /* longer cells are cut; 0: only the last column, to the page's width */
};

/* Embeddable; `columns` is borrowed for its life, at most GRID_COLUMNS_MAX. */
struct grid {
	const struct grid_column *columns;
	size_t count;
	size_t widths[GRID_COLUMNS_MAX];
	struct buf cells; /* each ends with a NUL */
	size_t filled;
	bool last_is_used; /* the last column has a cell that is not empty */
};

void grid_init(struct grid *g, const struct grid_column *columns, size_t count);
void grid_done(struct grid *g);
void grid_add(struct grid *g, struct span text);
void grid_add_text(struct grid *g, const char *text);
/* Title and rows, to `page` columns at most; a last column of empty cells is left out. Errors,
 * those of the cells too, stay in out. */
void grid_print(const struct grid *g, struct buf *out, size_t page);
