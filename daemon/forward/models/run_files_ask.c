/* See run_files_parts.h: places at W&B for a run's files. */
#include "daemon/base/log.h"
#include "daemon/forward/models/run_files_parts.h"
#include "daemon/forward/models/wire_files.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

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
			files_move(f, f->url.len == 0 ? FILE_SENT : FILE_READY);
	}
	files->attempt = 0;
	files->ask_max = 0;
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
	files_refuse(f, a->status, reason);
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

uint64_t files_ask(struct models_run *r, uint64_t now_ms)
{
	struct run_files *files = r->files;
	struct span paths[FILES_AT_ONCE];
	uint64_t wait_ms;
	unsigned n;
	int e;

	if (files->is_asking || files_count(files, FILE_WANTED) == 0)
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
