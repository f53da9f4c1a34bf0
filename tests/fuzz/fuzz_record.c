/* A record's payload: what record_parse() takes, readers may walk without looking. */
#include "proto/record.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record r;
	struct record_fault fault;
	struct mp body;
	struct span blob;

	if (record_parse((struct span){.at = data, .len = size}, &r, &fault) < 0) {
		assert(fault.code[0] != '\0');
		return 0;
	}
	body = mp_of(r.body);
	assert(mp_skip(&body, NULL) == 0 && mp_left(&body) == 0);
	for (uint32_t i = 0; i < record_blob_count(&r); i++)
		assert(record_blob(&r, i, &blob) && blob.len == 32);
	return 0;
}
