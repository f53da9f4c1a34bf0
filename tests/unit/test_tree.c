#include "daemon/forward/models/tree.h"
#include "proto/base/rng.h"
#include "proto/limits.h"
#include "tests/lib/rooms.h"
#include "tests/lib/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
	NODES_MAX = 1000
};

static struct mp text(const char *t)
{
	return mp_text(&room, t);
}

static const char *json_of(const struct tree *t)
{
	struct json j;

	json_begin(&j);
	tree_to_json(t, &j, VALUE_HISTORY, NULL);
	ck_assert_uint_eq(j.depth, 0);
	return buf_text(&json_room);
}

static void new_tree(struct tree *t, size_t max)
{
	ck_assert_int_eq(tree_init(t, max), 0);
}

static void merge(struct tree *t, const char *map)
{
	ck_assert_int_eq(tree_merge(t, NULL, text(map), NULL, NULL), 0);
}

static void pack_leaf(struct pack *p, const struct node *leaf)
{
	pack_raw(p, buf_span(&leaf->value));
}

/* Packs the tree and reads it into another: the same JSON again. */
static void check_round_trip(const struct tree *t)
{
	auto_buf struct buf bytes;
	auto_free char *before = mem_strdup(json_of(t));
	struct tree again;
	struct pack p;

	buf_init(&bytes, 1 << 24);
	pack_init(&p, &bytes);
	tree_to_msgpack(t, &p, pack_leaf);
	new_tree(&again, NODES_MAX);
	ck_assert_int_eq(tree_merge(&again, NULL, mp_of(buf_span(&bytes)), NULL, NULL), 0);
	ck_assert_str_eq(json_of(&again), before);
	ck_assert_uint_eq(again.count, t->count);
	tree_done(&again);
}

START_TEST(maps_merge_and_all_else_replaces)
{
	static const struct {
		const char *first;
		const char *second;
		const char *json;
	} cases[] = {
		{"{}", "{}", "{}"},
		{"{'a':1}", "{'b':2}", "{\"a\":1,\"b\":2}"},
		{"{'a':1,'b':2}", "{'a':3}", "{\"a\":3,\"b\":2}"}, /* and keeps its place */
		{"{'a':{'x':1}}", "{'a':{'y':2}}", "{\"a\":{\"x\":1,\"y\":2}}"},
		{"{'a':{'b':{'c':1}}}", "{'a':{'b':{'d':2}},'z':0}",
		 "{\"a\":{\"b\":{\"c\":1,\"d\":2}},\"z\":0}"},
		{"{'a':[1,2,3]}", "{'a':[4]}", "{\"a\":[4]}"},
		{"{'a':[{'x':1}]}", "{'a':[{'y':1}]}", "{\"a\":[{\"y\":1}]}"},
		{"{'a':1,'b':2}", "{'a':{'x':1}}",
		 "{\"a\":{\"x\":1},\"b\":2}"}, /* leaf to branch */
		{"{'a':{'x':{'y':1},'z':2},'b':2}", "{'a':5}", "{\"a\":5,\"b\":2}"},
		{"{'a':{}}", "{'a':{'x':1}}", "{\"a\":{\"x\":1}}"},
		{"{'a':{'x':1}}", "{'a':{}}", "{\"a\":{\"x\":1}}"}, /* nothing to merge */
		{"{'a':1}", "{'a':{}}", "{\"a\":{}}"},
		{"{'a':{'b':{}}}", "{'a':{'b':{}}}", "{\"a\":{\"b\":{}}}"},
		{"{'a':null}", "{'b':null}", "{\"a\":null,\"b\":null}"},
		{"{'a.b':1,'a':{'b':2}}", "{}", "{\"a.b\":1,\"a\":{\"b\":2}}"},
		{"{'':1}", "{'':{'':2}}", "{\"\":{\"\":2}}"},
		{"{1:'one'}", "{'1':'text'}", "{\"1\":\"text\"}"}, /* keys are texts */
		{"{'a':1,'a':2}", "{}", "{\"a\":2}"},
		/* a list as a key */
		{"{[1]:{[2]:3},'a':{{'k':0}:[{[]:5}]}}", "{}",
		 "{\"?\":{\"?\":3},\"a\":{\"?\":[{\"?\":5}]}}"},
		{"{12:{-5:{1.5:{'k':1}}}}", "{}", "{\"12\":{\"-5\":{\"1.5\":{\"k\":1}}}}"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct tree t;

		new_tree(&t, NODES_MAX);
		merge(&t, cases[i].first);
		merge(&t, cases[i].second);
		ck_assert_str_eq(json_of(&t), cases[i].json);
		check_round_trip(&t);
		tree_clear(&t);
		ck_assert_str_eq(json_of(&t), "{}");
		ck_assert_uint_eq(t.count, 0);
		tree_done(&t);
	}
	rooms_done();
}
END_TEST

START_TEST(what_is_no_map_is_refused)
{
	static const char *const bad[] = {
		"1", "'text'", "[]", "null", "!81!", "!81a161!", "!81a16181a162!", /* half maps */
	};
	struct tree t;

	new_tree(&t, NODES_MAX);
	merge(&t, "{'a':1}");
	for (size_t i = 0; i < array_len(bad); i++)
		ck_assert_int_eq(tree_merge(&t, NULL, text(bad[i]), NULL, NULL), -EBADMSG);
	ck_assert_int_eq(tree_merge(&t, NULL, mp_of(SPAN_LITERAL("")), NULL, NULL), -EBADMSG);
	ck_assert_str_eq(json_of(&t), "{\"a\":1}");
	tree_done(&t);
	rooms_done();
}
END_TEST

/* {"k":{"k":...1}} with so many maps. */
static const char *nested(unsigned depth)
{
	static char out[8 * 64];
	size_t len = 0;

	ck_assert_uint_lt(depth, 64);
	for (unsigned i = 0; i < depth; i++)
		len += (size_t)snprintf(out + len, sizeof(out) - len, "{'k':");
	out[len++] = '1';
	memset(out + len, '}', depth);
	out[len + depth] = '\0';
	return out;
}

START_TEST(a_map_as_deep_as_a_record_may_be_is_taken_and_a_deeper_one_refused)
{
	struct tree t;
	auto_buf struct buf path;

	new_tree(&t, NODES_MAX);
	merge(&t, nested(RECORD_DEPTH_MAX));
	check_round_trip(&t);
	buf_init(&path, 1000);
	tree_path(tree_next_leaf(&t, NULL), &path);
	ck_assert_uint_eq(path.len, RECORD_DEPTH_MAX * 2 - 1);
	ck_assert_int_eq(tree_merge(&t, NULL, text(nested(RECORD_DEPTH_MAX + 2)), NULL, NULL),
			 -EBADMSG);
	tree_done(&t);
	rooms_done();
}
END_TEST

static int on_leaf(void *arg, struct node *leaf)
{
	struct buf *said = arg;

	tree_path(leaf, said);
	(void)buf_add_byte(said, ' '); /* the buf remembers */
	return span_is(node_key(leaf), "stop") ? 7 : 0;
}

START_TEST(a_merge_tells_of_each_leaf_and_below_a_parent)
{
	auto_buf struct buf said;
	struct tree t;

	new_tree(&t, NODES_MAX);
	buf_init(&said, 1000);
	ck_assert_int_eq(
		tree_merge(&t, NULL, text("{'a':1,'b':{'c':2,'d':{}},'a':3}"), on_leaf, &said), 0);
	ck_assert_str_eq(buf_text(&said), "a b.c b.d a ");
	buf_clear(&said);
	ck_assert_int_eq(tree_merge(&t, tree_child(&t, NULL, SPAN_LITERAL("b")),
				    text("{'e':{'f':1}}"), on_leaf, &said),
			 0);
	ck_assert_str_eq(buf_text(&said), "b.e.f ");
	ck_assert_int_eq(tree_merge(&t, NULL, text("{'stop':1,'more':2}"), on_leaf, &said), 7);
	ck_assert_str_eq(json_of(&t),
			 "{\"a\":3,\"b\":{\"c\":2,\"d\":{},\"e\":{\"f\":1}},\"stop\":1}");
	tree_done(&t);
	rooms_done();
}
END_TEST

START_TEST(what_is_removed_takes_empty_branches_with_it)
{
	struct tree t;
	struct node *n;

	new_tree(&t, NODES_MAX);
	merge(&t, "{'a':{'b':{'c':1}},'d':{'e':1,'f':2},'g':3}");
	n = tree_child(&t, NULL, SPAN_LITERAL("a"));
	n = tree_child(&t, n, SPAN_LITERAL("b"));
	tree_remove(&t, tree_child(&t, n, SPAN_LITERAL("c")));
	ck_assert_str_eq(json_of(&t), "{\"d\":{\"e\":1,\"f\":2},\"g\":3}");
	n = tree_child(&t, NULL, SPAN_LITERAL("d"));
	tree_remove(&t, tree_child(&t, n, SPAN_LITERAL("f")));
	merge(&t, "{'d':{'h':4}}"); /* the list's end is in order */
	ck_assert_str_eq(json_of(&t), "{\"d\":{\"e\":1,\"h\":4},\"g\":3}");
	tree_remove(&t, n);
	tree_remove(&t, tree_child(&t, NULL, SPAN_LITERAL("g")));
	ck_assert_uint_eq(t.count, 0);
	merge(&t, "{'z':1}");
	ck_assert_str_eq(json_of(&t), "{\"z\":1}");
	tree_done(&t);
	rooms_done();
}
END_TEST

static void remove_named(struct tree *t, const char *list, int result)
{
	text(list);
	ck_assert_int_eq(tree_each_named(t, buf_span(&room), tree_remove), result);
}

START_TEST(names_are_keys_or_paths)
{
	struct tree t;

	new_tree(&t, NODES_MAX);
	merge(&t, "{'a':{'b':1,'c':{'d':2}},'a.b':3,'e':4,'f':5}");
	remove_named(&t, "['a.b','nothing',['a','c','d'],['a','x'],['a','x','y'],['e','x'],[]]", 0);
	ck_assert_str_eq(json_of(&t), "{\"a\":{\"b\":1},\"e\":4,\"f\":5}");
	remove_named(&t, "{'e':1}", 0); /* no list names nothing */
	remove_named(&t, "'e'", 0);
	remove_named(&t, "['e',5,[['a']],['a',5],[{'b':[]}],null,{'f':1},[5]]",
		     0); /* only the first */
	ck_assert_str_eq(json_of(&t), "{\"a\":{\"b\":1},\"f\":5}");
	remove_named(&t, "!92a166!", -EBADMSG); /* two are promised, one is there: it goes */
	ck_assert_str_eq(json_of(&t), "{\"a\":{\"b\":1}}");
	remove_named(&t, "['a','a']", 0);
	ck_assert_str_eq(json_of(&t), "{}");
	tree_done(&t);
	rooms_done();
}
END_TEST

START_TEST(leaves_come_in_order_with_their_paths)
{
	auto_buf struct buf said;
	struct tree t;

	new_tree(&t, NODES_MAX);
	ck_assert_ptr_null(tree_next_leaf(&t, NULL));
	merge(&t, "{'a':1,'b':{'c':{'d':2},'e':3},'f':{'g':{'h':{'i':4}}},'j':5}");
	buf_init(&said, 1000);
	for (struct node *n = tree_next_leaf(&t, NULL); n != NULL; n = tree_next_leaf(&t, n))
		ck_assert_int_eq(on_leaf(&said, n), 0);
	ck_assert_str_eq(buf_text(&said), "a b.c.d b.e f.g.h.i j ");
	tree_done(&t);
	rooms_done();
}
END_TEST

START_TEST(numbers_are_known_by_their_type)
{
	static const struct {
		const char *value;
		bool is_number;
		double number;
	} cases[] = {
		{"5", true, 5},
		{"-5", true, -5},
		{"0.5", true, 0.5},
		{"Infinity", true, (double)INFINITY},
		{"true", false, 0},
		{"null", false, 0},
		{"'5'", false, 0},
		{"[5]", false, 0},
		{"<05>", false, 0},
		{"{}", false, 0},
		{"!ca3f000000!", true, 0.5},
		{"9223372036854775807", true, 9223372036854775807.0},
		{"18446744073709551615", true, 18446744073709551615.0},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct tree t;
		struct node *leaf;
		double number = 42;

		new_tree(&t, NODES_MAX);
		text(cases[i].value);
		ck_assert_int_eq(tree_leaf(&t, NULL, SPAN_LITERAL("k"), &leaf), 0);
		ck_assert_int_eq(tree_set(leaf, buf_span(&room)), 0);
		ck_assert(node_number(leaf, &number) == cases[i].is_number);
		ck_assert_double_eq(number, cases[i].is_number ? cases[i].number : 42);
		tree_done(&t);
	}
	rooms_done();
}
END_TEST

static bool print_small(struct json *j, const struct node *leaf, enum value_style style)
{
	double number;

	(void)style;
	if (!node_number(leaf, &number) || number > 9)
		return false;
	if (j != NULL)
		json_put_text(j, "small");
	return true;
}

START_TEST(leaves_that_are_not_printed_leave_no_empty_branches)
{
	struct tree t;
	struct json j;

	new_tree(&t, NODES_MAX);
	merge(&t, "{'a':{'b':{'c':10},'d':{'e':1}},'f':10,'g':{'h':10},'i':{'j':{'k':2}},'l':10}");
	json_begin(&j);
	tree_to_json(&t, &j, VALUE_HISTORY, print_small);
	ck_assert_str_eq(buf_text(&json_room),
			 "{\"a\":{\"d\":{\"e\":\"small\"}},\"i\":{\"j\":{\"k\":\"small\"}}}");
	json_begin(&j);
	node_to_json(tree_child(&t, NULL, SPAN_LITERAL("a")), &j, VALUE_CONFIG);
	ck_assert_str_eq(buf_text(&json_room), "{\"b\":{\"c\":10},\"d\":{\"e\":1}}");
	tree_done(&t);
	rooms_done();
}
END_TEST

static unsigned dropped;

static void on_drop(void *extra)
{
	dropped++;
	(void)mem_free(extra);
}

START_TEST(what_hangs_at_a_leaf_is_dropped_with_it)
{
	static const char *const keys[] = {"a", "b", "c", "d"};
	struct tree t;

	new_tree(&t, NODES_MAX);
	t.on_drop = on_drop;
	merge(&t, "{'a':1,'b':2,'c':3,'d':4}");
	for (size_t i = 0; i < array_len(keys); i++)
		tree_child(&t, NULL, span_of_text(keys[i]))->extra = mem_alloc(1);
	merge(&t, "{'a':5}"); /* stays */
	ck_assert_uint_eq(dropped, 0);
	merge(&t, "{'b':{'x':1}}"); /* becomes a branch */
	ck_assert_uint_eq(dropped, 1);
	ck_assert_ptr_null(tree_child(&t, NULL, SPAN_LITERAL("b"))->extra);
	tree_remove(&t, tree_child(&t, NULL, SPAN_LITERAL("c")));
	ck_assert_uint_eq(dropped, 2);
	tree_done(&t);
	ck_assert_uint_eq(dropped, 4);
	rooms_done();
}
END_TEST

/* A tree that is full takes no more, and what it has stays whole. */
START_TEST(a_full_tree_says_so_and_stays_whole)
{
	static const struct {
		const char *more;
		const char *json;
	} cases[] = {
		{"{'x':1}", "{\"a\":1,\"b\":2,\"c\":{\"d\":3}}"},
		{"{'x':{'y':{'z':1}}}", "{\"a\":1,\"b\":2,\"c\":{\"d\":3}}"},
		{"{'c':{'e':{'f':1}}}", "{\"a\":1,\"b\":2,\"c\":{\"d\":3}}"},
		/* a leaf that should have become a branch is gone; what is behind it is not */
		{"{'a':{'x':{'y':1}}}", "{\"b\":2,\"c\":{\"d\":3}}"},
		{"{'b':5,'x':1}", "{\"a\":1,\"b\":5,\"c\":{\"d\":3}}"},
		{"{'c':{'d':{'e':1}}}", "{\"a\":1,\"b\":2}"},
	};

	for (size_t max = 4; max <= 5; max++) {
		for (size_t i = 0; i < array_len(cases); i++) {
			struct tree t;
			int r;

			new_tree(&t, max);
			merge(&t, "{'a':1,'b':2,'c':{'d':3}}");
			r = tree_merge(&t, NULL, text(cases[i].more), NULL, NULL);
			if (max == 4) {
				ck_assert_int_eq(r, -E2BIG);
				ck_assert_str_eq(json_of(&t), cases[i].json);
			}
			ck_assert_uint_le(t.count, max);
			check_round_trip(&t);
			tree_done(&t);
		}
	}
	rooms_done();
}
END_TEST

START_TEST(a_path_that_finds_no_room_leaves_no_empty_branches)
{
	const struct span deep[] = {SPAN_LITERAL("x"), SPAN_LITERAL("y"), SPAN_LITERAL("z")};
	const struct span through[] = {SPAN_LITERAL("a"), SPAN_LITERAL("y"), SPAN_LITERAL("z")};
	struct node *leaf;
	struct tree t;

	new_tree(&t, 4);
	merge(&t, "{'a':1,'b':2}");
	ck_assert_int_eq(tree_leaf_at(&t, deep, 3, &leaf), -E2BIG);
	ck_assert_str_eq(json_of(&t), "{\"a\":1,\"b\":2}");
	merge(&t, "{'c':3,'d':4}"); /* and the room is there again */
	ck_assert_int_eq(tree_leaf_at(&t, through, 3, &leaf), -E2BIG);
	ck_assert_str_eq(json_of(&t), "{\"b\":2,\"c\":3,\"d\":4}");
	check_round_trip(&t);
	ck_assert_int_eq(tree_leaf_at(&t, through, 1, &leaf), 0);
	ck_assert(leaf->is_leaf);
	tree_done(&t);
	rooms_done();
}
END_TEST

/* --- against a model: a flat list of paths --- */

enum {
	LEAVES_MAX = 256,
	PATH_MAX_ = 40
};

struct flat {
	char path[PATH_MAX_]; /* "a/b/c/" */
	int64_t value;
	bool is_there;
};

static struct flat flats[LEAVES_MAX];
static size_t flat_count;

static bool begins(const char *path, const char *with)
{
	return strncmp(path, with, strlen(with)) == 0;
}

static void flat_set(const char *path, int64_t value)
{
	for (size_t i = 0; i < flat_count; i++) {
		/* what is below it goes, and what it is below of, too */
		if (begins(flats[i].path, path) || begins(path, flats[i].path))
			flats[i].is_there = false;
	}
	ck_assert_uint_lt(flat_count, LEAVES_MAX);
	(void)snprintf(flats[flat_count].path, PATH_MAX_, "%s", path);
	flats[flat_count].value = value;
	flats[flat_count++].is_there = true;
}

static void flat_remove(const char *path)
{
	for (size_t i = 0; i < flat_count; i++) {
		if (begins(flats[i].path, path))
			flats[i].is_there = false;
	}
}

static size_t random_path(struct rng *rng, struct span path[4], char text_[PATH_MAX_])
{
	static const char *const keys[] = {"a", "b", "c", "dd"};
	size_t count = 1 + rng_below(rng, 4);
	size_t len = 0;

	for (size_t i = 0; i < count; i++) {
		const char *key = keys[rng_below(rng, array_len(keys))];

		path[i] = span_of_text(key);
		len += (size_t)snprintf(text_ + len, PATH_MAX_ - len, "%s/", key);
	}
	return count;
}

static struct node *find(const struct tree *t, const struct span *path, size_t count)
{
	struct node *n = NULL;

	for (size_t i = 0; i < count; i++) {
		n = i > 0 && n == NULL ? NULL : tree_child(t, n, path[i]);
	}
	return n;
}

static void check_flats(const struct tree *t)
{
	size_t leaves = 0;
	size_t there = 0;

	for (struct node *n = tree_next_leaf(t, NULL); n != NULL; n = tree_next_leaf(t, n)) {
		auto_buf struct buf path;
		double number = -1;
		bool found = false;

		buf_init(&path, 100);
		tree_path(n, &path);
		for (uint8_t *c = path.data; c < path.data + path.len; c++)
			*c = *c == '.' ? '/' : *c;
		(void)buf_add_byte(&path, '/'); /* the buf remembers */
		ck_assert(node_number(n, &number));
		for (size_t i = 0; i < flat_count; i++)
			found |= flats[i].is_there && span_is(buf_span(&path), flats[i].path) &&
				 flats[i].value == (int64_t)number;
		ck_assert_msg(found, "%s", buf_text(&path));
		leaves++;
	}
	for (size_t i = 0; i < flat_count; i++)
		there += flats[i].is_there;
	ck_assert_uint_eq(leaves, there);
}

static void set_number(struct node *leaf, int64_t number)
{
	auto_buf struct buf value;
	struct pack p;

	buf_init(&value, 16);
	pack_init(&p, &value);
	pack_int(&p, number);
	ck_assert_int_eq(tree_set(leaf, buf_span(&value)), 0);
}

START_TEST(any_changes_leave_what_the_model_has)
{
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct rng rng = {.state = seed};
		struct tree t;

		flat_count = 0;
		new_tree(&t, NODES_MAX);
		for (int64_t i = 0; i < 100; i++) {
			struct span path[4];
			char name[PATH_MAX_];
			size_t count = random_path(&rng, path, name);
			struct node *n;

			if (rng_below(&rng, 3) > 0) {
				ck_assert_int_eq(tree_leaf_at(&t, path, count, &n), 0);
				set_number(n, i);
				flat_set(name, i);
			} else {
				n = find(&t, path, count);
				if (n != NULL)
					tree_remove(&t, n);
				flat_remove(name);
			}
		}
		check_flats(&t);
		check_round_trip(&t);
		tree_done(&t);
	}
	rooms_done();
}
END_TEST

static int fill(struct tree *t, struct span map)
{
	int r = tree_init(t, NODES_MAX);

	return r == 0 ? tree_merge(t, NULL, mp_of(map), NULL, NULL) : r;
}

START_TEST(a_tree_survives_every_allocation_failure)
{
	struct tree t;

	text("{'a':1,'b':{'c':{'d':'text'}},'e':[1,2,3],'f':{},'b':2}");
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(fill(&t, buf_span(&room)), tree_done(&t)), 0);
	ck_assert_str_eq(json_of(&t), "{\"a\":1,\"b\":2,\"e\":[1,2,3],\"f\":{}}");
	tree_done(&t);
	rooms_done();
}
END_TEST

SUITE_MAIN("tree", maps_merge_and_all_else_replaces, what_is_no_map_is_refused,
	   a_map_as_deep_as_a_record_may_be_is_taken_and_a_deeper_one_refused,
	   a_merge_tells_of_each_leaf_and_below_a_parent,
	   what_is_removed_takes_empty_branches_with_it, names_are_keys_or_paths,
	   leaves_come_in_order_with_their_paths, numbers_are_known_by_their_type,
	   leaves_that_are_not_printed_leave_no_empty_branches,
	   what_hangs_at_a_leaf_is_dropped_with_it, a_full_tree_says_so_and_stays_whole,
	   a_path_that_finds_no_room_leaves_no_empty_branches, any_changes_leave_what_the_model_has,
	   a_tree_survives_every_allocation_failure)
