/* A trainer that may be killed at any moment: logs numbers from several threads, and notes each one
 * whose call returned in a shared file, which outlives it. The harness compares that file with the
 * store.
 *
 *   trainer RUN NOTES THREADS COUNT PAUSE_US TABLE_EVERY TABLE_BYTES JOURNAL_BYTES
 *
 * COUNT 0: until told. Reads commands from standard input, one byte each: f flush, q end well. */
#include "client/lib/wbx.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	THREADS_MAX = 16,
	FLUSH_MS = 30000,
	CLOSE_MS = 1000
};

/* Read by the harness: 16-byte slots of two numbers, little-endian. */
struct notes {
	struct {
		_Atomic uint64_t returned; /* 1 .. this were taken */
		_Atomic uint64_t
			refused; /* calls that gave an error: their numbers are used again */
	} thread[THREADS_MAX];
};

struct worker {
	pthread_t id;
	int number;
	struct wbx_run *run;
};

static struct notes *notes;
static uint64_t count;
static unsigned pause_us;
static uint64_t table_every;
static size_t table_bytes;
static char *table_text;
static _Atomic bool stopping;

static void put_table(struct wbx_run *run, struct wbx_map *row, uint64_t n)
{
	static const char *const columns[] = {"n", "text"};
	struct wbx_map *rows = wbx_list_new();

	if (rows == NULL)
		return;
	(void)wbx_begin_list(rows, NULL); /* errors stay in the map */
	(void)wbx_put_int(rows, NULL, (int64_t)n);
	(void)wbx_put_bytes_as_text(rows, NULL, table_text, table_bytes);
	(void)wbx_end(rows);
	(void)wbx_put_table(run, row, "table", columns, 2, rows);
	wbx_map_free(rows);
}

static int log_number(struct worker *w, struct wbx_map *row, uint64_t n)
{
	wbx_map_clear(row);
	(void)wbx_put_int(row, "n",
			  (int64_t)n); /* errors stay in the map: wbx_log() tells of them */
	(void)wbx_put_int(row, "thread", w->number);
	(void)wbx_put_double(row, "loss", 1.0 / (double)n);
	if (table_every > 0 && n % table_every == 0)
		put_table(w->run, row, n);
	return wbx_log(w->run, row, WBX_NO_STEP, WBX_COMMIT_AUTO);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct wbx_map *row = NULL;
	uint64_t n = 1;

	for (int tries = 0; row == NULL && tries < 1000; tries++) /* memory may fail in a test */
		row = wbx_map_new();

	while (row != NULL && !atomic_load(&stopping) && (count == 0 || n <= count)) {
		if (log_number(w, row, n) == 0)
			atomic_store(&notes->thread[w->number].returned, n++);
		else
			atomic_fetch_add(&notes->thread[w->number].refused, 1);
		if (pause_us > 0)
			(void)usleep(pause_us); /* the pace of a training loop, not a wait */
	}
	wbx_map_free(row);
	return NULL;
}

static int map_notes(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *map;

	if (fd < 0 || ftruncate(fd, (off_t)sizeof(*notes)) < 0)
		return -1;
	map = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	notes = map;
	return map == MAP_FAILED ? -1 : 0;
}

static void say(const char *what, int r)
{
	char line[64];
	int len = snprintf(line, sizeof(line), "%s %d\n", what, r);

	if (write(STDOUT_FILENO, line, (size_t)len) < 0)
		_exit(3); /* the harness is gone */
}

static void take_commands(struct wbx *w)
{
	char command;

	while (read(STDIN_FILENO, &command, 1) == 1 && command != 'q') {
		if (command == 'f')
			say("flushed", wbx_flush(w, FLUSH_MS));
	}
}

static int run_threads(struct wbx *w, struct wbx_run *run, int threads)
{
	struct worker workers[THREADS_MAX];

	for (int i = 0; i < threads; i++) {
		workers[i] = (struct worker){.number = i, .run = run};
		if (pthread_create(&workers[i].id, NULL, work, &workers[i]) != 0)
			return 2;
	}
	take_commands(w);
	atomic_store(&stopping, true);
	for (int i = 0; i < threads; i++)
		(void)pthread_join(workers[i].id, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	struct wbx_options options = {.daemon = ""};
	struct wbx_run_options run_options = {.project = "crash"};
	struct wbx_stats stats;
	struct wbx_run *run;
	struct wbx *w;
	int threads;
	int r;

	if (argc != 9 || map_notes(argv[2]) < 0)
		return 2;
	run_options.id = argv[1];
	threads = (int)strtol(argv[3], NULL, 10);
	count = strtoull(argv[4], NULL, 10);
	pause_us = (unsigned)strtoul(argv[5], NULL, 10);
	table_every = strtoull(argv[6], NULL, 10);
	table_bytes = strtoull(argv[7], NULL, 10);
	options.journal_bytes = strtoull(argv[8], NULL, 10);
	table_text = malloc(table_bytes + 1);
	if (threads > THREADS_MAX || table_text == NULL || wbx_open(&w, &options) < 0)
		return 2;
	memset(table_text, 'x', table_bytes);
	wbx_get_stats(w, &stats);
	r = wbx_run(w, &run_options, &run);
	if (r < 0)
		return 2;
	say("durable", stats.durable);
	r = run_threads(w, run, threads);
	(void)wbx_finish(run, 0); /* refused when there is no room for it */
	say("closed", wbx_close(w, CLOSE_MS));
	free(table_text);
	return r;
}
