/* A journal or spool file of a dead producer: its header, then the frames that it says are there.
 */
#include "proto/frame.h"
#include "proto/journal.h"
#include "proto/record.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_header h;
	uint64_t place;

	if (size < JOURNAL_HEADER || journal_header_read(data, size, &h) < 0)
		return 0;
	assert(h.is_spool ? h.start <= h.head && h.head <= h.tail
			  : h.tail <= h.head || h.tail - h.head <= h.capacity);
	assert(h.hello.at >= data && h.hello.at + h.hello.len <= data + JOURNAL_HEADER);
	place = h.head;
	while (place < h.tail) {
		uint64_t at = journal_offset(&h, place);
		uint64_t left = h.is_spool ? size - at : journal_run(&h, place);
		struct span in = {.at = data + at, .len = (size_t)left};
		struct span payload;
		size_t used;

		assert(at + left <= size);
		if (frame_next(in, RECORD_MAX, &payload, &used) != FRAME_READY)
			break;
		place += used;
	}
	return 0;
}
