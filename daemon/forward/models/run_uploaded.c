/* See run_parts.h: the run's stream says which files the storage has. */
#include "daemon/forward/models/run_parts.h"

void run_look_for_there(struct models_run *r)
{
	struct upload_counts counts;

	if (!r->may_have_there || reader_upload_counts(r->host->reader, r->id, &counts) < 0)
		return; /* the next look asks again */
	r->may_have_there = false;
	r->has_there = counts.files[UPLOAD_THERE] > 0;
}

struct saying {
	struct models_run *r;
	struct wire_stream *stream;
	bool is_full;
};

static int on_there(void *arg, const struct upload_info *u)
{
	struct saying *s = arg;
	struct request *q = &s->r->request;

	s->is_full = q->path_count == REQUEST_PATHS;
	if (s->is_full)
		return 1;
	q->paths[q->path_count++] = u->id;
	wire_stream_uploaded(s->stream, u->path);
	return 0;
}

int run_uploaded_body(struct models_run *r, struct wire_stream *stream, bool *ret_all)
{
	struct saying s = {.r = r, .stream = stream};
	int e = 0;

	*ret_all = !r->has_there;
	/* while a refused part is looked for it goes alone */
	if (!r->has_there || (r->parts_max != 0 && request_parts(&r->request) > 0))
		return 0;
	e = reader_uploads(r->host->reader, r->id, UPLOADS_THERE, 0, on_there, &s);
	*ret_all = !s.is_full;
	return e < 0 ? e : 0;
}

void run_uploaded_sent(struct models_run *r)
{
	const struct request *q = &r->request;

	for (unsigned i = 0; i < q->path_count; i++) {
		const struct change done = {.kind = CHANGE_UPLOAD_DONE, .number = q->paths[i]};

		changes_add(r->changes, &done);
	}
	r->may_have_there |= q->path_count > 0;
}
