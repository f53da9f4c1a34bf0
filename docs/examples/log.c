/* A small trainer in C: logs a run through the wbx daemon.
 *
 *   cc log.c $(pkg-config --cflags --libs wbx) -o log && ./log
 */
#include <stdio.h>
#include <wbx.h>

static int log_steps(struct wbx_run *run)
{
	struct wbx_map *row = wbx_map_new();
	int r = 0;

	if (row == NULL)
		return -1;
	for (int step = 0; r == 0 && step < 100; step++) {
		wbx_map_clear(row); /* errors stay in the map: wbx_log() tells of them */
		(void)wbx_put_double(row, "train/loss", 1.0 / (step + 1));
		(void)wbx_put_int(row, "train/tokens", step * 4096);
		r = wbx_log(run, row, step, WBX_COMMIT_AUTO);
	}
	wbx_map_free(row);
	return r;
}

int main(void)
{
	const struct wbx_run_options options = {.project = "wbx-example", .name = "from C"};
	struct wbx_run *run;
	struct wbx *w;
	int r;

	if (wbx_open(&w, NULL) < 0)
		return 1;
	r = wbx_run(w, &options, &run);
	if (r == 0)
		r = log_steps(run);
	if (r == 0)
		r = wbx_finish(run, 0);
	if (r == 0 && wbx_flush(w, 5000) == 0)
		printf("run %s is on the daemon's disk\n", wbx_run_id(run));
	(void)wbx_close(w, 1000); /* what is not on disk yet stays in the journal */
	return r == 0 ? 0 : 1;
}
