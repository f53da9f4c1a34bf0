/* wbxctl export: the rows of a run from the local store, as W&B has them or will have them. CSV needs
 * its header first, so it asks twice: for the columns, then for the same rows once more. */
#include "client/ctl/call.h"
#include "client/ctl/csv.h"
#include "client/ctl/format.h"
#include "client/ctl/outside.h"
#include "proto/frame.h"
#include "proto/mp.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	ROW_MAX = 96 << 20,
	WRITE_AT = 256 << 10,
	SLICE_TIMEOUT_MS = 300000, /* the daemon reads a lot before there is a row */
	FILE_MODE = 0600,
};

struct sums {
	bool is_told;
	bool is_part;
	bool is_new;
	uint64_t rows;
	uint64_t until;
	uint64_t now_us;
	int64_t first_step;
	uint64_t open;
	uint64_t late;
	uint64_t dead;
	uint64_t too_big;
};

struct export
{
	struct call *call;
	const char *path; /* of the file, NULL: standard output */
	int fd;
	struct columns columns;
	int (*on_row)(struct export * e, struct span row); /* 0 or an exit code */
	struct buf rows;                                   /* told, not whole yet */
	struct buf line;
	struct buf out;
	struct sums sums;
};

static int failed(const struct export *e, int r)
{
	return say_errno(e->path != NULL ? e->path : "the rows", r);
}

static int flush(struct export *e)
{
	int r = buf_write(&e->out, e->fd);

	buf_clear(&e->out);
	return r < 0 ? failed(e, r) : CODE_OK;
}

/* A terminal gets what comes from outside escaped, a file as it is. */
static int add_line(struct export *e)
{
	if (e->line.error != 0)
		return failed(e, e->line.error);
	if (e->path == NULL && e->call->columns != SIZE_MAX)
		outside_add(&e->out, buf_span(&e->line), OUTSIDE_LINES);
	else
		(void)buf_add(&e->out, e->line.data, e->line.len); /* flush() looks */
	return e->out.len >= WRITE_AT || e->out.error != 0 ? flush(e) : CODE_OK;
}

/* --- rows --- */

static int on_json_row(struct export *e, struct span row)
{
	buf_clear(&e->line);
	(void)buf_add(&e->line, row.at, row.len); /* add_line() looks */
	(void)buf_add_byte(&e->line, '\n');
	return add_line(e);
}

static int on_new_row(struct export *e, struct span row)
{
	int r = columns_add_row(&e->columns, row);

	if (r == -E2BIG)
		say("the run has more columns than a table can have; take --jsonl");
	return r == -E2BIG ? CODE_DATA : r < 0 ? failed(e, r) : CODE_OK;
}

static int on_csv_row(struct export *e, struct span row)
{
	int r;

	buf_clear(&e->line);
	r = columns_print_row(&e->columns, row, &e->line);
	return r < 0 ? failed(e, r) : add_line(e);
}

static void take_sums(struct export *e, struct mp item)
{
	e->sums = (struct sums){
		.is_told = true,
		.is_part = mp_get_bool(item, "is_part", false),
		.is_new = mp_get_bool(item, "is_new", false),
		.rows = mp_get_uint(item, "row_count", 0),
		.until = mp_get_uint(item, "until", 0),
		.now_us = mp_get_uint(item, "now_us", 0),
		.first_step = mp_get_int(item, "first_step", 0),
		.open = mp_get_uint(item, "open", 0),
		.late = mp_get_uint(item, "late", 0),
		.dead = mp_get_uint(item, "dead", 0),
		.too_big = mp_get_uint(item, "too_big", 0),
	};
}

static int take_rows(struct export *e)
{
	size_t at = 0;
	int r = CODE_OK;

	while (r == CODE_OK) {
		struct span rest = {.at = e->rows.data + at, .len = e->rows.len - at};
		struct span row;
		size_t size;

		switch (frame_next(rest, ROW_MAX, &row, &size)) {
		case FRAME_NEED_MORE: buf_drop_front(&e->rows, at); return CODE_OK;
		case FRAME_TOO_BIG:
		case FRAME_BAD: return failed(e, -EBADMSG);
		case FRAME_READY: break;
		}
		r = e->on_row(e, row);
		at += size;
	}
	return r;
}

static int on_item(void *arg, struct span body)
{
	struct export *e = arg;
	struct mp item = mp_of(body);
	struct span rows = mp_get_bin(item, "rows");

	if (rows.at == NULL) {
		take_sums(e, item);
		return CODE_OK;
	}
	if (buf_add(&e->rows, rows.at, rows.len) < 0)
		return failed(e, e->rows.error);
	return take_rows(e);
}

/* All rows, each to on_row. The second time those of the first. */
static int ask(struct export *e, bool values, int (*on_row)(struct export *e, struct span row))
{
	struct control_answer answer;
	struct request q;
	int r;

	e->on_row = on_row;
	buf_clear(&e->rows);
	request_init(&q, VERB_EXPORT);
	q.timeout_ms = SLICE_TIMEOUT_MS;
	request_text(&q, "run", e->call->words[0]);
	request_bool(&q, "values", values);
	if (e->sums.is_told) {
		request_uint(&q, "until", e->sums.until);
		request_uint(&q, "now_us", e->sums.now_us);
	}
	r = call_ask(e->call, &q, on_item, e, &answer);
	request_done(&q);
	if (r == CODE_OK && (!e->sums.is_told || e->rows.len > 0))
		return failed(e, -EBADMSG);
	return r;
}

static int export_csv(struct export *e)
{
	int r = ask(e, true, on_new_row);

	if (r != CODE_OK)
		return r;
	buf_clear(&e->line);
	if (e->columns.count == 0)
		return CODE_OK;
	r = columns_print_names(&e->columns, &e->line);
	r = r < 0 ? failed(e, r) : add_line(e);
	/* no record of this run is behind a bound of 0, which would mean none */
	return r == CODE_OK && e->sums.rows > 0 ? ask(e, true, on_csv_row) : r;
}

/* --- what a reader has to know --- */

static void say_count(uint64_t count, const char *one, const char *many)
{
	if (count > 0)
		say("%s %s", word_count(count).text, count == 1 ? one : many);
}

static int say_sums(const struct sums *s)
{
	say_count(s->too_big, "row is too big for W&B and was left out",
		  "rows are too big for W&B and were left out");
	say_count(s->late,
		  "row came after its step had gone and is not among these: wbxctl late list",
		  "rows came after their step had gone and are not among these: wbxctl late list");
	say_count(s->open, "log call belongs to a row that is not complete yet",
		  "log calls belong to rows that are not complete yet");
	if (s->dead > 0)
		say("W&B refused something of this run for good, and it is among these when it was "
		    "a row: "
		    "wbxctl dead list");
	if (s->is_new && s->rows > 0)
		say("W&B does not have the run yet; if it does have rows of it, these will be "
		    "numbered "
		    "behind them");
	if (!s->is_part)
		return CODE_OK;
	say("this is a part of the run: rows before _step %lld were delivered and are not in this "
	    "store any "
	    "more (store.keep, store.keep_age); W&B has them",
	    (long long)s->first_step);
	return CODE_DATA;
}

/* --- the command --- */

static int open_file(struct export *e)
{
	e->fd = STDOUT_FILENO;
	e->path = e->call->values[OPT_OUTPUT];
	if (e->path == NULL)
		return CODE_OK;
	e->fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
	if (e->fd >= 0)
		return CODE_OK;
	if (errno == EEXIST) {
		say("%s is there already; name a file that is not", e->path);
		return CODE_USAGE;
	}
	return say_errno(e->path, -errno);
}

static int close_file(struct export *e, int r)
{
	if (e->path == NULL)
		return r;
	if (r == CODE_OK && fsync(e->fd) < 0 && errno != EINVAL)
		r = say_errno(e->path, -errno);
	if (close(e->fd) < 0 && r == CODE_OK)
		r = say_errno(e->path, -errno);
	if (r != CODE_OK)
		(void)unlink(e->path); /* half an export is none */
	return r;
}

int export_run(struct call *c)
{
	struct export e = {.call = c};
	int r;

	if (call_has(c, OPT_CSV) == call_has(c, OPT_JSONL))
		return say_usage(c->command, "say --csv or --jsonl");
	r = open_file(&e);
	if (r != CODE_OK)
		return r;
	columns_init(&e.columns);
	buf_init(&e.rows, ROW_MAX + CONTROL_REPLY_MAX);
	buf_init(&e.line, ROW_MAX);
	buf_init(&e.out, 4 * (size_t)ROW_MAX);
	r = call_has(c, OPT_CSV) ? export_csv(&e) : ask(&e, false, on_json_row);
	if (r == CODE_OK)
		r = flush(&e);
	r = close_file(&e, r);
	if (r == CODE_OK)
		r = say_sums(&e.sums);
	columns_done(&e.columns);
	buf_done(&e.rows);
	buf_done(&e.line);
	buf_done(&e.out);
	return r;
}
