/* The client's end of the control socket: one question at a time, answered by any number of items
 * and an end. The other end is a daemon, or, when none runs, `wbxd --answer` on a socketpair. */
#pragma once

#include "client/ctl/request.h"

struct control;

/* Connects to the socket at path. 0 and *ret owned by the caller; -ENOENT, -ECONNREFUSED: nobody
 * listens there; -EACCES; -EPERM: is_own, and who listens is neither the user nor root; -errno. */
int control_open(struct control **ret, const char *path, bool is_own);
/* Starts `wbxd --answer=store_dir` (found in PATH, then where packages put it), which reads the
 * store and changes nothing. 0 and *ret; -ENOENT: there is no wbxd; -errno. Whether the store can
 * be read is told by the first answer. */
int control_open_store(struct control **ret, const char *store_dir);
/* Runs `wbxd --compact=store_dir`, whose words go where ours do, to its end. Its exit code; -ENOENT:
 * there is no wbxd; -errno. */
int control_compact_store(const char *store_dir);
/* Speaks over a socket that is connected already: takes fd. NULL: no memory, fd is closed. */
struct control *control_of(int fd);
/* Ends the connection, and the wbxd that was started for it. Returns NULL. */
struct control *control_close(struct control *c);

/* One item's map, borrowed until it returns. 0 goes on; anything else ends control_ask() with that
 * value, and the connection is of no use any more. */
typedef int (*control_on_item)(void *arg, struct span body);

struct control_answer {
	struct span body; /* map of "done" or "error"; borrowed until the next question */
	struct span code; /* of an error */
	struct span text;
};
/* Asks, and waits for the end. 0: "done";
 * -EREMOTEIO: "error", code and text say why; -ETIMEDOUT; -ECONNRESET: the other end has gone;
 * -EBADMSG: it speaks something else; -errno. on_item NULL: items are dropped. */
int control_ask(struct control *c, const struct request *q, control_on_item on_item, void *arg,
		struct control_answer *ret);
