/* Lines for the operator: "area: key=value ... sentence". To the journal with the pairs as fields,
 * when it reads standard error; to standard error otherwise, with the time. Any thread. A line that one place repeats more than LOG_BURST times in LOG_WINDOW_MS
 * is counted instead, and the count stands in the next one that goes out. Never a key, a header, or
 * record contents. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARN,
	LOG_LEVEL_ERROR
};

enum {
	LOG_BURST = 10,
	LOG_WINDOW_MS = 10000
};

/* What one place in the code has said lately. */
struct log_site {
	_Atomic uint64_t window_start_ms;
	_Atomic unsigned said;
	_Atomic unsigned held_back;
};

/* Finds out whether the journal reads standard error ($JOURNAL_STREAM), and whether it listens at
 * journal_socket; when it does not, lines go to standard error with `<priority>`. Before threads
 * start. Without it nothing is known of a journal. */
void log_open(const char *journal_socket);
/* Takes the level from now on; the default is info. */
void log_set_level(enum log_level level);
/* 0 and *ret, or -EINVAL: the names are debug, info, warn, error. */
int log_level_by_name(const char *name, enum log_level *ret);

void log_write(struct log_site *site, enum log_level level, const char *area, const char *format,
	       ...) __attribute__((format(printf, 4, 5)));

#define LOG_AT(level, area, ...)                                                                   \
	do {                                                                                       \
		static struct log_site site_;                                                      \
		log_write(&site_, level, area, __VA_ARGS__);                                       \
	} while (0)

/* error: a human must act. warn: we go on, and say how. info: once per start, stop, run, or change
 * of state. */
#define log_debug(area, ...) LOG_AT(LOG_LEVEL_DEBUG, area, __VA_ARGS__)
#define log_info(area, ...)  LOG_AT(LOG_LEVEL_INFO, area, __VA_ARGS__)
#define log_warn(area, ...)  LOG_AT(LOG_LEVEL_WARN, area, __VA_ARGS__)
#define log_error(area, ...) LOG_AT(LOG_LEVEL_ERROR, area, __VA_ARGS__)
