/* See wbx.h: runs and what is logged to them. Every function is one record, or a few. */
#include "client/lib/emit.h"
#include "client/lib/map.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/rng.h"
#include "proto/mp.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	RUN_ID_CHARS = 8,
	HEAD_BYTES = 5
};
/* What a record holds beside its data, at most: ids, times, digests of blobs. */
enum {
	RECORD_ROOM = 8192
};

/* --- helpers --- */

static size_t list_len(const char *const *list)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	return n;
}

static void pack_pair_list(struct pack *p, const char *key, const char *const *list)
{
	size_t n = list_len(list);

	pack_text(p, key);
	pack_array(p, n);
	for (size_t i = 0; i < n; i++)
		pack_text(p, list[i]);
}

static bool name_fits(const char *name)
{
	return name == NULL || strlen(name) <= NAME_MAX_BYTES;
}

/* "key": what the map holds, into a buf of its own: the end of a record. */
static int pack_tail(struct buf *out, const char *key, const struct wbx_map *m)
{
	uint8_t head[HEAD_BYTES];
	struct pack p;

	buf_init(out, MAP_BYTES_MAX);
	pack_init(&p, out);
	pack_text(&p, key);
	map_head(m, head);
	(void)buf_add(out, head, sizeof(head)); /* the buf remembers */
	return buf_add(out, m->bytes.data, m->bytes.len);
}

/* --- opening --- */

static void run_free(struct wbx_run *run)
{
	(void)mem_free(run->id);
	(void)mem_free(run->project);
	(void)mem_free(run->entity);
	(void)mem_free(run);
}

static int make_run(struct wbx *w, const struct wbx_run_options *o, struct wbx_run **ret)
{
	char id[RUN_ID_CHARS + 1];
	struct wbx_run *run;
	int r = 0;

	if (o->id == NULL)
		r = rng_base36(id, RUN_ID_CHARS);
	if (r < 0)
		return r;
	run = mem_zalloc(sizeof(*run));
	if (run == NULL)
		return -ENOMEM;
	run->w = w;
	run->id = mem_strdup(o->id != NULL ? o->id : id);
	run->project = mem_strdup(o->project);
	run->entity = mem_strdup(o->entity != NULL ? o->entity : "");
	if (run->id == NULL || run->project == NULL || run->entity == NULL) {
		run_free(run);
		return -ENOMEM;
	}
	*ret = run;
	return 0;
}

/* Its records name no blobs. */
static int check_config(const struct wbx_map *config)
{
	return config->table_count > 0 ? -EINVAL : map_check(config);
}

static int check_options(const struct wbx_run_options *o)
{
	if (o == NULL || o->project == NULL || o->project[0] == '\0' ||
	    (o->id != NULL && o->id[0] == '\0'))
		return -EINVAL;
	if (!name_fits(o->project) || !name_fits(o->entity) || !name_fits(o->id) ||
	    !name_fits(o->name) || !name_fits(o->group) || !name_fits(o->job_type))
		return -EMSGSIZE;
	return o->config == NULL ? 0 : check_config(o->config);
}

static void keep_run(struct wbx *w, struct wbx_run *run)
{
	(void)pthread_mutex_lock(&w->lock);
	run->next = w->runs;
	w->runs = run;
	(void)pthread_mutex_unlock(&w->lock);
}

/* The config may be large: then it follows in records of its own. */
static int emit_run(struct wbx *w, struct wbx_run *run, const struct wbx_run_options *o)
{
	struct emit e;
	int r = emit_begin(&e, w, run, "run", 12);

	if (r < 0)
		return r;
	pack_pair_text(&e.p, "project", run->project);
	pack_pair_text(&e.p, "entity", run->entity);
	pack_pair_text(&e.p, "name", o->name);
	pack_pair_text(&e.p, "group", o->group);
	pack_pair_text(&e.p, "job_type", o->job_type);
	pack_pair_text(&e.p, "notes", o->notes);
	pack_pair_list(&e.p, "tags", o->tags);
	pack_pair_text(&e.p, "resume", o->resume);
	pack_pair_text(&e.p, "program", o->program);
	pack_pair_text(&e.p, "python", o->python);
	pack_pair_text(&e.p, "sdk", "wbx " WBX_VERSION);
	pack_pair_uint(&e.p, "start", clock_wall_us());
	return emit_end(&e, (struct span){0}, NULL);
}

int wbx_run(struct wbx *w, const struct wbx_run_options *options, struct wbx_run **ret)
{
	struct wbx_run *run = NULL;
	int r = w == NULL || ret == NULL ? -EINVAL : check_options(options);

	if (r == 0)
		r = make_run(w, options, &run);
	if (r < 0)
		return r;
	assert(run != NULL);
	run->generation = w->generation;
	r = emit_run(w, run, options);
	if (r == 0 && options->config != NULL)
		r = wbx_config(run, options->config);
	if (r < 0) {
		run_free(run);
		return r;
	}
	keep_run(w, run);
	*ret = run;
	return 0;
}

int wbx_attach(struct wbx *w, const struct wbx_run_options *options, struct wbx_run **ret)
{
	struct wbx_run *run = NULL;
	struct emit e;
	int r = w == NULL || ret == NULL || options == NULL || options->id == NULL
			? -EINVAL
			: check_options(options);

	if (r == 0)
		r = make_run(w, options, &run);
	if (r < 0)
		return r;
	assert(run != NULL);
	run->generation = w->generation;
	r = emit_begin(&e, w, run, "attach", 2);
	if (r == 0) {
		pack_pair_text(&e.p, "project", run->project);
		pack_pair_text(&e.p, "entity", run->entity);
		r = emit_end(&e, (struct span){0}, NULL);
	}
	if (r < 0) {
		run_free(run);
		return r;
	}
	keep_run(w, run);
	*ret = run;
	return 0;
}

const char *wbx_run_id(const struct wbx_run *run)
{
	return run->id;
}

/* --- maps as records --- */

/* A record whose last pair is the map: {run, t, extra pairs ..., key: map}. */
struct map_record {
	struct wbx_run *run;
	const char *kind;
	const char *key;
	int64_t step; /* WBX_NO_STEP: none */
	enum wbx_commit commit;
};

static int emit_map(const struct map_record *mr, const struct wbx_map *m)
{
	uint8_t head[HEAD_BYTES];
	struct emit_blobs blobs;
	struct emit e;
	size_t pairs = 1;
	int r = emit_blobs_begin(&blobs, mr->run->w, m, NULL);

	if (r < 0)
		return r;
	pairs += mr->step != WBX_NO_STEP ? 1 : 0;
	pairs += mr->commit != WBX_COMMIT_AUTO ? 1 : 0;
	pairs += blobs.count != 0 ? 1 : 0;
	r = emit_begin(&e, mr->run->w, mr->run, mr->kind, pairs);
	if (r < 0) {
		emit_blobs_end(&blobs, false);
		return r;
	}
	e.blobs = &blobs;
	if (mr->step != WBX_NO_STEP)
		pack_pair_int(&e.p, "step", mr->step);
	if (mr->commit != WBX_COMMIT_AUTO)
		pack_pair_bool(&e.p, "commit", mr->commit == WBX_COMMIT_YES);
	if (blobs.count != 0)
		emit_blobs_pack(&blobs, &e.p);
	pack_text(&e.p, mr->key); /* the map itself is not copied again */
	map_head(m, head);
	pack_raw(&e.p, (struct span){.at = head, .len = sizeof(head)});
	r = emit_end(&e, buf_span(&m->bytes), NULL);
	emit_blobs_end(&blobs, true); /* emit_end() has seen to them */
	return r;
}

/* Copies whole pairs from the cursor into `part` until the next would make it too big for a record;
 * at least one. */
static int take_pairs(struct mp *from, uint32_t *left, struct wbx_map *part)
{
	wbx_map_clear(part);
	while (*left > 0) {
		struct mp at = *from;
		struct span key;
		struct span value;

		if (mp_take(&at, &key) < 0 || mp_take(&at, &value) < 0)
			return -EINVAL;
		if (part->levels[0].count > 0 &&
		    part->bytes.len + key.len + value.len > RECORD_MAX - RECORD_ROOM)
			return 0;
		pack_raw(&part->p, key);
		pack_raw(&part->p, value);
		part->levels[0].count++;
		*from = at;
		--*left;
	}
	return part->bytes.error;
}

/* A map too big for one record goes in several, which the daemon puts together again: parts of one
 * row stay open until the last. */
static int emit_map_in_parts(const struct map_record *mr, const struct wbx_map *m)
{
	struct mp from = mp_of(buf_span(&m->bytes));
	uint32_t left = m->levels[0].count;
	struct wbx_map *part = wbx_map_new();
	int r = part == NULL ? -ENOMEM : 0;

	while (r == 0 && left > 0) {
		struct map_record one = *mr;
		bool is_row = strcmp(mr->kind, "log") == 0;

		r = take_pairs(&from, &left, part);
		if (is_row && left > 0)
			one.commit = WBX_COMMIT_NO;
		else if (is_row && mr->commit == WBX_COMMIT_AUTO && mr->step == WBX_NO_STEP)
			one.commit = WBX_COMMIT_YES;
		if (r == 0)
			r = emit_map(&one, part);
	}
	wbx_map_free(part);
	return r;
}

static int log_map(const struct map_record *mr, const struct wbx_map *m)
{
	int r;

	if (mr->run == NULL || m == NULL || m->levels[0].is_list)
		return -EINVAL;
	r = map_check(m);
	if (r < 0)
		return r;
	if (m->bytes.len <= RECORD_MAX - RECORD_ROOM)
		return emit_map(mr, m);
	return m->table_count == 0 ? emit_map_in_parts(mr, m) : -EMSGSIZE;
}

int wbx_log(struct wbx_run *run, const struct wbx_map *values, int64_t step, enum wbx_commit commit)
{
	const struct map_record mr = {
		.run = run, .kind = "log", .key = "data", .step = step, .commit = commit};

	return log_map(&mr, values);
}

int wbx_summary(struct wbx_run *run, const struct wbx_map *values)
{
	const struct map_record mr = {
		.run = run, .kind = "summary", .key = "data", .step = WBX_NO_STEP};

	return log_map(&mr, values);
}

int wbx_config(struct wbx_run *run, const struct wbx_map *values)
{
	const struct map_record mr = {
		.run = run, .kind = "config", .key = "data", .step = WBX_NO_STEP};

	if (values != NULL && values->table_count > 0)
		return check_config(values);
	return log_map(&mr, values);
}

/* --- tables --- */

static bool read_array(struct span list, uint32_t *ret_count)
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
	return true;
}

int wbx_put_table_msgpack(struct wbx_run *run, struct wbx_map *m, const char *key,
			  const void *columns, size_t columns_len, const void *rows,
			  size_t rows_len)
{
	struct span columns_span = {.at = columns, .len = columns_len};
	struct span rows_span = {.at = rows, .len = rows_len};
	struct map_table_size size;
	struct buf bytes;
	struct pack p;
	int r;

	if (run == NULL || m == NULL || key == NULL || columns == NULL || rows == NULL ||
	    !read_array(columns_span, &size.columns) || !read_array(rows_span, &size.rows))
		return -EINVAL;
	map_table_begin(&bytes, &p);
	pack_raw(&p, columns_span);
	map_table_data(&p);
	pack_raw(&p, rows_span);
	r = map_put_table(m, m, key, &bytes, size);
	buf_done(&bytes);
	return r;
}

int wbx_put_table(struct wbx_run *run, struct wbx_map *m, const char *key,
		  const char *const *columns, size_t column_count, const struct wbx_map *rows)
{
	struct map_table_size size = {.columns = (uint32_t)column_count};
	uint8_t head[HEAD_BYTES];
	struct buf bytes;
	struct pack p;
	int r;

	if (run == NULL || m == NULL || key == NULL || columns == NULL || rows == NULL ||
	    !rows->levels[0].is_list)
		return -EINVAL;
	r = map_check(rows);
	if (r < 0)
		return r;
	size.rows = rows->levels[0].count;
	map_table_begin(&bytes, &p);
	pack_array(&p, column_count);
	for (size_t i = 0; i < column_count; i++)
		pack_text(&p, columns[i]);
	map_table_data(&p);
	map_head(rows, head);
	pack_raw(&p, (struct span){.at = head, .len = sizeof(head)});
	pack_raw(&p, buf_span(&rows->bytes));
	r = map_put_table(m, m, key, &bytes, size);
	buf_done(&bytes);
	return r;
}

/* --- small records --- */

int wbx_tags(struct wbx_run *run, const char *const *add, const char *const *remove)
{
	struct emit e;
	int r = run == NULL ? -EINVAL : emit_begin(&e, run->w, run, "tags", 2);

	if (r < 0)
		return r;
	pack_pair_list(&e.p, "add", add);
	pack_pair_list(&e.p, "remove", remove);
	return emit_end(&e, (struct span){0}, NULL);
}

int wbx_define(struct wbx_run *run, const struct wbx_metric *metric)
{
	struct emit e;
	int r;

	if (run == NULL || metric == NULL || metric->name == NULL || metric->name[0] == '\0')
		return -EINVAL;
	r = emit_begin(&e, run->w, run, "define", 6);
	if (r < 0)
		return r;
	pack_pair_text(&e.p, "name", metric->name);
	pack_pair_text(&e.p, "step_metric", metric->step_metric);
	pack_pair_bool(&e.p, "step_sync", metric->step_sync);
	pack_pair_bool(&e.p, "hidden", metric->hidden);
	pack_pair_text(&e.p, "goal", metric->goal);
	pack_text(&e.p, "summary");
	if (metric->summary == NULL) {
		pack_nil(&e.p);
	} else {
		pack_array(&e.p, list_len(metric->summary));
		for (size_t i = 0; metric->summary[i] != NULL; i++)
			pack_text(&e.p, metric->summary[i]);
	}
	return emit_end(&e, (struct span){0}, NULL);
}

int wbx_output(struct wbx_run *run, const char *stream, const char *text)
{
	struct emit e;
	int r;

	if (run == NULL || stream == NULL || text == NULL)
		return -EINVAL;
	if (strlen(text) > RECORD_MAX - RECORD_ROOM)
		return -EMSGSIZE;
	r = emit_begin(&e, run->w, run, "output", 2);
	if (r < 0)
		return r;
	pack_pair_text(&e.p, "stream", stream);
	pack_pair_text(&e.p, "text", text);
	return emit_end(&e, (struct span){0}, NULL);
}

int wbx_alert(struct wbx_run *run, const char *title, const char *text, const char *level,
	      uint64_t wait_ms)
{
	struct emit e;
	int r;

	if (run == NULL || title == NULL || text == NULL)
		return -EINVAL;
	if (strlen(title) + strlen(text) > RECORD_MAX - RECORD_ROOM)
		return -EMSGSIZE;
	r = emit_begin(&e, run->w, run, "alert", 4);
	if (r < 0)
		return r;
	pack_pair_text(&e.p, "title", title);
	pack_pair_text(&e.p, "text", text);
	pack_pair_text(&e.p, "level", level);
	pack_pair_uint(&e.p, "wait_ms", wait_ms);
	return emit_end(&e, (struct span){0}, NULL);
}

static int finish(struct wbx_run *run, int exit_code, const char *by)
{
	struct emit e;
	int r = run == NULL ? -EINVAL : emit_begin(&e, run->w, run, "finish", 2);

	if (r < 0)
		return r;
	pack_pair_int(&e.p, "exit_code", exit_code);
	pack_pair_text(&e.p, "by", by);
	r = emit_end(&e, (struct span){0}, NULL);
	if (r == 0) {
		(void)pthread_mutex_lock(&run->w->lock);
		run->finished = true;
		(void)pthread_mutex_unlock(&run->w->lock);
	}
	return r;
}

int wbx_finish(struct wbx_run *run, int exit_code)
{
	return finish(run, exit_code, "call");
}

int wbx_exit(struct wbx_run *run, int exit_code)
{
	return finish(run, exit_code, "exit");
}

/* --- calls --- */

/* A UUID of version 7 (RFC 9562): milliseconds, then random bits. */
static int make_uuid(char ret[WBX_ID_MAX])
{
	uint64_t ms = clock_wall_us() / 1000;
	uint8_t b[16];
	int r = rng_bytes(b, sizeof(b));

	if (r < 0)
		return r;
	for (unsigned i = 0; i < 6; i++)
		b[i] = (uint8_t)(ms >> (40 - 8 * i));
	b[6] = (uint8_t)(0x70 | (b[6] & 0x0f));
	b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
	(void)snprintf(ret, WBX_ID_MAX,
		       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
		       b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
		       b[13], b[14], b[15]); /* fits */
	return 0;
}

/* Two maps as the record's last pairs. */
static int pack_two(struct buf *out, const char *first_key, const struct wbx_map *first,
		    const char *second_key, const struct wbx_map *second)
{
	struct buf more;
	int r = pack_tail(out, first_key, first);

	if (r < 0 || second == NULL)
		return r;
	r = pack_tail(&more, second_key, second);
	if (r == 0)
		r = buf_add(out, more.data, more.len);
	buf_done(&more);
	return r;
}

/* A call's record; its maps' tables are named, and `rest` is what it ends with. */
struct call_record {
	struct wbx_run *run;
	const struct wbx_map *first; /* of those that may have tables */
	const struct wbx_map *second;
	const char *phase;
	const char *id;
	size_t pairs; /* beside phase, id and blobs */
};

/* As emit_begin(). */
static int begin_call(struct emit *e, struct emit_blobs *blobs, const struct call_record *c)
{
	int r = emit_blobs_begin(blobs, c->run->w, c->first, c->second);

	if (r < 0)
		return r;
	r = emit_begin(e, c->run->w, c->run, "call", 2 + c->pairs + (size_t)(blobs->count > 0));
	if (r < 0) {
		emit_blobs_end(blobs, false);
		return r;
	}
	e->blobs = blobs;
	pack_pair_text(&e->p, "phase", c->phase);
	pack_pair_text(&e->p, "id", c->id);
	if (blobs->count > 0)
		emit_blobs_pack(blobs, &e->p);
	return 0;
}

static int end_call(struct emit *e, struct emit_blobs *blobs, struct span rest)
{
	int r = emit_end(e, rest, NULL);

	emit_blobs_end(blobs, true); /* emit_end() has seen to them */
	return r;
}

static int emit_call_start(const struct call_record *c, const struct wbx_call *call,
			   struct span tail)
{
	struct emit_blobs blobs;
	struct emit e;
	int r = begin_call(&e, &blobs, c);

	if (r < 0)
		return r;
	pack_pair_text(&e.p, "trace_id", call->trace_id != NULL ? call->trace_id : c->id);
	pack_pair_text(&e.p, "parent_id", call->parent_id);
	pack_pair_text(&e.p, "op", call->op);
	pack_pair_text(&e.p, "display_name", call->display_name);
	pack_pair_uint(&e.p, "started_at", clock_wall_us());
	if (call->step >= 0)
		pack_pair_uint(&e.p, "step", (uint64_t)call->step);
	return end_call(&e, &blobs, tail);
}

int wbx_call_start(struct wbx_run *run, const struct wbx_call *call, char ret_id[WBX_ID_MAX])
{
	static const struct wbx_map nothing = {.depth = 0};
	struct call_record c = {.run = run, .phase = "start", .id = ret_id};
	struct buf tail = {0};
	int r;

	if (run == NULL || call == NULL || call->op == NULL || ret_id == NULL)
		return -EINVAL;
	c.first = call->inputs != NULL ? call->inputs : &nothing;
	c.second = call->attributes;
	c.pairs = 6 + (size_t)(call->attributes != NULL) + (size_t)(call->step >= 0);
	r = map_check(c.first);
	if (r == 0 && call->attributes != NULL)
		r = map_check(call->attributes);
	if (r == 0)
		r = make_uuid(ret_id);
	if (r == 0)
		r = pack_two(&tail, "inputs", c.first, "attributes", call->attributes);
	if (r == 0)
		r = emit_call_start(&c, call, buf_span(&tail));
	buf_done(&tail);
	return r;
}

int wbx_call_end(struct wbx_run *run, const char *id, const struct wbx_map *output,
		 const char *exception)
{
	static const uint8_t nil[] = {0xc0};
	const struct call_record c = {
		.run = run, .first = output, .phase = "end", .id = id, .pairs = 3};
	struct span value = {nil, sizeof(nil)};
	struct emit_blobs blobs;
	struct emit e;
	int r;

	if (run == NULL || id == NULL ||
	    (output != NULL && (!output->levels[0].is_list || output->levels[0].count > 1)))
		return -EINVAL;
	r = output == NULL ? 0 : map_check(output);
	if (output != NULL && output->levels[0].count == 1)
		value = buf_span(&output->bytes);
	if (r == 0)
		r = begin_call(&e, &blobs, &c);
	if (r < 0)
		return r;
	pack_pair_uint(&e.p, "ended_at", clock_wall_us());
	pack_pair_text(&e.p, "exception", exception);
	pack_text(&e.p, "output");
	return end_call(&e, &blobs, value);
}
