/* See wire.h: what is sent. What comes back is read in wire_read.c. */
#include "daemon/forward/models/wire.h"

enum {
	ROWS_ASKED_MAX = 10000 /* W&B takes samples above it */
};

/* Own wording, valid against the reconstructed schema; a variable that is left out leaves its field
 * alone. */
static const char viewer_query[] = "query WbxViewer { viewer { id entity username } }";
#define STATUS_QUERY(fields)                                                                       \
	"query WbxRunStatus($entity: String, $project: String, $run: String!) { "                  \
	"model(name: $project, entityName: $entity) { bucket(name: $run, missingOk: true) { "      \
	"id name displayName historyLineCount eventsLineCount logLineCount historyTail" fields     \
	" } } }"
static const char status_query[] = STATUS_QUERY("");
static const char whole_query[] = STATUS_QUERY(" state tags config summaryMetrics eventsTail");
static const char rows_query[] =
	"query WbxRunRows($entity: String, $project: String, $run: String!, $min: Int64, "
	"$max: Int64, $samples: Int) { "
	"model(name: $project, entityName: $entity) { bucket(name: $run, missingOk: true) { "
	"history(minStep: $min, maxStep: $max, samples: $samples) } } }";
static const char features_query[] =
	"query WbxFeatures { serverInfo { features { name isEnabled } } }";
static const char alert_mutation[] =
	"mutation WbxAlert($entity: String!, $project: String!, $run: String!, $title: String!, "
	"$text: String!, $severity: AlertSeverity, $wait: Duration) { "
	"notifyScriptableRunAlert(input: { entityName: $entity, projectName: $project, runName: "
	"$run, title: $title, text: $text, severity: $severity, waitDuration: $wait }) "
	"{ success } }";
static const char verify_query[] =
	"query WbxVerify($entity: String, $project: String, $run: String!) { "
	"model(name: $project, entityName: $entity) { bucket(name: $run, missingOk: true) { "
	"id name state historyLineCount eventsLineCount logLineCount config summaryMetrics } } }";
static const char upsert_mutation[] =
	"mutation WbxUpsertRun($id: String, $entity: String, $project: String, $run: String, "
	"$displayName: String, $group: String, $jobType: String, $notes: String, "
	"$tags: [String!], $config: JSONString, $host: String, $program: String) { "
	"upsertBucket(input: { id: $id, entityName: $entity, modelName: $project, name: $run, "
	"displayName: $displayName, groupName: $group, jobType: $jobType, notes: $notes, "
	"tags: $tags, config: $config, host: $host, jobProgram: $program }) { "
	"bucket { id name displayName historyLineCount project { id name entity { id name } } } "
	"inserted } }";

static void add_escaped(struct buf *ret, const char *segment)
{
	for (; *segment != '\0'; segment++) {
		unsigned char c = (unsigned char)*segment;
		bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			     (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' || c == '~';

		if (plain)
			(void)buf_add_byte(ret, c); /* the buf remembers */
		else
			(void)buf_printf(ret, "%%%02X", c);
	}
}

static void add_base(struct buf *ret, const char *base_url)
{
	size_t len = strlen(base_url);

	while (len > 0 && base_url[len - 1] == '/')
		len--;
	(void)buf_add(ret, base_url, len); /* the buf remembers */
}

int wire_graphql_url(struct buf *ret, const char *base_url)
{
	add_base(ret, base_url);
	return buf_add(ret, "/graphql", sizeof("/graphql"));
}

int wire_stream_url(struct buf *ret, const char *base_url, const char *entity, const char *project,
		    const char *run)
{
	add_base(ret, base_url);
	(void)buf_add_text(ret, "/files/");
	add_escaped(ret, entity);
	(void)buf_add_byte(ret, '/');
	add_escaped(ret, project);
	(void)buf_add_byte(ret, '/');
	add_escaped(ret, run);
	return buf_add(ret, "/file_stream", sizeof("/file_stream"));
}

/* --- GraphQL --- */

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

static void add_variable(struct json *j, const char *name, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	json_put_key_text(j, name);
	json_put_text(j, value);
}

static void add_name(struct json *j, const struct wire_name *name)
{
	add_variable(j, "entity", name->entity);
	add_variable(j, "project", name->project);
	add_variable(j, "run", name->run);
}

void wire_viewer(struct buf *ret)
{
	struct json j;

	open_query(&j, ret, "WbxViewer", viewer_query);
	close_query(&j);
}

void wire_run_status(struct buf *ret, const struct wire_name *name, bool is_whole)
{
	struct json j;

	open_query(&j, ret, "WbxRunStatus", is_whole ? whole_query : status_query);
	add_name(&j, name);
	close_query(&j);
}

void wire_run_rows(struct buf *ret, const struct wire_name *name, int64_t first, int64_t last)
{
	struct json j;

	open_query(&j, ret, "WbxRunRows", rows_query);
	add_name(&j, name);
	json_put_key_text(&j, "min");
	json_put_int(&j, first);
	json_put_key_text(&j, "max");
	json_put_int(&j, last + 1); /* it is not among them */
	json_put_key_text(&j, "samples");
	json_put_int(&j, ROWS_ASKED_MAX);
	close_query(&j);
}

void wire_features(struct buf *ret)
{
	struct json j;

	open_query(&j, ret, "WbxFeatures", features_query);
	close_query(&j);
}

void wire_alert(struct buf *ret, const struct wire_name *name, struct span variables)
{
	struct json j;

	open_query(&j, ret, "WbxAlert", alert_mutation);
	add_name(&j, name);
	(void)buf_add_byte(ret, ','); /* a run has a name; the buf remembers */
	(void)buf_add(ret, variables.at, variables.len);
	close_query(&j);
}

void wire_whole_run(struct buf *ret, const struct wire_name *name)
{
	struct json j;

	open_query(&j, ret, "WbxVerify", verify_query);
	add_name(&j, name);
	close_query(&j);
}

/* Ours and the server's, without those that were taken away here. */
static void add_tags(struct json *j, const struct wire_upsert *u)
{
	json_put_key_text(j, "tags");
	json_open_array(j);
	for (const struct node *n = u->about->tags.first; n != NULL; n = n->next)
		json_put_string(j, node_key(n));
	for (const struct node *n = u->server == NULL ? NULL : u->server->tags.first; n != NULL;
	     n = n->next) {
		if (tree_child(&u->about->tags, NULL, node_key(n)) == NULL &&
		    !about_drops_tag(u->about, node_key(n)))
			json_put_string(j, node_key(n));
	}
	json_close_array(j);
}

static void add_config(struct json *j, const struct wire_upsert *u, struct buf *config)
{
	size_t at = config->len;
	struct json inner;

	json_init(&inner, config);
	about_config_to_json(u->about, u->metrics, u->server, &inner);
	json_put_key_text(j, "config");
	json_put_string(j, (struct span){.at = config->data + at, .len = config->len - at});
}

void wire_run_upsert(struct buf *ret, const struct wire_upsert *u, struct buf *ret_config)
{
	static const struct {
		enum about_text text;
		const char *variable;
	} texts[] = {
		{ABOUT_NAME, "displayName"}, {ABOUT_GROUP, "group"}, {ABOUT_JOB_TYPE, "jobType"},
		{ABOUT_NOTES, "notes"},      {ABOUT_HOST, "host"},   {ABOUT_PROGRAM, "program"},
	};
	struct json j;

	open_query(&j, ret, "WbxUpsertRun", upsert_mutation);
	add_name(&j, &u->name);
	add_variable(&j, "id", u->id);
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (u->what & 1u << texts[i].text)
			add_variable(&j, texts[i].variable, u->about->texts[texts[i].text]);
	}
	if (u->what & ABOUT_TAGS)
		add_tags(&j, u);
	if (u->what & ABOUT_CONFIG)
		add_config(&j, u, ret_config);
	close_query(&j);
	if (ret->error == 0 && ret_config->error != 0)
		ret->error = ret_config->error;
}

/* --- file_stream --- */

void wire_stream_begin(struct wire_stream *s, struct buf *ret)
{
	*s = (struct wire_stream){.in_files = false};
	json_init(&s->json, ret);
	json_open_object(&s->json);
}

static void open_files(struct wire_stream *s)
{
	if (s->in_files)
		return;
	json_put_key_text(&s->json, "files");
	json_open_object(&s->json);
	s->in_files = true;
}

static void open_file(struct wire_stream *s, const char *name, int64_t offset)
{
	open_files(s);
	json_put_key_text(&s->json, name);
	json_open_object(&s->json);
	json_put_key_text(&s->json, "offset");
	json_put_int(&s->json, offset);
	json_put_key_text(&s->json, "content");
	json_open_array(&s->json);
}

static void close_file(struct wire_stream *s)
{
	json_close_array(&s->json);
	json_close_object(&s->json);
}

static void close_lines(struct wire_stream *s)
{
	if (s->in_lines)
		close_file(s);
	s->in_lines = false;
}

static void close_files(struct wire_stream *s)
{
	close_lines(s);
	if (s->in_uploaded)
		json_close_array(&s->json);
	s->in_uploaded = false;
	if (s->in_files)
		json_close_object(&s->json);
	s->in_files = false;
}

void wire_stream_line(struct wire_stream *s, int64_t offset, struct span line)
{
	if (!s->in_lines)
		open_file(s, "wandb-history.jsonl", offset);
	s->in_lines = true;
	json_put_string(&s->json, line);
}

void wire_stream_file(struct wire_stream *s, const char *file, int64_t offset)
{
	close_lines(s);
	open_file(s, file, offset);
	s->in_lines = true;
}

void wire_stream_add(struct wire_stream *s, struct span line)
{
	json_put_string(&s->json, line);
}

void wire_stream_summary(struct wire_stream *s, struct span summary)
{
	close_lines(s);
	open_file(s, "wandb-summary.json", 0);
	json_put_string(&s->json, summary);
	close_file(s);
}

void wire_stream_uploaded(struct wire_stream *s, struct span path)
{
	if (!s->in_uploaded) {
		close_files(s);
		json_put_key_text(&s->json, "uploaded");
		json_open_array(&s->json);
		s->in_uploaded = true;
	}
	json_put_string(&s->json, path);
}

void wire_stream_preempting(struct wire_stream *s)
{
	close_files(s);
	json_put_key_text(&s->json, "preempting");
	json_put_bool(&s->json, true);
}

void wire_stream_complete(struct wire_stream *s, int64_t exit_code)
{
	close_files(s);
	json_put_key_text(&s->json, "complete");
	json_put_bool(&s->json, true);
	json_put_key_text(&s->json, "exitcode");
	json_put_int(&s->json, exit_code);
}

void wire_stream_end(struct wire_stream *s)
{
	close_files(s);
	json_close_object(&s->json);
}
