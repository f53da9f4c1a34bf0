/* See metric.h. */
#include "daemon/forward/models/metric.h"

#include "proto/base/mem.h"
#include "proto/limits.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	enum summary_kind kind;
	int number; /* in the `m` list: the field of W&B's MetricSummary message; 0: not told */
} kinds[] = {
	{"min", SUMMARY_MIN, 1},   {"max", SUMMARY_MAX, 2},     {"mean", SUMMARY_MEAN, 3},
	{"best", SUMMARY_BEST, 4}, {"last", SUMMARY_LAST, 5},   {"none", SUMMARY_NONE, 6},
	{"copy", SUMMARY_COPY, 0}, {"first", SUMMARY_FIRST, 8},
};

static void metric_done(struct metric *m)
{
	m->name = mem_free(m->name);
	m->step_metric = mem_free(m->step_metric);
}

void metrics_done(struct metrics *m)
{
	for (size_t i = 0; i < m->count; i++)
		metric_done(&m->items[i]);
	for (size_t i = 0; i < m->step_count; i++)
		(void)mem_free(m->steps[i].name);
	(void)mem_free(m->items);
	(void)mem_free(m->steps);
	*m = (struct metrics){0};
}

static bool name_is(const char *name, struct span text)
{
	return span_is(text, name);
}

static struct metric *find_defined(const struct metrics *m, struct span name)
{
	for (size_t i = 0; i < m->count; i++) {
		if (name_is(m->items[i].name, name))
			return &m->items[i];
	}
	return NULL;
}

static struct step_value *find_step(const struct metrics *m, struct span name)
{
	for (size_t i = 0; i < m->step_count; i++) {
		if (name_is(m->steps[i].name, name))
			return &m->steps[i];
	}
	return NULL;
}

bool metrics_is_step(const struct metrics *m, struct span name)
{
	return find_step(m, name) != NULL;
}

static int add_metric(struct metrics *m, struct span name, struct metric **ret)
{
	struct metric *grown;
	char *copy;

	if (m->count == METRICS_MAX)
		return -E2BIG;
	copy = mem_strndup((const char *)name.at, name.len);
	grown = mem_realloc(m->items, (m->count + 1) * sizeof(*grown));
	if (grown != NULL)
		m->items = grown;
	if (copy == NULL || grown == NULL) {
		(void)mem_free(copy);
		return -ENOMEM;
	}
	*ret = &m->items[m->count++];
	**ret = (struct metric){.name = copy,
				.is_glob = name.len > 0 && name.at[name.len - 1] == '*'};
	return 0;
}

static int add_step(struct metrics *m, struct span name)
{
	struct step_value *grown;
	char *copy;

	if (find_step(m, name) != NULL)
		return 0;
	copy = mem_strndup((const char *)name.at, name.len);
	grown = mem_realloc(m->steps, (m->step_count + 1) * sizeof(*grown));
	if (grown != NULL)
		m->steps = grown;
	if (copy == NULL || grown == NULL) {
		(void)mem_free(copy);
		return -ENOMEM;
	}
	m->steps[m->step_count++] = (struct step_value){.name = copy};
	return 0;
}

static int set_step_metric(struct metrics *m, struct metric *of, struct span name)
{
	size_t at = (size_t)(of - m->items);
	char *copy = mem_strndup((const char *)name.at, name.len);
	int r = copy == NULL ? -ENOMEM : add_step(m, name);

	if (r < 0) {
		(void)mem_free(copy);
		return r;
	}
	(void)mem_free(m->items[at].step_metric);
	m->items[at].step_metric = copy;
	return 0;
}

static unsigned kinds_of(struct mp list)
{
	struct mp_value v;
	unsigned bits = 0;

	if (mp_read(&list, &v) < 0 || v.type != MP_ARRAY)
		return 0;
	for (uint32_t left = v.count; left > 0; left--) {
		struct mp_value name;

		if (mp_read(&list, &name) < 0 || name.type != MP_STR)
			return bits;
		for (size_t i = 0; i < array_len(kinds); i++)
			bits |= span_is(name.bytes, kinds[i].name) ? (unsigned)kinds[i].kind : 0;
	}
	return bits;
}

/* Names are kept as C's texts: they end at a NUL. */
static struct span name_in(struct mp body, const char *key)
{
	struct span name = mp_get_str(body, key);

	if (name.at != NULL)
		name.len = strnlen((const char *)name.at, name.len);
	return name;
}

/* A definition adds to the one before: what it does not say stays, and true stays true. */
static int update(struct metrics *m, struct metric *one, struct mp body)
{
	struct span step = name_in(body, "step_metric");
	struct span goal = mp_get_str(body, "goal");
	struct span list;

	if (mp_get_bool(body, "overwrite", false)) {
		one->step_sync = one->hidden = one->has_summary = false;
		one->kinds = 0;
		one->goal = GOAL_NONE;
		one->step_metric = mem_free(one->step_metric);
	}
	one->step_sync |= mp_get_bool(body, "step_sync", false);
	one->hidden |= mp_get_bool(body, "hidden", false);
	if (mp_find_span(body, "summary", &list) == 0 && list.at[0] != 0xc0 /* nil */) {
		one->has_summary = true;
		one->kinds &= ~(unsigned)SUMMARY_NONE; /* the last word on it counts */
		one->kinds |= kinds_of(mp_of(list));
	}
	if (goal.at != NULL)
		one->goal = span_is(goal, "maximize")   ? GOAL_MAXIMIZE
			    : span_is(goal, "minimize") ? GOAL_MINIMIZE
							: one->goal;
	return step.len > 0 ? set_step_metric(m, one, step) : 0;
}

int metrics_define(struct metrics *m, struct mp body, const struct metric **ret)
{
	struct span name = name_in(body, "name");
	struct metric *one = find_defined(m, name);
	int r = one == NULL ? add_metric(m, name, &one) : 0;
	size_t at;

	if (r < 0)
		return r;
	at = (size_t)(one - m->items);
	r = update(m, one, body);
	*ret = &m->items[at];
	return r;
}

int metrics_adopt(struct metrics *m, struct span list)
{
	struct mp at = mp_of(list);
	struct mp_value head;
	int r = 0;

	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY)
		return -EBADMSG;
	for (uint32_t left = head.count; r == 0 && left > 0; left--) {
		const struct metric *one;
		struct span body;

		if (mp_take(&at, &body) < 0)
			return -EBADMSG;
		if (find_defined(m, name_in(mp_of(body), "name")) == NULL)
			r = metrics_define(m, mp_of(body), &one);
	}
	return r;
}

static bool glob_fits(const struct metric *m, struct span key)
{
	size_t len = strlen(m->name) - 1;

	return m->is_glob && key.len >= len && memcmp(m->name, key.at, len) == 0;
}

const struct metric *metrics_find(const struct metrics *m, struct span key)
{
	const struct metric *best = find_defined(m, key);

	if (best != NULL && !best->is_glob)
		return best;
	best = NULL;
	if (key.len > 0 && key.at[0] == '_')
		return NULL;
	for (size_t i = 0; i < m->count; i++) {
		const struct metric *one = &m->items[i];

		if (glob_fits(one, key) && (best == NULL || strlen(one->name) > strlen(best->name)))
			best = one;
	}
	return best;
}

/* --- rows --- */

/* A step metric's name as keys: every dot separates (as in the SDK, which does not unescape here).
 */
static size_t step_path(const char *name, struct span ret[METRIC_PATH_MAX])
{
	size_t n = 0;

	while (n < METRIC_PATH_MAX) {
		size_t len = strcspn(name, ".");

		ret[n++] = (struct span){.at = (const uint8_t *)name, .len = len};
		if (name[len] == '\0')
			break;
		name += len + 1;
	}
	return n;
}

static struct node *find_leaf(const struct tree *row, const struct span *path, size_t count)
{
	struct node *n = NULL;

	for (size_t i = 0; i < count; i++) {
		n = tree_child(row, n, path[i]);
		if (n == NULL)
			return NULL;
	}
	return n != NULL && n->is_leaf ? n : NULL;
}

static void note_steps(struct metrics *m, const struct tree *row)
{
	for (size_t i = 0; i < m->step_count; i++) {
		struct span path[METRIC_PATH_MAX];
		const struct node *leaf = find_leaf(row, path, step_path(m->steps[i].name, path));
		double value;

		if (leaf != NULL && node_number(leaf, &value))
			m->steps[i].value = value;
	}
}

static int put_step(const struct metrics *m, struct tree *row, const char *step_metric)
{
	const struct step_value *last = find_step(m, span_of_text(step_metric));
	struct span path[METRIC_PATH_MAX];
	size_t count = step_path(step_metric, path);
	struct node *leaf;
	struct buf value;
	struct pack p;
	int r;

	if (last == NULL || find_leaf(row, path, count) != NULL)
		return 0;
	r = tree_leaf_at(row, path, count, &leaf);
	if (r < 0)
		return r;
	buf_init(&value, 16);
	pack_init(&p, &value);
	pack_double(&p, last->value);
	r = value.error == 0 ? tree_set(leaf, buf_span(&value)) : value.error;
	buf_done(&value);
	return r;
}

int metrics_sync_row(struct metrics *m, struct tree *row)
{
	struct buf key;
	int r = 0;

	if (m->count == 0)
		return 0;
	note_steps(m, row);
	buf_init(&key, RECORD_MAX);
	for (const struct node *n = tree_next_leaf(row, NULL); r == 0 && n != NULL;
	     n = tree_next_leaf(row, n)) {
		const struct metric *one;

		buf_clear(&key);
		tree_path(n, &key);
		one = key.error == 0 ? metrics_find(m, buf_span(&key)) : NULL;
		if (key.error != 0)
			r = key.error;
		else if (one != NULL && one->step_sync && one->step_metric != NULL)
			r = put_step(m, row, one->step_metric); /* appended: the walk goes on over
								   it, which is harmless */
	}
	buf_done(&key);
	return r;
}

/* --- the config's list --- */

static void print_options(struct json *j, const struct metric *m)
{
	json_put_key_text(j, "6");
	json_open_array(j);
	if (m->step_sync)
		json_put_int(j, 1);
	if (m->hidden)
		json_put_int(j, 2);
	if (!m->is_glob)
		json_put_int(j, 3); /* defined by name */
	json_close_array(j);
	json_put_key_text(j, "7");
	json_open_array(j);
	for (size_t i = 0; i < array_len(kinds); i++) {
		if (kinds[i].number != 0 && (m->kinds & (unsigned)kinds[i].kind) != 0)
			json_put_int(j, kinds[i].number);
	}
	json_close_array(j);
	if (m->goal != GOAL_NONE) {
		json_put_key_text(j, "8");
		json_put_int(j, m->goal);
	}
}

/* 1-based place in the list: defined ones in order, then step metrics that nobody defined. */
static int index_of(const struct metrics *m, const char *name)
{
	int at = (int)m->count;

	for (size_t i = 0; i < m->count; i++) {
		if (!m->items[i].is_glob && strcmp(m->items[i].name, name) == 0)
			return (int)i + 1;
	}
	for (size_t i = 0; i < m->step_count; i++) {
		const struct metric *defined = find_defined(m, span_of_text(m->steps[i].name));

		if (defined != NULL && !defined->is_glob)
			continue;
		at++;
		if (strcmp(m->steps[i].name, name) == 0)
			return at;
	}
	return 0;
}

void metrics_to_json(const struct metrics *m, struct json *j)
{
	json_open_array(j);
	for (size_t i = 0; i < m->count; i++) {
		const struct metric *one = &m->items[i];

		json_open_object(j);
		json_put_key_text(j, one->is_glob ? "2" : "1");
		json_put_text(j, one->name);
		if (one->step_metric != NULL) {
			json_put_key_text(j, "5");
			json_put_int(j, index_of(m, one->step_metric));
		}
		print_options(j, one);
		json_close_object(j);
	}
	for (size_t i = 0; i < m->step_count; i++) {
		const struct metric *defined = find_defined(m, span_of_text(m->steps[i].name));

		if (defined != NULL && !defined->is_glob)
			continue;
		json_open_object(j);
		json_put_key_text(j, "1");
		json_put_text(j, m->steps[i].name);
		json_put_key_text(j, "6");
		json_open_array(j);
		json_close_array(j);
		json_put_key_text(j, "7");
		json_open_array(j);
		json_close_array(j);
		json_close_object(j);
	}
	json_close_array(j);
}

/* --- state --- */

void metrics_to_msgpack(const struct metrics *m, struct pack *p)
{
	pack_map(p, 2);
	pack_text(p, "defined");
	pack_array(p, m->count);
	for (size_t i = 0; i < m->count; i++) {
		const struct metric *one = &m->items[i];

		pack_map(p, 7);
		pack_pair_text(p, "name", one->name);
		pack_pair_text(p, "step_metric", one->step_metric);
		pack_pair_bool(p, "step_sync", one->step_sync);
		pack_pair_bool(p, "hidden", one->hidden);
		pack_pair_bool(p, "has_summary", one->has_summary);
		pack_pair_uint(p, "kinds", one->kinds);
		pack_pair_uint(p, "goal", (uint64_t)one->goal);
	}
	pack_text(p, "steps");
	pack_map(p, m->step_count);
	for (size_t i = 0; i < m->step_count; i++)
		pack_pair_double(p, m->steps[i].name, m->steps[i].value);
}

/* As we store them: not empty, and without NULs. */
static bool is_name(const struct mp_value *v)
{
	return v->type == MP_STR && v->bytes.len > 0 &&
	       memchr(v->bytes.at, 0, v->bytes.len) == NULL;
}

static int read_metric(struct metrics *m, struct mp at)
{
	struct metric *one;
	struct span name = mp_get_str(at, "name");
	struct span step = mp_get_str(at, "step_metric");
	size_t index;
	int r = name.at == NULL ? -EBADMSG : add_metric(m, name, &one);

	if (r < 0)
		return r;
	index = (size_t)(one - m->items);
	if (step.len > 0 && step.at[0] != 0)
		r = set_step_metric(m, one, step);
	one = &m->items[index];
	one->step_sync = mp_get_bool(at, "step_sync", false);
	one->hidden = mp_get_bool(at, "hidden", false);
	one->has_summary = mp_get_bool(at, "has_summary", false);
	one->kinds = (unsigned)mp_get_uint(at, "kinds", 0);
	one->goal = (enum metric_goal)mp_get_uint(at, "goal", 0);
	return r;
}

static int read_steps(struct metrics *m, struct mp at)
{
	struct mp_value head;

	if (mp_read(&at, &head) < 0 || head.type != MP_MAP)
		return -EBADMSG;
	for (uint32_t left = head.count; left > 0; left--) {
		struct mp_value name;
		struct mp_value value;
		struct step_value *step;
		int r;

		if (mp_read(&at, &name) < 0 || !is_name(&name) || mp_read(&at, &value) < 0 ||
		    value.type != MP_FLOAT)
			return -EBADMSG;
		r = add_step(m, name.bytes);
		if (r < 0)
			return r;
		step = find_step(m, name.bytes);
		assert(step != NULL); /* just added */
		step->value = value.real;
	}
	return 0;
}

int metrics_from_msgpack(struct metrics *ret, struct mp map)
{
	struct span list;
	struct span steps;
	struct mp_value head;
	struct mp at;
	int r;

	*ret = (struct metrics){0};
	if (mp_find_span(map, "defined", &list) < 0 || mp_find_span(map, "steps", &steps) < 0)
		return -EBADMSG;
	at = mp_of(list);
	if (mp_read(&at, &head) < 0 || head.type != MP_ARRAY)
		return -EBADMSG;
	r = read_steps(ret, mp_of(steps)); /* first: definitions add those that are missing */
	for (uint32_t left = head.count; r == 0 && left > 0; left--) {
		struct span one;

		r = mp_take(&at, &one) < 0 ? -EBADMSG : read_metric(ret, mp_of(one));
	}
	if (r < 0)
		metrics_done(ret);
	return r;
}

size_t metric_path(const char *name, char *room, size_t room_size, struct span ret[METRIC_PATH_MAX])
{
	size_t count = 0;
	size_t used = 0;
	size_t begin = 0;

	for (; *name != '\0' && used + 1 < room_size; name++) {
		if (name[0] == '\\' && name[1] == '.') {
			room[used++] = '.';
			name++;
		} else if (name[0] == '.' && count + 1 < METRIC_PATH_MAX) {
			ret[count++] = (struct span){.at = (const uint8_t *)room + begin,
						     .len = used - begin};
			begin = used;
		} else {
			room[used++] = name[0];
		}
	}
	ret[count++] = (struct span){.at = (const uint8_t *)room + begin, .len = used - begin};
	return count;
}
