/* See side.h: lines, and what became of them. Records become lines in side_take.c. */
#include "daemon/forward/models/side_parts.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>

enum {
	SIDE_VERSION = 1, /* of the stored state; raise it when an older wbx would misread it */
	STATE_BYTES_MAX = 16 << 20,
	TEXT_BYTES_MAX = 8 * RECORD_MAX, /* a record's text, escaped */
};

void side_init(struct side *s, int64_t run)
{
	*s = (struct side){.run = run};
	buf_init(&s->text, TEXT_BYTES_MAX);
}

void side_done(struct side *s)
{
	console_done(&s->console);
	for (size_t i = 0; i < s->alert_count; i++)
		buf_done(&s->alerts[i].title);
	s->alert_count = 0;
	buf_done(&s->text);
}

const char *side_what(enum side_file file)
{
	static const char *const names[SIDE_FILES] = {"output", "event", "alert"};

	return names[file];
}

bool side_has_lines(const struct side *s)
{
	return s->unsent[SIDE_CONSOLE].count > 0 || s->unsent[SIDE_EVENTS].count > 0;
}

bool side_waits(const struct side *s)
{
	return side_has_lines(s) || s->unsent[SIDE_ALERTS].count > 0;
}

bool side_has_orphans(const struct side *s, const struct rows *present)
{
	for (size_t i = 0; i < s->console.count; i++) {
		if (!rows_has(present, s->console.lines[i].producer))
			return true;
	}
	return false;
}

void side_begin(struct side *s)
{
	assert(!side_waits(s));
	s->lines = 0;
	s->line_bytes = 0;
	s->has_ended_lines = false;
	s->touched = false;
}

/* --- lines --- */

int side_add_line(struct side *s, struct changes *changes, enum side_file file, int64_t offset)
{
	const struct change c = {
		.kind = CHANGE_SIDE_ADD,
		.run = s->run,
		.file = file,
		.offset = offset,
		.text = buf_span(&s->text),
	};
	struct side_count *unsent = &s->unsent[file];

	if (s->text.error != 0)
		return s->text.error;
	if (unsent->count == 0)
		unsent->first = offset;
	assert(offset == unsent->first + unsent->count);
	unsent->count++;
	s->lines++;
	s->line_bytes += s->text.len;
	s->touched = true;
	changes_add(changes, &c);
	return changes->error;
}

int side_end_line(struct side *s, struct changes *changes, size_t line)
{
	int r;

	buf_clear(&s->text);
	console_line_text(&s->console.lines[line], s->is_structured, &s->text);
	r = side_add_line(s, changes, SIDE_CONSOLE, s->next[SIDE_CONSOLE]);
	if (r < 0)
		return r;
	console_drop(&s->console, line);
	s->next[SIDE_CONSOLE]++;
	s->has_ended_lines = true;
	return 0;
}

int side_end_orphans(struct side *s, struct changes *changes, const struct rows *present)
{
	size_t i = 0;

	while (i < s->console.count) {
		int r;

		if (rows_has(present, s->console.lines[i].producer)) {
			i++;
			continue;
		}
		r = side_end_line(s, changes, i);
		if (r < 0)
			return r;
	}
	return 0;
}

/* From the first that differs on: what goes out is one block. */
static int show_open_lines(struct side *s, struct changes *changes)
{
	struct console *c = &s->console;
	size_t i = 0;

	while (!s->has_ended_lines && i < c->count && !c->lines[i].is_changed)
		i++;
	for (; i < c->count; i++) {
		int r;

		buf_clear(&s->text);
		console_line_text(&c->lines[i], s->is_structured, &s->text);
		r = side_add_line(s, changes, SIDE_CONSOLE, s->next[SIDE_CONSOLE] + (int64_t)i);
		if (r < 0)
			return r;
		c->lines[i].is_changed = false;
	}
	s->shown = (int64_t)c->count;
	return 0;
}

/* --- state --- */

static void pack_state(const struct side *s, struct pack *p)
{
	pack_map(p, 9);
	pack_pair_uint(p, "v", SIDE_VERSION);
	pack_pair_uint(p, "into", s->into);
	pack_pair_int(p, "shown", s->shown);
	pack_pair_int(p, "held_back", s->held_back);
	pack_pair_int(p, "records", s->records);
	pack_pair_int(p, "bytes", s->bytes);
	pack_text(p, "next");
	pack_array(p, SIDE_FILES);
	for (unsigned i = 0; i < SIDE_FILES; i++)
		pack_int(p, s->next[i]);
	pack_text(p, "console");
	console_to_msgpack(&s->console, p);
	pack_text(p, "alerts");
	pack_array(p, s->alert_count * 2);
	for (size_t i = 0; i < s->alert_count; i++) {
		pack_bin(p, buf_span(&s->alerts[i].title));
		pack_int(p, s->alerts[i].time_us);
	}
}

static void save(struct side *s, struct changes *changes)
{
	struct change c = {.kind = CHANGE_SIDE_STATE, .run = s->run};
	struct buf state;
	struct pack p;

	buf_init(&state, STATE_BYTES_MAX);
	pack_init(&p, &state);
	pack_state(s, &p);
	c.text = buf_span(&state);
	if (state.error != 0)
		changes->error = state.error;
	else
		changes_add(changes, &c);
	buf_done(&state);
}

static void confirm(struct side *s, struct changes *changes)
{
	const struct change c = {
		.kind = CHANGE_CONFIRM,
		.stream = stream_of(s->run, CLASS_REST),
		.lsn = s->cursor,
		.records = s->records,
		.bytes = s->bytes,
	};

	if (side_waits(s))
		return;
	changes_add(changes, &c);
	s->records = s->bytes = 0;
}

int side_end(struct side *s, struct changes *changes)
{
	const struct change c = {
		.kind = CHANGE_CURSOR,
		.stream = stream_of(s->run, CLASS_REST),
		.lsn = s->cursor,
	};
	int r = show_open_lines(s, changes);

	if (r < 0)
		return r;
	changes_add(changes, &c);
	confirm(s, changes);
	save(s, changes);
	return changes->error;
}

static int read_next(struct side *s, struct mp map)
{
	struct mp_value v;
	struct span list;
	struct mp at;

	if (mp_find_span(map, "next", &list) < 0)
		return -EBADMSG;
	at = mp_of(list);
	if (mp_read(&at, &v) < 0 || v.type != MP_ARRAY || v.count != SIDE_FILES)
		return -EBADMSG;
	for (unsigned i = 0; i < SIDE_FILES; i++) {
		if (mp_read(&at, &v) < 0 || !mp_to_int64(&v, &s->next[i]) || s->next[i] < 0)
			return -EBADMSG;
	}
	return 0;
}

static int read_alerts(struct side *s, struct mp map)
{
	struct mp_value v;
	struct span list;
	uint32_t count;
	struct mp at;

	if (mp_find_span(map, "alerts", &list) < 0)
		return -EBADMSG;
	at = mp_of(list);
	if (mp_read(&at, &v) < 0 || v.type != MP_ARRAY || v.count > 2 * SIDE_ALERTS_MAX)
		return -EBADMSG;
	count = v.count / 2;
	for (uint32_t i = 0; i < count; i++) {
		struct span title;
		int64_t time_us;
		int r;

		if (mp_read(&at, &v) < 0 || v.type != MP_BIN)
			return -EBADMSG;
		title = v.bytes;
		if (mp_read(&at, &v) < 0 || !mp_to_int64(&v, &time_us))
			return -EBADMSG;
		r = side_note_alert(s, title, time_us);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_state(struct side *s, struct mp map)
{
	struct span console;
	int r;

	if (mp_get_uint(map, "v", 0) > SIDE_VERSION)
		return -EPROTO;
	if (mp_find_span(map, "console", &console) < 0)
		return -EBADMSG;
	s->into = mp_get_uint(map, "into", 0);
	s->shown = mp_get_int(map, "shown", 0);
	s->held_back = mp_get_int(map, "held_back", 0);
	s->records = mp_get_int(map, "records", 0);
	s->bytes = mp_get_int(map, "bytes", 0);
	r = read_next(s, map);
	if (r == 0)
		r = console_from_msgpack(&s->console, mp_of(console));
	return r == 0 ? read_alerts(s, map) : r;
}

int side_load(struct side *s, struct reader *reader)
{
	struct stream_info stream = {0};
	struct buf state;
	int r = reader_stream(reader, stream_of(s->run, CLASS_REST), &stream);

	if (r == 0)
		r = reader_side_counts(reader, s->run, s->unsent);
	if (r < 0)
		return r;
	s->cursor = stream.planned_lsn;
	buf_init(&state, STATE_BYTES_MAX);
	r = reader_side(reader, s->run, &state);
	if (r == 0)
		r = read_state(s, mp_of(buf_span(&state)));
	buf_done(&state);
	return r == -ENOENT ? 0 : r;
}

/* --- marks --- */

void side_sent(struct side *s, struct changes *changes, const int64_t counts[SIDE_FILES])
{
	for (unsigned i = 0; i < SIDE_FILES; i++) {
		struct side_count *unsent = &s->unsent[i];
		struct change c = {.kind = CHANGE_SIDE_DONE, .run = s->run, .file = i};

		if (counts[i] == 0)
			continue;
		assert(counts[i] <= unsent->count);
		unsent->first += counts[i];
		unsent->count -= counts[i];
		c.offset = unsent->first;
		changes_add(changes, &c);
	}
	confirm(s, changes);
	save(s, changes);
}

void side_drop(struct side *s, struct changes *changes, enum side_file file)
{
	struct side_count *unsent = &s->unsent[file];
	const struct change c = {
		.kind = CHANGE_SIDE_DROP, .run = s->run, .file = file, .offset = unsent->first};

	assert(unsent->count > 0);
	changes_add(changes, &c);
	if (unsent->first < s->next[file]) {
		s->next[file]--;
	} else { /* one that has not ended: not to be planned again */
		size_t line = (size_t)(unsent->first - s->next[file]);

		if (line < s->console.count)
			console_drop(&s->console, line);
		s->shown--;
	}
	unsent->count--;
	confirm(s, changes);
	save(s, changes);
}

/* Lines that stay where they are, among those of somebody else, begin anew. */
static void leave_open_lines(struct side *s, int64_t next)
{
	s->next[SIDE_CONSOLE] = next;
	s->shown = s->unsent[SIDE_CONSOLE].count;
	for (size_t i = 0; i < s->console.count; i++)
		s->console.lines[i].is_changed = true;
}

bool side_follow(struct side *s, struct changes *changes, enum side_file file, int64_t count,
		 bool is_new)
{
	struct side_count *unsent = &s->unsent[file];
	int64_t end = s->next[file] + (file == SIDE_CONSOLE ? s->shown : 0);
	int64_t done = unsent->count > 0 ? unsent->first : end;
	struct change c = {
		.kind = CHANGE_SIDE_MOVE, .run = s->run, .file = file, .number = count - done};

	if ((count >= done && count <= end) || (count < done && !is_new))
		return false; /* ours; a count may also be behind its lines */
	if (unsent->count > 0)
		changes_add(changes, &c);
	unsent->first += c.number;
	s->next[file] += c.number;
	if (file == SIDE_CONSOLE && (unsent->count == 0 || unsent->first > s->next[file]))
		leave_open_lines(s, count);
	save(s, changes);
	return true;
}
