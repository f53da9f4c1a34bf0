/* See wbx.h: the handle's life, flush, and what a fork does to it. */
#include "client/lib/emit.h"
#include "client/lib/grow.h"
#include "client/lib/link.h"
#include "client/lib/news.h"
#include "client/lib/state.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/rng.h"
#include "proto/pack.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	JOURNAL_BYTES = 4 << 20,
	JOURNAL_BYTES_MIN = RECORD_MAX + (64 << 10), /* the largest frame fits */
	HEAP_BYTES = 16 << 20,
	SCRATCH_BYTES = RECORD_MAX + 4096,
};
static const uint64_t SPOOL_BYTES = (uint64_t)8 << 30;

/* Every open handle of the process, for fork(). */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct wbx *all;
static pthread_once_t at_fork_once = PTHREAD_ONCE_INIT;

void state_say(struct wbx *w, int level, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args); /* a cut sentence still helps */
	va_end(args);
	if (w->options.on_message != NULL)
		w->options.on_message(w->options.arg, level, text);
	else if (level == 0 || !w->is_silent)
		(void)fprintf(stderr, "wbx: %s\n", text); /* nowhere else to say it */
}

/* --- fork --- */

/* All locks are held across fork(), so the child finds everything whole. */
static void before_fork(void)
{
	(void)pthread_mutex_lock(&all_lock);
	for (struct wbx *w = all; w != NULL; w = w->next) {
		(void)pthread_mutex_lock(&w->blobs);
		(void)pthread_mutex_lock(&w->io);
		(void)pthread_mutex_lock(&w->lock);
	}
}

static void after_fork_in_parent(void)
{
	for (struct wbx *w = all; w != NULL; w = w->next) {
		(void)pthread_mutex_unlock(&w->lock);
		(void)pthread_mutex_unlock(&w->io);
		(void)pthread_mutex_unlock(&w->blobs);
	}
	(void)pthread_mutex_unlock(&all_lock);
}

/* What was inherited is the parent's: let go of it without a trace. The first call makes the child
 * a producer of its own. */
static void after_fork_in_child(void)
{
	for (struct wbx *w = all; w != NULL; w = w->next) {
		keep_abandon(w->keep);
		link_abandon(w);
		w->pid = 0; /* state_after_fork() begins anew */
		(void)pthread_mutex_unlock(&w->lock);
		(void)pthread_mutex_unlock(&w->io);
		(void)pthread_mutex_unlock(&w->blobs);
	}
	(void)pthread_mutex_unlock(&all_lock);
}

static void register_at_fork(void)
{
	(void)pthread_atfork(before_fork, after_fork_in_parent,
			     after_fork_in_child); /* no memory: forks then are not supported */
}

/* --- a producer begins --- */

static void pack_job(struct pack *p)
{
	static const char *const names[] = {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID",
					    "SLURM_NODEID", "TORCHELASTIC_RUN_ID"};
	size_t count = 0;

	for (size_t i = 0; i < array_len(names); i++)
		count += getenv(names[i]) != NULL;
	pack_text(p, "job");
	pack_map(p, count);
	for (size_t i = 0; i < array_len(names); i++) {
		if (getenv(names[i]) != NULL)
			pack_pair_text(p, names[i], getenv(names[i]));
	}
}

static int pack_hello(struct wbx *w)
{
	char host[256] = "";
	struct pack p;
	bool ranked = w->options.world > 0;

	(void)gethostname(host, sizeof(host) - 1); /* an empty name is one too */
	buf_clear(&w->hello);
	pack_init(&p, &w->hello);
	pack_array(&p, 3);
	pack_text(&p, "hello");
	pack_uint(&p, 0);
	pack_map(&p, ranked ? 8 : 6);
	pack_pair_uint(&p, "v", PROTO_VERSION);
	pack_pair_bin(&p, "producer", (struct span){.at = w->producer, .len = PRODUCER_BYTES});
	pack_pair_text(&p, "host", host);
	pack_pair_uint(&p, "pid", (uint64_t)getpid());
	pack_pair_text(&p, "sdk", "libwbx " WBX_VERSION);
	pack_job(&p);
	if (ranked) {
		pack_pair_uint(&p, "rank", (uint64_t)w->options.rank);
		pack_pair_uint(&p, "world", (uint64_t)w->options.world);
	}
	return w->hello.error;
}

/* A new name, a new journal, a new thread. */
static int begin_producer(struct wbx *w)
{
	struct keep_settings settings = {
		.journal_dir = w->place.journal_dir,
		.spool_dir = w->place.spool_dir,
		.journal_bytes = w->options.journal_bytes,
		.spool_max_bytes = w->options.spool_max_bytes,
		.heap_bytes = HEAP_BYTES,
	};
	int r = rng_bytes(w->producer, PRODUCER_BYTES);

	if (r == 0)
		r = pack_hello(w);
	if (r < 0)
		return r;
	memcpy(settings.producer, w->producer, PRODUCER_BYTES);
	settings.hello = buf_span(&w->hello);
	r = keep_open(&w->keep, &settings);
	if (r < 0)
		return r;
	w->pid = getpid();
	w->last_seq = 0;
	w->last_blob = 0;
	atomic_store(&w->durable_seq, 0);
	if (!keep_is_durable(w->keep) && !w->warned_heap && w->place.socket[0] != '\0') {
		w->warned_heap = true;
		state_say(w, 1,
			  "no journal in %s: what the daemon has not acknowledged is lost when "
			  "this process dies",
			  w->place.journal_dir);
	}
	r = link_start(w);
	if (r < 0)
		w->keep = keep_close(w->keep);
	return r;
}

static int init_acked_cond(struct wbx *w)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r != 0)
		return -r;
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* a valid clock */
	r = pthread_cond_init(&w->acked_cond, &attr);
	(void)pthread_condattr_destroy(&attr); /* memory only */
	return -r;
}

int state_after_fork(struct wbx *w)
{
	int r;

	if (w->pid != 0)
		return 0;
	w->keep = keep_free(w->keep); /* its files were let go of in the child's first moment */
	w->generation++;
	r = init_acked_cond(w); /* the parent's waiters are not here */
	if (r == 0)
		r = begin_producer(w);
	if (r < 0)
		w->pid = 0;
	return r;
}

/* --- life --- */

static int take_options(struct wbx *w, const struct wbx_options *o)
{
	if (o != NULL)
		w->options = *o;
	if (w->options.journal_bytes == 0)
		w->options.journal_bytes = JOURNAL_BYTES;
	if (w->options.journal_bytes < JOURNAL_BYTES_MIN)
		w->options.journal_bytes = JOURNAL_BYTES_MIN;
	w->options.journal_bytes = (w->options.journal_bytes + 4095) & ~(size_t)4095;
	if (w->options.spool_max_bytes == 0)
		w->options.spool_max_bytes = SPOOL_BYTES;
	if (w->options.socket != NULL)
		w->socket_option = mem_strdup(w->options.socket);
	if (w->options.daemon != NULL)
		w->daemon_option = mem_strdup(w->options.daemon);
	if ((w->options.socket != NULL && w->socket_option == NULL) ||
	    (w->options.daemon != NULL && w->daemon_option == NULL))
		return -ENOMEM;
	w->options.socket = w->socket_option;
	w->options.daemon = w->daemon_option;
	return 0;
}

static int init_locks(struct wbx *w)
{
	int r = pthread_mutex_init(&w->lock, NULL);

	if (r == 0)
		r = pthread_mutex_init(&w->io, NULL);
	if (r == 0)
		r = pthread_mutex_init(&w->blobs, NULL);
	return r == 0 ? init_acked_cond(w) : -r;
}

static void free_runs(struct wbx *w)
{
	while (w->runs != NULL) {
		struct wbx_run *gone = w->runs;

		w->runs = gone->next;
		(void)mem_free(gone->id);
		(void)mem_free(gone->project);
		(void)mem_free(gone->entity);
		(void)mem_free(gone->label);
		(void)mem_free(gone->token);
		gone->news = news_free(gone->news);
		gone->grow = grow_free(gone->grow);
		(void)mem_free(gone);
	}
}

static struct wbx *wbx_free(struct wbx *w)
{
	free_runs(w);
	w->keep = keep_close(w->keep);
	buf_done(&w->scratch);
	buf_done(&w->hello);
	(void)mem_free(w->socket_option);
	(void)mem_free(w->daemon_option);
	(void)pthread_cond_destroy(&w->acked_cond); /* nobody waits any more */
	(void)pthread_mutex_destroy(&w->lock);
	(void)pthread_mutex_destroy(&w->io);
	(void)pthread_mutex_destroy(&w->blobs);
	return mem_free(w);
}

static void unlist(struct wbx *w)
{
	struct wbx **at = &all;

	(void)pthread_mutex_lock(&all_lock);
	while (*at != NULL && *at != w)
		at = &(*at)->next;
	if (*at == w)
		*at = w->next;
	(void)pthread_mutex_unlock(&all_lock);
}

/* A fork between the first file and the listing would leave the journal's lock to the child. */
static int begin_listed(struct wbx *w)
{
	int r;

	(void)pthread_once(&at_fork_once, register_at_fork); /* cannot fail */
	(void)pthread_mutex_lock(&all_lock);
	w->next = all;
	all = w;
	(void)pthread_mutex_lock(&w->lock); /* a fork waits for it */
	(void)pthread_mutex_unlock(&all_lock);
	r = begin_producer(w);
	(void)pthread_mutex_unlock(&w->lock);
	if (r < 0)
		unlist(w);
	return r;
}

/* Below /tmp another user may have made the directory first: then nothing in it is used. */
static void make_place(struct wbx *w)
{
	const char *dir = "";
	int r = place_make(&w->place, &dir);

	if (r == 0)
		return;
	state_say(
		w, 0,
		"%s cannot be used (%s): no daemon gets what is logged; it stays in memory and is "
		"lost when this process ends",
		dir, r == -EPERM ? "it is not this user's alone" : strerror(-r));
	memset(&w->place, 0, sizeof(w->place));
}

static bool is_yes(const char *value)
{
	return value != NULL && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

int wbx_open(struct wbx **ret, const struct wbx_options *options)
{
	struct wbx *w;
	int r;

	if (ret == NULL)
		return -EINVAL;
	w = mem_zalloc(sizeof(*w));
	if (w == NULL)
		return -ENOMEM;
	w->link.fd = w->link.wake_fd = -1;
	w->is_silent = is_yes(getenv("WANDB_SILENT"));
	buf_init(&w->scratch, SCRATCH_BYTES);
	buf_init(&w->hello, JOURNAL_HELLO_MAX);
	r = init_locks(w);
	if (r == 0)
		r = take_options(w, options);
	if (r == 0)
		r = place_find(&w->place, w->options.socket);
	if (r == 0) {
		make_place(w);
		r = begin_listed(w);
	}
	if (r < 0) {
		(void)wbx_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

static void deadline(struct timespec *ret, int timeout_ms)
{
	(void)clock_gettime(CLOCK_MONOTONIC, ret); /* cannot fail */
	ret->tv_sec += timeout_ms / 1000;
	ret->tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (ret->tv_nsec >= 1000000000) {
		ret->tv_sec++;
		ret->tv_nsec -= 1000000000;
	}
}

/* lock held. */
static int await_seq(struct wbx *w, uint64_t seq, int timeout_ms)
{
	struct timespec until;
	int r = 0;

	deadline(&until, timeout_ms < 0 ? 0 : timeout_ms);
	while (atomic_load(&w->durable_seq) < seq && r == 0)
		r = pthread_cond_timedwait(&w->acked_cond, &w->lock, &until);
	return atomic_load(&w->durable_seq) >= seq ? 0 : -ETIMEDOUT;
}

int wbx_flush(struct wbx *w, int timeout_ms)
{
	uint64_t seq = 0;
	bool idle; /* nothing to wait for, and nothing to leave behind in the journal */
	int r;

	if (w == NULL)
		return -EINVAL;
	(void)pthread_mutex_lock(&w->lock);
	r = state_after_fork(w);
	if (r == 0 && w->closed)
		r = -ESHUTDOWN;
	idle = r == 0 && atomic_load(&w->durable_seq) >= w->last_seq;
	if (r == 0 && !idle)
		r = emit_flush(w, 0, &seq);
	(void)pthread_mutex_unlock(&w->lock);
	if (r < 0 || idle)
		return r;
	link_push(w);
	(void)pthread_mutex_lock(&w->lock);
	r = await_seq(w, seq, timeout_ms);
	(void)pthread_mutex_unlock(&w->lock);
	return r;
}

int wbx_close(struct wbx *w, int timeout_ms)
{
	int r;

	if (w == NULL)
		return 0;
	r = w->pid == 0 ? 0 : wbx_flush(w, timeout_ms); /* a forked child that never used it has
							   nothing to wait for */
	(void)pthread_mutex_lock(&w->lock);
	w->closed = true;
	(void)pthread_mutex_unlock(&w->lock);
	unlist(w);
	link_stop(w);
	(void)wbx_free(w);
	return r == -ETIMEDOUT ? r : 0;
}

void wbx_get_stats(struct wbx *w, struct wbx_stats *ret)
{
	(void)pthread_mutex_lock(&w->lock);
	*ret = (struct wbx_stats){
		.records = w->records,
		.acknowledged_seq = atomic_load(&w->durable_seq),
		.last_seq = w->last_seq,
		.given_up = w->given_up,
		.rejected = w->rejected,
		.waiting_bytes = w->pid == 0 ? 0 : keep_waiting_bytes(w->keep),
		.reconnects = w->reconnects,
		.connected = w->link.state == LINK_OPEN,
		.durable = w->pid != 0 && keep_is_durable(w->keep),
	};
	(void)pthread_mutex_unlock(&w->lock);
}

const char *wbx_socket(const struct wbx *w)
{
	return w->place.socket;
}
