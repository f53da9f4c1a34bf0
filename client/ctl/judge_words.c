/* See judge_words.h. */
#include "client/ctl/judge_words.h"

#include "client/ctl/format.h"

#include <assert.h>

enum {
	REASON_TEXT_MAX = 8192,
	FORECAST_DAYS_MAX = 3650
};

struct reason *reason_add(struct judgement *j, enum health health, const char *code,
			  const struct sink_facts *s)
{
	struct reason *r;

	assert(j->count < REASONS_MAX); /* the cases below make fewer */
	r = &j->reasons[j->count++];
	*r = (struct reason){.health = health, .code = code, .sink = s == NULL ? NULL : s->name};
	buf_init(&r->headline, REASON_TEXT_MAX);
	buf_init(&r->text, REASON_TEXT_MAX);
	buf_init(&r->action, REASON_TEXT_MAX);
	if (health > j->health)
		j->health = health;
	return r;
}

const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

void say_waiting(struct buf *b, uint64_t records, uint64_t bytes)
{
	if (records == 0)
		(void)buf_add_text(b, "Training is not affected; nothing waits yet.");
	else
		(void)buf_printf(b, "%s record%s (%s) wait%s on disk.", word_count(records).text,
				 plural(records), word_size(bytes).text, records == 1 ? "s" : "");
}

static void say_safe_sum(struct buf *b, const struct facts *f, uint64_t waiting, uint64_t bytes)
{
	if (waiting > 0)
		(void)buf_printf(b, "Training is not affected%s: ",
				 facts_lost(f) == 0 ? " and nothing is lost" : "");
	say_waiting(b, waiting, bytes);
}

void say_safe(struct buf *b, const struct facts *f, enum sink_state state)
{
	uint64_t waiting;
	uint64_t bytes;

	facts_sum(f, state, &waiting, &bytes);
	say_safe_sum(b, f, waiting, bytes);
}

void say_safe_sink(struct buf *b, const struct facts *f, const struct sink_facts *s)
{
	say_safe_sum(b, f, s->waiting, s->waiting_bytes);
}

void say_owner(struct buf *b, const struct facts *f, const struct sink_facts *s)
{
	if (s->uid == f->asker)
		(void)buf_add_text(b, "you");
	else
		(void)buf_printf(b, "user %lld", (long long)s->uid);
}

void say_forecast(struct buf *b, const struct facts *f)
{
	const struct store_facts *s = &f->store;
	double per_s = f->ingest.bytes_per_s;
	uint64_t room = s->limit_bytes > s->used_bytes ? s->limit_bytes - s->used_bytes : 0;
	uint64_t disk =
		s->disk_free_bytes > s->reserve_bytes ? s->disk_free_bytes - s->reserve_bytes : 0;
	bool disk_first = s->disk_total_bytes != 0 && disk < room;
	double left_s = (double)(disk_first ? disk : room) / (per_s > 0 ? per_s : 1);

	if (!(per_s > 0) || s->limit_bytes == 0 || left_s > FORECAST_DAYS_MAX * 86400.0)
		return;
	(void)buf_printf(b, " At %s/h %s is reached in %s.",
			 word_size((uint64_t)(per_s * 3600)).text,
			 disk_first ? "the reserve of the disk" : "the limit of the store",
			 word_rough((uint64_t)(left_s * 1000)).text);
}
