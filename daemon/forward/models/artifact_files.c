/* See artifact_parts.h: an artifact's bytes on their way to the storage. */
#include "daemon/base/fault.h"
#include "daemon/base/log.h"
#include "daemon/forward/models/artifact_parts.h"
#include "daemon/forward/upload.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	MANIFEST_MAX = 256 << 20,
	MANIFEST_PAGE = READER_PAGE,
};

/* --- a batch --- */

static void forget_parts(struct artifact_put *p)
{
	for (size_t i = 0; p->part_urls != NULL && i < p->part_count; i++) {
		(void)mem_free(p->part_urls[i]);
		(void)mem_free(p->etags[i]);
	}
	p->part_urls = mem_free(p->part_urls);
	p->etags = mem_free(p->etags);
	p->storage_path = mem_free(p->storage_path);
	p->upload_id = mem_free(p->upload_id);
	p->part_count = p->part = 0;
}

void artifact_forget_puts(struct artifact_send *a)
{
	assert(a->going == 0);
	for (size_t i = 0; i < a->put_count; i++) {
		struct artifact_put *p = &a->puts[i];

		forget_parts(p);
		(void)mem_free(p->path);
		(void)mem_free(p->part_digests);
		(void)mem_free(p->url);
		(void)mem_free(p->headers);
	}
	memset(a->puts, 0, sizeof(a->puts));
	a->put_count = 0;
}

static char *dup_span(struct span s)
{
	char *text = mem_alloc(s.len + 1);

	if (text == NULL)
		return NULL;
	if (s.len > 0)
		memcpy(text, s.at, s.len);
	text[s.len] = '\0';
	return text;
}

static int on_unsent(void *arg, const struct artifact_file *f)
{
	struct artifact_send *a = arg;
	struct artifact_put *p = &a->puts[a->put_count++];

	*p = (struct artifact_put){.a = a, .form = f->form, .start = f->start, .size = f->size};
	p->path = dup_span(f->path);
	if (f->extra.at != NULL)
		p->part_digests = dup_span(f->extra);
	if (p->path == NULL || (f->extra.at != NULL && p->part_digests == NULL))
		return -ENOMEM;
	if (f->digest.len >= sizeof(p->digest) || f->size < 0 ||
	    (f->form != ARTIFACT_EMPTY && f->blob.len != DIGEST_BYTES))
		return -EIO; /* it was digested, and is not */
	memcpy(p->digest, f->digest.at, f->digest.len);
	if (f->form != ARTIFACT_EMPTY)
		memcpy(p->blob, f->blob.at, DIGEST_BYTES);
	return 0;
}

int artifact_next_files(struct artifact_send *a, size_t *ret_count)
{
	unsigned max = a->batch_max != 0 ? (unsigned)a->batch_max : ARTIFACT_BATCH_FILES;
	int r = reader_artifact_files(a->host->reader, a->id, SPAN_LITERAL(""), max,
				      ARTIFACT_FILES_UNSENT, on_unsent, a);

	if (r < 0)
		artifact_forget_puts(a);
	*ret_count = a->put_count;
	return r;
}

void artifact_files_body(struct artifact_send *a, struct buf *body)
{
	struct wire_files f;

	wire_files_begin(&f, body, a->server_id, a->manifest_id);
	for (size_t i = 0; i < a->put_count; i++) {
		const struct artifact_put *p = &a->puts[i];

		wire_files_add(&f, span_of_text(p->path), span_of_text(p->digest),
			       span_of_text(p->part_digests != NULL ? p->part_digests : ""));
	}
	wire_files_end(&f);
}

/* --- where it goes --- */

static int take_place(struct artifact_put *p, const struct wire_place *place)
{
	size_t used = 0;

	for (size_t i = 0; i < place->header_count; i++)
		used += place->header[i].len;
	p->url = mem_strdup(place->url);
	p->headers = mem_alloc(used);
	if (p->url == NULL || p->headers == NULL)
		return -ENOMEM;
	memcpy(p->headers, place->headers, used); /* they stand one after the other */
	used = 0;
	for (size_t i = 0; i < place->header_count; i++) {
		p->header[i] = (struct span){.at = (const uint8_t *)p->headers + used,
					     .len = place->header[i].len};
		used += place->header[i].len;
	}
	p->header_count = place->header_count;
	return 0;
}

static int take_parts(struct artifact_put *p, const struct wire_file *f)
{
	size_t wanted =
		p->part_digests == NULL ? 0 : strlen(p->part_digests) / (ARTIFACT_DIGEST_MAX - 1);

	if (f->part_count == 0)
		return 0;
	if (f->part_count != wanted)
		return -EBADMSG;
	p->part_urls = mem_zalloc(f->part_count * sizeof(char *));
	p->etags = mem_zalloc(f->part_count * sizeof(char *));
	p->storage_path = mem_strdup(f->storage_path);
	p->upload_id = mem_strdup(f->upload_id);
	if (p->part_urls == NULL || p->etags == NULL || p->storage_path == NULL ||
	    p->upload_id == NULL)
		return -ENOMEM;
	p->part_count = f->part_count;
	for (size_t i = 0; i < f->part_count; i++) {
		p->part_urls[i] = mem_strdup(f->part_urls[i]);
		if (p->part_urls[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int on_file(void *arg, size_t index, const struct wire_file *f)
{
	struct artifact_send *a = arg;
	struct artifact_put *p = &a->puts[index];
	int r;

	(void)snprintf(p->birth, sizeof(p->birth), "%s", f->birth); /* same size */
	p->state = f->place.url[0] == '\0' && f->part_count == 0 ? PUT_DONE : PUT_WAITS;
	r = take_place(p, &f->place);
	return r == 0 ? take_parts(p, f) : r;
}

int artifact_take_places(struct artifact_send *a, struct span body)
{
	int r = wire_read_files(body, a->put_count, on_file, a);

	if (r < 0)
		artifact_forget_puts(a); /* half of them is worse than none */
	return r;
}

/* --- the manifest --- */

struct writing {
	struct artifact_send *a;
	struct json json;
	struct buf last;
	unsigned count;
};

static int on_entry(void *arg, const struct artifact_file *f)
{
	struct writing *w = arg;
	const struct manifest_entry e = {
		.path = f->path,
		.digest = f->digest,
		.size = f->size,
		.ref = f->ref,
		.birth = f->birth,
		.extra = f->ref.at != NULL ? f->extra : (struct span){.at = NULL},
	};

	manifest_add(&w->json, &e);
	buf_clear(&w->last);
	w->count++;
	(void)buf_add(&w->last, f->path.at, f->path.len);
	return w->last.error != 0 ? w->last.error : w->a->manifest.error;
}

static int digest_manifest(struct artifact_send *a)
{
	struct md5 m = {0};
	uint8_t sum[MD5_BYTES];
	int r = md5_begin(&m);

	if (r == 0)
		r = md5_add(&m, a->manifest.data, a->manifest.len);
	if (r == 0)
		r = md5_end(&m, sum);
	if (r == 0)
		md5_base64(sum, a->manifest_md5);
	md5_done(&m);
	return r;
}

int artifact_make_manifest(struct artifact_send *a)
{
	struct writing w = {.a = a, .count = MANIFEST_PAGE};
	int r = 0;

	buf_done(&a->manifest);
	buf_init(&a->manifest, MANIFEST_MAX);
	buf_init(&w.last, ARTIFACT_PATH_MAX);
	manifest_begin(&w.json, &a->manifest);
	while (r == 0 && w.count == MANIFEST_PAGE) {
		char path[ARTIFACT_PATH_MAX];
		struct span after = {.at = (const uint8_t *)path, .len = w.last.len};

		if (w.last.len > 0)
			memcpy(path, w.last.data, w.last.len);
		w.count = 0;
		r = reader_artifact_files(a->host->reader, a->id, after, MANIFEST_PAGE,
					  ARTIFACT_FILES_ALL, on_entry, &w);
	}
	manifest_end(&w.json);
	buf_done(&w.last);
	if (r == 0)
		r = a->manifest.error;
	if (r == 0)
		r = digest_manifest(a);
	if (r < 0)
		buf_clear(&a->manifest);
	return r;
}

int artifact_put_manifest(struct artifact_send *a, const struct wire_place *place)
{
	struct artifact_put *p = &a->puts[0];

	assert(a->put_count == 0);
	*p = (struct artifact_put){.a = a, .size = (int64_t)a->manifest.len};
	a->put_count = 1;
	return take_place(p, place);
}

/* --- bytes --- */

static struct source *manifest_source(const struct artifact_send *a)
{
	struct buf text;

	buf_init(&text, MANIFEST_MAX);
	if (buf_add(&text, a->manifest.data, a->manifest.len) < 0) {
		buf_done(&text);
		return NULL;
	}
	return source_of_text(&text);
}

static int64_t part_bytes(const struct artifact_put *p)
{
	int64_t bytes =
		p->a->host->multipart_bytes != 0 ? p->a->host->part_bytes : ARTIFACT_PART_BYTES;
	int64_t left = p->size - (int64_t)p->part * bytes;

	return left < bytes ? left : bytes;
}

static struct source *source_of(struct artifact_put *p)
{
	struct reader *reader = p->a->host->reader;
	const struct span blob = {.at = p->blob, .len = sizeof(p->blob)};
	int64_t offset = 0;
	struct buf none;

	if (p->path == NULL)
		return manifest_source(p->a);
	if (p->part_count > 0) {
		int64_t bytes = p->a->host->multipart_bytes != 0 ? p->a->host->part_bytes
								 : ARTIFACT_PART_BYTES;

		offset = (int64_t)p->part * bytes;
		return source_of_blob(reader, blob, offset, part_bytes(p));
	}
	switch (p->form) {
	case ARTIFACT_AS_IT_IS: return source_of_blob(reader, blob, p->start, p->size);
	case ARTIFACT_TABLE: return source_of_artifact_table(reader, blob, p->size);
	case ARTIFACT_EMPTY: break;
	}
	buf_init(&none, 1);
	return source_of_text(&none);
}

static void on_put(void *arg, struct sink *sink, const struct http_answer *http);

/* A part has the file's Content-Type and its own MD5. */
static size_t part_headers(struct artifact_put *p, char room[64], struct span ret[2])
{
	static const char type[] = "content-type:";
	const char *hex = p->part_digests + p->part * (ARTIFACT_DIGEST_MAX - 1);
	uint8_t sum[MD5_BYTES];
	char text[MD5_BASE64_MAX];
	size_t count = 1;

	for (size_t i = 0; i < MD5_BYTES; i++) {
		const char byte[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		sum[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	md5_base64(sum, text);
	(void)snprintf(room, 64, "Content-MD5:%s", text); /* fits */
	ret[0] = span_of_text(room);
	for (size_t i = 0; i < p->header_count && count < 2; i++) {
		if (p->header[i].len > sizeof(type) - 1 &&
		    strncasecmp((const char *)p->header[i].at, type, sizeof(type) - 1) == 0)
			ret[count++] = p->header[i];
	}
	return count;
}

static int start(struct artifact_put *p)
{
	struct artifact_send *a = p->a;
	char room[64];
	struct span headers[2];
	struct upload_request q = {
		.uid = a->user->uid,
		.lane = LANE_FILES,
		.url = p->url,
		.headers = p->header,
		.header_count = p->header_count,
		.source = source_of(p),
		.on_answer = on_put,
		.arg = p,
	};
	int e;

	if (p->part_count > 0) {
		q.url = p->part_urls[p->part];
		q.header_count = part_headers(p, room, headers);
		q.headers = headers;
	}
	e = upload_start(a->user->sink, &q);
	if (e < 0)
		return e;
	p->state = PUT_GOES;
	a->going++;
	return 0;
}

struct artifact_put *artifact_whole_parts(struct artifact_send *a)
{
	for (size_t i = 0; i < a->put_count; i++) {
		struct artifact_put *p = &a->puts[i];

		if (p->part_count > 0 && p->part == p->part_count && p->state == PUT_WAITS)
			return p;
	}
	return NULL;
}

/* --- what became of it --- */

static void piece_is_there(struct artifact_put *p, const struct http_answer *http)
{
	p->attempt = 0;
	p->a->urls = 0;
	p->state = p->part_count == 0 ? PUT_DONE : PUT_WAITS;
	if (p->part_count == 0)
		return;
	p->etags[p->part] = mem_strdup(http->etag);
	if (p->etags[p->part] == NULL)
		p->state = PUT_URL; /* the file begins again */
	else
		p->part++;
}

/* The artifact is refused with it, once its other transfers are over. */
static void refuse_file(struct artifact_put *p, const struct http_answer *http)
{
	struct artifact_send *a = p->a;
	const char *what = p->path == NULL ? "its manifest" : p->path;

	if (http->source_error != 0)
		(void)snprintf(a->refusal, sizeof(a->refusal),
			       "the bytes of %.100s cannot be read here", what); /* may be cut */
	else
		(void)snprintf(a->refusal, sizeof(a->refusal),
			       "the storage refuses %.100s (HTTP %d)", what, http->status);
	p->state = PUT_URL;
}

static void on_put(void *arg, struct sink *sink, const struct http_answer *http)
{
	struct artifact_put *p = arg;
	struct artifact_send *a = p->a;
	uint64_t now_ms = clock_mono_ms();
	struct retry_verdict v = upload_judge(sink, http, p->attempt + a->urls + 1, now_ms);

	fault_point("artifact.put");
	a->going--;
	a->next_ms = 0;
	p->state = PUT_WAITS;
	switch (v.action) {
	case RETRY_SENT: piece_is_there(p, http); return;
	case RETRY_AGAIN:
		p->attempt++;
		p->not_before_ms = now_ms + v.wait_ms;
		return;
	case RETRY_URL:
		a->urls++;
		p->state = PUT_URL;
		if (now_ms + v.wait_ms > a->not_before_ms)
			a->not_before_ms = now_ms + v.wait_ms;
		return;
	case RETRY_SPLIT:
	case RETRY_REFUSED:
	case RETRY_PARK_RUN:
	case RETRY_KEY: refuse_file(p, http); return;
	}
}

/* Files that are there are marked; the others get new URLs. */
static void end_batch(struct artifact_send *a)
{
	bool is_marked = false;

	if (!artifact_changes(a))
		return;
	for (size_t i = 0; i < a->put_count; i++) {
		const struct artifact_put *p = &a->puts[i];
		struct change c = {.kind = CHANGE_ARTIFACT_FILE_SET, .number = a->id};

		if (p->state != PUT_DONE)
			continue;
		c.artifact.file.path = span_of_text(p->path);
		c.artifact.file.size = -1;
		c.artifact.file.birth = span_of_text(p->birth);
		changes_add(a->changes, &c);
		is_marked = true;
	}
	artifact_forget_puts(a);
	if (is_marked) {
		artifact_commit(a, a->state);
		return;
	}
	a->changes = changes_free(a->changes);
	artifact_to_work(a, ARTIFACT_IDLE);
}

static void end_puts(struct artifact_send *a)
{
	bool is_there = a->put_count == 1 && a->puts[0].state == PUT_DONE;

	if (a->refusal[0] != '\0') {
		artifact_to_work(a, ARTIFACT_IDLE);
		artifact_refuse(a, NULL, a->refusal, "PUT to the storage");
	} else if (a->state == ARTIFACT_OPENED) {
		end_batch(a);
	} else {
		artifact_forget_puts(a);
		artifact_to_work(a, ARTIFACT_IDLE);
		if (is_there)
			artifact_move(a, ARTIFACT_SEALED, NULL);
	}
}

static bool is_over(const struct artifact_send *a)
{
	for (size_t i = 0; i < a->put_count; i++) {
		if (a->puts[i].state == PUT_WAITS)
			return false;
	}
	return true;
}

/* The next of those that wait and may go now; NULL: none. *ret_ms: when one may. */
static struct artifact_put *next_put(struct artifact_send *a, uint64_t now_ms, uint64_t *ret_ms)
{
	*ret_ms = UINT64_MAX;
	for (size_t i = 0; i < a->put_count; i++) {
		struct artifact_put *p = &a->puts[i];

		if (p->state != PUT_WAITS)
			continue;
		if (p->not_before_ms <= now_ms)
			return p;
		if (p->not_before_ms < *ret_ms)
			*ret_ms = p->not_before_ms;
	}
	return NULL;
}

uint64_t artifact_put_turn(struct artifact_send *a, uint64_t now_ms)
{
	struct sink *sink = a->user->sink;
	uint64_t next_ms = UINT64_MAX;
	struct artifact_put *p;

	if (a->going == 0 && (a->refusal[0] != '\0' || is_over(a))) {
		end_puts(a);
		return a->next_ms;
	}
	if (artifact_whole_parts(a) != NULL && a->going == 0) {
		artifact_to_work(a, ARTIFACT_IDLE); /* it is to be completed */
		return now_ms;
	}
	while (a->refusal[0] == '\0' && (p = next_put(a, now_ms, &next_ms)) != NULL) {
		int64_t size = p->part_count > 0 ? part_bytes(p) : p->size;

		if (p->part_count > 0 && p->part == p->part_count)
			return UINT64_MAX; /* once the others are back */
		if (!upload_may_start(sink, LANE_FILES, size))
			return UINT64_MAX;
		if (start(p) < 0) {
			p->not_before_ms = now_ms + 1000;
			next_ms = p->not_before_ms;
		}
	}
	return next_ms;
}
