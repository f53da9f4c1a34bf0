/* A planner's stored state: loaded or refused, and what was loaded can be stored again. */
#include "tests/fuzz/planner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(const struct plan *p)
{
	auto_buf struct buf text;
	struct json j;

	buf_init(&text, 16 << 20);
	json_init(&j, &text);
	json_open_array(&j);
	summary_to_json(&p->summary, &j);
	about_config_to_json(&p->about, &p->metrics, NULL, &j);
	json_close_array(&j);
	assert(j.depth == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader reader = {.state = {.at = data, .len = size}};
	struct plan p;
	int r = plan_init(&p, FUZZ_RUN, 1000);

	assert(r == 0);
	r = plan_load(&p, &reader);
	assert(r == 0 || r == -EBADMSG || r == -EPROTO || r == -E2BIG);
	if (r == 0) {
		print(&p);
		check_state(&p, &reader);
	}
	plan_done(&p);
	return 0;
}
