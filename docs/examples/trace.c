/* Traced calls in C: a reward function that has a judge score each completion of a group.
 *
 *   cc trace.c $(pkg-config --cflags --libs wbx) -o trace && ./trace
 */
#include <stdio.h>
#include <time.h>
#include <wbx.h>

static uint64_t now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A call that is short and has none inside is one record. */
static int judge(struct wbx_run *run, const struct wbx_call_record *root, const char *completion)
{
	struct wbx_map *inputs = wbx_map_new();
	struct wbx_map *output = wbx_list_new();
	struct wbx_feedback score = {.type = "wandb.runnable.judge", .op = "judge"};
	struct wbx_call_record call = {.phase = "complete", .op = "judge", .step = root->step};
	char id[WBX_ID_MAX];
	char feedback_id[WBX_ID_MAX];
	int r = inputs == NULL || output == NULL ? -1 : wbx_new_call_id(id);

	call.started_us = now_us();
	(void)wbx_put_text(inputs, "completion", completion); /* errors stay in the map */
	(void)wbx_put_double(output, NULL, 0.5);
	call.id = id;
	call.trace_id = root->trace_id;
	call.parent_id = root->id;
	call.inputs = inputs;
	call.output = output;
	call.ended_us = now_us();
	if (r == 0)
		r = wbx_call(run, &call);
	wbx_map_clear(inputs);
	(void)wbx_put_double(inputs, "output", 0.5);
	score.call_id = id;
	score.payload = inputs;
	if (r == 0)
		r = wbx_feedback(run, &score, feedback_id);
	wbx_map_free(inputs);
	wbx_map_free(output);
	return r;
}

/* One that has calls inside begins and ends. */
static int reward(struct wbx_run *run)
{
	static const char *const completions[] = {"4", "four", "5"};
	struct wbx_call_record root = {.phase = "start", .op = "reward", .step = 7};
	struct wbx_call_record end = {.phase = "end", .step = -1};
	char id[WBX_ID_MAX];
	char trace_id[WBX_ID_MAX];
	int r = wbx_new_call_id(id);

	if (r == 0)
		r = wbx_new_call_id(trace_id);
	root.id = end.id = id;
	root.trace_id = trace_id;
	root.started_us = now_us();
	if (r == 0)
		r = wbx_call(run, &root);
	for (int i = 0; r == 0 && i < 3; i++)
		r = judge(run, &root, completions[i]);
	end.ended_us = now_us();
	return r == 0 ? wbx_call(run, &end) : r;
}

int main(void)
{
	const struct wbx_run_options options = {.project = "wbx-example", .name = "traces from C"};
	struct wbx_run *run;
	struct wbx *w;
	int r;

	if (wbx_open(&w, NULL) < 0)
		return 1;
	r = wbx_run(w, &options, &run);
	if (r == 0)
		r = reward(run);
	if (r == 0)
		r = wbx_finish(run, 0);
	if (r == 0 && wbx_flush(w, 5000) == 0)
		printf("wbxctl traces %s\n", wbx_run_id(run));
	(void)wbx_close(w, 1000); /* what is not on disk yet stays in the journal */
	return r == 0 ? 0 : 1;
}
