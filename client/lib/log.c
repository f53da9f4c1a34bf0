/* See wbx.h: maps that are logged (rows, summary, config). */
#include "client/lib/emit.h"
#include "client/lib/map.h"
#include "proto/mp.h"

#include <errno.h>
#include <string.h>

enum {
	PART_MAX = RECORD_MAX - RECORD_ROOM /* bytes of a map in one record */
};

/* --- maps as records --- */

/* A record whose last pair is the map: {run, t, extra pairs ..., key: map}. */
struct map_record {
	struct wbx_run *run;
	const char *kind;
	const char *key;
	const char *label; /* NULL: none */
	int64_t step;      /* WBX_NO_STEP: none */
	enum wbx_commit commit;
};

static int emit_map(const struct map_record *mr, const struct wbx_map *m)
{
	uint8_t head[MAP_HEAD_BYTES];
	struct emit_blobs blobs;
	struct emit e;
	size_t pairs = 1;
	int r = emit_blobs_begin(&blobs, mr->run->w, m, NULL);

	if (r < 0)
		return r;
	pairs += mr->step != WBX_NO_STEP ? 1 : 0;
	pairs += mr->commit != WBX_COMMIT_AUTO ? 1 : 0;
	pairs += mr->label != NULL ? 1 : 0;
	pairs += blobs.count != 0 ? 1 : 0;
	r = emit_begin(&e, mr->run->w, mr->run, mr->kind, pairs);
	if (r < 0) {
		emit_blobs_end(&blobs, false);
		return r;
	}
	e.blobs = &blobs;
	if (mr->step != WBX_NO_STEP)
		pack_pair_int(&e.p, "step", mr->step);
	if (mr->commit != WBX_COMMIT_AUTO)
		pack_pair_bool(&e.p, "commit", mr->commit == WBX_COMMIT_YES);
	if (mr->label != NULL)
		pack_pair_text(&e.p, "label", mr->label);
	if (blobs.count != 0)
		emit_blobs_pack(&blobs, &e.p);
	pack_text(&e.p, mr->key); /* the map itself is not copied again */
	map_head(m, head);
	pack_raw(&e.p, (struct span){.at = head, .len = sizeof(head)});
	r = emit_end(&e, buf_span(&m->bytes), NULL);
	emit_blobs_end(&blobs, true); /* emit_end() has seen to them */
	return r;
}

/* Copies whole pairs from the cursor into `part` until the next would make it too big for a record;
 * at least one. */
static int take_pairs(struct mp *from, uint32_t *left, struct wbx_map *part)
{
	wbx_map_clear(part);
	while (*left > 0) {
		struct mp at = *from;
		struct span key;
		struct span value;

		if (mp_take(&at, &key) < 0 || mp_take(&at, &value) < 0)
			return -EINVAL;
		if (part->levels[0].count > 0 && part->bytes.len + key.len + value.len > PART_MAX)
			return 0;
		pack_raw(&part->p, key);
		pack_raw(&part->p, value);
		part->levels[0].count++;
		*from = at;
		--*left;
	}
	return part->bytes.error;
}

/* A map too big for one record goes in several, which the daemon puts together again: parts of one
 * row stay open until the last. */
static int emit_map_in_parts(const struct map_record *mr, const struct wbx_map *m)
{
	struct mp from = mp_of(buf_span(&m->bytes));
	uint32_t left = m->levels[0].count;
	struct wbx_map *part = wbx_map_new();
	int r = part == NULL ? -ENOMEM : 0;

	while (r == 0 && left > 0) {
		struct map_record one = *mr;
		bool is_row = strcmp(mr->kind, "log") == 0;

		r = take_pairs(&from, &left, part);
		if (is_row && left > 0)
			one.commit = WBX_COMMIT_NO;
		else if (is_row && mr->commit == WBX_COMMIT_AUTO && mr->step == WBX_NO_STEP)
			one.commit = WBX_COMMIT_YES;
		if (r == 0)
			r = emit_map(&one, part);
	}
	wbx_map_free(part);
	return r;
}

/* Does each pair find a record that it fits into? Asked before the first goes out. */
static int check_pairs(const struct wbx_map *m)
{
	struct mp at = mp_of(buf_span(&m->bytes));

	if (m->bytes.len <= PART_MAX)
		return 0;
	if (m->table_count > 0)
		return -EMSGSIZE;
	for (uint32_t left = m->levels[0].count; left > 0; left--) {
		struct span key;
		struct span value;

		if (mp_take(&at, &key) < 0 || mp_take(&at, &value) < 0)
			return -EINVAL;
		if (key.len + value.len > PART_MAX)
			return -EMSGSIZE;
	}
	return 0;
}

int emit_check_map(const struct wbx_map *m)
{
	int r = m->levels[0].is_list ? -EINVAL : map_check(m);

	return r < 0 ? r : check_pairs(m);
}

static int log_map(const struct map_record *mr, const struct wbx_map *m)
{
	int r = mr->run == NULL || m == NULL ? -EINVAL : emit_check_map(m);

	if (r < 0)
		return r;
	return m->bytes.len <= PART_MAX ? emit_map(mr, m) : emit_map_in_parts(mr, m);
}

int wbx_log(struct wbx_run *run, const struct wbx_map *values, int64_t step, enum wbx_commit commit)
{
	const struct map_record mr = {
		.run = run, .kind = "log", .key = "data", .step = step, .commit = commit};

	return log_map(&mr, values);
}

int wbx_summary(struct wbx_run *run, const struct wbx_map *values)
{
	const struct map_record mr = {
		.run = run, .kind = "summary", .key = "data", .step = WBX_NO_STEP};

	return log_map(&mr, values);
}

int wbx_config(struct wbx_run *run, const struct wbx_map *values)
{
	const struct map_record mr = {
		.run = run, .kind = "config", .key = "data", .step = WBX_NO_STEP};

	return values == NULL || values->table_count == 0 ? log_map(&mr, values)
							  : -EINVAL; /* its records name no blobs */
}

int wbx_system(struct wbx_run *run, const struct wbx_map *values)
{
	const struct map_record mr = {
		.run = run,
		.kind = "stats",
		.key = "data",
		.label = run == NULL ? NULL : run->label,
		.step = WBX_NO_STEP,
	};

	return values == NULL || values->table_count == 0 ? log_map(&mr, values)
							  : -EINVAL; /* its records name no blobs */
}
