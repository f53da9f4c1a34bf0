/* Who is at the other end of a socket, as the kernel says: never what he says himself, and never by
 * his pid, which another may have by now. Loop thread. */
#pragma once

#include "daemon/flow/allow_list.h"

#include <sys/types.h>
#include <uv.h>

/* 0, or -errno. */
int peer_uid(const uv_pipe_t *pipe, uid_t *ret);
/* In any of his groups, the primary one or another. (gid_t)-1: there is no such group. */
bool peer_is_in_group(const uv_pipe_t *pipe, gid_t group);
bool peer_is_allowed(const uv_pipe_t *pipe, uid_t uid, const struct allow_list *list);
