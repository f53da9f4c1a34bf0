/* The lines of a run's console, as a terminal of one line per process and stream shows them: a
 * carriage return goes back to the line's beginning, and what follows replaces character by
 * character what stands there; a newline ends the line. Other control sequences are text, as in
 * W&B's client (0.31.0), which also follows the cursor up and down. Pure; one owner at a time. */
#pragma once

#include "proto/mp.h"
#include "proto/pack.h"

enum {
	CONSOLE_LINE_MAX = 16 << 10, /* bytes; what is longer goes on in another line */
	CONSOLE_OPEN_MAX = 256, /* lines that have not ended, of one run; the oldest ends then */
	CONSOLE_LABEL_MAX = 128,
};

/* Who writes. */
struct console_writer {
	int64_t producer;
	bool is_error;     /* stderr */
	struct span label; /* empty: none; borrowed */
	int64_t time_us;   /* of the call */
};

/* A line that has not ended. */
struct console_line {
	int64_t producer;
	bool is_error;
	bool is_changed; /* since the owner took this back */
	int64_t time_us; /* when it began */
	size_t at;       /* where the next character goes */
	struct buf label;
	struct buf text;
};

struct console {
	struct console_line *lines; /* the oldest first */
	size_t count;
	size_t cap;
};

void console_done(struct console *c);
/* Takes from *text until a line ends. 1: *ret is its place in c->lines, and console_drop() has to
 * follow; 0: all of the text is in; -ENOMEM. */
int console_feed(struct console *c, const struct console_writer *writer, struct span *text,
		 size_t *ret);
void console_drop(struct console *c, size_t line);

/* The line as W&B takes it, appended: JSON when the server announces structured lines. */
void console_line_text(const struct console_line *line, bool structured, struct buf *ret);

/* State: an array, and back (0, -EBADMSG, -ENOMEM). */
void console_to_msgpack(const struct console *c, struct pack *p);
int console_from_msgpack(struct console *ret, struct mp array);
