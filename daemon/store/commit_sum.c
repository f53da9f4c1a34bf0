/* See commit_parts.h: sums of a stream from its beginning, one extent per commit, so that a backlog
 * is one subtraction; and counts of what was not stored. */
#include "daemon/flow/run.h"
#include "daemon/store/commit_parts.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Sums at the end of a stream: its newest extent. */
struct tail {
	struct map_node node;
	int64_t stream;
	int64_t records;
	int64_t bytes;
	int64_t blobs;
	int64_t blob_bytes;
	bool of_done_run; /* metrics, rest: its run is done; the next record opens it again */
};

enum {
	SQL_EXTENT,
	SQL_TAIL,
	SQL_RUN_DONE,
	SQL_REOPEN,
	SQL_TALLY,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_EXTENT] = "INSERT INTO extent (stream, first, last, time_us, records, bytes, blobs, "
		       "blob_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	[SQL_TAIL] = "SELECT records, bytes, blobs, blob_bytes FROM extent WHERE stream = ?1 ORDER "
		     "BY first DESC LIMIT 1",
	[SQL_RUN_DONE] = "SELECT state = 4 FROM run WHERE id = ?1",
	[SQL_REOPEN] = "UPDATE run SET reopened = 1 WHERE id = ?1 AND state = 4",
	[SQL_TALLY] = "INSERT INTO tally (name, count) VALUES (?1, ?2) ON CONFLICT (name) DO "
		      "UPDATE SET count = count + excluded.count",
};

/* --- streams --- */

static bool tail_matches(struct map_node *node, const void *key)
{
	return container_of(node, struct tail, node)->stream == *(const int64_t *)key;
}

static int run_is_done(struct commit *c, int64_t stream, bool *ret)
{
	sqlite3_stmt *s = db_stmt(&c->own_sums, SQL_RUN_DONE);
	int r;

	*ret = false;
	if (stream_class(stream) != CLASS_METRICS && stream_class(stream) != CLASS_REST)
		return 0;
	db_bind_int(s, 1, stream_run(stream));
	r = db_step(s);
	if (r != 1)
		return r;
	*ret = db_column_int(s, 0) == 1;
	return db_run(s);
}

static int tail_of(struct commit *c, int64_t stream, struct tail **ret)
{
	uint64_t hash = map_hash(&c->tails, &stream, sizeof(stream));
	struct map_node *node = map_find(&c->tails, hash, tail_matches, &stream);
	struct tail *t;
	sqlite3_stmt *s;
	int r;

	if (node != NULL) {
		*ret = container_of(node, struct tail, node);
		return 0;
	}
	t = mem_zalloc(sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	t->stream = stream;
	s = db_stmt(&c->own_sums, SQL_TAIL);
	db_bind_int(s, 1, stream);
	r = db_step(s);
	if (r == 1) {
		t->records = db_column_int(s, 0);
		t->bytes = db_column_int(s, 1);
		t->blobs = db_column_int(s, 2);
		t->blob_bytes = db_column_int(s, 3);
		r = db_run(s);
	}
	if (r == 0)
		r = run_is_done(c, stream, &t->of_done_run);
	if (r == 0)
		r = map_add(&c->tails, &t->node, hash);
	if (r < 0) {
		(void)mem_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

static void note_done(struct commit *c, int64_t stream)
{
	struct map_node *node = map_find(&c->tails, map_hash(&c->tails, &stream, sizeof(stream)),
					 tail_matches, &stream);

	if (node != NULL)
		container_of(node, struct tail, node)->of_done_run = true;
}

void commit_note_done(struct commit *c, int64_t run)
{
	note_done(c, stream_of(run, CLASS_METRICS));
	note_done(c, stream_of(run, CLASS_REST));
}

static int reopen_run(struct commit *c, struct tail *t)
{
	sqlite3_stmt *s = db_stmt(&c->own_sums, SQL_REOPEN);

	t->of_done_run = false;
	db_bind_int(s, 1, stream_run(t->stream));
	return db_run(s);
}

int commit_insert_extent(struct commit *c, const struct group *g, int64_t first, int64_t now_us)
{
	sqlite3_stmt *s;
	struct tail *t;
	int r = tail_of(c, g->stream, &t);

	if (r < 0)
		return r;
	if (t->of_done_run) {
		r = reopen_run(c, t);
		if (r < 0)
			return r;
	}
	t->records += g->records;
	t->bytes += g->bytes;
	t->blobs += g->blobs;
	t->blob_bytes += g->blob_bytes;
	s = db_stmt(&c->own_sums, SQL_EXTENT);
	db_bind_int(s, 1, g->stream);
	db_bind_int(s, 2, first);
	db_bind_int(s, 3, first + g->records - 1);
	db_bind_int(s, 4, now_us);
	db_bind_int(s, 5, t->records);
	db_bind_int(s, 6, t->bytes);
	db_bind_int(s, 7, t->blobs);
	db_bind_int(s, 8, t->blob_bytes);
	return db_run(s);
}

/* --- what is not stored --- */

static int count_tally(struct commit *c, const char *kind, const char *name, uint64_t count)
{
	char text[64];
	sqlite3_stmt *s = db_stmt(&c->own_sums, SQL_TALLY);

	(void)snprintf(text, sizeof(text), "%s:%s", kind, name); /* codes are short and ours */
	db_bind_text(s, 1, span_of_text(text));
	db_bind_int(s, 2, count > INT32_MAX ? INT32_MAX : (int64_t)count);
	return db_run(s);
}

static int count_lost(struct commit *c, const struct batch *b, const struct batch_entry *e)
{
	int r = count_tally(c, "lost", "client", e->lost);

	return r < 0 ? r : commit_count_missing(c, b, e, e->lost);
}

static int count_refusal(struct commit *c, const struct batch *b, const struct batch_entry *e)
{
	bool for_disk = strcmp(e->code, "disk_full") == 0;
	/* a row that holds a table is refused for its table */
	enum record_class class = e->has_blobs ? CLASS_BULK : kind_info(e->kind)->class;
	int r = e->run_len == 0 ? 0 : commit_count_missing(c, b, e, 1);

	if (r < 0)
		return r;
	return for_disk ? count_tally(c, "refused", class_name(class), 1)
			: count_tally(c, "rejected", e->code, 1);
}

int commit_count_refusals(struct commit *c, const struct batch *b)
{
	for (size_t i = 0; i < b->entry_count; i++) {
		const struct batch_entry *e = &b->entries[i];
		int r = 0;

		if (e->fate == ENTRY_DUPLICATE)
			continue;
		if (e->lost != 0)
			r = count_lost(c, b, e);
		if (r == 0 && e->code != NULL)
			r = count_refusal(c, b, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- life --- */

void commit_sums_forget(struct commit *c)
{
	struct map_node *node;

	while ((node = map_pop(&c->tails)) != NULL)
		(void)mem_free(container_of(node, struct tail, node));
}

int commit_sums_open(struct commit *c)
{
	int r = db_prepare(&c->own_sums, texts, SQL_COUNT);

	return r < 0 ? r : map_init(&c->tails);
}

void commit_sums_close(struct commit *c)
{
	commit_sums_forget(c);
	map_done(&c->tails);
	c->own_sums.handle = NULL; /* db's to close */
	db_close(&c->own_sums);
}
