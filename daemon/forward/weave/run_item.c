/* See run_parts.h: feedback, objects and costs become lines. */
#include "daemon/base/log.h"
#include "daemon/forward/weave/run_parts.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	ITEM_BYTES_MAX = 8 << 20,
	NOTE_TEXT_MAX = 1000
};

struct item_list {
	struct trace_item *items;
	size_t count;
	size_t cap;
};

/* One of them while its text is written. */
struct item {
	struct weave_run *r;
	const struct trace_item *row;
	struct record record;
	struct buf room;
	struct buf apart;
	struct buf text;
	struct json j;
	struct render render;
};

static void put_project(struct item *i)
{
	char project[2 * NAME_MAX_BYTES + 2];

	(void)snprintf(project, sizeof(project), "%s/%s", run_entity(&i->r->info),
		       run_project(&i->r->info)); /* fits */
	json_put_key_text(&i->j, "project_id");
	json_put_text(&i->j, project);
}

static void pair_str(struct item *i, const char *key, struct span value)
{
	json_put_key_text(&i->j, key);
	json_put_string(&i->j, value);
}

static void pair_ref(struct item *i, const char *key, const char *kind, struct span id)
{
	struct buf ref;

	buf_init(&ref, 4096);
	(void)buf_printf(&ref, "weave:///%s/%s/%s/%.*s", run_entity(&i->r->info),
			 run_project(&i->r->info), kind, (int)id.len, (const char *)id.at);
	pair_str(i, key, buf_span(&ref));
	buf_done(&ref);
}

static int pair_value(struct item *i, const char *key, struct span value)
{
	struct mp m = mp_of(value);

	json_put_key_text(&i->j, key);
	return render_value(&i->j, &m, &i->render);
}

/* The scorer as an op: W&B wants one for what is shown as a score. */
static int put_scorer(struct item *i, struct span type)
{
	static const char runnable[] = "wandb.runnable.";
	struct mp body = mp_of(i->record.body);
	struct span op = mp_get_str(body, "op");
	struct span call = mp_get_str(body, "scorer_call_id");
	char name[REF_NAME_MAX + 1];
	char digest[REF_DIGEST_MAX];
	char id[REF_NAME_MAX + REF_DIGEST_MAX + 2];
	size_t len = sizeof(runnable) - 1;
	int e;

	if (op.len == 0 && type.len > len && memcmp(type.at, runnable, len) == 0)
		op = (struct span){.at = type.at + len, .len = type.len - len};
	if (call.len > 0)
		pair_ref(i, "call_ref", "call", call);
	if (op.len == 0)
		return 0;
	ref_op_name(op, name);
	e = ref_op_digest((struct span){.at = NULL}, digest);
	(void)snprintf(id, sizeof(id), "%s:%s", name, digest); /* fits */
	/* of an op it wants the call, too */
	pair_ref(i, "runnable_ref", call.len > 0 ? "op" : "object", span_of_text(id));
	return e;
}

static int print_feedback(struct item *i)
{
	struct mp body = mp_of(i->record.body);
	struct span type = mp_get_str(body, "type");
	struct span payload;
	int e;

	json_open_object(&i->j);
	put_project(i);
	pair_str(i, "id", mp_get_str(body, "id"));
	pair_ref(i, "weave_ref", "call", mp_get_str(body, "call_id"));
	pair_str(i, "feedback_type", type);
	e = put_scorer(i, type);
	if (e == 0)
		e = mp_find_span(body, "payload", &payload);
	if (e == 0)
		e = pair_value(i, "payload", payload);
	json_close_object(&i->j);
	return e;
}

static void put_price(struct item *i, const char *key)
{
	struct mp_value v;

	json_put_key_text(&i->j, key);
	if (mp_find(mp_of(i->record.body), key, &v) == 0 && mp_is_number(&v))
		json_put_double(&i->j, mp_to_double(&v));
	else
		json_put_uint(&i->j, 0);
}

static int print_cost(struct item *i)
{
	struct mp body = mp_of(i->record.body);
	struct span provider = mp_get_str(body, "provider");

	json_open_object(&i->j);
	put_project(i);
	json_put_key_text(&i->j, "costs");
	json_open_object(&i->j);
	json_put_key(&i->j, mp_get_str(body, "model"));
	json_open_object(&i->j);
	put_price(i, "prompt_token_cost");
	put_price(i, "completion_token_cost");
	pair_str(i, "prompt_token_cost_unit", SPAN_LITERAL("USD"));
	pair_str(i, "completion_token_cost_unit", SPAN_LITERAL("USD"));
	/* of calls that were made before somebody said so, too */
	pair_str(i, "effective_date", SPAN_LITERAL("2020-01-01T00:00:00Z"));
	if (provider.len > 0)
		pair_str(i, "provider_id", provider);
	json_close_object(&i->j);
	json_close_object(&i->j);
	json_close_object(&i->j);
	return 0;
}

static void open_object(struct item *i, const char *name)
{
	json_open_object(&i->j);
	json_put_key_text(&i->j, "obj");
	json_open_object(&i->j);
	put_project(i);
	json_put_key_text(&i->j, "object_id");
	json_put_text(&i->j, name);
	json_put_key_text(&i->j, "val");
	json_open_object(&i->j);
}

static void put_bases(struct item *i, struct span type, bool is_prompt)
{
	pair_str(i, "_type", type);
	pair_str(i, "_class_name", type);
	json_put_key_text(&i->j, "_bases");
	json_open_array(&i->j);
	if (is_prompt)
		json_put_text(&i->j, "Prompt");
	json_put_text(&i->j, "Object");
	json_put_text(&i->j, "BaseModel");
	json_close_array(&i->j);
}

/* The rows of a data set are a table of their own; the object names it by its digest, which the
 * answer tells: run_send.c puts it in the place of the word TABLE. */
static int print_table(struct item *i, struct span rows)
{
	json_open_object(&i->j);
	json_put_key_text(&i->j, "table");
	json_open_object(&i->j);
	put_project(i);
	json_put_key_text(&i->j, "rows");
	{
		struct mp m = mp_of(rows);
		int e = render_value(&i->j, &m, &i->render);

		if (e < 0)
			return e;
	}
	json_close_object(&i->j);
	json_close_object(&i->j);
	return 0;
}

/* What W&B's own client writes of an object of this class. */
static int print_object(struct item *i, struct span data, bool *ret_has_table)
{
	struct mp body = mp_of(i->record.body);
	struct span type = mp_get_str(body, "type");
	bool is_prompt = span_is(type, "StringPrompt") || span_is(type, "MessagesPrompt");
	struct mp m = mp_of(data);
	char name[REF_NAME_MAX + 1];
	struct mp_value head;
	int e = mp_read(&m, &head);

	*ret_has_table = false;
	if (e < 0 || head.type != MP_MAP)
		return -EBADMSG;
	ref_op_name(mp_get_str(body, "name"), name);
	open_object(i, name);
	put_bases(i, type, is_prompt);
	json_put_key_text(&i->j, "name");
	json_put_text(&i->j, name);
	for (uint32_t k = 0; e == 0 && k < head.count; k++) {
		struct mp_value key;

		if (mp_read(&m, &key) < 0 || key.type != MP_STR)
			return -EBADMSG;
		if (span_is(key.bytes, "rows") && span_is(type, "Dataset")) {
			*ret_has_table = true;
			pair_ref(i, "rows", "table", SPAN_LITERAL("TABLE"));
			e = mp_skip(&m, NULL);
		} else if (span_is(key.bytes, "name") || key.bytes.at[0] == '_') {
			e = mp_skip(&m, NULL);
		} else {
			json_put_key(&i->j, key.bytes);
			e = render_value(&i->j, &m, &i->render);
		}
	}
	json_close_object(&i->j);
	json_close_object(&i->j);
	json_close_object(&i->j);
	return e;
}

static void add_line(struct item *i, enum trace_line_kind kind, bool is_last)
{
	struct change line = {
		.kind = CHANGE_TRACE_LINE,
		.run = i->r->id,
		.line_kind = kind,
		.lsn = i->row->lsn,
		.text = buf_span(&i->text),
	};

	if (is_last)
		line.share = i->row->share;
	changes_add(i->r->changes, &line);
	i->r->planned_calls++;
	i->r->planned_bytes += i->text.len;
}

/* An object, and before it the table that it names. */
static int add_object(struct item *i)
{
	struct span data;
	struct span rows;
	bool has_table;
	int e = mp_find_span(mp_of(i->record.body), "data", &data);

	if (e == 0)
		e = weave_resolve(i->r, data, &i->apart, &data);
	if (e == 0 && span_is(mp_get_str(mp_of(i->record.body), "type"), "Dataset") &&
	    mp_find_span(mp_of(data), "rows", &rows) == 0) {
		e = print_table(i, rows);
		if (e == 0)
			e = i->text.error;
		if (e == 0)
			add_line(i, TRACE_TABLE, false);
		buf_clear(&i->text);
		json_init(&i->j, &i->text);
	}
	if (e == 0)
		e = print_object(i, data, &has_table);
	if (e == 0)
		e = i->text.error;
	if (e == 0)
		add_line(i, TRACE_OBJECT, true);
	return e;
}

static int add_item(struct item *i)
{
	int e;

	switch ((int)i->record.kind) {
	case KIND_OBJECT: return add_object(i);
	case KIND_COST: e = print_cost(i); break;
	default: e = print_feedback(i); break;
	}
	if (e == 0)
		e = i->text.error;
	if (e == 0)
		add_line(i, i->record.kind == KIND_COST ? TRACE_COST : TRACE_FEEDBACK, true);
	return e;
}

static int plan_item(struct weave_run *r, const struct trace_item *row)
{
	const struct change done = {.kind = CHANGE_TRACE_ITEM_DONE, .run = r->id, .lsn = row->lsn};
	struct item i = {.r = r, .row = row};
	int e;

	buf_init(&i.room, RECORD_MAX);
	buf_init(&i.apart, WEAVE_BLOB_MAX);
	buf_init(&i.text, ITEM_BYTES_MAX);
	json_init(&i.j, &i.text);
	i.render = (struct render){.text_max = 256 << 10, .read = weave_read_blob, .arg = r};
	e = weave_read_body(r, row->lsn, &i.room, &i.record);
	if (e == 0)
		e = add_item(&i);
	if (e == -ENOENT || e == -EBADMSG || e == -EMSGSIZE) {
		const struct change confirm = {
			.kind = CHANGE_CONFIRM,
			.stream = stream_of(r->id, CLASS_TRACES),
			.records = row->share.records,
			.bytes = row->share.bytes,
			.blobs = row->share.blobs,
			.blob_bytes = row->share.blob_bytes,
		};

		weave_add_dead(r, 0, "trace record",
			       e == -EMSGSIZE ? "it is longer than W&B takes" : "it cannot be read",
			       SPAN_LITERAL(""), SPAN_LITERAL(""), buf_span(&i.room));
		changes_add(r->changes, &confirm);
		e = 0;
	}
	changes_add(r->changes, &done);
	buf_done(&i.room);
	buf_done(&i.apart);
	buf_done(&i.text);
	return e;
}

static int on_item(void *arg, const struct trace_item *item)
{
	struct item_list *l = arg;

	if (mem_room(l->items, l->count, l->cap) < 0)
		return -ENOMEM;
	l->items[l->count++] = *item;
	return 0;
}

int weave_plan_items(struct weave_run *r)
{
	struct item_list l = {.count = 0};
	int e = reader_trace_items(r->host->reader, r->id, 0, on_item, &l);

	for (size_t i = 0; e == 0 && i < l.count && r->planned_calls < WEAVE_BODY_CALLS_MAX &&
			   r->planned_bytes < r->target;
	     i++)
		e = plan_item(r, &l.items[i]);
	(void)mem_free(l.items);
	return e;
}
