/* What a client of the metrics page sends, in two pieces: the pieces must not matter. */
#include "daemon/ingest/http_get.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum http_get_result feed(struct http_get *g, const uint8_t *data, size_t size, size_t cut)
{
	enum http_get_result result;

	http_get_init(g);
	result = http_get_feed(g, (struct span){.at = data, .len = cut});
	if (result == HTTP_GET_MORE)
		result = http_get_feed(g, (struct span){.at = data + cut, .len = size - cut});
	assert(g->head_bytes <= HTTP_HEAD_MAX);
	return result;
}

/* Which of two faults is found first depends on the pieces. */
static bool agree(enum http_get_result a, enum http_get_result b)
{
	bool a_is_fault = a == HTTP_GET_BAD || a == HTTP_GET_TOO_LARGE;
	bool b_is_fault = b == HTTP_GET_BAD || b == HTTP_GET_TOO_LARGE;

	return a == b || (a_is_fault && b_is_fault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_get whole;
	static struct http_get pieces;
	enum http_get_result result = feed(&whole, data, size, 0);

	assert(agree(feed(&pieces, data, size, size / 2), result));
	assert(agree(feed(&pieces, data, size, size < 5 ? size : 5), result));
	if (result == HTTP_GET_READY) {
		assert(strlen(whole.path) > 0 && strlen(whole.path) <= HTTP_TARGET_MAX);
		assert(strcmp(whole.path, pieces.path) == 0);
		assert(whole.head_bytes == pieces.head_bytes);
	}
	if (result == HTTP_GET_MORE)
		assert(size < HTTP_HEAD_MAX);
	return 0;
}
