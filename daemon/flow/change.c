/* See change.h. Copied bytes go into chunks that are only ever appended to, so spans into them stay
 * good. */
#include "daemon/flow/change.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

enum {
	CHUNK_BYTES = 16 << 10
};

struct chunk {
	struct chunk *next;
	size_t used;
	size_t size;
	uint8_t bytes[];
};

struct changes *changes_new(void *owner, struct mailbox *reply_to)
{
	struct changes *c = mem_zalloc(sizeof(*c));

	if (c == NULL)
		return NULL;
	c->mail.type = MAIL_CHANGES;
	c->owner = owner;
	c->reply_to = reply_to;
	return c;
}

void changes_reset(struct changes *c)
{
	while (c->chunks != NULL) {
		struct chunk *gone = c->chunks;

		c->chunks = gone->next;
		(void)mem_free(gone);
	}
	c->items = mem_free(c->items);
	c->count = c->cap = 0;
	c->error = 0;
	c->result = 0;
}

struct changes *changes_free(struct changes *c)
{
	if (c == NULL)
		return NULL;
	changes_reset(c);
	return mem_free(c);
}

static void *chunk_take(struct changes *c, size_t len)
{
	struct chunk *at = c->chunks;

	if (at == NULL || at->size - at->used < len) {
		size_t size = len > CHUNK_BYTES ? len : CHUNK_BYTES;

		at = mem_alloc(sizeof(*at) + size);
		if (at == NULL)
			return NULL;
		at->next = c->chunks;
		at->used = 0;
		at->size = size;
		c->chunks = at;
	}
	at->used += len;
	return at->bytes + at->used - len;
}

static void keep(struct changes *c, struct span *s)
{
	void *copy;

	if (s->at == NULL)
		return;
	copy = chunk_take(c, s->len);
	if (copy == NULL) {
		c->error = -ENOMEM;
		return;
	}
	if (s->len != 0)
		memcpy(copy, s->at, s->len);
	s->at = copy;
}

void changes_add(struct changes *c, const struct change *change)
{
	struct change *new;

	if (c->error == 0)
		c->error = mem_room(c->items, c->count, c->cap);
	if (c->error != 0)
		return;
	new = &c->items[c->count++];
	*new = *change;
	struct span *const borrowed[] = {
		&new->text,
		&new->text2,
		&new->text3,
		&new->text4,
		&new->dead.reason,
		&new->dead.request,
		&new->dead.answer,
		&new->dead.body,
		&new->upload.key,
		&new->upload.path,
		&new->upload.sha256,
		&new->upload.client_id,
		&new->upload.sequence_client_id,
		&new->upload.blob,
		&new->artifact.mark,
		&new->artifact.type,
		&new->artifact.name,
		&new->artifact.about,
		&new->artifact.client_id,
		&new->artifact.sequence_client_id,
		&new->artifact.digest,
		&new->artifact.server_id,
		&new->artifact.base_id,
		&new->artifact.manifest_id,
		&new->artifact.file.path,
		&new->artifact.file.blob,
		&new->artifact.file.digest,
		&new->artifact.file.ref,
		&new->artifact.file.extra,
		&new->artifact.file.birth,
		&new->call.id,
		&new->call.trace,
		&new->call.parent,
	};
	for (size_t i = 0; i < array_len(borrowed); i++)
		keep(c, borrowed[i]);
}

void changes_add_dead_record(struct changes *c, const char *sink, int64_t run, int64_t time_us,
			     struct span record, const char *reason)
{
	const struct change dead = {
		.kind = CHANGE_DEAD_ADD,
		.run = run,
		.text = span_of_text(sink),
		.time_us = time_us,
		.dead =
			{
				.what = "record",
				.step = -1,
				.reason = span_of_text(reason),
				.request = SPAN_LITERAL(""),
				.answer = SPAN_LITERAL(""),
				.body = record,
			},
	};

	changes_add(c, &dead);
}
