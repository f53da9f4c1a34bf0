/* Nested values under keys, as W&B's client merges what is logged: maps are branches and merge,
 * everything else (lists too) is a leaf and replaces what was there. An empty map is a leaf, unless
 * a branch is there (W&B's client drops it; here nothing is dropped). Rows, configs and summaries
 * are such trees. Keys keep the order in which they came. One owner at a time. */
#pragma once

#include "daemon/base/map.h"
#include "daemon/forward/models/value.h"
#include "proto/limits.h"
#include "proto/pack.h"

struct node {
	struct map_node hash; /* by parent and key */
	struct node *parent;  /* NULL: a child of the root */
	struct node *next;    /* sibling */
	struct node *first;   /* child; a branch has one at least */
	struct node *last;
	bool is_leaf;
	void *extra;      /* the tree's user's own, of a leaf; freed by on_drop */
	struct buf value; /* of a leaf: one msgpack value */
	size_t key_len;
	uint8_t key[];
};

struct tree {
	struct map nodes;
	struct node *first;
	struct node *last;
	size_t count;                 /* nodes */
	size_t max;                   /* more are not taken: tree_merge() answers -E2BIG */
	void (*on_drop)(void *extra); /* may be NULL */
};

int tree_init(struct tree *t,
	      size_t max_nodes); /* 0, or -errno when the kernel gives no random bytes */
void tree_done(struct tree *t);
void tree_clear(struct tree *t);

static inline struct span node_key(const struct node *n)
{
	return (struct span){.at = n->key, .len = n->key_len};
}

/* Child of parent (NULL: the root), or NULL. */
struct node *tree_child(const struct tree *t, const struct node *parent, struct span key);
/* The leaf of that key below parent, made if need be; a branch there goes. 0; -ENOMEM; -E2BIG. */
int tree_leaf(struct tree *t, struct node *parent, struct span key, struct node **ret);
/* The same along a path of keys. */
int tree_leaf_at(struct tree *t, const struct span *path, size_t count, struct node **ret);
/* Puts a leaf's value. 0, or -ENOMEM. */
int tree_set(struct node *leaf, struct span value);
void tree_remove(struct tree *t,
		 struct node *n); /* with all below it, and branches that are empty then */

/* Called for each leaf that a merge sets, after it was set. 0 to go on. */
typedef int (*tree_on_leaf)(void *arg, struct node *leaf);
/* Merges the map at the cursor below parent (NULL: the root). on_leaf may be NULL. 0; -EBADMSG it
 * is no map; -ENOMEM; -E2BIG; what on_leaf says. */
int tree_merge(struct tree *t, struct node *parent, struct mp map, tree_on_leaf on_leaf, void *arg);

/* Reads a list whose entries are keys or paths (lists of keys), and calls on_path for each, who may
 * use all of path[] until he returns. 0; -EBADMSG: no msgpack; what on_path says, when that is not 0.
 * What is no list, and entries that are neither, name nothing. */
enum {
	TREE_PATH_MAX = RECORD_DEPTH_MAX + 2
};
typedef int (*tree_on_path)(void *arg, struct span *path, size_t count);
int tree_each_path(struct span list, tree_on_path on_path, void *arg);
/* Calls on_node for each node that such a list names. 0; -EBADMSG. */
int tree_each_named(struct tree *t, struct span list,
		    void (*on_node)(struct tree *t, struct node *n));
/* Puts the top-level keys of such a list into names; of a path inside a key only when `have` has that
 * key. 0; -EBADMSG; -ENOMEM; -E2BIG. */
int tree_note_named(struct tree *names, struct span list, const struct tree *have);

/* The next leaf in order after n (NULL: the first), or NULL. */
struct node *tree_next_leaf(const struct tree *t, const struct node *n);
/* The keys from the root, with dots between. */
void tree_path(const struct node *n, struct buf *ret);
/* Leaves of a row that are numbers. True and *ret. */
bool node_number(const struct node *n, double *ret);
bool node_is_nil(const struct node *leaf);

/* The tree as a JSON object. print writes one leaf (NULL: its value in style). Leaves for which
 * print answers false are left out with branches that hold nothing else. */
typedef bool (*tree_print)(struct json *j, const struct node *leaf, enum value_style style);
void tree_to_json(const struct tree *t, struct json *j, enum value_style style, tree_print print);
/* One node: a leaf's value, or a branch as an object. */
void node_to_json(const struct node *n, struct json *j, enum value_style style);
/* The tree as a msgpack map of maps, leaves packed by pack_leaf. */
void tree_to_msgpack(const struct tree *t, struct pack *p,
		     void (*pack_leaf)(struct pack *p, const struct node *leaf));
