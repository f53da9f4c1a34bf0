/* libwbx: hand a run's records to the local wbx daemon, which keeps them on disk and brings them to
 * Weights & Biases.
 *
 * What every function promises: it returns in microseconds (with a table: in the time of copying
 * it), never waits for the network, the daemon or a sync, never raises a signal, may be
 * called from any thread, and works while the daemon is away. Only wbx_flush() and wbx_close()
 * wait, as long as they are told to. What returned 0 survives the death of this process: it is in a
 * journal outside of it. After fork() the child is a producer of its own and may go on using the
 * same handles.
 *
 * Functions return 0 or a negative errno value:
 *   -EINVAL    an argument makes no sense (a NULL, an empty name, a list that was not ended)
 *   -EMSGSIZE  one value is above 1 MiB, or a name above 512 bytes
 *   -E2BIG     more than 128 tables in one record
 *   -ENOBUFS   journal, spool and memory are full: the record was given up and counted, and the
 *              daemon will be told
 *   -ENOMEM
 *   -ESHUTDOWN the handle was closed, or the run finished
 *
 * Texts are UTF-8. Names and values mean what they mean in the wandb SDK. libwbx(3) tells more. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WBX_API __attribute__((visibility("default")))

/* One process's connection to the daemon. */
struct wbx;
/* A run that this process logs to. Lives until wbx_close(). */
struct wbx_run;
/* Values under keys, or values in a list, being put together. One thread at a time. */
struct wbx_map;

/* Zeroed means: defaults. Everything is copied. */
struct wbx_options {
	const char *socket; /* of the daemon; NULL: $WBX_SOCKET, else the system's, else the user's
			       own daemon */
	const char *daemon; /* the wbxd to start when there is none; NULL: searched in PATH. "":
			       start none */
	int64_t rank;       /* -1 (or 0 with world 0): not known */
	int64_t world;
	size_t journal_bytes;     /* 4 MiB */
	uint64_t spool_max_bytes; /* what may wait on disk beside the journal: 8 GiB */
	/* Words for people: level 0 error, 1 warning, 2 note. NULL: to standard error. Called from
	 * a thread of the library. */
	void (*on_message)(void *arg, int level, const char *text);
	void *arg;
};

/* Never waits for a daemon: the connection is made in the background. 0 and *ret, owned by the
 * caller until wbx_close(). */
WBX_API int wbx_open(struct wbx **ret, const struct wbx_options *options);
/* Returns when everything that was logged before is on the daemon's disk: 0; -ETIMEDOUT after
 * timeout_ms (it is still kept). */
WBX_API int wbx_flush(struct wbx *w, int timeout_ms);
/* Hands the user's W&B key to the daemon, which keeps it and sends this user's runs under it, from
 * whatever process. Nobody else does that: a key in the environment stays there. 0; -EINVAL: it is no
 * key; -ENOENT, -ECONNREFUSED: no daemon runs; -ETIMEDOUT; -EREMOTEIO: the daemon cannot keep it. */
WBX_API int wbx_login(struct wbx *w, const char *key, int timeout_ms);
/* Ends the connection and frees w and its runs; no other thread may use them any more. Waits at
 * most timeout_ms for what is not acknowledged; what is not by then stays in the journal for the
 * daemon. 0, or -ETIMEDOUT. w NULL is fine. */
WBX_API int wbx_close(struct wbx *w, int timeout_ms);

struct wbx_stats {
	uint64_t records;          /* taken */
	uint64_t acknowledged_seq; /* of the last record on the daemon's disk */
	uint64_t last_seq;         /* of the last record taken */
	uint64_t given_up;         /* records that nothing could hold */
	uint64_t rejected;         /* by the daemon */
	uint64_t waiting_bytes;    /* in journal, spool and memory */
	uint64_t reconnects;
	bool connected;
	bool durable; /* a journal outside the process holds what is not acknowledged */
};
WBX_API void wbx_get_stats(struct wbx *w, struct wbx_stats *ret);
/* The socket in use; borrowed until wbx_close(). */
WBX_API const char *wbx_socket(const struct wbx *w);

/* --- runs --- */

struct wbx_run_options {
	const char *project; /* required */
	const char *entity;  /* NULL: the default of the key */
	const char *id;      /* NULL: eight random characters */
	const char *name;    /* shown in W&B; NULL: W&B makes one */
	const char *group;
	const char *job_type;
	const char *notes;
	const char *const *tags; /* ends with NULL */
	const char *resume;      /* allow, must, never, auto */
	const char *program;
	const char *python; /* version of the interpreter, for W&B */
	const char *label;  /* of this process's output and system metrics; NULL: none */
	const struct wbx_map *config;
	/* Calls of this process without a step that belong together are one row: for trainers that
	 * log one value a call. libwbx(3) says which do. */
	bool merge_rows;
	const char
		*token; /* 16 to 512 bytes that nobody guesses; NULL: none. wbx_run(): who knows it
			      may join, whatever user he is; wbx_attach(): to join another user's */
	/* wbx_run(): several machines log rows to this run, each with a daemon of its own (or W&B's
	 * client in its shared mode). All have to say so, from the first on. See libwbx(3). */
	bool shared;
	bool is_secondary;    /* with it: another machine's is the primary */
	bool leaves_end;      /* with it: another one says how the run ended */
	bool derived_summary; /* with it: W&B makes the summary of the rows */
};
/* Opens a run: creates it in W&B, or goes on with it. 0 and *ret, freed with w. A config for which
 * there is no room or memory any more is counted as given up, or some of its keys; the run is open. */
WBX_API int wbx_run(struct wbx *w, const struct wbx_run_options *options, struct wbx_run **ret);
/* Joins a run that another process opened, to add to it. Only project, entity, id, token and merge_rows
 * count. */
WBX_API int wbx_attach(struct wbx *w, const struct wbx_run_options *options, struct wbx_run **ret);
WBX_API const char *wbx_run_id(const struct wbx_run *run);

/* What W&B has answered about a run, as far as the daemon has told this process. Texts are "" while
 * nothing was said, and cut when they are longer. */
struct wbx_run_info {
	char state[16];   /* new (W&B has not answered), created, live, finishing, done */
	char entity[513]; /* as W&B has them */
	char project[513];
	char name[513];
	char url[2048];
	char reason[256];  /* why it waits: parked, or W&B cannot be asked now */
	bool known;        /* another process on this machine had opened it before */
	bool resumed;      /* it is gone on with: W&B had it, or it had ended here */
	bool conflict;     /* W&B has it otherwise than `resume` says; `reason` tells how */
	bool stopped;      /* somebody pressed Stop in W&B */
	int64_t next_step; /* -1: not known */
	uint64_t waiting;  /* records that W&B does not have, as of the last word */
};
WBX_API void wbx_get_run_info(struct wbx_run *run, struct wbx_run_info *ret);
/* Waits until W&B has answered for the run: 0; -EEXIST: a conflict, see above; -EAGAIN: it cannot be
 * asked now (no daemon, no key, no link, parked); -ETIMEDOUT. After wbx_finish(): until the daemon
 * has said what of it waits. For who needs to know; nothing else waits for it. */
WBX_API int wbx_wait_for_run(struct wbx_run *run, int timeout_ms);
enum wbx_past {
	WBX_PAST_CONFIG,
	WBX_PAST_SUMMARY
};
/* Config or summary that a resumed run brought along, as the text of a JSON object (with W&B's NaN and
 * Infinity). Freed by the caller with free(); NULL: none is known. */
WBX_API char *wbx_get_past(struct wbx_run *run, enum wbx_past which);
/* Has somebody pressed Stop? Costs nothing. */
WBX_API bool wbx_stopped(const struct wbx_run *run);

enum wbx_commit {
	WBX_COMMIT_AUTO, /* as the SDK: without a step the row is complete, with one it stays open
			    until a higher one */
	WBX_COMMIT_YES,
	WBX_COMMIT_NO,
};
#define WBX_NO_STEP INT64_MIN
/* A row, or a part of one. A map above 1 MiB goes in several records: when room ends between them
 * (-ENOBUFS) some of its keys are kept. */
WBX_API int wbx_log(struct wbx_run *run, const struct wbx_map *values, int64_t step,
		    enum wbx_commit commit);
WBX_API int wbx_summary(struct wbx_run *run, const struct wbx_map *values);
WBX_API int wbx_config(struct wbx_run *run, const struct wbx_map *values);
/* Lists end with NULL; either may be NULL. */
WBX_API int wbx_tags(struct wbx_run *run, const char *const *add, const char *const *remove);

struct wbx_metric {
	const char *name; /* required; may end in '*' */
	const char *step_metric;
	bool step_sync;
	bool hidden;
	const char *const *summary; /* min max mean best last first none copy; ends with NULL */
	const char *goal;           /* minimize, maximize */
	bool overwrite;             /* takes the place of the definition before, else adds to it */
};
WBX_API int wbx_define(struct wbx_run *run, const struct wbx_metric *metric);

/* Console output, in any pieces: lines are put together by the daemon. stream: "stdout" or
 * "stderr". What is above 1 MiB goes in several records. */
WBX_API int wbx_output(struct wbx_run *run, const char *stream, const char *text);
WBX_API int wbx_output_bytes(struct wbx_run *run, const char *stream, const void *text,
			     size_t len); /* may hold NULs */
/* System metrics of one moment, numbers: what W&B shows as "system.<key>", as "gpu.0.temp". */
WBX_API int wbx_system(struct wbx_run *run, const struct wbx_map *values);
/* level: INFO, WARN, ERROR or NULL. wait_ms: the same title is not sent again for so long. */
WBX_API int wbx_alert(struct wbx_run *run, const char *title, const char *text, const char *level,
		      uint64_t wait_ms);

enum {
	WBX_ID_MAX = 37
}; /* a UUID and its NUL */
struct wbx_call {
	const char *op; /* required */
	const char *parent_id;
	const char *trace_id;
	const char *display_name;
	const struct wbx_map *inputs;
	const struct wbx_map *attributes;
	int64_t step; /* of training; below 0: none */
};
/* A traced call begins, and ends. run NULL is not allowed. */
WBX_API int wbx_call_start(struct wbx_run *run, const struct wbx_call *call,
			   char ret_id[WBX_ID_MAX]);
/* output: a list of one value, or NULL. exception: NULL when there was none. */
WBX_API int wbx_call_end(struct wbx_run *run, const char *id, const struct wbx_map *output,
			 const char *exception);

/* All that one record may say of a traced call; zeroed: left out, but for step. A call is one record
 * of phase "complete", or one of phase "start" and one of phase "end" with the same id, in any
 * order. What is large in it stands apart and has no bound but a blob's. */
struct wbx_call_record {
	const char *phase;    /* required */
	const char *id;       /* required; of wbx_new_call_id() */
	const char *trace_id; /* start, complete: required; the same for all calls below a root */
	const char *parent_id;
	const char *op; /* start, complete: required */
	const char *display_name;
	const char *thread_id; /* of a conversation, and its turn */
	const char *turn_id;
	const char *exception; /* JSON text, PROTOCOL.md section 4 */
	const char *source;    /* of the op: with its first call */
	const uint8_t *source_sha256;
	uint64_t started_us; /* wall time, microseconds since 1970 */
	uint64_t ended_us;
	int64_t step; /* of training; below 0: none */
	const struct wbx_map *inputs;
	const struct wbx_map *attributes;
	const struct wbx_map *summary; /* {"usage": {model: {"prompt_tokens": ...}}} */
	const struct wbx_map *output;  /* a list of one value */
};
WBX_API int wbx_call(struct wbx_run *run, const struct wbx_call_record *call);
WBX_API int wbx_new_call_id(char ret_id[WBX_ID_MAX]);

/* What somebody thinks of a call. type: "wandb.note.1" {"note"}, "wandb.reaction.1" {"emoji"},
 * "wandb.runnable.NAME" {"output"} for a score, or a word of your own. */
struct wbx_feedback {
	const char *call_id; /* required */
	const char *type;    /* required */
	const struct wbx_map *payload;
	const char *op;             /* that scored; NULL: none */
	const char *scorer_call_id; /* its call; NULL: none */
};
WBX_API int wbx_feedback(struct wbx_run *run, const struct wbx_feedback *feedback,
			 char ret_id[WBX_ID_MAX]);
/* A prompt, a dataset, another object. type: "StringPrompt" {"content"}, "MessagesPrompt"
 * {"messages"}, "Dataset" {"rows": [{...} ...]}. */
WBX_API int wbx_publish(struct wbx_run *run, const char *name, const char *type,
			const struct wbx_map *data);
/* What a token of one's own model costs, in USD. provider may be NULL. */
WBX_API int wbx_cost(struct wbx_run *run, const char *model, const char *provider,
		     double prompt_token, double completion_token);
/* A project, for calls, feedback, objects and costs that belong to no run; other records are not
 * taken by it (-EINVAL). entity may be NULL. Freed with w. */
WBX_API int wbx_project(struct wbx *w, const char *entity, const char *project,
			struct wbx_run **ret);

/* This process is about to be stopped, to go on later or elsewhere: W&B is told at once, and sent
 * what there is. Not from a signal handler. */
WBX_API int wbx_mark_preempting(struct wbx_run *run);
/* This process logs no more to the run. The run completes when all its processes did, or died. */
WBX_API int wbx_finish(struct wbx_run *run, int exit_code);
/* The same, for an exit handler: the process ends, and this is how. */
WBX_API int wbx_exit(struct wbx_run *run, int exit_code);

/* --- artifacts --- */

/* Files that belong together, in versions: what a run makes, or uses. One thread at a time. */
struct wbx_artifact;
/* name: 1 to 128 of [A-Za-z0-9_.-]; type: as dataset, model, config. 0; -EINVAL, -ENOMEM. */
WBX_API int wbx_artifact_new(struct wbx_artifact **ret, const char *name, const char *type);
/* What was taken of files and not logged goes with it. NULL is fine. */
WBX_API void wbx_artifact_free(struct wbx_artifact *a);
/* path: in the artifact, with '/' between its parts; what was there before goes. -EINVAL: it leads out
 * of it. */
WBX_API int wbx_artifact_add_bytes(struct wbx_artifact *a, const char *path, const void *bytes,
				   size_t len);
/* A file as it is now: it may be changed or deleted afterwards. Above 1 GiB in all ($WBX_ARTIFACT_COPY_MAX)
 * it is not copied but cloned, or linked beside itself: then it may be deleted or replaced, but not
 * written to until W&B has it. Above 8 GiB ($WBX_ARTIFACT_MAX) it becomes a reference. 0; -ENOENT and so
 * on: it cannot be read; -ENOSPC, -ENOMEM. */
WBX_API int wbx_artifact_add_file(struct wbx_artifact *a, const char *path, const char *local_path);
/* A table; columns and rows as for wbx_put_table_msgpack(). path ends in .table.json. */
WBX_API int wbx_artifact_add_table(struct wbx_artifact *a, const char *path, const void *columns,
				   size_t columns_len, const void *rows, size_t rows_len);
/* Something elsewhere, by its address. digest: what tells one version of it from another; NULL: the
 * address. size: -1: not known. */
WBX_API int wbx_artifact_add_reference(struct wbx_artifact *a, const char *path, const char *uri,
				       const char *digest, int64_t size);
struct wbx_artifact_options {
	const char *description;
	const struct wbx_map *metadata;
	const char *const *aliases; /* ends with NULL; "latest" comes by itself */
	const char *const *tags;    /* the same */
	int64_t step;               /* of the run's history; below 1: none */
};
/* A new version, made by this run; W&B makes none when the content is that of the version before. Up to 64 MiB
 * are in journal and spool when it returns. More is handed over by a thread of its own; what the
 * process's end leaves of that waits in the user's own directory for `wbxctl artifact send`. 0;
 * -EMSGSIZE: the metadata is too long; the errors of wbx_log(). a can be freed, or changed and logged
 * again. */
WBX_API int wbx_log_artifact(struct wbx_run *run, struct wbx_artifact *a,
			     const struct wbx_artifact_options *options);

/* --- values --- */

WBX_API struct wbx_map *wbx_map_new(void);  /* NULL: no memory */
WBX_API struct wbx_map *wbx_list_new(void); /* for values without keys */
WBX_API void wbx_map_free(struct wbx_map *m);
WBX_API void wbx_map_clear(struct wbx_map *m);

/* key is NULL inside a list and only there. An error stays in m: it is enough to look at what takes
 * the map. */
WBX_API int wbx_put_double(struct wbx_map *m, const char *key, double value);
WBX_API int wbx_put_int(struct wbx_map *m, const char *key, int64_t value);
WBX_API int wbx_put_bool(struct wbx_map *m, const char *key, bool value);
WBX_API int wbx_put_null(struct wbx_map *m, const char *key);
WBX_API int wbx_put_text(struct wbx_map *m, const char *key, const char *value);
WBX_API int wbx_put_bytes_as_text(struct wbx_map *m, const char *key, const void *text,
				  size_t len); /* may hold NULs */
WBX_API int wbx_begin_map(struct wbx_map *m, const char *key);
WBX_API int wbx_begin_list(struct wbx_map *m, const char *key);
WBX_API int wbx_end(struct wbx_map *m);
/* One value that is msgpack already, taken as it is. */
WBX_API int wbx_put_msgpack(struct wbx_map *m, const char *key, const void *bytes, size_t len);

/* A table under key: `rows` is a list of lists, each with a value per column. m keeps a copy, which
 * goes to the daemon with the record that m is logged in: wbx_log, wbx_summary, or a call;
 * wbx_config takes no tables (-EINVAL). */
WBX_API int wbx_put_table(struct wbx_run *run, struct wbx_map *m, const char *key,
			  const char *const *columns, size_t column_count,
			  const struct wbx_map *rows);
/* The same with both as msgpack: an array of strings, an array of arrays. */
WBX_API int wbx_put_table_msgpack(struct wbx_run *run, struct wbx_map *m, const char *key,
				  const void *columns, size_t columns_len, const void *rows,
				  size_t rows_len);
/* The same with more to say. Zeroed: as above. */
struct wbx_table {
	const char *const *columns;
	size_t column_count;
	const struct wbx_map *rows; /* a list of lists */
	const char *log_mode; /* IMMUTABLE (NULL), MUTABLE, INCREMENTAL: rows since the last */
	bool mixed;           /* a column may have values of any types */
	uint64_t increment;   /* INCREMENTAL: the how-manieth under this key, from 0 */
	uint64_t rows_in_all; /* INCREMENTAL: with those logged before; 0: as many as `rows` */
};
WBX_API int wbx_put_table_with(struct wbx_run *run, struct wbx_map *m, const char *key,
			       const struct wbx_table *table);

/* A value that is a file: an image and so on, as W&B has them. */
struct wbx_media {
	const char *type; /* image-file, html-file, audio-file, video-file, plotly-file ... */
	const char *ext;  /* ".png": how its path ends */
	const void *bytes;
	size_t len;
	const struct wbx_map *more; /* further keys (format, width, height, caption); NULL: none */
	bool in_cell;               /* m is a table's rows, or inside them */
};
WBX_API int wbx_put_media(struct wbx_map *m, const char *key, const struct wbx_media *media);
/* A time in a table's cell: milliseconds since 1970, and how it reads (NULL: not at all). */
WBX_API int wbx_put_time(struct wbx_map *m, const char *key, int64_t ms, const char *text);

/* --- the run's files --- */

/* One of the run's files in W&B: path is relative to them, with slashes (-EINVAL: it leads elsewhere).
 * The bytes are copied. policy: now (NULL), live, end. The newest of a path counts. */
WBX_API int wbx_save(struct wbx_run *run, const char *path, const void *bytes, size_t len,
		     const char *policy);

#ifdef __cplusplus
}
#endif
