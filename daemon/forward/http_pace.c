/* See http_parts.h: when which bytes go out. A transfer is held back (paused, for curl) for want of
 * tokens, while others wait for theirs, and while a higher lane has something to send; then it goes
 * on with its share alone, one byte in LANE_SHARE of what the higher lanes send, a little each second
 * at least: so that no server takes it for dead. libcurl's own low-speed timeout takes a paused upload
 * for a stalled one (measured: research/limits), so stalls are watched here, by bytes that moved. */
#include "daemon/forward/http_parts.h"
#include "proto/base/clock.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

enum {
	QUANTUM_BYTES = 16 << 10, /* a held-back transfer goes on when it may send so much, and then
				     waits for its next turn when others are held back too */
	LANE_SHARE = 16,
	LANE_SHARE_MS = 1000,
	LANE_SHARE_LEAST = 2 << 10, /* so much of it each LANE_SHARE_MS at least */
	LANE_SHARE_MOST = 32 << 10, /* that is kept for later */
	/* Of an upload so much waits in the kernel at most: what is there already goes out before the
	   rows that come next, and cannot be paused. */
	UNSENT_BYTES = 64 << 10,
};

void pace_set_paused(struct transfer *t, bool paused)
{
	uint64_t now_ms = clock_mono_ms();

	if (t->paused == paused)
		return;
	t->paused = paused;
	if (paused)
		t->paused_ms = now_ms;
	else
		t->pauses_ms += now_ms - t->paused_ms;
}

/* --- lanes --- */

/* A higher lane has something to send. */
static bool is_outranked(const struct transfer *t)
{
	if (t->lane == LANE_METRICS)
		return false;
	for (const struct transfer *o = t->http->transfers; o != NULL; o = o->next) {
		if (o->lane < t->lane && o->sent < o->size)
			return true;
	}
	return false;
}

/* A transfer gave curl so many bytes: of each LANE_SHARE of them one belongs to each lower lane's
 * transfer. */
static void give_shares(struct transfer *from, size_t bytes)
{
	from->http->given[from->lane] += bytes;
	if (from->lane == LANES - 1)
		return;
	for (struct transfer *t = from->http->transfers; t != NULL; t = t->next) {
		if (t->lane > from->lane && t->share < LANE_SHARE_MOST)
			t->share += bytes / LANE_SHARE;
	}
}

static void take_share_of_time(struct transfer *t, uint64_t now_ms)
{
	if (now_ms < t->share_ms + LANE_SHARE_MS)
		return;
	t->share_ms = now_ms;
	if (t->share < LANE_SHARE_MOST)
		t->share += LANE_SHARE_LEAST;
}

/* How much may go as far as lanes are concerned. */
static size_t lane_room(struct transfer *t, size_t want)
{
	if (!is_outranked(t))
		return want;
	take_share_of_time(t, clock_mono_ms());
	return want < t->share ? want : t->share;
}

/* --- tokens --- */

/* Somebody of its lane, or of a higher one, waits for his turn. */
static bool others_wait(const struct transfer *t)
{
	for (const struct transfer *o = t->http->transfers; o != NULL; o = o->next) {
		if (o != t && o->paused && o->lane <= t->lane)
			return true;
	}
	return false;
}

/* What it was given in its turn; or what is in the bucket, when nobody waits before it. */
static size_t token_room(struct transfer *t, size_t want)
{
	if (t->limit == NULL || t->limit->per_s <= 0)
		return want;
	if (t->granted == 0 && !others_wait(t))
		t->granted = limit_take_some(t->limit, want, clock_mono_ms());
	return want < t->granted ? want : t->granted;
}

/* Its share is due: it goes before the higher lane, as far as that reaches. */
static bool has_share(const struct transfer *t, uint64_t now_ms)
{
	return is_outranked(t) &&
	       (t->share >= LANE_SHARE_LEAST || now_ms >= t->share_ms + LANE_SHARE_MS);
}

/* How much it sends in its next turn. */
static size_t quantum(const struct transfer *t)
{
	uint64_t left = t->size - t->sent;
	size_t most = QUANTUM_BYTES;

	if (is_outranked(t) && t->share < QUANTUM_BYTES)
		most = t->share > LANE_SHARE_LEAST ? t->share : (size_t)LANE_SHARE_LEAST;
	return left < most ? (size_t)left : most;
}

uint64_t pace_wait_ms(struct transfer *t, uint64_t now_ms)
{
	uint64_t wait_ms =
		t->limit == NULL ? 0 : limit_wait_ms(t->limit, (double)quantum(t), now_ms);
	uint64_t share_ms = t->share_ms + LANE_SHARE_MS;

	if (!is_outranked(t) || has_share(t, now_ms))
		return wait_ms;
	return share_ms - now_ms > wait_ms ? share_ms - now_ms : wait_ms;
}

/* --- whose turn it is --- */

/* When this owner, with all of its transfers, was served last. */
static uint64_t owner_served(const struct http *h, uint32_t owner)
{
	uint64_t last = 0;

	for (const struct transfer *t = h->transfers; t != NULL; t = t->next) {
		if (t->owner == owner && t->served > last)
			last = t->served;
	}
	return last;
}

/* Of two that are held back the first goes before the other: a share that is due, then the higher
 * lane, then the owner, then the transfer, that was served longest ago. */
static bool goes_before(const struct http *h, const struct transfer *a, const struct transfer *b,
			uint64_t now_ms)
{
	bool share_a = has_share(a, now_ms);
	uint64_t owner_a = owner_served(h, a->owner);
	uint64_t owner_b = owner_served(h, b->owner);

	if (share_a != has_share(b, now_ms))
		return share_a;
	if (a->lane != b->lane)
		return a->lane < b->lane;
	return owner_a != owner_b ? owner_a < owner_b : a->served < b->served;
}

/* NULL: nobody may go on now. */
static struct transfer *next_paused(struct http *h, uint64_t now_ms)
{
	struct transfer *best = NULL;

	for (struct transfer *t = h->transfers; t != NULL; t = t->next) {
		if (!t->paused || (is_outranked(t) && !has_share(t, now_ms)))
			continue;
		if (best == NULL || goes_before(h, t, best, now_ms))
			best = t;
	}
	return best != NULL && pace_wait_ms(best, now_ms) == 0 ? best : NULL;
}

void pace_unpause(struct http *h)
{
	uint64_t now_ms = clock_mono_ms();
	struct transfer *t;

	while ((t = next_paused(h, now_ms)) != NULL) {
		if (t->limit != NULL && t->granted == 0)
			t->granted = limit_take_some(t->limit, quantum(t), now_ms);
		t->served = ++h->served;
		pace_set_paused(t, false);
		(void)curl_easy_pause(t->easy, CURLPAUSE_CONT); /* a failure ends the transfer */
	}
}

/* --- curl asks --- */

/* 0, or what the source says. */
static int take_bytes(struct transfer *t, void *room, size_t want, size_t *ret_len)
{
	if (t->source != NULL)
		return t->source->read(t->source, room, want, ret_len);
	memcpy(room, t->body.data + t->sent, want);
	*ret_len = want;
	return 0;
}

size_t on_read(char *room, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	uint64_t left = t->size - t->sent;
	size_t want = left < size * count ? (size_t)left : size * count;
	bool is_held;
	size_t got = 0;

	if (want == 0)
		return 0;
	is_held = is_outranked(t);
	want = lane_room(t, want);
	want = want == 0 ? 0 : token_room(t, want);
	if (want == 0) {
		pace_set_paused(t, true);
		return CURL_READFUNC_PAUSE;
	}
	t->source_error = take_bytes(t, room, want, &got);
	if (t->source_error < 0)
		return CURL_READFUNC_ABORT;
	t->granted -= got < t->granted ? got : t->granted;
	if (t->shared != NULL)
		(void)limit_take_some(t->shared, got, clock_mono_ms());
	if (is_held)
		t->share -= got < t->share ? got : t->share;
	t->sent += got;
	give_shares(t, got);
	return got;
}

/* curl asks for this when it has to send the body a second time (a kept connection that had died).
 */
int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transfer *t = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->size)
		return CURL_SEEKFUNC_FAIL;
	if (t->source != NULL && (offset != 0 || t->source->rewind(t->source) < 0))
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* Ends a transfer in which nothing moves; while we hold it back ourselves, the clock stands. */
int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
		curl_off_t up)
{
	struct transfer *t = arg;
	uint64_t now_ms = clock_mono_ms();
	uint64_t patience_ms = t->stall_ms;

	(void)down_total;
	(void)up_total;
	if (up + down != t->moved || t->paused) {
		t->moved = up + down;
		t->moved_ms = now_ms;
	}
	if ((uint64_t)up >= t->size)
		patience_ms *= HTTP_ANSWER_STALL_FACTOR;
	return now_ms - t->moved_ms > patience_ms;
}

int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	const int most = UNSENT_BYTES;

	(void)arg;
	(void)purpose;
	/* without it the kernel keeps more of an upload: slower for rows, no more than that */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof(most));
	return CURL_SOCKOPT_OK;
}
