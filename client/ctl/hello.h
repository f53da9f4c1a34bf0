/* Says hello to the record socket, as a client does, and waits for the welcome. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* 0, how long that took and who owns the socket; -EBADMSG: something else answers; -ETIMEDOUT;
 * -ENOENT, -ECONNREFUSED: nobody listens; -errno. */
int hello_say(const char *path, uint64_t *ret_took_ms, uid_t *ret_owner);
