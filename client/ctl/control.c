/* See control.h. */
#include "client/ctl/control.h"

#include "client/lib/place.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/mp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	/* An item of `tail` holds a whole record beside its own few bytes. */
	ANSWER_MAX = CONTROL_REPLY_MAX + (64 << 10),
	READ_BYTES = 64 << 10,
	ANSWER_FD = 3, /* where wbxd --answer speaks */
	CHILD_WAIT_MS = 2000,
};

struct control {
	int fd;
	pid_t child; /* 0: none */
	uint64_t id; /* of the question under way */
	struct buf in;
	size_t used; /* bytes at the start of `in` that were taken */
};

/* --- connections --- */

struct control *control_of(int fd)
{
	struct control *c = mem_zalloc(sizeof(*c));

	if (c == NULL) {
		(void)close(fd); /* nothing was written */
		return NULL;
	}
	c->fd = fd;
	buf_init(&c->in, (size_t)2 * ANSWER_MAX);
	return c;
}

static int set_timeout(int fd, unsigned timeout_ms)
{
	const struct timeval tv = {.tv_sec = timeout_ms / 1000,
				   .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
		return -errno;
	return 0;
}

int control_open(struct control **ret, const char *path, bool is_own)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct control *c;
	int fd;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path); /* fits */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = set_timeout(fd,
			REQUEST_TIMEOUT_MS); /* a queue that is full is waited for, not for ever */
	if (r == 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	if (r == 0 && is_own)
		r = place_check_peer(fd);
	if (r < 0) {
		(void)close(fd); /* nothing was written */
		return r;
	}
	c = control_of(fd);
	if (c == NULL)
		return -ENOMEM;
	*ret = c;
	return 0;
}

/* --- a wbxd of our own --- */

static bool is_there(const char *path)
{
	return access(path, X_OK) == 0;
}

/* pip puts both into one directory, which need not be in PATH. */
static bool find_beside_us(char ret[PLACE_PATH_MAX])
{
	static const char name[] = "wbxd";
	ssize_t len = readlink("/proc/self/exe", ret, PLACE_PATH_MAX - sizeof(name));

	while (len > 0 && ret[len - 1] != '/')
		len--;
	if (len <= 0)
		return false;
	memcpy(ret + len, name, sizeof(name));
	return is_there(ret);
}

static int find_daemon(char ret[PLACE_PATH_MAX])
{
	static const char *const usual[] = {"/usr/sbin/wbxd", "/usr/local/sbin/wbxd"};
	const char *path = getenv("PATH");

	if (find_beside_us(ret))
		return 0;
	while (path != NULL && *path != '\0') {
		size_t len = strcspn(path, ":");

		(void)snprintf(ret, PLACE_PATH_MAX, "%.*s/wbxd", (int)len,
			       path); /* a cut path is not there */
		if (len > 0 && is_there(ret))
			return 0;
		path += len + (path[len] == ':');
	}
	for (size_t i = 0; i < array_len(usual); i++) {
		(void)snprintf(ret, PLACE_PATH_MAX, "%s", usual[i]); /* fits */
		if (is_there(ret))
			return 0;
	}
	return -ENOENT;
}

static int spawn_answerer(const char *daemon, const char *store_dir, int fd, pid_t *ret)
{
	char answer[PLACE_PATH_MAX + 16];
	char name[] = "wbxd";
	char *argv[] = {name, answer, NULL};
	posix_spawn_file_actions_t actions;
	int r;

	(void)snprintf(answer, sizeof(answer), "--answer=%s", store_dir); /* fits */
	r = posix_spawn_file_actions_init(&actions);
	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, 2, 1); /* ours is for answers */
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, fd, ANSWER_FD);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, ANSWER_FD + 1);
	if (r == 0)
		r = posix_spawn(ret, daemon, &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions); /* memory only */
	return -r;
}

int control_compact_store(const char *store_dir)
{
	char daemon[PLACE_PATH_MAX];
	char compact[PLACE_PATH_MAX + 16];
	char name[] = "wbxd";
	char *argv[] = {name, compact, NULL};
	int status = 0;
	pid_t pid;
	int r = find_daemon(daemon);

	if (r < 0)
		return r;
	if (snprintf(compact, sizeof(compact), "--compact=%s", store_dir) >= (int)sizeof(compact))
		return -ENAMETOOLONG;
	r = posix_spawn(&pid, daemon, NULL, NULL, argv, environ);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

int control_open_store(struct control **ret, const char *store_dir)
{
	char daemon[PLACE_PATH_MAX];
	struct control *c;
	int ends[2];
	int r;

	if (strlen(store_dir) >= PLACE_PATH_MAX)
		return -ENAMETOOLONG;
	r = find_daemon(daemon);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	c = control_of(ends[0]);
	r = c == NULL ? -ENOMEM : spawn_answerer(daemon, store_dir, ends[1], &c->child);
	(void)close(ends[1]); /* the child has it */
	if (r < 0) {
		if (c != NULL) {
			c->child = 0;
			(void)control_close(c);
		}
		return r;
	}
	*ret = c;
	return 0;
}

/* It ends when the socket does. One that does not is ours to end. */
static void await_child(pid_t child)
{
	uint64_t until_ms = clock_mono_ms() + CHILD_WAIT_MS;

	while (waitpid(child, NULL, WNOHANG) == 0) {
		if (clock_mono_ms() >= until_ms) {
			(void)kill(child, SIGKILL);    /* it reads only */
			(void)waitpid(child, NULL, 0); /* reaped, or gone */
			return;
		}
		(void)poll(NULL, 0, 1); /* a wait */
	}
}

struct control *control_close(struct control *c)
{
	if (c == NULL)
		return NULL;
	(void)close(c->fd); /* a socket, answered or of no interest */
	if (c->child > 0)
		await_child(c->child);
	buf_done(&c->in);
	return mem_free(c);
}

/* --- questions --- */

static int socket_error(void)
{
	if (errno == EAGAIN)
		return -ETIMEDOUT;
	return errno == EPIPE ? -ECONNRESET : -errno;
}

static int send_all(int fd, struct span bytes)
{
	while (bytes.len > 0) {
		ssize_t n = send(fd, bytes.at, bytes.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return socket_error();
		bytes.at += n;
		bytes.len -= (size_t)n;
	}
	return 0;
}

static int receive(struct control *c)
{
	ssize_t n;
	int r;

	buf_drop_front(&c->in, c->used);
	c->used = 0;
	r = buf_reserve(&c->in, READ_BYTES);
	if (r < 0)
		return r;
	do
		n = recv(c->fd, c->in.data + c->in.len, READ_BYTES, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return socket_error();
	c->in.len += (size_t)n;
	return n == 0 ? -ECONNRESET : 0;
}

/* The next frame, waited for. */
static int next_payload(struct control *c, struct span *ret)
{
	for (;;) {
		struct span rest = {.at = c->in.data + c->used, .len = c->in.len - c->used};
		size_t size;
		int r;

		switch (frame_next(rest, ANSWER_MAX, ret, &size)) {
		case FRAME_READY: c->used += size; return 0;
		case FRAME_TOO_BIG:
		case FRAME_BAD: return -EBADMSG;
		case FRAME_NEED_MORE: break;
		}
		r = receive(c);
		if (r < 0)
			return r;
	}
}

static int take_answer(struct control *c, control_on_item on_item, void *arg,
		       struct control_answer *ret)
{
	for (;;) {
		struct frame_parts part = {0};
		struct span payload;
		int r = next_payload(c, &payload);

		if (r == 0)
			r = frame_parts(payload, &part);
		if (r < 0)
			return r;
		if (part.seq != c->id)
			continue; /* of a question that was given up */
		if (span_is(part.kind, "item")) {
			r = on_item == NULL ? 0 : on_item(arg, part.body);
			if (r != 0)
				return r;
			continue;
		}
		*ret = (struct control_answer){.body = part.body};
		if (span_is(part.kind, "done"))
			return 0;
		if (!span_is(part.kind, "error"))
			continue; /* a newer daemon's word */
		ret->code = mp_get_str(mp_of(part.body), "code");
		ret->text = mp_get_str(mp_of(part.body), "text");
		return -EREMOTEIO;
	}
}

int control_ask(struct control *c, const struct request *q, control_on_item on_item, void *arg,
		struct control_answer *ret)
{
	auto_buf struct buf frame = {0};
	int r;

	*ret = (struct control_answer){0};
	buf_init(&frame, CONTROL_REQUEST_MAX + 256);
	r = request_frame(q, ++c->id, &frame);
	if (r == 0)
		r = set_timeout(c->fd, q->timeout_ms);
	if (r == 0)
		r = send_all(c->fd, buf_span(&frame));
	return r < 0 ? r : take_answer(c, on_item, arg, ret);
}
