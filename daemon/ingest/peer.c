/* See peer.h. SO_PEERCRED tells the primary group only; the others come from SO_PEERGROUPS. */
#include "daemon/ingest/peer.h"

#include <errno.h>
#include <sys/socket.h>

enum {
	GROUPS_MAX = 256
};

static int credentials(const uv_pipe_t *pipe, struct ucred *ret, uv_os_fd_t *ret_fd)
{
	socklen_t len = sizeof(*ret);
	int r = uv_fileno((const uv_handle_t *)pipe, ret_fd);

	if (r < 0)
		return r;
	return getsockopt(*ret_fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0 ? -errno : 0;
}

int peer_uid(const uv_pipe_t *pipe, uid_t *ret)
{
	struct ucred who;
	uv_os_fd_t fd;
	int r = credentials(pipe, &who, &fd);

	if (r == 0)
		*ret = who.uid;
	return r;
}

/* All of his groups; how many. Who is in more than fit is in none but his primary one. */
static size_t groups_of(const uv_pipe_t *pipe, gid_t ret[GROUPS_MAX + 1])
{
	socklen_t len = GROUPS_MAX * sizeof(gid_t);
	struct ucred who;
	uv_os_fd_t fd;

	if (credentials(pipe, &who, &fd) < 0)
		return 0;
	ret[0] = who.gid;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, ret + 1, &len) < 0)
		return 1;
	return 1 + len / sizeof(gid_t);
}

bool peer_is_in_group(const uv_pipe_t *pipe, gid_t group)
{
	gid_t groups[GROUPS_MAX + 1];
	size_t count = group == (gid_t)-1 ? 0 : groups_of(pipe, groups);

	for (size_t i = 0; i < count; i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

bool peer_is_allowed(const uv_pipe_t *pipe, uid_t uid, const struct allow_list *list)
{
	gid_t groups[GROUPS_MAX + 1];
	size_t count;

	if (allow_has_uid(list, uid))
		return true;
	count = groups_of(pipe, groups);
	for (size_t i = 0; i < count; i++) {
		if (allow_has_gid(list, groups[i]))
			return true;
	}
	return false;
}
