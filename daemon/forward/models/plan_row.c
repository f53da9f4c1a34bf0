/* See plan_row.h, and plan_rows() in plan.h. */
#include "daemon/forward/models/plan_row.h"

#include "daemon/base/log.h"
#include "proto/base/mem.h"
#include "proto/record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* --- reading its records --- */

typedef int (*on_part)(struct making *m, const struct part *part, const struct record *record);

struct part_visit {
	struct making *m;
	const struct part *part;
	on_part visit;
};

static int visit_payload(void *arg, const struct stored_record *stored)
{
	const struct part_visit *v = arg;
	struct record record;
	struct record_fault fault;

	if (record_parse_stored(stored->payload, &record, &fault) < 0)
		return 0; /* it was checked when it came */
	return v->visit(v->m, v->part, &record);
}

/* Calls visit for every record of the row; the one that is being taken in is at hand. */
static int each_part(struct making *m, on_part visit)
{
	const struct plan *p = m->plan;

	for (size_t i = 0; i < m->row->parts->count; i++) {
		const struct part *part = &m->row->parts->items[i];
		struct part_visit v = {.m = m, .part = part, .visit = visit};
		struct stored_record at_hand = {.lsn = p->at_lsn, .payload = p->at_payload};
		int r = part->lsn == p->at_lsn && p->at_payload.at != NULL
				? visit_payload(&v, &at_hand)
				: reader_record(m->reader, part->lsn, visit_payload, &v);

		if (r == -ENOENT && p->on_row != NULL)
			return -ESTALE;
		if (r == -ENOENT) {
			log_error("models",
				  "run=%lld lsn=%lld a record of a row is not in the store",
				  (long long)p->run, (long long)part->lsn);
			continue;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int blob_bytes(const struct making *m, const struct record *record, int64_t *ret)
{
	struct span digest;

	for (uint32_t i = 0; record_blob(record, i, &digest); i++) {
		int64_t size = 0;
		int r = reader_blob_size(m->reader, digest, &size);

		if (r < 0 && r != -ENOENT)
			return r;
		*ret += size;
	}
	return 0;
}

static int merge_part(struct making *m, const struct part *part, const struct record *record)
{
	struct span data;
	struct mp_value time;
	int r;

	if (mp_find_span(mp_of(record->body), "data", &data) < 0)
		return 0;
	if ((int64_t)record->time_us > m->newest_us)
		m->newest_us = (int64_t)record->time_us;
	if (part->lsn < m->lsn)
		m->lsn = part->lsn;
	m->bytes += part->bytes;
	m->blobs += (int64_t)record_blob_count(record);
	r = blob_bytes(m, record, &m->blob_bytes);
	if (r < 0)
		return r;
	m->has_time = mp_find(mp_of(data), "_timestamp", &time) == 0 && mp_is_number(&time);
	return tree_merge(&m->plan->row, NULL, mp_of(data), NULL, NULL);
}

/* --- the line --- */

static int put(struct tree *row, const char *key, struct buf *value)
{
	struct node *leaf;
	int r = value->error;

	if (r == 0)
		r = tree_leaf(row, NULL, span_of_text(key), &leaf);
	if (r == 0)
		r = tree_set(leaf, buf_span(value));
	buf_done(value);
	return r;
}

static int put_double(struct tree *row, const char *key, double number)
{
	struct buf value;
	struct pack p;

	buf_init(&value, 16);
	pack_init(&p, &value);
	pack_double(&p, number);
	return put(row, key, &value);
}

static int put_int(struct tree *row, const char *key, int64_t number)
{
	struct buf value;
	struct pack p;

	buf_init(&value, 16);
	pack_init(&p, &value);
	pack_int(&p, number);
	return put(row, key, &value);
}

/* W&B's own keys; a trainer may say _timestamp, as with W&B's client. _step goes last: plan_restep() finds it there. */
static int add_own_keys(struct making *m)
{
	struct plan *p = m->plan;
	struct node *step = tree_child(&p->row, NULL, SPAN_LITERAL("_step"));
	int64_t runtime_us = m->newest_us > p->start_us ? m->newest_us - p->start_us : 0;
	int r = 0;

	if (step != NULL)
		tree_remove(&p->row, step);
	if (!m->has_time)
		r = put_double(&p->row, "_timestamp", (double)m->newest_us / 1e6);
	if (r == 0)
		r = put_double(&p->row, "_runtime", (double)runtime_us / 1e6);
	if (r == 0)
		r = metrics_sync_row(&p->metrics, &p->row);
	return r == 0 ? put_int(&p->row, "_step", m->row->step) : r;
}

static int update_summary(struct plan *p)
{
	const struct span wandb_runtime[2] = {SPAN_LITERAL("_wandb"), SPAN_LITERAL("runtime")};
	const struct span runtime[1] = {SPAN_LITERAL("_runtime")};
	int64_t seconds = p->newest_us > p->start_us ? (p->newest_us - p->start_us) / 1000000 : 0;
	int r;

	if (plan_derives_summary(p))
		return 0;
	r = summary_row(&p->summary, &p->metrics, &p->row);
	if (r == 0)
		r = summary_set_int(&p->summary, wandb_runtime, 2, seconds);
	if (r == 0)
		r = summary_set_int(&p->summary, runtime, 1, seconds);
	p->summary_dirty = true;
	if (r != -E2BIG)
		return r;
	log_warn("models", "run=%lld more metrics than a summary takes; the rest has rows only",
		 (long long)p->run);
	return 0;
}

void row_add_dead(const struct making *m, const char *sink, const char *what, const char *reason,
		  struct span body)
{
	const struct change c = {
		.kind = CHANGE_DEAD_ADD,
		.run = m->plan->run,
		.text = span_of_text(sink),
		.time_us = m->newest_us,
		.dead =
			{
				.what = what,
				.step = m->row->step,
				.reason = span_of_text(reason),
				.request = SPAN_LITERAL(""),
				.answer = SPAN_LITERAL(""),
				.body = body,
			},
	};

	changes_add(m->changes, &c);
}

static void add_line(struct making *m)
{
	struct plan *p = m->plan;
	const struct change c = {
		.kind = CHANGE_LINE_ADD,
		.run = p->run,
		.offset = p->next_offset,
		.step = m->row->step,
		.lsn = m->lsn,
		.time_us = m->newest_us,
		.records = (int64_t)m->row->parts->count,
		.bytes = m->bytes,
		.text = buf_span(&p->text),
	};

	changes_add(m->changes, &c);
	p->next_offset++;
	p->lines++;
	p->line_bytes += p->text.len;
}

/* Its blobs are: what of them is to be sent waits as uploads. */
static void confirm(const struct making *m, int64_t records, int64_t bytes)
{
	const struct change c = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(m->plan->run, CLASS_METRICS),
		.records = records,
		.bytes = bytes,
		.blobs = m->blobs,
		.blob_bytes = m->blob_bytes,
	};

	changes_add(m->changes, &c);
}

/* A row that W&B would not take whatever happens. */
static int add_monster(struct making *m, const char *reason)
{
	m->plan->lines++;
	if (m->plan->on_row != NULL)
		return m->plan->on_row(m->plan->on_row_arg, m->plan, m->row, ROW_NONE);
	row_add_dead(m, "models", "row", reason,
		     (struct span){.at = (const uint8_t *)"", .len = 0});
	confirm(m, (int64_t)m->row->parts->count, m->bytes);
	return 0;
}

/* 0; WANTS_TABLE; -errno. */
static int add_ready(struct making *m)
{
	struct plan *p = m->plan;
	struct json j;
	int r;

	tree_clear(&p->row);
	buf_clear(&p->text);
	r = each_part(m, merge_part);
	if (r == 0 && m->blobs > 0 && p->on_row == NULL)
		r = row_replace_tables(m);
	if (r == 0 && m->blobs > 0 && p->on_row == NULL)
		r = row_replace_files(m);
	if (r == 0)
		r = add_own_keys(m);
	if (r == -E2BIG)
		return add_monster(m, "the row has more keys than wbx takes");
	if (r == -EBADMSG)
		return add_monster(m, "what a record of the row holds cannot be read");
	if (r != 0)
		return r;
	json_init(&j, &p->text);
	tree_to_json(&p->row, &j, VALUE_HISTORY, NULL);
	if (p->text.error == -EMSGSIZE)
		return add_monster(m, "the row is longer than the 10 MB that W&B takes");
	if (p->text.error < 0)
		return p->text.error;
	if (p->on_row != NULL) {
		p->lines++;
		p->line_bytes += p->text.len;
		return p->on_row(p->on_row_arg, p, m->row, ROW_READY);
	}
	add_line(m);
	if (m->blobs > 0)
		confirm(m, 0, 0);
	return update_summary(p);
}

/* --- late ones --- */

static int keep_late(struct making *m, const struct part *part, const struct record *record)
{
	struct change late = {
		.kind = CHANGE_LATE_ADD,
		.run = m->plan->run,
		.lsn = part->lsn,
		.step = m->row->step,
		.time_us = (int64_t)record->time_us,
		.text = record->payload,
	};
	struct change done = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(m->plan->run, CLASS_METRICS),
		.records = 1,
		.bytes = part->bytes,
		.blobs = (int64_t)record_blob_count(record),
	};
	int r = blob_bytes(m, record, &done.blob_bytes);

	changes_add(m->changes, &late);
	changes_add(m->changes, &done);
	return r;
}

static int add_late(struct making *m)
{
	m->plan->lines++;
	if (m->plan->on_row != NULL)
		return m->plan->on_row(m->plan->on_row_arg, m->plan, m->row, ROW_LATE);
	log_warn("models", "run=%lld step=%lld a row came after its step had gone; it stays here",
		 (long long)m->plan->run, (long long)m->row->step);
	return each_part(m, keep_late);
}

int plan_rows(struct plan *p, struct reader *reader, struct changes *changes, int64_t now_us,
	      /* NOLINTNEXTLINE(readability-non-const-parameter): written through m */
	      enum plan_outcome *ret, uint8_t ret_blob[DIGEST_BYTES])
{
	plan_note_move(p, changes);
	if (now_us > p->asked_us)
		p->asked_us = now_us;
	for (;;) {
		struct row row;
		struct making m = {.plan = p,
				   .reader = reader,
				   .changes = changes,
				   .row = &row,
				   .lsn = INT64_MAX,
				   .ret_blob = ret_blob};
		enum row_fate fate = rows_peek(&p->rows, now_us, &row);
		int64_t moved;
		int r = 0;

		*ret = fate == ROW_NONE ? PLAN_IDLE : PLAN_FULL;
		if (fate == ROW_NONE || plan_is_full(p))
			return 0;
		if (!p->may_write) {
			*ret = PLAN_IDLE;
			return 0;
		}
		r = fate == ROW_LATE ? add_late(&m) : add_ready(&m);
		if (r == WANTS_TABLE) {
			*ret = PLAN_TABLE;
			return 0;
		}
		if (r == 0)
			r = changes->error;
		if (r < 0)
			return r;
		moved = p->rows.next_step - p->planned_step;
		rows_pop(&p->rows, &row, fate);
		p->planned_step = p->rows.next_step - moved;
		p->touched = true;
	}
}

/* --- dead letters --- */

int plan_restep(struct span line, int64_t step, struct buf *ret)
{
	static const char key[] = "\"_step\":";
	size_t len = sizeof(key) - 1;
	size_t at = line.len;

	while (at > 0 && (at + len > line.len || memcmp(line.at + at, key, len) != 0))
		at--;
	if (at == 0 || line.len == 0 || line.at[line.len - 1] != '}')
		return -EBADMSG;
	(void)buf_add(ret, line.at, at + len);
	return buf_printf(ret, "%lld}", (long long)step);
}
