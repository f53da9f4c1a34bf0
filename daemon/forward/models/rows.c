/* See rows.h: the lists, what calls do to them, and their state. What comes out is in rows_next.c.
 */
#include "daemon/forward/models/rows.h"

#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void rows_init(struct rows *r, int64_t merge_max_us)
{
	*r = (struct rows){.merge_max_us = merge_max_us};
}

static void free_rows_done(struct free_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		(void)mem_free(rows->items[i].parts.items);
	(void)mem_free(rows->items);
}

void rows_done(struct rows *r)
{
	for (size_t i = 0; i < r->producer_count; i++)
		(void)mem_free(r->producers[i].partial.items);
	for (size_t i = 0; i < r->open_count; i++)
		(void)mem_free(r->open[i].parts.items);
	free_rows_done(&r->implicit);
	free_rows_done(&r->late);
	(void)mem_free(r->producers);
	(void)mem_free(r->open);
	*r = (struct rows){.merge_max_us = r->merge_max_us};
}

/* --- lists --- */

static int parts_add(struct parts *p, struct part part)
{
	int e = mem_room(p->items, p->count, p->cap);

	if (e == 0)
		p->items[p->count++] = part;
	return e;
}

static int parts_add_all(struct parts *to, const struct parts *from)
{
	for (size_t i = 0; i < from->count; i++) {
		if (parts_add(to, from->items[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int free_rows_add(struct free_rows *rows, int64_t step, struct parts parts)
{
	int e = mem_room(rows->items, rows->count, rows->cap);

	if (e == 0)
		rows->items[rows->count++] = (struct free_row){.step = step, .parts = parts};
	return e;
}

static struct row_producer *find_producer(const struct rows *r, int64_t id)
{
	for (size_t i = 0; i < r->producer_count; i++) {
		if (r->producers[i].id == id)
			return &r->producers[i];
	}
	return NULL;
}

int rows_join(struct rows *r, int64_t producer, bool is_guest)
{
	struct row_producer *p = find_producer(r, producer);

	if (p != NULL) {
		p->is_guest &= is_guest;
		return 0;
	}
	if (r->producer_count == ROWS_PRODUCERS_MAX)
		return -E2BIG;
	if (mem_room(r->producers, r->producer_count, r->producer_cap) < 0)
		return -ENOMEM;
	r->producers[r->producer_count++] =
		(struct row_producer){.id = producer, .is_guest = is_guest, .is_silent = !is_guest};
	return 0;
}

bool rows_has(const struct rows *r, int64_t producer)
{
	return find_producer(r, producer) != NULL;
}

bool rows_is_guest(const struct rows *r, int64_t producer)
{
	const struct row_producer *p = find_producer(r, producer);

	return p != NULL && p->is_guest;
}

/* The place of the open row with this step, or where it would be. */
static size_t open_place(const struct rows *r, int64_t step)
{
	size_t at = r->open_count; /* mostly the last */

	while (at > 0 && r->open[at - 1].step >= step)
		at--;
	return at;
}

static struct open_row *find_open(const struct rows *r, int64_t step)
{
	size_t at = open_place(r, step);

	return at < r->open_count && r->open[at].step == step ? &r->open[at] : NULL;
}

static int make_open(struct rows *r, int64_t step, struct open_row **ret)
{
	size_t at = open_place(r, step);

	if (at < r->open_count && r->open[at].step == step) {
		*ret = &r->open[at];
		return 0;
	}
	if (mem_room(r->open, r->open_count, r->open_cap) < 0)
		return -ENOMEM;
	*ret = &r->open[at];
	memmove(*ret + 1, *ret, (r->open_count - at) * sizeof(**ret));
	r->open_count++;
	**ret = (struct open_row){.step = step};
	return 0;
}

/* --- calls --- */

/* A producer is beyond the rows below `step`. */
static void note_passed(struct rows *r, int64_t step, int64_t now_us)
{
	for (size_t i = 0; i < r->open_count && r->open[i].step < step; i++) {
		if (r->open[i].passed_us == 0)
			r->open[i].passed_us = now_us;
	}
}

/* What a producer logged with commit=False and no step becomes a row of its own. */
static int close_partial(struct rows *r, struct row_producer *p)
{
	if (p->partial.count == 0)
		return 0;
	if (free_rows_add(&r->implicit, -1, p->partial) < 0)
		return -ENOMEM;
	p->partial = (struct parts){.items = NULL};
	return 0;
}

/* A step is given while the producer has a partial row: when that would have got the same number,
 * it is the same row, as in W&B's client. */
static int settle_partial(struct rows *r, struct row_producer *p, int64_t step,
			  struct open_row *row)
{
	bool alone = r->open_count == 1 && r->implicit.count == 0; /* the one is `row` */

	if (p->partial.count == 0)
		return 0;
	if (!alone || step != r->next_step)
		return close_partial(r, p);
	if (parts_add_all(&row->parts, &p->partial) < 0)
		return -ENOMEM;
	p->partial.items = mem_free(p->partial.items);
	p->partial = (struct parts){.items = NULL};
	return 0;
}

static int log_late(struct rows *r, const struct row_call *call)
{
	struct parts parts = {.items = NULL};

	for (size_t i = 0; i < r->late.count; i++) {
		if (r->late.items[i].step == call->step)
			return parts_add(&r->late.items[i].parts, call->part);
	}
	if (parts_add(&parts, call->part) < 0)
		return -ENOMEM;
	if (free_rows_add(&r->late, call->step, parts) < 0) {
		(void)mem_free(parts.items);
		return -ENOMEM;
	}
	return 0;
}

static int log_explicit(struct rows *r, struct row_producer *p, const struct row_call *call)
{
	struct open_row *row;

	if (call->step < r->next_step || call->step > ROWS_STEP_MAX)
		return log_late(r, call);
	if (make_open(r, call->step, &row) < 0 || settle_partial(r, p, call->step, row) < 0 ||
	    parts_add(&row->parts, call->part) < 0)
		return -ENOMEM;
	if (!p->is_explicit || call->step >= p->step) {
		p->step = call->step;
		p->in_row = true;
	}
	p->is_explicit = true;
	if (call->has_commit && call->commit && p->step == call->step) {
		p->step++;
		p->in_row = false;
	}
	note_passed(r, p->step, call->time_us);
	return 0;
}

static int log_implicit(struct rows *r, struct row_producer *p, const struct row_call *call)
{
	bool commit = !call->has_commit || call->commit;
	struct open_row *row = p->in_row ? find_open(r, p->step) : NULL;

	if (row != NULL) {
		if (parts_add(&row->parts, call->part) < 0)
			return -ENOMEM;
		if (commit) {
			p->step++;
			p->in_row = false;
			note_passed(r, p->step, call->time_us);
		}
		return 0;
	}
	if (parts_add(&p->partial, call->part) < 0)
		return -ENOMEM;
	if (!commit)
		return 0;
	p->is_explicit = p->in_row = false; /* until it gives a step again */
	return close_partial(r, p);
}

int rows_log(struct rows *r, const struct row_call *call)
{
	struct row_producer *p;
	int result = rows_join(r, call->producer, true);

	if (result < 0)
		return result;
	p = find_producer(r, call->producer);
	assert(p != NULL); /* it has joined */
	r->clock_us = p->last_us = call->time_us;
	p->is_silent = false;
	result = call->has_step ? log_explicit(r, p, call) : log_implicit(r, p, call);
	if (result == 0)
		r->held++;
	return result;
}

int rows_leave(struct rows *r, int64_t producer, int64_t now_us)
{
	struct row_producer *p = find_producer(r, producer);
	int result;

	r->clock_us = now_us;
	if (p == NULL)
		return 0;
	result = close_partial(r, p);
	if (result < 0)
		return result;
	if (p->is_explicit)
		note_passed(r, INT64_MAX, now_us);
	*p = r->producers[--r->producer_count];
	return 0;
}

/* --- state --- */

static void pack_parts(struct pack *p, const struct parts *parts)
{
	pack_array(p, parts->count * 2);
	for (size_t i = 0; i < parts->count; i++) {
		pack_int(p, parts->items[i].lsn);
		pack_int(p, parts->items[i].bytes);
	}
}

static void pack_free_rows(struct pack *p, const struct free_rows *rows)
{
	pack_array(p, rows->count * 2);
	for (size_t i = 0; i < rows->count; i++) {
		pack_int(p, rows->items[i].step);
		pack_parts(p, &rows->items[i].parts);
	}
}

void rows_to_msgpack(const struct rows *r, struct pack *p)
{
	pack_map(p, 6);
	pack_pair_int(p, "next_step", r->next_step);
	pack_pair_int(p, "clock", r->clock_us);
	pack_text(p, "producers");
	pack_array(p, r->producer_count * 8);
	for (size_t i = 0; i < r->producer_count; i++) {
		const struct row_producer *one = &r->producers[i];

		pack_int(p, one->id);
		pack_bool(p, one->is_guest);
		pack_bool(p, one->is_silent);
		pack_bool(p, one->is_explicit);
		pack_bool(p, one->in_row);
		pack_int(p, one->step);
		pack_int(p, one->last_us);
		pack_parts(p, &one->partial);
	}
	pack_text(p, "open");
	pack_array(p, r->open_count * 3);
	for (size_t i = 0; i < r->open_count; i++) {
		pack_int(p, r->open[i].step);
		pack_int(p, r->open[i].passed_us);
		pack_parts(p, &r->open[i].parts);
	}
	pack_text(p, "implicit");
	pack_free_rows(p, &r->implicit);
	pack_text(p, "late");
	pack_free_rows(p, &r->late);
}

static int read_int(struct mp *at, int64_t *ret)
{
	struct mp_value v;

	return mp_read(at, &v) < 0 || !mp_to_int64(&v, ret) ? -EBADMSG : 0;
}

static int read_bool(struct mp *at, bool *ret)
{
	struct mp_value v;

	if (mp_read(at, &v) < 0 || v.type != MP_BOOL)
		return -EBADMSG;
	*ret = v.boolean;
	return 0;
}

/* The head of a list whose entries are `each` values long. */
static int read_list(struct mp *at, uint32_t each, uint32_t *ret_count)
{
	struct mp_value v;

	if (mp_read(at, &v) < 0 || v.type != MP_ARRAY || v.count % each != 0)
		return -EBADMSG;
	*ret_count = v.count / each;
	return 0;
}

static int read_parts(struct rows *r, struct mp *at, struct parts *ret)
{
	uint32_t count;

	if (read_list(at, 2, &count) < 0)
		return -EBADMSG;
	while (count-- > 0) {
		struct part part;

		if (read_int(at, &part.lsn) < 0 || read_int(at, &part.bytes) < 0)
			return -EBADMSG;
		if (parts_add(ret, part) < 0)
			return -ENOMEM;
		r->held++;
	}
	return 0;
}

static int read_producers(struct rows *r, struct mp at)
{
	uint32_t count;

	if (read_list(&at, 8, &count) < 0)
		return -EBADMSG;
	while (count-- > 0) {
		struct row_producer *one;
		int64_t id;
		int e;

		if (read_int(&at, &id) < 0)
			return -EBADMSG;
		e = rows_join(r, id, true);
		if (e < 0)
			return e;
		one = find_producer(r, id);
		assert(one != NULL); /* as above */
		if (read_bool(&at, &one->is_guest) < 0 || read_bool(&at, &one->is_silent) < 0 ||
		    read_bool(&at, &one->is_explicit) < 0 || read_bool(&at, &one->in_row) < 0 ||
		    read_int(&at, &one->step) < 0 || read_int(&at, &one->last_us) < 0)
			return -EBADMSG;
		e = read_parts(r, &at, &one->partial);
		if (e < 0)
			return e;
	}
	return 0;
}

static int read_open(struct rows *r, struct mp at)
{
	uint32_t count;

	if (read_list(&at, 3, &count) < 0)
		return -EBADMSG;
	while (count-- > 0) {
		struct open_row *row;
		int64_t step;
		int e;

		if (read_int(&at, &step) < 0)
			return -EBADMSG;
		if (make_open(r, step, &row) < 0)
			return -ENOMEM;
		if (read_int(&at, &row->passed_us) < 0)
			return -EBADMSG;
		e = read_parts(r, &at, &row->parts);
		if (e < 0)
			return e;
	}
	return 0;
}

static int read_free_rows(struct rows *r, struct mp at, struct free_rows *rows)
{
	uint32_t left;

	if (read_list(&at, 2, &left) < 0)
		return -EBADMSG;
	while (left-- > 0) {
		struct parts none = {.items = NULL};
		int64_t step;
		int e;

		if (read_int(&at, &step) < 0)
			return -EBADMSG;
		if (free_rows_add(rows, step, none) < 0)
			return -ENOMEM;
		e = read_parts(r, &at, &rows->items[rows->count - 1].parts);
		if (e < 0)
			return e;
	}
	return 0;
}

int rows_from_msgpack(struct rows *ret, struct mp map)
{
	struct span producers;
	struct span open;
	struct span implicit;
	struct span late;
	int e;

	if (mp_find_span(map, "producers", &producers) < 0 ||
	    mp_find_span(map, "open", &open) < 0 || mp_find_span(map, "implicit", &implicit) < 0 ||
	    mp_find_span(map, "late", &late) < 0)
		return -EBADMSG;
	ret->next_step = mp_get_int(map, "next_step", 0);
	ret->clock_us = mp_get_int(map, "clock", 0);
	e = read_producers(ret, mp_of(producers));
	if (e == 0)
		e = read_open(ret, mp_of(open));
	if (e == 0)
		e = read_free_rows(ret, mp_of(implicit), &ret->implicit);
	if (e == 0)
		e = read_free_rows(ret, mp_of(late), &ret->late);
	return e;
}
