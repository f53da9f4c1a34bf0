/* See log.h. One write(2) per line, so that lines of different threads do not mix. */
#include "daemon/base/log.h"

#include "daemon/base/log_entry.h"
#include "proto/base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 1024
};

static _Atomic int lowest_level = LOG_LEVEL_INFO;
static bool is_journal; /* both set before threads start */
static int journal_fd = -1;

static const struct {
	const char *name;
	int priority; /* of syslog, which the journal reads in <...> */
} levels[] = {
	[LOG_LEVEL_DEBUG] = {"debug", 7},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_WARN] = {"warn", 4},
	[LOG_LEVEL_ERROR] = {"error", 3},
};

void log_set_level(enum log_level level)
{
	atomic_store(&lowest_level, (int)level);
}

int log_level_by_name(const char *name, enum log_level *ret)
{
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(name, levels[i].name) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* False when this place has said enough for now. *ret_held: lines held back since it spoke last. */
static bool site_may_speak(struct log_site *site, unsigned *ret_held)
{
	uint64_t now = clock_mono_ms();
	uint64_t start = atomic_load(&site->window_start_ms);

	if (now - start >= LOG_WINDOW_MS &&
	    atomic_compare_exchange_strong(&site->window_start_ms, &start, now))
		atomic_store(&site->said, 0);
	if (atomic_fetch_add(&site->said, 1) >= LOG_BURST) {
		atomic_fetch_add(&site->held_back, 1);
		return false;
	}
	*ret_held = atomic_exchange(&site->held_back, 0);
	return true;
}

/* --- where lines go --- */

/* Whether standard error is what $JOURNAL_STREAM names: a process that redirected it has inherited
 * the variable all the same. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char mine[64];
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) < 0)
		return false;
	(void)snprintf(mine, sizeof(mine), "%llu:%llu", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino); /* fits */
	return strcmp(stream, mine) == 0;
}

void log_open(const char *journal_socket)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	is_journal = stderr_is_journal();
	if (!is_journal || strlen(journal_socket) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, journal_socket, strlen(journal_socket));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		(void)close(fd); /* nothing was written */
		fd = -1;
	}
	journal_fd = fd;
}

/* False: then standard error takes it. */
static bool send_to_journal(enum log_level level, const char *area, const char *text)
{
	char entry[LOG_ENTRY_MAX];

	return journal_fd >= 0 &&
	       send(journal_fd, entry, log_entry(entry, levels[level].priority, area, text),
		    MSG_NOSIGNAL) >= 0;
}

static void send_to_stderr(enum log_level level, const char *area, const char *text)
{
	char line[LINE_MAX_BYTES + 128];
	struct timespec now = {0};
	struct tm tm = {0};
	char when[32] = "";
	int n;

	if (is_journal) {
		n = snprintf(line, sizeof(line), "<%d>%.32s: %s\n", levels[level].priority, area,
			     text);
	} else {
		(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
		(void)gmtime_r(&now.tv_sec, &tm);
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(line, sizeof(line), "%s.%03ldZ %-5s %.32s: %s\n", when,
			     now.tv_nsec / 1000000, levels[level].name, area, text);
	}
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nowhere left to say it */
}

/* --- lines --- */

void log_write(struct log_site *site, enum log_level level, const char *area, const char *format,
	       ...)
{
	char text[LINE_MAX_BYTES];
	unsigned held = 0;
	size_t len;
	va_list args;
	int n;

	if ((int)level < atomic_load(&lowest_level) || !site_may_speak(site, &held))
		return;
	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0)
		return;
	len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
	if (held != 0)
		(void)snprintf(text + len, sizeof(text) - len,
			       " (%u more like this were held back)", held); /* cut is fine */
	for (char *c = text; *c != '\0';
	     c++) { /* one event, one line; nothing that a terminal would obey */
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
	if (!send_to_journal(level, area, text))
		send_to_stderr(level, area, text);
}
