/* See batch.h. */
#include "daemon/flow/batch.h"

#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>

void batch_init(struct batch *b)
{
	*b = (struct batch){.mail = {.type = MAIL_BATCH}};
	buf_init(&b->bytes, BATCH_BYTES_MAX + RECORD_MAX);
}

void batch_done(struct batch *b)
{
	buf_done(&b->bytes);
	b->entries = mem_free(b->entries);
	b->peers = mem_free(b->peers);
	b->entry_count = b->entry_cap = b->peer_count = b->peer_cap = 0;
}

void batch_reset(struct batch *b, size_t keep_bytes)
{
	buf_trim(&b->bytes, keep_bytes);
	b->entry_count = 0;
	b->peer_count = 0;
	b->wanted = false;
	b->result = 0;
}

bool batch_is_empty(const struct batch *b)
{
	return b->entry_count == 0 && b->peer_count == 0;
}

bool batch_is_full(const struct batch *b)
{
	return b->entry_count >= BATCH_RECORDS_MAX || b->bytes.len >= BATCH_BYTES_MAX;
}

int batch_add_peer(struct batch *b, const struct batch_peer *peer, unsigned *ret_index)
{
	int r = mem_room(b->peers, b->peer_count, b->peer_cap);

	if (r < 0)
		return r;
	b->peers[b->peer_count] = *peer;
	*ret_index = (unsigned)b->peer_count++;
	return 0;
}

void batch_drop_peer(struct batch *b)
{
	assert(b->peer_count > 0);
	b->peer_count--;
}

int batch_add_hello(struct batch *b, unsigned peer, struct span payload)
{
	size_t at = b->bytes.len;
	int r = buf_add(&b->bytes, payload.at, payload.len);

	if (r < 0) {
		b->bytes.error = 0; /* this one does not fit; the batch goes on */
		return r;
	}
	b->peers[peer].is_new = true;
	b->peers[peer].hello_at = at;
	b->peers[peer].hello_len = payload.len;
	b->wanted = true;
	return 0;
}

int batch_add(struct batch *b, const struct batch_entry *e, struct span payload, struct span run)
{
	int r = mem_room(b->entries, b->entry_count, b->entry_cap);
	size_t at = b->bytes.len;
	struct batch_entry *new;

	if (r < 0)
		return r;
	r = buf_add(&b->bytes, payload.at, payload.len);
	if (r < 0) {
		b->bytes.error = 0; /* this one does not fit; the batch goes on */
		return r;
	}
	new = &b->entries[b->entry_count++];
	*new = *e;
	new->at = at;
	new->len = payload.len;
	new->run_len = run.len;
	if (run.len != 0) {
		assert(run.at >= payload.at && run.at + run.len <= payload.at + payload.len);
		new->run_at = at + (size_t)(run.at - payload.at);
	}
	return 0;
}
