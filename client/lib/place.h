/* Where the daemon is: its socket, and the directories for journal and spool beside it. */
#pragma once

#include <stdbool.h>

enum {
	PLACE_PATH_MAX = 1024
};

struct place {
	char socket[PLACE_PATH_MAX];
	char control[PLACE_PATH_MAX];
	char journal_dir[PLACE_PATH_MAX];
	char spool_dir[PLACE_PATH_MAX];
	char runtime_dir[PLACE_PATH_MAX]; /* of the user's own daemon; "" otherwise */
	char state_dir[PLACE_PATH_MAX];   /* the same */
	bool is_own;                      /* the user's own daemon, which may be started */
};

/* The socket that was asked for, else $WBX_SOCKET, else the system's when somebody listens there,
 * else the user's own. 0, or -ENAMETOOLONG. */
int place_find(struct place *ret, const char *socket);
/* Makes the directories of the user's own daemon, mode 0700, and sees that they are his. 0; -errno
 * and the one that cannot be used (part of p). */
int place_make(const struct place *p, const char **ret_dir);
/* Whether the other end of a connected socket is the user's own or root's: 0, -EPERM, or -errno. */
int place_check_peer(int fd);
