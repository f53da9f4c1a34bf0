/* See ingest.h. One turn of the loop: sockets are read into the open batch, mails of other threads
 * are taken, what is due is posted. */
#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/flow/change.h"
#include "daemon/flow/notice.h"
#include "daemon/ingest/conn.h"
#include "daemon/ingest/control.h"
#include "daemon/ingest/ingest_parts.h"
#include "daemon/ingest/monitor.h"
#include "daemon/ingest/replay.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TICK_MS = 1000,
	STOP_MS = 1000,
	END_CHECK_MS = 2,
	JOURNAL_DIR_MODE = 03733,
};

static const struct {
	const char *name;
	unsigned allowed;
} states[INGEST_STATES] = {
	[INGEST_NEW] = {"new", 1u << INGEST_RUNNING},
	[INGEST_RUNNING] = {"running", 1u << INGEST_STOPPING},
	[INGEST_STOPPING] = {"stopping", 1u << INGEST_CLOSING},
	[INGEST_CLOSING] = {"closing", 0},
};

static void ingest_move(struct ingest *in, enum ingest_state to)
{
	assert(states[in->state].allowed & 1u << to);
	log_debug("ingest", "from=%s to=%s", states[in->state].name, states[to].name);
	in->state = to;
}

/* --- what the room's other files ask --- */

struct stats *ingest_stats(struct ingest *in)
{
	return in->settings.stats;
}

struct mailbox *ingest_box(struct ingest *in)
{
	return &in->box;
}

/* Above the limit bulk is refused; a quarter above it nothing is read. */
enum space ingest_space_of(const struct ingest *in, uint32_t uid)
{
	enum space space = ingest_space(in);
	uint64_t limit = (uint64_t)in->settings.user_limit_bytes;

	for (size_t i = 0; i < in->over_count; i++) {
		if (in->over[i].uid != uid)
			continue;
		if (in->over[i].bytes - limit >= limit / 4)
			return SPACE_NONE;
		return space == SPACE_FINE ? SPACE_TIGHT : space;
	}
	return space;
}

const struct allow_list *ingest_allow_list(const struct ingest *in)
{
	return in->settings.allow;
}

enum space ingest_space(const struct ingest *in)
{
	return (enum space)atomic_load_explicit(&in->settings.stats->space, memory_order_relaxed);
}

/* --- mails of other threads --- */

static void take_notice(struct ingest *in, struct notice *n)
{
	if (n->frame.len > 0)
		presence_tell(&in->presence, n->run, buf_span(&n->frame));
	if (n->is_asked)
		ingest_notice_came(in, n->run);
	(void)notice_free(n);
}

static void take_mail(struct ingest *in, struct mail *mail)
{
	struct part *part;

	switch (mail->type) {
	case MAIL_BATCH:
		batcher_take_back(&in->batcher, container_of(mail, struct batch, mail),
				  &in->presence);
		control_on_commit(in->control);
		return;
	case MAIL_PART:
	case MAIL_FORGET:
		part = container_of(mail, struct part, mail);
		in->parts_bytes -= part->data.len;
		in->parts_out--;
		session_part_back(part);
		return;
	case MAIL_SCAN:
		replay_on_scan(in->replay, container_of(mail, struct scan_job, job.mail));
		return;
	case MAIL_REPLAY:
		replay_on_job(in->replay, container_of(mail, struct replay_job, job.mail));
		return;
	case MAIL_QUERY:
		control_on_query(in->control, container_of(mail, struct query, job.mail));
		return;
	case MAIL_ORDER:
		control_on_order(in->control, container_of(mail, struct order, mail));
		return;
	case MAIL_CHANGES:
		control_on_changes(in->control, container_of(mail, struct changes, mail));
		return;
	case MAIL_EXPOSITION:
		monitor_on_exposition(in->monitor, container_of(mail, struct exposition, job.mail));
		return;
	case MAIL_NOTICE: take_notice(in, container_of(mail, struct notice, mail)); return;
	default: assert(false && "a mail that nobody expects"); return;
	}
}

static void try_to_end(struct ingest *in);

static void on_wake(uv_async_t *async)
{
	struct ingest *in = async->data;
	struct mail *mail;

	while ((mail = mailbox_take(&in->box)) != NULL) {
		take_mail(in, mail);
		in->resume_held = true;
	}
	if (in->state == INGEST_RUNNING)
		replay_tick(in->replay, clock_mono_ms());
	try_to_end(in);
}

static void on_box_post(void *data)
{
	struct ingest *in = data;

	(void)uv_async_send(&in->wake); /* fails only for closed handles, and the box outlives
					   nobody who posts */
}

/* --- timers --- */

static void on_commit_time(uv_timer_t *timer);

static void pump(struct ingest *in)
{
	uint64_t again_ms;
	bool has_posted;

	do {
		unsigned before = in->batcher.at_store;

		if (in->resume_held && in->held != NULL && in->state == INGEST_RUNNING)
			ingest_resume_held(in);
		again_ms = batcher_pump(&in->batcher, clock_mono_ms());
		/* there is room in the next one for those who had their share of this one */
		has_posted = in->batcher.at_store > before;
		in->resume_held |= has_posted;
	} while (has_posted && in->held != NULL);
	if (again_ms == UINT64_MAX)
		(void)uv_timer_stop(&in->commit_timer); /* always 0 */
	else if (!uv_is_active((const uv_handle_t *)&in->commit_timer))
		(void)uv_timer_start(&in->commit_timer, on_commit_time,
				     again_ms == 0 ? 1 : again_ms, 0); /* always 0 */
}

static void on_commit_time(uv_timer_t *timer)
{
	pump(timer->data);
}

static void on_after_io(uv_check_t *check)
{
	struct ingest *in = check->data;

	atomic_store_explicit(&in->settings.stats->loop_beat_ms, clock_mono_ms(),
			      memory_order_relaxed);
	pump(in);
}

/* True when a daemon of one user has had nothing to do for long enough. */
static bool is_idle_for_good(struct ingest *in, uint64_t now_ms)
{
	const struct stats *s = in->settings.stats;

	if (in->settings.idle_exit_ms == 0)
		return false;
	if (stats_get(s, COUNT_CONNECTIONS) > 0 || control_clients(in->control) > 0 ||
	    atomic_load(&s->backlog) > 0 || !batcher_is_idle(&in->batcher) ||
	    !replay_is_idle(in->replay))
		in->busy_ms = now_ms;
	return now_ms - in->busy_ms >= in->settings.idle_exit_ms;
}

/* Who has more waiting than one user may. */
static void look_at_users(struct ingest *in)
{
	uint64_t limit = (uint64_t)in->settings.user_limit_bytes;
	size_t before = in->over_count;

	if (limit == 0)
		return;
	in->over_count = stats_users_over(in->settings.stats, limit, in->over, OVER_MAX);
	for (size_t i = before; i < in->over_count; i++)
		log_warn("ingest",
			 "uid=%u bytes=%llu more waits than store.user_limit lets one user have: "
			 "tables, files and traces of this user are refused",
			 in->over[i].uid, (unsigned long long)in->over[i].bytes);
}

static void on_tick(uv_timer_t *timer)
{
	struct ingest *in = timer->data;
	uint64_t now_ms = clock_mono_ms();

	for (struct conn *c = in->conns; c != NULL;) {
		struct conn *next = conn_next(c);

		conn_tick(c, now_ms);
		c = next;
	}
	if (in->state != INGEST_RUNNING)
		return;
	fault_point("loop.tick");
	if (in->settings.on_tick != NULL)
		in->settings.on_tick(in->settings.arg);
	if (ingest_space(in) == SPACE_FINE && stats_get_refusing(in->settings.stats) != 0)
		stats_set_refusing(in->settings.stats, 0);
	replay_tick(in->replay, now_ms);
	presence_tick(&in->presence, now_ms, replay_seen_ms(in->replay));
	monitor_tick(in->monitor, now_ms);
	look_at_users(in);
	in->resume_held = true; /* there may be room on the disk again */
	pump(in);
	if (is_idle_for_good(in, now_ms)) {
		log_info("ingest", "idle for %llu s with nothing waiting: ending",
			 (unsigned long long)(in->settings.idle_exit_ms / 1000));
		ingest_stop(in);
	}
}

/* --- start --- */

static void on_ingest_connection(struct listener *l)
{
	struct ingest *in = l->data;
	int r = conn_accept(in, l);

	if (r < 0)
		log_warn("ingest", "errno=%d a client was sent away", -r);
}

static void on_control_connection(struct listener *l)
{
	struct ingest *in = l->data;

	control_accept(in->control, l);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct ingest *in = handle->data;

	if (number == SIGHUP) {
		in->settings.on_reload(in->settings.arg);
		return;
	}
	log_info("ingest", "signal=%d stopping", number);
	ingest_stop(in);
}

static int start_handles(struct ingest *in)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
	int r = uv_async_init(&in->loop, &in->wake, on_wake);

	if (r < 0)
		return r;
	in->wake.data = in;
	(void)uv_check_init(&in->loop, &in->after_io); /* this and the timers: always 0 */
	in->after_io.data = in;
	(void)uv_timer_init(&in->loop, &in->commit_timer);
	in->commit_timer.data = in;
	(void)uv_timer_init(&in->loop, &in->tick_timer);
	in->tick_timer.data = in;
	(void)uv_timer_init(&in->loop, &in->stop_timer);
	in->stop_timer.data = in;
	for (size_t i = 0; i < array_len(numbers); i++) {
		r = uv_signal_init(&in->loop, &in->signals[i]);
		in->signals[i].data = in;
		if (r == 0)
			r = uv_signal_start(&in->signals[i], on_signal, numbers[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int ingest_new(struct ingest **ret, const struct ingest_settings *settings)
{
	struct ingest *in = mem_zalloc(sizeof(*in));
	int r;

	if (in == NULL)
		return -ENOMEM;
	in->settings = *settings;
	in->held_end = &in->held;
	ingest_set_base_url(in, settings->base_url);
	r = uv_loop_init(&in->loop);
	if (r == 0)
		r = mailbox_init(&in->box, SIZE_MAX, on_box_post, in);
	if (r == 0)
		r = map_init(&in->sessions);
	if (r == 0)
		r = map_init(&in->uids);
	if (r == 0)
		r = presence_init(&in->presence, in, settings->gone_after_ms);
	if (r == 0)
		r = start_handles(in);
	if (r < 0) {
		(void)mem_free(in);
		return r;
	}
	*ret = in;
	return 0;
}

static void fill_facts(void *arg, struct query_facts *ret)
{
	struct ingest *in = arg;

	*ret = (struct query_facts){
		.version = in->settings.version,
		.store_dir = in->settings.store_dir,
		.limit_bytes = in->settings.limit_bytes,
		.reserve_bytes = in->settings.reserve_bytes,
		.user_limit_bytes = in->settings.user_limit_bytes,
		.merge_max_us = in->settings.merge_max_us,
		.stats = in->settings.stats,
		.pid = (int)getpid(),
	};
	memcpy(ret->base_url, in->base_url, sizeof(ret->base_url));
	replay_sums(in->replay, &ret->left);
}

/* Anybody may put a file in, nobody but the daemon may list them, and each may remove its own only.
 */
static int make_shared_dir(const char *path, char ret_error[256])
{
	if ((mkdir(path, 0700) < 0 && errno != EEXIST) || chmod(path, JOURNAL_DIR_MODE) < 0) {
		struct stat st;

		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode) && access(path, W_OK | X_OK) == 0)
			return 0; /* made for us by somebody else (tmpfiles.d) */
		(void)snprintf(ret_error, 256, "directory %s: %s", path, strerror(errno));
		return -errno;
	}
	return 0;
}

static int open_rooms(struct ingest *in)
{
	const struct control_settings control = {
		.own_uid = in->settings.own_uid,
		.admin_gid = in->settings.admin_gid,
		.worker = in->neighbours.worker,
		.sender = in->neighbours.sender,
		.store_changes = in->neighbours.store_changes,
		.replies = &in->box,
		.fill_facts = fill_facts,
		.arg = in,
	};

	batcher_init(&in->batcher, in->neighbours.store_batches, in->settings.stats);
	in->control = control_new(&in->loop, &control);
	in->replay = replay_new(in, &in->presence, in->neighbours.worker, in->settings.journal_dir,
				in->settings.spool_dir);
	return in->control == NULL || in->replay == NULL ? -ENOMEM : 0;
}

static int open_monitor(struct ingest *in, char ret_error[256])
{
	const struct monitor_settings settings = {
		.listen = in->settings.metrics,
		.file = in->settings.metrics_file,
		.worker = in->neighbours.worker,
		.replies = &in->box,
		.fill_facts = fill_facts,
		.arg = in,
	};

	if (settings.listen[0] == '\0' && settings.file[0] == '\0')
		return 0;
	return monitor_new(&in->monitor, &in->loop, &settings, ret_error);
}

int ingest_listen(struct ingest *in, const struct ingest_neighbours *neighbours,
		  char ret_error[256])
{
	int r;

	in->neighbours = *neighbours;
	r = open_rooms(in);
	if (r < 0) {
		(void)snprintf(ret_error, 256, "out of memory");
		return r;
	}
	r = make_shared_dir(in->settings.journal_dir, ret_error);
	if (r == 0)
		r = make_shared_dir(in->settings.spool_dir, ret_error);
	in->ingest_listener.on_connection = on_ingest_connection;
	in->ingest_listener.data = in;
	in->control_listener.on_connection = on_control_connection;
	in->control_listener.data = in;
	if (r == 0)
		r = listener_open(&in->control_listener, &in->loop, in->settings.control_fd,
				  in->settings.control_path, in->settings.socket_mode, ret_error);
	if (r == 0)
		r = listener_open(&in->ingest_listener, &in->loop, in->settings.ingest_fd,
				  in->settings.ingest_path, in->settings.socket_mode, ret_error);
	return r == 0 ? open_monitor(in, ret_error) : r;
}

void ingest_set_merge_max(struct ingest *in, int64_t merge_max_us)
{
	in->settings.merge_max_us = merge_max_us;
}

void ingest_set_base_url(struct ingest *in, const char *base_url)
{
	(void)snprintf(in->base_url, sizeof(in->base_url), "%s", base_url); /* for display */
}

void ingest_restore_present(struct ingest *in, const struct batch_peer *peer, struct span run,
			    int64_t run_id)
{
	presence_joined(&in->presence, peer, run, run_id);
	presence_disconnected(&in->presence, peer->uid, peer->producer, clock_mono_ms());
}

void ingest_run(struct ingest *in)
{
	ingest_move(in, INGEST_RUNNING);
	in->busy_ms = clock_mono_ms();
	(void)uv_check_start(&in->after_io, on_after_io); /* these: always 0 with a callback */
	(void)uv_timer_start(&in->tick_timer, on_tick, TICK_MS, TICK_MS);
	on_tick(&in->tick_timer);
	(void)uv_run(&in->loop, UV_RUN_DEFAULT); /* ends when every handle is closed */
}

/* --- stop: read no more, commit what is there, send the acks, close, and wait for what other
 * threads still hold --- */

static bool nothing_is_out(const struct ingest *in)
{
	return in->batcher.at_store == 0 && in->parts_out == 0 && in->notices_out == 0 &&
	       replay_is_idle(in->replay) && control_is_idle(in->control) &&
	       monitor_is_idle(in->monitor);
}

static void on_end_time(uv_timer_t *timer)
{
	struct ingest *in = timer->data;

	if (!nothing_is_out(in))
		return;
	uv_close((uv_handle_t *)&in->stop_timer, NULL);
	uv_close((uv_handle_t *)&in->wake, NULL);
}

static void close_handles(struct ingest *in)
{
	ingest_move(in, INGEST_CLOSING);
	while (in->conns != NULL)
		conn_close(in->conns);
	control_stop(in->control);
	monitor_stop(in->monitor);
	uv_close((uv_handle_t *)&in->after_io, NULL);
	uv_close((uv_handle_t *)&in->commit_timer, NULL);
	uv_close((uv_handle_t *)&in->tick_timer, NULL);
	for (size_t i = 0; i < array_len(in->signals); i++)
		uv_close((uv_handle_t *)&in->signals[i], NULL);
	(void)uv_timer_start(&in->stop_timer, on_end_time, 0,
			     END_CHECK_MS); /* always 0 with a callback */
}

static void try_to_end(struct ingest *in)
{
	if (in->state == INGEST_STOPPING && batcher_is_idle(&in->batcher) &&
	    replay_is_idle(in->replay))
		close_handles(in);
}

static void on_stop_time(uv_timer_t *timer)
{
	struct ingest *in = timer->data;

	if (in->state == INGEST_STOPPING)
		close_handles(in);
}

void ingest_stop(struct ingest *in)
{
	if (in->state != INGEST_RUNNING)
		return;
	ingest_move(in, INGEST_STOPPING);
	listener_close(&in->ingest_listener);
	listener_close(&in->control_listener);
	replay_stop(in->replay);
	for (struct conn *c = in->conns; c != NULL; c = conn_next(c))
		conn_stop_reading(c);
	batcher_hurry(&in->batcher);
	pump(in);
	(void)uv_timer_start(&in->stop_timer, on_stop_time, STOP_MS,
			     0); /* always 0 with a callback */
	try_to_end(in);
}

static void on_walk_close(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

/* What the sender said when nobody listened any more. */
static void drop_notices(struct ingest *in)
{
	struct mail *mail;

	while ((mail = mailbox_take(&in->box)) != NULL) {
		if (mail->type == MAIL_NOTICE)
			(void)notice_free(container_of(mail, struct notice, mail));
	}
}

struct ingest *ingest_free(struct ingest *in)
{
	if (in == NULL)
		return NULL;
	if (in->state == INGEST_NEW) { /* never ran */
		uv_walk(&in->loop, on_walk_close, NULL);
		(void)uv_run(&in->loop, UV_RUN_DEFAULT); /* the close callbacks */
	}
	(void)uv_loop_close(&in->loop); /* nothing is left in it */
	in->replay = replay_free(in->replay);
	in->monitor = monitor_free(in->monitor);
	in->control = control_free(in->control);
	presence_done(&in->presence);
	batcher_done(&in->batcher);
	loop_forget_uids(in);
	map_done(&in->uids);
	map_done(&in->sessions);
	drop_notices(in);
	mailbox_done(&in->box);
	return mem_free(in);
}
