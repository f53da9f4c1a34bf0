/* See sample.h. */
#include "daemon/forward/weave/sample.h"

static uint64_t hash(const char *text)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *text != '\0'; text++)
		h = (h ^ (unsigned char)*text) * 0x100000001b3;
	return h ^ h >> 32;
}

bool sample_sends(const struct sample_rule *rule, const struct sample_facts *f)
{
	if (rule->per_day > 0 && f->day_bytes + f->bytes > rule->per_day)
		return false;
	if (f->has_error || f->is_extreme)
		return true;
	if (rule->per_step > 0 && f->kept >= rule->per_step)
		return false;
	return rule->roots <= 1 || hash(f->trace) % (uint64_t)rule->roots == 0;
}

static bool is_beyond(const struct sample_rule *rule, const struct mp_value *v)
{
	double x;

	if (!mp_is_number(v))
		return false;
	x = mp_to_double(v);
	return (rule->has_low && x <= rule->low) || (rule->has_high && x >= rule->high);
}

bool sample_is_extreme(const struct sample_rule *rule, struct mp value)
{
	static const char *const names[] = {"score", "reward"};
	struct mp m = value;
	struct mp_value v;

	if (mp_read(&m, &v) < 0)
		return false;
	if (v.type == MP_MAP) {
		struct mp_value field;

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if (mp_find(value, names[i], &field) == 0 && is_beyond(rule, &field))
				return true;
		}
		return false;
	}
	if (v.type != MP_ARRAY)
		return is_beyond(rule, &v);
	for (uint32_t i = 0; i < v.count; i++) {
		struct mp peek = m;
		struct mp_value item;

		if (mp_read(&peek, &item) < 0)
			return false;
		if (is_beyond(rule, &item))
			return true;
		if (mp_skip(&m, NULL) < 0)
			return false;
	}
	return false;
}
