/* See kind.h. */
#include "proto/kind.h"

#include <assert.h>

#define STR       FIELD_STR
#define BIN       FIELD_BIN
#define UINT      FIELD_UINT
#define INT       (FIELD_UINT | FIELD_INT)
#define NUM       FIELD_NUMBER
#define BOOL      FIELD_BOOL
#define MAP       FIELD_MAP
#define LIST      FIELD_ARRAY
#define OPT(type) ((type) | FIELD_NIL)

/* in every stored record: which run, when the call was made (microseconds since 1970), which blobs
 * it names */
#define OF_RUN                                                                                     \
	{"run", STR, true},                                                                        \
	{                                                                                          \
		"t", UINT, true                                                                    \
	}
#define WITH_BLOBS                                                                                 \
	{                                                                                          \
		"blobs", LIST, false                                                               \
	}

static const struct kind_info kinds[KIND_COUNT] = {
	[KIND_HELLO] = {"hello",
			true,
			false,
			false,
			CLASS_REST,
			{{"v", UINT, true},
			 {"producer", BIN, true},
			 {"host", STR, false},
			 {"pid", UINT, false},
			 {"rank", UINT, false},
			 {"world", UINT, false},
			 {"job", MAP, false},
			 {"sdk", STR, false}}},
	[KIND_RUN] = {"run",
		      true,
		      true,
		      true,
		      CLASS_METRICS,
		      {OF_RUN,
		       {"project", STR, true},
		       {"entity", OPT(STR), false},
		       {"name", OPT(STR), false},
		       {"group", OPT(STR), false},
		       {"job_type", OPT(STR), false},
		       {"notes", OPT(STR), false},
		       {"tags", OPT(LIST), false},
		       {"config", OPT(MAP), false},
		       {"resume", OPT(STR), false},
		       {"start", UINT, false},
		       {"host", OPT(STR), false},
		       {"program", OPT(STR), false},
		       {"python", OPT(STR), false},
		       {"sdk", OPT(STR), false},
		       {"token", OPT(STR), false}}},
	[KIND_ATTACH] = {"attach",
			 true,
			 true,
			 true,
			 CLASS_METRICS,
			 {OF_RUN,
			  {"project", STR, true},
			  {"entity", OPT(STR), false},
			  {"token", OPT(STR), false}}},
	[KIND_LOG] = {"log",
		      true,
		      true,
		      true,
		      CLASS_METRICS,
		      {OF_RUN,
		       {"data", MAP, true},
		       {"step", OPT(INT), false},
		       {"commit", OPT(BOOL), false},
		       WITH_BLOBS}},
	[KIND_CALL] = {"call",
		       true,
		       true,
		       true,
		       CLASS_TRACES,
		       {{"run", OPT(STR), false},
			{"t", UINT, true},
			{"phase", STR, true},
			{"id", STR, true},
			{"trace_id", STR, false},
			{"parent_id", OPT(STR), false},
			{"op", STR, false},
			{"display_name", OPT(STR), false},
			{"started_at", UINT, false},
			{"ended_at", UINT, false},
			{"inputs", MAP, false},
			{"output", FIELD_ANY, false},
			{"attributes", MAP, false},
			{"summary", MAP, false},
			{"exception", OPT(STR), false},
			{"thread_id", OPT(STR), false},
			{"turn_id", OPT(STR), false},
			{"step", OPT(UINT), false},
			{"project", OPT(STR), false},
			{"entity", OPT(STR), false},
			{"source", OPT(STR), false},
			WITH_BLOBS}},
	[KIND_BLOB] = {"blob",
		       true,
		       false,
		       false,
		       CLASS_BULK,
		       {{"id", UINT, true},
			{"off", UINT, true},
			{"data", BIN, true},
			{"sha256", BIN, false}}},
	[KIND_SUMMARY] = {"summary",
			  true,
			  true,
			  true,
			  CLASS_METRICS,
			  {OF_RUN, {"data", MAP, false}, {"remove", LIST, false}, WITH_BLOBS}},
	[KIND_CONFIG] = {"config",
			 true,
			 true,
			 true,
			 CLASS_METRICS,
			 {OF_RUN, {"data", MAP, false}, {"remove", LIST, false}}},
	[KIND_TAGS] = {"tags",
		       true,
		       true,
		       true,
		       CLASS_METRICS,
		       {OF_RUN, {"add", LIST, false}, {"remove", LIST, false}}},
	[KIND_DEFINE] = {"define",
			 true,
			 true,
			 true,
			 CLASS_METRICS,
			 {OF_RUN,
			  {"name", STR, true},
			  {"step_metric", OPT(STR), false},
			  {"step_sync", OPT(BOOL), false},
			  {"hidden", OPT(BOOL), false},
			  {"summary", OPT(LIST), false},
			  {"goal", OPT(STR), false},
			  {"overwrite", OPT(BOOL), false}}},
	[KIND_OUTPUT] =
		{"output",
		 true,
		 true,
		 true,
		 CLASS_REST,
		 {OF_RUN, {"stream", STR, true}, {"text", STR, true}, {"label", OPT(STR), false}}},
	[KIND_STATS] = {"stats",
			true,
			true,
			true,
			CLASS_REST,
			{OF_RUN, {"data", MAP, true}, {"label", OPT(STR), false}}},
	[KIND_ALERT] = {"alert",
			true,
			true,
			true,
			CLASS_REST,
			{OF_RUN,
			 {"title", STR, true},
			 {"text", STR, true},
			 {"level", OPT(STR), false},
			 {"wait_ms", OPT(UINT), false}}},
	[KIND_FILE] = {"file",
		       true,
		       true,
		       true,
		       CLASS_BULK,
		       {OF_RUN,
			{"path", STR, true},
			{"size", UINT, false},
			{"policy", OPT(STR), false},
			WITH_BLOBS}},
	[KIND_ARTIFACT] = {"artifact",
			   true,
			   true,
			   true,
			   CLASS_BULK,
			   {OF_RUN,
			    {"name", STR, true},
			    {"type", STR, true},
			    {"description", OPT(STR), false},
			    {"metadata", OPT(MAP), false},
			    {"aliases", OPT(LIST), false},
			    {"tags", OPT(LIST), false},
			    {"files", LIST, true},
			    {"step", OPT(INT), false},
			    WITH_BLOBS}},
	[KIND_FINISH] = {"finish",
			 true,
			 true,
			 true,
			 CLASS_METRICS,
			 {OF_RUN, {"exit_code", OPT(INT), false}, {"by", OPT(STR), false}}},
	[KIND_FLUSH] = {"flush", true, true, false, CLASS_REST, {{"t", UINT, false}}},
	[KIND_WELCOME] = {"welcome",
			  false,
			  true,
			  false,
			  CLASS_REST,
			  {{"v", UINT, true},
			   {"limits", MAP, true},
			   {"server", STR, false},
			   {"boot", BIN, false}}},
	[KIND_ACK] = {"ack", false, true, false, CLASS_REST, {{NULL, 0, false}}},
	[KIND_REJECT] = {"reject",
			 false,
			 true,
			 false,
			 CLASS_REST,
			 {{"code", STR, true}, {"text", STR, true}, {"final", BOOL, false}}},
	[KIND_NOTICE] = {"notice",
			 false,
			 false,
			 false,
			 CLASS_REST,
			 {{"run", STR, false},
			  {"state", STR, false},
			  {"entity", STR, false},
			  {"project", STR, false},
			  {"name", STR, false},
			  {"url", STR, false},
			  {"resumed", BOOL, false},
			  {"step", UINT, false},
			  {"config", MAP, false},
			  {"summary", MAP, false},
			  {"reason", STR, false},
			  {"stopped", BOOL, false}}},
	[KIND_GONE] = {"gone",
		       false,
		       true,
		       true,
		       CLASS_METRICS,
		       {OF_RUN, {"exit_code", OPT(INT), false}}},
};

const struct kind_info *kind_info(enum kind kind)
{
	assert(kind < KIND_COUNT);
	return &kinds[kind];
}

enum kind kind_by_name(struct span name)
{
	for (unsigned k = 0; k < KIND_COUNT; k++) {
		if (span_is(name, kinds[k].name))
			return (enum kind)k;
	}
	return KIND_UNKNOWN;
}

const char *class_name(enum record_class class)
{
	static const char *const names[CLASS_COUNT] = {"metrics", "bulk", "traces", "rest"};

	assert(class < CLASS_COUNT);
	return names[class];
}
