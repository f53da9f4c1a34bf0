/* See grid.h. */
#include "client/ctl/grid.h"

#include "client/ctl/outside.h"

#include <assert.h>

enum {
	CELLS_BYTES_MAX = 1 << 28,
	CELL_COLUMNS_MAX = 400
};

void grid_init(struct grid *g, const struct grid_column *columns, size_t count)
{
	assert(count <= GRID_COLUMNS_MAX);
	*g = (struct grid){.columns = columns, .count = count};
	buf_init(&g->cells, CELLS_BYTES_MAX);
	for (size_t i = 0; i < count; i++) {
		size_t title = text_columns(span_of_text(columns[i].title));

		g->widths[i] = title > columns[i].least ? title : columns[i].least;
	}
}

void grid_done(struct grid *g)
{
	buf_done(&g->cells);
}

void grid_add(struct grid *g, struct span text)
{
	size_t column = g->filled++ % g->count;
	unsigned most = g->columns[column].most;
	size_t from = g->cells.len;
	struct span cell;
	size_t width;

	outside_add_cut(&g->cells, text, most == 0 ? CELL_COLUMNS_MAX : most);
	cell = (struct span){.at = g->cells.data + from, .len = g->cells.len - from};
	width = text_columns(cell);
	if (width > g->widths[column])
		g->widths[column] = width;
	if (column + 1 == g->count && width > 0)
		g->last_is_used = true;
	(void)buf_add_byte(&g->cells, '\0'); /* grid_print() hands errors on */
}

void grid_add_text(struct grid *g, const char *text)
{
	grid_add(g, span_of_text(text));
}

static void add_cell(const struct grid *g, struct buf *out, size_t column, struct span cell,
		     size_t room)
{
	size_t used = text_columns(cell);
	int pad = (int)(used < g->widths[column] ? g->widths[column] - used : 0);

	if (column > 0)
		(void)buf_printf(out, "%*s", GRID_GAP, ""); /* errors stay in out */
	if (g->columns[column].is_number)
		(void)buf_printf(out, "%*s", pad, "");
	if (used > room && room > 0) {
		(void)buf_add(out, cell.at, text_fit(cell, room - 1));
		(void)buf_add_text(out, "…");
	} else {
		(void)buf_add(out, cell.at, cell.len);
	}
	if (!g->columns[column].is_number)
		(void)buf_printf(out, "%*s", pad, "");
}

/* No line ends with spaces. */
static void end_row(struct buf *out)
{
	while (out->error == 0 && out->len > 0 && out->data[out->len - 1] == ' ')
		out->len--;
	(void)buf_add_byte(out, '\n'); /* errors stay in out */
}

/* Where the last column may be wide. */
static size_t room_of_last(const struct grid *g, size_t page)
{
	size_t used = 0;

	for (size_t i = 0; i + 1 < g->count; i++)
		used += g->widths[i] + GRID_GAP;
	return used < page ? page - used : 0;
}

void grid_print(const struct grid *g, struct buf *out, size_t page)
{
	size_t shown = g->last_is_used ? g->count : g->count - 1;
	size_t last = room_of_last(g, page);
	const char *cell = (const char *)g->cells.data;

	assert(g->filled % g->count == 0);
	if (g->cells.error != 0) {
		out->error = out->error == 0 ? g->cells.error : out->error;
		return;
	}
	for (size_t i = 0; i < shown; i++)
		add_cell(g, out, i, span_of_text(g->columns[i].title), SIZE_MAX);
	end_row(out);
	for (size_t i = 0; i < g->filled; i++) {
		size_t column = i % g->count;
		struct span text = span_of_text(cell);

		if (column < shown)
			add_cell(g, out, column, text, column + 1 == g->count ? last : SIZE_MAX);
		if (column + 1 == g->count)
			end_row(out);
		cell += text.len + 1;
	}
}
