/* See wire_files.h. */
#include "daemon/forward/models/wire_files.h"

#include <errno.h>
#include <jansson.h>

static const char files_mutation[] =
	"mutation WbxRunFiles($entity: String!, $project: String!, $run: String!, $files: "
	"[String!]!) { createRunFiles(input: {entityName: $entity, projectName: $project, runName: "
	"$run, files: $files}) { runID uploadHeaders files { name uploadUrl } } }";

static void add_text(struct json *j, const char *key, const char *value)
{
	json_put_key_text(j, key);
	json_put_text(j, value);
}

void wire_run_files(struct buf *ret, const struct wire_name *name, const struct span *paths,
		    size_t count)
{
	struct json j;

	json_init(&j, ret);
	json_open_object(&j);
	add_text(&j, "operationName", "WbxRunFiles");
	add_text(&j, "query", files_mutation);
	json_put_key_text(&j, "variables");
	json_open_object(&j);
	add_text(&j, "entity", name->entity);
	add_text(&j, "project", name->project);
	add_text(&j, "run", name->run);
	json_put_key_text(&j, "files");
	json_open_array(&j);
	for (size_t i = 0; i < count; i++)
		json_put_string(&j, paths[i]);
	json_close_array(&j);
	json_close_object(&j);
	json_close_object(&j);
}

static struct span span_of(const json_t *text)
{
	return (struct span){.at = (const uint8_t *)json_string_value(text),
			     .len = json_string_length(text)};
}

static int read_files(const json_t *answer, size_t count, const struct wire_files *files)
{
	const json_t *list = json_object_get(answer, "files");
	const json_t *headers = json_object_get(answer, "uploadHeaders");
	int r = 0;

	if (json_array_size(list) != count)
		return -EBADMSG;
	for (size_t i = 0; i < json_array_size(headers) && r == 0; i++) {
		const json_t *header = json_array_get(headers, i);

		if (!json_is_string(header))
			return -EBADMSG;
		r = files->on_header(files->arg, span_of(header));
	}
	for (size_t i = 0; i < count && r == 0; i++) {
		const json_t *url = json_object_get(json_array_get(list, i), "uploadUrl");

		r = files->on_file(files->arg, i,
				   json_is_string(url) ? span_of(url) : SPAN_LITERAL(""));
	}
	return r;
}

int wire_read_run_files(struct span body, size_t count, const struct wire_files *files)
{
	json_t *whole = json_loadb((const char *)body.at, body.len, JSON_ALLOW_NUL, NULL);
	const json_t *answer = json_object_get(json_object_get(whole, "data"), "createRunFiles");
	int r = -EBADMSG;

	if (json_is_object(answer))
		r = read_files(answer, count, files);
	else if (json_array_size(json_object_get(whole, "errors")) > 0)
		r = -EREMOTEIO;
	json_decref(whole);
	return r;
}
