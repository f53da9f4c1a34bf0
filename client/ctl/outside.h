/* Text that came from outside (names, record contents, answers of servers) on its way to a
 * terminal: what could steer the terminal or hide what is written becomes visible escapes. Nothing
 * from outside is printed by any other way. Pure. */
#pragma once

#include "proto/base/buf.h"

enum outside_form {
	OUTSIDE_LINE,  /* one line: \n and \t are escaped too */
	OUTSIDE_LINES, /* for long texts: line ends and tabs stay */
	OUTSIDE_JSON,  /* inside is JSON already, without raw control characters below 0x20 */
};

/* Appends text. C0, DEL, C1 and the marks that turn the writing direction become \n, \t, \xNN or
 * \u{NNNN} (in JSON \uNNNN); bytes that are not UTF-8 become \xNN. Errors stay in the buf. */
void outside_add(struct buf *out, struct span text, enum outside_form form);
/* The same for one line of at most `columns` of the terminal, its end replaced by … when it is
 * longer. */
void outside_add_cut(struct buf *out, struct span text, size_t columns);
/* C text, one line. */
void outside_add_text(struct buf *out, const char *text);

/* Columns that escaped text takes on a terminal: wide characters two, combining marks none. */
size_t text_columns(struct span escaped);
/* Bytes of the longest start of escaped text that fits. */
size_t text_fit(struct span escaped, size_t columns);
