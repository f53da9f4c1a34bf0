/* What a reader of the store offers to other threads. Each has its own; every call is one short
 * read transaction, none is open in between. The store implements it (store/reader*.c), tests may
 * fake it. Errors: 0, -ENOENT where it says so, -ENOMEM, or what the disk says. Callbacks answer 0
 * to go on, anything else ends the call with that value. */
#pragma once

#include "daemon/flow/artifact.h"
#include "daemon/flow/run.h"
#include "daemon/flow/trace.h"
#include "daemon/flow/upload.h"
#include "proto/limits.h"
#include "proto/mp.h"

struct reader;

int reader_open(struct reader **ret, const char *store_dir);
struct reader *reader_close(struct reader *r);

enum {
	READER_PAGE = 500
}; /* rows per transaction, at most */

/* --- runs --- */
struct run_info {
	int64_t id;
	uint32_t uid;
	enum run_state state;
	bool has_exit_code;
	int64_t exit_code;
	int64_t created_us;
	int64_t last_us; /* when a metrics record of it was committed last */
	int64_t next_offset;
	int64_t done_offset;
	int64_t late;
	int64_t uploads;   /* that wait */
	int64_t artifacts; /* the same, those apart of which the clients have more */
	int64_t dead;
	int64_t refused; /* records that are not here: rejected, refused, or given up by clients */
	char entity[NAME_MAX_BYTES + 1];
	char project[NAME_MAX_BYTES + 1];
	char name[NAME_MAX_BYTES + 1];
	char display_name[NAME_MAX_BYTES + 1];
	char server_id[NAME_MAX_BYTES + 1];
	char server_entity[NAME_MAX_BYTES + 1];
	char server_project[NAME_MAX_BYTES + 1];
	char parked[256]; /* "": is not */
};
/* As W&B names them, or as the user did before W&B has answered. */
const char *run_entity(const struct run_info *run);
const char *run_project(const struct run_info *run);
/* True when text is this run's id, or entity/project/id. */
bool run_is_called(const struct run_info *run, struct span text);

int reader_run(struct reader *r, int64_t run, struct run_info *ret); /* -ENOENT */
/* Runs with a number above `after`, rising, up to READER_PAGE of them. */
typedef int (*reader_on_run)(void *arg, const struct run_info *run);
int reader_runs(struct reader *r, int64_t after, reader_on_run on_run, void *arg);
/* Runs that are parked, have late rows, or finish while files wait, of one user (-1: of all): a page
 * of them, parked ones first, then the newest. */
int reader_notable_runs(struct reader *r, int64_t uid, reader_on_run on_run, void *arg);
/* Runs that are not done, or that got a record after they were: what the sender has to look after.
 * Only their numbers, and whose they are. */
typedef int (*reader_on_open_run)(void *arg, int64_t run, uint32_t uid);
int reader_open_runs(struct reader *r, reader_on_open_run on_run, void *arg);
/* The planner's state as it was stored, appended to ret. -ENOENT: none yet. */
int reader_planner(struct reader *r, int64_t run, struct buf *ret);
/* The state as it was at some record (schema.sql, waypoint): the first behind this lsn, or at it
 * and behind this time; its state is appended to ret_state, unless that is NULL. -ENOENT. */
struct waypoint_info {
	int64_t lsn;
	int64_t time_us;
	int64_t next_step;
	int64_t resteps;    /* rows planned from this step on were numbered anew ... */
	int64_t resteps_to; /* ... from here on at least; 0: none were */
};
int reader_waypoint(struct reader *r, int64_t run, int64_t lsn, int64_t time_us,
		    struct waypoint_info *ret, struct buf *ret_state);
/* Number of producers of the run in each state. */
int reader_members(struct reader *r, int64_t run, int64_t ret_counts[MEMBER_STATES]);
/* Every producer that is present in a run, as the store has it: for the daemon's start. */
struct present_info {
	int64_t producer_id;
	uint32_t uid;
	struct span producer; /* PRODUCER_BYTES, borrowed */
	struct span run;      /* its name for the producer, borrowed */
	int64_t run_id;
};
typedef int (*reader_on_present)(void *arg, const struct present_info *present);
int reader_present(struct reader *r, reader_on_present on_present, void *arg);
int reader_producer_uid(struct reader *r, int64_t producer, uint32_t *ret); /* -ENOENT */
/* The hello body of a producer, appended. -ENOENT. */
int reader_hello(struct reader *r, int64_t producer, struct buf *ret);

/* --- records --- */
struct stored_record {
	int64_t lsn;
	int64_t producer;
	int64_t time_us;     /* when it was committed */
	struct span payload; /* borrowed until the callback returns */
};
typedef int (*reader_on_record)(void *arg, const struct stored_record *record);
/* Records of the stream above `after`, in order, up to max of them (at most READER_PAGE).
 * *ret_count: how many there were. */
int reader_records(struct reader *r, int64_t stream, int64_t after, unsigned max,
		   reader_on_record on_record, void *arg, unsigned *ret_count);
int reader_record(struct reader *r, int64_t lsn, reader_on_record on_record,
		  void *arg); /* -ENOENT */
/* All records above `after` whatever their stream, for `tail`. */
int reader_all_records(struct reader *r, int64_t after, unsigned max, reader_on_record on_record,
		       void *arg, unsigned *ret_count);
int reader_last_lsn(struct reader *r, int64_t *ret);

/* How much of a stream was taken, planned and confirmed. */
struct stream_info {
	int64_t stream;
	int64_t last_lsn; /* newest record */
	int64_t planned_lsn;
	int64_t done_lsn;
	int64_t waiting; /* records not confirmed */
	int64_t waiting_bytes;
	int64_t waiting_blobs;
	int64_t waiting_blob_bytes;
	int64_t oldest_us; /* commit time of the oldest that waits; 0: none */
	uint32_t uid;      /* whose run it is of; not filled in by reader_stream() */
};
int reader_stream(struct reader *r, int64_t stream,
		  struct stream_info *ret); /* all 0 when it has no records */
/* The oldest record of the stream that is still here (0: none is), and how many came before it. */
int reader_first_record(struct reader *r, int64_t stream, int64_t *ret_lsn, int64_t *ret_gone);
typedef int (*reader_on_stream)(void *arg, const struct stream_info *stream);
/* Those with a number above `after`, rising. */
int reader_waiting_streams(struct reader *r, int64_t after, reader_on_stream on_stream, void *arg);

/* --- what is planned --- */
struct planned_line {
	int64_t offset;
	int64_t step;
	int64_t lsn;
	int64_t records;
	int64_t bytes;
	struct span text; /* borrowed */
};
typedef int (*reader_on_line)(void *arg, const struct planned_line *line);
/* Lines at and above from_offset, until the callback ends it or READER_PAGE are read. */
int reader_lines(struct reader *r, int64_t run, int64_t from_offset, reader_on_line on_line,
		 void *arg);
/* Lowest and highest step of the lines at and above from_offset. -ENOENT: there are none. */
int reader_line_steps(struct reader *r, int64_t run, int64_t from_offset, int64_t *ret_first,
		      int64_t *ret_last);

/* Lines of a run beside its history that are planned and not confirmed. */
struct side_count {
	int64_t first; /* offset of the first; they follow one another */
	int64_t count;
};
int reader_side_counts(struct reader *r, int64_t run, struct side_count ret[SIDE_FILES]);
struct side_line {
	int64_t offset;
	struct span text; /* borrowed */
};
typedef int (*reader_on_side_line)(void *arg, const struct side_line *line);
/* At and above from_offset, until the callback ends it or READER_PAGE are read. */
int reader_side_lines(struct reader *r, int64_t run, enum side_file file, int64_t from_offset,
		      reader_on_side_line on_line, void *arg);
/* The state of their planner, appended to ret. -ENOENT: none yet. */
int reader_side(struct reader *r, int64_t run, struct buf *ret);

/* --- traces --- */
/* How the traces of a run are; the state of its steps is appended. All 0 when there are none. */
int reader_trace_run(struct reader *r, int64_t run, struct trace_run_info *ret,
		     struct buf *ret_state);
/* Traces that are due before this time, a page of them, the longest due first. */
typedef int (*reader_on_trace)(void *arg, const struct trace_row *trace);
int reader_due_traces(struct reader *r, int64_t run, int64_t before_us, reader_on_trace on_trace,
		      void *arg);
/* Calls of a trace that are collected and not planned, by id downwards from this one ("~": from the
 * last): a page. */
typedef int (*reader_on_call)(void *arg, const struct call_row *call);
int reader_calls(struct reader *r, int64_t run, const char *trace, const char *before,
		 reader_on_call on_call, void *arg);
/* Ends that came before this time and whose start did not. */
int reader_stray_ends(struct reader *r, int64_t run, int64_t before_us, reader_on_call on_call,
		      void *arg);
/* Lines behind this one, until the callback ends it or READER_PAGE are read. */
typedef int (*reader_on_trace_line)(void *arg, const struct trace_line *line);
int reader_trace_lines(struct reader *r, int64_t run, int64_t after, reader_on_trace_line on_line,
		       void *arg);
/* Items behind this record that may go: a feedback when its call is not waiting any more. */
typedef int (*reader_on_trace_item)(void *arg, const struct trace_item *item);
int reader_trace_items(struct reader *r, int64_t run, int64_t after, reader_on_trace_item on_item,
		       void *arg);
/* Ops that were not posted yet. */
typedef int (*reader_on_op)(void *arg, const struct op_row *op);
int reader_ops(struct reader *r, int64_t run, reader_on_op on_op, void *arg);
/* 1: it was posted for another run of the same project there; 0; -errno. */
int reader_op_is_posted(struct reader *r, int64_t run, struct span name, struct span digest);
/* The step that was logged last before this time, of this mode. -ENOENT. */
int reader_step_before(struct reader *r, int64_t run, int64_t mode, int64_t time_us, int64_t *ret);
/* Bytes of requests that W&B took between these days (since 1970), of one run or (0) of all that
 * this user (-1: anybody) has. */
int reader_trace_bytes(struct reader *r, int64_t run, int64_t uid, int64_t first_day,
		       int64_t last_day, int64_t *ret);
/* Traces of an op that went out in a step, as far as that is counted. */
int reader_trace_kept(struct reader *r, int64_t run, const char *op, int64_t step, int64_t *ret);
/* Traces of this user (-1: of all) that are left out. */
int reader_traces_held(struct reader *r, int64_t uid, int64_t *ret);
int reader_run_traces_held(struct reader *r, int64_t run, int64_t *ret); /* of one run */

/* --- blobs --- */
/* Size of the blob with this digest. -ENOENT. */
int reader_blob_size(struct reader *r, struct span digest, int64_t *ret);
/* Whose records name it; in no order. A scan of what names blobs. What on_uid says, unless 0. */
typedef int (*reader_on_uid)(void *arg, uint32_t uid);
int reader_blob_uids(struct reader *r, struct span digest, reader_on_uid on_uid, void *arg);
/* Up to len bytes from offset; *ret_len less than len only at the end. -ENOENT. */
int reader_blob(struct reader *r, struct span digest, int64_t offset, void *ret_bytes, size_t len,
		size_t *ret_len);

/* --- files of runs --- */
struct upload_info { /* spans are borrowed until the callback returns */
	int64_t id;  /* rises in the order of planning */
	enum upload_kind kind;
	enum upload_state state;
	int64_t step;
	int64_t time_us; /* of the row, or of the record */
	int64_t size;    /* of the file as it is sent */
	int64_t nth;     /* so many of this key came before it */
	struct span key;
	struct span path;
	struct span sha256; /* hex */
	struct span blob;   /* digest; empty: none, the file is empty or there */
};
typedef int (*reader_on_upload)(void *arg, const struct upload_info *upload);
enum uploads_order {
	UPLOADS_OLDEST, /* those that wait, with numbers above `from`, rising */
	UPLOADS_NEWEST, /* those that wait, with numbers below `from`, falling */
	UPLOADS_THERE,  /* those that the storage has, above `from`, rising */
};
/* Up to READER_PAGE of them. */
int reader_uploads(struct reader *r, int64_t run, enum uploads_order order, int64_t from,
		   reader_on_upload on_upload, void *arg);
struct upload_counts {
	int64_t files[UPLOAD_STATES];
	int64_t bytes[UPLOAD_STATES];
	int64_t oldest_us; /* of those that wait; 0: none do */
};
/* Of one run; -1: of all. */
int reader_upload_counts(struct reader *r, int64_t run, struct upload_counts *ret);
/* How many of this key were planned, sent or held. */
int reader_uploads_of_key(struct reader *r, int64_t run, struct span key, int64_t *ret);
/* What was planned of this blob under this key of the run before: it needs no second one. -ENOENT. */
struct sent_file { /* borrowed until the callback returns */
	struct span path;
	struct span sha256;
	int64_t size;
	struct span client_id;
	struct span sequence_client_id;
};
typedef int (*reader_on_sent_file)(void *arg, const struct sent_file *file);
int reader_sent_file(struct reader *r, int64_t run, struct span key, struct span blob,
		     reader_on_sent_file on_file, void *arg);

/* --- artifacts --- */
struct artifact_info { /* texts are borrowed until the callback returns */
	int64_t id;    /* rises: what is lower is older */
	int64_t run;
	uint32_t uid; /* whose run it is */
	int64_t lsn;
	int64_t time_us;
	enum artifact_state state;
	struct span type;
	struct span name;
	struct span mark;
	struct span about; /* msgpack map: description, metadata, aliases, tags, step */
	struct span client_id;
	struct span sequence_client_id;
	struct span digest;
	struct span server_id;
	struct span base_id;
	struct span manifest_id;
	int64_t expected;   /* bytes that its client said will come; 0: not said */
	int64_t blob_bytes; /* that came */
	int64_t newest;     /* of its name that W&B has from here; 0: none */
};
typedef int (*reader_on_artifact)(void *arg, const struct artifact_info *artifact);
int reader_artifact(struct reader *r, int64_t id, reader_on_artifact on_artifact,
		    void *arg); /* -ENOENT */
/* A page of all that are on their way, with a number above `after`, rising. */
int reader_artifacts(struct reader *r, int64_t after, reader_on_artifact on_artifact, void *arg);
/* Those that may be sent now: of each run and name the oldest, up to max with a number above `after`. */
int reader_due_artifacts(struct reader *r, int64_t after, unsigned max,
			 reader_on_artifact on_artifact, void *arg);
/* The next of that run and name. -ENOENT. */
int reader_next_artifact(struct reader *r, int64_t run, struct span name, int64_t after,
			 reader_on_artifact on_artifact, void *arg);
struct artifact_file { /* spans are borrowed until the callback returns; .at NULL: none */
	struct span path;
	struct span blob; /* its digest; none: a reference */
	enum artifact_form form;
	int64_t start;      /* of its bytes in the blob */
	int64_t size;       /* -1: not known */
	struct span digest; /* none: not known yet */
	struct span ref;
	struct span extra; /* of a reference: JSON; of a file: hex MD5s of its parts */
	struct span birth;
	int64_t blob_size;
};
enum artifact_files {
	ARTIFACT_FILES_ALL,
	ARTIFACT_FILES_UNSENT, /* that have bytes which W&B does not have yet */
};
typedef int (*reader_on_artifact_file)(void *arg, const struct artifact_file *file);
/* Up to max of them, by their paths as bytes, behind after_path. */
int reader_artifact_files(struct reader *r, int64_t id, struct span after_path, unsigned max,
			  enum artifact_files which, reader_on_artifact_file on_file, void *arg);
struct artifact_counts {
	int64_t waiting;       /* whole and not sent */
	int64_t collecting;    /* of which their clients have more ... */
	int64_t missing_bytes; /* ... so much, as they said */
};
int reader_artifact_counts(struct reader *r, struct artifact_counts *ret);

/* --- dead letters, late rows --- */
struct dead_info {
	int64_t id;
	int64_t run;
	int64_t time_us;
	int64_t step; /* -1: none */
	int64_t bytes;
	int status;
	struct span sink;
	struct span what;
	struct span reason;
	struct span request;
	struct span answer; /* empty in lists */
	struct span body;   /* empty in lists */
};
typedef int (*reader_on_dead)(void *arg, const struct dead_info *dead);
int reader_dead(struct reader *r, int64_t after, reader_on_dead on_dead,
		void *arg); /* a page, without answer and body */
int reader_dead_letter(struct reader *r, int64_t id, reader_on_dead on_dead,
		       void *arg); /* whole; -ENOENT */
/* Dead letters of a run that are to be sent again: a page, whole. */
int reader_dead_retries(struct reader *r, int64_t run, reader_on_dead on_dead, void *arg);
struct dead_group { /* dead letters of one sink, status and reason */
	int64_t count;
	int status;
	struct span sink;
	struct span reason;
	int64_t run; /* of one of them */
};
typedef int (*reader_on_dead_group)(void *arg, const struct dead_group *group);
int reader_dead_groups(struct reader *r, reader_on_dead_group on_group,
		       void *arg); /* the largest first, up to 8 */
struct late_info {                 /* a row that came after its step had gone */
	int64_t run;
	int64_t lsn;
	int64_t step;
	int64_t time_us;
	struct span payload; /* of its record; borrowed */
};
typedef int (*reader_on_late)(void *arg, const struct late_info *late);
/* A page, ordered by run and lsn, behind these. */
int reader_late(struct reader *r, int64_t after_run, int64_t after_lsn, reader_on_late on_late,
		void *arg);

/* --- sums --- */
struct store_totals {
	int64_t database_bytes;
	int64_t wal_bytes;
	int64_t blob_bytes; /* in files */
	int64_t dead;
	int64_t dead_bytes;
	int64_t late;
	int64_t runs[RUN_STATES];
	int64_t parked;
	int64_t rejected; /* since the store was made */
	int64_t refused;
	int64_t lost; /* given up by clients */
	int64_t held; /* tables that the settings did not let go, ever */
};
int reader_totals(struct reader *r, struct store_totals *ret);
struct sink_info {
	int64_t paused_until_us; /* 0: not; -1: for good */
	int64_t last_ok_us;
	int64_t sent;
	int64_t requests_per_s; /* 0: no limit, -1: as the settings say; as the next */
	int64_t bytes_per_s;
};
/* Both: all 0, and limits -1, when nothing is known. The total is of all keys: "models", "models:1001" ... */
int reader_sink(struct reader *r, const char *name, struct sink_info *ret);
int reader_sink_total(struct reader *r, const char *name, struct sink_info *ret);

/* --- is it well? --- */
enum check_part {
	CHECK_TABLES,
	CHECK_RECORDS,
	CHECK_CURSORS,
	CHECK_DONE
};
struct store_check { /* embeddable, all 0 at its begin */
	enum check_part part;
	char table[64];
	int64_t stream; /* the extent that was looked at last, and the sums up to it */
	int64_t first;
	int64_t sum_records;
	int64_t sum_bytes;
	/* out */
	unsigned tables;     /* looked at, but for the big ones */
	unsigned tables_cut; /* of these: not to their end, that would take too long */
	int64_t records;     /* counted against the sums */
	int64_t bytes;
	int64_t wrong_sums;    /* extents that say something else than their records */
	int64_t wrong_cursors; /* streams of which more is confirmed than was taken */
	char damage[200];      /* what SQLite says; "": nothing */
};
/* A slice of a few ms, or a small table. 1: there is more; 0: that was all; -errno. Damage is no error.
 */
int reader_check(struct reader *r, struct store_check *c);
struct store_pages {
	int64_t pages;
	int64_t free_pages;
	int64_t page_bytes;
	int64_t records; /* about so many */
};
int reader_pages(struct reader *r, struct store_pages *ret);
/* What is delivered, was stored before this time and is still here: what retention may remove. */
int reader_prunable(struct reader *r, int64_t before_us, int64_t *ret_records, int64_t *ret_bytes);
