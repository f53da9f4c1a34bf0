/* See table.h. */
#include "daemon/forward/models/table.h"

#include "daemon/forward/models/value.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

enum {
	READ_BYTES = 128 << 10
};

void table_init(struct table *t, table_read read, void *arg)
{
	*t = (struct table){.read = read, .arg = arg};
	buf_init(&t->in, TABLE_ROW_MAX + READ_BYTES);
	/* text may grow to six times its bytes when it is all control characters */
	buf_init(&t->out, (size_t)TABLE_ROW_MAX * 6 + TABLE_PIECE_BYTES);
	json_init(&t->json, &t->out);
}

void table_done(struct table *t)
{
	buf_done(&t->in);
	buf_done(&t->out);
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
		r = t->read(t->arg, t->offset, t->in.data + t->in.len, want, &got);
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

static int expect_key(struct table *t, const char *name)
{
	struct mp_value key;
	int r = read_token(t, &key);

	if (r < 0)
		return r;
	return key.type == MP_STR && span_is(key.bytes, name) ? 0 : -EBADMSG;
}

static int print_next(struct table *t, bool print)
{
	struct span value;
	struct mp at;
	int r = read_value(t, &value);

	if (r < 0 || !print)
		return r;
	at = mp_of(value);
	r = value_to_json(&t->json, &at, VALUE_HISTORY);
	return r == 0 && t->out.error != 0 ? t->out.error : r;
}

static int step_head(struct table *t)
{
	struct mp_value v;
	struct mp_value columns;
	int r = read_token(t, &v);

	if (r == 0 && v.type != MP_MAP)
		r = -EBADMSG;
	if (r == 0)
		r = expect_key(t, "columns");
	if (r < 0)
		return r;
	json_open_object(&t->json);
	json_put_key_text(&t->json, "columns");
	json_open_array(&t->json);
	r = read_token(t, &columns);
	if (r == 0 && columns.type != MP_ARRAY)
		r = -EBADMSG;
	for (uint32_t i = 0; r == 0 && i < columns.count; i++)
		r = print_next(t, true);
	if (r == 0)
		r = expect_key(t, "data");
	if (r == 0)
		r = read_token(t, &v);
	if (r < 0 || v.type != MP_ARRAY)
		return r < 0 ? r : -EBADMSG;
	json_close_array(&t->json);
	json_put_key_text(&t->json, "data");
	json_open_array(&t->json);
	t->columns = columns.count;
	t->rows = t->rows_left = v.count;
	t->stage = TABLE_ROWS;
	return 1;
}

static int step_rows(struct table *t)
{
	while (t->rows_left > 0 && t->out.len < TABLE_PIECE_BYTES) {
		bool print = t->rows_written < TABLE_FILE_ROWS_MAX;
		int r = print_next(t, print);

		if (r < 0)
			return r;
		t->rows_left--;
		t->rows_written += print;
	}
	if (t->rows_left > 0)
		return 1;
	json_close_array(&t->json);
	json_close_object(&t->json);
	t->stage = TABLE_DONE;
	return t->out.error;
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
