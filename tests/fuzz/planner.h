/* A reader of nothing but records and a state in memory, for the fuzz targets of the planner. */
#pragma once

#include "daemon/forward/models/plan.h"

#include <assert.h>
#include <errno.h>

enum {
	FUZZ_RUN = 1,
	FUZZ_RECORDS_MAX = 64
};

struct reader {
	struct stored_record records[FUZZ_RECORDS_MAX]; /* lsn n at n - 1 */
	int64_t count;
	struct span state; /* .at NULL: none */
};

int reader_stream(struct reader *r, int64_t stream, struct stream_info *ret)
{
	(void)r;
	*ret = (struct stream_info){.stream = stream};
	return 0;
}

int reader_run(struct reader *r, int64_t run, struct run_info *ret)
{
	(void)r;
	*ret = (struct run_info){.id = run};
	return 0;
}

int reader_planner(struct reader *r, int64_t run, struct buf *ret)
{
	(void)run;
	return r->state.at == NULL ? -ENOENT : buf_add(ret, r->state.at, r->state.len);
}

int reader_record(struct reader *r, int64_t lsn, reader_on_record on_record, void *arg)
{
	return lsn < 1 || lsn > r->count ? -ENOENT : on_record(arg, &r->records[lsn - 1]);
}

int reader_records(struct reader *r, int64_t stream, int64_t after, unsigned max,
		   reader_on_record on_record, void *arg, unsigned *ret_count)
{
	int result = 0;

	(void)stream;
	*ret_count = 0;
	for (int64_t lsn = after + 1; result == 0 && lsn <= r->count && *ret_count < max; lsn++) {
		(*ret_count)++;
		result = on_record(arg, &r->records[lsn - 1]);
	}
	return result;
}

int reader_uploads_of_key(struct reader *r, int64_t run, struct span key, int64_t *ret)
{
	(void)r;
	(void)run;
	(void)key;
	*ret = 0;
	return 0;
}

int reader_sent_file(struct reader *r, int64_t run, struct span key, struct span blob,
		     reader_on_sent_file on_file, void *arg)
{
	(void)r;
	(void)run;
	(void)key;
	(void)blob;
	(void)on_file;
	(void)arg;
	return -ENOENT;
}

int reader_blob_size(struct reader *r, struct span digest, int64_t *ret)
{
	(void)r;
	(void)digest;
	*ret = 1;
	return 0;
}

/* The state that the plan would store, in a list that the caller frees; NULL: no memory. */
static inline struct changes *saved(struct plan *p, struct span *ret)
{
	struct changes *changes = changes_new(NULL, NULL);

	if (changes == NULL)
		return NULL;
	plan_save(p, changes);
	assert(changes->error == 0 && changes->count == 1);
	*ret = changes->items[0].text;
	return changes;
}

/* What a plan stores is loaded, and stored as the same bytes again. */
static inline void check_state(struct plan *p, struct reader *reader)
{
	struct plan again;
	struct span first;
	struct span second;
	struct changes *one = saved(p, &first);
	struct changes *two;

	assert(one != NULL);
	assert(plan_init(&again, FUZZ_RUN, p->rows.merge_max_us) == 0);
	reader->state = first;
	assert(plan_load(&again, reader) == 0);
	two = saved(&again, &second);
	assert(two != NULL);
	assert(span_equal(first, second));
	reader->state = (struct span){.at = NULL};
	(void)changes_free(one);
	(void)changes_free(two);
	plan_done(&again);
}
