/* One upload: a PUT of a source of bytes to a signed URL, for run files and files of artifacts alike.
 * It counts with its sink: the limit of bytes is that of all requests, the lane says who goes first,
 * users share evenly (http.h). A signed URL comes from an answer of W&B, goes to curl, and nowhere
 * else: not into the store, not into the log. Our key never goes along. Sender thread only.
 *
 * How an uploader of several things uses it:
 *   1. asks W&B for URLs (sink_admit(), sink_post());
 *   2. while upload_may_start(): upload_start(); on_answer() comes, always, from http_turn();
 *   3. on_answer() calls upload_judge(): RETRY_SENT: mark it in the store. RETRY_AGAIN: the same URL
 *      again after wait_ms. RETRY_URL: a new URL, after wait_ms. RETRY_REFUSED: a dead letter.
 * After a kill it begins at 1 with what is not marked: the same bytes again change nothing there. */
#pragma once

#include "daemon/forward/lane.h"
#include "daemon/forward/sink.h"
#include "daemon/forward/source.h"

struct upload_request {
	uint32_t uid; /* whose */
	enum lane lane;
	const char *url;            /* signed; borrowed until upload_start() returns */
	const struct span *headers; /* "Name:value", as the server gave them; borrowed likewise */
	size_t header_count;
	struct source
		*source; /* taken, whatever upload_start() returns; NULL: there was no memory */
	/* May start the next one, and may free what arg points to. */
	sink_on_answer on_answer;
	void *arg;
};

/* From now on what uploads are like stands there. */
void upload_show(struct sink_pool *pool, struct sink_stats *shown);
/* A limit of their own in bytes a second (0: none), and the hours in which those above
 * UPLOAD_BULK_BYTES go. */
void upload_set(struct sink_pool *pool, double bytes_per_s, const struct send_hours *hours,
		uint64_t now_ms);
/* An operator's pause of the sink artifacts, by the wall clock: 0: none (any more), -1: for good. */
void upload_pause(struct sink_pool *pool, int64_t until_us, uint64_t now_ms);
/* Counts what went since the last turn, ends pauses. Returns when it wants to be called again. */
uint64_t upload_turn(struct sink_pool *pool, uint64_t now_ms);

/* Whether one of `size` bytes may start now. When not: on_open() of the pool says when to ask again. */
bool upload_may_start(struct sink *s, enum lane lane, int64_t size);
/* After upload_may_start() said yes. 0: the answer comes; -ENOMEM, -EINVAL (a header or URL that is
 * none): it does not. */
int upload_start(struct sink *s, struct upload_request *q);
/* What the answer means; attempt: of this upload, the first is 1, counted over new URLs too. What it
 * says of the way to the storage is noted for status; the gate of the sink stays as it is, for the
 * storage is another host. answer->source_error: the bytes could not be read here: RETRY_REFUSED when
 * they never will be. */
struct retry_verdict upload_judge(struct sink *s, const struct http_answer *answer,
				  unsigned attempt, uint64_t now_ms);
