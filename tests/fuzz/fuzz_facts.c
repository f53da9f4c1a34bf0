/* The daemon's answer to `status`, as wbxctl takes, judges and shows it. */
#include "client/ctl/facts.h"
#include "client/ctl/judge.h"
#include "client/ctl/report.h"
#include "client/ctl/screen.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct facts facts;
	struct judgement verdict;
	struct buf out;

	if (facts_read((struct span){.at = data, .len = size}, &facts) < 0)
		return 0;
	buf_init(&out, 1 << 20);
	if (judge(&facts, &verdict) == 0) {
		screen_add(&out, &facts, &verdict, false);
		for (size_t i = 0; i < out.len; i++) /* nothing may steer a terminal */
			assert(out.data[i] == '\n' || (out.data[i] >= ' ' && out.data[i] != 0x7f));
		report_add(&out, &facts, &verdict);
	}
	judgement_done(&verdict);
	buf_done(&out);
	return 0;
}
