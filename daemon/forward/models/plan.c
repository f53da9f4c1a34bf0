/* See plan.h: records in, state in and out. Rows are made in plan_row.c. */
#include "daemon/forward/models/plan.h"

#include "daemon/forward/models/wire.h"
#include "proto/base/mem.h"
#include "proto/record.h"

#include <errno.h>

enum {
	/* of the stored state; raise it when an older wbx would misread it: a shared run it would go on
	   with as an ordinary one */
	PLAN_VERSION = 3,
	PLAN_VERSION_ORDINARY = 2,
	STATE_BYTES_MAX = 64 << 20,
	ROW_NODES_MAX = 1 << 17,
	/* a waypoint each time that so many bytes of records came, and so many times its own: they take
	   a hundredth of what the records do */
	WAYPOINT_BYTES = 1 << 20,
	WAYPOINT_TIMES = 100,
};

int plan_init(struct plan *p, int64_t run, int64_t merge_max_us)
{
	int r;

	*p = (struct plan){.run = run};
	buf_init(&p->text, LINE_BYTES_MAX);
	rows_init(&p->rows, merge_max_us);
	r = about_init(&p->about);
	p->about.shared = &p->shared;
	if (r == 0)
		r = summary_init(&p->summary);
	return r == 0 ? tree_init(&p->row, ROW_NODES_MAX) : r;
}

void plan_done(struct plan *p)
{
	about_done(&p->about);
	metrics_done(&p->metrics);
	summary_done(&p->summary);
	rows_done(&p->rows);
	tree_done(&p->row);
	buf_done(&p->text);
	p->tables = mem_free(p->tables);
	p->table_count = 0;
}

void plan_begin(struct plan *p)
{
	p->lines = 0;
	p->line_bytes = 0;
	p->touched = false;
}

bool plan_is_full(const struct plan *p)
{
	return p->lines >= PLAN_LINES_MAX || p->line_bytes >= PLAN_BYTES_MAX;
}

bool plan_is_over(const struct plan *p)
{
	return rows_are_deserted(&p->rows) && rows_are_empty(&p->rows);
}

int plan_add_table(struct plan *p, const struct plan_table *table)
{
	size_t max = p->tables_wanted > PLAN_TABLES ? p->tables_wanted : PLAN_TABLES;
	struct plan_table *grown;

	if (p->table_count >= max) {
		p->tables[p->table_next++ % p->table_count] = *table;
		return 0;
	}
	grown = mem_realloc(p->tables, (p->table_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	p->tables = grown;
	grown[p->table_count++] = *table;
	return 0;
}

/* --- records --- */

static bool is_row(const struct stored_record *record)
{
	struct mp at = mp_of(record->payload);
	struct mp_value head;
	struct mp_value kind;

	return mp_read(&at, &head) == 0 && mp_read(&at, &kind) == 0 && kind.type == MP_STR &&
	       kind_by_name(kind.bytes) == KIND_LOG;
}

/* Whoever opens the run after a death takes the dead one's place: elastic trainers start all anew
 * when one dies, and the daemon hears of the old ones' deaths long after the new ones came. */
static void note_exit(struct plan *p, int64_t code, int64_t when_us)
{
	if (when_us < p->opened_us)
		return;
	if (!p->has_exit_code || p->exit_code == 0) {
		p->exit_code = code;
		p->exit_us = when_us;
	}
	p->has_exit_code = true;
}

static void note_opening(struct plan *p, int64_t when_us)
{
	if (when_us > p->opened_us)
		p->opened_us = when_us;
	if (p->has_exit_code && p->exit_us < p->opened_us) {
		p->has_exit_code = false;
		p->exit_code = 0;
	}
}

static int join(struct plan *p, const struct stored_record *stored, const struct record *r,
		bool is_guest)
{
	int result = rows_join(&p->rows, stored->producer, is_guest);

	if (result == 0 && mp_get_bool(mp_of(r->body), "merge_rows", false))
		rows_merge(&p->rows, stored->producer);
	return result;
}

static enum plan_resume resume_of(struct mp body)
{
	struct span resume = mp_get_str(body, "resume");

	return span_is(resume, "must")    ? RESUME_MUST
	       : span_is(resume, "never") ? RESUME_NEVER
					  : RESUME_ANY;
}

static int take_run(struct plan *p, const struct stored_record *stored, const struct record *r)
{
	struct mp body = mp_of(r->body);
	enum plan_resume resume = resume_of(body);
	bool is_first = !p->has_run && !p->is_made && p->rows.next_step == 0;

	if (p->has_run && resume == RESUME_NEVER && !rows_has(&p->rows, stored->producer))
		return join(p, stored, r, true); /* it was told; what it logs all the same is only
						    added */
	if (!p->has_run || resume == RESUME_ANY)
		p->resume = resume;        /* who does not mind makes it, or goes on with it */
	if (rows_are_deserted(&p->rows)) { /* it is opened again: the last word is not spoken */
		p->is_resumed |= p->has_run;
		p->has_exit_code = p->preempting = false;
		p->exit_code = 0;
	}
	if (!rows_has(&p->rows, stored->producer))
		note_opening(p, (int64_t)r->time_us);
	shared_run(&p->shared, body, is_first);
	p->has_run = true;
	if (p->start_us == 0)
		p->start_us = (int64_t)mp_get_uint(body, "start", r->time_us);
	if (join(p, stored, r, false) == -ENOMEM)
		return -ENOMEM;
	return about_run(&p->about, body);
}

static int take_define(struct plan *p, const struct record *r)
{
	const struct metric *metric;
	struct mp body = mp_of(r->body);
	int result = metrics_define(&p->metrics, body, &metric);

	p->about.dirty |= ABOUT_CONFIG;
	p->summary_dirty |= !plan_derives_summary(p);
	return result == 0
		       ? summary_define(&p->summary, metric, mp_get_bool(body, "overwrite", false))
		       : result;
}

static int take_log(struct plan *p, const struct stored_record *stored, const struct record *r)
{
	struct row_call call = {
		.producer = stored->producer,
		.time_us = stored->time_us,
		.call_us = (int64_t)r->time_us,
		.part = {.lsn = stored->lsn, .bytes = (int64_t)stored->payload.len},
	};
	struct mp_value v;
	struct span data;
	int result = 0;

	/* A shared writer's steps count its rows, and nothing else (as W&B's client has it). */
	call.has_step =
		!p->shared.is_on && record_field(r, "step", &v) == 0 && mp_to_int64(&v, &call.step);
	if (record_field(r, "commit", &v) == 0 && v.type == MP_BOOL) {
		call.has_commit = true;
		call.commit = v.boolean;
	}
	if (!call.has_step && rows_merges(&p->rows, stored->producer) &&
	    mp_find_span(mp_of(r->body), "data", &data) == 0)
		result = row_keys_of(mp_of(data), &p->metrics, &call.keys);
	if (result == 0)
		result = rows_log(&p->rows, &call);
	row_keys_done(&call.keys);
	return result;
}

static int take_end(struct plan *p, const struct stored_record *stored, const struct record *r,
		    int64_t fallback)
{
	bool is_guest = rows_is_guest(&p->rows, stored->producer);
	int64_t when_us = r->kind == KIND_GONE ? rows_spoke_us(&p->rows, stored->producer)
					       : (int64_t)r->time_us;

	if (r->kind == KIND_GONE && !rows_has(&p->rows, stored->producer))
		return 0; /* it left before: it finished, or this is said twice */
	if (!is_guest)
		note_exit(p, mp_get_int(mp_of(r->body), "exit_code", fallback), when_us);
	p->summary_dirty |= !is_guest && !plan_derives_summary(p); /* the runtime in it */
	return rows_leave(&p->rows, stored->producer, stored->time_us);
}

static int take_kind(struct plan *p, const struct stored_record *stored, const struct record *r)
{
	struct mp body = mp_of(r->body);

	switch ((int)r->kind) {
	case KIND_RUN: return take_run(p, stored, r);
	case KIND_ATTACH: return join(p, stored, r, true);
	case KIND_LOG: return take_log(p, stored, r);
	case KIND_SUMMARY: p->summary_dirty = true; return summary_record(&p->summary, body);
	case KIND_CONFIG: return about_config(&p->about, body);
	case KIND_TAGS: return about_tags(&p->about, body);
	case KIND_DEFINE: return take_define(p, r);
	case KIND_PREEMPTING: p->preempting |= !rows_is_guest(&p->rows, stored->producer); return 0;
	case KIND_FINISH: return take_end(p, stored, r, 0);
	case KIND_GONE: return take_end(p, stored, r, EXIT_KILLED);
	default: return 0; /* no other kind is in this stream */
	}
}

static int take_record(struct plan *p, const struct stored_record *record)
{
	struct record r;
	struct record_fault fault;
	int result = record_parse_stored(record->payload, &r, &fault);

	p->cursor = record->lsn;
	p->waypoint_bytes += record->payload.len;
	p->touched = true;
	if (result < 0)
		return 0; /* it was checked when it came: a daemon that takes more wrote it */
	if (p->start_us == 0 && r.kind != KIND_RUN) /* that says it itself */
		p->start_us = (int64_t)r.time_us;
	if ((int64_t)r.time_us > p->newest_us)
		p->newest_us = (int64_t)r.time_us;
	if (r.kind != KIND_LOG) {
		p->side_records++;
		p->side_bytes += (int64_t)record->payload.len;
	}
	result = take_kind(p, record, &r);
	if (r.kind != KIND_GONE) /* the daemon's word, not its own */
		rows_spoke(&p->rows, record->producer, (int64_t)r.time_us);
	return result;
}

struct ahead {
	struct plan *plan;
	int64_t *after;
};

static int on_record_ahead(void *arg, const struct stored_record *stored)
{
	const struct ahead *a = arg;
	struct record r;
	struct record_fault fault;
	int result;

	*a->after = stored->lsn;
	if (record_parse_stored(stored->payload, &r, &fault) < 0 || r.kind != KIND_RUN)
		return 0;
	result = take_run(a->plan, stored, &r);
	return result < 0 ? result : 1;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): *after is written through a */
int plan_find_opening(struct plan *p, struct reader *reader, unsigned max, int64_t *after,
		      bool *ret_more)
{
	struct ahead a = {.plan = p, .after = after};
	unsigned count = 0;
	int r = reader_records(reader, stream_of(p->run, CLASS_METRICS), *after, max,
			       on_record_ahead, &a, &count);

	*ret_more = count == max;
	return r;
}

static const char too_much[] =
	"the run has more keys, metrics or writers than wbx takes; the rest is not sent";
static const char unreadable[] = "what the record holds cannot be read";

int plan_take(struct plan *p, struct reader *reader, struct changes *changes,
	      const struct stored_record *record, enum plan_outcome *ret,
	      uint8_t ret_blob[DIGEST_BYTES])
{
	int r = plan_rows(p, reader, changes, record->time_us, ret, ret_blob);

	if (r < 0 || *ret != PLAN_IDLE)
		return r;
	if (!p->may_write && is_row(record)) {
		*ret = PLAN_STOP;
		return 0;
	}
	r = take_record(p, record);
	if (r == -E2BIG || r == -EBADMSG) { /* it must not stop those behind it */
		changes_add_dead_record(changes, "models", p->run, record->time_us, record->payload,
					r == -E2BIG ? too_much : unreadable);
		r = changes->error;
	}
	if (r < 0)
		return r;
	p->at_lsn = record->lsn;
	p->at_payload = record->payload;
	r = plan_rows(p, reader, changes, record->time_us, ret, ret_blob);
	p->at_payload = (struct span){.at = NULL};
	return r;
}

/* --- what W&B has already --- */

bool plan_derives_summary(const struct plan *p)
{
	return p->shared.is_on && p->shared.derives_summary;
}

int plan_forget_opening(struct plan *p)
{
	int r;

	about_done(&p->about);
	r = about_init(&p->about);
	p->about.shared = &p->shared;
	if (p->next_offset == 0)
		p->shared = (struct shared){.is_on = false};
	p->has_run = p->is_resumed = p->summary_dirty = p->has_exit_code = false;
	p->exit_code = 0;
	p->start_us = 0;
	p->resume = RESUME_ANY;
	return r;
}

int plan_go_on(struct plan *p, const struct wire_run *server, const struct wire_about *about)
{
	int r = about->defines.len > 0 ? metrics_adopt(&p->metrics, buf_span(&about->defines)) : 0;

	if (p->shared.is_on)
		return r; /* what others have is theirs: steps, summary and clock are our own */
	if (r == 0)
		r = summary_adopt(&p->summary, &p->metrics, &about->summary);
	if (r < 0 || p->is_made)
		return r;
	p->is_made = true;
	p->is_resumed = true;
	p->start_us -= server->runtime_us;
	return 0;
}

/* --- state --- */

static void pack_state(const struct plan *p, struct pack *out)
{
	pack_map(out, 26);
	pack_pair_uint(out, "v", p->shared.is_on ? PLAN_VERSION : PLAN_VERSION_ORDINARY);
	pack_pair_int(out, "start", p->start_us);
	pack_pair_int(out, "newest", p->newest_us);
	pack_pair_bool(out, "has_run", p->has_run);
	pack_pair_bool(out, "is_resumed", p->is_resumed);
	pack_pair_bool(out, "is_made", p->is_made);
	pack_pair_bool(out, "has_company", p->has_company);
	pack_pair_bool(out, "has_ended", p->has_ended);
	pack_pair_bool(out, "has_written", p->has_written);
	pack_pair_bool(out, "was_over", p->was_over);
	pack_pair_uint(out, "resume", (uint64_t)p->resume);
	pack_pair_bool(out, "summary_dirty", p->summary_dirty);
	pack_pair_bool(out, "has_exit_code", p->has_exit_code);
	pack_pair_int(out, "exit_code", p->exit_code);
	pack_pair_int(out, "exit_us", p->exit_us);
	pack_pair_int(out, "opened_us", p->opened_us);
	pack_pair_bool(out, "preempting", p->preempting);
	pack_pair_int(out, "side_records", p->side_records);
	pack_pair_int(out, "side_bytes", p->side_bytes);
	pack_pair_int(out, "asked", p->asked_us);
	pack_text(out, "shared");
	shared_to_msgpack(&p->shared, out);
	pack_text(out, "about");
	about_to_msgpack(&p->about, out);
	pack_text(out, "metrics");
	metrics_to_msgpack(&p->metrics, out);
	pack_text(out, "summary");
	summary_to_msgpack(&p->summary, out);
	pack_text(out, "no_summary");
	summary_removed_to_msgpack(&p->summary, out);
	pack_text(out, "rows");
	rows_to_msgpack(&p->rows, out);
}

/* True when rows could not be told again with the same numbers, or not from nearby, without one. */
static bool wants_waypoint(const struct plan *p, size_t state_bytes)
{
	return p->rows.next_step != p->planned_step || p->resteps_to > 0 ||
	       (p->waypoint_bytes >= WAYPOINT_BYTES &&
		p->waypoint_bytes / WAYPOINT_TIMES >= state_bytes);
}

static void add_waypoint(struct plan *p, struct changes *changes, struct span state)
{
	const struct change c = {
		.kind = CHANGE_WAYPOINT,
		.run = p->run,
		.lsn = p->cursor,
		.time_us = p->asked_us > p->waypoint_us ? p->asked_us : p->waypoint_us + 1,
		.step = p->rows.next_step,
		.offset = p->resteps,
		.number = p->resteps_to,
		.text = state,
	};

	changes_add(changes, &c);
	p->waypoint_us = c.time_us;
	p->resteps_to = 0;
	p->planned_step = p->rows.next_step;
	p->waypoint_bytes = 0;
}

static void save(struct plan *p, struct changes *changes, bool only_waypoint)
{
	struct change c = {.kind = CHANGE_PLANNER, .run = p->run};
	struct buf state;
	struct pack out;

	buf_init(&state, STATE_BYTES_MAX);
	pack_init(&out, &state);
	pack_state(p, &out);
	c.text = buf_span(&state);
	if (state.error != 0)
		changes->error = state.error;
	else if (!only_waypoint)
		changes_add(changes, &c);
	if (state.error == 0 && wants_waypoint(p, state.len))
		add_waypoint(p, changes, c.text);
	buf_done(&state);
}

void plan_save(struct plan *p, struct changes *changes)
{
	save(p, changes, false);
}

void plan_note_move(struct plan *p, struct changes *changes)
{
	if ((p->rows.next_step != p->planned_step || p->resteps_to > 0) && p->on_row == NULL)
		save(p, changes, true);
}

void plan_end(struct plan *p, struct changes *changes)
{
	const struct change c = {
		.kind = CHANGE_CURSOR,
		.stream = stream_of(p->run, CLASS_METRICS),
		.lsn = p->cursor,
	};

	changes_add(changes, &c);
	plan_save(p, changes);
}

static int read_part(struct mp map, const char *key, struct mp *ret)
{
	struct span value;

	if (mp_find_span(map, key, &value) < 0)
		return -EBADMSG;
	*ret = mp_of(value);
	return 0;
}

static int read_state(struct plan *p, struct mp map)
{
	struct mp about;
	struct mp metrics;
	struct mp summary;
	struct mp removed;
	struct mp rows;
	struct mp shared;
	int r;

	if (mp_get_uint(map, "v", 0) > PLAN_VERSION)
		return -EPROTO;
	if (read_part(map, "about", &about) < 0 || read_part(map, "metrics", &metrics) < 0 ||
	    read_part(map, "summary", &summary) < 0 || read_part(map, "rows", &rows) < 0)
		return -EBADMSG;
	p->start_us = mp_get_int(map, "start", 0);
	p->newest_us = mp_get_int(map, "newest", 0);
	p->has_run = mp_get_bool(map, "has_run", false);
	p->is_resumed = mp_get_bool(map, "is_resumed", false);
	p->is_made = mp_get_bool(map, "is_made", false);
	p->has_company = mp_get_bool(map, "has_company", false);
	p->has_ended = mp_get_bool(map, "has_ended", false);
	p->has_written = mp_get_bool(map, "has_written", false);
	p->was_over = mp_get_bool(map, "was_over", false);
	p->resume = (enum plan_resume)mp_get_uint(map, "resume", RESUME_ANY);
	p->summary_dirty = mp_get_bool(map, "summary_dirty", false);
	p->has_exit_code = mp_get_bool(map, "has_exit_code", false);
	p->exit_code = mp_get_int(map, "exit_code", 0);
	p->exit_us = mp_get_int(map, "exit_us", 0); /* these three: an older wbx had none */
	p->opened_us = mp_get_int(map, "opened_us", 0);
	p->preempting = mp_get_bool(map, "preempting", false);
	p->side_records = mp_get_int(map, "side_records", 0);
	p->side_bytes = mp_get_int(map, "side_bytes", 0);
	p->asked_us = mp_get_int(map, "asked", 0);
	if (read_part(map, "shared", &shared) == 0) /* an older wbx had none */
		shared_from_msgpack(&p->shared, shared);
	r = about_from_msgpack(&p->about, about);
	if (r == 0)
		r = metrics_from_msgpack(&p->metrics, metrics);
	if (r == 0)
		r = summary_from_msgpack(&p->summary, summary);
	if (r == 0 && read_part(map, "no_summary", &removed) == 0) /* an older wbx had none */
		r = summary_removed_from_msgpack(&p->summary, removed);
	if (r == 0)
		r = rows_from_msgpack(&p->rows, rows);
	p->planned_step = p->rows.next_step;
	return r;
}

int plan_load_state(struct plan *p, int64_t lsn, struct span state)
{
	p->cursor = lsn;
	return read_state(p, mp_of(state));
}

int plan_load(struct plan *p, struct reader *reader)
{
	struct stream_info stream = {0};
	struct run_info run = {0};
	struct buf state;
	int r = reader_stream(reader, stream_of(p->run, CLASS_METRICS), &stream);

	if (r == 0)
		r = reader_run(reader, p->run, &run);
	if (r < 0)
		return r;
	p->next_offset = run.next_offset;
	buf_init(&state, STATE_BYTES_MAX);
	r = reader_planner(reader, p->run, &state);
	if (r == 0)
		r = plan_load_state(p, stream.planned_lsn, buf_span(&state));
	else if (r == -ENOENT)
		p->cursor = stream.planned_lsn;
	buf_done(&state);
	return r == -ENOENT ? 0 : r;
}
