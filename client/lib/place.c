/* See place.h. */
#include "client/lib/place.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char system_socket[] = "/run/wbx.sock";
/* where the unit has it; the one above is a symlink to it */
static const char unit_socket[] = "/run/wbx/ingest/wbx.sock";

static int __attribute__((format(printf, 2, 3)))
print(char ret[PLACE_PATH_MAX], const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(ret, PLACE_PATH_MAX, format, args);
	va_end(args);
	return n < 0 || n >= PLACE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* Everything beside the socket. */
static int place_beside(struct place *p, const char *socket)
{
	const char *slash = strrchr(socket, '/');
	int len = slash == NULL ? 1 : (int)(slash - socket);
	const char *dir = slash == NULL ? "." : socket;
	int r = print(p->socket, "%s", socket);

	if (r == 0)
		r = print(p->control, "%.*s/ctl.sock", len, dir);
	if (r == 0)
		r = print(p->journal_dir, "%.*s/journal", len, dir);
	return r == 0 ? print(p->spool_dir, "%.*s/spool", len, dir) : r;
}

static int place_system(struct place *p)
{
	int r = print(p->socket, "%s", system_socket);

	if (r == 0)
		r = print(p->control, "/run/wbx/ctl/ctl.sock");
	if (r == 0)
		r = print(p->journal_dir, "/run/wbx/journal");
	return r == 0 ? print(p->spool_dir, "/var/spool/wbx") : r;
}

static int place_own(struct place *p)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int r;

	p->is_own = true;
	if (runtime != NULL && runtime[0] == '/')
		r = print(p->runtime_dir, "%s/wbx", runtime);
	else
		r = print(p->runtime_dir, "/tmp/wbx-%u", (unsigned)getuid());
	if (r < 0)
		return r;
	if (state != NULL && state[0] == '/')
		r = print(p->state_dir, "%s/wbx", state);
	else if (home != NULL && home[0] == '/')
		r = print(p->state_dir, "%s/.local/state/wbx", home);
	else
		r = print(p->state_dir, "/var/tmp/wbx-%u", (unsigned)getuid());
	if (r == 0)
		r = print(p->socket, "%s/wbx.sock", p->runtime_dir);
	if (r == 0)
		r = print(p->control, "%s/ctl.sock", p->runtime_dir);
	if (r == 0)
		r = print(p->journal_dir, "%s/journal", p->runtime_dir);
	return r == 0 ? print(p->spool_dir, "%s/spool", p->state_dir) : r;
}

/* An unused file may be left of a service that is gone. One that is being started again is
 * listened to by systemd. Connecting does not wait. */
static bool answers(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes;

	if (fd < 0)
		return false;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path); /* fits */
	/* any other error, as a full queue, comes of somebody who is there */
	yes = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ||
	      (errno != ENOENT && errno != ECONNREFUSED);
	(void)close(fd); /* only asked */
	return yes;
}

int place_find(struct place *ret, const char *socket)
{
	memset(ret, 0, sizeof(*ret));
	if (socket == NULL)
		socket = getenv("WBX_SOCKET");
	if (socket != NULL &&
	    (strcmp(socket, system_socket) == 0 || strcmp(socket, unit_socket) == 0))
		return place_system(ret);
	if (socket != NULL && socket[0] != '\0')
		return place_beside(ret, socket);
	if (answers(system_socket))
		return place_system(ret);
	return place_own(ret);
}

/* Makes the directories above the last part too, as they are wanted below a home. */
static int make_dirs(const char *path)
{
	char copy[PLACE_PATH_MAX];

	if (print(copy, "%s", path) < 0)
		return -ENAMETOOLONG;
	for (char *at = copy + 1; *at != '\0'; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Below /tmp somebody else may have been there first. */
static int check_mine(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0 ? 0
											: -EPERM;
}

static int make_one(const char *dir)
{
	return mkdir(dir, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int place_make(const struct place *p, const char **ret_dir)
{
	const char *const dirs[] = {p->runtime_dir, p->state_dir};
	int r = 0;

	if (!p->is_own)
		return 0;
	for (size_t i = 0; r == 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		*ret_dir = dirs[i];
		r = make_dirs(dirs[i]);
		if (r == 0)
			r = check_mine(dirs[i]);
	}
	if (r < 0)
		return r;
	*ret_dir = p->journal_dir;
	r = make_one(p->journal_dir);
	if (r < 0)
		return r;
	*ret_dir = p->spool_dir;
	return make_one(p->spool_dir);
}

int place_check_peer(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	return peer.uid == geteuid() || peer.uid == 0 ? 0 : -EPERM;
}
