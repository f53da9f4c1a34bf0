/* See wbx.h: traced calls, a record at their start and one at their end. */
#include "client/lib/emit.h"
#include "client/lib/map.h"
#include "proto/base/clock.h"
#include "proto/base/rng.h"

#include <errno.h>
#include <stdio.h>

/* A UUID of version 7 (RFC 9562): milliseconds, then random bits. */
static int make_uuid(char ret[WBX_ID_MAX])
{
	uint64_t ms = clock_wall_us() / 1000;
	uint8_t b[16];
	int r = rng_bytes(b, sizeof(b));

	if (r < 0)
		return r;
	for (unsigned i = 0; i < 6; i++)
		b[i] = (uint8_t)(ms >> (40 - 8 * i));
	b[6] = (uint8_t)(0x70 | (b[6] & 0x0f));
	b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
	(void)snprintf(ret, WBX_ID_MAX,
		       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
		       b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
		       b[13], b[14], b[15]); /* fits */
	return 0;
}

/* "key": what the map holds, into a buf of its own: the end of a record. */
static int pack_tail(struct buf *out, const char *key, const struct wbx_map *m)
{
	uint8_t head[MAP_HEAD_BYTES];
	struct pack p;

	buf_init(out, MAP_BYTES_MAX);
	pack_init(&p, out);
	pack_text(&p, key);
	map_head(m, head);
	(void)buf_add(out, head, sizeof(head)); /* the buf remembers */
	return buf_add(out, m->bytes.data, m->bytes.len);
}

/* Two maps as the record's last pairs. */
static int pack_two(struct buf *out, const char *first_key, const struct wbx_map *first,
		    const char *second_key, const struct wbx_map *second)
{
	struct buf more;
	int r = pack_tail(out, first_key, first);

	if (r < 0 || second == NULL)
		return r;
	r = pack_tail(&more, second_key, second);
	if (r == 0)
		r = buf_add(out, more.data, more.len);
	buf_done(&more);
	return r;
}

/* A call's record; its maps' tables are named, and `rest` is what it ends with. */
struct call_record {
	struct wbx_run *run;
	const struct wbx_map *first; /* of those that may have tables */
	const struct wbx_map *second;
	const char *phase;
	const char *id;
	size_t pairs; /* beside phase, id and blobs */
};

/* As emit_begin(). */
static int begin_call(struct emit *e, struct emit_blobs *blobs, const struct call_record *c)
{
	int r = emit_blobs_begin(blobs, c->run->w, c->first, c->second);

	if (r < 0)
		return r;
	r = emit_begin(e, c->run->w, c->run, "call", 2 + c->pairs + (size_t)(blobs->count > 0));
	if (r < 0) {
		emit_blobs_end(blobs, false);
		return r;
	}
	e->blobs = blobs;
	pack_pair_text(&e->p, "phase", c->phase);
	pack_pair_text(&e->p, "id", c->id);
	if (blobs->count > 0)
		emit_blobs_pack(blobs, &e->p);
	return 0;
}

static int end_call(struct emit *e, struct emit_blobs *blobs, struct span rest)
{
	int r = emit_end(e, rest, NULL);

	emit_blobs_end(blobs, true); /* emit_end() has seen to them */
	return r;
}

static int emit_call_start(const struct call_record *c, const struct wbx_call *call,
			   struct span tail)
{
	struct emit_blobs blobs;
	struct emit e;
	int r = begin_call(&e, &blobs, c);

	if (r < 0)
		return r;
	pack_pair_text(&e.p, "trace_id", call->trace_id != NULL ? call->trace_id : c->id);
	pack_pair_text(&e.p, "parent_id", call->parent_id);
	pack_pair_text(&e.p, "op", call->op);
	pack_pair_text(&e.p, "display_name", call->display_name);
	pack_pair_uint(&e.p, "started_at", clock_wall_us());
	if (call->step >= 0)
		pack_pair_uint(&e.p, "step", (uint64_t)call->step);
	return end_call(&e, &blobs, tail);
}

int wbx_call_start(struct wbx_run *run, const struct wbx_call *call, char ret_id[WBX_ID_MAX])
{
	static const struct wbx_map nothing = {.depth = 0};
	struct call_record c = {.run = run, .phase = "start", .id = ret_id};
	struct buf tail = {0};
	int r;

	if (run == NULL || call == NULL || call->op == NULL || ret_id == NULL)
		return -EINVAL;
	c.first = call->inputs != NULL ? call->inputs : &nothing;
	c.second = call->attributes;
	c.pairs = 6 + (size_t)(call->attributes != NULL) + (size_t)(call->step >= 0);
	r = map_check(c.first);
	if (r == 0 && call->attributes != NULL)
		r = map_check(call->attributes);
	if (r == 0)
		r = make_uuid(ret_id);
	if (r == 0)
		r = pack_two(&tail, "inputs", c.first, "attributes", call->attributes);
	if (r == 0)
		r = emit_call_start(&c, call, buf_span(&tail));
	buf_done(&tail);
	return r;
}

int wbx_call_end(struct wbx_run *run, const char *id, const struct wbx_map *output,
		 const char *exception)
{
	static const uint8_t nil[] = {0xc0};
	const struct call_record c = {
		.run = run, .first = output, .phase = "end", .id = id, .pairs = 3};
	struct span value = {nil, sizeof(nil)};
	struct emit_blobs blobs;
	struct emit e;
	int r;

	if (run == NULL || id == NULL ||
	    (output != NULL && (!output->levels[0].is_list || output->levels[0].count > 1)))
		return -EINVAL;
	r = output == NULL ? 0 : map_check(output);
	if (output != NULL && output->levels[0].count == 1)
		value = buf_span(&output->bytes);
	if (r == 0)
		r = begin_call(&e, &blobs, &c);
	if (r < 0)
		return r;
	pack_pair_uint(&e.p, "ended_at", clock_wall_us());
	pack_pair_text(&e.p, "exception", exception);
	pack_text(&e.p, "output");
	return end_call(&e, &blobs, value);
}
