/* Records, as clients write them, on their way to lines: the input is one payload after the other.
 * Offsets rise by one, steps strictly, and the state survives. */
#include "proto/record.h"
#include "tests/fuzz/planner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct plan plan;
	struct reader reader;
	struct changes *changes;
	int64_t step;
	int64_t offset;
};

static void check_changes(struct run *r)
{
	assert(r->changes->error == 0);
	for (size_t i = 0; i < r->changes->count; i++) {
		const struct change *c = &r->changes->items[i];

		if (c->kind != CHANGE_LINE_ADD)
			continue;
		assert(c->offset == r->offset && c->step > r->step);
		assert(c->text.len > 2 && c->text.at[0] == '{' &&
		       c->text.at[c->text.len - 1] == '}');
		r->offset++;
		r->step = c->step;
	}
	changes_reset(r->changes);
	plan_begin(&r->plan);
}

/* Tables are known at once, or are none. */
static void go_on(struct run *r, enum plan_outcome outcome, uint8_t blob[DIGEST_BYTES],
		  int64_t now_us)
{
	while (outcome == PLAN_TABLE || outcome == PLAN_FULL) {
		struct plan_table table = {.result = blob[0] % 2 == 0 ? 0 : -EBADMSG};
		int e;

		memcpy(table.blob, blob, DIGEST_BYTES);
		memset(table.sha256, 'a', sizeof(table.sha256) - 1);
		if (outcome == PLAN_TABLE)
			assert(plan_add_table(&r->plan, &table) == 0);
		check_changes(r);
		e = plan_rows(&r->plan, &r->reader, r->changes, now_us, &outcome, blob);
		assert(e == 0);
	}
	check_changes(r);
}

static void take(struct run *r, struct span payload)
{
	struct record record;
	struct record_fault fault;
	enum plan_outcome outcome = PLAN_IDLE;
	uint8_t blob[DIGEST_BYTES] = {0};
	struct stored_record *stored = &r->reader.records[r->reader.count];

	if (record_parse(payload, &record, &fault) < 0)
		return; /* never stored */
	r->reader.count++;
	*stored = (struct stored_record){
		.lsn = r->reader.count,
		.producer = (int64_t)(record.seq % 4),
		.time_us = r->reader.count * 400, /* some are overdue */
		.payload = payload,
	};
	do {
		int e = plan_take(&r->plan, &r->reader, r->changes, stored, &outcome, blob);

		assert(e == 0);
		go_on(r, outcome, blob, stored->time_us);
	} while (r->plan.cursor != stored->lsn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run r = {.step = -1};
	struct mp at = mp_of((struct span){.at = data, .len = size});
	struct span payload;
	uint8_t blob[DIGEST_BYTES] = {0};
	enum plan_outcome outcome = PLAN_IDLE;

	assert(plan_init(&r.plan, FUZZ_RUN, 1000) == 0);
	r.changes = changes_new(NULL, NULL);
	assert(r.changes != NULL);
	r.plan.may_write = true;
	while (r.reader.count < FUZZ_RECORDS_MAX && mp_take(&at, &payload) == 0)
		take(&r, payload);
	check_state(&r.plan, &r.reader);
	for (int64_t p = 0; p < 4; p++)
		assert(rows_leave(&r.plan.rows, p, INT32_MAX) == 0);
	assert(plan_rows(&r.plan, &r.reader, r.changes, INT32_MAX, &outcome, blob) == 0);
	go_on(&r, outcome, blob, INT32_MAX);
	assert(plan_is_over(&r.plan));
	check_state(&r.plan, &r.reader);
	(void)changes_free(r.changes);
	plan_done(&r.plan);
	return 0;
}
