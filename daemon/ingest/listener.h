/* A listening Unix socket: made here, or inherited from systemd. Loop thread. */
#pragma once

#include <sys/types.h>
#include <uv.h>

struct listener {
	uv_pipe_t pipe;
	const char *path; /* what we made and remove again; NULL when inherited */
	void (*on_connection)(struct listener *l);
	void *data;
	uv_pipe_t spare; /* takes a connection that there is no memory for */
};

enum {
	LISTENER_BACKLOG = 1024
};

/* Listens on fd when it is not negative, else at path with the mode. 0, or -errno with a sentence:
 * -EADDRINUSE when another daemon answers there. */
int listener_open(struct listener *ret, uv_loop_t *loop, int fd, const char *path, mode_t mode,
		  char ret_error[256]);
/* Takes the connection that waits and closes it: an accept that is not done stops the listener for
 * good. */
void listener_refuse(struct listener *l);
/* Stops listening and removes its path. */
void listener_close(struct listener *l);
