/* A line on wbxcat's standard input, and msgpack as wbxctl prints it. */
#include "client/ctl/jsonrow.h"
#include "client/ctl/mpjson.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span bytes = {.at = data, .len = size};
	char error[JSONROW_ERROR_MAX] = "";
	struct wbx_map *values = wbx_map_new();
	struct json_row row;
	struct json json;
	struct buf out;

	assert(values != NULL);
	if (jsonrow_read(bytes, values, &row, error) < 0)
		assert(error[0] != '\0');
	wbx_map_free(values);
	buf_init(&out, 1 << 20);
	json_init(&json, &out);
	(void)json_add_mp(&json, bytes); /* bad ones are refused; what matters is that it ends */
	buf_done(&out);
	return 0;
}
