/* Apart from test_ctl_json.c, because proto/base/json.h and jansson.h share names. */
#include "client/ctl/jsonrow.h"
#include "proto/base/mem.h"
#include "tests/lib/suite.h"

#include <jansson.h>

static void *on_alloc(size_t size)
{
	return mem_alloc(size);
}

static void on_free(void *p)
{
	(void)mem_free(p);
}

static int read_once(void)
{
	static const char line[] = "{\"a\":[1,{\"b\":\"text\"}],\"c\":NaN}";
	char error[JSONROW_ERROR_MAX];
	struct wbx_map *m = wbx_map_new();
	struct json_row row;
	int r = m == NULL ? -ENOMEM : jsonrow_read(span_of_text(line), m, &row, error);

	wbx_map_free(m);
	return r;
}

/* Not with WITH_EACH_ALLOCATION_FAILING: jansson says "bad JSON" for some of them. */
START_TEST(reading_a_line_survives_every_allocation_failure)
{
	unsigned nth = 0;
	int r;

	json_set_alloc_funcs(on_alloc, on_free);
	do {
		mem_fail_at(++nth);
		r = read_once();
		mem_fail_at(0);
		ck_assert(r == 0 || r == -ENOMEM || r == -EINVAL);
	} while (r != 0);
	ck_assert_uint_gt(nth, 15);
}
END_TEST

SUITE_MAIN("ctl_jsonrow", reading_a_line_survives_every_allocation_failure)
