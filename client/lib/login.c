/* See wbx.h: hands the user's W&B key to the daemon, over its control socket. */
#include "client/lib/state.h"
#include "client/lib/wbx.h"
#include "proto/base/mem.h"
#include "proto/control.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/mp.h"
#include "proto/pack.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	REQUEST_MAX = 4096,
	READ_BYTES = 4096
};

/* Each step of it takes timeout_ms at most. The descriptor, or -errno. */
static int open_control(const struct place *place, int timeout_ms)
{
	const struct timeval timeout = {.tv_sec = timeout_ms / 1000,
					.tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(place->control);
	int fd;
	int r = 0;

	if (len >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, place->control, len);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	if (r == 0 && place->is_own)
		r = place_check_peer(fd);
	if (r == 0)
		return fd;
	(void)close(fd); /* nothing was written */
	return r;
}

static int send_key(int fd, const char *key)
{
	struct buf out;
	struct pack p;
	size_t at;
	int r;

	buf_init(&out, REQUEST_MAX);
	at = frame_open(&out, &p, verb_info(VERB_KEY_SET)->name, 1, 2);
	pack_pair_text(&p, "key", key);
	pack_pair_bool(&p, "quick", true);
	frame_close(&out, at);
	r = out.error;
	for (size_t sent = 0; r == 0 && sent < out.len;) {
		ssize_t n = send(fd, out.data + sent, out.len - sent, MSG_NOSIGNAL);

		if (n >= 0)
			sent += (size_t)n;
		else if (errno != EINTR)
			r = errno == EAGAIN ? -ETIMEDOUT : -errno;
	}
	if (out.data != NULL)
		explicit_bzero(out.data, out.len);
	buf_done(&out);
	return r;
}

/* What "done" or "error" means. */
static int judge(struct span payload)
{
	struct frame_parts parts;
	struct mp check = mp_of(payload);

	if (mp_skip(&check, NULL) < 0 || frame_parts(payload, &parts) < 0)
		return -EBADMSG;
	if (span_is(parts.kind, "done"))
		return 0;
	return span_is(mp_get_str(mp_of(parts.body), "code"), "usage") ? -EINVAL : -EREMOTEIO;
}

static int await_answer(int fd)
{
	auto_buf struct buf in = {0};

	buf_init(&in, CONTROL_REPLY_MAX);
	for (;;) {
		uint8_t bytes[READ_BYTES];
		struct span payload;
		size_t size;
		ssize_t n;

		switch (frame_next(buf_span(&in), CONTROL_REPLY_MAX, &payload, &size)) {
		case FRAME_READY: return judge(payload);
		case FRAME_TOO_BIG:
		case FRAME_BAD: return -EBADMSG;
		case FRAME_NEED_MORE: break;
		}
		n = recv(fd, bytes, sizeof(bytes), 0);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EINTR)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (n > 0 && buf_add(&in, bytes, (size_t)n) < 0)
			return -ENOMEM;
	}
}

int wbx_login(struct wbx *w, const char *key, int timeout_ms)
{
	int fd;
	int r;

	if (w == NULL || key == NULL || strlen(key) > REQUEST_MAX / 2 || timeout_ms < 0)
		return -EINVAL;
	fd = open_control(&w->place, timeout_ms);
	if (fd < 0)
		return fd;
	r = send_key(fd, key);
	if (r == 0)
		r = await_answer(fd);
	(void)close(fd); /* the answer is here, or there is none */
	return r;
}
