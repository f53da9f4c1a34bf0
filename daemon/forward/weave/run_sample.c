/* See run_parts.h: which traces are left out. */
#include "daemon/base/log.h"
#include "daemon/forward/weave/run_parts.h"
#include "daemon/forward/weave/sample.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

static const int64_t DAY_US = 86400000000;

int64_t weave_day_of(int64_t time_us)
{
	return time_us / DAY_US;
}

/* The call whose parent is not here; of several the first. */
static const struct call_row *root_of(const struct forest *f)
{
	for (size_t i = 0; i < f->count; i++) {
		if (f->nodes[i].parent == SIZE_MAX)
			return &f->nodes[i].row;
	}
	return &f->nodes[0].row;
}

static bool has_error(const struct forest *f)
{
	bool has_one = false;

	for (size_t i = 0; i < f->count; i++)
		has_one |= f->nodes[i].row.is_error;
	return has_one;
}

/* Is a score among the outputs of its calls beyond the usual? 0, 1, -errno. */
static int has_extreme(struct weave_run *r, const struct forest *f, const struct sample_rule *rule)
{
	struct buf room;
	int found = 0;

	if (!rule->has_low && !rule->has_high)
		return 0;
	buf_init(&room, RECORD_MAX);
	for (size_t i = 0; i < f->count && found == 0; i++) {
		const struct call_row *row = &f->nodes[i].row;
		struct record record;
		struct span output;
		int e = row->loss != LOSS_NONE ? -ENOENT
					       : weave_read_body(r, row->end_lsn, &room, &record);

		if (e == 0 && mp_find_span(mp_of(record.body), "output", &output) == 0)
			found = sample_is_extreme(rule, mp_of(output));
		else if (e < 0 && e != -ENOENT)
			found = e;
	}
	buf_done(&room);
	return found;
}

/* How many of this op went out in this step, with those of the plan under way. 0, -errno. */
static int kept_of(struct weave_run *r, const char *op, int64_t step, int64_t *ret)
{
	int e = reader_trace_kept(r->host->reader, r->id, op, step, ret);

	for (size_t i = 0; i < r->kept_count; i++) {
		if (r->kept[i].step == step && strcmp(r->kept[i].op, op) == 0)
			*ret += 1;
	}
	return e;
}

static void note_kept(struct weave_run *r, const char *op, int64_t step)
{
	const struct change c = {
		.kind = CHANGE_TRACE_KEPT, .run = r->id, .text = span_of_text(op), .step = step};

	changes_add(r->changes, &c);
	if (mem_room(r->kept, r->kept_count, r->kept_cap) < 0)
		return; /* one more than is allowed may go out */
	r->kept[r->kept_count] = (struct weave_kept){.step = step};
	memcpy(r->kept[r->kept_count++].op, op, strlen(op) + 1);
}

static void hold(struct weave_run *r, const struct trace_row *row)
{
	const struct change c = {
		.kind = CHANGE_TRACE_HOLD, .run = r->id, .text = span_of_text(row->id)};

	changes_add(r->changes, &c);
	r->held++;
}

int weave_sample(struct weave_run *r, const struct trace_row *row, const struct forest *f,
		 int64_t now_us)
{
	struct sample_facts facts = {.trace = row->id, .has_error = has_error(f)};
	const struct sample_rule *rule;
	const struct call_row *root;
	struct record record;
	struct weave_op op;
	struct buf room;
	int64_t step;
	int e = 0;

	if (row->held == TRACE_LEFT_OUT) { /* the others of it are */
		hold(r, row);
		return 0;
	}
	if (r->host->rules->count == 0 || row->held == TRACE_WANTED || f->count == 0)
		return 1;
	root = root_of(f);
	buf_init(&room, RECORD_MAX);
	e = weave_read_body(r, root->start_lsn, &room, &record);
	if (e == 0)
		e = weave_op_of(record.body, &op);
	buf_done(&room);
	if (e < 0)
		return e == -ENOENT ? 1 : e;
	rule = sample_rules_find(r->host->rules, r->info.name, op.name);
	if (rule == NULL)
		return 1;
	step = root->step >= 0 ? root->step : weave_step_at(r, root->started_us);
	for (size_t i = 0; i < f->count; i++)
		facts.bytes += f->nodes[i].row.share.bytes + f->nodes[i].row.share.blob_bytes;
	e = has_extreme(r, f, rule);
	facts.is_extreme = e == 1;
	if (e >= 0)
		e = kept_of(r, op.name, step, &facts.kept);
	if (e >= 0)
		e = reader_trace_bytes(r->host->reader, r->id, -1, weave_day_of(now_us),
				       weave_day_of(now_us), &facts.day_bytes);
	if (e < 0)
		return e;
	facts.day_bytes += (int64_t)r->planned_bytes;
	if (!sample_sends(rule, &facts)) {
		hold(r, row);
		return 0;
	}
	if (rule->per_step > 0)
		note_kept(r, op.name, step);
	return 1;
}
