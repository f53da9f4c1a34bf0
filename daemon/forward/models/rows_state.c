/* See rows.h: rows as msgpack, and back. */
#include "daemon/forward/models/rows_parts.h"

#include <assert.h>
#include <errno.h>

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

/* Of those that merge: their number, and what is gathered. */
static void pack_gathers(struct pack *p, const struct rows *r)
{
	size_t count = 0;

	for (size_t i = 0; i < r->producer_count; i++)
		count += r->producers[i].merges;
	pack_text(p, "gathers");
	pack_array(p, count * 5);
	for (size_t i = 0; i < r->producer_count; i++) {
		if (!r->producers[i].merges)
			continue;
		pack_int(p, r->producers[i].id);
		gather_pack(&r->producers[i].gather, p);
	}
}

void rows_to_msgpack(const struct rows *r, struct pack *p)
{
	pack_map(p, 8);
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
	pack_gathers(p, r);
	pack_text(p, "spoke"); /* of each producer, in their order */
	pack_array(p, r->producer_count);
	for (size_t i = 0; i < r->producer_count; i++)
		pack_int(p, r->producers[i].spoke_us);
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
		if (row_parts_add(ret, part) < 0)
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
		one = rows_producer(r, id);
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
		if (rows_make_open(r, step, &row) < 0)
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

static int read_gathers(struct rows *r, struct mp at)
{
	uint32_t count;

	if (read_list(&at, 5, &count) < 0)
		return -EBADMSG;
	while (count-- > 0) {
		struct row_producer *one;
		int64_t id;
		int e;

		if (read_int(&at, &id) < 0)
			return -EBADMSG;
		one = rows_producer(r, id);
		if (one == NULL || one->merges)
			return -EBADMSG;
		one->merges = true;
		e = gather_read(&one->gather, &at);
		if (e < 0)
			return e;
	}
	return 0;
}

static int read_spoke(struct rows *r, struct mp at)
{
	uint32_t count;

	if (read_list(&at, 1, &count) < 0 || count != r->producer_count)
		return -EBADMSG;
	for (size_t i = 0; i < count; i++) {
		if (read_int(&at, &r->producers[i].spoke_us) < 0)
			return -EBADMSG;
	}
	return 0;
}

int rows_from_msgpack(struct rows *ret, struct mp map)
{
	struct span producers;
	struct span open;
	struct span implicit;
	struct span late;
	struct span gathers;
	struct span spoke;
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
	if (e == 0 && mp_find_span(map, "gathers", &gathers) == 0) /* an older wbx had none */
		e = read_gathers(ret, mp_of(gathers));
	if (e == 0 && mp_find_span(map, "spoke", &spoke) == 0) /* nor of this */
		e = read_spoke(ret, mp_of(spoke));
	return e;
}
