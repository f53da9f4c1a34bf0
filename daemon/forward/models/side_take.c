/* See side.h: records become lines. */
#include "daemon/forward/models/side_parts.h"
#include "daemon/forward/models/value.h"
#include "proto/base/mem.h"
#include "proto/record.h"

#include <errno.h>
#include <stdio.h>

enum {
	EVENT_KEY_MAX = 2 * KEY_MAX,
};

bool side_is_full(const struct side *s)
{
	return s->lines >= SIDE_LINES_MAX || s->line_bytes >= SIDE_BYTES_MAX;
}

static struct span field_str(const struct record *r, const char *key)
{
	struct span text = mp_get_str(mp_of(r->body), key);

	return text.at == NULL ? SPAN_LITERAL("") : text;
}

/* --- output --- */

/* 1: the plan is full, and some of the text is not in. */
static int take_output(struct side *s, struct changes *changes, int64_t producer,
		       const struct record *r)
{
	const struct console_writer writer = {
		.producer = producer,
		.is_error = span_is(field_str(r, "stream"), "stderr"),
		.label = field_str(r, "label"),
		.time_us = (int64_t)r->time_us,
	};
	struct span text = field_str(r, "text");
	size_t len = text.len;
	size_t line;
	int e;

	if (s->into > len)
		s->into = len;
	text.at += s->into;
	text.len -= s->into;
	while ((e = console_feed(&s->console, &writer, &text, &line)) == 1) {
		e = side_end_line(s, changes, line);
		if (e < 0)
			return e;
		if (side_is_full(s) && text.len > 0) {
			s->into = len - text.len;
			return 1;
		}
	}
	return e;
}

/* --- system metrics --- */

static void begin_event(struct side *s, struct json *j, int64_t time_us)
{
	int64_t runtime_us = s->start_us != 0 && time_us > s->start_us ? time_us - s->start_us : 0;

	buf_clear(&s->text);
	json_init(j, &s->text);
	json_open_object(j);
	json_put_key_text(j, "_wandb");
	json_put_bool(j, true);
	json_put_key_text(j, "_timestamp");
	json_put_double(j, (double)time_us / 1e6);
	json_put_key_text(j, "_runtime");
	json_put_double(j, (double)runtime_us / 1e6);
}

static int end_event(struct side *s, struct changes *changes, struct json *j)
{
	int r;

	json_close_object(j);
	r = side_add_line(s, changes, SIDE_EVENTS, s->next[SIDE_EVENTS]);
	if (r == 0)
		s->next[SIDE_EVENTS]++;
	return r;
}

/* Pairs of maps inside maps, under keys with points between. */
struct event_map {
	struct mp at;
	uint32_t left;
	size_t key_len; /* of what stands before its keys */
};

static int put_event_value(struct json *j, struct buf *key, struct span label, struct mp *at)
{
	size_t len = key->len;
	int r;

	if (label.len > 0) {
		(void)buf_add_text(key, "/l:"); /* the buf remembers */
		(void)buf_add(key, label.at, label.len);
	}
	json_put_key(j, buf_span(key));
	key->len = len;
	r = value_to_json(j, at, VALUE_HISTORY);
	return r < 0 ? r : key->error;
}

static int put_event_pairs(struct json *j, struct buf *key, struct span label, struct mp data)
{
	struct event_map maps[RECORD_DEPTH_MAX];
	unsigned depth = 0;
	struct mp_value v;

	if (mp_read(&data, &v) < 0 || v.type != MP_MAP)
		return -EBADMSG;
	maps[0] = (struct event_map){.at = data, .left = v.count, .key_len = key->len};
	for (;;) {
		struct event_map *m = &maps[depth];
		char room[JSON_DOUBLE_MAX];
		struct span name;
		struct mp inside;
		int r;

		if (m->left == 0 && depth == 0)
			return 0;
		if (m->left == 0) { /* the one around it goes on behind */
			maps[depth - 1].at = m->at;
			depth--;
			continue;
		}
		m->left--;
		key->len = m->key_len;
		r = value_take_key(&m->at, room, &name);
		if (r == 0)
			r = buf_add(key, name.at, name.len);
		if (r < 0)
			return r;
		inside = m->at;
		if (mp_read(&inside, &v) < 0)
			return -EBADMSG;
		if (v.type != MP_MAP || depth + 1 == RECORD_DEPTH_MAX) {
			r = put_event_value(j, key, label, &m->at);
		} else {
			r = buf_add_byte(key, '.');
			maps[++depth] = (struct event_map){
				.at = inside, .left = v.count, .key_len = key->len};
		}
		if (r < 0)
			return r;
	}
}

static int take_stats(struct side *s, struct changes *changes, const struct record *r)
{
	struct span data;
	struct buf key;
	struct json j;
	int e;

	if (mp_find_span(mp_of(r->body), "data", &data) < 0)
		return 0;
	begin_event(s, &j, (int64_t)r->time_us);
	buf_init(&key, RECORD_DEPTH_MAX * (KEY_MAX + 1) + RECORD_MAX);
	(void)buf_add_text(&key, "system."); /* it remembers */
	e = put_event_pairs(&j, &key, field_str(r, "label"), mp_of(data));
	buf_done(&key);
	if (e == -EBADMSG || e == -EMSGSIZE || s->text.error == -EMSGSIZE) {
		changes_add_dead_record(changes, "models", s->run, (int64_t)r->time_us, r->payload,
					"what the record holds cannot be sent");
		return changes->error;
	}
	return e < 0 ? e : end_event(s, changes, &j);
}

static void put_report_key(struct json *j, const char *name, const char *label)
{
	char key[64 + NAME_MAX_BYTES];

	(void)snprintf(key, sizeof(key), "system.wbx/%s%s%s", name, label != NULL ? "/l:" : "",
		       label != NULL ? label : ""); /* fits */
	json_put_key_text(j, key);
}

int side_add_report(struct side *s, struct changes *changes, const struct side_report *report)
{
	struct json j;

	begin_event(s, &j, report->time_us);
	put_report_key(&j, "lag_s", report->label);
	json_put_double(&j, report->lag_s);
	put_report_key(&j, "waiting_bytes", report->label);
	json_put_int(&j, report->waiting_bytes);
	return end_event(s, changes, &j);
}

/* --- alerts --- */

int side_note_alert(struct side *s, struct span title, int64_t time_us)
{
	struct side_alert *a = s->alerts;

	if (s->alert_count < SIDE_ALERTS_MAX) {
		a += s->alert_count++;
	} else { /* the one raised first makes room */
		for (size_t i = 1; i < SIDE_ALERTS_MAX; i++)
			a = s->alerts[i].time_us < a->time_us ? &s->alerts[i] : a;
		buf_done(&a->title);
	}
	a->time_us = time_us;
	buf_init(&a->title, SIDE_TITLE_MAX);
	return buf_add(&a->title, title.at, title.len);
}

/* True when one of that title was raised within the wait. Else the next has to wait for this one. */
static bool is_repeated(struct side *s, struct span title, int64_t time_us, uint64_t wait_ms,
			int *ret_error)
{
	for (size_t i = 0; i < s->alert_count; i++) {
		struct side_alert *a = &s->alerts[i];
		int64_t since_us = time_us - a->time_us; /* below 0: clocks differ */

		if (!span_equal(buf_span(&a->title), title))
			continue;
		if ((uint64_t)(since_us < 0 ? -since_us : since_us) / 1000 < wait_ms)
			return true;
		a->time_us = time_us;
		return false;
	}
	*ret_error = title.len <= SIDE_TITLE_MAX ? side_note_alert(s, title, time_us) : 0;
	return false;
}

/* As W&B calls it; NULL: it knows no such level. */
static const char *severity_of(struct span level)
{
	static const char *const levels[] = {"INFO", "WARN", "ERROR"};

	for (unsigned i = 0; i < 3; i++) {
		if (span_is(level, levels[i]))
			return levels[i];
	}
	return level.len == 0 ? levels[0] : NULL;
}

/* Its text is what stands between the braces of the request's variables. */
static int take_alert(struct side *s, struct changes *changes, const struct record *r)
{
	struct span title = field_str(r, "title");
	const char *severity = severity_of(field_str(r, "level"));
	uint64_t wait_ms = mp_get_uint(mp_of(r->body), "wait_ms", 0);
	struct json j;
	int e = 0;

	if (severity == NULL) {
		changes_add_dead_record(changes, "models", s->run, (int64_t)r->time_us, r->payload,
					"the level of an alert is INFO, WARN or ERROR");
		return changes->error;
	}
	if (is_repeated(s, title, (int64_t)r->time_us, wait_ms, &e)) {
		s->held_back++;
		return 0;
	}
	if (e < 0)
		return e;
	buf_clear(&s->text);
	json_init(&j, &s->text);
	json_put_key_text(&j, "title");
	json_put_string(&j, title);
	json_put_key_text(&j, "text");
	json_put_string(&j, field_str(r, "text"));
	json_put_key_text(&j, "severity");
	json_put_text(&j, severity);
	json_put_key_text(&j, "wait");
	json_put_uint(&j, wait_ms);
	e = side_add_line(s, changes, SIDE_ALERTS, s->next[SIDE_ALERTS]);
	if (e == 0)
		s->next[SIDE_ALERTS]++;
	return e;
}

/* --- records --- */

int side_take(struct side *s, struct changes *changes, const struct stored_record *record)
{
	struct record r;
	struct record_fault fault;
	int e = 0;

	if (side_is_full(s))
		return 0;
	s->touched = true;
	/* it was checked when it came: what is none, a daemon that takes more wrote */
	if (record_parse_stored(record->payload, &r, &fault) == 0) {
		if (r.kind == KIND_OUTPUT)
			e = take_output(s, changes, record->producer, &r);
		else if (r.kind == KIND_STATS)
			e = take_stats(s, changes, &r);
		else if (r.kind == KIND_ALERT)
			e = take_alert(s, changes, &r);
	}
	if (e != 0)
		return e < 0 ? e : 0;
	s->cursor = record->lsn;
	s->into = 0;
	s->records++;
	s->bytes += (int64_t)record->payload.len;
	return 0;
}

/* --- dead letters --- */

static unsigned file_of(const struct dead_info *dead)
{
	unsigned file = 0;

	while (file < SIDE_FILES && !span_is(dead->what, side_what(file)))
		file++;
	return file;
}

bool side_is_letter(const struct dead_info *dead)
{
	return file_of(dead) < SIDE_FILES;
}

int side_revive(struct side *s, struct changes *changes, const struct dead_info *dead)
{
	const struct change drop = {.kind = CHANGE_DEAD_DROP, .number = dead->id};
	unsigned file = file_of(dead);
	int r;

	if (file == SIDE_FILES || side_is_full(s))
		return 0;
	buf_clear(&s->text);
	(void)buf_add(&s->text, dead->body.at, dead->body.len); /* side_add_line() asks */
	r = side_add_line(s, changes, file, s->next[file]);
	if (r < 0)
		return r;
	s->next[file]++;
	s->has_ended_lines |= file == SIDE_CONSOLE;
	changes_add(changes, &drop);
	return changes->error;
}
