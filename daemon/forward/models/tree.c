/* See tree.h. Depth is bounded by RECORD_DEPTH_MAX, since every branch came out of a record; walks
 * go by the parent pointer. */
#include "daemon/forward/models/tree.h"

#include "proto/base/mem.h"
#include "proto/limits.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	VALUE_MAX = RECORD_MAX * 2
};

struct child_key {
	const struct node *parent;
	struct span key;
};

static bool matches(struct map_node *hash, const void *key)
{
	const struct node *n = container_of(hash, struct node, hash);
	const struct child_key *k = key;

	return n->parent == k->parent && span_equal(node_key(n), k->key);
}

static uint64_t hash_of(const struct tree *t, const struct node *parent, struct span key)
{
	uint64_t place = (uint64_t)(uintptr_t)parent;

	return map_hash(&t->nodes, key.at, key.len) ^ map_hash(&t->nodes, &place, sizeof(place));
}

struct node *tree_child(const struct tree *t, const struct node *parent, struct span key)
{
	struct child_key k = {.parent = parent, .key = key};
	struct map_node *hash = map_find(&t->nodes, hash_of(t, parent, key), matches, &k);

	return hash == NULL ? NULL : container_of(hash, struct node, hash);
}

int tree_init(struct tree *t, size_t max_nodes)
{
	*t = (struct tree){.max = max_nodes};
	return map_init(&t->nodes);
}

static void node_free(const struct tree *t, struct node *n)
{
	if (n->extra != NULL && t->on_drop != NULL)
		t->on_drop(n->extra);
	buf_done(&n->value);
	(void)mem_free(n);
}

void tree_clear(struct tree *t)
{
	struct map_node *hash;

	while ((hash = map_pop(&t->nodes)) != NULL)
		node_free(t, container_of(hash, struct node, hash));
	t->first = t->last = NULL;
	t->count = 0;
}

void tree_done(struct tree *t)
{
	tree_clear(t);
	map_done(&t->nodes);
}

static int add_child(struct tree *t, struct node *parent, struct span key, bool is_leaf,
		     struct node **ret)
{
	struct node **last = parent == NULL ? &t->last : &parent->last;
	struct node **first = parent == NULL ? &t->first : &parent->first;
	struct node *n;

	if (t->count == t->max)
		return -E2BIG;
	n = mem_zalloc(sizeof(*n) + key.len);
	if (n == NULL)
		return -ENOMEM;
	n->parent = parent;
	n->is_leaf = is_leaf;
	n->key_len = key.len;
	memcpy(n->key, key.at, key.len);
	buf_init(&n->value, VALUE_MAX);
	if (map_add(&t->nodes, &n->hash, hash_of(t, parent, key)) < 0) {
		(void)mem_free(n);
		return -ENOMEM;
	}
	if (*last == NULL)
		*first = n;
	else
		(*last)->next = n;
	*last = n;
	t->count++;
	*ret = n;
	return 0;
}

/* Takes n out of its parent's list. */
static void unlink_child(struct tree *t, struct node *n)
{
	struct node **at = n->parent == NULL ? &t->first : &n->parent->first;
	struct node **last = n->parent == NULL ? &t->last : &n->parent->last;
	struct node *before = NULL;

	while (*at != n) {
		before = *at;
		at = &(*at)->next;
	}
	*at = n->next;
	if (*last == n)
		*last = before;
}

static void drop_node(struct tree *t, struct node *n)
{
	unlink_child(t, n);
	map_remove(&t->nodes, &n->hash);
	t->count--;
	node_free(t, n);
}

/* Everything below n, deepest first. */
static void drop_children(struct tree *t, struct node *n)
{
	while (n->first != NULL) {
		struct node *deepest = n->first;

		while (deepest->first != NULL)
			deepest = deepest->first;
		drop_node(t, deepest);
	}
}

/* A branch has a leaf below it: one that lost its last, or whose first found no room, goes. */
static void drop_empty(struct tree *t, struct node *n)
{
	while (n != NULL && !n->is_leaf && n->first == NULL) {
		struct node *parent = n->parent;

		drop_node(t, n);
		n = parent;
	}
}

void tree_remove(struct tree *t, struct node *n)
{
	struct node *parent = n->parent;

	drop_children(t, n);
	drop_node(t, n);
	drop_empty(t, parent);
}

static void make_leaf(struct tree *t, struct node *n)
{
	drop_children(t, n);
	n->is_leaf = true;
}

static void make_branch(struct tree *t, struct node *n)
{
	if (!n->is_leaf)
		return;
	if (n->extra != NULL && t->on_drop != NULL)
		t->on_drop(n->extra);
	n->extra = NULL;
	buf_done(&n->value);
	n->is_leaf = false;
}

int tree_leaf(struct tree *t, struct node *parent, struct span key, struct node **ret)
{
	struct node *n = tree_child(t, parent, key);

	if (n == NULL)
		return add_child(t, parent, key, true, ret);
	make_leaf(t, n);
	*ret = n;
	return 0;
}

static int branch(struct tree *t, struct node *parent, struct span key, struct node **ret)
{
	struct node *n = tree_child(t, parent, key);

	if (n == NULL)
		return add_child(t, parent, key, false, ret);
	make_branch(t, n);
	*ret = n;
	return 0;
}

int tree_leaf_at(struct tree *t, const struct span *path, size_t count, struct node **ret)
{
	struct node *parent = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i + 1 < count; i++)
		r = branch(t, parent, path[i], &parent);
	if (r == 0)
		r = tree_leaf(t, parent, path[count - 1], ret);
	if (r < 0)
		drop_empty(t, parent);
	return r;
}

int tree_set(struct node *leaf, struct span value)
{
	buf_clear(&leaf->value);
	return buf_add(&leaf->value, value.at, value.len);
}

/* --- merging --- */

/* One map under way. The branch is made when its first leaf is. */
struct merge_level {
	struct node *node; /* NULL at the root, and while the branch is not made */
	struct span key;
	uint32_t left;              /* pairs */
	char room[JSON_DOUBLE_MAX]; /* of a key that is no text */
};

struct merge {
	struct tree *tree;
	struct merge_level levels[RECORD_DEPTH_MAX + 1];
	unsigned depth;
};

static int make_branches(struct merge *m)
{
	for (unsigned i = 1; i <= m->depth; i++) {
		int r;

		if (m->levels[i].node != NULL)
			continue;
		r = branch(m->tree, m->levels[i - 1].node, m->levels[i].key, &m->levels[i].node);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The merge ends with an error: branches that it made and did not fill go again. */
static void drop_branches(struct merge *m)
{
	unsigned made = m->depth;

	while (made > 0 && m->levels[made].node == NULL)
		made--;
	if (made > 0)
		drop_empty(m->tree, m->levels[made].node);
}

static int merge_leaf(struct merge *m, struct span key, struct span value, tree_on_leaf on_leaf,
		      void *arg)
{
	struct node *leaf;
	int r = make_branches(m);

	if (r == 0)
		r = tree_leaf(m->tree, m->levels[m->depth].node, key, &leaf);
	if (r != 0) {
		drop_branches(m);
		return r;
	}
	r = tree_set(leaf, value);
	return r == 0 && on_leaf != NULL ? on_leaf(arg, leaf) : r;
}

/* An empty map has nothing to merge into a branch that is there. */
static bool branch_is_there(const struct merge *m, struct span key)
{
	const struct merge_level *level = &m->levels[m->depth];
	const struct node *n;

	if (m->depth > 0 && level->node == NULL)
		return false;
	n = tree_child(m->tree, level->node, key);
	return n != NULL && !n->is_leaf;
}

static int merge_pair(struct merge *m, struct mp *at, tree_on_leaf on_leaf, void *arg)
{
	struct merge_level *level = &m->levels[m->depth];
	struct merge_level *deeper = level + 1;
	struct mp_value value;
	struct mp peek;
	struct span whole;
	struct span name;
	char room[JSON_DOUBLE_MAX];

	level->left--;
	if (value_take_key(at, room, &name) < 0)
		return -EBADMSG;
	peek = *at;
	if (mp_read(&peek, &value) < 0)
		return -EBADMSG;
	if (value.type != MP_MAP || value.count == 0) {
		if (mp_take(at, &whole) < 0)
			return -EBADMSG;
		if (value.type == MP_MAP && branch_is_there(m, name))
			return 0;
		return merge_leaf(m, name, whole, on_leaf, arg);
	}
	if (m->depth == RECORD_DEPTH_MAX)
		return -EBADMSG;
	*at = peek;
	*deeper = (struct merge_level){.left = value.count, .key = name};
	if (name.at == (const uint8_t *)room) {
		memcpy(deeper->room, room, sizeof(room));
		deeper->key.at = (const uint8_t *)deeper->room;
	}
	m->depth++;
	return 0;
}

int tree_merge(struct tree *t, struct node *parent, struct mp map, tree_on_leaf on_leaf, void *arg)
{
	struct merge m = {.tree = t};
	struct mp_value head;

	if (mp_read(&map, &head) < 0 || head.type != MP_MAP)
		return -EBADMSG;
	m.levels[0] = (struct merge_level){.node = parent, .left = head.count};
	for (;;) {
		int r;

		if (m.levels[m.depth].left == 0) {
			if (m.depth == 0)
				return 0;
			m.depth--;
			continue;
		}
		r = merge_pair(&m, &map, on_leaf, arg);
		if (r != 0)
			return r;
	}
}

/* --- walking --- */

/* The keys of an entry of a list of names, as many as it has; 0: it is neither a key nor a path. */
static size_t read_path(struct span entry, struct span path[TREE_PATH_MAX])
{
	struct mp at = mp_of(entry);
	struct mp_value v;

	if (mp_read(&at, &v) < 0)
		return 0;
	if (v.type == MP_STR) {
		path[0] = v.bytes;
		return 1;
	}
	if (v.type != MP_ARRAY || v.count > TREE_PATH_MAX)
		return 0;
	for (uint32_t i = 0; i < v.count; i++) {
		struct mp_value key;

		if (mp_read(&at, &key) < 0 || key.type != MP_STR)
			return 0;
		path[i] = key.bytes;
	}
	return v.count;
}

int tree_each_path(struct span list, tree_on_path on_path, void *arg)
{
	struct span path[TREE_PATH_MAX];
	struct mp at = mp_of(list);
	struct mp_value head;

	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY)
		return 0;
	for (uint32_t left = head.count; left > 0; left--) {
		struct span entry;
		size_t count;
		int r;

		if (mp_take(&at, &entry) < 0)
			return -EBADMSG;
		count = read_path(entry, path);
		r = count > 0 ? on_path(arg, path, count) : 0;
		if (r != 0)
			return r;
	}
	return 0;
}

struct named {
	struct tree *tree;
	void (*on_node)(struct tree *t, struct node *n);
};

static int on_named(void *arg, struct span *path, size_t count)
{
	const struct named *named = arg;
	struct node *n = NULL;

	for (size_t i = 0; i < count && (i == 0 || n != NULL); i++)
		n = tree_child(named->tree, n, path[i]);
	if (n != NULL)
		named->on_node(named->tree, n);
	return 0;
}

int tree_each_named(struct tree *t, struct span list,
		    void (*on_node)(struct tree *t, struct node *n))
{
	struct named named = {.tree = t, .on_node = on_node};

	return tree_each_path(list, on_named, &named);
}

struct noted {
	struct tree *names;
	const struct tree *have;
};

static int on_noted(void *arg, struct span *path, size_t count)
{
	const struct noted *n = arg;
	struct node *leaf;

	if (count > 1 && tree_child(n->have, NULL, path[0]) == NULL)
		return 0;
	return tree_leaf(n->names, NULL, path[0], &leaf);
}

int tree_note_named(struct tree *names, struct span list, const struct tree *have)
{
	struct noted n = {.names = names, .have = have};

	return tree_each_path(list, on_noted, &n);
}

static struct node *first_leaf_from(struct node *n)
{
	while (n != NULL && !n->is_leaf)
		n = n->first;
	return n;
}

/* The next leaf after n that is below top (NULL: the root). */
static struct node *next_leaf_below(const struct node *top, const struct node *n)
{
	while (n->next == NULL) {
		n = n->parent;
		if (n == top)
			return NULL;
	}
	return first_leaf_from(n->next);
}

struct node *tree_next_leaf(const struct tree *t, const struct node *n)
{
	return n == NULL ? first_leaf_from(t->first) : next_leaf_below(NULL, n);
}

void tree_path(const struct node *n, struct buf *ret)
{
	const struct node *chain[RECORD_DEPTH_MAX + 2];
	unsigned depth = 0;

	for (; n != NULL && depth < array_len(chain); n = n->parent)
		chain[depth++] = n;
	while (depth > 0) {
		depth--;
		(void)buf_add(ret, chain[depth]->key,
			      chain[depth]->key_len); /* the buf remembers */
		if (depth > 0)
			(void)buf_add_byte(ret, '.');
	}
}

bool node_number(const struct node *n, double *ret)
{
	struct mp m = mp_of(buf_span(&n->value));
	struct mp_value v;

	if (mp_read(&m, &v) < 0 || !mp_is_number(&v))
		return false;
	*ret = mp_to_double(&v);
	return true;
}

bool node_is_nil(const struct node *leaf)
{
	return leaf->value.len == 0 || leaf->value.data[0] == 0xc0;
}

static void print_value(struct json *j, const struct node *leaf, enum value_style style)
{
	struct mp m = mp_of(buf_span(&leaf->value));

	(void)value_to_json(j, &m, style); /* it was checked when it came */
}

/* Closes the branches between `from` and the common ancestor with `to`, and opens those down to
 * `to`; both are below top, or NULL. */
static void move_in_json(struct json *j, const struct node *top, const struct node *from,
			 const struct node *to)
{
	const struct node *up[RECORD_DEPTH_MAX + 2];
	const struct node *down[RECORD_DEPTH_MAX + 2];
	unsigned ups = 0;
	unsigned downs = 0;

	for (const struct node *n = from == NULL ? top : from->parent; n != top; n = n->parent)
		up[ups++] = n;
	for (const struct node *n = to == NULL ? top : to->parent; n != top; n = n->parent)
		down[downs++] = n;
	while (ups > 0 && downs > 0 && up[ups - 1] == down[downs - 1]) {
		ups--;
		downs--;
	}
	while (ups > 0) {
		json_close_object(j);
		ups--;
	}
	while (downs > 0) {
		json_put_key(j, node_key(down[--downs]));
		json_open_object(j);
	}
}

static void print_below(const struct node *top, struct node *first, struct json *j,
			enum value_style style, tree_print print)
{
	const struct node *printed = NULL; /* the last leaf that is in */
	const struct node *n = first_leaf_from(first);

	json_open_object(j);
	for (; n != NULL; n = next_leaf_below(top, n)) {
		if (print != NULL && !print(NULL, n, style))
			continue;
		move_in_json(j, top, printed, n);
		json_put_key(j, node_key(n));
		if (print != NULL)
			(void)print(j, n, style); /* it said yes above */
		else
			print_value(j, n, style);
		printed = n;
	}
	move_in_json(j, top, printed, NULL);
	json_close_object(j);
}

void tree_to_json(const struct tree *t, struct json *j, enum value_style style, tree_print print)
{
	print_below(NULL, t->first, j, style, print);
}

void node_to_json(const struct node *n, struct json *j, enum value_style style)
{
	if (n->is_leaf)
		print_value(j, n, style);
	else
		print_below(n, n->first, j, style, NULL);
}

static size_t child_count(const struct node *first)
{
	size_t n = 0;

	for (; first != NULL; first = first->next)
		n++;
	return n;
}

void tree_to_msgpack(const struct tree *t, struct pack *p,
		     void (*pack_leaf)(struct pack *p, const struct node *leaf))
{
	const struct node *n = t->first;

	pack_map(p, child_count(t->first));
	while (n != NULL) {
		pack_str(p, node_key(n));
		if (n->is_leaf) {
			pack_leaf(p, n);
		} else {
			pack_map(p, child_count(n->first));
			n = n->first;
			continue;
		}
		while (n != NULL && n->next == NULL)
			n = n->parent;
		if (n != NULL)
			n = n->next;
	}
}
