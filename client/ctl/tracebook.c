/* See tracebook.h. */
#include "client/ctl/tracebook.h"

#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	BUCKETS = 1 << 16,
	RECORD_BYTES_MAX = 4 << 20
};

static char nothing[] = "";

/* --- calls by id --- */

static size_t bucket_of(const struct book *b, struct span id)
{
	uint64_t hash = 14695981039346656037U; /* FNV-1a: who chooses ids harms himself alone */

	for (size_t i = 0; i < id.len; i++)
		hash = (hash ^ id.at[i]) * 1099511628211U;
	return (size_t)(hash % b->bucket_count);
}

static struct trace_call *find(const struct book *b, struct span id)
{
	struct trace_call *c = b->buckets[bucket_of(b, id)];

	while (c != NULL && !span_is(id, c->id))
		c = c->same_bucket;
	return c;
}

static void free_text(char *text)
{
	if (text != nothing)
		(void)mem_free(text);
}

static void call_free(struct trace_call *c)
{
	char *const texts[] = {c->id,           c->trace_id, c->parent_id, c->op,
			       c->display_name, c->run,      c->reason,    c->exception};

	for (size_t i = 0; i < array_len(texts); i++)
		free_text(texts[i]);
	buf_done(&c->start);
	buf_done(&c->end);
	buf_done(&c->feedback);
	(void)mem_free(c);
}

static void forget_oldest(struct book *b)
{
	struct trace_call *c = b->oldest;
	struct trace_call **at = &b->buckets[bucket_of(b, span_of_text(c->id))];

	while (*at != c)
		at = &(*at)->same_bucket;
	*at = c->same_bucket;
	b->oldest = c->newer;
	if (b->oldest != NULL)
		b->oldest->older = NULL;
	else
		b->newest = NULL;
	b->count--;
	b->forgotten++;
	call_free(c);
}

static char *copy(struct span text)
{
	char *new = mem_alloc(text.len + 1);

	if (new == NULL)
		return NULL;
	memcpy(new, text.at, text.len);
	for (size_t i = 0; i < text.len; i++) { /* a NUL would end it */
		if (new[i] == '\0')
			new[i] = ' ';
	}
	new[text.len] = '\0';
	return new;
}

static struct trace_call *make(struct book *b, struct span id)
{
	struct trace_call *c = mem_zalloc(sizeof(*c));
	size_t bucket = bucket_of(b, id);

	if (c == NULL)
		return NULL;
	c->trace_id = c->parent_id = c->op = c->display_name = nothing;
	c->run = c->reason = c->exception = nothing;
	c->step = -1;
	buf_init(&c->start, RECORD_BYTES_MAX);
	buf_init(&c->end, RECORD_BYTES_MAX);
	buf_init(&c->feedback, BOOK_BYTES_MAX);
	c->id = copy(id);
	if (c->id == NULL) {
		(void)mem_free(c);
		return NULL;
	}
	c->same_bucket = b->buckets[bucket];
	b->buckets[bucket] = c;
	c->older = b->newest;
	if (b->newest != NULL)
		b->newest->newer = c;
	else
		b->oldest = c;
	b->newest = c;
	if (++b->count > BOOK_CALLS_MAX)
		forget_oldest(b);
	return c;
}

static struct trace_call *find_or_make(struct book *b, struct span id)
{
	struct trace_call *c = find(b, id);

	return c != NULL ? c : make(b, id);
}

int book_init(struct book *b)
{
	*b = (struct book){.bucket_count = BUCKETS};
	b->buckets = mem_zalloc(BUCKETS * sizeof(struct trace_call *));
	return b->buckets == NULL ? -ENOMEM : 0;
}

void book_done(struct book *b)
{
	while (b->oldest != NULL)
		forget_oldest(b);
	b->buckets = mem_free(b->buckets);
}

/* --- what is said of them --- */

static int set_text(char **at, struct span text)
{
	char *new;

	if (text.len == 0)
		return 0;
	new = copy(text);
	if (new == NULL)
		return -ENOMEM;
	free_text(*at);
	*at = new;
	return 0;
}

static int take_texts(struct trace_call *c, struct mp from)
{
	struct {
		char **at;
		const char *key;
	} const texts[] = {
		{&c->trace_id, "trace_id"},         {&c->parent_id, "parent_id"}, {&c->op, "op"},
		{&c->display_name, "display_name"}, {&c->exception, "exception"}, {&c->run, "run"},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < array_len(texts); i++)
		r = set_text(texts[i].at, mp_get_str(from, texts[i].key));
	return r;
}

static void take_numbers(struct trace_call *c, struct mp from)
{
	uint64_t step = mp_get_uint(from, "step", UINT64_MAX);

	c->started_us = mp_get_uint(from, "started_at", c->started_us);
	c->ended_us = mp_get_uint(from, "ended_at", c->ended_us);
	c->tokens = mp_get_uint(from, "tokens", c->tokens);
	if (step <= INT64_MAX)
		c->step = (int64_t)step;
}

static int take_verdict(struct trace_call *c, struct mp from)
{
	struct mp_value v;

	if (mp_find(from, "score", &v) == 0 && mp_is_number(&v)) {
		c->score = mp_to_double(&v);
		c->has_score = true;
	}
	return set_text(&c->reason, mp_get_str(from, "reason"));
}

int book_add_brief(struct book *b, struct span brief)
{
	struct mp m = mp_of(brief);
	struct span phase = mp_get_str(m, "phase");
	bool is_feedback = span_is(phase, "feedback");
	struct span id = mp_get_str(m, is_feedback ? "call_id" : "id");
	struct trace_call *c;
	int r;

	if (id.at == NULL)
		return 0;
	c = find_or_make(b, id);
	if (c == NULL)
		return -ENOMEM;
	c->is_hit |= mp_get_bool(m, "hit", false);
	if (is_feedback) /* a call's own score stands before what others say */
		return c->has_score ? 0 : take_verdict(c, m);
	c->has_ended |= !span_is(phase, "start");
	take_numbers(c, m);
	r = take_texts(c, m);
	return r < 0 ? r : take_verdict(c, m);
}

static int keep(struct book *b, struct buf *to, struct span body)
{
	if (body.len > BOOK_BYTES_MAX - b->kept_bytes)
		return -E2BIG;
	b->kept_bytes += body.len;
	return buf_add(to, body.at, body.len);
}

int book_add_record(struct book *b, struct span record)
{
	struct frame_parts parts;
	struct trace_call *c;
	struct span phase;
	struct mp body;
	int r;

	if (frame_parts(record, &parts) < 0)
		return 0;
	body = mp_of(parts.body);
	if (span_is(parts.kind, "feedback") && mp_get_str(body, "call_id").at != NULL) {
		c = find_or_make(b, mp_get_str(body, "call_id"));
		return c == NULL ? -ENOMEM : keep(b, &c->feedback, parts.body);
	}
	if (!span_is(parts.kind, "call") || mp_get_str(body, "id").at == NULL)
		return 0;
	c = find_or_make(b, mp_get_str(body, "id"));
	if (c == NULL)
		return -ENOMEM;
	phase = mp_get_str(body, "phase");
	c->has_ended |= !span_is(phase, "start");
	take_numbers(c, body);
	r = take_texts(c, body);
	if (r == 0)
		r = keep(b, span_is(phase, "end") ? &c->end : &c->start, parts.body);
	return r;
}

/* --- trees --- */

/* The earliest first. */
static int by_start(const void *left, const void *right)
{
	const struct trace_call *a = *(struct trace_call *const *)left;
	const struct trace_call *b = *(struct trace_call *const *)right;

	if (a->started_us != b->started_us)
		return a->started_us < b->started_us ? -1 : 1;
	return strcmp(a->id, b->id);
}

/* A circle of parents, which only somebody who makes up ids can make, has no root: its call becomes one. */
static bool is_above(const struct trace_call *c, const struct trace_call *below)
{
	unsigned steps = 0;

	while (below != NULL && below != c && steps++ < BOOK_CALLS_MAX)
		below = below->parent;
	return below != NULL;
}

/* Backwards through those that are sorted, each becomes the first of its siblings. */
static void link_all(struct book *b, struct trace_call **sorted)
{
	for (size_t i = b->count; i > 0; i--) {
		struct trace_call *c = sorted[i - 1];
		struct trace_call *parent =
			c->parent_id[0] == '\0' ? NULL : find(b, span_of_text(c->parent_id));

		if (parent != NULL && is_above(c, parent))
			parent = NULL;
		c->parent = parent;
		c->next = parent != NULL ? parent->first_child : b->first_root;
		if (parent != NULL)
			parent->first_child = c;
		else
			b->first_root = c;
		b->root_count += parent == NULL;
	}
}

/* Each call adds to all above it. */
static void sum_tokens(const struct book *b)
{
	for (struct trace_call *c = b->oldest; c != NULL; c = c->newer) {
		unsigned steps = 0;

		for (struct trace_call *up = c; up != NULL && steps++ < 1000; up = up->parent)
			up->all_tokens += c->tokens;
	}
}

int book_link(struct book *b)
{
	struct trace_call **sorted = mem_alloc((b->count + 1) * sizeof(struct trace_call *));
	size_t i = 0;

	if (sorted == NULL)
		return -ENOMEM;
	for (struct trace_call *c = b->oldest; c != NULL; c = c->newer)
		sorted[i++] = c;
	qsort(sorted, i, sizeof(struct trace_call *), by_start);
	link_all(b, sorted);
	sum_tokens(b);
	(void)mem_free(sorted);
	return 0;
}

struct trace_call *trace_call_next(const struct trace_call *c, const struct trace_call *root)
{
	if (c->first_child != NULL)
		return c->first_child;
	while (c != root && c->next == NULL)
		c = c->parent;
	return c == root ? NULL : c->next;
}

unsigned trace_call_depth(const struct trace_call *c)
{
	unsigned depth = 0;

	for (; c->parent != NULL; c = c->parent)
		depth++;
	return depth;
}

uint64_t trace_call_took_us(const struct trace_call *c)
{
	return c->started_us != 0 && c->ended_us > c->started_us ? c->ended_us - c->started_us : 0;
}
