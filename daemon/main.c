/* wbxd: reads its settings, wires the rooms together, runs the loop. No logic of its own. */
#include "daemon/base/log.h"
#include "daemon/config.h"
#include "daemon/config_users.h"
#include "daemon/flow/batch.h"
#include "daemon/flow/worker.h"
#include "daemon/forward/key.h"
#include "daemon/forward/sender.h"
#include "daemon/ingest/answer.h"
#include "daemon/ingest/ingest.h"
#include "daemon/store/compact.h"
#include "daemon/store/store.h"
#include "daemon/systemd.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Exit codes of sysexits.h that we use, by name; the header has macros only. */
enum {
	EXIT_USAGE = 64,
	EXIT_UNAVAILABLE = 69,
	EXIT_CONFIG = 78
};
enum {
	OVERRIDES_MAX = 64
};

struct arguments {
	const char *config_path; /* NULL: the default, which may be absent */
	const char *dir;
	const char *answer;
	const char *compact;
	bool check_config;
	bool adopt_store;
	bool detach;
	const char *overrides[OVERRIDES_MAX];
	size_t override_count;
};

struct wbxd {
	struct arguments arguments;
	struct config config; /* of the start: any thread may read it */
	struct config live;   /* after the last reload; loop thread */
	struct allow_list allow;
	struct stats stats;
	struct ingest *ingest;
	struct store *store;
	struct worker *worker;
	struct sender *sender;
	struct sender *_Atomic sender_to_wake; /* the store thread's view of it */
	uint64_t watchdog_ms;                  /* systemd's; 0: none */
	uint64_t watchdog_said_ms;
};

static const char default_config_path[] = "/etc/wbx/wbxd.conf";
static const char journal_socket[] = "/run/systemd/journal/socket";

static const char usage[] =
	"wbxd [--config FILE] [--dir DIR] [--section.key=VALUE ...]\n"
	"  keeps what training processes log and brings it to Weights & Biases\n"
	"\n"
	"  --config FILE        settings; default /etc/wbx/wbxd.conf, which may be absent\n"
	"  --dir DIR            sockets, journals and store below DIR: a daemon of one user\n"
	"  --section.key=VALUE  one setting, over file and environment, such as --store.limit=10G\n"
	"  --check-config       reads the settings, says what is wrong, ends\n"
	"  --detach             goes on in the background once it listens\n"
	"  --compact STORE      gives the free pages of a store that no daemon has open back to "
	"the disk\n"
	"  --adopt-store        takes over a store that another machine made\n"
	"  --version, --help    wbxd(8) and wbxd.conf(5) tell more\n";

/* --- settings --- */

static int say_usage(const char *what)
{
	(void)fprintf(stderr, "wbxd: %s\n%s", what, usage);
	return EXIT_USAGE;
}

/* --name=value or --name value. True when arg is that option; *ret_value is its value, or NULL when
 * it is missing. */
static bool takes_value(const char *name, char **argv, int argc, int *at, const char **ret_value)
{
	size_t len = strlen(name);

	if (strncmp(argv[*at], name, len) != 0 || (argv[*at][len] != '\0' && argv[*at][len] != '='))
		return false;
	if (argv[*at][len] == '=')
		*ret_value = argv[*at] + len + 1;
	else
		*ret_value = *at + 1 < argc ? argv[++*at] : NULL;
	return true;
}

/* 0, or the exit code. */
static int take_argument(struct arguments *a, int argc, char **argv, int *at)
{
	const char *arg = argv[*at];
	const char *value = "";

	if (takes_value("--config", argv, argc, at, &value))
		a->config_path = value;
	else if (takes_value("--dir", argv, argc, at, &value))
		a->dir = value;
	else if (takes_value("--answer", argv, argc, at, &value))
		a->answer = value;
	else if (takes_value("--compact", argv, argc, at, &value))
		a->compact = value;
	else if (strcmp(arg, "--check-config") == 0)
		a->check_config = true;
	else if (strcmp(arg, "--adopt-store") == 0)
		a->adopt_store = true;
	else if (strcmp(arg, "--detach") == 0)
		a->detach = true;
	else if (strncmp(arg, "--", 2) == 0 && strchr(arg, '.') != NULL &&
		 a->override_count < OVERRIDES_MAX)
		a->overrides[a->override_count++] = arg + 2;
	else
		return say_usage(arg);
	return value == NULL ? say_usage(arg) : 0;
}

static int read_arguments(struct arguments *a, int argc, char **argv)
{
	for (int at = 1; at < argc; at++) {
		int r;

		if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "--version") == 0) {
			(void)printf("%s", argv[at][2] == 'h' ? usage
							      : "wbxd " WBX_VERSION
								"\n"); /* the exit code says it */
			exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
		}
		r = take_argument(a, argc, argv, &at);
		if (r != 0)
			return r;
	}
	return 0;
}

/* Paths of settings are whole; --dir may be below the working directory. 0, or the exit code. */
static int make_dir_whole(struct arguments *a)
{
	static char whole[CONFIG_TEXT_MAX];
	char here[CONFIG_TEXT_MAX];
	int n;

	if (a->dir == NULL || a->dir[0] == '/')
		return 0;
	n = getcwd(here, sizeof(here)) == NULL
		    ? -1
		    : snprintf(whole, sizeof(whole), "%s/%s", here, a->dir);
	if (n < 0 || (size_t)n >= sizeof(whole)) {
		log_error("main",
			  "dir=%s the working directory has no path, or a long one: give --dir a "
			  "whole one",
			  a->dir);
		return EXIT_USAGE;
	}
	a->dir = whole;
	return 0;
}

static int read_config(const struct arguments *a, struct config *ret,
		       char ret_error[CONFIG_ERROR_MAX])
{
	const char *path = a->config_path != NULL ? a->config_path : default_config_path;
	int r = 0;

	config_defaults(ret, a->dir);
	if (a->config_path != NULL ||
	    a->dir == NULL) { /* a daemon of one user does not read the site's file */
		r = config_read_file(ret, path, ret_error);
		if (r == -ENOENT && a->config_path == NULL)
			r = 0;
	}
	if (r == 0)
		r = config_read_environment(ret, ret_error);
	for (size_t i = 0; r == 0 && i < a->override_count; i++)
		r = config_set(ret, a->overrides[i], ret_error);
	return r;
}

/* Where W&B's trace server is when nobody says it. */
static void find_weave(const struct config *c, char ret[SENDER_TEXT_MAX])
{
	size_t len = strlen(c->base_url);

	if (c->weave_url[0] != '\0') {
		(void)snprintf(ret, SENDER_TEXT_MAX, "%s", c->weave_url); /* same size */
		return;
	}
	while (len > 0 && c->base_url[len - 1] == '/')
		len--;
	if (strncmp(c->base_url, "https://api.wandb.ai", len) == 0)
		(void)snprintf(ret, SENDER_TEXT_MAX, "https://trace.wandb.ai");
	else
		(void)snprintf(ret, SENDER_TEXT_MAX, "%.*s/traces", (int)len,
			       c->base_url); /* of a URL of full length there is no host */
}

static struct sender_settings sender_settings(const struct config *c)
{
	struct sender_settings s = {
		.interval_ms = (uint64_t)c->interval_ms,
		.heartbeat_ms = (uint64_t)c->heartbeat_ms,
		.self_report_ms = (uint64_t)c->self_report_ms,
		.merge_max_us = c->merge_max_ms * 1000,
		.connect_timeout_ms = (uint64_t)c->connect_timeout_ms,
		.stall_timeout_ms = (uint64_t)c->stall_timeout_ms,
		.backoff_max_ms = (uint64_t)c->backoff_max_ms,
		.requests_per_s = (double)c->requests_per_s,
		.bytes_per_s = (double)c->bytes_per_s,
		.body_max = (uint64_t)c->body_max,
		.users = c->users,
		.tables = strcmp(c->tables_artifact, "never") == 0  ? TABLE_ARTIFACTS_NEVER
			  : strcmp(c->tables_artifact, "last") == 0 ? TABLE_ARTIFACTS_LAST
								    : TABLE_ARTIFACTS_ALWAYS,
		.upload_bytes_per_s = (double)c->artifacts_bytes_per_s,
		.sampling = c->sampling,
	};

	(void)send_tables_parse(c->tables_send, &s.send_tables); /* config.c has read both */
	(void)send_hours_parse(c->artifacts_hours, &s.upload_hours);
	_Static_assert(sizeof(s.base_url) == sizeof(c->base_url), "texts fit");
	memcpy(s.base_url, c->base_url, sizeof(s.base_url));
	find_weave(c, s.weave_url);
	memcpy(s.key_file, c->key_file, sizeof(s.key_file));
	memcpy(s.ca_file, c->ca_file, sizeof(s.ca_file));
	memcpy(s.proxy, c->proxy, sizeof(s.proxy));
	return s;
}

static void apply_live_settings(struct wbxd *d)
{
	struct sender_settings sender = sender_settings(&d->live);

	enum log_level level = LOG_LEVEL_INFO;

	(void)log_level_by_name(d->live.log_level, &level); /* config.c knows the names */
	log_set_level(level);
	if (d->ingest != NULL) {
		ingest_set_base_url(d->ingest, d->live.base_url);
		ingest_set_merge_max(d->ingest, d->live.merge_max_ms * 1000);
	}
	if (d->sender != NULL && sender_reload(d->sender, &sender) < 0)
		log_error("config", "no memory; the sender goes on with the settings it had");
}

static void on_reload(void *arg)
{
	struct wbxd *d = arg;
	struct config *fresh = mem_alloc(sizeof(*fresh));
	char error[CONFIG_ERROR_MAX] = "out of memory";
	const char *key;

	systemd_notify("RELOADING=1");
	if (fresh == NULL || read_config(&d->arguments, fresh, error) < 0) {
		log_error("config", "%s; the settings in use stay as they are", error);
	} else {
		key = config_start_change(fresh, &d->config);
		if (key != NULL)
			log_warn("config", "key=%s changes with the next start only", key);
		d->live = *fresh;
		apply_live_settings(d);
		log_info("config", "settings read again");
	}
	(void)mem_free(fresh);
	systemd_notify("READY=1");
}

/* A step of the store that takes so long does not end any more: a disk that is only slow has ended
 * it, and one that hangs is sometimes let go of by a new process. */
static bool store_is_stuck(const struct wbxd *d, uint64_t now_ms)
{
	uint64_t busy_ms = atomic_load(&d->stats.store_busy_ms);

	return busy_ms != 0 && now_ms > busy_ms &&
	       now_ms - busy_ms >= (uint64_t)d->config.store_stuck_ms;
}

/* The loop turns. systemd kills us and starts us again when it hears nothing. */
static void on_tick(void *arg)
{
	struct wbxd *d = arg;
	uint64_t now_ms = clock_mono_ms();

	if (d->watchdog_ms == 0 || now_ms - d->watchdog_said_ms < d->watchdog_ms / 4)
		return;
	if (store_is_stuck(d, now_ms)) {
		log_error("main",
			  "the disk does not answer: the watchdog hears nothing of us any more");
		return;
	}
	d->watchdog_said_ms = now_ms;
	systemd_notify("WATCHDOG=1");
}

/* --- start and stop --- */

static gid_t group_id(const char *name)
{
	const struct group *g = name[0] == '\0' ? NULL : getgrnam(name);

	return g == NULL ? (gid_t)-1 : g->gr_gid;
}

static void on_commit(void *arg)
{
	const struct wbxd *d = arg;
	struct sender *sender = atomic_load(&d->sender_to_wake);

	if (sender != NULL)
		sender_wake(sender);
}

static int start_store(struct wbxd *d)
{
	char error[STORE_ERROR_MAX];
	const struct store_settings settings = {
		.dir = d->config.store_dir,
		.limit_bytes = d->config.store_limit,
		.reserve_bytes = d->config.store_reserve,
		.keep_bytes = d->config.store_keep,
		.keep_us = d->config.store_keep_age_ms * 1000,
		.retention_round_ms = 10000,
		.adopt = d->arguments.adopt_store,
		.stats = &d->stats,
		.to_loop = ingest_box(d->ingest),
		.on_commit = on_commit,
		.on_commit_arg = d,
	};
	int r = store_start(&d->store, &settings, error);

	if (r < 0)
		log_error("main", "%s", error);
	return r;
}

static int on_present(void *arg, const struct present_info *present)
{
	struct wbxd *d = arg;
	struct batch_peer peer = {.uid = present->uid, .producer_id = present->producer_id};

	if (present->producer.len != PRODUCER_BYTES)
		return 0;
	memcpy(peer.producer, present->producer.at, PRODUCER_BYTES);
	ingest_restore_present(d->ingest, &peer, present->run, present->run_id);
	return 0;
}

static int restore_present(struct wbxd *d)
{
	struct reader *reader = NULL;
	int r = reader_open(&reader, d->config.store_dir);

	if (r == 0)
		r = reader_present(reader, on_present, d);
	(void)reader_close(reader);
	if (r < 0)
		log_error("main", "errno=%d the store cannot be read", -r);
	return r;
}

static int start_ingest(struct wbxd *d)
{
	const struct config *c = &d->config;
	const struct ingest_settings settings = {
		.ingest_path = c->socket,
		.control_path = c->control,
		.ingest_fd = systemd_listen_fd("ingest"),
		.control_fd = systemd_listen_fd("ctl"),
		.socket_mode = (mode_t)c->socket_mode,
		.journal_dir = c->journal_dir,
		.spool_dir = c->spool_dir,
		.metrics = c->metrics,
		.metrics_file = c->metrics_file,
		.store_dir = c->store_dir,
		.gone_after_ms = (uint64_t)c->gone_after_ms,
		.idle_exit_ms = (uint64_t)c->idle_exit_ms,
		.own_uid = getuid(),
		.allow = &d->allow,
		.admin_gid = group_id(c->admin_group),
		.limit_bytes = c->store_limit,
		.reserve_bytes = c->store_reserve,
		.user_limit_bytes = c->store_user_limit,
		.base_url = c->base_url,
		.merge_max_us = c->merge_max_ms * 1000,
		.version = WBX_VERSION,
		.stats = &d->stats,
		.on_reload = on_reload,
		.on_tick = on_tick,
		.arg = d,
	};
	const char *why = "";
	int r = config_read_allow(&d->allow, c->allow, &why); /* it could be read a moment ago */

	if (r == 0)
		r = ingest_new(&d->ingest, &settings);

	if (r < 0)
		log_error("main", "errno=%d the loop cannot start", -r);
	return r;
}

static int start_sender(struct wbxd *d)
{
	const struct sender_settings settings = sender_settings(&d->config);
	const struct sender_neighbours neighbours = {
		.store_dir = d->config.store_dir,
		.store_changes = store_changes(d->store),
		.worker = worker_box(d->worker),
		.stats = &d->stats,
		.loop = ingest_box(d->ingest),
	};
	int r = sender_start(&d->sender, &settings, &neighbours);

	if (r < 0)
		log_error("main", "errno=%d the sender cannot start", -r);
	else
		atomic_store(&d->sender_to_wake, d->sender);
	return r;
}

static int listen_now(struct wbxd *d)
{
	const struct ingest_neighbours neighbours = {
		.store_batches = store_batches(d->store),
		.store_parts = store_parts(d->store),
		.store_changes = store_changes(d->store),
		.worker = worker_box(d->worker),
		.sender = sender_box(d->sender),
	};
	char error[256];
	int r = ingest_listen(d->ingest, &neighbours, error);

	if (r < 0)
		log_error("main", "%s", error);
	return r;
}

static int start(struct wbxd *d)
{
	int r = stats_init(&d->stats);

	if (r == 0)
		r = start_ingest(d);
	if (r == 0)
		r = start_store(d);
	if (r == 0)
		r = worker_start(&d->worker, d->config.store_dir);
	if (r == 0)
		r = start_sender(d);
	if (r == 0)
		r = restore_present(d);
	return r == 0 ? listen_now(d) : r;
}

static void stop(struct wbxd *d)
{
	sender_stop(d->sender);
	d->worker = worker_stop(
		d->worker); /* first: the last to close the database writes its log back */
	d->store = store_stop(d->store);
	atomic_store(&d->sender_to_wake, NULL);
	d->sender = sender_free(d->sender); /* the mails it was owed are back */
	d->ingest = ingest_free(d->ingest);
	stats_done(&d->stats);
}

/* Connections are cheap; the default of 1024 files is not enough for a node full of workers. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
		(void)setrlimit(RLIMIT_NOFILE, &limit); /* then fewer connections */
	}
}

static int make_dir(const char *path)
{
	if (path == NULL || mkdir(path, 0700) == 0 || errno == EEXIST)
		return 0;
	(void)fprintf(stderr, "wbxd: %s: %s\n", path, strerror(errno));
	return EXIT_CONFIG;
}

/* The parent of a detached daemon: ends when the child listens (it writes a byte) or has failed (it
 * closes the pipe). */
static int await_child(int ready_fd)
{
	char byte;

	return read(ready_fd, &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_UNAVAILABLE;
}

/* In the child, returns with *ret_ready_fd set; in the parent, ends the process. */
static int detach(int *ret_ready_fd)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return EXIT_UNAVAILABLE;
	pid = fork();
	if (pid < 0)
		return EXIT_UNAVAILABLE;
	if (pid > 0) {
		(void)close(ends[1]); /* the child's end */
		_exit(await_child(ends[0]));
	}
	(void)close(ends[0]); /* the parent's end */
	(void)setsid();       /* fails only for one who has a session already */
	*ret_ready_fd = ends[1];
	return 0;
}

static void say_ready(int ready_fd)
{
	systemd_notify("READY=1");
	if (ready_fd >= 0 && write(ready_fd, "", 1) < 0)
		log_warn("main", "nobody waited for the start");
	if (ready_fd >= 0)
		(void)close(ready_fd); /* a pipe */
}

static int run(struct wbxd *d)
{
	int ready_fd = -1;
	int r;

	(void)signal(SIGPIPE, SIG_IGN); /* cannot fail */
	(void)umask(077);               /* always succeeds */
	log_open(journal_socket);
	raise_file_limit();
	key_take_environment();
	d->live = d->config;
	apply_live_settings(d);
	d->watchdog_ms = systemd_watchdog_ms();
	r = make_dir(d->arguments.dir);
	if (r != 0)
		return r;
	if (d->arguments.detach) {
		r = detach(&ready_fd);
		if (r != 0)
			return r;
	}
	r = start(d);
	if (r == 0) {
		log_info("main", "pid=%d store=%s socket=%s version=" WBX_VERSION " started",
			 (int)getpid(), d->config.store_dir, d->config.socket);
		say_ready(ready_fd);
		ingest_run(d->ingest);
		systemd_notify("STOPPING=1");
	}
	stop(d);
	if (r == 0)
		log_info("main", "stopped");
	return r == 0 ? EXIT_SUCCESS : EXIT_UNAVAILABLE;
}

/* For wbxctl, when no daemon runs. */
static int answer(const struct wbxd *d)
{
	const struct answer_settings settings = {
		.store_dir = d->arguments.answer,
		.base_url = d->config.base_url,
		.version = WBX_VERSION,
		.merge_max_us = d->config.merge_max_ms * 1000,
		.limit_bytes = d->config.store_limit,
		.reserve_bytes = d->config.store_reserve,
	};
	struct reader *reader = NULL;
	int r = reader_open(&reader, d->arguments.answer);

	if (r < 0) {
		(void)fprintf(stderr, "wbxd: the store in %s cannot be read: %s\n",
			      d->arguments.answer, strerror(-r));
		return EXIT_UNAVAILABLE;
	}
	(void)signal(SIGPIPE, SIG_IGN); /* cannot fail */
	r = answer_requests(ANSWER_FD, reader, &settings);
	(void)reader_close(reader);
	return r == 0 ? EXIT_SUCCESS : EXIT_UNAVAILABLE;
}

static int compact(const char *dir)
{
	char error[COMPACT_ERROR_MAX] = "";
	int64_t before = 0;
	int64_t after = 0;
	uint64_t begun_ms = clock_mono_ms();

	(void)umask(077); /* always succeeds */
	if (store_compact(dir, &before, &after, error) < 0) {
		(void)fprintf(stderr, "wbxd: %s\n", error);
		return EXIT_UNAVAILABLE;
	}
	(void)printf("wbx.db had %lld MiB and has %lld MiB; that took %llu ms\n",
		     (long long)(before >> 20), (long long)(after >> 20),
		     (unsigned long long)(clock_mono_ms() - begun_ms));
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static struct wbxd d;
	char error[CONFIG_ERROR_MAX];
	int r = read_arguments(&d.arguments, argc, argv);

	if (r == 0)
		r = make_dir_whole(&d.arguments);
	if (r != 0)
		return r;
	if (d.arguments.compact != NULL)
		return compact(d.arguments.compact);
	if (read_config(&d.arguments, &d.config, error) < 0) {
		(void)fprintf(stderr, "wbxd: %s\n", error);
		if (d.arguments.answer ==
		    NULL) /* status has to tell of a daemon that cannot start */
			return EXIT_CONFIG;
	}
	if (d.arguments.check_config) {
		(void)printf("wbxd: the settings are fine\n"); /* the exit code says it too */
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	return d.arguments.answer != NULL ? answer(&d) : run(&d);
}
