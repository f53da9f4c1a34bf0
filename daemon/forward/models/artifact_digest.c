/* See artifact_digest.h. */
#include "daemon/forward/models/artifact_digest.h"

#include "proto/base/mem.h"

#include <errno.h>

enum {
	READ_BYTES = 256 << 10,
	READS_A_SLICE = 4,
	FILES_A_SLICE = 16,
	PARTS_TEXT_MAX = 1 << 16,
};

static struct span blob_of(const struct artifact_digest *d)
{
	return (struct span){.at = d->blob, .len = sizeof(d->blob)};
}

static int read_table(void *arg, const uint8_t *part, int64_t offset, void *ret_bytes, size_t len,
		      size_t *ret_len)
{
	struct artifact_digest *d = arg;
	struct span rows = {.at = part, .len = DIGEST_BYTES};

	return reader_blob(d->reader, part == NULL ? blob_of(d) : rows, offset, ret_bytes, len,
			   ret_len);
}

/* A file in a cell goes into the artifact beside its table: its path is made of its digest. */
static int on_cell_file(void *arg, const struct table_file *f)
{
	struct artifact_digest *d = arg;
	struct span rows = {.at = f->part, .len = DIGEST_BYTES};
	struct change c = {.kind = CHANGE_ARTIFACT_FILE, .number = d->artifact};
	struct md5 m = {0};
	uint8_t sum[MD5_BYTES];
	char text[MD5_BASE64_MAX];
	int r = md5_begin(&m);

	if (r == 0)
		r = md5_add(&m, f->bytes.at, f->bytes.len);
	if (r == 0)
		r = md5_end(&m, sum);
	md5_done(&m);
	if (r < 0)
		return r;
	md5_base64(sum, text);
	c.artifact.file.path = f->path;
	c.artifact.file.blob = f->part == NULL ? blob_of(d) : rows;
	c.artifact.file.start = f->offset;
	c.artifact.file.size = (int64_t)f->bytes.len;
	c.artifact.file.digest = span_of_text(text);
	changes_add(d->changes, &c);
	d->found++;
	return d->changes->error;
}

/* --- one file --- */

static int end_part(struct artifact_digest *d)
{
	uint8_t sum[MD5_BYTES];
	char hex[ARTIFACT_DIGEST_MAX];
	int r = md5_end(&d->part, sum);

	if (r < 0)
		return r;
	md5_hex(sum, hex);
	d->part_left = d->part_bytes;
	return buf_add_text(&d->parts, hex);
}

static int add_parts(struct artifact_digest *d, const uint8_t *bytes, size_t len)
{
	int r = 0;

	while (r == 0 && len > 0) {
		size_t some = (uint64_t)d->part_left < len ? (size_t)d->part_left : len;

		r = md5_add(&d->part, bytes, some);
		d->part_left -= (int64_t)some;
		if (r == 0 && d->part_left == 0)
			r = end_part(d);
		bytes += some;
		len -= some;
	}
	return r;
}

static int add_bytes(struct artifact_digest *d, const uint8_t *bytes, size_t len)
{
	int r = md5_add(&d->file, bytes, len);

	d->offset += (int64_t)len;
	if (r == 0 && !d->is_table && d->blob_size >= d->multipart_bytes)
		r = add_parts(d, bytes, len);
	return r;
}

/* 1: there is more of it. */
static int step_blob(struct artifact_digest *d)
{
	uint8_t *bytes = mem_alloc(READ_BYTES);
	int r = bytes == NULL ? -ENOMEM : 1;

	for (unsigned i = 0; r == 1 && i < READS_A_SLICE; i++) {
		size_t got = 0;

		r = reader_blob(d->reader, blob_of(d), d->offset, bytes, READ_BYTES, &got);
		if (r == 0 && got > 0)
			r = add_bytes(d, bytes, got);
		if (r == 0)
			r = got == READ_BYTES;
	}
	(void)mem_free(bytes);
	if (r == 0 && d->offset != d->blob_size)
		return -EIO; /* the file is shorter than its row says */
	return r;
}

static int step_table(struct artifact_digest *d)
{
	int r = table_step(&d->table);

	if (r >= 0 && add_bytes(d, d->table.out.data, d->table.out.len) < 0)
		r = -ENOMEM;
	buf_clear(&d->table.out);
	return r;
}

static int add_to_whole(struct artifact_digest *d, struct span digest)
{
	const struct manifest_entry e = {.path = buf_span(&d->path), .digest = digest};

	return manifest_digest_add(&d->whole, &e);
}

static int end_file(struct artifact_digest *d)
{
	uint8_t sum[MD5_BYTES];
	char text[MD5_BASE64_MAX];
	struct change c = {.kind = CHANGE_ARTIFACT_FILE_SET, .number = d->artifact};
	int r = md5_end(&d->file, sum);

	if (r == 0 && d->part_left < d->part_bytes && d->blob_size >= d->multipart_bytes)
		r = end_part(d);
	if (r < 0)
		return r;
	md5_base64(sum, text);
	c.artifact.file.path = buf_span(&d->path);
	c.artifact.file.size = d->offset;
	c.artifact.file.digest = span_of_text(text);
	if (d->parts.len > 0)
		c.artifact.file.extra = buf_span(&d->parts);
	changes_add(d->changes, &c);
	d->is_open = false;
	table_done(&d->table);
	return add_to_whole(d, span_of_text(text));
}

static int step_file(struct artifact_digest *d)
{
	int r = d->is_table ? step_table(d) : step_blob(d);

	return r == 0 ? end_file(d) : r;
}

/* --- one after the other --- */

static int open_file(struct artifact_digest *d, const struct artifact_file *f)
{
	if (f->blob.len != DIGEST_BYTES)
		return -ENOENT;
	memcpy(d->blob, f->blob.at, DIGEST_BYTES);
	d->is_open = true;
	d->is_table = f->form == ARTIFACT_TABLE;
	d->blob_size = f->blob_size;
	d->offset = 0;
	d->part_left = d->part_bytes;
	buf_clear(&d->parts);
	if (d->is_table) {
		table_init(&d->table, TABLE_ARTIFACT, read_table, d);
		d->table.on_file = on_cell_file;
	}
	return 0;
}

/* 1: there was a file. */
static int on_file(void *arg, const struct artifact_file *f)
{
	struct artifact_digest *d = arg;
	int r;

	buf_clear(&d->path);
	r = buf_add(&d->path, f->path.at, f->path.len);
	if (r == 0 && f->digest.at != NULL)
		r = add_to_whole(d, f->digest); /* a reference, or it was known before */
	else if (r == 0)
		r = open_file(d, f);
	return r < 0 ? r : 1;
}

/* 1: there is more to do; 0: that was all. */
static int next_file(struct artifact_digest *d)
{
	return reader_artifact_files(d->reader, d->artifact, buf_span(&d->path), 1,
				     ARTIFACT_FILES_ALL, on_file, d);
}

static enum job_result step(struct job *job, struct reader *reader)
{
	struct artifact_digest *d = container_of(job, struct artifact_digest, job);
	int r = 1;

	if (reader == NULL) {
		d->result = -EAGAIN;
		return JOB_DONE;
	}
	d->reader = reader;
	for (unsigned i = 0; r == 1 && i < FILES_A_SLICE && !d->is_open; i++)
		r = next_file(d);
	if (r == 1 && d->is_open) {
		r = step_file(d);
		r = r < 0 ? r : 1;
	}
	if (r == 1)
		return JOB_AGAIN;
	if (r == 0)
		r = manifest_digest_end(&d->whole, d->digest);
	d->result = r < 0 ? r : d->changes->error;
	return JOB_DONE;
}

struct artifact_digest *artifact_digest_new(void *owner, struct mailbox *reply_to, int64_t artifact)
{
	struct artifact_digest *d = mem_zalloc(sizeof(*d));

	if (d == NULL)
		return NULL;
	buf_init(&d->path, ARTIFACT_PATH_MAX);
	buf_init(&d->parts, PARTS_TEXT_MAX);
	d->changes = changes_new(owner, reply_to);
	if (d->changes == NULL || manifest_digest_begin(&d->whole) < 0 || md5_begin(&d->file) < 0 ||
	    md5_begin(&d->part) < 0)
		return artifact_digest_free(d);
	d->job.mail.type = MAIL_JOB;
	d->job.step = step;
	d->job.reply_to = reply_to;
	d->owner = owner;
	d->artifact = artifact;
	d->multipart_bytes = ARTIFACT_MULTIPART_BYTES;
	d->part_bytes = ARTIFACT_PART_BYTES;
	d->result = -ECANCELED; /* until it has run */
	return d;
}

struct artifact_digest *artifact_digest_free(struct artifact_digest *d)
{
	if (d == NULL)
		return NULL;
	if (d->is_open)
		table_done(&d->table);
	d->changes = changes_free(d->changes);
	md5_done(&d->whole);
	md5_done(&d->file);
	md5_done(&d->part);
	buf_done(&d->path);
	buf_done(&d->parts);
	return mem_free(d);
}
