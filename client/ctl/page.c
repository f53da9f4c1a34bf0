/* See page.h. */
#include "client/ctl/page.h"

#include "client/ctl/outside.h"

#include <string.h>

enum {
	TEXT_COLUMNS = PAGE_COLUMNS - PAGE_INDENT
};

/* A number stays with its unit when there is another place. */
static bool may_break(struct span line, size_t at, bool is_choosy)
{
	uint8_t before = at > 0 ? line.at[at - 1] : ' ';

	return line.at[at] == ' ' && !(is_choosy && before >= '0' && before <= '9');
}

/* Bytes of the line's start that go on one line of the page: up to a space, unless one word is
 * wider than the page. */
static size_t line_break(struct span line)
{
	size_t fits = text_fit(line, TEXT_COLUMNS);
	size_t at = fits;

	if (fits == line.len)
		return fits;
	while (at > 0 && !may_break(line, at, true))
		at--;
	if (at == 0) {
		at = fits;
		while (at > 0 && !may_break(line, at, false))
			at--;
	}
	return at > 0 ? at : fits > 0 ? fits : line.len;
}

static void add_line(struct buf *out, const char **label, struct span line)
{
	do {
		size_t len = line_break(line);

		if (*label != NULL)
			(void)buf_printf(out, "%*s: ", PAGE_INDENT - 2,
					 *label); /* errors stay in out */
		else
			(void)buf_printf(out, "%*s", PAGE_INDENT, "");
		(void)buf_add(out, line.at, len);
		(void)buf_add_byte(out, '\n');
		*label = NULL;
		line.at += len;
		line.len -= len;
		while (line.len > 0 && line.at[0] == ' ') {
			line.at++;
			line.len--;
		}
	} while (line.len > 0);
}

void page_add(struct buf *out, const char *label, struct span text)
{
	while (text.len > 0) {
		const uint8_t *end = memchr(text.at, '\n', text.len);
		size_t len = end == NULL ? text.len : (size_t)(end - text.at);

		add_line(out, &label, (struct span){.at = text.at, .len = len});
		if (end != NULL)
			len++;
		text.at += len;
		text.len -= len;
	}
}
