/* A request on the control socket. */
#include "daemon/ingest/query.h"
#include "proto/mp.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_request request;

	if (control_request_parse((struct span){.at = data, .len = size}, &request) == 0) {
		struct mp body = mp_of(request.body);

		assert(mp_skip(&body, NULL) == 0);
	}
	return 0;
}
