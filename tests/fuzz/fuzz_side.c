/* Records beside the history, as clients write them, on their way to lines: the input is one payload
 * after the other, its seq says what happens meanwhile. Lines follow one another without a gap, what
 * W&B has never shrinks, everything is confirmed in the end, and the state survives. */
#include "proto/record.h"
#include "tests/lib/sidebox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	RECORDS_MAX = 48,
	LINES_MAX = 2000
};

/* So that no input has more lines than the box. */
static size_t newlines(struct span payload)
{
	size_t n = 0;

	for (size_t i = 0; i < payload.len; i++)
		n += payload.at[i] == '\n';
	return n + payload.len / 1024;
}

static void take(struct sidebox *b, struct span payload, uint64_t chance)
{
	const struct stored_record record = {
		.lsn = b->side.cursor + 1, .producer = (int64_t)(chance % 3), .payload = payload};

	do {
		if (chance & 4)
			sidebox_restart(b);
		sidebox_take(b, &record);
		sidebox_commit(b);
		sidebox_send(b, (int64_t)(chance % 5), (chance & 8) != 0);
		if (chance & 16)
			sidebox_restart(b);
		sidebox_send(b, INT64_MAX, true);
		assert(!side_waits(&b->side));
	} while (b->side.cursor < record.lsn);
	assert(b->reader->confirmed_lsn == record.lsn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mp at = mp_of((struct span){.at = data, .len = size});
	struct span payload;
	struct sidebox b;
	struct rows nobody;
	size_t lines = 0;
	int64_t count = 0;
	int r;

	sidebox_open(&b);
	while (count < RECORDS_MAX && mp_take(&at, &payload) == 0) {
		struct record record;
		struct record_fault fault;

		lines += newlines(payload);
		if (record_parse(payload, &record, &fault) < 0 || lines > LINES_MAX)
			continue; /* never stored */
		take(&b, payload, record.seq);
		count++;
	}
	assert(b.reader->confirmed == count);
	rows_init(&nobody, 0);
	side_begin(&b.side);
	r = side_end_orphans(&b.side, b.changes, &nobody);
	assert(r == 0);
	sidebox_commit(&b);
	sidebox_send(&b, INT64_MAX, true);
	assert(b.side.console.count == 0 && !side_waits(&b.side));
	assert(b.side.next[SIDE_CONSOLE] == b.reader->files[SIDE_CONSOLE].count);
	rows_done(&nobody);
	sidebox_close(&b);
	return 0;
}
