/* See wire_artifact.h. */
#include "daemon/forward/models/wire_artifact.h"

#include "daemon/forward/models/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Own wording, valid against the reconstructed schema. */
static const char create_mutation[] =
	"mutation WbxCreateArtifact($input: CreateArtifactInput!) { createArtifact(input: $input) "
	"{ artifact { id state artifactSequence { latestArtifact { id } } } } }";
static const char manifest_mutation[] =
	"mutation WbxManifest($artifact: ID!, $base: ID, $name: String!, $digest: String!, "
	"$entity: String!, $project: String!, $run: String!, $type: ArtifactManifestType!, "
	"$upload: Boolean!) { createArtifactManifest(input: { artifactID: $artifact, "
	"baseArtifactID: $base, name: $name, digest: $digest, entityName: $entity, projectName: "
	"$project, runName: $run, type: $type }) { artifactManifest { id file { id uploadUrl "
	"@include(if: $upload) uploadHeaders @include(if: $upload) } } } }";
static const char files_mutation[] =
	"mutation WbxArtifactFiles($input: CreateArtifactFilesInput!) { createArtifactFiles(input: "
	"$input) { files { edges { node { storagePath uploadUrl uploadHeaders uploadMultipartUrls "
	"{ uploadID uploadUrlParts { partNumber uploadUrl } } artifact { id } } } } } }";
static const char multipart_mutation[] =
	"mutation WbxCompleteMultipart($artifact: ID!, $path: String!, $upload: String!, $parts: "
	"[UploadPartsInput!]!) { completeMultipartUploadArtifact(input: { completeMultipartAction: "
	"Complete, artifactID: $artifact, storagePath: $path, uploadID: $upload, completedParts: "
	"$parts }) { digest } }";
static const char commit_mutation[] =
	"mutation WbxCommit($artifact: ID!) { commitArtifact(input: { artifactID: $artifact }) { "
	"artifact { id digest } } }";

/* --- requests --- */

static void open_query(struct json *j, struct buf *ret, const char *name, const char *query)
{
	json_init(j, ret);
	json_open_object(j);
	json_put_key_text(j, "operationName");
	json_put_text(j, name);
	json_put_key_text(j, "query");
	json_put_text(j, query);
	json_put_key_text(j, "variables");
	json_open_object(j);
}

static void close_query(struct json *j)
{
	json_close_object(j);
	json_close_object(j);
}

static void put(struct json *j, const char *key, const char *value)
{
	json_put_key_text(j, key);
	json_put_text(j, value);
}

static void put_span(struct json *j, const char *key, struct span value)
{
	json_put_key_text(j, key);
	json_put_string(j, value);
}

static void put_alias(struct json *j, struct span collection, struct span alias)
{
	json_open_object(j);
	put_span(j, "artifactCollectionName", collection);
	put_span(j, "alias", alias);
	json_close_object(j);
}

/* The next text of a msgpack array; false: none is left. */
static bool next_text(struct mp *m, uint32_t *left, struct span *ret)
{
	while (*left > 0) {
		struct mp_value v;
		struct span whole;

		--*left;
		if (mp_take(m, &whole) < 0)
			return false;
		struct mp at = mp_of(whole);

		if (mp_read(&at, &v) == 0 && v.type == MP_STR && v.bytes.len > 0) {
			*ret = v.bytes;
			return true;
		}
	}
	return false;
}

static struct mp texts_of(struct span list, uint32_t *ret_count)
{
	struct mp m = mp_of(list.at == NULL ? SPAN_LITERAL("\x90") : list);
	struct mp_value head;

	*ret_count = 0;
	if (mp_read(&m, &head) == 0 && head.type == MP_ARRAY)
		*ret_count = head.count;
	return m;
}

static void put_aliases(struct json *j, const struct wire_artifact *a)
{
	uint32_t left;
	struct mp m = texts_of(a->aliases, &left);
	struct span alias;

	json_put_key_text(j, "aliases");
	json_open_array(j);
	while (next_text(&m, &left, &alias)) {
		if (!span_is(alias, "latest"))
			put_alias(j, a->collection, alias);
	}
	if (a->is_latest)
		put_alias(j, a->collection, SPAN_LITERAL("latest"));
	json_close_array(j);
}

static void put_tags(struct json *j, struct span tags)
{
	uint32_t left;
	struct mp m = texts_of(tags, &left);
	struct span tag;

	if (left == 0)
		return;
	json_put_key_text(j, "tags");
	json_open_array(j);
	while (next_text(&m, &left, &tag)) {
		json_open_object(j);
		put_span(j, "tagName", tag);
		json_close_object(j);
	}
	json_close_array(j);
}

void wire_create_artifact(struct buf *ret, const struct wire_artifact *a)
{
	struct json j;

	open_query(&j, ret, "WbxCreateArtifact", create_mutation);
	json_put_key_text(&j, "input");
	json_open_object(&j);
	put(&j, "entityName", a->name.entity);
	put(&j, "projectName", a->name.project);
	put(&j, "runName", a->name.run);
	put_span(&j, "artifactTypeName", a->type);
	put_span(&j, "artifactCollectionName", a->collection);
	put(&j, "digest", a->digest);
	put(&j, "digestAlgorithm", "MANIFEST_MD5");
	json_put_key_text(&j, "enableDigestDeduplication");
	json_put_bool(&j, true);
	put_span(&j, "clientID", a->client_id);
	put_span(&j, "sequenceClientID", a->sequence_client_id);
	put_aliases(&j, a);
	put_tags(&j, a->tags);
	if (a->metadata.len > 0)
		put_span(&j, "metadata", a->metadata);
	if (a->description.len > 0)
		put_span(&j, "description", a->description);
	if (a->step > 0) {
		json_put_key_text(&j, "historyStep");
		json_put_int(&j, a->step);
	}
	json_close_object(&j);
	close_query(&j);
}

void wire_artifact_manifest(struct buf *ret, const struct wire_manifest *m)
{
	struct json j;

	open_query(&j, ret, "WbxManifest", manifest_mutation);
	put(&j, "artifact", m->artifact);
	if (m->base[0] != '\0')
		put(&j, "base", m->base);
	put(&j, "name", "wandb_manifest.json");
	put(&j, "digest", m->digest);
	put(&j, "entity", m->name.entity);
	put(&j, "project", m->name.project);
	put(&j, "run", m->name.run);
	put(&j, "type", "FULL");
	json_put_key_text(&j, "upload");
	json_put_bool(&j, m->digest[0] != '\0');
	close_query(&j);
}

void wire_files_begin(struct wire_files *f, struct buf *ret, const char *artifact,
		      const char *manifest)
{
	f->artifact = artifact;
	f->manifest = manifest;
	open_query(&f->json, ret, "WbxArtifactFiles", files_mutation);
	json_put_key_text(&f->json, "input");
	json_open_object(&f->json);
	put(&f->json, "storageLayout", "V2");
	json_put_key_text(&f->json, "artifactFiles");
	json_open_array(&f->json);
}

void wire_files_add(struct wire_files *f, struct span path, struct span md5,
		    struct span part_digests)
{
	struct json *j = &f->json;
	size_t hex = ARTIFACT_DIGEST_MAX - 1;

	json_open_object(j);
	put(j, "artifactID", f->artifact);
	put(j, "artifactManifestID", f->manifest);
	put_span(j, "name", path);
	put_span(j, "md5", md5);
	if (part_digests.len >= hex) {
		json_put_key_text(j, "uploadPartsInput");
		json_open_array(j);
		for (size_t at = 0; at + hex <= part_digests.len; at += hex) {
			json_open_object(j);
			json_put_key_text(j, "partNumber");
			json_put_uint(j, at / hex + 1);
			put_span(j, "hexMD5",
				 (struct span){.at = part_digests.at + at, .len = hex});
			json_close_object(j);
		}
		json_close_array(j);
	}
	json_close_object(j);
}

void wire_files_end(struct wire_files *f)
{
	json_close_array(&f->json);
	json_close_object(&f->json);
	close_query(&f->json);
}

void wire_complete_multipart(struct buf *ret, const struct wire_multipart *m)
{
	struct json j;

	open_query(&j, ret, "WbxCompleteMultipart", multipart_mutation);
	put(&j, "artifact", m->artifact);
	put(&j, "path", m->storage_path);
	put(&j, "upload", m->upload_id);
	json_put_key_text(&j, "parts");
	json_open_array(&j);
	for (size_t i = 0; i < m->count; i++) {
		json_open_object(&j);
		json_put_key_text(&j, "partNumber");
		json_put_uint(&j, i + 1);
		put(&j, "hexMD5", m->etags[i]); /* the SDK puts the ETag there as it came */
		json_close_object(&j);
	}
	json_close_array(&j);
	close_query(&j);
}

void wire_commit_artifact(struct buf *ret, const char *artifact)
{
	struct json j;

	open_query(&j, ret, "WbxCommit", commit_mutation);
	put(&j, "artifact", artifact);
	close_query(&j);
}

/* --- answers --- */

static void json_free_at(json_t **j)
{
	json_decref(*j);
}
#define auto_json __attribute__((cleanup(json_free_at)))

/* The value under a path of keys, or NULL; borrowed. */
static json_t *at(json_t *j, const char *const *keys)
{
	for (; j != NULL && *keys != NULL; keys++)
		j = json_object_get(j, *keys);
	return json_is_null(j) ? NULL : j;
}
#define AT(j, ...) at(j, (const char *const[]){__VA_ARGS__, NULL})

/* What stands under `field` of data. */
static int read_field(struct span body, const char *field, json_t **ret_whole, json_t **ret)
{
	*ret_whole =
		json_loadb((const char *)body.at, body.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (!json_is_object(*ret_whole))
		return -EBADMSG;
	*ret = AT(*ret_whole, "data", field);
	if (*ret != NULL)
		return 0;
	return json_array_size(json_object_get(*ret_whole, "errors")) > 0 ? -EREMOTEIO : -EBADMSG;
}

/* False: it is no text, or does not fit. */
static bool copy(char *ret, size_t size, const json_t *text)
{
	if (!json_is_string(text) || json_string_length(text) >= size ||
	    strlen(json_string_value(text)) != json_string_length(text))
		return false;
	(void)snprintf(ret, size, "%s", json_string_value(text)); /* fits */
	return true;
}

int wire_read_created(struct span body, struct wire_created *ret)
{
	auto_json json_t *whole = NULL;
	json_t *created;
	int r = read_field(body, "createArtifact", &whole, &created);

	if (r < 0)
		return r;
	*ret = (struct wire_created){.id = ""};
	if (!copy(ret->id, sizeof(ret->id), AT(created, "artifact", "id")) || ret->id[0] == '\0')
		return -EBADMSG;
	(void)copy(ret->latest, sizeof(ret->latest), /* "" when there is none */
		   AT(created, "artifact", "artifactSequence", "latestArtifact", "id"));
	ret->is_committed =
		json_is_string(AT(created, "artifact", "state")) &&
		strcmp(json_string_value(AT(created, "artifact", "state")), "COMMITTED") == 0;
	return 0;
}

/* -EBADMSG: more than a place holds. */
static int read_headers(const json_t *list, struct wire_place *ret)
{
	size_t used = 0;
	size_t i;
	json_t *header;

	ret->header_count = 0;
	json_array_foreach(list, i, header)
	{
		size_t len = json_string_length(header);

		if (!json_is_string(header) || ret->header_count == WIRE_HEADERS_MAX ||
		    len > sizeof(ret->headers) - used)
			return -EBADMSG;
		memcpy(ret->headers + used, json_string_value(header), len);
		ret->header[ret->header_count++] =
			(struct span){.at = (const uint8_t *)ret->headers + used, .len = len};
		used += len;
	}
	return 0;
}

static int read_place(json_t *file, struct wire_place *ret)
{
	const json_t *url = AT(file, "uploadUrl");

	ret->url[0] = '\0';
	if (url != NULL && !copy(ret->url, sizeof(ret->url), url))
		return -EBADMSG;
	return read_headers(AT(file, "uploadHeaders"), ret);
}

int wire_read_manifest(struct span body, char *ret_id, struct wire_place *ret_place)
{
	auto_json json_t *whole = NULL;
	json_t *created;
	int r = read_field(body, "createArtifactManifest", &whole, &created);

	if (r < 0)
		return r;
	if (!copy(ret_id, WIRE_ID_MAX, AT(created, "artifactManifest", "id")))
		return -EBADMSG;
	if (ret_place == NULL)
		return 0;
	r = read_place(AT(created, "artifactManifest", "file"), ret_place);
	return r == 0 && ret_place->url[0] == '\0' ? -EBADMSG : r;
}

static int read_parts(json_t *node, struct wire_file *f)
{
	json_t *parts = AT(node, "uploadMultipartUrls", "uploadUrlParts");
	size_t i;
	json_t *part;

	f->upload_id[0] = '\0';
	f->part_count = json_array_size(parts);
	if (f->part_count == 0)
		return 0;
	if (f->part_count > WIRE_PARTS_MAX ||
	    !copy(f->upload_id, sizeof(f->upload_id), AT(node, "uploadMultipartUrls", "uploadID")))
		return -EBADMSG;
	memset(f->part_urls, 0, sizeof(f->part_urls));
	json_array_foreach(parts, i, part)
	{
		json_int_t number = json_integer_value(json_object_get(part, "partNumber"));
		const char *url = json_string_value(json_object_get(part, "uploadUrl"));

		if (number < 1 || (size_t)number > f->part_count || url == NULL)
			return -EBADMSG;
		f->part_urls[number - 1] = url;
	}
	for (i = 0; i < f->part_count; i++) {
		if (f->part_urls[i] == NULL)
			return -EBADMSG;
	}
	return 0;
}

static int read_file(json_t *node, struct wire_file *f)
{
	int r = read_place(node, &f->place);

	f->storage_path[0] = '\0';
	(void)copy(f->storage_path, sizeof(f->storage_path), /* wanted for parts alone */
		   AT(node, "storagePath"));
	if (!copy(f->birth, sizeof(f->birth), AT(node, "artifact", "id")))
		return -EBADMSG;
	return r < 0 ? r : read_parts(node, f);
}

int wire_read_files(struct span body, size_t count, wire_on_file on_file, void *arg)
{
	auto_json json_t *whole = NULL;
	struct wire_file file;
	json_t *created;
	json_t *edges;
	int r = read_field(body, "createArtifactFiles", &whole, &created);

	if (r < 0)
		return r;
	edges = AT(created, "files", "edges");
	if (json_array_size(edges) != count)
		return -EBADMSG;
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = read_file(json_object_get(json_array_get(edges, i), "node"), &file);
		if (r == 0)
			r = on_file(arg, i, &file);
	}
	return r;
}

int wire_read_multipart(struct span body)
{
	auto_json json_t *whole = NULL;
	json_t *done;

	return read_field(body, "completeMultipartUploadArtifact", &whole, &done);
}

int wire_read_committed(struct span body)
{
	auto_json json_t *whole = NULL;
	json_t *done;
	int r = read_field(body, "commitArtifact", &whole, &done);

	return r < 0 ? r : AT(done, "artifact", "id") == NULL ? -EBADMSG : 0;
}
