/* See digest.h. */
#include "daemon/forward/models/digest.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

static int read_blob(void *arg, const uint8_t *part, int64_t offset, void *ret_bytes, size_t len,
		     size_t *ret_len)
{
	struct digest_job *d = arg;
	struct span blob = {.at = part == NULL ? d->blob : part, .len = sizeof(d->blob)};

	return reader_blob(d->reader, blob, offset, ret_bytes, len, ret_len);
}

static void say_digest(struct digest_job *d)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_DigestFinal_ex(d->hash, sum, &len) != 1 || len != DIGEST_BYTES) {
		d->result = -ENOMEM;
		return;
	}
	for (unsigned i = 0; i < len; i++)
		(void)snprintf(d->sha256 + (size_t)2 * i, 3, "%02x",
			       sum[i]); /* two digits, a NUL */
	d->rows = d->table.rows;
	d->columns = d->table.columns;
}

static enum job_result step(struct job *job, struct reader *reader)
{
	struct digest_job *d = container_of(job, struct digest_job, job);
	int r;

	if (reader == NULL) {
		d->result = -EAGAIN;
		return JOB_DONE;
	}
	d->reader = reader;
	r = table_step(&d->table);
	if (r >= 0 && EVP_DigestUpdate(d->hash, d->table.out.data, d->table.out.len) != 1)
		r = -ENOMEM;
	d->size += (int64_t)d->table.out.len;
	buf_clear(&d->table.out);
	if (r == 1)
		return JOB_AGAIN;
	d->result = r;
	if (r == 0)
		say_digest(d);
	return JOB_DONE;
}

struct digest_job *digest_new(void *owner, struct mailbox *reply_to, struct span blob)
{
	struct digest_job *d = mem_zalloc(sizeof(*d));

	if (d == NULL)
		return NULL;
	table_init(&d->table, TABLE_RUN_FILE, read_blob, d);
	d->hash = EVP_MD_CTX_new();
	if (d->hash == NULL || EVP_DigestInit_ex(d->hash, EVP_sha256(), NULL) != 1)
		return digest_free(d);
	d->job.mail.type = MAIL_JOB;
	d->job.step = step;
	d->job.reply_to = reply_to;
	d->owner = owner;
	d->result = -ECANCELED; /* until it has run */
	memcpy(d->blob, blob.at, sizeof(d->blob));
	return d;
}

struct digest_job *digest_free(struct digest_job *d)
{
	if (d == NULL)
		return NULL;
	table_done(&d->table);
	EVP_MD_CTX_free(d->hash);
	return mem_free(d);
}
