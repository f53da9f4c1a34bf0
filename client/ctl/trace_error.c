/* See trace_error.h. */
#include "client/ctl/trace_error.h"

#include <jansson.h>

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text == NULL ? "" : text;
}

static void add_head(struct buf *out, const json_t *e)
{
	const char *message = text_of(e, "message");

	(void)buf_add_text(out, text_of(e, "type")); /* errors stay in out */
	if (message[0] != '\0')
		(void)buf_printf(out, ": %s", message);
}

void trace_error_add(struct buf *out, const char *exception)
{
	json_t *e = json_loads(exception, 0, NULL);

	if (json_is_object(e))
		add_head(out, e);
	else
		(void)buf_add_text(out, exception);
	json_decref(e);
}

void trace_error_add_lines(struct buf *out, const char *exception, const char *indent)
{
	json_t *e = json_loads(exception, 0, NULL);
	size_t i;
	json_t *frame;

	(void)buf_add_text(out, indent);
	if (json_is_object(e))
		add_head(out, e);
	else
		(void)buf_add_text(out, exception);
	(void)buf_add_byte(out, '\n');
	json_array_foreach(json_object_get(e, "traceback"), i, frame)
	{
		(void)buf_printf(
			out, "%s  %s:%lld %s: %s\n", indent, text_of(frame, "filename"),
			(long long)json_integer_value(json_object_get(frame, "line_number")),
			text_of(frame, "function_name"), text_of(frame, "text"));
	}
	json_decref(e);
}
