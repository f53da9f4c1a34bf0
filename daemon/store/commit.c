/* See commit.h. A batch goes through in four passes: peers, fates, records by stream, sums. Each
 * commit adds one extent per stream, so the records of a stream lie together in lsn order and a
 * cursor is one number. */
#include "daemon/base/fault.h"
#include "daemon/flow/run.h"
#include "daemon/store/commit_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/record.h"

#include <assert.h>
#include <errno.h>

enum {
	CACHE_MAX = 8192
}; /* entries of a cache; above it the cache starts again */

enum {
	SQL_PRODUCER_BY_NAME,
	SQL_PRODUCER_BY_ID,
	SQL_PRODUCER_INSERT,
	SQL_PRODUCER_SEQ,
	SQL_MEMBER_COUNT,
	SQL_RECORD,
	SQL_BLOB_USE,
	SQL_NEXT_LSN,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_PRODUCER_BY_NAME] = "SELECT id, last_seq FROM producer WHERE uid = ?1 AND name = ?2",
	[SQL_PRODUCER_BY_ID] = "SELECT id, last_seq FROM producer WHERE id = ?1",
	[SQL_PRODUCER_INSERT] = "INSERT INTO producer (uid, name, last_seq, hello, first_us) "
				"VALUES (?1, ?2, 0, ?3, ?4) RETURNING id, last_seq",
	[SQL_PRODUCER_SEQ] = "UPDATE producer SET last_seq = ?2 WHERE id = ?1 AND last_seq < ?2",
	[SQL_MEMBER_COUNT] = "SELECT count(*) FROM member WHERE producer = ?1",
	[SQL_RECORD] = "INSERT INTO record (lsn, producer, payload) VALUES (?1, ?2, ?3)",
	[SQL_BLOB_USE] = "INSERT OR IGNORE INTO blob_use (lsn, blob) VALUES (?1, ?2)",
	/* the newest record may be gone (retention), and a rowid would start again: meta then holds
	   the number */
	[SQL_NEXT_LSN] = "SELECT 1 + max(coalesce((SELECT max(lsn) FROM record), 0), "
			 "coalesce((SELECT value - 1 FROM meta WHERE key = 'next_lsn'), 0))",
};

/* --- producers --- */

static bool producer_matches(struct map_node *node, const void *key)
{
	return container_of(node, struct producer, node)->id == *(const int64_t *)key;
}

static void producers_empty(struct map *m)
{
	struct map_node *node;

	while ((node = map_pop(m)) != NULL)
		(void)mem_free(container_of(node, struct producer, node));
}

static int cache_producer(struct commit *c, sqlite3_stmt *row, struct producer **ret)
{
	struct producer *p = mem_zalloc(sizeof(*p));
	sqlite3_stmt *s;
	int r;

	if (p == NULL)
		return -ENOMEM;
	p->id = db_column_int(row, 0);
	p->last_seq = db_column_int(row, 1);
	r = db_run(row);
	s = db_stmt(&c->own, SQL_MEMBER_COUNT);
	db_bind_int(s, 1, p->id);
	if (r == 0)
		r = db_step(s);
	if (r == 1) {
		p->run_count = db_column_int(s, 0);
		r = db_run(s);
	}
	if (r == 0)
		r = map_add(&c->producers, &p->node,
			    map_hash(&c->producers, &p->id, sizeof(p->id)));
	if (r < 0) {
		(void)mem_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

static struct producer *cached_producer(const struct commit *c, int64_t id)
{
	struct map_node *node = map_find(&c->producers, map_hash(&c->producers, &id, sizeof(id)),
					 producer_matches, &id);

	return node == NULL ? NULL : container_of(node, struct producer, node);
}

static int producer_by_id(struct commit *c, int64_t id, struct producer **ret)
{
	struct producer *p = cached_producer(c, id);
	sqlite3_stmt *s;
	int r;

	if (p != NULL) {
		*ret = p;
		return 0;
	}
	s = db_stmt(&c->own, SQL_PRODUCER_BY_ID);
	db_bind_int(s, 1, id);
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -EIO; /* its row was there when it said hello, and is never
					    deleted */
	return cache_producer(c, s, ret);
}

static int producer_insert(struct commit *c, const struct batch *b, const struct batch_peer *peer,
			   struct producer **ret)
{
	struct record hello;
	struct record_fault fault;
	sqlite3_stmt *s = db_stmt(&c->own, SQL_PRODUCER_INSERT);
	int r;

	(void)record_parse(batch_bytes(b, peer->hello_at, peer->hello_len), &hello,
			   &fault); /* ingest took it, so it parses */
	db_bind_int(s, 1, peer->uid);
	db_bind_blob(s, 2, (struct span){.at = peer->producer, .len = PRODUCER_BYTES});
	db_bind_blob(s, 3, hello.body);
	db_bind_int(s, 4, (int64_t)clock_wall_us());
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -EIO;
	return cache_producer(c, s, ret);
}

static int producer_by_name(struct commit *c, const struct batch *b, const struct batch_peer *peer,
			    struct producer **ret)
{
	sqlite3_stmt *s = db_stmt(&c->own, SQL_PRODUCER_BY_NAME);
	struct producer *cached;
	int r;

	db_bind_int(s, 1, peer->uid);
	db_bind_blob(s, 2, (struct span){.at = peer->producer, .len = PRODUCER_BYTES});
	r = db_step(s);
	if (r < 0)
		return r;
	if (r == 0)
		return producer_insert(c, b, peer, ret);
	cached = cached_producer(c, db_column_int(s, 0));
	if (cached == NULL)
		return cache_producer(c, s, ret);
	*ret = cached;
	return db_run(s);
}

static int find_peers(struct commit *c, struct batch *b)
{
	for (size_t i = 0; i < b->peer_count; i++) {
		struct batch_peer *peer = &b->peers[i];
		struct producer *p;
		int r = peer->producer_id != 0 ? producer_by_id(c, peer->producer_id, &p)
					       : producer_by_name(c, b, peer, &p);

		if (r < 0)
			return r;
		peer->producer_id = p->id;
		peer->durable_seq = (uint64_t)p->last_seq;
	}
	return 0;
}

/* --- records --- */

enum {
	NONE = BATCH_RECORDS_MAX
}; /* no entry */

struct sorting {
	struct group *groups;
	size_t group_count;
	size_t *next; /* per entry: the next of its stream */
	struct blob_ref *refs;
};

/* A blob that a record names, kept until the record has its lsn. */
struct blob_ref {
	struct blob_ref *next;
	size_t entry;
	int64_t blob;
};

static bool is_named_before(const struct record *record, uint32_t at, struct span digest)
{
	struct span before;

	for (uint32_t i = 0; i < at && record_blob(record, i, &before); i++) {
		if (span_equal(before, digest))
			return true;
	}
	return false;
}

static int adopt_blobs(struct commit *c, const struct batch *b, size_t entry, struct sorting *sort,
		       struct group *g)
{
	struct batch_entry *e = &b->entries[entry];
	struct record record;
	struct record_fault fault;
	struct span digest;

	(void)record_parse(batch_bytes(b, e->at, e->len), &record,
			   &fault); /* ingest took it, so it parses */
	for (uint32_t i = 0; record_blob(&record, i, &digest); i++) {
		struct blob_ref *ref;
		int64_t size = 0;
		int r;

		if (is_named_before(&record, i, digest))
			continue; /* one use, one reference */
		ref = mem_alloc(sizeof(*ref));
		if (ref == NULL)
			return -ENOMEM;
		ref->next = sort->refs;
		sort->refs = ref;
		ref->entry = entry;
		r = blobs_adopt(c->blobs, b->peers[e->peer].session, digest, &ref->blob, &size);
		if (r < 0)
			return r;
		g->blobs++;
		g->blob_bytes += size;
	}
	return 0;
}

static struct group *group_of(struct sorting *sort, int64_t stream)
{
	for (size_t i = sort->group_count; i > 0; i--) { /* mostly the one before */
		if (sort->groups[i - 1].stream == stream)
			return &sort->groups[i - 1];
	}
	sort->groups[sort->group_count] =
		(struct group){.stream = stream, .first = NONE, .last = NONE};
	return &sort->groups[sort->group_count++];
}

void commit_reject(struct batch_entry *e, const char *code, const char *text)
{
	e->fate = ENTRY_REJECTED;
	e->code = code;
	e->text = text;
}

/* True when every blob of the record arrived; the entry is rejected otherwise, before anything of
 * it is written. */
static bool blobs_are_here(struct commit *c, const struct batch *b, struct batch_entry *e)
{
	struct record record;
	struct record_fault fault;
	struct span digest;

	(void)record_parse(batch_bytes(b, e->at, e->len), &record,
			   &fault); /* ingest took it, so it parses */
	for (uint32_t i = 0; record_blob(&record, i, &digest); i++) {
		if (!blobs_has(c->blobs, b->peers[e->peer].session, digest)) {
			commit_reject(e, "blob_missing",
				      "a blob that the record names did not arrive whole on this "
				      "connection");
			return false;
		}
	}
	return true;
}

/* Decides about one entry and, when it is to be stored, puts it behind the others of its stream. */
static int place_entry(struct commit *c, struct batch *b, size_t at, struct sorting *sort)
{
	struct batch_entry *e = &b->entries[at];
	struct batch_peer *peer = &b->peers[e->peer];
	struct producer *p = NULL;
	struct group *g;
	int64_t run = 0;
	int r = producer_by_id(c, peer->producer_id, &p);

	if (r < 0)
		return r;
	assert(p != NULL);
	if (e->seq != 0) {
		if (e->seq <= (uint64_t)p->last_seq) {
			e->fate = ENTRY_DUPLICATE;
			return 0;
		}
		p->last_seq = (int64_t)e->seq;
		peer->durable_seq = e->seq;
	}
	if (e->fate != ENTRY_STORE || (e->has_blobs && !blobs_are_here(c, b, e)))
		return 0;
	r = commit_find_run(c, b, e, p, &run);
	if (r < 0 || e->fate != ENTRY_STORE)
		return r;
	e->run = run;
	g = group_of(sort, stream_of(run, kind_info(e->kind)->class));
	sort->next[at] = NONE;
	if (g->first == NONE)
		g->first = at;
	else
		sort->next[g->last] = at;
	g->last = at;
	g->records++;
	g->bytes += (int64_t)e->len;
	return e->has_blobs ? adopt_blobs(c, b, at, sort, g) : 0;
}

static int insert_blob_uses(struct commit *c, const struct sorting *sort, size_t entry, int64_t lsn)
{
	for (const struct blob_ref *ref = sort->refs; ref != NULL; ref = ref->next) {
		sqlite3_stmt *s;
		int r;

		if (ref->entry != entry)
			continue;
		s = db_stmt(&c->own, SQL_BLOB_USE);
		db_bind_int(s, 1, lsn);
		db_bind_int(s, 2, ref->blob);
		r = db_run(s);
		if (r < 0)
			return r;
	}
	return 0;
}

static int insert_records(struct commit *c, const struct batch *b, const struct sorting *sort,
			  const struct group *g)
{
	for (size_t at = g->first; at != NONE; at = sort->next[at]) {
		const struct batch_entry *e = &b->entries[at];
		sqlite3_stmt *s = db_stmt(&c->own, SQL_RECORD);
		int r;

		db_bind_int(s, 1, c->next_lsn);
		db_bind_int(s, 2, b->peers[e->peer].producer_id);
		db_bind_blob(s, 3, batch_bytes(b, e->at, e->len));
		r = db_run(s);
		if (r == 0 && e->has_blobs)
			r = insert_blob_uses(c, sort, at, c->next_lsn);
		if (r < 0)
			return r;
		c->next_lsn++;
	}
	return 0;
}

static int insert_groups(struct commit *c, const struct batch *b, const struct sorting *sort)
{
	int64_t now_us = (int64_t)clock_wall_us();

	for (size_t i = 0; i < sort->group_count; i++) {
		int64_t first = c->next_lsn;
		int r = insert_records(c, b, sort, &sort->groups[i]);

		if (r == 0)
			r = commit_insert_extent(c, &sort->groups[i], first, now_us);
		if (r < 0)
			return r;
	}
	return 0;
}

static int save_seqs(struct commit *c, const struct batch *b)
{
	for (size_t i = 0; i < b->peer_count; i++) {
		struct producer *p = NULL;
		sqlite3_stmt *s;
		int r = producer_by_id(c, b->peers[i].producer_id, &p);

		if (r < 0)
			return r;
		if ((uint64_t)p->last_seq != b->peers[i].durable_seq)
			b->peers[i].durable_seq =
				(uint64_t)p->last_seq; /* two connections of one producer in this
							  batch */
		s = db_stmt(&c->own, SQL_PRODUCER_SEQ);
		db_bind_int(s, 1, p->id);
		db_bind_int(s, 2, p->last_seq);
		r = db_run(s);
		if (r < 0)
			return r;
	}
	return 0;
}

static int sort_and_insert(struct commit *c, struct batch *b, struct sorting *sort)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->entry_count; i++)
		r = place_entry(c, b, i, sort);
	if (r == 0)
		r = insert_groups(c, b, sort);
	if (r == 0)
		r = commit_count_refusals(c, b);
	if (r == 0)
		r = save_seqs(c, b);
	return r;
}

/* A cache that has grown too big starts again; nothing in it is newer than the database between
 * batches. */
static void trim_caches(struct commit *c)
{
	if (c->producers.count > CACHE_MAX)
		producers_empty(&c->producers);
	if (c->members.count > CACHE_MAX)
		commit_runs_forget(c);
	if (c->tails.count > CACHE_MAX)
		commit_sums_forget(c);
}

int commit_batch(struct commit *c, struct batch *b)
{
	struct sorting sort = {0};
	int r = -ENOMEM;

	assert(b->entry_count <= NONE);
	trim_caches(c);
	sort.groups = mem_alloc(b->entry_count * sizeof(*sort.groups));
	sort.next = mem_alloc(b->entry_count * sizeof(*sort.next));
	if (sort.groups != NULL && sort.next != NULL)
		r = find_peers(c, b);
	if (r == 0)
		r = sort_and_insert(c, b, &sort);
	while (sort.refs != NULL) {
		struct blob_ref *gone = sort.refs;

		sort.refs = gone->next;
		(void)mem_free(gone);
	}
	(void)mem_free(sort.groups);
	(void)mem_free(sort.next);
	fault_point("commit.written");
	return r;
}

/* --- life --- */

static int read_next_lsn(struct commit *c)
{
	sqlite3_stmt *s = db_stmt(&c->own, SQL_NEXT_LSN);
	int r = db_step(s);

	if (r != 1)
		return r < 0 ? r : -EIO;
	c->next_lsn = db_column_int(s, 0);
	return db_run(s);
}

int commit_forget(struct commit *c)
{
	producers_empty(&c->producers);
	commit_runs_forget(c);
	commit_sums_forget(c);
	return read_next_lsn(c);
}

int commit_open(struct commit *ret, struct db *db, struct blobs *blobs)
{
	int r;

	*ret = (struct commit){
		.blobs = blobs,
		.own = {.handle = db->handle},
		.own_runs = {.handle = db->handle},
		.own_sums = {.handle = db->handle},
	};
	r = db_prepare(&ret->own, texts, SQL_COUNT);
	if (r == 0)
		r = map_init(&ret->producers);
	if (r == 0)
		r = commit_runs_open(ret);
	if (r == 0)
		r = commit_sums_open(ret);
	if (r == 0)
		r = read_next_lsn(ret);
	if (r < 0)
		commit_close(ret);
	return r;
}

void commit_close(struct commit *c)
{
	commit_runs_close(c);
	commit_sums_close(c);
	producers_empty(&c->producers);
	map_done(&c->producers);
	c->own.handle = NULL; /* db's to close */
	db_close(&c->own);
}

int64_t commit_next_lsn(const struct commit *c)
{
	return c->next_lsn;
}
