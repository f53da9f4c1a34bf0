/* See systemd.h. */
#include "daemon/systemd.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	FIRST_FD = 3,
	FDS_MAX = 16
};

int systemd_listen_fd(const char *name)
{
	const char *pid = getenv("LISTEN_PID");
	const char *count = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	long fds = count == NULL ? 0 : strtol(count, NULL, 10);

	if (pid == NULL || names == NULL || strtol(pid, NULL, 10) != (long)getpid())
		return -1;
	for (int i = 0; i < fds && i < FDS_MAX; i++) {
		size_t len = strcspn(names, ":");

		if (len == strlen(name) && strncmp(names, name, len) == 0) {
			(void)fcntl(FIRST_FD + i, F_SETFD,
				    FD_CLOEXEC); /* systemd passes it without */
			return FIRST_FD + i;
		}
		names += len + (names[len] == ':');
	}
	return -1;
}

void systemd_notify(const char *message)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path == NULL ? 0 : strlen(path);
	int fd;

	if (len == 0 || len >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, len);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* an abstract socket */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, message, strlen(message), MSG_NOSIGNAL, (const struct sockaddr *)&address,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				 len)); /* systemd's loss, not ours */
	(void)close(fd);
}

uint64_t systemd_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");

	if (usec == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
		return 0;
	return strtoull(usec, NULL, 10) / 1000;
}
