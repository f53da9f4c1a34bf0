/* See spawn.h. */
#include "client/lib/spawn.h"

#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	LOCK_TRIES = 200,
	LOCK_WAIT_MS = 50,
	FIRST_FREE_FD = 3
};

static bool is_there(const char *path)
{
	return access(path, X_OK) == 0;
}

/* The first wbxd in PATH, or where packages put it. True and the path in ret. */
static bool find_daemon(const struct wbx *w, char ret[PLACE_PATH_MAX])
{
	const char *path = getenv("PATH");
	const char *chosen = w->options.daemon;

	if (chosen != NULL) {
		(void)snprintf(ret, PLACE_PATH_MAX, "%s", chosen); /* a cut path is not there */
		return chosen[0] != '\0' && is_there(ret);
	}
	while (path != NULL && *path != '\0') {
		size_t len = strcspn(path, ":");

		(void)snprintf(ret, PLACE_PATH_MAX, "%.*s/wbxd", (int)len, path); /* as above */
		if (len > 0 && is_there(ret))
			return true;
		path += len + (path[len] == ':');
	}
	(void)snprintf(ret, PLACE_PATH_MAX, "/usr/sbin/wbxd");
	if (is_there(ret))
		return true;
	(void)snprintf(ret, PLACE_PATH_MAX, "/usr/local/sbin/wbxd");
	return is_there(ret);
}

static bool answers(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes;

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return false;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path); /* fits */
	yes = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
	(void)close(fd); /* only asked */
	return yes;
}

/* Held while a daemon is being started, so that the processes of one job start one. The fd, or
 * -errno. */
static int take_lock(const struct place *p)
{
	char path[PLACE_PATH_MAX + 16];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/spawn.lock", p->runtime_dir); /* fits */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		(void)poll(NULL, 0, LOCK_WAIT_MS); /* the one who has it is starting a daemon */
		if (answers(p->socket))
			break;
	}
	(void)close(fd); /* an empty file */
	return -EAGAIN;
}

static int prepare(posix_spawnattr_t *attr, posix_spawn_file_actions_t *actions,
		   const struct place *p)
{
	char log[PLACE_PATH_MAX + 16];
	sigset_t none;
	sigset_t all;
	int r;

	(void)snprintf(log, sizeof(log), "%s/wbxd.log", p->state_dir); /* fits */
	(void)sigemptyset(&none);                                      /* cannot fail */
	(void)sigfillset(&all);
	r = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(actions, 2, log, O_WRONLY | O_CREAT | O_APPEND,
						     0600);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(
			actions, FIRST_FREE_FD); /* the trainer's files are not ours to keep open */
	if (r == 0)
		r = posix_spawnattr_setsigmask(attr, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(attr, &all);
	if (r == 0)
		r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
							   POSIX_SPAWN_SETSID);
	return r;
}

/* `wbxd --detach` returns when its child listens (0) or could not (not 0), and the child is
 * nobody's. */
static int run_daemon(const struct place *p, char *daemon)
{
	char dir[PLACE_PATH_MAX + 16];
	char socket_arg[PLACE_PATH_MAX + 32];
	char control_arg[PLACE_PATH_MAX + 32];
	char journal_arg[PLACE_PATH_MAX + 32];
	char idle_arg[] = "--daemon.idle_exit=10m";
	char detach_arg[] = "--detach";
	char *argv[] = {daemon,      detach_arg,  dir,      socket_arg,
			control_arg, journal_arg, idle_arg, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int status = 0;
	pid_t pid;
	int r;

	(void)snprintf(dir, sizeof(dir), "--dir=%s", p->state_dir); /* these fit */
	(void)snprintf(socket_arg, sizeof(socket_arg), "--daemon.socket=%s", p->socket);
	(void)snprintf(control_arg, sizeof(control_arg), "--daemon.control=%s", p->control);
	(void)snprintf(journal_arg, sizeof(journal_arg), "--daemon.journal_dir=%s", p->journal_dir);
	r = posix_spawn_file_actions_init(&actions);
	if (r != 0)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r == 0) {
		r = prepare(&attr, &actions, p);
		if (r == 0)
			r = posix_spawn(&pid, daemon, &actions, &attr, argv, environ);
		(void)posix_spawnattr_destroy(&attr); /* memory only */
	}
	(void)posix_spawn_file_actions_destroy(&actions); /* memory only */
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return answers(p->socket) ? 0 : -errno; /* a trainer that reaps all children
								   has taken it */
	}
	return status == 0 ? 0 : -EIO;
}

void spawn_daemon(struct wbx *w)
{
	char daemon[PLACE_PATH_MAX];
	int lock;
	int r;

	if (!find_daemon(w, daemon)) {
		if (w->options.daemon == NULL || w->options.daemon[0] != '\0')
			state_say(w, 1,
				  "no wbxd is running or installed; records are kept in %s and %s "
				  "until one takes them",
				  w->place.journal_dir, w->place.spool_dir);
		return;
	}
	lock = take_lock(&w->place);
	if (lock < 0)
		return; /* another process has started one, or says why it could not */
	r = answers(w->place.socket) ? 0 : run_daemon(&w->place, daemon);
	(void)close(lock); /* an empty file */
	if (r < 0)
		state_say(w, 1,
			  "%s could not be started (%s/wbxd.log says why); records are kept until "
			  "a daemon takes them",
			  daemon, w->place.state_dir);
}
