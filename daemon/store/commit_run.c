/* See commit_parts.h: which run a record belongs to, who is in it, and which names may be runs. */
#include "daemon/flow/run.h"
#include "daemon/store/commit_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/utf8.h"
#include "proto/record.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

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

enum {
	SQL_MEMBER_FIND,
	SQL_MEMBER_PUT,
	SQL_MEMBER_STATE,
	SQL_RUN_FIND,
	SQL_RUN_INSERT,
	SQL_RUN_REFUSED,
	SQL_RUNS_REFUSED,
	SQL_TOKEN_PUT,
	SQL_TOKEN_RUN,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_MEMBER_FIND] = "SELECT run FROM member WHERE producer = ?1 AND name = ?2",
	[SQL_MEMBER_PUT] = "INSERT INTO member (producer, name, run, state) VALUES (?1, ?2, ?3, 0) "
			   "ON CONFLICT (producer, name) DO UPDATE SET state = 0",
	[SQL_MEMBER_STATE] = "UPDATE member SET state = ?3 WHERE producer = ?1 AND run = ?2",
	/* by the names that W&B gave it, too; those of the process first */
	[SQL_RUN_FIND] = "SELECT id FROM run WHERE uid = ?1 AND name = ?4 AND ((entity = ?2 AND "
			 "project = ?3) OR (server_entity = ?2 AND server_project = ?3)) "
			 "ORDER BY entity = ?2 AND project = ?3 DESC LIMIT 1",
	[SQL_RUN_INSERT] = "INSERT INTO run (uid, entity, project, name, created_us) VALUES (?1, "
			   "?2, ?3, ?4, ?5) RETURNING id",
	[SQL_RUN_REFUSED] = "UPDATE run SET refused = refused + ?2 WHERE id = ?1",
	[SQL_RUNS_REFUSED] = "UPDATE run SET refused = refused + ?2 WHERE id IN (SELECT run FROM "
			     "member WHERE producer = ?1)",
	[SQL_TOKEN_PUT] = "INSERT INTO token (run, sha256) VALUES (?1, ?2) ON CONFLICT (run) DO "
			  "UPDATE SET sha256 = ?2",
	[SQL_TOKEN_RUN] = "SELECT r.id FROM token t JOIN run r ON r.id = t.run WHERE t.sha256 = ?1 "
			  "AND r.entity = ?2 AND r.project = ?3 AND r.name = ?4",
};

/* --- who is in which --- */

static bool member_matches(struct map_node *node, const void *key)
{
	const struct member *m = container_of(node, struct member, node);
	const struct member_key *k = key;

	return m->producer == k->producer &&
	       span_equal((struct span){.at = m->name, .len = m->name_len}, k->name);
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
	s = db_stmt(&c->own_runs, SQL_MEMBER_FIND);
	db_bind_int(s, 1, key->producer);
	db_bind_text(s, 2, key->name);
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -ENOENT;
	*ret_run = db_column_int(s, 0);
	r = db_run(s);
	return r < 0 ? r : cache_member(c, key, *ret_run);
}

/* --- opening and leaving --- */

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

struct run_name {
	uint32_t uid;
	struct span entity;
	struct span project;
	struct span name;
};

static void bind_name(sqlite3_stmt *s, const struct run_name *n)
{
	db_bind_int(s, 1, n->uid);
	db_bind_text(s, 2, n->entity);
	db_bind_text(s, 3, n->project);
	db_bind_text(s, 4, n->name);
}

/* The number in the statement's only row. 0, -ENOENT, -errno. */
static int one_number(sqlite3_stmt *s, int64_t *ret)
{
	int r = db_step(s);

	if (r != 1)
		return r < 0 ? r : -ENOENT;
	*ret = db_column_int(s, 0);
	return db_run(s);
}

static int find_run(struct commit *c, const struct run_name *n, int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&c->own_runs, SQL_RUN_FIND);

	bind_name(s, n);
	return one_number(s, ret);
}

static int find_or_make_run(struct commit *c, const struct run_name *n, int64_t *ret,
			    bool *ret_is_new)
{
	sqlite3_stmt *s;
	int r = find_run(c, n, ret);

	*ret_is_new = r == -ENOENT;
	if (r != -ENOENT)
		return r;
	s = db_stmt(&c->own_runs, SQL_RUN_INSERT);
	bind_name(s, n);
	db_bind_int(s, 5, (int64_t)clock_wall_us());
	r = one_number(s, ret);
	return r == -ENOENT ? -EIO : r;
}

/* --- tokens --- */

/* The digest of the token; the token itself is overwritten where it stands, so that it is stored
 * nowhere. */
static int take_token(struct span token, uint8_t ret_digest[DIGEST_BYTES])
{
	if (EVP_Digest(token.at, token.len, ret_digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	memset((uint8_t *)(uintptr_t)token.at, '*', token.len);
	return 0;
}

static int put_token(struct commit *c, int64_t run, const uint8_t digest[DIGEST_BYTES])
{
	sqlite3_stmt *s = db_stmt(&c->own_runs, SQL_TOKEN_PUT);

	db_bind_int(s, 1, run);
	db_bind_blob(s, 2, (struct span){.at = digest, .len = DIGEST_BYTES});
	return db_run(s);
}

/* A run of that name, of whatever user, that has this token; else the asker's own. */
static int find_by_token(struct commit *c, const struct run_name *n,
			 const uint8_t digest[DIGEST_BYTES], int64_t *ret)
{
	sqlite3_stmt *s = db_stmt(&c->own_runs, SQL_TOKEN_RUN);
	int r;

	db_bind_blob(s, 1, (struct span){.at = digest, .len = DIGEST_BYTES});
	db_bind_text(s, 2, n->entity);
	db_bind_text(s, 3, n->project);
	db_bind_text(s, 4, n->name);
	r = one_number(s, ret);
	return r == -ENOENT ? find_run(c, n, ret) : r;
}

/* With a token: `run` gives it to the user's own run, `attach` joins the run that has it. 0, -errno,
 * -ENOENT: there is no such run to join. */
static int find_wanted(struct commit *c, struct batch_entry *e, const struct run_name *n,
		       struct span token, int64_t *ret_run)
{
	uint8_t digest[DIGEST_BYTES];
	int r;

	if (token.len == 0)
		return find_or_make_run(c, n, ret_run, &e->run_is_new);
	r = take_token(token, digest);
	if (r < 0)
		return r;
	if (e->kind == KIND_ATTACH)
		return find_by_token(c, n, digest, ret_run);
	r = find_or_make_run(c, n, ret_run, &e->run_is_new);
	return r < 0 ? r : put_token(c, *ret_run, digest);
}

static bool names_are_clean(const struct run_name *n)
{
	return name_is_clean(n->name) && name_is_clean(n->project) &&
	       (n->entity.len == 0 || name_is_clean(n->entity));
}

/* `run` and `attach`: opens the run for this producer. The entry is rejected when it may not. */
static int open_run(struct commit *c, struct batch *b, struct batch_entry *e, struct producer *p,
		    int64_t *ret_run)
{
	struct record record;
	struct record_fault fault;
	struct run_name name = {.uid = b->peers[e->peer].uid};
	struct span token;
	struct member_key key = {.producer = p->id};
	sqlite3_stmt *s;
	int64_t before;
	bool known;
	int r;

	(void)record_parse(batch_bytes(b, e->at, e->len), &record,
			   &fault); /* ingest took it, so it parses */
	name.project = mp_get_str(mp_of(record.body), "project");
	name.entity = mp_get_str(mp_of(record.body), "entity");
	name.name = key.name = record.run;
	token = mp_get_str(mp_of(record.body), "token");
	if (!names_are_clean(&name)) {
		commit_reject(e, "bad_field",
			      "run id, project and entity must not hold / \\ # ? % : or control "
			      "characters");
		return 0;
	}
	if (token.len > 0 && (token.len < TOKEN_MIN || token.len > NAME_MAX_BYTES)) {
		commit_reject(e, "bad_field", "a token has 16 to 512 bytes");
		return 0;
	}
	r = find_member(c, &key, &before);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT && p->run_count >= RUNS_PER_PRODUCER_MAX) {
		commit_reject(e, "too_many_runs", "one process may open 256 runs");
		return 0;
	}
	known = r == 0;
	r = find_wanted(c, e, &name, token, ret_run);
	if (r == -ENOENT) {
		commit_reject(e, "not_yours",
			      "no run of that name has this token; its owner's process has it "
			      "(run.token)");
		return 0;
	}
	if (r < 0)
		return r;
	if (known && before != *ret_run) {
		commit_reject(e, "bad_field",
			      "this process has a run of that id open in another project");
		return 0;
	}
	if (!known) {
		p->run_count++;
		r = cache_member(c, &key, *ret_run);
		if (r < 0)
			return r;
	}
	s = db_stmt(&c->own_runs, SQL_MEMBER_PUT);
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
	struct run_name name = {.uid = b->peers[e->peer].uid, .name = SPAN_LITERAL("")};

	(void)record_parse(batch_bytes(b, e->at, e->len), &record,
			   &fault); /* ingest took it, so it parses */
	name.project = mp_get_str(mp_of(record.body), "project");
	name.entity = mp_get_str(mp_of(record.body), "entity");
	if (!name_is_clean(name.project) || (name.entity.len != 0 && !name_is_clean(name.entity))) {
		commit_reject(e, "missing_field", "what belongs to no `run` needs a `project`");
		return 0;
	}
	return find_or_make_run(c, &name, ret_run, &e->run_is_new);
}

static int set_member(struct commit *c, int64_t producer, int64_t run, enum member_state state)
{
	sqlite3_stmt *s = db_stmt(&c->own_runs, SQL_MEMBER_STATE);

	db_bind_int(s, 1, producer);
	db_bind_int(s, 2, run);
	db_bind_int(s, 3, state);
	return db_run(s);
}

int commit_find_run(struct commit *c, struct batch *b, struct batch_entry *e, struct producer *p,
		    int64_t *ret_run)
{
	struct member_key key = {.producer = p->id, .name = batch_bytes(b, e->run_at, e->run_len)};
	int r;

	if (e->kind == KIND_RUN || e->kind == KIND_ATTACH)
		return open_run(c, b, e, p, ret_run);
	if (e->run_len == 0)
		return run_of_stray(c, b, e, ret_run);
	r = find_member(c, &key, ret_run);
	if (r == -ENOENT) {
		commit_reject(
			e, "unknown_run",
			"this process opened no run of that id (`run` or `attach` comes first)");
		return 0;
	}
	if (r == 0 && e->kind == KIND_FINISH)
		r = set_member(c, p->id, *ret_run, MEMBER_FINISHED);
	else if (r == 0 && e->kind == KIND_GONE)
		r = set_member(c, p->id, *ret_run, MEMBER_GONE);
	else if (r == 0 && e->kind == KIND_PREEMPTING)
		r = set_member(c, p->id, *ret_run, MEMBER_PREEMPTING);
	return r;
}

int commit_count_missing(struct commit *c, const struct batch *b, const struct batch_entry *e,
			 uint64_t count)
{
	const struct member_key key = {
		.producer = b->peers[e->peer].producer_id,
		.name = batch_bytes(b, e->run_at, e->run_len),
	};
	sqlite3_stmt *s;
	int64_t run = 0;
	int r = e->run_len == 0 ? 0 : find_member(c, &key, &run);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	s = db_stmt(&c->own_runs, e->run_len == 0 ? SQL_RUNS_REFUSED : SQL_RUN_REFUSED);
	db_bind_int(s, 1, e->run_len == 0 ? key.producer : run);
	db_bind_int(s, 2, count > INT32_MAX ? INT32_MAX : (int64_t)count);
	return db_run(s);
}

/* --- life --- */

void commit_runs_forget(struct commit *c)
{
	struct map_node *node;

	while ((node = map_pop(&c->members)) != NULL)
		(void)mem_free(container_of(node, struct member, node));
}

int commit_runs_open(struct commit *c)
{
	int r = db_prepare(&c->own_runs, texts, SQL_COUNT);

	return r < 0 ? r : map_init(&c->members);
}

void commit_runs_close(struct commit *c)
{
	commit_runs_forget(c);
	map_done(&c->members);
	c->own_runs.handle = NULL; /* db's to close */
	db_close(&c->own_runs);
}
