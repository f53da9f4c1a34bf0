/* Sentences and sums that several cases of judge.h share. Errors stay in the buf; pure. */
#pragma once

#include "client/ctl/judge.h"

/* A new reason of j, its texts empty; health may rise. s NULL: of no sink. The cases make fewer
 * than REASONS_MAX. */
struct reason *reason_add(struct judgement *j, enum health health, const char *code,
			  const struct sink_facts *s);

const char *plural(uint64_t n); /* "s", or "" for one */
/* "9 812 440 records (3.6 GiB) wait on disk." */
void say_waiting(struct buf *b, uint64_t records, uint64_t bytes);
/* "Training is not affected and nothing is lost: ...", when that is so, of the sinks in this state.
 */
void say_safe(struct buf *b, const struct facts *f, enum sink_state state);
/* The same of one sink: of a user's own key. */
void say_safe_sink(struct buf *b, const struct facts *f, const struct sink_facts *s);
/* Whose key it is: "you", or "user 1001". */
void say_owner(struct buf *b, const struct facts *f, const struct sink_facts *s);
/* How long the disk lasts at the present rate; nothing when nothing comes in. */
void say_forecast(struct buf *b, const struct facts *f);

/* The cases: each looks at the facts and adds its reasons. judge_store.c */
void judge_running(const struct facts *f, struct judgement *j);
void judge_fault(const struct facts *f, struct judgement *j);
void judge_space(const struct facts *f, struct judgement *j);
void judge_users(const struct facts *f, struct judgement *j);
void judge_parked(const struct facts *f, struct judgement *j);
void judge_spools(const struct facts *f, struct judgement *j);
void judge_dead(const struct facts *f, struct judgement *j);
/* judge_sink.c */
void judge_refused_key(const struct facts *f, struct judgement *j);
void judge_no_key(const struct facts *f, struct judgement *j);
void judge_link(const struct facts *f, struct judgement *j);
void judge_rate(const struct facts *f, struct judgement *j);
void judge_server(const struct facts *f, struct judgement *j);
void judge_slow(const struct facts *f, struct judgement *j);
void judge_paused(const struct facts *f, struct judgement *j);
