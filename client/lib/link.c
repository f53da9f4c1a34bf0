/* See link.h.
 *
 *   away ──connect──▶ hello ──welcome──▶ open
 *     ▲──────────────error, end────────────┘
 */
#include "client/lib/link.h"

#include "client/lib/emit.h"
#include "client/lib/news.h"
#include "client/lib/spawn.h"
#include "proto/base/clock.h"
#include "proto/base/rng.h"
#include "proto/frame.h"
#include "proto/record.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	RETRY_FIRST_MS = 20,
	RETRY_MAX_MS = 2000,
	WELCOME_TIMEOUT_MS = 30000, /* the store may be busy; then the connection begins again */
	READ_BYTES = 16 << 10,
	READ_RETRY_MS = 100, /* of the spool; doubles */
	SPAWN_FIRST_MS = 10 * 1000,
	SPAWN_MAX_MS = 10 * 60 * 1000,
	WAIT_BYTES = 16 << 10, /* so much does not wait for an ack */
};

static const struct {
	const char *name;
	unsigned allowed;
} states[LINK_STATES] = {
	[LINK_AWAY] = {"away", 1u << LINK_HELLO},
	[LINK_HELLO] = {"hello", 1u << LINK_OPEN | 1u << LINK_AWAY},
	[LINK_OPEN] = {"open", 1u << LINK_AWAY},
};

/* lock held. */
static void link_move(struct wbx *w, enum link_state to)
{
	assert(states[w->link.state].allowed & 1u << to);
	w->link.state = to;
}

void link_wake(struct wbx *w)
{
	uint64_t one = 1;

	if (write(w->link.wake_fd, &one, sizeof(one)) < 0)
		return; /* full: it is awake already */
}

/* io and lock held. */
static void go_away(struct wbx *w, uint64_t now_ms)
{
	struct link *l = &w->link;
	struct rng jitter = {.state = now_ms ^ (uint64_t)getpid()};

	if (l->state == LINK_AWAY)
		return;
	link_move(w, LINK_AWAY);
	(void)shutdown(l->fd, SHUT_RDWR); /* the library's thread may be reading: it closes it */
	l->wants_out = false;
	keep_rewind(w->keep); /* nothing of it is on its way any more */
	l->next_try_ms = now_ms + l->retry_ms / 2 + rng_below(&jitter, l->retry_ms / 2 + 1);
	l->retry_ms = l->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : l->retry_ms * 2;
}

/* --- sending --- */

/* The spool cannot be read, or there is no memory for it: the connection begins again after a
 * while, and what stays unreadable is given up. io and lock held. */
static void take_read_error(struct wbx *w, int r)
{
	uint64_t now_ms = clock_mono_ms();
	uint64_t lost = keep_take_lost(w->keep);
	unsigned doublings = w->link.read_errors < 5 ? w->link.read_errors : 5;

	go_away(w, now_ms);
	w->link.next_try_ms = now_ms + ((uint64_t)READ_RETRY_MS << doublings);
	w->link.read_errors++;
	w->given_up += lost;
	if (lost > 0)
		state_say(w, 0,
			  "%llu records were given up: the spool in %s that holds them cannot be "
			  "read (%s)",
			  (unsigned long long)lost, w->place.spool_dir, strerror(-r));
	else if (w->link.read_errors == 1)
		state_say(w, 1, "the spool in %s cannot be read (%s); this is tried again",
			  w->place.spool_dir, strerror(-r));
	if (lost > 0)
		w->link.read_errors = 0;
}

/* lock held but for the call. 0 and what to send, maybe nothing; -errno: the connection is over. */
static int next_unsent(struct wbx *w, struct span *ret)
{
	int r = -ENOTCONN;

	(void)pthread_mutex_lock(&w->lock);
	if (w->link.state == LINK_OPEN) {
		r = keep_unsent(w->keep, ret);
		if (r < 0)
			take_read_error(w, r);
		else if (ret->len == 0)
			w->link.sent_seq = w->last_seq;
	}
	(void)pthread_mutex_unlock(&w->lock);
	return r;
}

/* io held. Sends until nothing is left or the socket is full. */
static void send_unsent(struct wbx *w)
{
	for (;;) {
		struct span bytes;
		ssize_t n;

		if (next_unsent(w, &bytes) < 0) {
			link_wake(w); /* the thread waits for the next try */
			return;
		}
		if (bytes.len == 0)
			return;
		n = send(w->link.fd, bytes.at, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		(void)pthread_mutex_lock(&w->lock);
		if (n > 0)
			keep_sent(w->keep, (size_t)n);
		else if (errno == EAGAIN)
			w->link.wants_out = true;
		else if (errno != EINTR)
			go_away(w, clock_mono_ms());
		(void)pthread_mutex_unlock(&w->lock);
		if (n < 0 && errno != EINTR) {
			link_wake(w); /* the thread waits for room, or connects again */
			return;
		}
	}
}

static bool has_unsent(struct wbx *w)
{
	bool yes;

	(void)pthread_mutex_lock(&w->lock);
	yes = w->link.state == LINK_OPEN && !w->link.wants_out && keep_unsent_bytes(w->keep) > 0;
	(void)pthread_mutex_unlock(&w->lock);
	return yes;
}

bool link_may_wait(const struct wbx *w)
{
	return w->link.state == LINK_OPEN && keep_is_durable(w->keep) &&
	       w->link.sent_seq > atomic_load(&w->durable_seq) &&
	       keep_unsent_bytes(w->keep) < WAIT_BYTES;
}

void link_push(struct wbx *w)
{
	/* Who finds io taken goes: the one who holds it looks again after letting go, so nothing is
	 * left lying. */
	while (has_unsent(w) && pthread_mutex_trylock(&w->io) == 0) {
		send_unsent(w);
		(void)pthread_mutex_unlock(&w->io);
	}
}

/* --- receiving: the library's thread only --- */

static void take_welcome(struct wbx *w, const struct record *r)
{
	(void)pthread_mutex_lock(&w->io);
	(void)pthread_mutex_lock(&w->lock);
	if (w->link.state == LINK_HELLO) {
		link_move(w, LINK_OPEN);
		w->link.sent_seq = r->seq;
		w->link.retry_ms = RETRY_FIRST_MS;
		w->link.tries = 0;
		w->link.spawned = false;
		w->link.wants_anew = false;
		keep_acked(w->keep, r->seq);
		atomic_store(&w->durable_seq, r->seq);
		keep_rewind(w->keep);
		(void)pthread_cond_broadcast(&w->acked_cond);
	}
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_mutex_unlock(&w->io);
}

static void take_ack(struct wbx *w, const struct record *r)
{
	(void)pthread_mutex_lock(&w->lock);
	keep_acked(w->keep, r->seq);
	w->link.wants_anew = keep_wants_connection_anew(w->keep);
	if (r->seq > atomic_load(&w->durable_seq))
		atomic_store(&w->durable_seq, r->seq);
	(void)pthread_cond_broadcast(&w->acked_cond);
	(void)pthread_mutex_unlock(&w->lock);
}

static void take_reject(struct wbx *w, const struct record *r)
{
	struct span text = mp_get_str(mp_of(r->body), "text");
	bool show;

	(void)pthread_mutex_lock(&w->lock);
	w->rejected++;
	/* the first few, then every doubling: a worker that goes wrong goes wrong often */
	show = w->rejected <= 5 || w->rejected >= w->rejected_shown * 2;
	if (show)
		w->rejected_shown = w->rejected;
	(void)pthread_mutex_unlock(&w->lock);
	if (show)
		state_say(w, 1, "the daemon refused a record (%llu so far): %.*s",
			  (unsigned long long)w->rejected, (int)text.len, (const char *)text.at);
}

static void take_frame(struct wbx *w, struct span payload)
{
	struct record r;
	struct record_fault fault;

	if (record_parse_answer(payload, &r, &fault) < 0)
		return; /* from a newer daemon */
	if (r.kind == KIND_WELCOME)
		take_welcome(w, &r);
	else if (r.kind == KIND_ACK)
		take_ack(w, &r);
	else if (r.kind == KIND_REJECT)
		take_reject(w, &r);
	else if (r.kind == KIND_NOTICE)
		news_take(w, &r);
}

/* False when the connection is over. */
static bool take_frames(struct wbx *w)
{
	struct buf *in = &w->link.in;
	size_t used = 0;

	for (;;) {
		struct span payload;
		size_t size;

		switch (frame_next((struct span){.at = in->data + used, .len = in->len - used},
				   RECORD_MAX, &payload, &size)) {
		case FRAME_READY: break;
		case FRAME_NEED_MORE: buf_drop_front(in, used); return true;
		case FRAME_TOO_BIG:
		case FRAME_BAD: return false;
		}
		take_frame(w, payload);
		used += size;
	}
}

static void lose_connection(struct wbx *w)
{
	(void)pthread_mutex_lock(&w->io);
	(void)pthread_mutex_lock(&w->lock);
	go_away(w, clock_mono_ms());
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_mutex_unlock(&w->io);
}

static void receive(struct wbx *w)
{
	uint8_t bytes[READ_BYTES];
	ssize_t n = recv(w->link.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	bool over;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	over = n <= 0 || buf_add(&w->link.in, bytes, (size_t)n) < 0 || !take_frames(w);
	if (over)
		lose_connection(w);
}

/* --- connecting --- */

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;
	int r;

	if (path[0] == '\0')
		return -ENXIO; /* its directory cannot be used */
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path); /* fits */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = -errno;
	(void)close(fd); /* a socket */
	return r;
}

static int send_hello(struct wbx *w, int fd)
{
	struct buf frame;
	int r;

	buf_init(&frame, RECORD_MAX);
	r = frame_add(&frame, buf_span(&w->hello));
	if (r == 0 &&
	    send(fd, frame.data, frame.len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)frame.len)
		r = -EIO; /* an empty socket buffer takes a hello whole */
	buf_done(&frame);
	return r;
}

static void note_failure(struct wbx *w, int r)
{
	struct link *l = &w->link;
	bool say;

	(void)pthread_mutex_lock(&w->lock);
	l->next_try_ms = clock_mono_ms() + l->retry_ms;
	l->retry_ms = l->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : l->retry_ms * 2;
	say = ++l->tries == 3 && (!w->place.is_own || r == -EPERM);
	(void)pthread_mutex_unlock(&w->lock);
	if (say)
		state_say(
			w, 1,
			"no wbx daemon answers at %s (%s); records are kept and sent when it does",
			w->place.socket, strerror(-r));
}

/* The user's own socket lies where others may have been first. */
static int connect_to_mine(const struct wbx *w)
{
	int fd = connect_to(w->place.socket);
	int r;

	if (fd < 0 || !w->place.is_own)
		return fd;
	r = place_check_peer(fd);
	if (r < 0)
		(void)close(fd); /* nothing was written */
	return r < 0 ? r : fd;
}

/* A daemon that died is started again, but not over and over. */
static bool may_spawn(struct wbx *w, uint64_t now_ms)
{
	struct link *l = &w->link;

	if (!w->place.is_own || l->spawned ||
	    (l->spawn_wait_ms != 0 && now_ms < l->spawned_ms + l->spawn_wait_ms))
		return false;
	if (l->spawn_wait_ms == 0 || now_ms > l->spawned_ms + SPAWN_MAX_MS)
		l->spawn_wait_ms = SPAWN_FIRST_MS;
	else if (l->spawn_wait_ms < SPAWN_MAX_MS)
		l->spawn_wait_ms *= 2;
	l->spawned_ms = now_ms;
	l->spawned = true;
	return true;
}

static void try_connect(struct wbx *w)
{
	int fd = connect_to_mine(w);
	int r;

	if ((fd == -ENOENT || fd == -ECONNREFUSED) && may_spawn(w, clock_mono_ms())) {
		spawn_daemon(w);
		fd = connect_to_mine(w);
	}
	if (fd < 0) {
		note_failure(w, fd);
		return;
	}
	r = send_hello(w, fd);
	if (r < 0) {
		(void)close(fd); /* a socket */
		note_failure(w, r);
		return;
	}
	(void)pthread_mutex_lock(&w->io);
	(void)pthread_mutex_lock(&w->lock);
	if (w->link.fd >= 0)
		(void)close(w->link.fd); /* the connection before */
	buf_clear(&w->link.in);
	w->link.fd = fd;
	w->link.wants_out = false;
	w->link.next_try_ms = clock_mono_ms() + WELCOME_TIMEOUT_MS;
	w->reconnects++;
	link_move(w, LINK_HELLO);
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_mutex_unlock(&w->io);
}

/* --- the thread --- */

static int sleep_ms(const struct wbx *w, uint64_t now_ms)
{
	const struct link *l = &w->link;

	if (l->state == LINK_OPEN)
		return w->given_up > w->given_up_told ? 1000 : -1;
	if (l->next_try_ms <= now_ms)
		return 0;
	return (int)(l->next_try_ms - now_ms);
}

static void wait_for_events(struct wbx *w)
{
	struct pollfd fds[2] = {{.fd = w->link.wake_fd, .events = POLLIN},
				{.fd = -1, .events = POLLIN}};
	uint64_t rings;
	int timeout;

	(void)pthread_mutex_lock(&w->lock);
	timeout = sleep_ms(w, clock_mono_ms());
	if (w->link.state != LINK_AWAY)
		fds[1].fd = w->link.fd;
	if (w->link.wants_out)
		fds[1].events |= POLLOUT;
	(void)pthread_mutex_unlock(&w->lock);
	if (poll(fds, 2, timeout) < 0)
		return; /* a signal cannot come here: all are blocked */
	if (fds[0].revents != 0 && read(w->link.wake_fd, &rings, sizeof(rings)) < 0)
		return; /* somebody else's ring */
	if (fds[1].revents & (POLLIN | POLLHUP | POLLERR))
		receive(w);
	if (fds[1].revents & POLLOUT) {
		(void)pthread_mutex_lock(&w->lock);
		w->link.wants_out = false;
		(void)pthread_mutex_unlock(&w->lock);
	}
}

/* What was given up is told to the daemon, which counts it for good; and to the user, who may be
 * looking. */
static void tell_losses(struct wbx *w)
{
	uint64_t lost;

	(void)pthread_mutex_lock(&w->lock);
	lost = w->link.state == LINK_OPEN ? w->given_up - w->given_up_told : 0;
	if (lost > 0 && emit_flush(w, lost, NULL) == 0)
		w->given_up_told += lost;
	(void)pthread_mutex_unlock(&w->lock);
}

static void *link_main(void *data)
{
	struct wbx *w = data;

	for (;;) {
		enum link_state state;
		bool stop;
		bool due;
		bool anew;

		(void)pthread_mutex_lock(&w->lock);
		stop = w->link.stopping;
		state = w->link.state;
		anew = w->link.wants_anew;
		due = clock_mono_ms() >= w->link.next_try_ms;
		(void)pthread_mutex_unlock(&w->lock);
		if (stop)
			return NULL;
		if (state == LINK_AWAY && due)
			try_connect(w);
		if ((state == LINK_HELLO && due) || (state == LINK_OPEN && anew))
			lose_connection(w); /* no welcome came, or it is better without it */
		tell_losses(w);
		link_push(w);
		wait_for_events(w);
	}
}

int link_start(struct wbx *w)
{
	sigset_t all;
	sigset_t before;
	int r;

	w->link = (struct link){.fd = -1, .retry_ms = RETRY_FIRST_MS};
	buf_init(&w->link.in, RECORD_MAX + READ_BYTES);
	w->link.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->link.wake_fd < 0)
		return -errno;
	(void)sigfillset(&all); /* cannot fail */
	r = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (r == 0) {
		r = pthread_create(&w->link.thread, NULL, link_main, w);
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* was valid above */
	}
	w->link.running = r == 0;
	return -r;
}

static void forget(struct wbx *w)
{
	if (w->link.fd >= 0)
		(void)close(w->link.fd); /* a socket */
	if (w->link.wake_fd >= 0)
		(void)close(w->link.wake_fd); /* an eventfd */
	w->link.fd = w->link.wake_fd = -1;
	w->link.running = false;
	w->link.state = LINK_AWAY;
}

void link_stop(struct wbx *w)
{
	if (w->link.running) {
		(void)pthread_mutex_lock(&w->lock);
		w->link.stopping = true;
		(void)pthread_mutex_unlock(&w->lock);
		link_wake(w);
		(void)pthread_join(w->link.thread, NULL); /* ours, and running */
	}
	forget(w);
	buf_done(&w->link.in);
}

void link_abandon(struct wbx *w)
{
	forget(w); /* the parent's thread is not here; its buffer's memory is left alone */
}
