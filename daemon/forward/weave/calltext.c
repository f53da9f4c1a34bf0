/* See calltext.h. Rules: research/wire weave 2.3. */
#include "daemon/forward/weave/calltext.h"

#include "daemon/forward/models/value.h"
#include "daemon/forward/weave/ref.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
	DISPLAY_NAME_MAX = 1024, /* characters; bytes are no fewer */
	EXCEPTION_MAX = 256 << 10,
};

void calltext_time(int64_t time_us, char ret[32])
{
	time_t s = (time_t)(time_us / 1000000);
	struct tm tm;
	size_t len;

	(void)gmtime_r(&s, &tm); /* of any year that 64 bits of microseconds reach */
	len = strftime(ret, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(ret + len, 32 - len, ".%06dZ", (int)(time_us % 1000000)); /* fits */
}

static void put_time(struct json *j, const char *key, int64_t time_us)
{
	char text[32];

	calltext_time(time_us, text);
	json_put_key_text(j, key);
	json_put_text(j, text);
}

static void pair_text(struct json *j, const char *key, const char *value)
{
	json_put_key_text(j, key);
	json_put_text(j, value);
}

static void pair_int(struct json *j, const char *key, int64_t value)
{
	json_put_key_text(j, key);
	json_put_int(j, value);
}

/* A text of the record when it has one. */
static void pair_str(struct json *j, const char *key, struct span value, size_t max)
{
	if (value.len == 0)
		return;
	if (value.len > max) {
		value.len = max;
		while (value.len > 0 && (value.at[value.len] & 0xc0) == 0x80)
			value.len--;
	}
	json_put_key_text(j, key);
	json_put_string(j, value);
}

static struct span text_of(struct span body, const char *key)
{
	return body.len == 0 ? (struct span){.at = NULL} : mp_get_str(mp_of(body), key);
}

/* The end's, else the start's. */
static struct span later_text(const struct calltext *c, const char *key)
{
	struct span text = text_of(c->end, key);

	return text.len > 0 ? text : text_of(c->start, key);
}

/* --- attributes --- */

static bool has_key(struct span map, struct span key)
{
	char name[128];
	struct mp_value v;

	if (map.len == 0 || key.len >= sizeof(name))
		return false;
	memcpy(name, key.at, key.len);
	name[key.len] = '\0';
	return mp_find(mp_of(map), name, &v) == 0;
}

/* The map's pairs but for those that `later` has, too, and the one that is named (with what we say of
 * ourselves it is put together elsewhere). */
static int put_pairs(struct json *j, struct span map, struct span later, const char *const *but,
		     struct render *r)
{
	struct mp m = mp_of(map);
	struct mp_value head;

	if (map.len == 0 || mp_read(&m, &head) < 0 || head.type != MP_MAP)
		return 0;
	for (uint32_t i = 0; i < head.count; i++) {
		char room[JSON_DOUBLE_MAX];
		struct span key;
		bool is_out = false;
		int e;

		if (value_take_key(&m, room, &key) < 0)
			return -EBADMSG;
		for (size_t k = 0; but != NULL && but[k] != NULL; k++)
			is_out |= span_is(key, but[k]);
		if (is_out || has_key(later, key)) {
			if (mp_skip(&m, NULL) < 0)
				return -EBADMSG;
			continue;
		}
		json_put_key(j, key);
		if (render_is_secret(key)) {
			r->redacted++;
			json_put_text(j, "REDACTED");
			e = mp_skip(&m, NULL);
		} else {
			e = render_value(j, &m, r);
		}
		if (e < 0)
			return e;
	}
	return 0;
}

/* attributes.weave of a record, when it is a map. */
static struct span own_part(struct span attributes)
{
	struct span part = {.at = NULL};
	struct mp_value v;
	struct mp m;

	if (attributes.len == 0 || mp_find_span(mp_of(attributes), "weave", &part) < 0)
		return (struct span){.at = NULL};
	m = mp_of(part);
	if (mp_read(&m, &v) < 0 || v.type != MP_MAP)
		return (struct span){.at = NULL};
	return part;
}

static bool says(const struct calltext *c, const char *key)
{
	return has_key(c->start_attributes, span_of_text(key)) ||
	       has_key(c->end_attributes, span_of_text(key));
}

static int put_attributes(struct json *j, const struct calltext *c, struct render *r)
{
	static const char *const ours[] = {"client_version", "source", NULL};
	static const char *const weave[] = {"weave", NULL};
	struct span first = own_part(c->start_attributes);
	struct span second = own_part(c->end_attributes);
	int e;

	json_put_key_text(j, "attributes");
	json_open_object(j);
	json_put_key_text(j, "weave");
	json_open_object(j);
	pair_text(j, "client_version", WBX_VERSION);
	pair_text(j, "source", "wbx");
	e = put_pairs(j, first, second, ours, r);
	if (e == 0)
		e = put_pairs(j, second, (struct span){.at = NULL}, ours, r);
	json_close_object(j);
	if (c->step >= 0 && !says(c, "step"))
		pair_int(j, "step", c->step);
	if (c->rank >= 0 && !says(c, "rank"))
		pair_int(j, "rank", c->rank);
	if (e == 0)
		e = put_pairs(j, c->start_attributes, c->end_attributes, weave, r);
	if (e == 0)
		e = put_pairs(j, c->end_attributes, (struct span){.at = NULL}, weave, r);
	json_close_object(j);
	return e;
}

/* --- the rest --- */

static int put_value(struct json *j, const char *key, struct span value, bool is_object,
		     struct render *r)
{
	struct mp m = mp_of(value);
	struct mp_value v;
	struct mp peek = m;

	json_put_key_text(j, key);
	if (is_object && (value.len == 0 || mp_read(&peek, &v) < 0 || v.type != MP_MAP)) {
		json_open_object(j);
		json_close_object(j);
		return 0;
	}
	if (value.len == 0) {
		json_put_null(j);
		return 0;
	}
	if (is_object && span_is(mp_get_str(m, "_type"), "msgpack")) { /* it could not be read */
		int e;

		json_open_object(j);
		json_put_key_text(j, "wbx");
		e = render_value(j, &m, r);
		json_close_object(j);
		return e;
	}
	return render_value(j, &m, r);
}

static void put_project(struct json *j, const struct calltext *c)
{
	char project[2 * NAME_MAX_BYTES + 2];

	(void)snprintf(project, sizeof(project), "%s/%s", c->entity, c->project); /* fits */
	pair_text(j, "project_id", project);
	pair_text(j, "id", c->row->id);
}

static int put_start(struct json *j, const struct calltext *c, struct render *r)
{
	char run[3 * NAME_MAX_BYTES + 4];
	int e;

	put_project(j, c);
	pair_text(j, "trace_id", c->row->trace);
	if (c->row->parent[0] != '\0')
		pair_text(j, "parent_id", c->row->parent);
	pair_text(j, "op_name", c->op);
	pair_str(j, "display_name", later_text(c, "display_name"), DISPLAY_NAME_MAX);
	pair_str(j, "thread_id", later_text(c, "thread_id"), DISPLAY_NAME_MAX);
	pair_str(j, "turn_id", later_text(c, "turn_id"), DISPLAY_NAME_MAX);
	put_time(j, "started_at", c->row->started_us);
	if (c->run[0] != '\0') {
		(void)snprintf(run, sizeof(run), "%s/%s/%s", c->entity, c->project,
			       c->run); /* fits */
		pair_text(j, "wb_run_id", run);
	}
	if (c->step >= 0)
		pair_int(j, "wb_run_step", c->step);
	e = put_attributes(j, c, r);
	return e < 0 ? e : put_value(j, "inputs", c->inputs, true, r);
}

static int put_summary(struct json *j, const struct calltext *c, struct render *r)
{
	static const char *const ours[] = {"usage", "status_counts", "weave", NULL};
	struct span own = {.at = NULL};
	int e;

	json_put_key_text(j, "summary");
	json_open_object(j);
	if (c->usage->count > 0) {
		json_put_key_text(j, "usage");
		usage_to_json(c->usage, j);
	}
	json_put_key_text(j, "status_counts");
	json_open_object(j);
	pair_int(j, "success", c->well);
	pair_int(j, "error", c->errors);
	json_close_object(j);
	if (c->end.len > 0 && mp_find_span(mp_of(c->end), "summary", &own) < 0)
		own.len = 0;
	e = put_pairs(j, own, (struct span){.at = NULL}, ours, r);
	json_close_object(j);
	return e;
}

static int put_end(struct json *j, const struct calltext *c, struct render *r)
{
	struct span exception = text_of(c->end, "exception");
	int64_t ended_us = c->row->ended_us;
	int e;

	if (ended_us < c->row->started_us)
		ended_us = c->row->started_us; /* the clock went back */
	put_time(j, "ended_at", ended_us);
	if (c->exception != NULL)
		pair_text(j, "exception", c->exception);
	else
		pair_str(j, "exception", exception, EXCEPTION_MAX);
	if (c->step_end >= 0)
		pair_int(j, "wb_run_step_end", c->step_end);
	e = put_summary(j, c, r);
	return e < 0 ? e : put_value(j, "output", c->output, false, r);
}

int calltext_whole(struct buf *out, const struct calltext *c, struct render *r)
{
	struct json j;
	int e;

	json_init(&j, out);
	json_open_object(&j);
	e = put_start(&j, c, r);
	if (e == 0)
		e = put_end(&j, c, r);
	json_close_object(&j);
	return e < 0 ? e : out->error;
}

int calltext_start(struct buf *out, const struct calltext *c, struct render *r)
{
	struct json j;
	int e;

	json_init(&j, out);
	json_open_object(&j);
	json_put_key_text(&j, "start");
	json_open_object(&j);
	e = put_start(&j, c, r);
	json_close_object(&j);
	json_close_object(&j);
	return e < 0 ? e : out->error;
}

int calltext_end(struct buf *out, const struct calltext *c, struct render *r)
{
	struct json j;
	int e;

	json_init(&j, out);
	json_open_object(&j);
	json_put_key_text(&j, "end");
	json_open_object(&j);
	put_project(&j, c);
	pair_text(&j, "trace_id", c->row->trace);
	put_time(&j, "started_at", c->row->started_us);
	e = put_end(&j, c, r);
	json_close_object(&j);
	json_close_object(&j);
	return e < 0 ? e : out->error;
}
