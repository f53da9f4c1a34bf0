/* See run_files.h: which files, sending them, marking them. */
#include "daemon/forward/models/run_files_parts.h"

#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/upload.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	FILL_BYTES = 4 << 20,      /* more than so much is not asked for at once */
	BEHIND_US = 900 * 1000000, /* older than that: the newest go first ... */
	BEHIND_OLDEST = 4,         /* ... but for one in so many */
	STEPS_BACK = 3,            /* failures after which a person is told */
};

void files_move(struct run_file *f, enum file_state to)
{
	static const struct {
		const char *name;
		unsigned allowed;
	} states[] = {
		[FILE_NONE] = {"none", 1u << FILE_WANTED},
		[FILE_WANTED] = {"wanted", 1u << FILE_READY | 1u << FILE_SENT | 1u << FILE_REFUSED},
		[FILE_READY] = {"ready", 1u << FILE_SENDING | 1u << FILE_REFUSED},
		[FILE_SENDING] = {"sending", 1u << FILE_READY | 1u << FILE_WANTED |
						     1u << FILE_SENT | 1u << FILE_REFUSED},
		[FILE_SENT] = {"sent", 1u << FILE_MARKED},
		[FILE_REFUSED] = {"refused", 1u << FILE_MARKED},
		[FILE_MARKED] = {"marked", 1u << FILE_NONE | 1u << FILE_SENT | 1u << FILE_REFUSED},
	};

	assert(states[f->state].allowed & 1u << to);
	log_debug("files", "run=%lld upload=%lld from=%s to=%s", (long long)f->run->id,
		  (long long)f->id, states[f->state].name, states[to].name);
	f->state = to;
}

static void forget(struct run_file *f)
{
	files_move(f, FILE_NONE);
	buf_done(&f->path);
	buf_done(&f->url);
}

static struct run_file *free_item(struct run_files *files)
{
	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		if (files->items[i].state == FILE_NONE)
			return &files->items[i];
	}
	return NULL;
}

unsigned files_count(const struct run_files *files, enum file_state state)
{
	unsigned n = 0;

	for (size_t i = 0; i < FILES_AT_ONCE; i++)
		n += files->items[i].state == state;
	return n;
}

/* --- which --- */

struct filling {
	struct models_run *r;
	struct run_files *files;
	bool takes_one; /* what comes next may be another one by then */
	int64_t bytes;
	unsigned taken;
	bool is_full;
	int error;
};

/* It is under way, or an older one of its path is, which must not come after it. */
static bool is_under_way(const struct run_files *files, const struct upload_info *u)
{
	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		const struct run_file *f = &files->items[i];

		if (f->state != FILE_NONE &&
		    (f->id == u->id ||
		     span_equal(u->path, (struct span){.at = f->path.data, .len = f->path.len})))
			return true;
	}
	return false;
}

static int take_item(struct filling *g, struct run_file *f, const struct upload_info *u)
{
	*f = (struct run_file){
		.run = g->r,
		.id = u->id,
		.step = u->step,
		.size = u->size,
		.kind = u->kind,
		.has_blob = u->blob.len == DIGEST_BYTES,
	};
	buf_init(&f->path, URL_MAX);
	buf_init(&f->url, URL_MAX);
	if (f->has_blob)
		memcpy(f->blob, u->blob.at, DIGEST_BYTES);
	if (buf_add(&f->path, u->path.at, u->path.len) < 0 || buf_text(&f->path) == NULL)
		return -ENOMEM;
	files_move(f, FILE_WANTED);
	return 0;
}

static int on_waiting(void *arg, const struct upload_info *u)
{
	struct filling *g = arg;
	struct run_file *f;

	if (is_under_way(g->files, u))
		return 0;
	f = free_item(g->files);
	g->is_full = f == NULL || (g->bytes > 0 && g->bytes + u->size > FILL_BYTES) ||
		     (g->takes_one && g->taken > 0);
	if (g->is_full)
		return 1;
	g->error = take_item(g, f, u);
	g->bytes += u->size;
	g->taken++;
	return g->error;
}

static int64_t bytes_under_way(const struct run_files *files)
{
	int64_t bytes = 0;

	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		enum file_state state = files->items[i].state;

		if (state == FILE_WANTED || state == FILE_READY || state == FILE_SENDING)
			bytes += files->items[i].size;
	}
	return bytes;
}

/* Takes those that are next into the empty places. */
static int fill(struct models_run *r)
{
	struct run_files *files = r->files;
	struct filling g = {.r = r, .files = files, .bytes = bytes_under_way(files)};
	struct upload_counts counts;
	bool newest_first;
	int e;

	if (!files->may_have || free_item(files) == NULL)
		return 0;
	e = reader_upload_counts(r->host->reader, r->id, &counts);
	if (e < 0)
		return e;
	g.takes_one =
		counts.oldest_us != 0 && counts.oldest_us < (int64_t)clock_wall_us() - BEHIND_US;
	if (g.takes_one && g.bytes > 0)
		return 0; /* one after the other */
	newest_first = g.takes_one && r->host->send_tables.what != SEND_ALL &&
		       files->fills % BEHIND_OLDEST != BEHIND_OLDEST - 1;
	e = reader_uploads(r->host->reader, r->id, newest_first ? UPLOADS_NEWEST : UPLOADS_OLDEST,
			   newest_first ? INT64_MAX : 0, on_waiting, &g);
	files->fills += g.taken > 0;
	files->may_have = g.is_full || g.error < 0 || e < 0;
	return g.error < 0 ? g.error : e < 0 ? e : 0;
}

/* --- sending --- */

void files_refuse(struct run_file *f, int status, const char *reason)
{
	f->status = status;
	(void)snprintf(f->reason, sizeof(f->reason), "%s", reason); /* may be cut */
	log_error("models",
		  "run=%lld http=%d path=%s the file is refused for good: %s (wbxctl dead list)",
		  (long long)f->run->id, status, (const char *)f->path.data, reason);
	files_move(f, FILE_REFUSED);
}

static void again(struct run_file *f, const struct http_answer *a, const struct retry_verdict *v,
		  uint64_t now_ms)
{
	f->attempt++;
	f->not_before_ms = now_ms + v->wait_ms;
	files_move(f, v->action == RETRY_URL ? FILE_WANTED : FILE_READY);
	if (f->attempt < STEPS_BACK && v->action == RETRY_URL)
		return; /* URLs expire */
	log_warn("models",
		 "run=%lld http=%d path=%s tries=%u wait_ms=%llu the upload did not get through: "
		 "%s; others go first, then it is tried again",
		 (long long)f->run->id, a->status, (const char *)f->path.data, f->attempt,
		 (unsigned long long)v->wait_ms,
		 a->transport != TRANSPORT_ANSWERED ? a->error : "the storage could not take it");
}

static void on_upload(void *arg, struct sink *sink, const struct http_answer *a)
{
	struct run_file *f = arg;
	uint64_t now_ms = clock_mono_ms();
	struct retry_verdict v = upload_judge(sink, a, f->attempt + 1, now_ms);

	f->run->files_next_ms = 0;
	switch (v.action) {
	case RETRY_SENT:
		fault_point("upload.answered");
		files_move(f, FILE_SENT);
		return;
	case RETRY_AGAIN:
	case RETRY_URL: again(f, a, &v, now_ms); return;
	case RETRY_REFUSED:
	case RETRY_SPLIT:
	case RETRY_PARK_RUN:
	case RETRY_KEY:
		files_refuse(f, a->status,
			     a->source_error != 0 ? a->error : "the storage does not take it");
		return;
	}
}

static struct source *source_of(const struct run_file *f)
{
	struct reader *reader = f->run->host->reader;
	const struct span blob = {.at = f->blob, .len = DIGEST_BYTES};
	struct buf none;

	if (f->kind == UPLOAD_TABLE)
		return source_of_table(reader, blob, f->size);
	if (f->has_blob)
		return source_of_blob(reader, blob, 0, f->size);
	buf_init(&none, 0);
	return source_of_text(&none);
}

enum {
	HEADERS_MAX = 32
};

static int start_one(struct run_file *f)
{
	const struct buf *texts = &f->run->files->headers;
	struct span headers[HEADERS_MAX];
	struct upload_request q = {
		.uid = f->run->user->uid,
		.lane = f->kind == UPLOAD_FILE ? LANE_FILES : LANE_TABLES,
		.url = (const char *)f->url.data,
		.headers = headers,
		.source = source_of(f),
		.on_answer = on_upload,
		.arg = f,
	};

	for (size_t at = 0; at < texts->len && q.header_count < HEADERS_MAX;) {
		headers[q.header_count] = span_of_text((const char *)texts->data + at);
		at += headers[q.header_count++].len + 1;
	}
	return upload_start(f->run->user->sink, &q);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Returns when the next of those that wait for their time wants to be looked at. */
static uint64_t start(struct models_run *r, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;

	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		struct run_file *f = &r->files->items[i];
		int e;

		if (f->state != FILE_READY && f->state != FILE_WANTED)
			continue;
		if (now_ms < f->not_before_ms) {
			next_ms = earlier(next_ms, f->not_before_ms);
			continue;
		}
		if (f->state == FILE_WANTED ||
		    !upload_may_start(r->user->sink,
				      f->kind == UPLOAD_FILE ? LANE_FILES : LANE_TABLES, f->size))
			continue;
		if (!f->has_blob && f->size > 0) {
			files_refuse(f, 0, "its bytes are not here any more");
			return now_ms;
		}
		e = start_one(f);
		if (e == -EINVAL) {
			files_refuse(f, 0, "W&B gave an address for it that is none");
			return now_ms;
		}
		if (e < 0)
			return now_ms + STORE_RETRY_MS;
		files_move(f, FILE_SENDING);
	}
	return next_ms;
}

/* --- marks --- */

static void add_refused(struct changes *changes, const struct run_file *f)
{
	struct buf request;
	struct change c = {
		.kind = CHANGE_DEAD_ADD,
		.run = f->run->id,
		.text = SPAN_LITERAL("artifacts"),
		.time_us = (int64_t)clock_wall_us(),
		.dead = {.status = f->status,
			 .what = "file",
			 .step = f->step,
			 .reason = span_of_text(f->reason),
			 .answer = SPAN_LITERAL(""), /* a storage's may name what was signed */
			 .body = buf_span(&f->path)},
	};
	const struct change refused = {.kind = CHANGE_UPLOAD_REFUSED, .number = f->id};

	buf_init(&request, URL_MAX);
	(void)buf_printf(&request, "PUT %s", (const char *)f->path.data); /* as far as it fits */
	c.dead.request = buf_span(&request);
	changes_add(changes, &c);
	changes_add(changes, &refused);
	buf_done(&request);
}

static void mark(struct models_run *r, struct run_file *f, struct changes *changes)
{
	const struct change there = {.kind = CHANGE_UPLOAD_THERE, .number = f->id};
	char title[SINK_TITLE_MAX];
	struct change ok = {
		.kind = CHANGE_SINK_OK, .time_us = (int64_t)clock_wall_us(), .records = 1};

	f->is_refused = f->state == FILE_REFUSED;
	if (f->is_refused) {
		add_refused(changes, f);
	} else {
		sink_title(SINK_ARTIFACTS, r->user->sink->uid, title);
		ok.text = span_of_text(title);
		changes_add(changes, &there);
		changes_add(changes, &ok);
	}
	files_move(f, FILE_MARKED);
}

static int commit(struct models_run *r)
{
	struct run_files *files = r->files;

	if (files->changes != NULL ||
	    files_count(files, FILE_SENT) + files_count(files, FILE_REFUSED) == 0)
		return 0;
	files->changes = changes_new(r, r->host->replies);
	if (files->changes == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		struct run_file *f = &files->items[i];

		if (f->state == FILE_SENT || f->state == FILE_REFUSED)
			mark(r, f, files->changes);
	}
	(void)mailbox_post(r->host->store, &files->changes->mail); /* never full */
	return 0;
}

bool run_files_on_changes(struct models_run *r, struct changes *list)
{
	struct run_files *files = r->files;
	int result = list->result;

	if (files == NULL || files->changes != list)
		return false;
	if (result == 0)
		fault_point("upload.marked");
	else
		log_warn("models", "run=%lld errno=%d marking files failed here; it is tried again",
			 (long long)r->id, -result);
	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		struct run_file *f = &files->items[i];

		if (f->state != FILE_MARKED)
			continue;
		if (result == 0)
			forget(f);
		else
			files_move(f, f->is_refused ? FILE_REFUSED : FILE_SENT);
	}
	files->changes = changes_free(list);
	files->may_have = true;
	r->files_next_ms = result == 0 ? 0 : clock_mono_ms() + STORE_RETRY_MS;
	if (result == 0) {
		r->may_have_there = true;
		r->next_ms = 0; /* the stream says so */
	}
	return true;
}

/* --- life --- */

static int make(struct models_run *r)
{
	if (r->files != NULL)
		return 0;
	r->files = mem_zalloc(sizeof(*r->files));
	if (r->files == NULL)
		return -ENOMEM;
	buf_init(&r->files->headers, BODY_MAX);
	r->files->may_have = true;
	return 0;
}

static bool has_waiting(struct models_run *r)
{
	struct upload_counts counts;

	return reader_upload_counts(r->host->reader, r->id, &counts) == 0 &&
	       counts.files[UPLOAD_WAITING] > 0;
}

uint64_t run_files_turn(struct models_run *r, uint64_t now_ms)
{
	uint64_t ask_ms;
	uint64_t start_ms;

	if (r->is_parked || r->host->reader == NULL || r->user->sink->gate != GATE_OPEN ||
	    r->user->sink->paused_until_us != 0)
		return UINT64_MAX;
	if (r->files == NULL && (!r->may_have_files || r->plan == NULL || !r->plan->may_write))
		return UINT64_MAX;
	if (r->files == NULL && !has_waiting(r)) {
		r->may_have_files = false;
		return UINT64_MAX;
	}
	if (make(r) < 0 || fill(r) < 0 || commit(r) < 0)
		return now_ms + STORE_RETRY_MS;
	ask_ms = files_ask(r, now_ms);
	start_ms = start(r, now_ms);
	if (commit(r) < 0)
		return now_ms + STORE_RETRY_MS;
	if (run_files_are_idle(r) && !r->files->may_have) {
		r->files = run_files_free(r->files);
		r->may_have_files = false;
		return UINT64_MAX;
	}
	return ask_ms == 0 ? start_ms : earlier(ask_ms, start_ms);
}

void run_files_look(struct models_run *r)
{
	r->may_have_files = true;
	if (r->files != NULL)
		r->files->may_have = true;
	r->files_next_ms = 0;
}

bool run_files_are_idle(const struct models_run *r)
{
	return r->files == NULL || files_count(r->files, FILE_NONE) == FILES_AT_ONCE;
}

struct run_files *run_files_free(struct run_files *f)
{
	if (f == NULL)
		return NULL;
	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		if (f->items[i].state == FILE_NONE)
			continue;
		buf_done(&f->items[i].path);
		buf_done(&f->items[i].url);
	}
	buf_done(&f->headers);
	f->changes = changes_free(f->changes);
	return mem_free(f);
}
