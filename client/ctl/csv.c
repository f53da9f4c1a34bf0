/* See csv.h. */
#include "client/ctl/csv.h"

#include "client/ctl/mpjson.h"
#include "proto/base/mem.h"
#include "proto/limits.h"
#include "proto/mp.h"

#include <errno.h>
#include <math.h>

struct column {
	struct span path; /* each key with its length before it */
	uint8_t *bytes;   /* where that is; owned */
};

enum {
	CELL_MAX = 64 << 20,
	NAMES_FIRST = 3
};
static const char *const first_names[NAMES_FIRST] = {"_step", "_timestamp", "_runtime"};

/* --- paths --- */

static void path_push(struct buf *path, struct span key)
{
	uint32_t len = (uint32_t)key.len;

	(void)buf_add(path, &len, sizeof(len)); /* the buf remembers */
	(void)buf_add(path, key.at, key.len);
}

static struct span path_key(struct span *rest)
{
	struct span key;
	uint32_t len;

	memcpy(&len, rest->at, sizeof(len));
	key = (struct span){.at = rest->at + sizeof(len), .len = len};
	rest->at += sizeof(len) + len;
	rest->len -= sizeof(len) + len;
	return key;
}

static int path_compare(struct span a, struct span b)
{
	int r = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);

	return r != 0 ? r : (a.len > b.len) - (a.len < b.len);
}

/* --- columns --- */

void columns_init(struct columns *c)
{
	*c = (struct columns){.count = 0};
	buf_init(&c->path, (size_t)RECORD_DEPTH_MAX * (KEY_MAX + sizeof(uint32_t)));
}

void columns_done(struct columns *c)
{
	for (size_t i = 0; i < c->count; i++)
		(void)mem_free(c->items[i].bytes);
	(void)mem_free(c->items);
	(void)mem_free(c->sorted);
	(void)mem_free(c->cells);
	buf_done(&c->path);
}

/* Where the path stands among the sorted ones, or would. */
static size_t find_place(const struct columns *c, struct span path, bool *ret_is_there)
{
	size_t low = 0;
	size_t high = c->count;

	*ret_is_there = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = path_compare(c->items[c->sorted[middle]].path, path);

		if (order == 0) {
			*ret_is_there = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* *guess: rows mostly have the same keys in the same order. */
static bool find_column(const struct columns *c, struct span path, size_t *guess)
{
	bool is_there;
	size_t place;

	if (*guess < c->count && span_equal(c->items[*guess].path, path))
		return true;
	place = find_place(c, path, &is_there);
	if (is_there)
		*guess = c->sorted[place];
	return is_there;
}

static int add_column(struct columns *c, struct span path)
{
	bool is_there;
	size_t place = find_place(c, path, &is_there);
	uint8_t *copy;

	if (c->count == COLUMNS_MAX)
		return -E2BIG;
	if (mem_room(c->items, c->count, c->cap) < 0 ||
	    mem_room(c->sorted, c->count, c->sorted_cap) < 0 ||
	    mem_room(c->cells, c->count, c->cells_cap) < 0)
		return -ENOMEM;
	copy = mem_alloc(path.len);
	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, path.at, path.len);
	memmove(c->sorted + place + 1, c->sorted + place, (c->count - place) * sizeof(*c->sorted));
	c->sorted[place] = c->count;
	c->cells[c->count] = (struct span){.at = NULL};
	c->items[c->count++] =
		(struct column){.path = {.at = copy, .len = path.len}, .bytes = copy};
	return 0;
}

/* --- walking through a row --- */

/* A leaf of the row: its path, and its value. */
typedef int (*on_cell)(struct columns *c, struct span path, struct span value, size_t *guess);

struct level {
	uint32_t left; /* pairs */
	size_t path_len;
};

/* A map whose entries are columns of their own. */
static bool is_branch(const struct mp_value *v, struct mp at)
{
	struct mp_value type;

	return v->type == MP_MAP && v->count > 0 && mp_find(at, "_type", &type) == -ENOENT;
}

static int visit_pair(struct columns *c, struct mp *m, struct level *levels, unsigned *depth,
		      on_cell visit, size_t *guess)
{
	struct mp_value key;
	struct mp_value v;
	struct mp peek;
	struct span value;

	if (mp_read(m, &key) < 0 || key.type != MP_STR)
		return -EBADMSG;
	path_push(&c->path, key.bytes);
	if (c->path.error != 0)
		return c->path.error;
	peek = *m;
	if (mp_read(&peek, &v) < 0)
		return -EBADMSG;
	if (is_branch(&v, *m)) {
		if (*depth == RECORD_DEPTH_MAX)
			return -EBADMSG;
		*m = peek;
		levels[(*depth)++] = (struct level){.left = v.count, .path_len = c->path.len};
		return 0;
	}
	if (mp_take(m, &value) < 0)
		return -EBADMSG;
	return visit(c, buf_span(&c->path), value, guess);
}

static int walk(struct columns *c, struct span row, on_cell visit)
{
	struct level levels[RECORD_DEPTH_MAX];
	struct mp m = mp_of(row);
	struct mp_value v;
	unsigned depth = 1;
	size_t guess = 0;
	int r = 0;

	if (mp_read(&m, &v) < 0 || v.type != MP_MAP)
		return -EBADMSG;
	levels[0] = (struct level){.left = v.count};
	while (r == 0 && depth > 0) {
		struct level *at = &levels[depth - 1];

		buf_clear(&c->path);
		c->path.len = at->path_len; /* its bytes are still there */
		if (at->left-- == 0)
			depth--;
		else
			r = visit_pair(c, &m, levels, &depth, visit, &guess);
	}
	return r;
}

static int learn_cell(struct columns *c, struct span path, struct span value, size_t *guess)
{
	(void)value;
	if (find_column(c, path, guess)) {
		++*guess;
		return 0;
	}
	return add_column(c, path);
}

int columns_add_row(struct columns *c, struct span row)
{
	return walk(c, row, learn_cell);
}

/* --- printing --- */

static void add_quoted(struct buf *out, struct span text)
{
	bool quotes = text.len == 0 || text.at[0] == ' ' || text.at[text.len - 1] == ' ';

	for (size_t i = 0; !quotes && i < text.len; i++)
		quotes = strchr(",\"\r\n", text.at[i]) != NULL && text.at[i] != '\0';
	if (!quotes) {
		(void)buf_add(out, text.at, text.len); /* the buf remembers */
		return;
	}
	(void)buf_add_byte(out, '"');
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == '"')
			(void)buf_add_byte(out, '"');
		(void)buf_add_byte(out, text.at[i]);
	}
	(void)buf_add_byte(out, '"');
}

static void add_real(struct buf *out, double n)
{
	char text[JSON_DOUBLE_MAX];

	if (isnan(n))
		(void)buf_add_text(out, "NaN"); /* the buf remembers */
	else if (isinf(n))
		(void)buf_add_text(out, n < 0 ? "-Infinity" : "Infinity");
	else
		(void)buf_add(out, text, json_format_double(text, n));
}

static int add_json(struct buf *out, struct span value)
{
	auto_buf struct buf text = {0};
	struct json j;
	int r;

	buf_init(&text, CELL_MAX);
	json_init(&j, &text);
	r = json_add_mp(&j, value);
	if (r == 0)
		r = text.error;
	if (r == 0)
		add_quoted(out, buf_span(&text));
	return r;
}

int csv_add_cell(struct buf *out, struct span value)
{
	struct mp m = mp_of(value);
	struct mp_value v;

	if (value.at == NULL)
		return 0;
	if (mp_read(&m, &v) < 0)
		return -EBADMSG;
	switch (v.type) {
	case MP_NIL: return 0;
	case MP_STR: add_quoted(out, v.bytes); return 0;
	case MP_FLOAT: add_real(out, v.real); return 0;
	case MP_BOOL: return buf_add_text(out, v.boolean ? "true" : "false");
	case MP_INT: return buf_printf(out, "%lld", (long long)v.integer);
	case MP_UINT: return buf_printf(out, "%llu", (unsigned long long)v.natural);
	case MP_BIN:
	case MP_EXT:
	case MP_ARRAY:
	case MP_MAP: break;
	}
	return add_json(out, value);
}

/* The column of W&B's own with that name. 0 and *ret, SIZE_MAX when there is none; -ENOMEM. */
static int named_column(const struct columns *c, const char *name, size_t *ret)
{
	auto_buf struct buf path = {0};
	bool is_there;
	size_t place;

	buf_init(&path, 64);
	path_push(&path, span_of_text(name));
	if (path.error != 0)
		return path.error;
	place = find_place(c, buf_span(&path), &is_there);
	*ret = is_there ? c->sorted[place] : SIZE_MAX;
	return 0;
}

/* Calls print for every column: W&B's own first, then the others as they came. */
static int each_column(const struct columns *c,
		       int (*print)(const struct columns *, size_t, struct buf *), struct buf *out)
{
	size_t first[NAMES_FIRST];
	bool comma = false;
	int r = 0;

	for (size_t i = 0; r == 0 && i < NAMES_FIRST; i++)
		r = named_column(c, first_names[i], &first[i]);
	for (size_t i = 0; r == 0 && i < c->count + NAMES_FIRST; i++) {
		size_t at = i < NAMES_FIRST ? first[i] : i - NAMES_FIRST;

		if (at == SIZE_MAX ||
		    (i >= NAMES_FIRST && (at == first[0] || at == first[1] || at == first[2])))
			continue;
		if (comma)
			(void)buf_add_byte(out, ','); /* the buf remembers */
		comma = true;
		r = print(c, at, out);
	}
	(void)buf_add_byte(out, '\n');
	return r;
}

static int print_name(const struct columns *c, size_t at, struct buf *out)
{
	struct span rest = c->items[at].path;
	auto_buf struct buf name = {0};

	buf_init(&name, rest.len);
	while (rest.len > 0) {
		struct span key = path_key(&rest);

		(void)buf_add(&name, key.at, key.len); /* looked at below */
		if (rest.len > 0)
			(void)buf_add_byte(&name, '.');
	}
	add_quoted(out, buf_span(&name));
	if (name.error != 0 && out->error == 0)
		out->error = name.error;
	return 0;
}

int columns_print_names(const struct columns *c, struct buf *out)
{
	int r = each_column(c, print_name, out);

	return r == 0 ? out->error : r;
}

static int keep_cell(struct columns *c, struct span path, struct span value, size_t *guess)
{
	if (!find_column(c, path, guess))
		return -ENOENT;
	c->cells[(*guess)++] = value;
	return 0;
}

static int print_cell(const struct columns *c, size_t at, struct buf *out)
{
	return csv_add_cell(out, c->cells[at]);
}

int columns_print_row(struct columns *c, struct span row, struct buf *out)
{
	int r;

	for (size_t i = 0; i < c->count; i++)
		c->cells[i] = (struct span){.at = NULL};
	r = walk(c, row, keep_cell);
	if (r == 0)
		r = each_column(c, print_cell, out);
	return r == 0 ? out->error : r;
}
