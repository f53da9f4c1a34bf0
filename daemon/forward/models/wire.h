/* The bodies that W&B Models takes and the answers it gives. Pure. Facts: research,
 * wire/wandb-models.md and .graphql. */
#pragma once

#include "daemon/forward/models/about.h"
#include "daemon/forward/models/summary.h"
#include "daemon/forward/models/wire_about.h"
#include "proto/limits.h"

/* --- addresses: appended to base, percent-encoded where needed --- */
int wire_graphql_url(struct buf *ret, const char *base_url);
int wire_stream_url(struct buf *ret, const char *base_url, const char *entity, const char *project,
		    const char *run);

/* --- requests --- */
struct wire_name { /* of a run; entity "": the default of the key */
	const char *entity;
	const char *project;
	const char *run;
};

void wire_viewer(struct buf *ret);
/* is_whole: with what a struct wire_about holds, which may be megabytes. */
void wire_run_status(struct buf *ret, const struct wire_name *name, bool is_whole);

/* Its rows with steps from first to last. */
void wire_run_rows(struct buf *ret, const struct wire_name *name, int64_t first, int64_t last);
/* All that is compared of a run: wire_read_whole_run(). */
void wire_whole_run(struct buf *ret, const struct wire_name *name);

/* variables: JSON, as what stands between the braces: title, text, severity, wait. */
void wire_alert(struct buf *ret, const struct wire_name *name, struct span variables);
void wire_features(struct buf *ret);

struct wire_upsert {
	struct wire_name name;
	const char *id; /* the server's, of a run that exists; "": none */
	const struct about *about;
	const struct metrics *metrics;
	unsigned what;                   /* enum about_dirt: what to say */
	const struct wire_about *server; /* what W&B has; NULL: nothing */
};
/* *ret_config: the config's JSON alone, when it is part of it, appended. */
void wire_run_upsert(struct buf *ret, const struct wire_upsert *u, struct buf *ret_config);

/* A file_stream body: begin, lines in order, end. `{}` is a heartbeat. */
struct wire_stream {
	struct json json;
	bool in_files;
	bool in_lines;
	bool in_uploaded;
};
void wire_stream_begin(struct wire_stream *s, struct buf *ret);
/* offset counts for the first line only. */
void wire_stream_line(struct wire_stream *s, int64_t offset, struct span line);
/* Lines of another file that follow, by wire_stream_add(). */
void wire_stream_file(struct wire_stream *s, const char *file, int64_t offset);
void wire_stream_add(struct wire_stream *s, struct span line);
void wire_stream_summary(struct wire_stream *s, struct span summary);
/* A path of the run that the storage has; behind all lines, one after the other. */
void wire_stream_uploaded(struct wire_stream *s, struct span path);
void wire_stream_preempting(struct wire_stream *s);
void wire_stream_complete(struct wire_stream *s, int64_t exit_code);
void wire_stream_end(struct wire_stream *s);

/* --- answers: 0; -EBADMSG: not what it should be; -EREMOTEIO: errors instead of data --- */
struct wire_user {
	char name[64];
	char entity[NAME_MAX_BYTES + 1];
};
int wire_read_viewer(struct span body, struct wire_user *ret);

/* What tells one row from another: _step and _timestamp. False: it has none. */
struct wire_row {
	int64_t step;
	double timestamp;
};
bool wire_row_of(struct span line, struct wire_row *ret);
/* Both were printed from the same numbers. */
bool wire_row_is(const struct wire_row *a, const struct wire_row *b);

struct wire_run {
	bool exists;
	char id[NAME_MAX_BYTES + 1];
	char entity[NAME_MAX_BYTES + 1];
	char project[NAME_MAX_BYTES + 1];
	char name[NAME_MAX_BYTES + 1];
	char display_name[NAME_MAX_BYTES + 1];
	char state[16];      /* running, finished, failed ...; "": not said */
	int64_t lines;       /* of its history */
	int64_t event_lines; /* not in the answer to an upsert, as what follows */
	int64_t console_lines;
	int64_t next_step; /* behind its last row and its summary; 0 when it has neither */
	bool has_last;     /* the newest row was said */
	struct wire_row last;
	bool is_cut; /* it has more, or longer, of what a struct wire_about holds than that takes */
	int64_t runtime_us; /* of a whole answer alone: as far as its newest row, event or summary says */
};
/* What a whole answer says besides is added to ret_about, as far as it fits. 0, also when there is no
 * such run; beside the errors below -ENOMEM. */
int wire_read_run_status(struct span body, struct wire_run *ret, struct wire_about *ret_about);
/* The answer to wire_run_rows(): calls on_row for each, in their order. */
typedef void (*wire_on_row)(void *arg, struct span line);
int wire_read_rows(struct span body, wire_on_row on_row, void *arg);
/* A run as W&B has it, for a comparison. */
struct wire_whole_run {
	bool exists;
	int64_t history_lines;
	int64_t event_lines;
	int64_t console_lines;
	char state[32];
	struct buf config; /* JSON, as W&B prints it; "": none */
	struct buf summary;
};
void wire_whole_run_init(struct wire_whole_run *r);
void wire_whole_run_done(struct wire_whole_run *r);
int wire_read_whole_run(struct span body, struct wire_whole_run *ret);
int wire_read_upsert(struct span body, struct wire_run *ret);
int wire_read_alert(struct span body);
/* Whether the server announces the feature. As the others. */
int wire_read_feature(struct span body, const char *name, bool *ret);
/* True when somebody pressed Stop; an answer that cannot be read says no. */
bool wire_read_stopped(struct span body);

/* What the server says is wrong, in one line. */
enum {
	WIRE_REASON_MAX = 200
};
void wire_reason(struct span body, char ret[WIRE_REASON_MAX]);
