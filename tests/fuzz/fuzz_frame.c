/* A stream of frames: whatever the bytes, frame_next() stays inside them and goes forward. */
#include "proto/frame.h"
#include "proto/limits.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {.at = data, .len = size};
	struct span payload;
	size_t used;

	while (frame_next(in, RECORD_MAX, &payload, &used) == FRAME_READY) {
		assert(used > 1 && used <= in.len && payload.len < used);
		in.at += used;
		in.len -= used;
	}
	return 0;
}
