/* See loop.h: what connections share, the buffer they read into, the budget for unfinished frames,
 * and how many there are. */
#include "daemon/ingest/ingest_parts.h"
#include "proto/base/mem.h"

#include <errno.h>

enum {
	READ_BYTES_TIGHT = 4 << 10 /* while the budget for unfinished frames is used up */
};

struct loop_user {
	struct map_node node;
	uid_t uid;
	unsigned connections;
	size_t partial_bytes; /* of unfinished frames */
	const struct conn *budget_turn;
};

uv_loop_t *loop_uv(struct ingest *in)
{
	return &in->loop;
}

/* --- unfinished frames --- */

/* While several users are connected, one may have half of the budget: else one who sends frames by
 * halves could keep the others' from being finished. */
static bool share_is_kept(const struct ingest *in, const struct loop_user *u, size_t more)
{
	return stats_get(in->settings.stats, COUNT_USERS) < 2 ||
	       u->partial_bytes + more <= PARTIAL_BUDGET_BYTES / 2;
}

uv_buf_t loop_read_buffer(struct ingest *in, const struct loop_user *u)
{
	bool tight = in->partial_bytes + READ_BYTES > PARTIAL_BUDGET_BYTES ||
		     !share_is_kept(in, u, READ_BYTES);

	return uv_buf_init(in->read_bytes, tight ? READ_BYTES_TIGHT : READ_BYTES);
}

void loop_budget(struct ingest *in, struct loop_user *u, size_t old_bytes, size_t new_bytes)
{
	if (new_bytes < old_bytes)
		in->resume_held = true;
	in->partial_bytes = in->partial_bytes - old_bytes + new_bytes;
	u->partial_bytes = u->partial_bytes - old_bytes + new_bytes;
}

/* Whose turn it is: among all when the whole budget is used up, else among the user's own. */
static const struct conn **turn_of(struct ingest *in, struct loop_user *u)
{
	return in->partial_bytes > PARTIAL_BUDGET_BYTES ? &in->budget_turn : &u->budget_turn;
}

bool loop_budget_is_kept(const struct ingest *in, const struct loop_user *u)
{
	return in->partial_bytes <= PARTIAL_BUDGET_BYTES && share_is_kept(in, u, 0);
}

bool loop_take_turn(struct ingest *in, struct loop_user *u, const struct conn *c)
{
	const struct conn **turn = turn_of(in, u);

	if (*turn == NULL)
		*turn = c;
	return *turn == c;
}

void loop_end_turn(struct ingest *in, struct loop_user *u, const struct conn *c)
{
	if (in->budget_turn != c && u->budget_turn != c)
		return;
	if (in->budget_turn == c)
		in->budget_turn = NULL;
	if (u->budget_turn == c)
		u->budget_turn = NULL;
	in->resume_held = true;
}

/* --- connections --- */

struct conn **loop_conns(struct ingest *in)
{
	return &in->conns;
}

static bool uid_matches(struct map_node *node, const void *key)
{
	return container_of(node, struct loop_user, node)->uid == *(const uid_t *)key;
}

static struct loop_user *find_uid(const struct ingest *in, uid_t uid)
{
	struct map_node *node =
		map_find(&in->uids, map_hash(&in->uids, &uid, sizeof(uid)), uid_matches, &uid);

	return node == NULL ? NULL : container_of(node, struct loop_user, node);
}

static struct loop_user *add_uid(struct ingest *in, uid_t uid)
{
	struct loop_user *u = mem_zalloc(sizeof(*u));

	if (u == NULL)
		return NULL;
	u->uid = uid;
	if (map_add(&in->uids, &u->node, map_hash(&in->uids, &uid, sizeof(uid))) < 0)
		return mem_free(u);
	stats_add(in->settings.stats, COUNT_USERS, 1);
	return u;
}

int loop_conn_came(struct ingest *in, uid_t uid, struct loop_user **ret)
{
	struct loop_user *u = find_uid(in, uid);

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
	*ret = u;
	return 0;
}

void loop_conn_gone(struct ingest *in, struct loop_user *u)
{
	stats_sub(in->settings.stats, COUNT_CONNECTIONS, 1);
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
		(void)mem_free(container_of(node, struct loop_user, node));
}
