/* See call_brief.h. Scores and reasons are what judges call so: a number, or a map that has one under a
 * name that people use for it. */
#include "daemon/ingest/call_brief.h"

#include "proto/base/mem.h"

enum {
	TEXT_MAX = 400,
	EXCEPTION_MAX = 20000
};

static const char *const score_keys[] = {"score", "reward", "rating", "grade", "value", "output"};
static const char *const reason_keys[] = {"reason",  "reasoning", "explanation", "rationale",
					  "reasons", "comment",   "feedback",    "content",
					  "note",    "emoji"};

/* Counts what it packs. */
struct brief {
	struct pack *p;
	size_t pairs;
};

static struct span cut(struct span text, size_t max)
{
	if (text.len <= max)
		return text;
	while (max > 0 && (text.at[max] & 0xc0) == 0x80)
		max--;
	return (struct span){.at = text.at, .len = max};
}

static void add_text(struct brief *b, const char *key, struct span text, size_t max)
{
	if (text.at == NULL)
		return;
	pack_pair_str(b->p, key, cut(text, max));
	b->pairs++;
}

static void add_uint(struct brief *b, const char *key, uint64_t n)
{
	pack_pair_uint(b->p, key, n);
	b->pairs++;
}

/* --- score and reason --- */

static bool number_of(struct span value, double *ret)
{
	struct mp m = mp_of(value);
	struct mp_value v;

	if (value.at == NULL || mp_read(&m, &v) < 0)
		return false;
	if (v.type == MP_BOOL) {
		*ret = v.boolean ? 1 : 0;
		return true;
	}
	if (!mp_is_number(&v))
		return false;
	*ret = mp_to_double(&v);
	return true;
}

static struct span text_of(struct span value)
{
	struct mp m = mp_of(value);
	struct mp_value v;

	if (value.at == NULL || mp_read(&m, &v) < 0 || v.type != MP_STR)
		return (struct span){0};
	return v.bytes;
}

/* Under the first of the keys that has one; `value` itself when it is one. A score may be a map with a
 * score: two levels are looked at. */
static bool find_score(struct span value, double *ret)
{
	for (unsigned level = 0; level < 3; level++) {
		struct span inner = {0};

		if (number_of(value, ret))
			return true;
		for (size_t i = 0; i < array_len(score_keys); i++) {
			struct span found;

			if (mp_find_span(mp_of(value), score_keys[i], &found) < 0)
				continue;
			if (number_of(found, ret))
				return true;
			if (inner.at == NULL)
				inner = found;
		}
		if (inner.at == NULL)
			return false;
		value = inner;
	}
	return false;
}

/* What a chat model said: choices[0].message.content, or .text. */
static struct span find_answer(struct span value)
{
	struct span choices;
	struct span found;
	struct mp m;
	struct mp_value v;

	if (mp_find_span(mp_of(value), "choices", &choices) < 0)
		return (struct span){0};
	m = mp_of(choices);
	if (mp_read(&m, &v) < 0 || v.type != MP_ARRAY || v.count == 0 || mp_take(&m, &choices) < 0)
		return (struct span){0};
	if (mp_find_span(mp_of(choices), "message", &found) == 0)
		return mp_get_str(mp_of(found), "content");
	return mp_get_str(mp_of(choices), "text");
}

static struct span find_reason(struct span value)
{
	struct span found = text_of(value);
	struct span inner;

	if (found.at != NULL)
		return found;
	for (size_t i = 0; found.at == NULL && i < array_len(reason_keys); i++)
		found = mp_get_str(mp_of(value), reason_keys[i]);
	if (found.at == NULL && mp_find_span(mp_of(value), "output", &inner) == 0)
		found = mp_get_str(mp_of(inner), "reason");
	if (found.at == NULL)
		found = mp_get_str(mp_of(value), "head"); /* of a long text that stands apart */
	return found.at != NULL ? found : find_answer(value);
}

static void add_verdict(struct brief *b, struct span value)
{
	double score;

	if (find_score(value, &score)) {
		pack_pair_double(b->p, "score", score);
		b->pairs++;
	}
	add_text(b, "reason", find_reason(value), TEXT_MAX);
}

/* --- tokens --- */

static uint64_t tokens_of(struct span usage)
{
	struct mp m = mp_of(usage);
	uint64_t total = mp_get_uint(m, "total_tokens", 0);

	if (total > 0)
		return total;
	return mp_get_uint(m, "prompt_tokens", 0) + mp_get_uint(m, "completion_tokens", 0) +
	       mp_get_uint(m, "input_tokens", 0) + mp_get_uint(m, "output_tokens", 0);
}

/* Of all models. */
static uint64_t sum_tokens(struct span usage)
{
	struct mp m = mp_of(usage);
	struct mp_value v;
	uint64_t sum = 0;

	if (mp_read(&m, &v) < 0 || v.type != MP_MAP)
		return 0;
	for (uint32_t i = 0; i < v.count; i++) {
		struct span key;
		struct span value;

		if (mp_take(&m, &key) < 0 || mp_take(&m, &value) < 0)
			break;
		sum += tokens_of(value);
	}
	return sum;
}

/* --- records --- */

static void add_times(struct brief *b, struct mp body)
{
	static const char *const keys[] = {"started_at", "ended_at", "step"};

	for (size_t i = 0; i < array_len(keys); i++) {
		uint64_t n = mp_get_uint(body, keys[i], UINT64_MAX);

		if (n != UINT64_MAX)
			add_uint(b, keys[i], n);
	}
}

static void add_call(struct brief *b, struct mp body)
{
	static const char *const keys[] = {"phase", "id",           "trace_id",  "parent_id",
					   "op",    "display_name", "thread_id", "run"};
	struct span found;

	for (size_t i = 0; i < array_len(keys); i++)
		add_text(b, keys[i], mp_get_str(body, keys[i]), TEXT_MAX);
	add_times(b, body);
	add_text(b, "exception", mp_get_str(body, "exception"), EXCEPTION_MAX);
	if (mp_find_span(body, "output", &found) == 0)
		add_verdict(b, found);
	if (mp_find_span(body, "summary", &found) == 0 &&
	    mp_find_span(mp_of(found), "usage", &found) == 0)
		add_uint(b, "tokens", sum_tokens(found));
}

static void add_feedback(struct brief *b, struct mp body)
{
	static const char *const keys[] = {"id", "call_id", "type"};
	struct span payload;

	add_text(b, "phase", SPAN_LITERAL("feedback"), TEXT_MAX);
	for (size_t i = 0; i < array_len(keys); i++)
		add_text(b, keys[i], mp_get_str(body, keys[i]), TEXT_MAX);
	if (mp_find_span(body, "payload", &payload) == 0)
		add_verdict(b, payload);
}

bool call_brief_pack(struct pack *p, const struct record *record, size_t *ret_pairs)
{
	struct brief b = {.p = p};

	if (record->kind == KIND_CALL)
		add_call(&b, mp_of(record->body));
	else if (record->kind == KIND_FEEDBACK)
		add_feedback(&b, mp_of(record->body));
	else
		return false;
	*ret_pairs = b.pairs;
	return true;
}
