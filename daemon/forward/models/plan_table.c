/* See plan_row.h: a table in a row becomes the value of its run file, which is sent later. */
#include "daemon/forward/models/plan_row.h"

#include "proto/base/mem.h"
#include "proto/base/rng.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct span row_text_leaf(const struct tree *t, const struct node *parent, const char *key,
			  enum mp_type type)
{
	const struct node *leaf = tree_child(t, parent, span_of_text(key));
	struct mp_value v;
	struct mp at;

	if (leaf == NULL || !leaf->is_leaf)
		return (struct span){.at = NULL};
	at = mp_of(buf_span(&leaf->value));
	return mp_read(&at, &v) == 0 && v.type == type ? v.bytes : (struct span){.at = NULL};
}

/* The first branch, or the next after `after`, that is a table with its bytes in a blob. */
static struct node *find_table(const struct tree *t, const struct node *after)
{
	const struct node *n = after == NULL ? NULL : after->last;

	while (n != NULL && !n->is_leaf)
		n = n->last;
	for (n = tree_next_leaf(t, n); n != NULL; n = tree_next_leaf(t, n)) {
		if (n->parent != NULL && span_is(node_key(n), "_type") &&
		    span_is(row_text_leaf(t, n->parent, "_type", MP_STR), "table") &&
		    row_text_leaf(t, n->parent, "blob", MP_BIN).len == DIGEST_BYTES)
			return n->parent;
	}
	return NULL;
}

static const struct plan_table *known_table(const struct plan *p, struct span blob)
{
	assert(blob.at != NULL); /* find_table() saw to it */
	for (size_t i = 0; i < p->table_count; i++) {
		if (memcmp(p->tables[i].blob, blob.at, DIGEST_BYTES) == 0)
			return &p->tables[i];
	}
	return NULL;
}

void row_add_path_key(struct buf *path, struct span key)
{
	size_t at = 0;

	while (at < key.len && key.at[at] == '/')
		at++;
	while (at < key.len) {
		const uint8_t *slash = memchr(key.at + at, '/', key.len - at);
		size_t len = slash == NULL ? key.len - at : (size_t)(slash - (key.at + at));
		struct span folder = {.at = key.at + at, .len = len};

		if (len == 0 || span_is(folder, ".") || span_is(folder, ".."))
			(void)buf_add_byte(path, '_');
		else
			(void)buf_add(path, folder.at, folder.len); /* the buf remembers */
		at += len;
		if (at < key.len) {
			(void)buf_add_byte(path, '/');
			at++;
		}
	}
}

/* --- the same table again --- */

static void copy_text(char *ret, size_t size, struct span text)
{
	(void)snprintf(ret, size, "%.*s", (int)text.len, (const char *)text.at); /* fits */
}

static int take_names(void *arg, const struct sent_file *f)
{
	struct row_file *n = arg;

	(void)buf_add(&n->path, f->path.at, f->path.len); /* the buf remembers */
	copy_text(n->client_id, sizeof(n->client_id), f->client_id);
	copy_text(n->sequence_id, sizeof(n->sequence_id), f->sequence_client_id);
	return n->path.error;
}

/* Tables of the plan under way: the store does not have them yet. */
static const struct change_upload *find_in_plan(const struct making *m, struct span key,
						struct span blob)
{
	for (size_t i = 0; i < m->changes->count; i++) {
		const struct change *c = &m->changes->items[i];

		if (c->kind == CHANGE_UPLOAD_ADD && span_equal(c->upload.key, key) &&
		    span_equal(c->upload.blob, blob))
			return &c->upload;
	}
	return NULL;
}

int row_find_file(struct row_file *n, const struct making *m, struct span key, struct span blob)
{
	const struct change_upload *u = find_in_plan(m, key, blob);
	struct sent_file f;
	int r;

	if (u == NULL) {
		r = reader_sent_file(m->reader, m->plan->run, key, blob, take_names, n);
		return r == -ENOENT ? 0 : r < 0 ? r : 1;
	}
	f = (struct sent_file){.path = u->path,
			       .client_id = u->client_id,
			       .sequence_client_id = u->sequence_client_id};
	r = take_names(n, &f);
	return r < 0 ? r : 1;
}

/* Names that a retry must use again: they are stored with the row (research: wire/wandb-models 6).
 */
static int name_table(struct row_file *n, const struct making *m, struct span key,
		      const struct plan_table *table)
{
	int r = rng_base36(n->client_id, ARTIFACT_CLIENT_ID_CHARS);

	if (r == 0)
		r = rng_base36(n->sequence_id, ARTIFACT_CLIENT_ID_CHARS);
	(void)buf_add_text(&n->path, "media/table/");
	row_add_path_key(&n->path, key);
	(void)buf_printf(&n->path, "_%lld_%.*s.table.json", (long long)m->row->step,
			 MEDIA_SHA_CHARS, table->sha256);
	return r < 0 ? r : n->path.error;
}

static void pack_url(struct pack *p, const char *name, const char *id, const char *alias,
		     struct span key)
{
	struct buf url;

	buf_init(&url, 4096);
	(void)buf_printf(&url, "wandb-client-artifact://%s%s/%.*s.table.json", id, alias,
			 (int)key.len, (const char *)key.at); /* the buf remembers */
	if (url.error == 0)
		pack_pair_str(p, name, buf_span(&url));
	else if (p->out->error == 0)
		p->out->error = url.error;
	buf_done(&url);
}

/* The value that stands in the history: where the table's file will be. */
struct table_file_value {
	struct span key;
	struct span log_mode;
	const struct plan_table *table;
	bool has_artifact;
};

static int table_value(struct buf *ret, const struct row_file *n, const struct table_file_value *v)
{
	const struct plan_table *table = v->table;
	struct span log_mode = v->log_mode;
	struct span key = v->key;
	bool has_artifact = v->has_artifact;
	struct pack p;

	pack_init(&p, ret);
	pack_map(&p, has_artifact ? 9 : 7);
	pack_pair_text(&p, "_type", "table-file");
	pack_pair_str(&p, "path", buf_span(&n->path));
	pack_pair_text(&p, "sha256", table->sha256);
	pack_pair_int(&p, "size", table->size);
	pack_pair_uint(&p, "ncols", table->columns);
	pack_pair_uint(&p, "nrows", table->rows);
	pack_pair_str(&p, "log_mode", log_mode.len > 0 ? log_mode : SPAN_LITERAL("IMMUTABLE"));
	if (has_artifact) {
		pack_url(&p, "artifact_path", n->client_id, "", key);
		pack_url(&p, "_latest_artifact_path", n->sequence_id, ":latest", key);
	}
	return ret->error;
}

static void add_upload(const struct making *m, const struct row_file *n, struct span key,
		       const struct plan_table *table)
{
	const struct change c = {
		.kind = CHANGE_UPLOAD_ADD,
		.run = m->plan->run,
		.lsn = m->lsn,
		.step = m->row->step,
		.time_us = m->newest_us,
		.upload =
			{
				.kind = UPLOAD_TABLE,
				.key = key,
				.path = buf_span(&n->path),
				.sha256 = span_of_text(table->sha256),
				.size = table->size,
				.client_id = span_of_text(n->client_id),
				.sequence_client_id = span_of_text(n->sequence_id),
				.blob = {.at = table->blob, .len = DIGEST_BYTES},
			},
	};

	changes_add(m->changes, &c);
}

static int add_artifact(const struct making *m, const struct row_file *n, struct span key,
			const struct plan_table *table)
{
	const struct plan *p = m->plan;
	const struct artifact_table t = {
		.run = p->run,
		.run_name = p->run_name,
		.lsn = m->lsn,
		.time_us = m->newest_us,
		.step = m->row->step,
		.key = key,
		.blob = {.at = table->blob, .len = DIGEST_BYTES},
		.client_id = n->client_id,
		.sequence_client_id = n->sequence_id,
		.is_held = p->table_artifacts == TABLE_ARTIFACTS_LAST,
	};

	return p->run_name[0] == '\0' || p->table_artifacts == TABLE_ARTIFACTS_NEVER
		       ? 0
		       : artifact_of_table(m->changes, &t);
}

/* Whether the settings let it go. *ret: 0, -errno. */
static bool goes(const struct making *m, struct span key, const struct plan_table *table, int *ret)
{
	const struct send_tables_rule *rule = m->plan->send_tables;
	char digits[9] = "";
	int64_t nth = 0;

	*ret = 0;
	if (rule == NULL || rule->what == SEND_AUTO || rule->what == SEND_ALL)
		return true;
	if (rule->what == SEND_EVERY)
		*ret = reader_uploads_of_key(m->reader, m->plan->run, key, &nth);
	for (size_t i = 0; i < m->changes->count; i++) {
		const struct change *c = &m->changes->items[i];

		nth += c->kind == CHANGE_UPLOAD_ADD && span_equal(c->upload.key, key);
	}
	memcpy(digits, table->sha256, sizeof(digits) - 1);
	return *ret == 0 && send_tables_goes(rule, nth, (uint32_t)strtoul(digits, NULL, 16));
}

/* It stays here, and is counted; the row goes without it. */
static void hold(const struct making *m, struct span key, const struct plan_table *table)
{
	const struct change c = {
		.kind = CHANGE_UPLOAD_ADD,
		.run = m->plan->run,
		.lsn = m->lsn,
		.step = m->row->step,
		.time_us = m->newest_us,
		.upload =
			{
				.kind = UPLOAD_TABLE,
				.state = UPLOAD_HELD,
				.key = key,
				.path = SPAN_LITERAL(""),
				.sha256 = span_of_text(table->sha256),
				.size = table->size,
				.client_id = SPAN_LITERAL(""),
				.sequence_client_id = SPAN_LITERAL(""),
				.blob = SPAN_LITERAL(""), /* kept as long as its record is */
			},
	};

	changes_add(m->changes, &c);
}

/* Puts the file's value in the table's place. */
static int replace_table(struct making *m, struct node *branch, const struct plan_table *table)
{
	struct tree *row = &m->plan->row;
	const struct table_file_value v = {
		.key = node_key(branch),
		.log_mode = row_text_leaf(row, branch, "log_mode", MP_STR),
		.table = table,
		.has_artifact = m->plan->table_artifacts == TABLE_ARTIFACTS_ALWAYS,
	};
	struct row_file names;
	struct buf value;
	struct node *leaf;
	bool is_new;
	int r;

	if (!goes(m, v.key, table, &r)) {
		if (r < 0)
			return r;
		hold(m, v.key, table);
		tree_remove(row, branch);
		return 0;
	}
	buf_init(&names.path, 4096);
	buf_init(&value, 8192);
	r = row_find_file(&names, m, node_key(branch),
			  (struct span){.at = table->blob, .len = DIGEST_BYTES});
	is_new = r == 0;
	if (r == 0)
		r = name_table(&names, m, node_key(branch), table);
	if (r >= 0)
		r = table_value(&value, &names, &v);
	if (r == 0 && is_new) {
		add_upload(m, &names, v.key, table);
		r = add_artifact(m, &names, v.key, table);
	}
	if (r == 0)
		r = tree_leaf(row, branch->parent, node_key(branch), &leaf);
	if (r == 0)
		r = tree_set(leaf, buf_span(&value));
	buf_done(&names.path);
	buf_done(&value);
	return r;
}

/* True when a table of the row is not known yet. */
static bool wants_table(struct making *m)
{
	const struct tree *row = &m->plan->row;
	bool wants = false;

	m->plan->tables_wanted = 0;
	for (const struct node *n = find_table(row, NULL); n != NULL; n = find_table(row, n)) {
		struct span blob = row_text_leaf(row, n, "blob", MP_BIN);

		m->plan->tables_wanted++;
		if (wants || known_table(m->plan, blob) != NULL)
			continue;
		assert(blob.at != NULL); /* as above */
		memcpy(m->ret_blob, blob.at, DIGEST_BYTES);
		wants = true;
	}
	return wants;
}

int row_replace_tables(struct making *m)
{
	struct tree *row = &m->plan->row;
	struct node *branch;

	if (wants_table(m))
		return WANTS_TABLE;
	while ((branch = find_table(row, NULL)) != NULL) {
		struct span blob = row_text_leaf(row, branch, "blob", MP_BIN);
		const struct plan_table *table = known_table(m->plan, blob);
		int r = 0;

		assert(table != NULL); /* wants_table() looked */
		if (table->result == 0) {
			r = replace_table(m, branch, table);
		} else {
			row_add_dead(m, "artifacts", "table", "the table's bytes are not a table",
				     blob);
			tree_remove(row, branch);
		}
		if (r < 0)
			return r;
	}
	return 0;
}
