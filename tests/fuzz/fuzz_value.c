/* msgpack values as JSON, and maps as trees: whatever the bytes, brackets close, and what was taken
 * is the same after it was stored. */
#include "daemon/forward/models/tree.h"
#include "proto/limits.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(struct span in, enum value_style style)
{
	auto_buf struct buf out;
	struct mp m = mp_of(in);
	struct json j;

	buf_init(&out, 1 << 20);
	json_init(&j, &out);
	if (value_to_json(&j, &m, style) == 0)
		assert(j.depth == 0 && m.at > in.at && m.at <= m.end);
}

static void pack_leaf(struct pack *p, const struct node *leaf)
{
	pack_raw(p, buf_span(&leaf->value));
}

static void write_tree(const struct tree *t, struct buf *json, struct buf *bytes)
{
	struct json j;
	struct pack p;

	buf_init(json, 16 << 20);
	buf_init(bytes, 16 << 20);
	json_init(&j, json);
	pack_init(&p, bytes);
	tree_to_json(t, &j, VALUE_HISTORY, NULL);
	tree_to_msgpack(t, &p, pack_leaf);
	assert(j.depth == 0 && json->error == 0 && bytes->error == 0);
}

/* As deep as a record's contents may be: deeper ones do not come to trees. */
static bool is_deep(struct span in)
{
	static const struct mp_limits limits = {.depth = RECORD_DEPTH_MAX,
						.items = SIZE_MAX,
						.keys = SIZE_MAX,
						.key_bytes = SIZE_MAX};
	struct mp m = mp_of(in);

	return mp_skip(&m, &limits) == -E2BIG;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {.at = data, .len = size};
	auto_buf struct buf json = {.data = NULL};
	auto_buf struct buf bytes = {.data = NULL};
	auto_buf struct buf json_again = {.data = NULL};
	auto_buf struct buf bytes_again = {.data = NULL};
	struct tree t;
	struct tree again;
	size_t max = size == 0 ? 0 : data[size - 1] % 32u; /* often full */
	int r;

	print(in, VALUE_HISTORY);
	print(in, VALUE_CONFIG);
	if (is_deep(in) || tree_init(&t, max) < 0 || tree_init(&again, max) < 0)
		return 0;
	r = tree_merge(&t, NULL, mp_of(in), NULL, NULL);
	assert(r == 0 || r == -EBADMSG || r == -E2BIG);
	assert(t.count <= max);
	write_tree(&t, &json, &bytes);
	r = tree_merge(&again, NULL, mp_of(buf_span(&bytes)), NULL, NULL);
	assert(r == 0 && again.count == t.count);
	write_tree(&again, &json_again, &bytes_again);
	assert(span_equal(buf_span(&json), buf_span(&json_again)));
	assert(span_equal(buf_span(&bytes), buf_span(&bytes_again)));
	(void)tree_each_named(&again, in, tree_remove); /* 0 or -EBADMSG */
	tree_done(&t);
	tree_done(&again);
	return 0;
}
