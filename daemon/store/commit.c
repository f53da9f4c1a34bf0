/* See commit.h. A batch goes through in four passes: peers, fates, records by stream, sums. Each
 * commit adds one extent per stream, so the records of a stream lie together in lsn order and a
 * cursor is one number. */
#include "daemon/store/commit.h"

#include "daemon/base/fault.h"
#include "daemon/flow/run.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/utf8.h"
#include "proto/record.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	CACHE_MAX = 8192
}; /* entries of a cache; above it the cache starts again */

struct producer {
	struct map_node node;
	int64_t id;
	int64_t last_seq;
	int64_t run_count;
};

struct member {
	struct map_node node;
	int64_t producer;
	int64_t run;
	size_t name_len;
	uint8_t name[];
};
struct member_key {
	int64_t producer;
	struct span name;
};

/* Sums at the end of a stream: its newest extent. */
struct tail {
	struct map_node node;
	int64_t stream;
	int64_t records;
	int64_t bytes;
	int64_t blobs;
	int64_t blob_bytes;
	bool of_done_run; /* metrics: its run is done, so the next record opens it again */
};

enum {
	SQL_PRODUCER_BY_NAME,
	SQL_PRODUCER_BY_ID,
	SQL_PRODUCER_INSERT,
	SQL_PRODUCER_SEQ,
	SQL_MEMBER_COUNT,
	SQL_MEMBER_FIND,
	SQL_MEMBER_PUT,
	SQL_MEMBER_STATE,
	SQL_RUN_FIND,
	SQL_RUN_INSERT,
	SQL_RECORD,
	SQL_EXTENT,
	SQL_TAIL,
	SQL_RUN_DONE,
	SQL_REOPEN,
	SQL_BLOB_USE,
	SQL_TALLY,
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
	[SQL_MEMBER_FIND] = "SELECT run FROM member WHERE producer = ?1 AND name = ?2",
	[SQL_MEMBER_PUT] = "INSERT INTO member (producer, name, run, state) VALUES (?1, ?2, ?3, 0) "
			   "ON CONFLICT (producer, name) DO UPDATE SET state = 0",
	[SQL_MEMBER_STATE] = "UPDATE member SET state = ?3 WHERE producer = ?1 AND run = ?2",
	[SQL_RUN_FIND] =
		"SELECT id FROM run WHERE uid = ?1 AND entity = ?2 AND project = ?3 AND name = ?4",
	[SQL_RUN_INSERT] = "INSERT INTO run (uid, entity, project, name, created_us) VALUES (?1, "
			   "?2, ?3, ?4, ?5) RETURNING id",
	[SQL_RECORD] = "INSERT INTO record (lsn, producer, payload) VALUES (?1, ?2, ?3)",
	[SQL_EXTENT] = "INSERT INTO extent (stream, first, last, time_us, records, bytes, blobs, "
		       "blob_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	[SQL_TAIL] = "SELECT records, bytes, blobs, blob_bytes FROM extent WHERE stream = ?1 ORDER "
		     "BY first DESC LIMIT 1",
	[SQL_RUN_DONE] = "SELECT state = 4 FROM run WHERE id = ?1",
	[SQL_REOPEN] = "UPDATE run SET reopened = 1 WHERE id = ?1 AND state = 4",
	[SQL_BLOB_USE] = "INSERT OR IGNORE INTO blob_use (lsn, blob) VALUES (?1, ?2)",
	[SQL_TALLY] = "INSERT INTO tally (name, count) VALUES (?1, ?2) ON CONFLICT (name) DO "
		      "UPDATE SET count = count + excluded.count",
	/* the newest record may be gone (retention), and a rowid would start again: meta then holds
	   the number */
	[SQL_NEXT_LSN] = "SELECT 1 + max(coalesce((SELECT max(lsn) FROM record), 0), "
			 "coalesce((SELECT value - 1 FROM meta WHERE key = 'next_lsn'), 0))",
};

/* --- caches --- */

static bool producer_matches(struct map_node *node, const void *key)
{
	return container_of(node, struct producer, node)->id == *(const int64_t *)key;
}

static bool tail_matches(struct map_node *node, const void *key)
{
	return container_of(node, struct tail, node)->stream == *(const int64_t *)key;
}

static bool member_matches(struct map_node *node, const void *key)
{
	const struct member *m = container_of(node, struct member, node);
	const struct member_key *k = key;

	return m->producer == k->producer &&
	       span_equal((struct span){.at = m->name, .len = m->name_len}, k->name);
}

static void producers_empty(struct map *m)
{
	struct map_node *node;

	while ((node = map_pop(m)) != NULL)
		(void)mem_free(container_of(node, struct producer, node));
}

static void members_empty(struct map *m)
{
	struct map_node *node;

	while ((node = map_pop(m)) != NULL)
		(void)mem_free(container_of(node, struct member, node));
}

static void tails_empty(struct map *m)
{
	struct map_node *node;

	while ((node = map_pop(m)) != NULL)
		(void)mem_free(container_of(node, struct tail, node));
}

/* --- producers --- */

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

/* --- runs --- */

/* W&B puts these into paths; none of them may bring a path of its own. */
static bool name_is_clean(struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		if (name.at[i] < 0x20 || name.at[i] == 0x7f ||
		    strchr("/\\#?%:", name.at[i]) != NULL)
			return false;
	}
	return name.len > 0 && name.len <= NAME_MAX_BYTES && utf8_valid(name);
}

static void reject(struct batch_entry *e, const char *code, const char *text)
{
	e->fate = ENTRY_REJECTED;
	e->code = code;
	e->text = text;
}

static struct member *cached_member(const struct commit *c, const struct member_key *key,
				    uint64_t hash)
{
	struct map_node *node = map_find(&c->members, hash, member_matches, key);

	return node == NULL ? NULL : container_of(node, struct member, node);
}

static uint64_t member_hash(const struct commit *c, const struct member_key *key)
{
	return map_hash(&c->members, key->name.at, key->name.len) ^
	       map_hash(&c->members, &key->producer, sizeof(key->producer));
}

static int cache_member(struct commit *c, const struct member_key *key, int64_t run)
{
	struct member *m = mem_alloc(sizeof(*m) + key->name.len);
	int r;

	if (m == NULL)
		return -ENOMEM;
	m->producer = key->producer;
	m->run = run;
	m->name_len = key->name.len;
	memcpy(m->name, key->name.at, key->name.len);
	r = map_add(&c->members, &m->node, member_hash(c, key));
	if (r < 0)
		(void)mem_free(m);
	return r;
}

/* 0 and the run, or -ENOENT: the producer did not open one of that name. */
static int find_member(struct commit *c, const struct member_key *key, int64_t *ret_run)
{
	struct member *m = cached_member(c, key, member_hash(c, key));
	sqlite3_stmt *s;
	int r;

	if (m != NULL) {
		*ret_run = m->run;
		return 0;
	}
	s = db_stmt(&c->own, SQL_MEMBER_FIND);
	db_bind_int(s, 1, key->producer);
	db_bind_text(s, 2, key->name);
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -ENOENT;
	*ret_run = db_column_int(s, 0);
	r = db_run(s);
	return r < 0 ? r : cache_member(c, key, *ret_run);
}

static int find_or_make_run(struct commit *c, uint32_t uid, struct span entity, struct span project,
			    struct span name, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&c->own, SQL_RUN_FIND);
	int r;

	for (int turn = 0; turn < 2; turn++) {
		db_bind_int(s, 1, uid);
		db_bind_text(s, 2, entity);
		db_bind_text(s, 3, project);
		db_bind_text(s, 4, name);
		if (turn == 1)
			db_bind_int(s, 5, (int64_t)clock_wall_us());
		r = db_step(s);
		if (r == 1) {
			*ret = db_column_int(s, 0);
			return db_run(s);
		}
		if (r < 0)
			return r;
		s = db_stmt(&c->own, SQL_RUN_INSERT);
	}
	return -EIO;
}

/* `run` and `attach`: opens the run for this producer. The entry is rejected when it may not. */
static int open_run(struct commit *c, const struct batch *b, struct batch_entry *e,
		    struct producer *p, int64_t *ret_run)
{
	struct record record;
	struct record_fault fault;
	struct span project;
	struct span entity;
	struct member_key key = {.producer = p->id};
	sqlite3_stmt *s;
	int64_t before;
	int r;

	(void)record_parse(batch_bytes(b, e->at, e->len), &record,
			   &fault); /* ingest took it, so it parses */
	project = mp_get_str(mp_of(record.body), "project");
	entity = mp_get_str(mp_of(record.body), "entity");
	key.name = record.run;
	if (!name_is_clean(record.run) || !name_is_clean(project) ||
	    (entity.len != 0 && !name_is_clean(entity))) {
		reject(e, "bad_field",
		       "run id, project and entity must not hold / \\ # ? % : or control "
		       "characters");
		return 0;
	}
	r = find_member(c, &key, &before);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT && p->run_count >= RUNS_PER_PRODUCER_MAX) {
		reject(e, "too_many_runs", "one process may open 256 runs");
		return 0;
	}
	if (find_or_make_run(c, b->peers[e->peer].uid, entity, project, record.run, ret_run) < 0)
		return -EIO;
	if (r == 0 && before != *ret_run) {
		reject(e, "bad_field", "this process has a run of that id open in another project");
		return 0;
	}
	if (r == -ENOENT) {
		p->run_count++;
		r = cache_member(c, &key, *ret_run);
		if (r < 0)
			return r;
	}
	s = db_stmt(&c->own, SQL_MEMBER_PUT);
	db_bind_int(s, 1, p->id);
	db_bind_text(s, 2, key.name);
	db_bind_int(s, 3, *ret_run);
	return db_run(s);
}

/* A call may belong to no run; its project's run with the empty name then stands for "none". */
static int run_of_stray(struct commit *c, const struct batch *b, struct batch_entry *e,
			int64_t *ret_run)
{
	struct record record;
	struct record_fault fault;
	struct span project;
	struct span entity;

	(void)record_parse(batch_bytes(b, e->at, e->len), &record,
			   &fault); /* ingest took it, so it parses */
	project = mp_get_str(mp_of(record.body), "project");
	entity = mp_get_str(mp_of(record.body), "entity");
	if (!name_is_clean(project) || (entity.len != 0 && !name_is_clean(entity))) {
		reject(e, "missing_field", "a call without `run` needs a `project`");
		return 0;
	}
	return find_or_make_run(c, b->peers[e->peer].uid, entity, project, SPAN_LITERAL(""),
				ret_run);
}

static int leave_run(struct commit *c, const struct batch_entry *e, int64_t producer, int64_t run)
{
	sqlite3_stmt *s = db_stmt(&c->own, SQL_MEMBER_STATE);

	db_bind_int(s, 1, producer);
	db_bind_int(s, 2, run);
	db_bind_int(s, 3, e->kind == KIND_FINISH ? MEMBER_FINISHED : MEMBER_GONE);
	return db_run(s);
}

/* Finds the run, or rejects the entry. */
static int find_run(struct commit *c, const struct batch *b, struct batch_entry *e,
		    struct producer *p, int64_t *ret_run)
{
	struct member_key key = {.producer = p->id, .name = batch_bytes(b, e->run_at, e->run_len)};
	int r;

	if (e->kind == KIND_RUN || e->kind == KIND_ATTACH)
		return open_run(c, b, e, p, ret_run);
	if (e->run_len == 0)
		return run_of_stray(c, b, e, ret_run);
	r = find_member(c, &key, ret_run);
	if (r == -ENOENT) {
		reject(e, "unknown_run",
		       "this process opened no run of that id (`run` or `attach` comes first)");
		return 0;
	}
	if (r == 0 && (e->kind == KIND_FINISH || e->kind == KIND_GONE))
		r = leave_run(c, e, p->id, *ret_run);
	return r;
}

/* --- records --- */

enum {
	NONE = BATCH_RECORDS_MAX
}; /* no entry */

struct group {
	int64_t stream;
	size_t first;
	size_t last;
	int64_t records;
	int64_t bytes;
	int64_t blobs;
	int64_t blob_bytes;
};

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
			reject(e, "blob_missing",
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
	r = find_run(c, b, e, p, &run);
	if (r < 0 || e->fate != ENTRY_STORE)
		return r;
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

static int run_is_done(struct commit *c, int64_t stream, bool *ret)
{
	sqlite3_stmt *s = db_stmt(&c->own, SQL_RUN_DONE);
	int r;

	*ret = false;
	if (stream_class(stream) != CLASS_METRICS)
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
	s = db_stmt(&c->own, SQL_TAIL);
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

void commit_note_done(struct commit *c, int64_t run)
{
	int64_t stream = stream_of(run, CLASS_METRICS);
	struct map_node *node = map_find(&c->tails, map_hash(&c->tails, &stream, sizeof(stream)),
					 tail_matches, &stream);

	if (node != NULL)
		container_of(node, struct tail, node)->of_done_run = true;
}

static int reopen_run(struct commit *c, struct tail *t)
{
	sqlite3_stmt *s = db_stmt(&c->own, SQL_REOPEN);

	t->of_done_run = false;
	db_bind_int(s, 1, stream_run(t->stream));
	return db_run(s);
}

static int insert_extent(struct commit *c, const struct group *g, int64_t first, int64_t now_us)
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
	s = db_stmt(&c->own, SQL_EXTENT);
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

static int insert_groups(struct commit *c, const struct batch *b, const struct sorting *sort)
{
	int64_t now_us = (int64_t)clock_wall_us();

	for (size_t i = 0; i < sort->group_count; i++) {
		int64_t first = c->next_lsn;
		int r = insert_records(c, b, sort, &sort->groups[i]);

		if (r == 0)
			r = insert_extent(c, &sort->groups[i], first, now_us);
		if (r < 0)
			return r;
	}
	return 0;
}

static int count_tally(struct commit *c, const char *kind, const char *name, uint64_t count)
{
	char text[64];
	sqlite3_stmt *s = db_stmt(&c->own, SQL_TALLY);

	(void)snprintf(text, sizeof(text), "%s:%s", kind, name); /* codes are short and ours */
	db_bind_text(s, 1, span_of_text(text));
	db_bind_int(s, 2, count > INT32_MAX ? INT32_MAX : (int64_t)count);
	return db_run(s);
}

/* What has a seq and is not stored is counted for ever, by reason; and what a client gave up. */
static int count_refusals(struct commit *c, const struct batch *b)
{
	for (size_t i = 0; i < b->entry_count; i++) {
		const struct batch_entry *e = &b->entries[i];
		bool for_disk = e->code != NULL && strcmp(e->code, "disk_full") == 0;
		int r = 0;

		if (e->fate == ENTRY_DUPLICATE)
			continue;
		if (e->lost != 0)
			r = count_tally(c, "lost", "client", e->lost);
		if (r < 0)
			return r;
		if (e->code == NULL)
			continue;
		/* a row that holds a table is refused for its table */
		r = for_disk ? count_tally(c, "refused",
					   class_name(e->has_blobs ? CLASS_BULK
								   : kind_info(e->kind)->class),
					   1)
			     : count_tally(c, "rejected", e->code, 1);
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
		r = count_refusals(c, b);
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
		members_empty(&c->members);
	if (c->tails.count > CACHE_MAX)
		tails_empty(&c->tails);
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
	members_empty(&c->members);
	tails_empty(&c->tails);
	return read_next_lsn(c);
}

int commit_open(struct commit *ret, struct db *db, struct blobs *blobs)
{
	int r;

	*ret = (struct commit){.blobs = blobs, .own = {.handle = db->handle}};
	r = db_prepare(&ret->own, texts, SQL_COUNT);
	if (r == 0)
		r = map_init(&ret->producers);
	if (r == 0)
		r = map_init(&ret->members);
	if (r == 0)
		r = map_init(&ret->tails);
	if (r == 0)
		r = read_next_lsn(ret);
	if (r < 0)
		commit_close(ret);
	return r;
}

void commit_close(struct commit *c)
{
	producers_empty(&c->producers);
	members_empty(&c->members);
	tails_empty(&c->tails);
	map_done(&c->producers);
	map_done(&c->members);
	map_done(&c->tails);
	c->own.handle = NULL; /* db's to close */
	db_close(&c->own);
}

int64_t commit_next_lsn(const struct commit *c)
{
	return c->next_lsn;
}
