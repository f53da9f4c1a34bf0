/* See file_take.h. */
#include "daemon/forward/models/file_take.h"

#include "daemon/forward/models/artifact_take.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void set_aside(struct changes *changes, int64_t run, const struct record *record,
		      const char *reason)
{
	const struct change c = {
		.kind = CHANGE_DEAD_ADD,
		.run = run,
		.text = SPAN_LITERAL("artifacts"),
		.time_us = (int64_t)record->time_us,
		.dead =
			{
				.what = "file record",
				.step = -1,
				.reason = span_of_text(reason),
				.request = SPAN_LITERAL(""),
				.answer = SPAN_LITERAL(""),
				.body = mp_get_str(mp_of(record->body), "path"),
			},
	};

	changes_add(changes, &c);
}

static int same_file(void *arg, const struct sent_file *f)
{
	(void)arg;
	(void)f;
	return 0;
}

/* The newest of the path has these bytes: of the plan under way, else of the store. 1, 0, -errno. */
static int is_known(struct reader *reader, const struct changes *changes, const struct change *c)
{
	int r;

	for (size_t i = changes->count; i > 0; i--) {
		const struct change *o = &changes->items[i - 1];

		if (o->kind == CHANGE_UPLOAD_ADD && o->upload.kind == UPLOAD_FILE &&
		    span_equal(o->upload.path, c->upload.path))
			return span_equal(o->upload.blob, c->upload.blob);
	}
	r = reader_sent_file(reader, c->run, c->upload.key, c->upload.blob, same_file, NULL);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

static int add_upload(struct reader *reader, struct changes *changes, struct change *c)
{
	char sha256[2 * DIGEST_BYTES + 1] = "";
	int r = 0;

	for (size_t i = 0; i < c->upload.blob.len && i < DIGEST_BYTES; i++)
		(void)snprintf(sha256 + 2 * i, 3, "%02x", c->upload.blob.at[i]); /* and a NUL */
	c->upload.sha256 = span_of_text(sha256);
	if (c->upload.blob.len > 0)
		r = reader_blob_size(reader, c->upload.blob, &c->upload.size);
	if (r == 0)
		r = is_known(reader, changes, c);
	if (r == 0)
		changes_add(changes, c);
	return r < 0 ? r : 0;
}

/* The record is; what it brings waits as an upload. */
static int confirm(struct reader *reader, struct changes *changes,
		   const struct stored_record *stored, const struct record *record, int64_t run)
{
	struct change c = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(run, CLASS_BULK),
		.records = 1,
		.bytes = (int64_t)stored->payload.len,
		.blobs = (int64_t)record_blob_count(record),
	};
	struct span digest;

	for (uint32_t i = 0; record_blob(record, i, &digest); i++) {
		int64_t size = 0;
		int r = reader_blob_size(reader, digest, &size);

		if (r < 0 && r != -ENOENT)
			return r;
		c.blob_bytes += size;
	}
	changes_add(changes, &c);
	return 0;
}

int file_take(struct reader *reader, struct changes *changes, const struct stored_record *stored,
	      const struct record *record, int64_t run, bool is_over)
{
	struct span path = mp_get_str(mp_of(record->body), "path");
	struct span policy = mp_get_str(mp_of(record->body), "policy");
	struct change c = {
		.kind = CHANGE_UPLOAD_ADD,
		.run = run,
		.lsn = stored->lsn,
		.step = -1,
		.time_us = (int64_t)record->time_us,
		.upload =
			{
				.kind = UPLOAD_FILE,
				.state = span_is(policy, "end") && !is_over ? UPLOAD_AT_END
									    : UPLOAD_WAITING,
				.key = path,
				.path = path,
				.client_id = SPAN_LITERAL(""),
				.sequence_client_id = SPAN_LITERAL(""),
				.blob = SPAN_LITERAL(""),
			},
	};
	struct span digest;
	int r;

	if (record_blob(record, 0, &digest))
		c.upload.blob = digest;
	if (!artifact_path_is_good(path)) {
		set_aside(changes, run, record, "its path leads out of the run's files");
		return confirm(reader, changes, stored, record, run);
	}
	r = add_upload(reader, changes, &c);
	if (r == -ENOENT) {
		set_aside(changes, run, record, "its bytes are not here any more");
		r = 0;
	}
	return r < 0 ? r : confirm(reader, changes, stored, record, run);
}
