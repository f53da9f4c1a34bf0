/* The inside of a run, for run.c (what next), run_plan.c (planning and committing), run_send.c and
 * run_answer.c (requests and answers), run_bulk.c (artifacts) and run_side.c (what goes beside the history) alone. */
#pragma once

#include "daemon/forward/models/plan.h"
#include "daemon/forward/models/run.h"
#include "daemon/forward/models/run_files.h"
#include "daemon/forward/models/side.h"
#include "daemon/forward/models/wire.h"

/* What it is at; one thing at a time. */
enum run_work {
	WORK_IDLE,
	WORK_PLANNING,   /* slice by slice */
	WORK_SIDE,       /* planning what goes beside the history, slice by slice */
	WORK_DIGEST,     /* the worker renders a table of the next row */
	WORK_COMMITTING, /* the store has r->changes */
	WORK_SENDING,    /* W&B has r->request */
};

/* A refused upsert goes again without the config; once that is taken, the config goes alone: then
 * it is known what was refused. */
enum config_doubt {
	CONFIG_TRUSTED,
	CONFIG_LEFT_OUT,
	CONFIG_ALONE,
};

enum {
	COMPLETE_KEY_MAX = NAME_MAX_BYTES + 32
};

/* Headers of a request, and their text. */
struct run_headers {
	struct span list[3];
	size_t count;
	char writer[UUID_CHARS + 32];
};

enum request_kind {
	REQUEST_STATUS,
	REQUEST_ROWS, /* which of the planned lines W&B has */
	REQUEST_UPSERT,
	REQUEST_STREAM,
	REQUEST_ALERT,
	REQUEST_FEATURES
};

enum {
	REQUEST_PATHS = 64 /* of files that are there, in one request */
};

struct request {
	enum request_kind kind;
	bool is_whole; /* status: with what a struct wire_about holds */
	unsigned what; /* upsert: enum about_dirt */
	bool is_config_alone;
	int64_t first; /* lines: offset, number, and what they stand for */
	int64_t count;
	int64_t records;
	int64_t bytes;
	size_t text_bytes;
	int64_t side[SIDE_FILES]; /* lines beside the history */
	unsigned path_count;      /* files that it says are there */
	int64_t paths[REQUEST_PATHS];
	bool has_summary;
	bool is_preempting;
	bool is_complete;
};

struct models_run {
	struct run_host *host;
	struct user *user; /* his sink is ours */
	uint64_t served;
	int64_t id;
	enum run_work work;
	bool is_parked;
	bool wants_flush;
	bool wants_retry; /* as soon as it is idle */
	bool may_have_records;
	bool is_side_behind;      /* the last plan of those was full */
	bool may_have_side;       /* records beside the history */
	bool may_have_bulk;       /* records of the stream bulk that are not planned */
	int64_t bulk_lsn;         /* as far as they are */
	bool has_letters;         /* dead ones that are to be sent again, perhaps ... */
	bool has_side_letters;    /* ... and such beside the history */
	int64_t held_back_before; /* alerts, when the plan under way began */
	uint64_t reported_ms;     /* when its last line about wbx itself was planned */
	bool summary_is_refused;  /* the last one that was sent */
	bool alert_was_last;      /* of its requests */
	bool is_done;
	bool is_pressed; /* somebody pressed Stop in W&B */
	bool is_alone;   /* nobody else wrote to it, as far as was asked */
	bool wants_rows; /* W&B has lines that may be ours, or somebody else's */
	const char
		*conflict; /* static: W&B has it otherwise than `resume` or `attach` says; NULL */
	uint64_t next_ms;  /* its next turn */
	uint64_t not_before_ms; /* after a failure, or as the server asked */
	uint64_t contact_ms;    /* when W&B last heard of it from us; 0: never */
	uint64_t heard_ms;      /* when W&B last took something of it; 0: never */
	uint64_t posted_ms;     /* when the last stream request went out; 0: none yet */
	unsigned attempt;       /* that failed, of the request under way */
	unsigned doubts;        /* 401 or 403 since the last success */
	uint64_t about_ms;      /* when server_about was said */
	uint64_t asked_ms;      /* when W&B said last how far it has the run */
	unsigned quiet_asks;    /* since somebody else's rows were found */
	unsigned short_counts;  /* how often W&B said that it has less than it confirmed */
	unsigned parts_max; /* of a stream request, while a refused part is looked for; 0: all */
	size_t body_max;    /* after a 413, growing again; 0: as the sink says */
	enum config_doubt config;
	/* loaded, or NULL */
	struct run_info *info;
	struct plan *plan;
	struct side *side;
	size_t planned_bytes;   /* text of the lines that are planned and not confirmed */
	bool is_stopped;        /* planning: the next row needs a run that W&B knows */
	uint64_t orphan_ms;     /* since when nobody has opened it, here or there; 0: not so */
	uint64_t orphan_ask_ms; /* when W&B is asked again */
	int64_t orphan_lsn;     /* nobody has, up to this record */
	bool has_about;         /* `server` and `server_about` are fresh */
	/* shared: what we said of config and tags, was it written over by who said his at the same time? */
	bool own_is_asked;     /* W&B, since the last upsert */
	bool own_is_there;     /* it was not */
	bool own_at_end;       /* looked at when the run ended here */
	bool own_tags_doubted; /* tags are among what was said, and not looked at */
	unsigned own_tries;    /* it was, so often */
	uint64_t own_sent_ms;
	struct wire_run server;
	struct wire_about server_about;
	int64_t rows_there; /* of the lines that are planned, as REQUEST_ROWS found */
	/* under way */
	struct run_files *files; /* NULL: none */
	bool may_have_files;
	bool may_have_there; /* the storage may have files that W&B was not told of; */
	bool has_there;      /* it has, as was seen last */
	uint64_t files_next_ms;
	struct changes *changes;
	struct digest_job *digest;
	struct request request;
};

/* --- run.c --- */
void run_move(struct models_run *r, enum run_state to); /* and adds the change to r->changes */
void run_to_work(struct models_run *r, enum run_work to);
/* It waits for a person. Adds the change to r->changes. */
void run_park(struct models_run *r, const char *why);
/* Something failed on this side: forgets what is in memory; the store knows better. */
void run_give_up(struct models_run *r, const char *what, int error);

/* --- run_plan.c --- */
/* Reads the run and its plan, when that is not done yet. 0, -errno. */
int run_load(struct models_run *r);
/* Are there records of the class above *lsn (-1: what is planned, which it becomes), when *may says that
 * there may be any? Says so in *may for the next time. */
bool run_has_more(struct models_run *r, enum record_class class, int64_t *lsn, bool *may);
bool run_has_records(struct models_run *r);
void run_plan_start(struct models_run *r);
void run_plan_slice(struct models_run *r);
/* Makes r->changes when there is none. False: no memory, and the run has given up. */
bool run_changes(struct models_run *r);
/* Posts r->changes. */
void run_commit(struct models_run *r);
/* Those who log to it only attached, and W&B does not have it. True: somebody may open it yet, or
 * just has; *ret_ms: when to look again. False: nobody will, r->conflict stands. */
bool run_awaits_opening(struct models_run *r, uint64_t now_ms, uint64_t *ret_ms);

/* --- run_answer.c --- */
void run_on_answer(void *arg, struct sink *sink, const struct http_answer *answer);
/* Adds the dead letter, and says so. `what` is static. */
void run_add_dead(struct models_run *r, const struct http_answer *a, const char *reason,
		  const char *what, int64_t step, struct span body);

/* --- run_side.c --- */
/* The run is loaded with it. 0, -errno. */
int run_load_side(struct models_run *r);
bool run_has_side(struct models_run *r);
/* Something is to be planned, and can be. is_planned: the history's records all are. */
bool run_wants_side(struct models_run *r, bool is_planned);
/* A line about wbx itself is due. */
bool run_report_is_due(const struct models_run *r, uint64_t now_ms);
/* True when a request has to come first: r->request says which. */
bool run_side_start(struct models_run *r, bool is_planned);
void run_side_slice(struct models_run *r);
/* Adds lines to a body that has those of the history, as far as they fit; *ret_all: all that wait
 * are in. 0, -errno. */
int run_side_body(struct models_run *r, struct wire_stream *stream, bool *ret_all);
int run_alert_body(struct models_run *r, struct buf *body);
/* W&B took the lines, or the alert, of the request. Adds changes. */
void run_side_sent(struct models_run *r);
/* It refused for good the one line, or the alert, of the request. 0, -errno. */
int run_side_refused(struct models_run *r, const struct http_answer *a, const char *reason);
/* Its counts of lines in r->server are not ours: ours go on behind. is_new: W&B has the run anew.
 * True when changes were added. */
bool run_side_follow(struct models_run *r, bool is_new);
/* Puts into the summary whether anything of the run is missing; false: it says so already, or is
 * not to. With r->changes. */
bool run_say_complete(struct models_run *r);
/* It is not complete any more. Adds nothing. */
void run_unsay_complete(struct models_run *r);
/* The answer to REQUEST_FEATURES, whatever it is; true when it settles the question. */
bool run_take_features(const struct models_run *r, struct sink *sink, const struct http_answer *a);

/* --- run_bulk.c --- */
bool run_has_bulk(struct models_run *r);
/* Plans the next of these records and commits the plan. After run_has_bulk() said yes. */
void run_bulk_plan(struct models_run *r);

/* --- run_uploaded.c: what the storage has and the stream says --- */
/* Looks whether there is any, when there may be. */
void run_look_for_there(struct models_run *r);
/* Adds their paths to a body. *ret_all: all are in. 0, -errno. */
int run_uploaded_body(struct models_run *r, struct wire_stream *stream, bool *ret_all);
/* W&B took the request. Adds changes. */
void run_uploaded_sent(struct models_run *r);

/* --- run_notice.c --- */
/* Tells those who log to it how it is now. */
void run_tell(struct models_run *r);

/* --- run_place.c: where our lines stand beside those of others --- */
void run_forget_about(struct models_run *r);
/* W&B said how it has the run: *server, and server_about when that was asked for. */
void run_status_is_known(struct models_run *r, const struct wire_run *server);
/* Somebody else has opened it since, who does not mind: it is asked for anew. */
bool run_conflict_is_over(struct models_run *r);
/* The run is created, or was there, with so many lines: ours go behind. Adds to r->changes. */
void run_take_place(struct models_run *r, int64_t lines);
/* Must W&B be asked how far it has the run before the next rows get their places? */
bool run_must_ask(const struct models_run *r, bool wants_rows, uint64_t now_ms);
/* REQUEST_ROWS: reads the answer (0; as wire_read_rows()), and draws the consequence. */
int run_read_rows(struct models_run *r, struct span body);
void run_rows_are_known(struct models_run *r);
/* The steps of the lines that are planned: lowest and highest. 0, -errno. */
int run_planned_steps(struct models_run *r, int64_t *ret_first, int64_t *ret_last);

/* --- run_shared.c: W&B's shared mode --- */
/* True when something has to be settled before anything else: the writer's id is made and committed;
 * or the run is parked, because a process wants it shared and it is not. */
bool run_settle_shared(struct models_run *r);
/* Why the run cannot be written as it is, because another writer does it the other way; static. NULL. */
const char *run_mix_of(const struct models_run *r);
/* W&B has said how it has the run for the first time; nobody here has said whether it is shared. */
void run_join_shared(struct models_run *r);
/* Config and tags go whole, and others may have written theirs between our reading and writing: a while
 * after ours were taken, or at the end, W&B is asked once more. True: r->request is that question. What
 * is missing then is dirty again. */
bool run_looks_at_own(struct models_run *r, bool ends, uint64_t now_ms);
void run_own_is_sent(struct models_run *r);
/* The headers of a request of the run: one to its stream, or to GraphQL. None when it is not loaded, which
 * happens to questions for files alone. */
void run_shared_headers(const struct models_run *r, bool is_stream, struct run_headers *ret);
/* The key that the run's self-report goes by in its summary. */
void run_complete_key(const struct models_run *r, char ret[COMPLETE_KEY_MAX]);

/* --- run_send.c --- */
/* How many bytes of lines a body of this run should have now, at most. */
size_t run_body_target(const struct models_run *r);
/* Things in the request that could go apart. */
unsigned request_parts(const struct request *q);
struct wire_name run_wire_name(const struct models_run *r);
/* Sends the request that r->request says. Returns 0 when it is under way, else how long to wait. */
uint64_t run_send(struct models_run *r, uint64_t now_ms);
