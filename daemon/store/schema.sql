-- The store, version 3. One SQLite database: what came in (record, extent, blob), who sent it (producer, run, member), and how far
-- its delivery is (cursor, line, upload, late, dead, sink). Written by the store thread alone, read by any.
--
-- When this changes: raise SCHEMA_VERSION in db.c, add an O(1) step to `migrations` there, keep old columns. A database with a higher
-- user_version is refused untouched.

-- Single values. next_lsn: a lower bound for the next lsn, written by retention before it deletes the newest records (a rowid
-- starts again when its table is empty).
CREATE TABLE meta (
	key TEXT PRIMARY KEY,
	value
) WITHOUT ROWID;

-- What was counted and will never be stored: rejected records by code, refused ones by class.
CREATE TABLE tally (
	name TEXT PRIMARY KEY,
	count INTEGER NOT NULL
) WITHOUT ROWID;

-- One process that logs. (uid, name) is the key of de-duplication, last_seq its last durable seq.
CREATE TABLE producer (
	id INTEGER PRIMARY KEY,
	uid INTEGER NOT NULL,
	name BLOB NOT NULL,
	last_seq INTEGER NOT NULL,
	hello BLOB NOT NULL, -- the body of its hello
	first_us INTEGER NOT NULL,
	UNIQUE (uid, name)
);

-- A run of W&B, as wbx knows it. name is the run id. name '' stands for calls that belong to no run.
CREATE TABLE run (
	id INTEGER PRIMARY KEY,
	uid INTEGER NOT NULL,
	entity TEXT NOT NULL, -- '' is the default of the key
	project TEXT NOT NULL,
	name TEXT NOT NULL,
	created_us INTEGER NOT NULL,
	state INTEGER NOT NULL DEFAULT 0,    -- enum run_state, daemon/flow/run.h
	reopened INTEGER NOT NULL DEFAULT 0, -- 1: done, and a record came after that
	parked TEXT,			     -- why it waits for a person; NULL: it does not
	exit_code INTEGER,
	next_offset INTEGER NOT NULL DEFAULT 0, -- of the next history line to be planned
	done_offset INTEGER NOT NULL DEFAULT 0, -- history lines below it are confirmed
	late INTEGER NOT NULL DEFAULT 0,
	refused INTEGER NOT NULL DEFAULT 0, -- records that were rejected, refused for the disk, or given up by its clients
	display_name TEXT,		     -- as W&B has it
	server_id TEXT,
	server_entity TEXT,
	server_project TEXT,
	UNIQUE (uid, entity, project, name)
);

CREATE INDEX run_name ON run (name);
CREATE INDEX run_open ON run (id) WHERE state < 4 OR reopened = 1;

-- The planner's state at the cursor (forward/models/state.h); a table of its own, so that small changes of a run stay small.
CREATE TABLE planner (
	run INTEGER PRIMARY KEY,
	state BLOB NOT NULL
);

-- The planner's state as it was when the records up to lsn were in (time_us: and rows were last looked for), from time to time and
-- whenever something else than a record moved its numbers. Rows that were planned can be told again from there with the numbers that
-- they got, also when earlier records are gone (forward/models/history.c). Retention drops those that nothing can begin at any more.
CREATE TABLE waypoint (
	run INTEGER NOT NULL,
	lsn INTEGER NOT NULL,
	time_us INTEGER NOT NULL,
	next_step INTEGER NOT NULL,
	resteps INTEGER, -- planned rows from this step on, which were not sent yet, were numbered anew ...
	resteps_to INTEGER, -- ... from here on at least; NULL: none were
	state BLOB NOT NULL,
	PRIMARY KEY (run, lsn, time_us)
);

-- Which producer logs to which run, under which name it calls it. state: 0 present, 1 finished, 2 gone.
CREATE TABLE member (
	producer INTEGER NOT NULL,
	name TEXT NOT NULL,
	run INTEGER NOT NULL,
	state INTEGER NOT NULL,
	PRIMARY KEY (producer, name)
) WITHOUT ROWID;
CREATE INDEX member_run ON member (run);

-- Who knows a run's token may join it, whatever user he is. The token itself is nowhere.
CREATE TABLE token (
	run INTEGER PRIMARY KEY,
	sha256 BLOB NOT NULL
);
CREATE INDEX token_sha256 ON token (sha256);

-- Everything that was taken, as it was sent. Append-only but for retention.
CREATE TABLE record (
	lsn INTEGER PRIMARY KEY,
	producer INTEGER NOT NULL,
	payload BLOB NOT NULL -- [kind, seq, body]
);

-- One row per commit and stream: its records are first .. last, and nothing else is. The sums run from the stream's beginning and
-- include this extent, so that a backlog is one subtraction. stream = run * 4 + class.
CREATE TABLE extent (
	stream INTEGER NOT NULL,
	first INTEGER NOT NULL,
	last INTEGER NOT NULL,
	time_us INTEGER NOT NULL, -- when it was committed
	records INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	blobs INTEGER NOT NULL,	  -- blobs that its records name
	blob_bytes INTEGER NOT NULL,
	PRIMARY KEY (stream, first)
) WITHOUT ROWID;

-- Bytes too big for a record. data NULL: in the file blobs/<first two digits>/<sha256 in hex>.
CREATE TABLE blob (
	id INTEGER PRIMARY KEY,
	sha256 BLOB NOT NULL UNIQUE,
	size INTEGER NOT NULL,
	refs INTEGER NOT NULL,
	data BLOB
);
CREATE TABLE blob_use (
	lsn INTEGER NOT NULL,
	blob INTEGER NOT NULL,
	PRIMARY KEY (lsn, blob)
) WITHOUT ROWID;

-- How far the delivery of a stream is: planned up to lsn; `records`, `bytes`, `blobs`, `blob_bytes` of it are confirmed (or
-- late, or dead); nothing at or below done_lsn is needed any more.
CREATE TABLE cursor (
	stream INTEGER PRIMARY KEY,
	lsn INTEGER NOT NULL DEFAULT 0,
	done_lsn INTEGER NOT NULL DEFAULT 0,
	records INTEGER NOT NULL DEFAULT 0,
	bytes INTEGER NOT NULL DEFAULT 0,
	blobs INTEGER NOT NULL DEFAULT 0,
	blob_bytes INTEGER NOT NULL DEFAULT 0
);

-- A history line that is planned and not confirmed. id = run << 36 | offset.
CREATE TABLE line (
	id INTEGER PRIMARY KEY,
	step INTEGER NOT NULL,
	lsn INTEGER NOT NULL,	  -- of its first record
	time_us INTEGER NOT NULL, -- when that was committed
	records INTEGER NOT NULL, -- that it stands for
	bytes INTEGER NOT NULL,
	text TEXT NOT NULL
);

-- What is planned of a run's output, system metrics and alerts and is not confirmed. file: enum side_file, daemon/flow/run.h.
CREATE TABLE side_line (
	run INTEGER NOT NULL,
	file INTEGER NOT NULL,
	line INTEGER NOT NULL, -- its offset in the file
	text TEXT NOT NULL,
	PRIMARY KEY (run, file, line)
) WITHOUT ROWID;
-- The state of their planner at its cursor (forward/models/side.h).
CREATE TABLE side (
	run INTEGER PRIMARY KEY,
	state BLOB NOT NULL
);

-- A file that a planned row names and that was not sent yet. id rises in the order of planning.
CREATE TABLE upload (
	id INTEGER PRIMARY KEY,
	run INTEGER NOT NULL,
	lsn INTEGER NOT NULL,
	step INTEGER NOT NULL,
	time_us INTEGER NOT NULL,
	kind TEXT NOT NULL,	  -- table, media, file (daemon/flow/upload.h)
	key TEXT NOT NULL,
	path TEXT NOT NULL,	  -- in the run's files
	blob INTEGER NOT NULL,	  -- 0: the file is empty, or there
	sha256 TEXT NOT NULL,	  -- of the file as it will be sent, in hex
	size INTEGER NOT NULL,
	client_id TEXT NOT NULL,
	sequence_client_id TEXT NOT NULL,
	state INTEGER NOT NULL DEFAULT 0, -- enum upload_state
	nth INTEGER NOT NULL DEFAULT 0,	  -- so many files of its key came before it
	dead INTEGER			  -- the dead letter that says why it was refused
);
CREATE INDEX upload_run ON upload (run);
-- Files that rows name, sent or not: the same bytes under the same key again are the same file. blob: digest.
CREATE TABLE sent_file (
	run INTEGER NOT NULL,
	key TEXT NOT NULL,
	blob BLOB NOT NULL,
	path TEXT NOT NULL,
	sha256 TEXT NOT NULL,
	size INTEGER NOT NULL,
	client_id TEXT NOT NULL,
	sequence_client_id TEXT NOT NULL,
	PRIMARY KEY (run, key, blob)
) WITHOUT ROWID;

-- An artifact on its way. state: enum artifact_state, daemon/flow/artifact.h. Its number says what is older; none is given again.
CREATE TABLE artifact (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	run INTEGER NOT NULL,
	mark TEXT NOT NULL,	     -- its client's name of it, or that of the row it belongs to
	lsn INTEGER NOT NULL,
	time_us INTEGER NOT NULL,
	state INTEGER NOT NULL,
	type TEXT NOT NULL,
	name TEXT NOT NULL,
	about BLOB NOT NULL,	     -- msgpack: description, metadata, aliases, tags, step
	client_id TEXT NOT NULL,
	sequence_client_id TEXT NOT NULL,
	digest TEXT NOT NULL DEFAULT '',
	server_id TEXT NOT NULL DEFAULT '',
	base_id TEXT NOT NULL DEFAULT '', -- the newest of its collection when it was created there
	manifest_id TEXT NOT NULL DEFAULT '',
	expected INTEGER NOT NULL,   -- bytes that its client said will come
	records INTEGER NOT NULL,    -- what is confirmed with it, of the stream of its records
	bytes INTEGER NOT NULL,
	blobs INTEGER NOT NULL,
	blob_bytes INTEGER NOT NULL,
	UNIQUE (run, mark)
);
CREATE INDEX artifact_name ON artifact (name, id);
-- Its files and references. blob 0: a reference. extra: JSON of a reference; of a file that goes in parts their MD5s in hex. form: enum artifact_form. size -1, digest '': not known yet.
CREATE TABLE artifact_file (
	artifact INTEGER NOT NULL,
	path TEXT NOT NULL,
	blob INTEGER NOT NULL,
	form INTEGER NOT NULL,
	start INTEGER NOT NULL,	     -- of its bytes in the blob
	size INTEGER NOT NULL,
	digest TEXT NOT NULL,
	ref TEXT NOT NULL,
	extra TEXT NOT NULL,
	birth TEXT NOT NULL,	     -- W&B's id of the artifact that brought the bytes; '': they are to be sent
	PRIMARY KEY (artifact, path)
) WITHOUT ROWID;
-- The newest artifact of a name that W&B has from here: an older one that comes later moves no alias back.
CREATE TABLE collection (
	uid INTEGER NOT NULL,
	entity TEXT NOT NULL,
	project TEXT NOT NULL,
	name TEXT NOT NULL,
	newest INTEGER NOT NULL,
	PRIMARY KEY (uid, entity, project, name)
) WITHOUT ROWID;

-- Rows whose step had gone. Copied out, kept until somebody exports or drops them.
CREATE TABLE late (
	run INTEGER NOT NULL,
	lsn INTEGER NOT NULL,
	step INTEGER NOT NULL,
	time_us INTEGER NOT NULL,
	payload BLOB NOT NULL,
	PRIMARY KEY (run, lsn)
) WITHOUT ROWID;

-- Refused for good by W&B, kept for a person. AUTOINCREMENT: a number that was shown is never given again.
CREATE TABLE dead (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	run INTEGER NOT NULL,
	sink TEXT NOT NULL,
	time_us INTEGER NOT NULL,
	status INTEGER NOT NULL, -- HTTP, 0: found here
	what TEXT NOT NULL,	 -- line, run, config ...
	step INTEGER,
	reason TEXT NOT NULL,	 -- one line
	request TEXT NOT NULL,	 -- method and path
	answer BLOB NOT NULL,	 -- the first 4 KiB
	body BLOB NOT NULL,	 -- what was refused
	bytes INTEGER NOT NULL,
	retry INTEGER NOT NULL DEFAULT 0 -- 1: a person wants it sent again
);
CREATE INDEX dead_run ON dead (run);
CREATE INDEX dead_retry ON dead (run) WHERE retry = 1;

-- What an operator asked of a sink. paused_until_us: 0 not paused, -1 until unpaused. Limits: 0 none, NULL as the settings say.
-- name: models (site's key), models:1001 (a user's own); what is asked stands with the first and is for all.
CREATE TABLE sink (
	name TEXT PRIMARY KEY,
	paused_until_us INTEGER NOT NULL DEFAULT 0,
	last_ok_us INTEGER NOT NULL DEFAULT 0,
	sent INTEGER NOT NULL DEFAULT 0,
	requests_per_s INTEGER,
	bytes_per_s INTEGER
) WITHOUT ROWID;

-- How the traces of a run are. state: of what says which step it is (forward/weave/steps.h), at metrics_lsn.
CREATE TABLE trace_run (
	run INTEGER PRIMARY KEY,
	metrics_lsn INTEGER NOT NULL DEFAULT 0,
	state BLOB,
	parked TEXT -- why its traces wait for a person
);
-- A call between its first record and W&B's word that it has it; what it says is in its records. state: enum call_state, loss: enum
-- call_loss, daemon/flow/trace.h. lsn: of its first record that is still needed; 0: none is.
CREATE TABLE call (
	run INTEGER NOT NULL,
	id TEXT NOT NULL,
	state INTEGER NOT NULL,
	loss INTEGER NOT NULL,
	is_there INTEGER NOT NULL, -- 1: W&B has its start
	is_error INTEGER NOT NULL,
	trace TEXT NOT NULL, -- '': only its end is here
	parent TEXT NOT NULL,
	producer INTEGER NOT NULL,
	lsn INTEGER NOT NULL,
	start_lsn INTEGER NOT NULL,
	end_lsn INTEGER NOT NULL,
	started_us INTEGER NOT NULL,
	ended_us INTEGER NOT NULL,
	step INTEGER NOT NULL, -- as its process says; -1: it does not
	time_us INTEGER NOT NULL, -- when its newest record was committed
	records INTEGER NOT NULL, -- that wait
	bytes INTEGER NOT NULL,
	blobs INTEGER NOT NULL,
	blob_bytes INTEGER NOT NULL,
	ok_below INTEGER NOT NULL DEFAULT 0, -- calls below it that were planned before it
	errors_below INTEGER NOT NULL DEFAULT 0,
	usage_below BLOB,
	PRIMARY KEY (run, id)
) WITHOUT ROWID;
CREATE INDEX call_trace ON call (run, trace, id);
CREATE INDEX call_lsn ON call (run, lsn) WHERE lsn > 0;
CREATE INDEX call_open ON call (run, producer) WHERE end_lsn = 0;
-- A trace with calls that are not planned, and when somebody should look at it.
CREATE TABLE trace (
	run INTEGER NOT NULL,
	id TEXT NOT NULL,
	calls INTEGER NOT NULL,
	open INTEGER NOT NULL,
	roots INTEGER NOT NULL,
	opened_us INTEGER NOT NULL,
	last_us INTEGER NOT NULL,
	due_us INTEGER NOT NULL,
	is_long INTEGER NOT NULL DEFAULT 0,
	held INTEGER NOT NULL DEFAULT 0, -- enum trace_held
	PRIMARY KEY (run, id)
) WITHOUT ROWID;
CREATE INDEX trace_due ON trace (run, due_us);
-- Feedback, objects and costs that are not planned. call: whom a feedback is about.
CREATE TABLE trace_item (
	run INTEGER NOT NULL,
	lsn INTEGER NOT NULL,
	call TEXT NOT NULL,
	bytes INTEGER NOT NULL,
	blobs INTEGER NOT NULL,
	blob_bytes INTEGER NOT NULL,
	PRIMARY KEY (run, lsn)
) WITHOUT ROWID;
-- What is planned for W&B's trace server and not confirmed, in the order in which it goes. kind: enum trace_line_kind.
CREATE TABLE trace_line (
	id INTEGER PRIMARY KEY,
	run INTEGER NOT NULL,
	kind INTEGER NOT NULL,
	loss INTEGER NOT NULL,
	trace TEXT NOT NULL,
	call TEXT NOT NULL,
	records INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	blobs INTEGER NOT NULL,
	blob_bytes INTEGER NOT NULL,
	lsn INTEGER NOT NULL, -- of an item
	text BLOB NOT NULL
);
CREATE INDEX trace_line_run ON trace_line (run);
-- Ops of a run; posted: 1 when W&B has its object, or will with the lines that are planned.
CREATE TABLE op (
	run INTEGER NOT NULL,
	name TEXT NOT NULL,
	digest TEXT NOT NULL,
	lsn INTEGER NOT NULL,
	posted INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (run, name, digest)
) WITHOUT ROWID;
-- The training's step as it was logged, for calls that do not say it.
CREATE TABLE step_mark (
	run INTEGER NOT NULL,
	mode INTEGER NOT NULL,
	time_us INTEGER NOT NULL,
	step INTEGER NOT NULL,
	PRIMARY KEY (run, mode, time_us)
) WITHOUT ROWID;
-- How many traces of an op went out in a step, where [sampling] limits that.
CREATE TABLE trace_kept (
	run INTEGER NOT NULL,
	op TEXT NOT NULL,
	step INTEGER NOT NULL,
	count INTEGER NOT NULL,
	PRIMARY KEY (run, op, step)
) WITHOUT ROWID;
-- Bytes of requests that the trace server took. day: since 1970, UTC.
CREATE TABLE trace_day (
	run INTEGER NOT NULL,
	day INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	calls INTEGER NOT NULL,
	PRIMARY KEY (run, day)
) WITHOUT ROWID;
CREATE INDEX trace_day_day ON trace_day (day);
