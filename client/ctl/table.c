/* wbxctl table: a table as it was logged, also before W&B has it. The rows of the run say which blob it
 * is (as wbxctl export has them), and the daemon hands out the blob (PROTOCOL.md section 9). */
#include "client/ctl/call.h"
#include "client/ctl/csv.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/mp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	ROW_MAX = 96 << 20,
	HEX_CHARS = 2 * DIGEST_BYTES,
	SLICE_TIMEOUT_MS = 300000,
};

struct finding_table {
	struct call *call;
	const char *key;
	bool has_step;
	int64_t step;
	struct buf rows; /* told, not whole yet */
	bool is_found;
	int64_t found_step;
	uint8_t digest[DIGEST_BYTES];
};

static int failed(int r)
{
	return say_errno("the table", r);
}

/* --- which blob --- */

/* The value at the key, or at the keys that dots part. */
static bool find_value(struct mp row, const char *key, struct span *ret)
{
	const char *dot;
	char name[KEY_MAX + 1];

	if (mp_find_span(row, key, ret) == 0)
		return true;
	dot = strchr(key, '.');
	while (dot != NULL && (size_t)(dot - key) <= KEY_MAX) {
		(void)snprintf(name, sizeof(name), "%.*s", (int)(dot - key), key); /* fits */
		if (mp_find_span(row, name, ret) < 0)
			return false;
		row = mp_of(*ret);
		key = dot + 1;
		if (mp_find_span(row, key, ret) == 0)
			return true;
		dot = strchr(key, '.');
	}
	return false;
}

/* The newest that fits counts. */
static void on_row(struct finding_table *f, struct span row)
{
	int64_t step = mp_get_int(mp_of(row), "_step", -1);
	struct span value;
	struct span blob;

	if ((f->has_step && step != f->step) || !find_value(mp_of(row), f->key, &value) ||
	    !span_is(mp_get_str(mp_of(value), "_type"), "table"))
		return;
	blob = mp_get_bin(mp_of(value), "blob");
	if (blob.at == NULL || blob.len != DIGEST_BYTES)
		return;
	memcpy(f->digest, blob.at, DIGEST_BYTES);
	f->found_step = step;
	f->is_found = true;
}

static int on_rows(void *arg, struct span body)
{
	struct finding_table *f = arg;
	struct span rows = mp_get_bin(mp_of(body), "rows");
	size_t at = 0;

	if (rows.at == NULL)
		return CODE_OK;
	if (buf_add(&f->rows, rows.at, rows.len) < 0)
		return failed(f->rows.error);
	for (;;) {
		struct span rest = {.at = f->rows.data + at, .len = f->rows.len - at};
		struct span row;
		size_t size;

		switch (frame_next(rest, ROW_MAX, &row, &size)) {
		case FRAME_NEED_MORE: buf_drop_front(&f->rows, at); return CODE_OK;
		case FRAME_TOO_BIG:
		case FRAME_BAD: return failed(-EBADMSG);
		case FRAME_READY: break;
		}
		on_row(f, row);
		at += size;
	}
}

static int find(struct finding_table *f)
{
	struct control_answer answer;
	struct request q;
	int r;

	buf_init(&f->rows, ROW_MAX + CONTROL_REPLY_MAX);
	request_init(&q, VERB_EXPORT);
	q.timeout_ms = SLICE_TIMEOUT_MS;
	request_text(&q, "run", f->call->words[0]);
	request_bool(&q, "values", true);
	r = call_ask(f->call, &q, on_rows, f, &answer);
	request_done(&q);
	buf_done(&f->rows);
	if (r == CODE_OK && !f->is_found) {
		if (f->has_step)
			say("no table %s was logged in step %lld of %s", f->key, (long long)f->step,
			    f->call->words[0]);
		else
			say("no table %s was logged to %s; wbxctl export tells what was", f->key,
			    f->call->words[0]);
		return CODE_DATA;
	}
	return r;
}

/* --- its bytes --- */

static int on_bytes(void *arg, struct span body)
{
	struct buf *blob = arg;
	struct span bytes = mp_get_bin(mp_of(body), "bytes");

	return bytes.at == NULL || buf_add(blob, bytes.at, bytes.len) == 0 ? CODE_OK
									   : failed(blob->error);
}

static int fetch(struct call *c, const uint8_t digest[DIGEST_BYTES], struct buf *ret)
{
	char hex[HEX_CHARS + 1];
	struct control_answer answer;
	struct request q;
	int r;

	for (size_t i = 0; i < DIGEST_BYTES; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]); /* two digits, a NUL */
	request_init(&q, VERB_BLOB);
	q.timeout_ms = SLICE_TIMEOUT_MS;
	request_text(&q, "sha256", hex);
	r = call_ask(c, &q, on_bytes, ret, &answer);
	request_done(&q);
	return r;
}

/* --- as text --- */

/* A file in a cell is told by what it is; the bytes are no text. True when it was one. */
static bool file_text(struct span cell, char ret[96])
{
	struct span type = mp_get_str(mp_of(cell), "_type");
	struct span data = mp_get_bin(mp_of(cell), "data");

	if (type.at == NULL || data.at == NULL)
		return false;
	(void)snprintf(ret, 96, "<%.*s, %zu bytes>", (int)(type.len < 40 ? type.len : 40),
		       (const char *)type.at, data.len); /* fits */
	return true;
}

static bool is_map(struct span cell)
{
	struct mp at = mp_of(cell);
	struct mp_value v;

	return mp_read(&at, &v) == 0 && v.type == MP_MAP;
}

/* A time is its text. True when it was one. */
static bool time_text(struct span cell, struct span *ret)
{
	struct mp at = mp_of(cell);
	struct mp_value v;

	if (mp_read(&at, &v) < 0 || v.type != MP_EXT || v.ext_type != 1 || v.bytes.len < 8)
		return false;
	*ret = (struct span){.at = v.bytes.at + 8, .len = v.bytes.len - 8};
	return true;
}

struct printing {
	struct call *call;
	bool is_csv;
	struct mp columns; /* behind their array's head */
	uint32_t column_count;
	struct buf line;
};

static int print_cell(struct printing *p, struct json *j, struct span cell)
{
	char file[96];
	struct span text = {.at = NULL};

	if (is_map(cell) && file_text(cell, file))
		text = span_of_text(file);
	else
		(void)time_text(cell, &text); /* else it stays empty */
	if (text.at == NULL)
		return p->is_csv ? csv_add_cell(&p->line, cell) : json_add_mp(j, cell);
	if (p->is_csv)
		(void)buf_add(&p->line, text.at, text.len); /* the buf remembers */
	else
		json_put_string(j, text);
	return 0;
}

static int print_column(struct printing *p, struct json *j, struct mp *columns)
{
	struct span name;
	char number[32];
	struct mp_value v;
	struct mp at = *columns;

	if (mp_take(columns, &name) < 0 || mp_read(&at, &v) < 0)
		return -EBADMSG;
	if (p->is_csv)
		return csv_add_cell(&p->line, name);
	if (v.type == MP_STR) {
		json_put_key(j, v.bytes);
		return 0;
	}
	(void)snprintf(number, sizeof(number), "%.0f", mp_is_number(&v) ? mp_to_double(&v) : 0.0);
	json_put_key_text(j, number);
	return 0;
}

static int end_line(struct printing *p)
{
	(void)buf_add_byte(&p->line, '\n');
	if (p->line.error != 0)
		return p->line.error;
	if (p->call->columns != SIZE_MAX)
		outside_add(&p->call->out, buf_span(&p->line), OUTSIDE_LINES);
	else
		(void)buf_add(&p->call->out, p->line.data, p->line.len); /* printing looks */
	buf_clear(&p->line);
	return call_print_some(p->call) == CODE_OK ? 0 : -EIO;
}

static int print_row(struct printing *p, struct span row)
{
	struct mp columns = p->columns;
	struct mp at = mp_of(row);
	struct mp_value head;
	struct json j;
	int r = mp_read(&at, &head);

	if (r < 0 || head.type != MP_ARRAY)
		return -EBADMSG;
	json_init(&j, &p->line);
	if (!p->is_csv)
		json_open_object(&j);
	for (uint32_t i = 0; r == 0 && i < head.count && i < p->column_count; i++) {
		struct span cell;

		if (mp_take(&at, &cell) < 0)
			return -EBADMSG;
		if (p->is_csv && i > 0)
			(void)buf_add_byte(&p->line, ','); /* the buf remembers */
		if (!p->is_csv)
			r = print_column(p, &j, &columns);
		if (r == 0)
			r = print_cell(p, &j, cell);
	}
	if (!p->is_csv)
		json_close_object(&j);
	return r < 0 ? r : end_line(p);
}

static int print_rows(struct printing *p, struct span rows)
{
	struct mp at = mp_of(rows);
	struct mp_value head;
	int r = 0;

	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY)
		return -EBADMSG;
	for (uint32_t i = 0; r == 0 && i < head.count; i++) {
		struct span row;

		r = mp_take(&at, &row);
		if (r == 0)
			r = print_row(p, row);
	}
	return r;
}

static int print_names(struct printing *p)
{
	struct mp columns = p->columns;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < p->column_count; i++) {
		if (i > 0)
			(void)buf_add_byte(&p->line, ','); /* the buf remembers */
		r = print_column(p, NULL, &columns);
	}
	return r < 0 ? r : end_line(p);
}

/* Rows that stand in other blobs come first. */
static int print_parts(struct printing *p, struct mp table)
{
	struct span parts;
	struct mp at;
	struct mp_value head;
	int r = 0;

	if (mp_find_span(table, "parts", &parts) < 0)
		return 0;
	at = mp_of(parts);
	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY)
		return -EBADMSG;
	for (uint32_t i = 0; r == 0 && i < head.count; i++) {
		struct mp_value part;
		struct buf rows;

		if (mp_read(&at, &part) < 0 || part.type != MP_BIN ||
		    part.bytes.len != DIGEST_BYTES)
			return -EBADMSG;
		buf_init(&rows, (size_t)BLOB_MAX);
		r = fetch(p->call, part.bytes.at, &rows) == CODE_OK ? print_rows(p, buf_span(&rows))
								    : -ECANCELED;
		buf_done(&rows);
	}
	return r;
}

static int print_table(struct printing *p, struct span blob)
{
	struct mp table = mp_of(blob);
	struct mp_value head;
	struct span columns;
	struct span data;
	int r;

	if (mp_find_span(table, "columns", &columns) < 0 || mp_find_span(table, "data", &data) < 0)
		return -EBADMSG;
	p->columns = mp_of(columns);
	if (mp_read(&p->columns, &head) < 0 || head.type != MP_ARRAY)
		return -EBADMSG;
	p->column_count = head.count;
	r = p->is_csv ? print_names(p) : 0;
	if (r == 0)
		r = print_parts(p, table);
	return r == 0 ? print_rows(p, data) : r;
}

int table_run(struct call *c)
{
	struct finding_table f = {.call = c, .key = c->words[1]};
	struct printing p = {.call = c};
	struct buf blob;
	char *end;
	int r;

	if (call_has(c, OPT_CSV) && (call_has(c, OPT_JSONL) || call_has(c, OPT_JSON)))
		return say_usage(c->command, "say --csv or --jsonl");
	if (call_has(c, OPT_STEP)) {
		f.has_step = true;
		f.step = strtoll(c->values[OPT_STEP], &end, 10);
		if (end == c->values[OPT_STEP] || *end != '\0')
			return say_usage(c->command, "--step is the number of a row");
	}
	p.is_csv = !call_has(c, OPT_JSONL) && !call_has(c, OPT_JSON);
	r = find(&f);
	if (r != CODE_OK)
		return r;
	buf_init(&blob, (size_t)BLOB_MAX);
	buf_init(&p.line, ROW_MAX);
	r = fetch(c, f.digest, &blob);
	if (r == CODE_OK) {
		int e = print_table(&p, buf_span(&blob));

		r = e == -ECANCELED ? CODE_DATA : e < 0 ? failed(e) : call_print(c);
	}
	buf_done(&p.line);
	buf_done(&blob);
	return r;
}
