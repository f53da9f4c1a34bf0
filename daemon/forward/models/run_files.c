/* See run_files.h. */
#include "daemon/forward/models/run_files.h"

#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/models/run_parts.h"
#include "daemon/forward/models/wire_files.h"
#include "daemon/forward/upload.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	FILES_AT_ONCE = 8,         /* of a run */
	FILL_BYTES = 4 << 20,      /* more than so much is not asked for at once */
	BEHIND_US = 900 * 1000000, /* older than that: the newest go first ... */
	BEHIND_OLDEST = 4,         /* ... but for one in so many */
	URL_MAX = 16 << 10,
	BODY_MAX = 1 << 20,
	STORE_RETRY_MS = 1000,
	STEPS_BACK = 3, /* failures after which a person is told */
};

enum file_state {
	FILE_NONE,
	FILE_WANTED,
	FILE_READY,
	FILE_SENDING,
	FILE_SENT,
	FILE_REFUSED,
	FILE_MARKED /* the store is being told */
};

struct run_file {
	struct models_run *run;
	enum file_state state;
	int64_t id;
	int64_t step;
	int64_t size;
	enum upload_kind kind;
	bool has_blob;
	bool is_asked_for; /* in the request under way */
	bool is_refused;   /* marked: so, not sent */
	uint8_t blob[DIGEST_BYTES];
	struct buf path;  /* a NUL at its end */
	struct buf url;   /* signed; never told to anybody */
	unsigned attempt; /* that failed */
	uint64_t not_before_ms;
	int status;
	char reason[WIRE_REASON_MAX];
};

struct run_files {
	struct run_file items[FILES_AT_ONCE];
	struct buf headers; /* of the places, each with a NUL at its end */
	bool may_have;      /* files that are not in items */
	bool is_asking;
	unsigned attempt; /* of asking, that failed */
	unsigned ask_max; /* files in a request, while a refused one is looked for; 0: all */
	unsigned fills;
	uint64_t not_before_ms;
	struct changes *changes; /* with the store */
};

static void file_move(struct run_file *f, enum file_state to)
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
	file_move(f, FILE_NONE);
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

static unsigned count(const struct run_files *files, enum file_state state)
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
	file_move(f, FILE_WANTED);
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

/* --- places for them --- */

struct places {
	struct run_files *files;
	struct buf headers; /* of this answer */
};

static int on_header(void *arg, struct span header)
{
	struct places *p = arg;

	if (memchr(header.at, '\0', header.len) != NULL)
		return -EBADMSG;
	(void)buf_add(&p->headers, header.at, header.len); /* the buf remembers */
	return buf_add_byte(&p->headers, '\0');
}

/* The which-th of those that were asked for. */
static struct run_file *asked_for(struct run_files *files, size_t which)
{
	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		if (files->items[i].is_asked_for && which-- == 0)
			return &files->items[i];
	}
	return NULL;
}

static int on_place(void *arg, size_t which, struct span url)
{
	const struct places *p = arg;
	struct run_file *f = asked_for(p->files, which);

	assert(f != NULL && f->state == FILE_WANTED);
	if (memchr(url.at, '\0', url.len) != NULL)
		return -EBADMSG;
	buf_clear(&f->url);
	if (buf_add(&f->url, url.at, url.len) < 0)
		return f->url.error;
	return buf_text(&f->url) == NULL ? -ENOMEM : 0;
}

/* All places are there. W&B wants no bytes of a file without one. */
static void take_places(struct run_files *files, struct buf *headers)
{
	buf_done(&files->headers);
	files->headers = *headers;
	buf_init(headers, 0);
	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		struct run_file *f = &files->items[i];

		if (f->is_asked_for)
			file_move(f, f->url.len == 0 ? FILE_SENT : FILE_READY);
	}
	files->attempt = 0;
	files->ask_max = 0;
}

static void refuse(struct run_file *f, int status, const char *reason)
{
	f->status = status;
	(void)snprintf(f->reason, sizeof(f->reason), "%s", reason); /* may be cut */
	log_error("models",
		  "run=%lld http=%d path=%s the file is refused for good: %s (wbxctl dead list)",
		  (long long)f->run->id, status, (const char *)f->path.data, reason);
	file_move(f, FILE_REFUSED);
}

/* W&B refuses what was asked for: one of the files, when there are several. */
static void asking_is_refused(struct run_files *files, const struct http_answer *a, unsigned asked)
{
	struct run_file *f = asked == 1 ? asked_for(files, 0) : NULL;
	char reason[WIRE_REASON_MAX];

	files->ask_max = asked > 1 ? asked / 2 : 0;
	if (f == NULL)
		return;
	wire_reason(a->body, reason);
	refuse(f, a->status, reason);
}

static void ask_later(struct models_run *r, const struct http_answer *a, uint64_t wait_ms,
		      uint64_t now_ms)
{
	r->files->attempt++;
	r->files->not_before_ms = now_ms + wait_ms;
	log_warn("models",
		 "run=%lld http=%d wait_ms=%llu no places for files; they are asked for again",
		 (long long)r->id, a->status, (unsigned long long)wait_ms);
}

static void obey_asking(struct models_run *r, const struct http_answer *a, unsigned asked,
			const struct retry_verdict *v, struct places *places)
{
	uint64_t now_ms = clock_mono_ms();

	switch (v->action) {
	case RETRY_SENT: take_places(r->files, &places->headers); return;
	case RETRY_SPLIT:
	case RETRY_REFUSED: asking_is_refused(r->files, a, asked); return;
	case RETRY_AGAIN:
	case RETRY_URL: ask_later(r, a, v->wait_ms, now_ms); return;
	case RETRY_KEY:      /* the sink asks who we are */
	case RETRY_PARK_RUN: /* its rows find out what is the matter with the run */
		ask_later(r, a, r->user->sink->settings.backoff_max_ms, now_ms);
		return;
	}
}

static void on_places(void *arg, struct sink *sink, const struct http_answer *a)
{
	struct models_run *r = arg;
	struct run_files *files = r->files;
	struct http_answer answer = *a;
	struct places places = {.files = files};
	const struct wire_files want = {
		.on_header = on_header, .on_file = on_place, .arg = &places};
	struct retry_facts facts = {.endpoint = ENDPOINT_GRAPHQL, .attempt = files->attempt + 1};
	struct retry_verdict v;
	int e = 0;

	for (size_t i = 0; i < FILES_AT_ONCE; i++)
		facts.parts += files->items[i].is_asked_for;
	buf_init(&places.headers, BODY_MAX);
	if (a->transport == TRANSPORT_ANSWERED && a->status >= 200 && a->status < 300)
		e = wire_read_run_files(a->body, facts.parts, &want);
	if (e < 0 && e != -EREMOTEIO)
		answer.transport = TRANSPORT_BROKEN;
	facts.has_errors = e == -EREMOTEIO;
	v = sink_judge(sink, &answer, &facts, clock_mono_ms());
	obey_asking(r, &answer, facts.parts, &v, &places);
	buf_done(&places.headers);
	for (size_t i = 0; i < FILES_AT_ONCE; i++)
		files->items[i].is_asked_for = false;
	files->is_asking = false;
	r->files_next_ms = 0;
}

/* Those that are asked for now, as paths. */
static unsigned choose(struct run_files *files, struct span ret[FILES_AT_ONCE], uint64_t now_ms)
{
	unsigned n = 0;

	for (size_t i = 0; i < FILES_AT_ONCE; i++) {
		struct run_file *f = &files->items[i];

		if (f->state != FILE_WANTED || now_ms < f->not_before_ms ||
		    (files->ask_max != 0 && n >= files->ask_max))
			continue;
		f->is_asked_for = true;
		ret[n++] = buf_span(&f->path);
	}
	return n;
}

static int post_asking(struct models_run *r, const struct span *paths, unsigned n)
{
	struct run_info *info = mem_alloc(sizeof(*info));
	struct run_headers extra;
	struct sink_body post = {.lane = LANE_METRICS};
	struct buf url;
	struct buf body;
	int e = info == NULL ? -ENOMEM : reader_run(r->host->reader, r->id, info);

	buf_init(&url, URL_MAX);
	buf_init(&body, BODY_MAX);
	if (e == 0) {
		const struct wire_name name = {.entity = run_entity(info),
					       .project = run_project(info),
					       .run = info->name};

		wire_run_files(&body, &name, paths, n);
		(void)wire_graphql_url(&url, r->host->base_url); /* the buf remembers */
		e = url.error != 0 ? url.error : body.error;
	}
	run_shared_headers(r, false, &extra);
	post.url = (const char *)url.data;
	post.body = &body;
	post.headers = extra.list;
	post.header_count = extra.count;
	if (e < 0)
		sink_cancel(r->user->sink);
	else
		e = sink_post_body(r->user->sink, r->user->uid, &post, on_places, r);
	buf_done(&url);
	buf_done(&body);
	(void)mem_free(info);
	return e;
}

/* Returns when to try again: 0 when nothing has to be. */
static uint64_t ask(struct models_run *r, uint64_t now_ms)
{
	struct run_files *files = r->files;
	struct span paths[FILES_AT_ONCE];
	uint64_t wait_ms;
	unsigned n;
	int e;

	if (files->is_asking || count(files, FILE_WANTED) == 0)
		return 0;
	if (now_ms < files->not_before_ms)
		return files->not_before_ms;
	n = choose(files, paths, now_ms);
	if (n == 0)
		return 0; /* each has its time to wait for */
	wait_ms = sink_admit(r->user->sink, r->user->uid, now_ms);
	e = wait_ms == 0 ? post_asking(r, paths, n) : -EAGAIN;
	files->is_asking = e == 0;
	if (e == 0)
		return 0;
	for (size_t i = 0; i < FILES_AT_ONCE; i++)
		files->items[i].is_asked_for = false;
	return wait_ms == UINT64_MAX ? UINT64_MAX
				     : now_ms + (wait_ms == 0 ? STORE_RETRY_MS : wait_ms);
}

/* --- sending --- */

static void again(struct run_file *f, const struct http_answer *a, const struct retry_verdict *v,
		  uint64_t now_ms)
{
	f->attempt++;
	f->not_before_ms = now_ms + v->wait_ms;
	file_move(f, v->action == RETRY_URL ? FILE_WANTED : FILE_READY);
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
		file_move(f, FILE_SENT);
		return;
	case RETRY_AGAIN:
	case RETRY_URL: again(f, a, &v, now_ms); return;
	case RETRY_REFUSED:
	case RETRY_SPLIT:
	case RETRY_PARK_RUN:
	case RETRY_KEY:
		refuse(f, a->status,
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
			refuse(f, 0, "its bytes are not here any more");
			return now_ms;
		}
		e = start_one(f);
		if (e == -EINVAL) {
			refuse(f, 0, "W&B gave an address for it that is none");
			return now_ms;
		}
		if (e < 0)
			return now_ms + STORE_RETRY_MS;
		file_move(f, FILE_SENDING);
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
	file_move(f, FILE_MARKED);
}

static int commit(struct models_run *r)
{
	struct run_files *files = r->files;

	if (files->changes != NULL || count(files, FILE_SENT) + count(files, FILE_REFUSED) == 0)
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
			file_move(f, f->is_refused ? FILE_REFUSED : FILE_SENT);
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
	ask_ms = ask(r, now_ms);
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
	return r->files == NULL || count(r->files, FILE_NONE) == FILES_AT_ONCE;
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
