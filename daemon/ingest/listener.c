/* See listener.h. */
#include "daemon/ingest/listener.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int say(int r, char ret_error[256], const char *path, const char *what)
{
	(void)snprintf(ret_error, 256, "socket %s: %s", path,
		       what); /* a cut sentence still helps */
	return r;
}

/* A socket file that nobody listens on any more may be replaced; one that answers is another
 * daemon's. */
static int clear_path(const char *path, char ret_error[256])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	int fd;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return say(-ENAMETOOLONG, ret_error, path, "is longer than 107 bytes");
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : say(-errno, ret_error, path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return say(-EEXIST, ret_error, path, "is there and is no socket");
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path); /* fits */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return say(-errno, ret_error, path, strerror(errno));
	r = connect(fd, (const struct sockaddr *)&address, sizeof(address));
	r = r == 0 || errno == EAGAIN ? -EADDRINUSE : 0;
	(void)close(fd); /* only asked */
	if (r < 0)
		return say(r, ret_error, path, "another daemon listens there");
	return unlink(path) < 0 && errno != ENOENT ? say(-errno, ret_error, path, strerror(errno))
						   : 0;
}

static void on_spare_closed(uv_handle_t *handle)
{
	struct listener *l = container_of(handle, struct listener, spare);

	if (!uv_is_closing((uv_handle_t *)&l->pipe))
		(void)uv_pipe_init(l->pipe.loop, &l->spare, 0); /* always 0 */
}

void listener_refuse(struct listener *l)
{
	if (uv_is_closing((uv_handle_t *)&l->spare))
		return; /* still busy with the one before; the next connection tries again */
	if (uv_accept((uv_stream_t *)&l->pipe, (uv_stream_t *)&l->spare) == 0)
		uv_close((uv_handle_t *)&l->spare, on_spare_closed);
}

static void on_uv_connection(uv_stream_t *stream, int status)
{
	struct listener *l = container_of(stream, struct listener, pipe);

	if (status == 0)
		l->on_connection(l);
}

int listener_open(struct listener *ret, uv_loop_t *loop, int fd, const char *path, mode_t mode,
		  char ret_error[256])
{
	int r;

	(void)uv_pipe_init(loop, &ret->pipe, 0); /* always 0 */
	(void)uv_pipe_init(loop, &ret->spare, 0);
	ret->path = NULL;
	if (fd >= 0) {
		r = uv_pipe_open(&ret->pipe, fd);
	} else {
		r = clear_path(path, ret_error);
		if (r == 0)
			r = uv_pipe_bind(&ret->pipe, path);
		else
			return r;
		if (r == 0) {
			ret->path = path;
			r = chmod(path, mode) < 0 ? -errno : 0;
		}
	}
	if (r == 0)
		r = uv_listen((uv_stream_t *)&ret->pipe, LISTENER_BACKLOG, on_uv_connection);
	return r < 0 ? say(r, ret_error, path, uv_strerror(r)) : 0;
}

void listener_close(struct listener *l)
{
	if (uv_is_closing((uv_handle_t *)&l->pipe))
		return;
	uv_close((uv_handle_t *)&l->pipe, NULL); /* embedded in its owner, who outlives the loop */
	if (!uv_is_closing((uv_handle_t *)&l->spare))
		uv_close((uv_handle_t *)&l->spare, NULL);
	if (l->path != NULL)
		(void)unlink(l->path); /* libuv has mostly done it */
}
