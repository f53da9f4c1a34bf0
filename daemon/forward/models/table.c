/* See table.h. */
#include "daemon/forward/models/table.h"

#include "daemon/forward/models/value.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

enum {
	READ_BYTES = 128 << 10
};

void table_init(struct table *t, enum table_form form, table_read read, void *arg)
{
	*t = (struct table){.form = form, .read = read, .arg = arg, .in_own = true};
	buf_init(&t->in, TABLE_ROW_MAX + READ_BYTES);
	/* text may grow to six times its bytes when it is all control characters */
	buf_init(&t->out, (size_t)TABLE_ROW_MAX * 6 + TABLE_PIECE_BYTES);
	json_init(&t->json, &t->out);
	buf_init(&t->names, TABLE_ROW_MAX);
	buf_init(&t->log_mode, NAME_MAX_BYTES);
	coltypes_init(&t->types);
}

void table_done(struct table *t)
{
	buf_done(&t->in);
	buf_done(&t->out);
	buf_done(&t->names);
	buf_done(&t->log_mode);
	coltypes_done(&t->types);
}

/* The blob that is read, as table_read has it. */
static const uint8_t *current_part(const struct table *t)
{
	return t->in_own ? NULL : t->parts[t->parts_done];
}

static struct mp unread(const struct table *t)
{
	return mp_of((struct span){.at = t->in.data + t->used, .len = t->in.len - t->used});
}

/* Gets more of the blob into `in`; at least as much again as is there, so that a large row is not
 * looked at too often. 0; -EBADMSG: there is no more. */
static int read_more(struct table *t)
{
	size_t want = t->in.len - t->used;
	size_t got = 0;
	int r;

	if (t->at_end)
		return -EBADMSG;
	buf_drop_front(&t->in, t->used);
	t->used = 0;
	if (want < READ_BYTES)
		want = READ_BYTES;
	if (want > t->in.max - t->in.len)
		want = t->in.max - t->in.len;
	if (want == 0)
		return -EMSGSIZE;
	r = buf_reserve(&t->in, want);
	if (r == 0)
		r = t->read(t->arg, current_part(t), t->offset, t->in.data + t->in.len, want, &got);
	if (r < 0)
		return r;
	t->in.len += got;
	t->offset += (int64_t)got;
	t->at_end = got < want;
	return 0;
}

/* One token, more of the blob being read as needed. */
static int read_token(struct table *t, struct mp_value *ret)
{
	for (;;) {
		struct mp at = unread(t);
		int r = mp_read(&at, ret);

		if (r == 0) {
			t->used = (size_t)(at.at - t->in.data);
			return 0;
		}
		r = r == -ENODATA ? read_more(t) : r;
		if (r < 0)
			return r;
	}
}

/* One whole value; the span is good until the next read. */
static int read_value(struct table *t, struct span *ret)
{
	for (;;) {
		struct mp at = unread(t);
		int r = mp_take(&at, ret);

		if (r == 0) {
			t->used = (size_t)(at.at - t->in.data);
			return 0;
		}
		r = r == -ENODATA ? read_more(t) : -EBADMSG;
		if (r < 0)
			return r;
	}
}

/* --- the head --- */

/* A column's name, which may be a number, too. */
static int take_column(struct table *t)
{
	struct span name;
	struct mp at;
	int r = read_value(t, &name);

	if (r < 0)
		return r;
	at = mp_of(name);
	r = value_to_json(&t->json, &at, VALUE_HISTORY);
	if (r == 0 && t->form == TABLE_ARTIFACT)
		r = buf_add(&t->names, name.at, name.len);
	return r;
}

static int take_columns(struct table *t)
{
	struct mp_value columns;
	int r = read_token(t, &columns);

	if (r == 0 && columns.type != MP_ARRAY)
		r = -EBADMSG;
	if (r == 0 && t->form == TABLE_ARTIFACT && columns.count > TABLE_COLUMNS_MAX)
		r = -EMSGSIZE;
	json_put_key_text(&t->json, "columns");
	json_open_array(&t->json);
	for (uint32_t i = 0; r == 0 && i < columns.count; i++)
		r = take_column(t);
	json_close_array(&t->json);
	t->columns = r == 0 ? columns.count : 0;
	return r;
}

/* Whether that column takes nil: what `optional` says of all, or of each. */
static bool is_optional(struct mp optional, uint32_t column)
{
	struct mp_value v;

	if (mp_left(&optional) == 0 || mp_read(&optional, &v) < 0)
		return true;
	if (v.type == MP_BOOL)
		return v.boolean;
	if (v.type != MP_ARRAY || column >= v.count)
		return true;
	for (uint32_t i = 0; i <= column; i++) {
		if (mp_read(&optional, &v) < 0 || v.type != MP_BOOL)
			return true;
	}
	return v.boolean;
}

/* types: the value, or nothing. */
static int take_types(struct table *t, struct span types)
{
	struct span optional = {.at = NULL};
	struct span log_mode = {.at = NULL};
	bool mixed = false;
	int r = 0;

	if (types.at != NULL) {
		(void)mp_find_span(mp_of(types), "optional", &optional); /* else it stays empty */
		log_mode = mp_get_str(mp_of(types), "log_mode");
		mixed = mp_get_bool(mp_of(types), "mixed", false);
	}
	if (log_mode.len > 0)
		r = buf_add(&t->log_mode, log_mode.at, log_mode.len);
	for (uint32_t i = 0; r == 0 && i < t->columns; i++)
		r = coltypes_add(&t->types, is_optional(mp_of(optional), i), mixed);
	return r == -EMSGSIZE ? -EBADMSG : r;
}

static int take_parts(struct table *t)
{
	struct mp_value v;
	int r = read_token(t, &v);

	if (r == 0 && (v.type != MP_ARRAY || v.count > RECORD_BLOBS_MAX))
		r = -EBADMSG;
	if (r < 0)
		return r;
	for (uint32_t left = v.count; left > 0; left--) {
		r = read_token(t, &v);
		if (r == 0 && (v.type != MP_BIN || v.bytes.len != DIGEST_BYTES))
			r = -EBADMSG;
		if (r < 0)
			return r;
		memcpy(t->parts[t->part_count++], v.bytes.at, DIGEST_BYTES);
	}
	return 0;
}

static int take_key(struct table *t, struct span *ret)
{
	struct mp_value key;
	int r = read_token(t, &key);

	if (r == 0 && key.type != MP_STR)
		r = -EBADMSG;
	*ret = r == 0 ? key.bytes : (struct span){.at = NULL};
	return r;
}

/* Up to the rows: what may stand between columns and data comes in this order. */
static int take_options(struct table *t)
{
	auto_buf struct buf types;
	struct span key;
	struct span value;
	int r;

	buf_init(&types, TABLE_ROW_MAX);
	r = take_key(t, &key);
	if (r == 0 && span_is(key, "types")) {
		r = read_value(t, &value);
		if (r == 0)
			r = buf_add(&types, value.at, value.len);
		if (r == 0)
			r = take_key(t, &key);
	}
	if (r == 0 && t->form == TABLE_ARTIFACT)
		r = take_types(t, buf_span(&types));
	if (r == 0 && span_is(key, "parts")) {
		r = take_parts(t);
		if (r == 0)
			r = take_key(t, &key);
	}
	return r == 0 && !span_is(key, "data") ? -EBADMSG : r;
}

/* --- rows --- */

/* An array of rows begins. */
static int begin_rows(struct table *t)
{
	struct mp_value v;
	int r = read_token(t, &v);

	if (r == 0 && v.type != MP_ARRAY)
		r = -EBADMSG;
	if (r < 0)
		return r;
	t->rows_left = v.count;
	t->rows += v.count;
	return 0;
}

static void read_from(struct table *t, int64_t offset)
{
	buf_clear(&t->in);
	t->used = 0;
	t->offset = offset;
	t->at_end = false;
}

/* The next part, or the table's own rows behind the last one. */
static int next_part(struct table *t)
{
	if (t->parts_done < t->part_count) {
		t->in_own = false;
		read_from(t, 0);
		return begin_rows(t);
	}
	if (!t->in_own) {
		t->in_own = true;
		read_from(t, t->own_offset);
	}
	t->rows_left = t->own_rows;
	return 0;
}

static int step_head(struct table *t)
{
	struct mp_value v;
	struct span key;
	int r = read_token(t, &v);

	if (r == 0 && v.type != MP_MAP)
		r = -EBADMSG;
	if (r == 0)
		r = take_key(t, &key);
	if (r == 0 && !span_is(key, "columns"))
		r = -EBADMSG;
	if (r < 0)
		return r;
	json_open_object(&t->json);
	if (t->form == TABLE_ARTIFACT) {
		json_put_key_text(&t->json, "_type");
		json_put_text(&t->json, "table");
	}
	r = take_columns(t);
	if (r == 0)
		r = take_options(t);
	if (r == 0)
		r = begin_rows(t);
	if (r < 0)
		return r;
	t->own_rows = t->rows_left;
	t->own_offset = t->offset - (int64_t)(t->in.len - t->used);
	json_put_key_text(&t->json, "data");
	json_open_array(&t->json);
	t->stage = TABLE_ROWS;
	r = next_part(t);
	if (r == 0)
		r = t->out.error;
	return r < 0 ? r : 1;
}

static int on_file(void *arg, const struct cell_file *file)
{
	struct table *t = arg;
	const struct table_file f = {
		.path = file->path,
		.bytes = file->bytes,
		.sha256 = file->sha256,
		.part = current_part(t),
		/* it stands in `in`, which ends at t->offset */
		.offset = t->offset - (int64_t)(t->in.len - (size_t)(file->bytes.at - t->in.data)),
	};

	return t->on_file == NULL ? 0 : t->on_file(t->arg, &f);
}

static int print_row(struct table *t, struct span row)
{
	const struct cell_writer w = {
		.json = &t->json, .form = t->form, .on_file = on_file, .arg = t};
	struct mp at = mp_of(row);
	struct mp peek = at;
	struct mp_value head;
	int r = 0;

	if (t->form == TABLE_RUN_FILE || mp_read(&peek, &head) < 0 || head.type != MP_ARRAY)
		return cell_write(&w, &at);
	json_open_array(&t->json);
	for (uint32_t i = 0; r == 0 && i < head.count; i++) {
		struct span cell;
		struct mp cell_at;

		if (mp_take(&peek, &cell) < 0)
			return -EBADMSG;
		cell_at = mp_of(cell);
		if (i < t->columns)
			r = coltypes_cell(&t->types, i, cell);
		if (r == 0)
			r = cell_write(&w, &cell_at);
	}
	json_close_array(&t->json);
	return r;
}

static int take_row(struct table *t)
{
	uint64_t most = t->form == TABLE_RUN_FILE ? TABLE_FILE_ROWS_MAX : TABLE_ARTIFACT_ROWS_MAX;
	struct span row;
	int r = read_value(t, &row);

	if (r < 0)
		return r;
	t->rows_left--;
	if (t->rows_written == most)
		return 0;
	t->rows_written++;
	r = print_row(t, row);
	return r == 0 ? t->out.error : r;
}

/* --- the end --- */

static int put_types(struct table *t)
{
	struct mp names = mp_of(buf_span(&t->names));

	json_put_key_text(&t->json, "column_types");
	json_open_object(&t->json);
	json_put_key_text(&t->json, "wb_type");
	json_put_text(&t->json, "typedDict");
	json_put_key_text(&t->json, "params");
	json_open_object(&t->json);
	json_put_key_text(&t->json, "type_map");
	json_open_object(&t->json);
	for (uint32_t i = 0; i < t->columns; i++) {
		char room[JSON_DOUBLE_MAX];
		struct span name;

		if (value_take_key(&names, room, &name) < 0)
			return -EBADMSG;
		json_put_key(&t->json, name);
		coltypes_write(&t->types, i, &t->json);
	}
	json_close_object(&t->json);
	json_close_object(&t->json);
	json_close_object(&t->json);
	return 0;
}

static int put_end(struct table *t)
{
	int r = 0;

	json_close_array(&t->json);
	if (t->form == TABLE_ARTIFACT) {
		json_put_key_text(&t->json, "ncols");
		json_put_uint(&t->json, t->columns);
		json_put_key_text(&t->json, "nrows");
		json_put_uint(&t->json, t->rows_written);
		json_put_key_text(&t->json, "log_mode");
		json_put_string(&t->json, t->log_mode.len > 0 ? buf_span(&t->log_mode)
							      : SPAN_LITERAL("IMMUTABLE"));
		r = put_types(t);
	}
	json_close_object(&t->json);
	t->stage = TABLE_DONE;
	return r < 0 ? r : t->out.error;
}

static int step_rows(struct table *t)
{
	while (t->out.len < TABLE_PIECE_BYTES) {
		int r;

		if (t->rows_left > 0) {
			r = take_row(t);
		} else if (t->in_own) {
			return put_end(t);
		} else {
			t->parts_done++;
			r = next_part(t);
		}
		if (r < 0)
			return r;
	}
	return t->out.error < 0 ? t->out.error : 1;
}

int table_step(struct table *t)
{
	switch (t->stage) {
	case TABLE_HEAD: return step_head(t);
	case TABLE_ROWS: return step_rows(t);
	case TABLE_DONE: return 0;
	}
	return 0;
}
