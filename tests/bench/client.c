/* Clients of ./dev bench in C, where an interpreter would be what is measured.
 *
 *   client log COUNT PAUSE_US FLUSH FILE
 *       one process that logs through libwbx; FLUSH 1: and waits for the disk each time
 *   client flood CLIENTS COUNT BYTES WINDOW PAUSE_US FILE
 *       records of so many bytes on so many connections, at most WINDOW of each not acknowledged;
 *       the protocol itself, without libwbx
 *   client floor COUNT FILE
 *       what the machine can do: round trips of 500 bytes between two processes
 *   client encode COUNT FILE
 *       what a call cannot do without: 40 doubles as msgpack, copied to where they are kept
 *
 * Each says "ready", waits for a byte on standard input, works, writes its times as doubles
 * (microseconds) to FILE and says how many seconds it took. $WBX_SOCKET names the daemon. */
#include "client/lib/wbx.h"
#include "proto/base/clock.h"
#include "proto/base/rng.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/mp.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	VALUES = 40,
	FLUSH_MS = 60000,
	CLIENTS_MAX = 64,
	FRAME_BYTES_MAX = 1 << 16,
	PING_BYTES = 500,
	ACK_BYTES = 32,
	READ_BYTES = 1 << 14,
	IN_MAX = 1 << 20,
	OUT_MAX = 64 << 20,
	WARM_UP = 100
};

static void __attribute__((noreturn)) fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now_us(void)
{
	return (double)clock_mono_ns() / 1e3;
}

static void pause_until(double us)
{
	struct timespec t = {.tv_sec = (time_t)(us / 1e6)};

	t.tv_nsec = (long)((us - (double)t.tv_sec * 1e6) * 1e3);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static void say_ready(void)
{
	char byte;

	if (write(STDOUT_FILENO, "ready\n", 6) != 6 || read(STDIN_FILENO, &byte, 1) != 1)
		exit(1); /* the bench is gone */
}

static void report(const char *file, const double *times, size_t count, double seconds)
{
	FILE *f = fopen(file, "wbe");

	if (f == NULL || fwrite(times, sizeof(*times), count, f) != count || fclose(f) != 0)
		fail(file);
	printf("%.6f\n", seconds);
	(void)fflush(stdout); /* the bench misses the line if that fails */
}

static double *room_for(size_t count)
{
	double *times = calloc(count + 1, sizeof(*times));

	if (times == NULL)
		fail("memory");
	return times;
}

static size_t number(const char *text)
{
	return (size_t)strtoull(text, NULL, 10);
}

/* --- log --- */

static char names[VALUES][32];

static void log_row(struct wbx_run *run, struct wbx_map *row, size_t n)
{
	wbx_map_clear(row);
	for (int i = 0; i < VALUES; i++)
		(void)wbx_put_double(row, names[i],
				     (double)(n + 1) / (i + 3)); /* wbx_log() tells */
	if (wbx_log(run, row, WBX_NO_STEP, WBX_COMMIT_AUTO) < 0)
		fail("wbx_log");
}

static int run_log(char **args)
{
	const struct wbx_options options = {.daemon = ""};
	const struct wbx_run_options run_options = {.project = "bench"};
	size_t count = number(args[0]);
	unsigned pause_us = (unsigned)number(args[1]);
	bool flush = number(args[2]) != 0;
	double *times = room_for(count);
	struct wbx_map *row = wbx_map_new();
	struct wbx_run *run;
	struct wbx *w;
	double start;

	if (row == NULL || wbx_open(&w, &options) < 0 || wbx_run(w, &run_options, &run) < 0)
		fail("wbx_open");
	for (size_t n = 0; n < WARM_UP; n++)
		log_row(run, row, n);
	if (wbx_flush(w, FLUSH_MS) < 0)
		fail("wbx_flush");
	say_ready();
	start = now_us();
	for (size_t n = 0; n < count; n++) {
		double began;

		if (pause_us > 0)
			pause_until(start + (double)n * pause_us);
		began = now_us();
		log_row(run, row, n);
		if (flush && wbx_flush(w, FLUSH_MS) < 0)
			fail("wbx_flush");
		times[n] = now_us() - began;
	}
	if (wbx_flush(w, FLUSH_MS) < 0)
		fail("wbx_flush");
	report(args[3], times, count, (now_us() - start) / 1e6);
	(void)wbx_finish(run, 0);     /* it is a bench */
	(void)wbx_close(w, FLUSH_MS); /* the same */
	wbx_map_free(row);
	free(times);
	return 0;
}

/* --- flood --- */

struct flooder {
	pthread_t thread;
	int fd;
	size_t count;
	size_t bytes;
	size_t window;
	unsigned pause_us;
	double *times; /* when each was written, then how long its ack took */
	uint64_t acked;
	struct buf in;
	struct buf out;
};

static int connect_to_daemon(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const char *path = getenv("WBX_SOCKET");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (path == NULL || strlen(path) >= sizeof(to.sun_path) || fd < 0)
		fail("WBX_SOCKET");
	memcpy(to.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fail(path);
	return fd;
}

static void write_out(struct flooder *f)
{
	size_t done = 0;

	if (f->out.error != 0)
		fail("memory");
	while (done < f->out.len) {
		ssize_t n = write(f->fd, f->out.data + done, f->out.len - done);

		if (n < 0)
			fail("write");
		done += (size_t)n;
	}
	buf_clear(&f->out);
}

static void take_ack(struct flooder *f, uint64_t seq)
{
	double now = now_us();

	for (; f->acked < seq; f->acked++) {
		if (f->acked >= 1) /* seq 1 opens the run */
			f->times[f->acked - 1] = now - f->times[f->acked - 1];
	}
}

static void take_frame(struct flooder *f, struct span payload)
{
	struct mp m = mp_of(payload);
	struct mp_value head;
	struct mp_value kind;
	struct mp_value seq;

	if (mp_read(&m, &head) < 0 || mp_read(&m, &kind) < 0 || mp_read(&m, &seq) < 0)
		fail("an answer of the daemon");
	if (span_is(kind.bytes, "ack") || span_is(kind.bytes, "welcome"))
		take_ack(f, seq.natural);
	else if (span_is(kind.bytes, "reject"))
		fail("the daemon rejects a record");
}

/* Waits for what the daemon has to say, once. */
static void read_in(struct flooder *f)
{
	uint8_t bytes[READ_BYTES];
	ssize_t n = read(f->fd, bytes, sizeof(bytes));
	struct span payload;
	size_t size;

	if (n <= 0 || buf_add(&f->in, bytes, (size_t)n) < 0)
		fail("read");
	while (frame_next(buf_span(&f->in), FRAME_BYTES_MAX, &payload, &size) == FRAME_READY) {
		take_frame(f, payload);
		buf_drop_front(&f->in, size);
	}
}

/* The same, when there is something. */
static void look_in(struct flooder *f)
{
	struct pollfd p = {.fd = f->fd, .events = POLLIN};

	if (poll(&p, 1, 0) == 1)
		read_in(f);
}

static void open_flood(struct flooder *f)
{
	uint8_t producer[PRODUCER_BYTES];
	struct pack p;
	size_t at;

	buf_init(&f->in, IN_MAX);
	buf_init(&f->out, OUT_MAX);
	f->fd = connect_to_daemon();
	if (rng_bytes(producer, sizeof(producer)) < 0)
		fail("random bytes");
	at = frame_open(&f->out, &p, "hello", 0, 2);
	pack_pair_uint(&p, "v", PROTO_VERSION);
	pack_pair_bin(&p, "producer", (struct span){.at = producer, .len = sizeof(producer)});
	frame_close(&f->out, at);
	at = frame_open(&f->out, &p, "run", 1, 3);
	pack_pair_text(&p, "run", "flood");
	pack_pair_uint(&p, "t", clock_wall_us());
	pack_pair_text(&p, "project", "bench");
	frame_close(&f->out, at);
	write_out(f);
	while (f->acked < 1)
		read_in(f);
}

static char filler[FRAME_BYTES_MAX];

/* One row whose frame has about f->bytes bytes. */
static void add_record(struct flooder *f, size_t n)
{
	enum {
		HEAD_BYTES = 60
	};
	size_t text = f->bytes > HEAD_BYTES ? f->bytes - HEAD_BYTES : 1;
	struct pack p;
	size_t at = frame_open(&f->out, &p, "log", n + 2, 3);

	pack_pair_text(&p, "run", "flood");
	pack_pair_uint(&p, "t", clock_wall_us());
	pack_text(&p, "data");
	pack_map(&p, 2);
	pack_pair_uint(&p, "n", n);
	pack_pair_str(&p, "text", (struct span){.at = (const uint8_t *)filler, .len = text});
	frame_close(&f->out, at);
	f->times[n] = now_us();
}

static void *flood(void *arg)
{
	struct flooder *f = arg;
	double start = now_us();
	size_t sent = 0;

	while (f->acked < f->count + 1) {
		size_t room = f->window - (sent + 1 - f->acked);

		if (f->pause_us > 0 && room > 0 && sent < f->count) {
			pause_until(start + (double)sent * f->pause_us);
			room = 1;
		}
		for (; room > 0 && sent < f->count; room--)
			add_record(f, sent++);
		write_out(f);
		if (f->pause_us == 0 || sent == f->count || sent + 1 - f->acked == f->window)
			read_in(f);
		else
			look_in(f);
	}
	return NULL;
}

static int run_flood(char **args)
{
	static struct flooder clients[CLIENTS_MAX];
	size_t many = number(args[0]);
	size_t count = number(args[1]);
	double *times = room_for(many * count);
	double start;

	if (many > CLIENTS_MAX || number(args[2]) > FRAME_BYTES_MAX)
		return 2;
	memset(filler, 'x', sizeof(filler));
	for (size_t i = 0; i < many; i++) {
		clients[i] = (struct flooder){.count = count,
					      .bytes = number(args[2]),
					      .window = number(args[3]),
					      .pause_us = (unsigned)number(args[4]),
					      .times = times + i * count};
		open_flood(&clients[i]);
	}
	say_ready();
	start = now_us();
	for (size_t i = 0; i < many; i++) {
		if (pthread_create(&clients[i].thread, NULL, flood, &clients[i]) != 0)
			fail("pthread_create");
	}
	for (size_t i = 0; i < many; i++)
		(void)pthread_join(clients[i].thread, NULL); /* it was created */
	report(args[5], times, many * count, (now_us() - start) / 1e6);
	for (size_t i = 0; i < many; i++) {
		(void)close(clients[i].fd); /* nothing is left to write */
		buf_done(&clients[i].in);
		buf_done(&clients[i].out);
	}
	free(times);
	return 0;
}

/* --- floor --- */

static void answer_pings(int fd)
{
	uint8_t bytes[PING_BYTES];

	for (;;) {
		size_t got = 0;

		while (got < sizeof(bytes)) {
			ssize_t n = read(fd, bytes + got, sizeof(bytes) - got);

			if (n <= 0)
				_exit(0);
			got += (size_t)n;
		}
		if (write(fd, bytes, ACK_BYTES) != ACK_BYTES)
			_exit(1);
	}
}

static int run_floor(char **args)
{
	size_t count = number(args[0]);
	double *times = room_for(count);
	uint8_t bytes[PING_BYTES] = {0};
	int fds[2];
	double start;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		fail("socketpair");
	pid = fork();
	if (pid == 0) {
		(void)close(fds[0]); /* so that the end of the parent is seen */
		answer_pings(fds[1]);
	}
	(void)close(fds[1]); /* the child's */
	say_ready();
	start = now_us();
	for (size_t n = 0; n < count; n++) {
		double began = now_us();

		if (write(fds[0], bytes, PING_BYTES) != PING_BYTES ||
		    recv(fds[0], bytes, ACK_BYTES, MSG_WAITALL) != ACK_BYTES)
			fail("ping");
		times[n] = now_us() - began;
	}
	report(args[1], times, count, (now_us() - start) / 1e6);
	(void)close(fds[0]); /* ends the child */
	(void)waitpid(pid, NULL, 0);
	free(times);
	return 0;
}

static void name_values(void)
{
	for (int i = 0; i < VALUES; i++)
		(void)snprintf(names[i], sizeof(names[i]), "train/metric_%02d/mean", i); /* fits */
}

static size_t encode(struct buf *out, size_t n)
{
	struct pack p;

	buf_clear(out);
	pack_init(&p, out);
	pack_map(&p, VALUES);
	for (int i = 0; i < VALUES; i++)
		pack_pair_double(&p, names[i], (double)(n + 1) / (i + 3));
	if (out->error != 0)
		fail("memory");
	return out->len;
}

static int run_encode(char **args)
{
	enum {
		RING_BYTES = 4 << 20
	};
	size_t count = number(args[0]);
	double *times = room_for(count);
	uint8_t *ring = malloc(RING_BYTES);
	size_t at = 0;
	struct buf out;
	double start;

	if (ring == NULL)
		fail("memory");
	memset(ring, 1, RING_BYTES); /* its pages are there before the first call */
	buf_init(&out, FRAME_BYTES_MAX);
	say_ready();
	start = now_us();
	for (size_t n = 0; n < count; n++) {
		double began = now_us();
		size_t len = encode(&out, n);

		at = at + len > RING_BYTES ? 0 : at;
		memcpy(ring + at, out.data, len);
		at += len;
		times[n] = now_us() - began;
	}
	report(args[1], times, count, (now_us() - start) / 1e6);
	buf_done(&out);
	free(ring);
	free(times);
	return 0;
}

int main(int argc, char **argv)
{
	name_values();
	if (argc == 6 && strcmp(argv[1], "log") == 0)
		return run_log(argv + 2);
	if (argc == 8 && strcmp(argv[1], "flood") == 0)
		return run_flood(argv + 2);
	if (argc == 4 && strcmp(argv[1], "floor") == 0)
		return run_floor(argv + 2);
	if (argc == 4 && strcmp(argv[1], "encode") == 0)
		return run_encode(argv + 2);
	(void)fprintf(stderr, "usage: see tests/bench/client.c\n");
	return 64;
}
