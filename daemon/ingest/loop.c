/* See loop.h: what connections share, the buffer they read into, the budget for unfinished frames,
 * and how many there are. */
#include "daemon/ingest/ingest_parts.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>

enum {
	READ_BYTES_TIGHT = 4 << 10 /* while the budget for unfinished frames is used up */
};

struct uid_count {
	struct map_node node;
	uid_t uid;
	unsigned connections;
};

uv_loop_t *loop_uv(struct ingest *in)
{
	return &in->loop;
}

/* --- unfinished frames --- */

uv_buf_t loop_read_buffer(struct ingest *in)
{
	bool tight = in->partial_bytes + READ_BYTES > PARTIAL_BUDGET_BYTES;

	return uv_buf_init(in->read_bytes, tight ? READ_BYTES_TIGHT : READ_BYTES);
}

void loop_budget(struct ingest *in, size_t old_bytes, size_t new_bytes)
{
	if (new_bytes < old_bytes)
		in->resume_held = true;
	in->partial_bytes = in->partial_bytes - old_bytes + new_bytes;
}

bool loop_budget_is_kept(const struct ingest *in)
{
	return in->partial_bytes <= PARTIAL_BUDGET_BYTES;
}

bool loop_take_turn(struct ingest *in, const struct conn *c)
{
	if (in->budget_turn == NULL)
		in->budget_turn = c;
	return in->budget_turn == c;
}

void loop_end_turn(struct ingest *in, const struct conn *c)
{
	if (in->budget_turn != c)
		return;
	in->budget_turn = NULL;
	in->resume_held = true;
}

/* --- connections --- */

struct conn **loop_conns(struct ingest *in)
{
	return &in->conns;
}

static bool uid_matches(struct map_node *node, const void *key)
{
	return container_of(node, struct uid_count, node)->uid == *(const uid_t *)key;
}

static struct uid_count *find_uid(const struct ingest *in, uid_t uid)
{
	struct map_node *node =
		map_find(&in->uids, map_hash(&in->uids, &uid, sizeof(uid)), uid_matches, &uid);

	return node == NULL ? NULL : container_of(node, struct uid_count, node);
}

static struct uid_count *add_uid(struct ingest *in, uid_t uid)
{
	struct uid_count *u = mem_zalloc(sizeof(*u));

	if (u == NULL)
		return NULL;
	u->uid = uid;
	if (map_add(&in->uids, &u->node, map_hash(&in->uids, &uid, sizeof(uid))) < 0)
		return mem_free(u);
	stats_add(in->settings.stats, COUNT_USERS, 1);
	return u;
}

int loop_conn_came(struct ingest *in, uid_t uid)
{
	struct uid_count *u = find_uid(in, uid);

	if (in->state != INGEST_RUNNING ||
	    stats_get(in->settings.stats, COUNT_CONNECTIONS) >= CONNECTIONS_MAX ||
	    (u != NULL && u->connections >= CONNECTIONS_PER_UID_MAX))
		return -EUSERS;
	if (u == NULL)
		u = add_uid(in, uid);
	if (u == NULL)
		return -ENOMEM;
	stats_add(in->settings.stats, COUNT_CONNECTIONS, 1);
	u->connections++;
	return 0;
}

void loop_conn_gone(struct ingest *in, uid_t uid)
{
	struct uid_count *u = find_uid(in, uid);

	stats_sub(in->settings.stats, COUNT_CONNECTIONS, 1);
	assert(u != NULL);
	if (--u->connections > 0)
		return;
	map_remove(&in->uids, &u->node);
	(void)mem_free(u);
	stats_sub(in->settings.stats, COUNT_USERS, 1);
}

void loop_forget_uids(struct ingest *in)
{
	struct map_node *node;

	while ((node = map_pop(&in->uids)) != NULL)
		(void)mem_free(container_of(node, struct uid_count, node));
}
