/* See hello.h. */
#include "client/ctl/hello.h"

#include "proto/base/clock.h"
#include "proto/frame.h"
#include "proto/limits.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PATIENCE_MS = 10000,
	READ_BYTES = 4096
};

static int connect_to(const char *path, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
	    (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = -errno;

		(void)close(fd); /* nothing was written */
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int send_hello(int fd)
{
	/* always the same, which logs nothing: the store keeps a row for each */
	static const uint8_t producer[PRODUCER_BYTES] = "wbxctl doctor";
	struct buf out;
	struct pack p;
	size_t at;
	int r;

	buf_init(&out, READ_BYTES);
	at = frame_open(&out, &p, "hello", 0, 3);
	pack_pair_uint(&p, "v", PROTO_VERSION);
	pack_pair_bin(&p, "producer", (struct span){.at = producer, .len = sizeof(producer)});
	pack_pair_int(&p, "pid", (int64_t)getpid());
	frame_close(&out, at);
	r = buf_write(&out, fd);
	buf_done(&out);
	return r;
}

/* 1: more has to come. */
static int read_welcome(struct span in)
{
	struct frame_parts parts;
	struct span payload;
	size_t size;

	switch (frame_next(in, RECORD_MAX, &payload, &size)) {
	case FRAME_NEED_MORE: return 1;
	case FRAME_TOO_BIG:
	case FRAME_BAD: return -EBADMSG;
	case FRAME_READY: break;
	}
	return frame_parts(payload, &parts) == 0 && span_is(parts.kind, "welcome") ? 0 : -EBADMSG;
}

static int await_welcome(int fd, uint64_t until_ms)
{
	struct buf in;
	int r = 1;

	buf_init(&in, RECORD_MAX + READ_BYTES);
	while (r == 1) {
		uint64_t now_ms = clock_mono_ms();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint8_t bytes[READ_BYTES];
		ssize_t n;

		if (now_ms >= until_ms || poll(&p, 1, (int)(until_ms - now_ms)) == 0) {
			r = -ETIMEDOUT;
			break;
		}
		n = read(fd, bytes, sizeof(bytes));
		if (n <= 0)
			r = n < 0 && errno == EINTR ? 1 : -ECONNRESET;
		else
			r = buf_add(&in, bytes, (size_t)n) < 0 ? -ENOMEM
							       : read_welcome(buf_span(&in));
	}
	buf_done(&in);
	return r;
}

int hello_say(const char *path, uint64_t *ret_took_ms, uid_t *ret_owner)
{
	uint64_t begun_ms = clock_mono_ms();
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = -1;
	int r = connect_to(path, &fd);

	if (r < 0)
		return r;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		r = -errno;
	if (r == 0)
		r = send_hello(fd);
	if (r == 0)
		r = await_welcome(fd, begun_ms + PATIENCE_MS);
	(void)close(fd); /* a socket */
	if (r < 0)
		return r;
	*ret_owner = peer.uid;
	*ret_took_ms = clock_mono_ms() - begun_ms;
	return 0;
}
