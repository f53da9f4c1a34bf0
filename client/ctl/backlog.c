/* wbxctl backlog: what waits for W&B. The daemon tells it by run and class; sums are made here. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/grid.h"
#include "client/ctl/mpjson.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/limits.h"
#include "proto/mp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROWS_MAX = 1 << 20,
	ROW_JSON_MAX = 64 << 10,
	KEY_TEXT_MAX = 4 * NAME_MAX_BYTES
};

enum grouping {
	BY_STREAM, /* run and class: as the daemon tells it */
	BY_RUN,
	BY_SINK,
};

struct row {
	char *key; /* what is summed under */
	char *run;
	char *project;
	char *what; /* class, state of the run, or sink */
	char *parked;
	uint64_t waiting;
	uint64_t bytes;
	uint64_t blobs;
	uint64_t blob_bytes;
	uint64_t oldest_us;
};

struct backlog {
	struct call *call;
	enum grouping by;
	struct row *rows;
	size_t count;
	size_t cap;
};

static void rows_free(struct backlog *b)
{
	for (size_t i = 0; i < b->count; i++) {
		(void)mem_free(b->rows[i].key);
		(void)mem_free(b->rows[i].run);
		(void)mem_free(b->rows[i].project);
		(void)mem_free(b->rows[i].what);
		(void)mem_free(b->rows[i].parked);
	}
	(void)mem_free(b->rows);
}

static char *take_text(struct mp item, const char *key)
{
	struct span s = mp_get_str(item, key);

	return mem_strndup((const char *)s.at, s.len);
}

/* Which sink a class goes to; the daemon's status counts the same way. */
static const char *sink_of(struct span class)
{
	if (span_is(class, "bulk"))
		return "artifacts";
	return span_is(class, "traces") ? "weave" : "models";
}

static char *make_key(const struct backlog *b, struct mp item)
{
	char text[KEY_TEXT_MAX];
	struct span run = mp_get_str(item, "run");
	struct span project = mp_get_str(item, "project");
	struct span entity = mp_get_str(item, "entity");
	struct span class = mp_get_str(item, "class");

	if (b->by == BY_SINK)
		return mem_strdup(sink_of(class));
	(void)snprintf(text, sizeof(text), "%.*s/%.*s/%.*s %llu %.*s", (int)entity.len,
		       (const char *)entity.at, (int)project.len, (const char *)project.at,
		       (int)run.len, (const char *)run.at,
		       (unsigned long long)mp_get_uint(item, "uid", 0),
		       b->by == BY_RUN ? 0 : (int)class.len,
		       (const char *)class.at); /* names have a limit, all of it fits */
	return mem_strdup(text);
}

static int rows_grow(struct backlog *b)
{
	return b->count == ROWS_MAX ? -E2BIG : mem_room(b->rows, b->count, b->cap);
}

static char *what_of(const struct backlog *b, struct mp item)
{
	if (b->by == BY_SINK)
		return mem_strdup(sink_of(mp_get_str(item, "class")));
	return take_text(item, b->by == BY_RUN ? "state" : "class");
}

static int rows_add(struct backlog *b, struct mp item)
{
	struct row *row;
	int r = rows_grow(b);

	if (r < 0)
		return r;
	row = &b->rows[b->count++];
	*row = (struct row){
		.key = make_key(b, item),
		.run = take_text(item, "run"),
		.project = take_text(item, "project"),
		.what = what_of(b, item),
		.parked = take_text(item, "parked"),
		.waiting = mp_get_uint(item, "waiting", 0),
		.bytes = mp_get_uint(item, "bytes", 0),
		.blobs = mp_get_uint(item, "blobs", 0),
		.blob_bytes = mp_get_uint(item, "blob_bytes", 0),
		.oldest_us = mp_get_uint(item, "oldest_us", 0),
	};
	if (row->key == NULL || row->run == NULL || row->project == NULL || row->what == NULL ||
	    row->parked == NULL)
		return -ENOMEM;
	return 0;
}

/* Tables and files that rows name go out by the sink artifacts, and wait there. */
static int split_files(struct backlog *b)
{
	struct row *row = &b->rows[b->count - 1];
	struct row files = {
		.waiting = row->blobs, .bytes = row->blob_bytes, .oldest_us = row->oldest_us};
	int r;

	if (files.waiting == 0 || strcmp(row->what, "models") != 0)
		return 0;
	files.key = mem_strdup("artifacts");
	files.what = mem_strdup("artifacts");
	r = files.key == NULL || files.what == NULL ? -ENOMEM : rows_grow(b);
	if (r < 0) {
		(void)mem_free(files.key);
		(void)mem_free(files.what);
		return r;
	}
	b->rows[b->count++] = files;
	return 0;
}

static int on_item(void *arg, struct span body)
{
	struct backlog *b = arg;
	int r = rows_add(b, mp_of(body));

	if (r == 0 && b->by == BY_SINK)
		r = split_files(b);

	return r < 0 ? say_errno("backlog", r) : CODE_OK;
}

/* --- sums --- */

static int compare_keys(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->key, ((const struct row *)b)->key);
}

static void row_merge(struct row *into, const struct row *from)
{
	into->waiting += from->waiting;
	into->bytes += from->bytes;
	into->blobs += from->blobs;
	into->blob_bytes += from->blob_bytes;
	if (from->oldest_us != 0 && (into->oldest_us == 0 || from->oldest_us < into->oldest_us))
		into->oldest_us = from->oldest_us;
}

/* Rows of one key become one; the others' texts move behind the end, where rows_free() finds them.
 */
static size_t rows_sum(struct backlog *b)
{
	size_t kept = 0;

	if (b->count == 0)
		return 0;
	qsort(b->rows, b->count, sizeof(*b->rows), compare_keys);
	for (size_t i = 1; i < b->count; i++) {
		struct row swap = b->rows[kept + 1];

		if (strcmp(b->rows[kept].key, b->rows[i].key) == 0) {
			row_merge(&b->rows[kept], &b->rows[i]);
			continue;
		}
		b->rows[++kept] = b->rows[i];
		if (i != kept)
			b->rows[i] = swap;
	}
	return kept + 1;
}

/* --- printing --- */

static const struct grid_column run_columns[] = {
	{"RUN", false, 8, 24},       {"PROJECT", false, 7, 24}, {"CLASS", false, 7, 9},
	{"WAITING", true, 9, 0},     {"SIZE", true, 8, 0},      {"FILES", true, 5, 0},
	{"THEIR SIZE", true, 10, 0}, {"OLDEST", true, 8, 0},    {"PARKED", false, 0, 0},
};
static const struct grid_column sink_columns[] = {
	{"SINK", false, 9, 12},
	{"WAITING", true, 9, 0},
	{"SIZE", true, 8, 0},
	{"OLDEST", true, 8, 0},
};

static void add_age(struct grid *g, const struct row *row, uint64_t now_us)
{
	grid_add_text(g, row->oldest_us == 0 || row->oldest_us > now_us
				 ? "-"
				 : word_age_short((now_us - row->oldest_us) / 1000).text);
}

static void add_stream_row(struct grid *g, const struct row *row, uint64_t now_us)
{
	grid_add_text(g, row->run);
	grid_add_text(g, row->project);
	grid_add_text(g, row->what);
	grid_add_text(g, word_count(row->waiting).text);
	grid_add_text(g, word_size(row->bytes).text);
	grid_add_text(g, word_count(row->blobs).text);
	grid_add_text(g, word_size(row->blob_bytes).text);
	add_age(g, row, now_us);
	grid_add_text(g, row->parked);
}

static void add_sink_row(struct grid *g, const struct row *row, uint64_t now_us)
{
	grid_add_text(g, row->what);
	grid_add_text(g, word_count(row->waiting).text);
	grid_add_text(g, word_size(row->bytes).text);
	add_age(g, row, now_us);
}

static void print_table(struct backlog *b, size_t count)
{
	struct grid_column columns[array_len(run_columns)];
	uint64_t now_us = clock_wall_us();
	struct grid g;

	memcpy(columns, run_columns, sizeof(columns));
	if (b->by == BY_RUN)
		columns[2].title = "STATE";
	if (b->by == BY_SINK)
		grid_init(&g, sink_columns, array_len(sink_columns));
	else
		grid_init(&g, columns, array_len(columns));
	for (size_t i = 0; i < count; i++) {
		if (b->by == BY_SINK)
			add_sink_row(&g, &b->rows[i], now_us);
		else
			add_stream_row(&g, &b->rows[i], now_us);
	}
	grid_print(&g, &b->call->out, b->call->columns);
	grid_done(&g);
}

static void print_json_row(struct backlog *b, const struct row *row)
{
	auto_buf struct buf line = {0};
	struct json j;

	buf_init(&line, ROW_JSON_MAX);
	json_init(&j, &line);
	json_open_object(&j);
	if (b->by == BY_SINK) {
		json_pair_text(&j, "sink", row->what);
	} else {
		json_pair_text(&j, "run", row->run);
		json_pair_text(&j, "project", row->project);
		json_pair_text(&j, "state", row->what);
		json_pair_text(&j, "parked", row->parked);
		json_pair_uint(&j, "blobs", row->blobs);
		json_pair_uint(&j, "blob_bytes", row->blob_bytes);
	}
	json_pair_uint(&j, "waiting", row->waiting);
	json_pair_uint(&j, "bytes", row->bytes);
	json_pair_uint(&j, "oldest_us", row->oldest_us);
	json_close_object(&j);
	json_line(&b->call->out, &line);
}

static void print(struct backlog *b)
{
	size_t count = rows_sum(b);

	if (call_has(b->call, OPT_JSON)) {
		for (size_t i = 0; i < count; i++)
			print_json_row(b, &b->rows[i]);
	} else if (count == 0) {
		(void)buf_add_text(&b->call->out, "nothing waits\n"); /* call_print() looks */
	} else {
		print_table(b, count);
	}
}

static int choose_grouping(const struct call *c, enum grouping *ret)
{
	const char *by = c->values[OPT_BY];

	if (by == NULL)
		*ret = BY_STREAM;
	else if (strcmp(by, "run") == 0)
		*ret = BY_RUN;
	else if (strcmp(by, "sink") == 0)
		*ret = BY_SINK;
	else
		return say_usage(c->command, "--by wants sink or run");
	return CODE_OK;
}

int backlog_run(struct call *c)
{
	struct backlog b = {.call = c};
	bool as_told = call_has(c, OPT_JSON) && !call_has(c, OPT_BY);
	struct control_answer answer;
	struct request q;
	int r = choose_grouping(c, &b.by);

	if (r != CODE_OK)
		return r;
	request_init(&q, VERB_BACKLOG);
	request_text(&q, "run", call_word(c));
	if (as_told)
		r = call_ask(c, &q, call_on_json_item, c, &answer);
	else
		r = call_ask(c, &q, on_item, &b, &answer);
	if (r == CODE_OK && !as_told)
		print(&b);
	rows_free(&b);
	request_done(&q);
	return r;
}
