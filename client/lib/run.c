/* See wbx.h: runs, from their opening to their end, and what is said about them in small records.
 * Every function is one record, or a few. */
#include "client/lib/emit.h"
#include "client/lib/grow.h"
#include "client/lib/map.h"
#include "client/lib/news.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/rng.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	RUN_ID_CHARS = 8
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

/* --- opening --- */

static void run_free(struct wbx_run *run)
{
	(void)mem_free(run->id);
	(void)mem_free(run->project);
	(void)mem_free(run->entity);
	(void)mem_free(run->label);
	(void)mem_free(run->token);
	(void)grow_free(run->grow);
	(void)mem_free(run); /* nobody has told it anything yet */
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
	run->merge_rows = o->merge_rows;
	run->grow = grow_new(); /* without it tables are logged whole */
	run->id = mem_strdup(o->id != NULL ? o->id : id);
	run->project = mem_strdup(o->project);
	run->entity = mem_strdup(o->entity != NULL ? o->entity : "");
	run->label = o->label != NULL ? mem_strdup(o->label) : NULL;
	run->token = o->token != NULL ? mem_strdup(o->token) : NULL;
	if (run->id == NULL || run->project == NULL || run->entity == NULL ||
	    (o->label != NULL && run->label == NULL) || (o->token != NULL && run->token == NULL)) {
		run_free(run);
		return -ENOMEM;
	}
	*ret = run;
	return 0;
}

/* Its records name no blobs. */
static int check_config(const struct wbx_map *config)
{
	return config->table_count > 0 ? -EINVAL : emit_check_map(config);
}

static int check_options(const struct wbx_run_options *o)
{
	if (o == NULL || o->project == NULL || o->project[0] == '\0' ||
	    (o->id != NULL && o->id[0] == '\0'))
		return -EINVAL;
	if (!name_fits(o->project) || !name_fits(o->entity) || !name_fits(o->id) ||
	    !name_fits(o->name) || !name_fits(o->group) || !name_fits(o->job_type) ||
	    !name_fits(o->label))
		return -EMSGSIZE;
	if (o->token != NULL && (strlen(o->token) < TOKEN_MIN || !name_fits(o->token)))
		return -EINVAL;
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
	int r = emit_begin(&e, w, run, "run", o->shared ? 19 : 14);

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
	pack_pair_bool(&e.p, "merge_rows", run->merge_rows);
	pack_pair_uint(&e.p, "start", clock_wall_us());
	pack_pair_text(&e.p, "token", run->token);
	if (o->shared) {
		pack_pair_bool(&e.p, "shared", true);
		pack_pair_text(&e.p, "label", run->label);
		pack_pair_bool(&e.p, "primary", !o->is_secondary);
		pack_pair_bool(&e.p, "update_finish_state", !o->leaves_end);
		pack_pair_bool(&e.p, "derived_summary", o->derived_summary);
	}
	return emit_end(&e, (struct span){0}, NULL);
}

/* The run is open by now; a config for which there is no room or memory is given up. */
static void give_config(struct wbx_run *run, const struct wbx_map *config)
{
	int r = wbx_config(run, config);

	if (r == 0 || r == -ENOBUFS)
		return; /* that is counted already */
	(void)pthread_mutex_lock(&run->w->lock);
	run->w->given_up++;
	(void)pthread_mutex_unlock(&run->w->lock);
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
	if (r < 0) {
		run_free(run);
		return r;
	}
	if (options->config != NULL)
		give_config(run, options->config);
	keep_run(w, run);
	*ret = run;
	return 0;
}

int wbx_project(struct wbx *w, const char *entity, const char *project, struct wbx_run **ret)
{
	const struct wbx_run_options options = {.project = project, .entity = entity, .id = "-"};
	struct wbx_run *run = NULL;
	int r = w == NULL || ret == NULL ? -EINVAL : check_options(&options);

	if (r == 0)
		r = make_run(w, &options, &run);
	if (r < 0)
		return r;
	assert(run != NULL);
	run->is_project = true;
	run->attached = true;
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
	run->attached = true;
	r = emit_begin(&e, w, run, "attach", 4);
	if (r == 0) {
		pack_pair_text(&e.p, "project", run->project);
		pack_pair_text(&e.p, "entity", run->entity);
		pack_pair_bool(&e.p, "merge_rows", run->merge_rows);
		pack_pair_text(&e.p, "token", run->token);
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
	r = emit_begin(&e, run->w, run, "define", 7);
	if (r < 0)
		return r;
	pack_pair_text(&e.p, "name", metric->name);
	pack_pair_text(&e.p, "step_metric", metric->step_metric);
	pack_pair_bool(&e.p, "step_sync", metric->step_sync);
	pack_pair_bool(&e.p, "hidden", metric->hidden);
	pack_pair_bool(&e.p, "overwrite", metric->overwrite);
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

/* How much of the text goes into one record: whole characters. */
static size_t output_part(struct span text)
{
	size_t len = RECORD_MAX - RECORD_ROOM;

	if (text.len <= len)
		return text.len;
	while (len > RECORD_MAX / 2 && (text.at[len] & 0xc0) == 0x80)
		len--;
	return len;
}

static int emit_output(struct wbx_run *run, const char *stream, struct span part)
{
	struct emit e;
	int r = emit_begin(&e, run->w, run, "output", run->label == NULL ? 2 : 3);

	if (r < 0)
		return r;
	pack_pair_text(&e.p, "stream", stream);
	if (run->label != NULL)
		pack_pair_text(&e.p, "label", run->label);
	pack_pair_str(&e.p, "text", part);
	return emit_end(&e, (struct span){0}, NULL);
}

int wbx_output_bytes(struct wbx_run *run, const char *stream, const void *text, size_t len)
{
	struct span left = {.at = text, .len = len};
	int r = 0;

	if (run == NULL || stream == NULL || text == NULL ||
	    (strcmp(stream, "stdout") != 0 && strcmp(stream, "stderr") != 0))
		return -EINVAL;
	while (r == 0 && left.len > 0) {
		struct span part = {.at = left.at, .len = output_part(left)};

		r = emit_output(run, stream, part);
		left.at += part.len;
		left.len -= part.len;
	}
	return r;
}

int wbx_output(struct wbx_run *run, const char *stream, const char *text)
{
	return text == NULL ? -EINVAL : wbx_output_bytes(run, stream, text, strlen(text));
}

static bool is_level(const char *level)
{
	return level == NULL || strcmp(level, "INFO") == 0 || strcmp(level, "WARN") == 0 ||
	       strcmp(level, "ERROR") == 0;
}

int wbx_alert(struct wbx_run *run, const char *title, const char *text, const char *level,
	      uint64_t wait_ms)
{
	struct emit e;
	int r;

	if (run == NULL || title == NULL || text == NULL || !is_level(level))
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

int wbx_mark_preempting(struct wbx_run *run)
{
	struct emit e;
	int r = run == NULL ? -EINVAL : emit_begin(&e, run->w, run, "preempting", 0);

	return r < 0 ? r : emit_end(&e, (struct span){0}, NULL);
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
		run->news_before = run->news == NULL ? 0 : run->news->count;
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
