/* See artifact_take.h. */
#include "daemon/forward/models/artifact_take.h"

#include "daemon/base/log.h"
#include "daemon/forward/models/manifest.h"
#include "daemon/forward/models/value.h"
#include "proto/base/mem.h"
#include "proto/base/rng.h"
#include "proto/pack.h"

#include <errno.h>
#include <stdio.h>

enum {
	TEXT_MAX = 2 << 20, /* of metadata as JSON */
	MARK_MAX = 64,
};

bool artifact_path_is_good(struct span path)
{
	size_t at = 0;

	if (path.len == 0 || path.len > ARTIFACT_PATH_MAX || path.at[0] == '/' ||
	    memchr(path.at, '\0', path.len) != NULL)
		return false;
	while (at <= path.len) {
		const uint8_t *slash = memchr(path.at + at, '/', path.len - at);
		size_t len = slash == NULL ? path.len - at : (size_t)(slash - (path.at + at));
		struct span part = {.at = path.at + at, .len = len};

		if (len == 0 || span_is(part, ".") || span_is(part, ".."))
			return false;
		at += len + 1;
	}
	return true;
}

/* --- what a record may say --- */

struct taking {
	struct reader *reader;
	struct changes *changes;
	int64_t run;
	int64_t lsn;
	const struct record *record;
	char mark[MARK_MAX]; /* while the record has none */
	struct change_artifact artifact;
};

static struct span field_str(const struct taking *t, const char *key)
{
	return mp_get_str(mp_of(t->record->body), key);
}

static bool is_type(struct span type)
{
	return type.len > 0 && type.len <= ARTIFACT_NAME_MAX &&
	       memchr(type.at, '/', type.len) == NULL && memchr(type.at, ':', type.len) == NULL;
}

static bool is_blob_of(const struct record *record, struct span digest)
{
	struct span blob;

	for (uint32_t i = 0; record_blob(record, i, &blob); i++) {
		if (span_equal(blob, digest))
			return true;
	}
	return false;
}

/* NULL: it is fine. */
static const char *fault_of_file(const struct taking *t, struct mp file)
{
	struct span path = mp_get_str(file, "path");
	struct span blob = mp_get_bin(file, "blob");

	if (path.at == NULL || !artifact_path_is_good(path))
		return "a file's path leads out of the artifact, or is none";
	if (blob.at == NULL && mp_get_str(file, "ref").len == 0 &&
	    mp_get_uint(file, "size", 1) != 0)
		return "a file is neither a blob nor a reference, and not empty";
	if (blob.at != NULL && !is_blob_of(t->record, blob))
		return "a file's blob is not among those that the record names";
	return NULL;
}

static int each_file(const struct taking *t, int (*visit)(void *arg, struct mp file), void *arg)
{
	struct mp_value files;
	struct span list;
	struct mp m;
	int r = 0;

	if (mp_find_span(mp_of(t->record->body), "files", &list) < 0)
		return 0;
	m = mp_of(list);
	(void)mp_read(&m, &files); /* it is an array: ingest looked */
	for (uint32_t i = 0; r == 0 && i < files.count; i++) {
		struct span file;

		if (mp_take(&m, &file) < 0)
			return -EBADMSG;
		r = visit(arg, mp_of(file));
	}
	return r;
}

struct look {
	const struct taking *t;
	const char *fault;
};

static int look_at_file(void *arg, struct mp file)
{
	struct look *l = arg;
	struct mp head = file;
	struct mp_value v;

	l->fault = mp_read(&head, &v) < 0 || v.type != MP_MAP ? "a file is not a map"
							      : fault_of_file(l->t, file);
	return l->fault != NULL;
}

static const char *fault_of(const struct taking *t)
{
	struct look l = {.t = t};

	if (!artifact_name_is_good(t->artifact.name))
		return "an artifact's name is 1 to 128 letters, digits, '-', '_' and '.'";
	if (!is_type(t->artifact.type))
		return "an artifact's type is 1 to 128 characters without '/' and ':'";
	if (t->artifact.mark.len == 0 || t->artifact.mark.len > NAME_MAX_BYTES)
		return "an artifact's id is 1 to 512 bytes";
	if (each_file(t, look_at_file, &l) < 0)
		return "its files cannot be read";
	return l.fault;
}

static void set_aside(const struct taking *t, const char *reason)
{
	changes_add_dead_record(t->changes, "artifacts", t->run, (int64_t)t->record->time_us,
				t->record->payload, reason);
	log_warn("models", "run=%lld lsn=%lld an artifact is set aside: %s", (long long)t->run,
		 (long long)t->lsn, reason);
}

/* --- what is kept of it --- */

/* JSON text of the record's field, or "" when it has none. */
static int field_json(const struct taking *t, const char *key, struct buf *ret)
{
	struct span value;
	struct json j;
	struct mp m;

	if (mp_find_span(mp_of(t->record->body), key, &value) < 0)
		return 0;
	m = mp_of(value);
	json_init(&j, ret);
	if (value_to_json(&j, &m, VALUE_CONFIG) < 0)
		return -EBADMSG;
	return ret->error;
}

static void pack_list(const struct taking *t, struct pack *p, const char *key)
{
	struct span list;

	pack_text(p, key);
	if (mp_find_span(mp_of(t->record->body), key, &list) < 0)
		pack_array(p, 0);
	else
		pack_raw(p, list);
}

/* -EMSGSIZE: the metadata is too long. */
static int pack_about(const struct taking *t, struct buf *ret)
{
	struct span description = field_str(t, "description");
	int64_t step = mp_get_int(mp_of(t->record->body), "step", -1);
	auto_buf struct buf metadata;
	struct pack p;
	int r;

	buf_init(&metadata, TEXT_MAX);
	r = field_json(t, "metadata", &metadata);
	if (r < 0)
		return r;
	if (span_is(buf_span(&metadata), "null"))
		buf_clear(&metadata);
	pack_init(&p, ret);
	pack_map(&p, 5);
	pack_pair_str(&p, "description", description.at == NULL ? SPAN_LITERAL("") : description);
	pack_pair_str(&p, "metadata", metadata.len == 0 ? SPAN_LITERAL("") : buf_span(&metadata));
	pack_list(t, &p, "aliases");
	pack_list(t, &p, "tags");
	pack_pair_int(&p, "step", step);
	return ret->error;
}

/* What its records and blobs are in the sums of their stream: as the store counts, each blob once. */
static int count(const struct taking *t, struct change *c)
{
	struct span blob;

	c->records = 1;
	c->bytes = (int64_t)t->record->payload.len;
	for (uint32_t i = 0; record_blob(t->record, i, &blob); i++) {
		struct span before;
		bool is_known = false;
		int64_t size = 0;
		int r;

		for (uint32_t j = 0; j < i && record_blob(t->record, j, &before); j++)
			is_known |= span_equal(before, blob);
		if (is_known)
			continue;
		r = reader_blob_size(t->reader, blob, &size);
		if (r < 0 && r != -ENOENT)
			return r;
		c->blobs++;
		c->blob_bytes += size;
	}
	return 0;
}

static int add_artifact(struct taking *t)
{
	char client_id[ARTIFACT_CLIENT_ID_CHARS + 1];
	char sequence_id[ARTIFACT_CLIENT_ID_CHARS + 1];
	auto_buf struct buf about;
	struct mp body = mp_of(t->record->body);
	struct change c = {
		.kind = CHANGE_ARTIFACT_ADD,
		.run = t->run,
		.lsn = t->lsn,
		.time_us = (int64_t)t->record->time_us,
		.artifact = t->artifact,
	};
	int r = rng_base36(client_id, ARTIFACT_CLIENT_ID_CHARS);

	buf_init(&about, TEXT_MAX + RECORD_MAX);
	if (r == 0)
		r = rng_base36(sequence_id, ARTIFACT_CLIENT_ID_CHARS);
	if (r == 0)
		r = pack_about(t, &about);
	if (r == 0)
		r = count(t, &c);
	if (r < 0)
		return r;
	c.artifact.state = mp_get_bool(body, "more", false) ? ARTIFACT_COLLECTING : ARTIFACT_READY;
	c.artifact.expected = (int64_t)mp_get_uint(body, "total", 0);
	if (c.artifact.expected < 0)
		c.artifact.expected = 0;
	c.artifact.about = buf_span(&about);
	c.artifact.client_id = span_of_text(client_id);
	c.artifact.sequence_client_id = span_of_text(sequence_id);
	changes_add(t->changes, &c);
	return 0;
}

static int add_file(void *arg, struct mp file)
{
	const struct taking *t = arg;
	struct change c = {.kind = CHANGE_ARTIFACT_FILE, .run = t->run, .artifact = t->artifact};
	auto_buf struct buf extra;
	struct span value;
	int r = 0;

	buf_init(&extra, RECORD_MAX);
	c.artifact.file.path = mp_get_str(file, "path");
	c.artifact.file.blob = mp_get_bin(file, "blob");
	c.artifact.file.size = mp_get_int(file, "size", -1);
	c.artifact.file.form =
		mp_get_bool(file, "table", false) ? ARTIFACT_TABLE : ARTIFACT_AS_IT_IS;
	c.artifact.file.ref = mp_get_str(file, "ref");
	if (c.artifact.file.blob.at != NULL) {
		c.artifact.file.ref = (struct span){.at = NULL};
	} else if (c.artifact.file.ref.len == 0) {
		c.artifact.file.form = ARTIFACT_EMPTY;
		c.artifact.file.digest =
			SPAN_LITERAL("1B2M2Y8AsgTpgAmY7PhCfg=="); /* MD5 of nothing */
	} else {
		c.artifact.file.digest = mp_get_str(file, "digest");
		if (c.artifact.file.digest.len == 0)
			c.artifact.file.digest = c.artifact.file.ref;
		if (mp_find_span(file, "extra", &value) == 0) {
			struct mp m = mp_of(value);
			struct json j;

			json_init(&j, &extra);
			r = value_to_json(&j, &m, VALUE_CONFIG);
			c.artifact.file.extra = buf_span(&extra);
		}
	}
	if (r < 0 || extra.error < 0)
		return r < 0 ? r : extra.error;
	changes_add(t->changes, &c);
	return 0;
}

int artifact_take(struct reader *reader, struct changes *changes, int64_t run, int64_t lsn,
		  const struct record *record)
{
	struct taking t = {
		.reader = reader,
		.changes = changes,
		.run = run,
		.lsn = lsn,
		.record = record,
	};
	const char *fault;
	int r;

	(void)snprintf(t.mark, sizeof(t.mark), "record %lld", (long long)lsn); /* fits */
	t.artifact.mark = field_str(&t, "id");
	if (t.artifact.mark.at == NULL)
		t.artifact.mark = span_of_text(t.mark);
	t.artifact.name = field_str(&t, "name");
	t.artifact.type = field_str(&t, "type");
	fault = fault_of(&t);
	r = fault == NULL ? add_artifact(&t) : 0;
	if (r == -EBADMSG || r == -EMSGSIZE)
		fault = "its metadata is longer than wbx takes";
	if (fault != NULL) {
		struct change c = {.kind = CHANGE_CONFIRM, .stream = stream_of(run, CLASS_BULK)};

		r = count(&t, &c);
		if (r == 0)
			set_aside(&t, fault);
		changes_add(changes, &c);
		return r;
	}
	return r < 0 ? r : each_file(&t, add_file, &t);
}

/* --- tables of rows --- */

static int pack_step(struct buf *about, int64_t step)
{
	struct pack p;

	pack_init(&p, about);
	pack_map(&p, 1);
	pack_pair_int(&p, "step", step);
	return about->error;
}

int artifact_of_table(struct changes *changes, const struct artifact_table *t)
{
	auto_buf struct buf name;
	auto_buf struct buf about;
	auto_buf struct buf path;
	struct change c = {
		.kind = CHANGE_ARTIFACT_ADD,
		.run = t->run,
		.lsn = t->lsn,
		.time_us = t->time_us,
		.artifact =
			{
				.state = t->is_held ? ARTIFACT_HELD : ARTIFACT_READY,
				.mark = span_of_text(t->client_id),
				.type = SPAN_LITERAL("run_table"),
				.client_id = span_of_text(t->client_id),
				.sequence_client_id = span_of_text(t->sequence_client_id),
			},
	};

	buf_init(&name, 1 << 16);
	buf_init(&about, 64);
	buf_init(&path, 1 << 16);
	artifact_name_of_table(&name, t->run_name, t->key);
	(void)buf_add(&path, t->key.at, t->key.len);
	(void)buf_add_text(&path, ".table.json"); /* the buf remembers */
	if (pack_step(&about, t->step) < 0 || name.error != 0 || path.error != 0)
		return -ENOMEM;
	c.artifact.name = buf_span(&name);
	c.artifact.about = buf_span(&about);
	changes_add(changes, &c);
	c.kind = CHANGE_ARTIFACT_FILE;
	c.artifact.file.path = buf_span(&path);
	c.artifact.file.blob = t->blob;
	c.artifact.file.form = ARTIFACT_TABLE;
	c.artifact.file.size = -1;
	changes_add(changes, &c);
	return 0;
}
