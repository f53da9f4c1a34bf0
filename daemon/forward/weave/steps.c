/* See steps.h. */
#include "daemon/forward/weave/steps.h"

#include "proto/pack.h"

#include <errno.h>

static const char usual_metric[] = "train/global_step";

static void take_define(struct steps *s, const struct record *record)
{
	struct span name = mp_get_str(mp_of(record->body), "name");
	struct span metric = mp_get_str(mp_of(record->body), "step_metric");
	bool is_usual = span_is(metric, usual_metric) || span_is(name, usual_metric);

	if (is_usual)
		metric = span_of_text(usual_metric);
	if (metric.len == 0 || metric.len > KEY_MAX || metric.at[0] == '_' ||
	    (s->metric[0] != '\0' && !is_usual))
		return;
	memcpy(s->metric, metric.at, metric.len);
	s->metric[metric.len] = '\0';
}

static bool mark(struct steps *s, struct step_mark *ret, enum step_mode mode, int64_t time_us,
		 int64_t step)
{
	if (step < 0 || (s->has_last[mode] && s->last[mode] == step))
		return false;
	s->last[mode] = step;
	s->has_last[mode] = true;
	*ret = (struct step_mark){.mode = mode, .time_us = time_us, .step = step};
	return true;
}

/* A whole number, also one that is written as a real. */
static bool whole(const struct mp_value *v, int64_t *ret)
{
	double real;

	if (mp_to_int64(v, ret))
		return true;
	if (!mp_is_number(v))
		return false;
	real = mp_to_double(v);
	if (!(real >= 0 && real < 9e15))
		return false;
	*ret = (int64_t)real;
	return true;
}

static unsigned take_log(struct steps *s, const struct record *record, struct step_mark ret[2])
{
	struct mp body = mp_of(record->body);
	int64_t time_us = (int64_t)record->time_us;
	int64_t step = mp_get_int(body, "step", -1);
	unsigned count = 0;
	struct mp_value v;
	struct span data;
	int64_t value;

	if (mp_find_span(body, "data", &data) < 0)
		return 0;
	if (s->metric[0] == '\0' && mp_find(mp_of(data), usual_metric, &v) == 0)
		memcpy(s->metric, usual_metric, sizeof(usual_metric));
	if (s->metric[0] != '\0' && mp_find(mp_of(data), s->metric, &v) == 0 && whole(&v, &value))
		count += mark(s, &ret[count], STEP_METRIC, time_us, value);
	s->has_explicit |= step >= 0;
	if (step >= 0)
		count += mark(s, &ret[count], STEP_EXPLICIT, time_us, step);
	else if (s->metric[0] == '\0' && !s->has_explicit && mp_get_bool(body, "commit", true))
		count += mark(s, &ret[count], STEP_COUNTED, time_us, s->counted++);
	return count;
}

unsigned steps_take(struct steps *s, const struct record *record, struct step_mark ret[2])
{
	if (record->kind == KIND_DEFINE)
		take_define(s, record);
	return record->kind == KIND_LOG ? take_log(s, record, ret) : 0;
}

int64_t steps_of(const struct steps *s, const int64_t before[STEP_MODES])
{
	if (s->metric[0] != '\0') {
		if (before[STEP_METRIC] >= 0)
			return before[STEP_METRIC] + 1;
		return before[STEP_EXPLICIT] >= 0 ? before[STEP_EXPLICIT] + 1 : 1;
	}
	if (s->has_explicit)
		return before[STEP_EXPLICIT] >= 0 ? before[STEP_EXPLICIT] + 1 : -1;
	return before[STEP_COUNTED] >= 0 ? before[STEP_COUNTED] + 1 : -1;
}

void steps_save(const struct steps *s, struct buf *out)
{
	static const char *const names[STEP_MODES] = {"counted_last", "explicit_last",
						      "metric_last"};
	struct pack p;
	size_t pairs = 3;

	for (unsigned i = 0; i < STEP_MODES; i++)
		pairs += s->has_last[i];
	pack_init(&p, out);
	pack_map(&p, pairs);
	pack_pair_text(&p, "metric", s->metric);
	pack_pair_uint(&p, "explicit", s->has_explicit);
	pack_pair_uint(&p, "counted", (uint64_t)s->counted);
	for (unsigned i = 0; i < STEP_MODES; i++) {
		if (s->has_last[i])
			pack_pair_uint(&p, names[i], (uint64_t)s->last[i]);
	}
}

int steps_load(struct steps *s, struct span bytes)
{
	static const char *const names[STEP_MODES] = {"counted_last", "explicit_last",
						      "metric_last"};
	struct mp m = mp_of(bytes);
	struct span metric = mp_get_str(m, "metric");

	*s = (struct steps){.counted = mp_get_int(m, "counted", 0)};
	if (bytes.len == 0)
		return 0;
	if (metric.len > KEY_MAX)
		return -EBADMSG;
	if (metric.len > 0)
		memcpy(s->metric, metric.at, metric.len);
	s->has_explicit = mp_get_uint(m, "explicit", 0) != 0;
	for (unsigned i = 0; i < STEP_MODES; i++) {
		s->last[i] = mp_get_int(m, names[i], -1);
		s->has_last[i] = s->last[i] >= 0;
	}
	return 0;
}
