/* Records of traced calls as a list tells of them: what clients put into outputs is anything. */
#include "daemon/ingest/call_brief.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record_fault fault;
	struct record record;
	struct buf pairs;
	struct pack p;
	size_t count = 0;
	struct mp m;

	if (record_parse((struct span){.at = data, .len = size}, &record, &fault) < 0)
		return 0;
	buf_init(&pairs, CALL_BRIEF_MAX);
	pack_init(&p, &pairs);
	if (call_brief_pack(&p, &record, &count)) {
		assert(pairs.error == 0);
		m = mp_of(buf_span(&pairs));
		for (size_t i = 0; i < 2 * count; i++)
			assert(mp_skip(&m, NULL) == 0);
		assert(mp_left(&m) == 0);
	}
	buf_done(&pairs);
	return 0;
}
