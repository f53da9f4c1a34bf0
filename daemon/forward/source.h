/* Bytes on their way out, pulled piece by piece and never whole in memory: a blob or a range of it,
 * a table that is rendered while it is sent, a text. Their number is known beforehand. Sender thread
 * only, like the reader that they read from. */
#pragma once

#include "daemon/flow/reader.h"

struct source {
	int64_t size;
	/* The next bytes, up to len of them (at least one while any are left). 0; -ENOENT: the blob
	 * is not here any more; -EBADMSG, -EMSGSIZE: it is no table; -EIO: there are fewer than `size`;
	 * -ENOMEM, what the disk says. */
	int (*read)(struct source *s, void *ret_bytes, size_t len, size_t *ret_len);
	/* Back to the first byte. 0, -ENOMEM. */
	int (*rewind)(struct source *s);
	void (*free)(struct source *s);
};

/* `size` bytes of the blob from offset. The reader is borrowed for the source's life; the digest is
 * copied. NULL: no memory, as below. */
struct source *source_of_blob(struct reader *reader, struct span digest, int64_t offset,
			      int64_t size);
/* The run file of the table in that blob (models/table.h); size: as its digest_job said. */
struct source *source_of_table(struct reader *reader, struct span digest, int64_t size);
/* The same table as it stands in its artifact. */
struct source *source_of_artifact_table(struct reader *reader, struct span digest, int64_t size);
/* Takes the text, also when there is no memory. */
struct source *source_of_text(struct buf *text);

/* Returns NULL, also for NULL. */
static inline struct source *source_free(struct source *s)
{
	if (s != NULL)
		s->free(s);
	return NULL;
}
