/* A table's blob: whatever the bytes, it is rendered or refused, and a whole one is JSON's
 * brackets. */
#include "daemon/forward/models/table.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_input(void *arg, const uint8_t *part, int64_t offset, void *ret_bytes, size_t len,
		      size_t *ret_len)
{
	const struct span *in = arg;
	static const uint8_t rows[] = {0x92, 0x91, 1, 0x91, 2};
	const struct span part_span = {.at = rows, .len = sizeof(rows)};
	size_t at = (size_t)offset;

	if (part != NULL)
		in = &part_span;
	assert(at <= in->len);
	if (len > in->len - at)
		len = in->len - at;
	if (len > 0)
		memcpy(ret_bytes, in->at + at, len);
	*ret_len = len;
	return 0;
}

/* The first byte says which of the two files it is to be; other blobs have two rows each. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum table_form form = size > 0 && data[0] == 0xc1 ? TABLE_ARTIFACT : TABLE_RUN_FILE;
	size_t skip = form == TABLE_ARTIFACT ? 1 : 0;
	struct span in = {.at = data + skip, .len = size - skip};
	uint64_t most = form == TABLE_ARTIFACT ? TABLE_ARTIFACT_ROWS_MAX : TABLE_FILE_ROWS_MAX;
	auto_buf struct buf text;
	struct table t;
	int r = 1;

	buf_init(&text, 256 << 20);
	table_init(&t, form, read_input, &in);
	while (r == 1) {
		r = table_step(&t);
		(void)buf_add(&text, t.out.data, t.out.len); /* the buf remembers */
		buf_clear(&t.out);
	}
	assert(r == 0 || r == -EBADMSG || r == -EMSGSIZE);
	if (r == 0) {
		struct span end = {.at = text.data + text.len - 2, .len = 2};

		assert(text.error == 0 && text.len >= 24);
		assert(span_is(end, form == TABLE_ARTIFACT ? "}}" : "]}"));
		assert(t.rows_left == 0 && t.json.depth == 0);
		assert(t.rows_written == (t.rows < most ? t.rows : most));
	}
	table_done(&t);
	return 0;
}
