/* See key.h. */
#include "daemon/forward/key.h"

#include "daemon/base/fd.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_MAX = 64 << 10
};

/* What the environment had; the process's own copy is overwritten. */
static char from_environment[API_KEY_MAX + 1];

void key_take_environment(void)
{
	char *value = getenv("WANDB_API_KEY");
	size_t len = value == NULL ? 0 : strlen(value);

	if (len == 0)
		return;
	/* one that is too long is kept as something that is no key, so that it is refused aloud */
	(void)snprintf(from_environment, sizeof(from_environment), "%s",
		       len <= API_KEY_MAX ? value : "too long");
	explicit_bzero(value, len); /* /proc/PID/environ shows this very memory */
	(void)unsetenv("WANDB_API_KEY");
}

void key_forget(struct key *k)
{
	explicit_bzero(k, sizeof(*k));
}

bool key_equal(const struct key *a, const struct key *b)
{
	return strcmp(a->text, b->text) == 0;
}

static bool is_key_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_' || c == '-';
}

int key_take(struct key *ret, const char *text, size_t len)
{
	while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
		len--;
	while (len > 0 && strchr(" \t\r\n", text[0]) != NULL) {
		text++;
		len--;
	}
	if (len == 0)
		return -ENOENT;
	if (len < API_KEY_MIN || len > API_KEY_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (!is_key_char(text[i]))
			return -EINVAL;
	}
	memcpy(ret->text, text, len);
	ret->text[len] = '\0';
	return 0;
}

/* Reads a whole small file. 0 and *ret_len; -errno; -EPERM: others may read it. */
static int read_secret(const char *path, char ret[FILE_MAX + 1], size_t *ret_len,
		       bool must_be_private)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (must_be_private && (st.st_mode & 077) != 0)
		return -EPERM;
	r = fd_pread_some(fd, ret, FILE_MAX, 0, ret_len);
	if (r == 0)
		ret[*ret_len] = '\0';
	return r;
}

static int say(char ret_error[256], const char *source, const char *what)
{
	(void)snprintf(ret_error, 256, "%.150s: %s", source, what); /* may be cut */
	return -EINVAL;
}

static const char not_a_key[] = "what stands there is no API key (letters, digits, _ and -)";

/* 0; -ENOENT: there is no such file; -EINVAL with a sentence. */
static int from_file(struct key *ret, const char *path, char *room, char ret_error[256])
{
	size_t len = 0;
	int r = read_secret(path, room, &len, true);

	(void)snprintf(ret->source, sizeof(ret->source), "%s", path);
	if (r == -ENOENT || r == -ENOTDIR)
		return -ENOENT;
	if (r == -EPERM)
		return say(ret_error, path, "others may read it; chmod 600");
	if (r < 0)
		return say(ret_error, path,
			   "cannot be read by the daemon's user (systemd hands it over at a "
			   "restart)");
	r = key_take(ret, room, len);
	return r == -EINVAL ? say(ret_error, path, not_a_key) : r;
}

static int from_credential(struct key *ret, char *room, char ret_error[256])
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char path[1024];
	size_t len = 0;
	int r;

	if (dir == NULL ||
	    snprintf(path, sizeof(path), "%s/wandb-api-key", dir) >= (int)sizeof(path))
		return -ENOENT;
	r = read_secret(path, room, &len, false); /* systemd made it, and not for others */
	if (r < 0)
		return -ENOENT;
	(void)snprintf(ret->source, sizeof(ret->source), "the credential wandb-api-key");
	r = key_take(ret, room, len);
	return r == -EINVAL ? say(ret_error, ret->source, not_a_key) : r;
}

static int from_variable(struct key *ret, char ret_error[256])
{
	int r = key_take(ret, from_environment, strlen(from_environment));

	(void)snprintf(ret->source, sizeof(ret->source), "$WANDB_API_KEY");
	return r == -EINVAL ? say(ret_error, ret->source, not_a_key) : r;
}

/* --- netrc --- */

/* The next word; NULL at the end. *at moves behind it. */
static const char *next_word(const char **at, size_t *ret_len)
{
	const char *word = *at + strspn(*at, " \t\r\n");

	*ret_len = strcspn(word, " \t\r\n");
	*at = word + *ret_len;
	return *ret_len == 0 ? NULL : word;
}

static bool word_is(const char *word, size_t len, const char *text)
{
	return strlen(text) == len && memcmp(word, text, len) == 0;
}

int key_from_netrc(char ret_key[API_KEY_MAX + 1], const char *text, const char *machine)
{
	const char *word;
	size_t len;
	bool ours = false;

	while ((word = next_word(&text, &len)) != NULL) {
		const char *value;
		size_t value_len;

		if (word_is(word, len, "macdef"))
			return -ENOENT;
		if (word_is(word, len, "default")) {
			ours = false;
			continue;
		}
		value = next_word(&text, &value_len);
		if (value == NULL)
			return -ENOENT;
		if (word_is(word, len, "machine")) {
			ours = word_is(value, value_len, machine);
		} else if (ours && word_is(word, len, "password") && value_len <= API_KEY_MAX) {
			memcpy(ret_key, value, value_len);
			ret_key[value_len] = '\0';
			return 0;
		}
	}
	return -ENOENT;
}

/* "https://api.wandb.ai:443/x" is the machine "api.wandb.ai". */
static void machine_of(const char *url, char ret[256])
{
	const char *host = strstr(url, "://");

	host = host == NULL ? url : host + 3;
	(void)snprintf(ret, 256, "%.*s", (int)strcspn(host, "/:?#"), host); /* a cut name is none */
}

static int from_netrc(struct key *ret, const char *base_url, char *room)
{
	const char *home = getenv("HOME");
	char path[1024];
	char machine[256];
	char text[API_KEY_MAX + 1];
	size_t len = 0;
	int r;

	if (home == NULL || snprintf(path, sizeof(path), "%s/.netrc", home) >= (int)sizeof(path))
		return -ENOENT;
	/* a netrc that is open to all, or holds something else for this machine, is not ours to
	   complain about */
	if (read_secret(path, room, &len, true) < 0)
		return -ENOENT;
	machine_of(base_url, machine);
	/* NOLINTNEXTLINE(readability-suspicious-call-argument): its own text, another's room */
	r = key_from_netrc(text, room, machine);
	if (r == 0)
		r = key_take(ret, text, strlen(text));
	explicit_bzero(text, sizeof(text));
	(void)snprintf(ret->source, sizeof(ret->source), "%s", path);
	return r < 0 ? -ENOENT : 0;
}

int key_find(struct key *ret, const char *key_file, const char *base_url, char ret_error[256])
{
	struct key found = {.text = ""};
	char *room = mem_alloc(FILE_MAX + 1);
	int r;

	if (room == NULL)
		return -ENOMEM;
	r = from_credential(&found, room, ret_error);
	if (r == -ENOENT && key_file[0] != '\0')
		r = from_file(&found, key_file, room, ret_error);
	if (r == -ENOENT)
		r = from_variable(&found, ret_error);
	if (r == -ENOENT)
		r = from_netrc(&found, base_url, room);
	explicit_bzero(room, FILE_MAX + 1);
	(void)mem_free(room);
	if (r == -ENOENT) {
		key_forget(&found);
		r = 0;
	}
	if (r == 0)
		*ret = found;
	key_forget(&found);
	return r;
}
