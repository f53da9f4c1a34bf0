/* See log.h. One write(2) per line, so that lines of different threads do not mix. */
#include "daemon/base/log.h"

#include "proto/base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 1024
};

static _Atomic int lowest_level = LOG_LEVEL_INFO;

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

static size_t write_head(char *line, enum log_level level, const char *area)
{
	struct timespec now = {0};
	struct tm tm = {0};
	char when[32] = "";
	int n;

	if (getenv("JOURNAL_STREAM") != NULL) { /* set before threads start, never changed */
		n = snprintf(line, LINE_MAX_BYTES, "<%d>%s: ", levels[level].priority, area);
	} else {
		(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
		(void)gmtime_r(&now.tv_sec, &tm);
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(line, LINE_MAX_BYTES, "%s.%03ldZ %-5s %s: ", when,
			     now.tv_nsec / 1000000, levels[level].name, area);
	}
	return (size_t)n;
}

void log_write(struct log_site *site, enum log_level level, const char *area, const char *format,
	       ...)
{
	char line[LINE_MAX_BYTES + 1];
	unsigned held = 0;
	size_t len;
	va_list args;
	int n;

	if ((int)level < atomic_load(&lowest_level) || !site_may_speak(site, &held))
		return;
	len = write_head(line, level, area);
	va_start(args, format);
	n = vsnprintf(line + len, LINE_MAX_BYTES - len, format, args);
	va_end(args);
	if (n < 0)
		return;
	len = (size_t)n < LINE_MAX_BYTES - len ? len + (size_t)n : LINE_MAX_BYTES - 1;
	if (held != 0) {
		n = snprintf(line + len, LINE_MAX_BYTES - len,
			     " (%u more like this were held back)", held);
		len = (size_t)n < LINE_MAX_BYTES - len ? len + (size_t)n : LINE_MAX_BYTES - 1;
	}
	for (size_t i = 0; i < len;
	     i++) { /* one event, one line; nothing that a terminal would obey */
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nowhere left to say it */
}
