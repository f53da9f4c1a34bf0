/* See table.h and wbx.h. */
#include "client/lib/table.h"

#include "client/lib/grow.h"
#include "client/lib/state.h"
#include "proto/mp.h"

#include <errno.h>
#include <string.h>

void table_array_head(uint8_t ret[TABLE_ARRAY_HEAD], uint32_t rows)
{
	ret[0] = 0xdd;
	for (unsigned i = 0; i < 4; i++)
		ret[1 + i] = (uint8_t)(rows >> (24 - 8 * i));
}

void table_draft_begin(struct table_draft *d, bool has_types)
{
	*d = (struct table_draft){.has_types = has_types};
	buf_init(&d->bytes, (size_t)BLOB_MAX);
	pack_init(&d->p, &d->bytes);
	pack_map(&d->p, has_types ? 3 : 2);
	pack_text(&d->p, "columns");
}

void table_draft_rows(struct table_draft *d)
{
	d->options_end = d->bytes.len;
	pack_text(&d->p, "data");
	d->rows_at = d->bytes.len + TABLE_ARRAY_HEAD;
}

void table_draft_done(struct table_draft *d)
{
	buf_done(&d->bytes);
}

int map_put_table(struct wbx_map *m, struct wbx_map *value, const char *key, struct table_draft *d,
		  const struct table_says *says)
{
	int64_t len = (int64_t)d->bytes.len;
	uint8_t digest[DIGEST_BYTES];
	int r = grow_add(m->grow, m, d, digest);

	if (r < 0)
		return map_fail(m, r);
	(void)wbx_begin_map(value, key); /* the last one tells of any failure */
	(void)wbx_put_text(value, "_type", "table");
	(void)wbx_put_int(value, "size", len);
	(void)wbx_put_int(value, "ncols", d->columns);
	(void)wbx_put_int(value, "nrows",
			  says->rows_in_all > 0 ? (int64_t)says->rows_in_all : d->rows);
	if (says->log_mode != NULL)
		(void)wbx_put_text(value, "log_mode", says->log_mode);
	if (says->has_increment)
		(void)wbx_put_int(value, "increment", (int64_t)says->increment);
	r = map_put_digest(value, "blob", digest);
	return r == 0 ? wbx_end(value) : map_fail(m, r);
}

/* --- for callers of the library --- */

static bool read_array(struct span list, uint32_t *ret_count, size_t *ret_head)
{
	static const struct mp_limits limits = {.depth = RECORD_DEPTH_MAX,
						.items = SIZE_MAX,
						.keys = SIZE_MAX,
						.key_bytes = SIZE_MAX};
	struct mp check = mp_of(list);
	struct mp m = mp_of(list);
	struct mp_value v;

	if (mp_read(&m, &v) < 0 || v.type != MP_ARRAY || mp_skip(&check, &limits) < 0 ||
	    mp_left(&check) != 0)
		return false;
	*ret_count = v.count;
	*ret_head = list.len - mp_left(&m);
	return true;
}

/* rows: one after the other, without their array's head. */
static void add_rows(struct table_draft *d, struct span rows, uint32_t count)
{
	uint8_t head[TABLE_ARRAY_HEAD];

	table_draft_rows(d);
	table_array_head(head, count);
	d->rows = count;
	pack_raw(&d->p, (struct span){.at = head, .len = sizeof(head)});
	if (rows.len > 0)
		pack_raw(&d->p, rows);
}

int wbx_put_table_msgpack(struct wbx_run *run, struct wbx_map *m, const char *key,
			  const void *columns, size_t columns_len, const void *rows,
			  size_t rows_len)
{
	struct span columns_span = {.at = columns, .len = columns_len};
	struct span rows_span = {.at = rows, .len = rows_len};
	const struct table_says says = {.log_mode = NULL};
	struct table_draft d;
	uint32_t column_count;
	uint32_t row_count;
	size_t head;
	int r;

	if (run == NULL || m == NULL || key == NULL || columns == NULL || rows == NULL ||
	    !read_array(columns_span, &column_count, &head) ||
	    !read_array(rows_span, &row_count, &head))
		return -EINVAL;
	table_draft_begin(&d, false);
	d.columns = column_count;
	pack_raw(&d.p, columns_span);
	add_rows(&d, (struct span){.at = rows_span.at + head, .len = rows_len - head}, row_count);
	m->grow = run->grow;
	r = map_put_table(m, m, key, &d, &says);
	table_draft_done(&d);
	return r;
}

static bool is_log_mode(const char *mode)
{
	return mode == NULL || strcmp(mode, "IMMUTABLE") == 0 || strcmp(mode, "MUTABLE") == 0 ||
	       strcmp(mode, "INCREMENTAL") == 0;
}

static void pack_types(struct pack *p, const struct wbx_table *t)
{
	pack_text(p, "types");
	pack_map(p, (t->log_mode != NULL ? 1U : 0U) + (t->mixed ? 1U : 0U));
	if (t->mixed)
		pack_pair_bool(p, "mixed", true);
	if (t->log_mode != NULL)
		pack_pair_text(p, "log_mode", t->log_mode);
}

int wbx_put_table_with(struct wbx_run *run, struct wbx_map *m, const char *key,
		       const struct wbx_table *t)
{
	struct table_says says = {.log_mode = NULL};
	struct table_draft d;
	bool has_types;
	int r;

	if (run == NULL || m == NULL || key == NULL || t == NULL || t->columns == NULL ||
	    t->rows == NULL || !t->rows->levels[0].is_list || !is_log_mode(t->log_mode))
		return -EINVAL;
	r = map_check(t->rows);
	if (r < 0)
		return r;
	says.log_mode = t->log_mode;
	says.has_increment = t->log_mode != NULL && strcmp(t->log_mode, "INCREMENTAL") == 0;
	says.increment = t->increment;
	says.rows_in_all = t->rows_in_all;
	has_types = t->mixed || t->log_mode != NULL;
	table_draft_begin(&d, has_types);
	d.columns = (uint32_t)t->column_count;
	pack_array(&d.p, t->column_count);
	for (size_t i = 0; i < t->column_count; i++)
		pack_text(&d.p, t->columns[i]);
	if (has_types)
		pack_types(&d.p, t);
	add_rows(&d, buf_span(&t->rows->bytes), t->rows->levels[0].count);
	m->grow = run->grow;
	r = map_put_table(m, m, key, &d, &says);
	table_draft_done(&d);
	return r;
}

int wbx_put_table(struct wbx_run *run, struct wbx_map *m, const char *key,
		  const char *const *columns, size_t column_count, const struct wbx_map *rows)
{
	const struct wbx_table t = {.columns = columns, .column_count = column_count, .rows = rows};

	return wbx_put_table_with(run, m, key, &t);
}
