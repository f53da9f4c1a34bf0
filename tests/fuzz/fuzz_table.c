/* A table's blob: whatever the bytes, it is rendered or refused, and a whole one is JSON's
 * brackets. */
#include "daemon/forward/models/table.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_input(void *arg, int64_t offset, void *ret_bytes, size_t len, size_t *ret_len)
{
	const struct span *in = arg;
	size_t at = (size_t)offset;

	assert(at <= in->len);
	if (len > in->len - at)
		len = in->len - at;
	if (len > 0)
		memcpy(ret_bytes, in->at + at, len);
	*ret_len = len;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {.at = data, .len = size};
	auto_buf struct buf text;
	struct table t;
	int r = 1;

	buf_init(&text, 256 << 20);
	table_init(&t, read_input, &in);
	while (r == 1) {
		r = table_step(&t);
		(void)buf_add(&text, t.out.data, t.out.len); /* the buf remembers */
		buf_clear(&t.out);
	}
	assert(r == 0 || r == -EBADMSG || r == -EMSGSIZE);
	if (r == 0) {
		struct span end = {.at = text.data + text.len - 2, .len = 2};

		assert(text.error == 0 && text.len >= 24 && span_is(end, "]}"));
		assert(t.rows_left == 0 && t.json.depth == 0);
		assert(t.rows_written ==
		       (t.rows < TABLE_FILE_ROWS_MAX ? t.rows : TABLE_FILE_ROWS_MAX));
	}
	table_done(&t);
	return 0;
}
