/* A page of labelled paragraphs, as wbxctl status prints: labels end in one column, texts are
 * wrapped behind them. Errors stay in the buf. Pure. */
#pragma once

#include "proto/base/buf.h"

enum {
	PAGE_COLUMNS = 100,
	PAGE_INDENT = 10 /* label, colon, space */
};

/* `text` is safe for the terminal; its lines stay lines, and are wrapped where they are longer than
 * the page. label NULL: indented only. An empty text prints nothing. */
void page_add(struct buf *out, const char *label, struct span text);
