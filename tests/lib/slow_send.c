/* Preloaded into a trainer: send() returns only after the answer to what it sent was read by
 * another thread. So the caller learns of its success after the daemon's ack was taken: the order
 * that a busy machine shows at times. */
#include <dlfcn.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>

enum {
	ANSWER_MS = 1000,
	TAKEN_MS = 1000
};

__attribute__((visibility("default"))) ssize_t send(int fd, const void *bytes, size_t len,
						    int flags)
{
	ssize_t (*real)(int, const void *, size_t, int);
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	ssize_t n;

	*(void **)&real = dlsym(RTLD_NEXT, "send");
	n = real(fd, bytes, len, flags);
	if (n < 0 || poll(&readable, 1, ANSWER_MS) != 1)
		return n;
	for (int i = 0; i < TAKEN_MS && poll(&readable, 1, 0) == 1; i++)
		(void)poll(NULL, 0, 1); /* until the library's thread has read it */
	(void)poll(NULL, 0, 5);         /* ... and taken it in */
	return n;
}
