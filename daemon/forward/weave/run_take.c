/* See run_parts.h: records become rows about calls. Those of the traces first, then, up to the same
 * place, those of the metrics: they say which step it is and which processes are gone. */
#include "daemon/base/log.h"
#include "daemon/forward/weave/run_parts.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	TAKE_RECORDS = 250
};

struct taking {
	struct weave_run *r;
	int64_t up_to;
	bool has_some;
};

/* --- names --- */

static bool is_lower_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_uuid(struct span id)
{
	if (id.len != 36)
		return false;
	for (size_t i = 0; i < id.len; i++) {
		bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (is_dash ? id.at[i] != '-' : !is_lower_hex((char)id.at[i]))
			return false;
	}
	return true;
}

/* As W&B takes them: a UUID, or so many digits as OpenTelemetry has. */
static bool is_id(struct span id, size_t digits)
{
	if (id.len != digits)
		return is_uuid(id);
	for (size_t i = 0; i < id.len; i++) {
		if (!is_lower_hex((char)id.at[i]))
			return false;
	}
	return true;
}

int weave_op_of(struct span start, struct weave_op *ret)
{
	ref_op_name(mp_get_str(mp_of(start), "op"), ret->name);
	return ref_op_digest(mp_get_bin(mp_of(start), "source_sha256"), ret->digest);
}

/* --- what a record stands for --- */

static int share_of(struct weave_run *r, const struct record *record, size_t bytes,
		    struct trace_share *ret)
{
	*ret = (struct trace_share){.records = 1, .bytes = (int64_t)bytes};
	for (uint32_t i = 0; i < record_blob_count(record); i++) {
		struct span digest;
		int64_t size = 0;
		int e = record_blob(record, i, &digest)
				? reader_blob_size(r->host->reader, digest, &size)
				: -ENOENT;

		if (e < 0 && e != -ENOENT)
			return e;
		ret->blobs++;
		ret->blob_bytes += size;
	}
	return 0;
}

static void refuse(struct weave_run *r, const struct stored_record *stored,
		   const struct trace_share *share, const char *why)
{
	const struct change confirm = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(r->id, CLASS_TRACES),
		.records = share->records,
		.bytes = share->bytes,
		.blobs = share->blobs,
		.blob_bytes = share->blob_bytes,
	};

	weave_add_dead(r, 0, "trace record", why, SPAN_LITERAL(""), SPAN_LITERAL(""),
		       stored->payload);
	changes_add(r->changes, &confirm);
}

/* --- calls --- */

/* The step that its process says: of the record, else among its attributes. */
static int64_t said_step(const struct record *record)
{
	struct mp body = mp_of(record->body);
	int64_t step = mp_get_int(body, "step", -1);
	struct span attributes;

	if (step < 0 && mp_find_span(body, "attributes", &attributes) == 0)
		step = mp_get_int(mp_of(attributes), "step", -1);
	return step < 0 ? -1 : step;
}

/* Tells the store of an op when it may not know it, or its source. 0, -errno. */
static int note_op(struct weave_run *r, const struct stored_record *stored,
		   const struct record *record)
{
	struct mp body = mp_of(record->body);
	bool has_source = mp_get_str(body, "source").len > 0;
	bool may_have_source = mp_get_bin(body, "source_sha256").len == DIGEST_BYTES;
	struct change c = {.kind = CHANGE_TRACE_OP, .run = r->id};
	struct weave_op op;
	int e = weave_op_of(record->body, &op);

	if (e < 0)
		return e;
	for (size_t i = 0; i < r->op_count && !has_source; i++) {
		if (strcmp(r->ops[i].name, op.name) == 0 &&
		    strcmp(r->ops[i].digest, op.digest) == 0)
			return 0;
	}
	r->ops[r->op_count % WEAVE_OPS_KNOWN] = op;
	r->op_count += r->op_count < WEAVE_OPS_KNOWN;
	c.text = span_of_text(op.name);
	c.text2 = span_of_text(op.digest);
	/* -1: there is none, so that none has to be waited for */
	c.lsn = has_source ? stored->lsn : may_have_source ? 0 : -1;
	changes_add(r->changes, &c);
	return 0;
}

/* NULL, or what is wrong with it. */
static const char *read_fact(const struct record *record, struct call_fact *f)
{
	struct mp body = mp_of(record->body);
	struct span phase = mp_get_str(body, "phase");
	struct mp_value v;

	f->has_start = span_is(phase, "start") || span_is(phase, "complete");
	f->has_end = span_is(phase, "end") || span_is(phase, "complete");
	f->id = mp_get_str(body, "id");
	f->trace = mp_get_str(body, "trace_id");
	f->parent = mp_get_str(body, "parent_id");
	f->started_us = mp_get_int(body, "started_at", (int64_t)record->time_us);
	f->ended_us = mp_get_int(body, "ended_at", (int64_t)record->time_us);
	f->is_error = mp_find(body, "exception", &v) == 0 && v.type == MP_STR && v.bytes.len > 0;
	f->step = said_step(record);
	if (!f->has_start && !f->has_end)
		return "`phase` is none of start, end and complete";
	if (!is_id(f->id, 16))
		return "`id` is no lower-case UUID";
	if (f->has_start && !is_id(f->trace, 32))
		return "`trace_id` is no lower-case UUID";
	if (f->has_start && mp_get_str(body, "op").len == 0)
		return "a start without `op`";
	if (!is_id(f->parent, 16))
		f->parent = (struct span){.at = NULL}; /* W&B would refuse the call for it */
	return NULL;
}

static int take_call(struct weave_run *r, const struct stored_record *stored,
		     const struct record *record, const struct trace_share *share)
{
	struct change c = {
		.kind = CHANGE_TRACE_CALL,
		.run = r->id,
		.lsn = stored->lsn,
		.time_us = stored->time_us,
		.share = *share,
		.call = {.producer = stored->producer},
	};
	const char *fault = read_fact(record, &c.call);

	if (fault != NULL) {
		refuse(r, stored, share, fault);
		return 0;
	}
	changes_add(r->changes, &c);
	return c.call.has_start ? note_op(r, stored, record) : 0;
}

static int on_trace_record(void *arg, const struct stored_record *stored)
{
	struct taking *t = arg;
	struct weave_run *r = t->r;
	struct change item = {.kind = CHANGE_TRACE_ITEM, .run = r->id, .lsn = stored->lsn};
	struct record_fault fault;
	struct record record;
	int e;

	r->cursor = stored->lsn;
	t->has_some = true;
	if (record_parse_stored(stored->payload, &record, &fault) < 0)
		return -EBADMSG; /* nothing that was stored */
	e = share_of(r, &record, stored->payload.len, &item.share);
	if (e < 0)
		return e;
	if (record.kind == KIND_CALL)
		return take_call(r, stored, &record, &item.share);
	if (record.kind == KIND_FEEDBACK)
		item.text = mp_get_str(mp_of(record.body), "call_id");
	if (record.kind == KIND_FEEDBACK &&
	    (!is_id(item.text, 16) || !is_id(mp_get_str(mp_of(record.body), "id"), 16))) {
		refuse(r, stored, &item.share, "`id` or `call_id` is no lower-case UUID");
		return 0;
	}
	changes_add(r->changes, &item);
	return 0;
}

/* --- metrics --- */

static void take_loss(struct weave_run *r, const struct stored_record *stored,
		      const struct record *record)
{
	const struct change c = {
		.kind = CHANGE_TRACE_LOST,
		.run = r->id,
		.number = stored->producer,
		.lsn = stored->lsn,
		.time_us = stored->time_us,
		.offset = (int64_t)record->time_us,
		.loss = record->kind == KIND_GONE ? LOSS_GONE : LOSS_FINISHED,
	};

	changes_add(r->changes, &c);
}

static int on_metrics_record(void *arg, const struct stored_record *stored)
{
	struct taking *t = arg;
	struct weave_run *r = t->r;
	struct record_fault fault;
	struct step_mark marks[2];
	struct record record;
	unsigned count;

	if (stored->lsn > t->up_to)
		return 1;
	r->state.metrics_lsn = stored->lsn;
	t->has_some = true;
	if (record_parse_stored(stored->payload, &record, &fault) < 0)
		return -EBADMSG;
	if (record.kind == KIND_GONE || record.kind == KIND_FINISH)
		take_loss(r, stored, &record);
	count = steps_take(&r->steps, &record, marks);
	for (unsigned i = 0; i < count; i++) {
		const struct change c = {
			.kind = CHANGE_TRACE_STEP,
			.run = r->id,
			.number = (int64_t)marks[i].mode,
			.time_us = marks[i].time_us,
			.step = marks[i].step,
		};

		changes_add(r->changes, &c);
	}
	return 0;
}

static void save(struct weave_run *r)
{
	const struct change cursor = {
		.kind = CHANGE_CURSOR,
		.stream = stream_of(r->id, CLASS_TRACES),
		.lsn = r->cursor,
	};
	struct change state = {
		.kind = CHANGE_TRACE_STATE,
		.run = r->id,
		.lsn = r->state.metrics_lsn,
	};
	struct buf bytes;

	buf_init(&bytes, 4096);
	steps_save(&r->steps, &bytes);
	state.text = buf_span(&bytes);
	if (bytes.error != 0 && r->changes->error == 0)
		r->changes->error = bytes.error;
	changes_add(r->changes, &cursor);
	changes_add(r->changes, &state);
	buf_done(&bytes);
}

int weave_take(struct weave_run *r)
{
	struct taking t = {.r = r};
	unsigned count = 0;
	int e;

	if (!weave_changes(r))
		return 1;
	e = reader_last_lsn(r->host->reader, &t.up_to);
	if (e == 0)
		e = reader_records(r->host->reader, stream_of(r->id, CLASS_TRACES), r->cursor,
				   TAKE_RECORDS, on_trace_record, &t, &count);
	if (e == 0 && count < TAKE_RECORDS)
		e = reader_records(r->host->reader, stream_of(r->id, CLASS_METRICS),
				   r->state.metrics_lsn, TAKE_RECORDS, on_metrics_record, &t,
				   &count);
	if (e < 0)
		return e;
	if (!t.has_some) {
		r->changes = changes_free(r->changes);
		return 0;
	}
	save(r);
	weave_commit(r);
	return 1;
}
