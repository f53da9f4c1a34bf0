/* What the sender (a plan, a mark) or an operator asks the store to change: any number of small
 * changes that are committed as one transaction, or not at all. The mail comes back with the
 * result. */
#pragma once

#include "daemon/base/mailbox.h"
#include "daemon/flow/artifact.h"
#include "daemon/flow/run.h"
#include "daemon/flow/trace.h"
#include "daemon/flow/upload.h"
#include "proto/base/buf.h"

enum {
	MAIL_CHANGES = 10
};

enum change_kind {
	/* plans */
	CHANGE_CURSOR,   /* stream, lsn: records up to lsn are planned */
	CHANGE_LINE_ADD, /* run, offset, step, lsn, time_us, records, bytes, text: a line; the run's
			    next_offset moves behind it */
	CHANGE_PLANNER,  /* run, text: the planner's state at the cursor */
	CHANGE_WAYPOINT, /* run, lsn, time_us, step, text: the state, to tell rows again from; offset,
			    number: planned rows from step `offset` on go to `number` and up, 0: none */
	CHANGE_LATE_ADD,   /* run, lsn, step, time_us, text (payload): counted in the run */
	CHANGE_UPLOAD_ADD, /* run, lsn, step, time_us, upload: the blob gets one reference more; of a
			      file that nothing names it takes the place of those that wait */
	CHANGE_SIDE_ADD, /* run, file, offset, text: a line; takes the place of one that is there */
	CHANGE_SIDE_STATE, /* run, text: the state of that planner at its cursor */
	/* marks */
	CHANGE_LINES_DONE,   /* run, offset: lines below it are confirmed and forgotten */
	CHANGE_LINE_DEAD,    /* run, offset: the line becomes the dead letter below it in the list,
			      later ones move down by one */
	CHANGE_UPLOAD_THERE, /* number (id): the storage has it; the blob is given back */
	CHANGE_UPLOAD_DONE,  /* number (id): the run's stream has said so: forgotten */
	CHANGE_UPLOAD_REFUSED, /* number (id): the dead letter of the change before is its */
	CHANGE_UPLOAD_HOLD,    /* number (id) */
	CHANGE_UPLOADS_END,    /* run: what waits for its end is due */
	CHANGE_SIDE_DONE,      /* run, file, offset: lines below it are confirmed and forgotten */
	CHANGE_SIDE_DROP,      /* run, file, offset: the line goes, later ones move down by one */
	CHANGE_SIDE_MOVE,      /* run, file, number: all lines move so far */
	CHANGE_CONFIRM,    /* stream, lsn (nothing at or below is needed), records, bytes, blobs,
			      blob_bytes: added to the confirmed */
	CHANGE_RUN_STATE,  /* run, state */
	CHANGE_LINE_STEP,  /* run, offset, step, text: the line gets another step */
	CHANGE_RUN_OFFSET, /* run, offset: the lines that are not confirmed begin there now */
	CHANGE_RUN_SERVER, /* run, text (display name), text2 (server id), text3 (entity), text4
			      (project) */
	CHANGE_RUN_EXIT,   /* run, number (exit code) */
	CHANGE_DEAD_KEEP,  /* number: id: it cannot be sent again, and stays */
	CHANGE_RUN_PARK,   /* run, text: why; empty: parked no more */
	CHANGE_DEAD_ADD,   /* run, sink in text, dead */
	CHANGE_SINK_OK,    /* text (sink), time_us, records */
	/* artifacts */
	CHANGE_ARTIFACT_ADD, /* run, lsn, time_us, state, artifact (mark, type, name, about, ids,
				 expected), records, bytes, blobs, blob_bytes: there is one, or of one
				 that collects there is more; known by run and mark */
	CHANGE_ARTIFACT_FILE, /* run, artifact (mark, file), or number (id): an entry; the blob gets one reference
				 more. Nothing when the artifact has gone on */
	CHANGE_ARTIFACT_MOVE,     /* number (id), artifact (state, digest, server_id, base_id,
				 manifest_id: those that are not NULL) */
	CHANGE_ARTIFACT_FILE_SET, /* number (id), artifact (file: path, and size, digest, birth when
				     they are known, and as extra the MD5s of its parts) */
	CHANGE_ARTIFACT_AFRESH,   /* number (id): W&B has forgotten it, and what was sent of it */
	CHANGE_ARTIFACT_DONE,     /* number (id): W&B has it; it is confirmed and forgotten */
	CHANGE_ARTIFACT_DROP,     /* number (id): given up; the same */
	/* operators */
	CHANGE_SINK_PAUSE, /* text (sink), time_us: until then, -1 for good, 0 no more */
	CHANGE_SINK_LIMIT, /* text (sink), requests_per_s, bytes_per_s: 0 and more, CHANGE_LIMIT_KEEP as it
			      is, CHANGE_LIMIT_DEFAULT as the settings say */
	CHANGE_DEAD_DROP,  /* number: id */
	CHANGE_DEAD_RETRY, /* number: id: its run sends it again */
	CHANGE_LATE_DROP,  /* run */
	CHANGE_PRUNE,      /* time_us: what is delivered and was stored before it goes now */
	/* traces */
	CHANGE_TRACE_CALL, /* run, lsn, time_us (of its commit), call, share: one record of a call */
	CHANGE_TRACE_LOST, /* run, number (producer), lsn, time_us, loss, offset (when it ended): its
			       open calls have ended */
	CHANGE_TRACE_ITEM,  /* run, lsn, text (a call's id, or empty), share */
	CHANGE_TRACE_STATE, /* run, lsn (of the metrics looked through), text: the state of steps */
	CHANGE_TRACE_STEP,  /* run, number (mode), time_us, step */
	CHANGE_TRACE_OP,    /* run, text (name), text2 (digest), lsn */
	CHANGE_TRACE_OP_SENT, /* run, text (name), text2 (digest): it is planned, or known there */
	CHANGE_TRACE_LINE,    /* run, line_kind, text, text2 (trace), text3 (call), share, loss: a
			       line; its call is planned */
	CHANGE_TRACE_BELOW,   /* run, text (call), number (well), offset (errors), text2 (usage) */
	CHANGE_TRACE_DUE,     /* run, text (trace), time_us, number (1: it is a long one) */
	CHANGE_TRACE_ITEM_DONE, /* run, lsn: it is planned */
	CHANGE_TRACE_DONE, /* run, number (id of a line), time_us, bytes: this line and those before it
			       are confirmed; bytes were sent */
	CHANGE_TRACE_REFUSED, /* run, number (id of a line): it is a dead letter */
	CHANGE_TRACE_DROP,    /* run, text (call): it cannot be sent */
	CHANGE_TRACE_HOLD,    /* run, text (trace): it is left out, and stays here */
	CHANGE_TRACE_WANT,    /* run, text (trace; empty: all): it is sent after all */
	CHANGE_TRACE_KEPT,    /* run, text (op), step: one more of it goes out */
	CHANGE_TRACE_PARK,    /* run, text: why; empty: parked no more */
};

enum {
	CHANGE_LIMIT_KEEP = -1,
	CHANGE_LIMIT_DEFAULT = -2
};

struct change_dead {
	int status;
	const char *what; /* static */
	int64_t step;     /* -1: none */
	struct span reason;
	struct span request;
	struct span answer;
	struct span body;
};

struct change_upload {
	enum upload_kind kind;
	enum upload_state state;
	struct span key;
	struct span path;
	struct span sha256; /* hex, of the file */
	int64_t size;
	struct span client_id;
	struct span sequence_client_id;
	struct span blob; /* digest of the blob it is made from; empty: the file is empty */
};

struct change_artifact {
	enum artifact_state state;
	struct span mark; /* unique in the run */
	struct span type;
	struct span name;
	struct span about; /* msgpack map: description, metadata, aliases, tags, step */
	struct span client_id;
	struct span sequence_client_id;
	int64_t expected; /* bytes that its client said will come; 0: not said */
	struct span digest;
	struct span server_id;
	struct span base_id;
	struct span manifest_id;
	struct { /* an entry */
		struct span path;
		struct span blob; /* its digest; .at NULL: a reference */
		enum artifact_form form;
		int64_t start;      /* of its bytes in the blob */
		int64_t size;       /* -1: not known */
		struct span digest; /* base64 of its MD5, or what a reference has; .at NULL */
		struct span ref;
		struct span extra;
		struct span birth;
	} file;
};

/* Spans point into the list's own bytes: changes_add() copies what the caller borrows. */
struct change {
	enum change_kind kind;
	int64_t run;
	int64_t stream;
	int64_t lsn;
	int64_t offset;
	int64_t step;
	int64_t time_us;
	int64_t number;
	enum side_file file;
	enum trace_line_kind line_kind;
	enum call_loss loss;
	struct call_fact call;
	struct trace_share share;
	int64_t requests_per_s;
	int64_t bytes_per_s;
	int64_t records;
	int64_t bytes;
	int64_t blobs;
	int64_t blob_bytes;
	enum run_state state;
	struct span text;
	struct span text2;
	struct span text3;
	struct span text4;
	struct change_dead dead;
	struct change_upload upload;
	struct change_artifact artifact;
};

struct changes {
	struct mail mail;
	void *owner;    /* the poster's own */
	bool of_traces; /* and what it is: the sender's own word */
	struct mailbox *reply_to;
	struct change *items;
	size_t count;
	size_t cap;
	struct chunk *chunks; /* where the copied bytes are; they never move */
	int error;            /* of an addition that failed; nothing may be posted then */
	int result; /* out: 0 committed; -ENOENT: what it names is not there, nothing changed; else
		       -errno */
};

struct changes *changes_new(void *owner, struct mailbox *reply_to); /* NULL: no memory */
struct changes *changes_free(struct changes *c);
void changes_reset(struct changes *c);
/* Copies the change and all that it borrows. The first failure stays in c->error. */
void changes_add(struct changes *c, const struct change *change);
/* The record cannot be sent, and becomes a dead letter of the run; it must not stop those behind it. */
void changes_add_dead_record(struct changes *c, const char *sink, int64_t run, int64_t time_us,
			     struct span record, const char *reason);
