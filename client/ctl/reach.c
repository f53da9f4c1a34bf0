/* See reach.h. */
#include "client/ctl/reach.h"

#include "proto/base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PATIENCE_MS = 10000
};

/* http://[::1]:8080/x, https://api.wandb.ai: what getaddrinfo() wants. */
static int split(const char *url, struct reach *ret)
{
	const char *host = strstr(url, "://");
	const char *end;
	size_t len;

	if (host == NULL)
		return -EINVAL;
	(void)snprintf(ret->port, sizeof(ret->port), "%s",
		       strncmp(url, "https", 5) == 0 ? "443" : "80");
	host += 3;
	end = host[0] == '[' ? strchr(host, ']') : host + strcspn(host, ":/?#");
	host += host[0] == '[';
	if (end == NULL || end <= host || (size_t)(end - host) >= sizeof(ret->host))
		return -EINVAL;
	(void)snprintf(ret->host, sizeof(ret->host), "%.*s", (int)(end - host), host); /* fits */
	end += *end == ']';
	if (*end != ':')
		return 0;
	len = strcspn(end + 1, "/?#");
	if (len == 0 || len >= sizeof(ret->port))
		return -EINVAL;
	(void)snprintf(ret->port, sizeof(ret->port), "%.*s", (int)len, end + 1);
	return 0;
}

/* 0, or -errno. */
static int connect_to(const struct addrinfo *a)
{
	struct pollfd p = {.events = POLLOUT};
	socklen_t len = sizeof(int);
	int error = 0;

	p.fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	if (p.fd < 0)
		return -errno;
	if (connect(p.fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
		error = errno;
	else if (poll(&p, 1, PATIENCE_MS) != 1)
		error = ETIMEDOUT;
	else
		(void)getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &error, &len); /* error stays 0 */
	(void)close(p.fd); /* nothing was written */
	return -error;
}

int reach_host(const char *url, struct reach *ret)
{
	const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	uint64_t begun_ms = clock_mono_ms();
	int r;

	*ret = (struct reach){.name_failed = false};
	if (split(url, ret) < 0)
		return -EINVAL;
	r = getaddrinfo(ret->host, ret->port, &wanted, &found);
	ret->name_ms = clock_mono_ms() - begun_ms;
	if (r != 0) {
		ret->name_failed = true;
		(void)snprintf(ret->error, sizeof(ret->error), "%s", gai_strerror(r));
		return 0;
	}
	begun_ms = clock_mono_ms();
	r = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = found; a != NULL && r < 0; a = a->ai_next)
		r = connect_to(a);
	ret->connect_ms = clock_mono_ms() - begun_ms;
	freeaddrinfo(found);
	if (r < 0)
		(void)snprintf(ret->error, sizeof(ret->error), "%s", strerror(-r));
	return 0;
}
