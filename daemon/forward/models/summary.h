/* The run's summary: of each metric its last value, or what define_metric() asks for, or what was
 * set by hand. Follows wandb-core's runsummary, of version 0.31.0. One owner at a time. */
#pragma once

#include "daemon/forward/models/metric.h"

struct summary {
	struct tree tree;
	struct tree removed; /* top-level keys that were taken out, until that is sent */
};

int summary_init(struct summary *s); /* 0, -errno */
void summary_done(struct summary *s);

/* All: 0; -ENOMEM; -E2BIG: more metrics than a summary takes; -EBADMSG. */
/* A row was written. */
int summary_row(struct summary *s, const struct metrics *m, const struct tree *row);
/* A `summary` record: `data` set by hand, `remove` a list of keys or of paths (lists of keys). */
int summary_record(struct summary *s, struct mp body);
/* What a definition by name asks for; globs come with the rows. overwrite: it forgets what was asked
 * for before. */
int summary_define(struct summary *s, const struct metric *m, bool overwrite);
/* What W&B has (top-level keys, values as JSON text) stands beside ours: keys that were neither
 * logged nor set here. The least, most, best, first and last of a metric that m defines so go on
 * from there; its mean begins anew, for nobody says of how many values it was. Keys that were taken out
 * here do not come back. */
int summary_adopt(struct summary *s, const struct metrics *m, const struct tree *server);
/* Sets a key of wbx's own. 1: it was that already. */
int summary_set_bool(struct summary *s, struct span key, bool value);
bool summary_has(const struct summary *s, struct span key);
int summary_set_int(struct summary *s, const struct span *path, size_t count, int64_t value);

void summary_to_json(const struct summary *s, struct json *j);
/* W&B has it. */
void summary_is_sent(struct summary *s);

/* State: two maps, what there is and what was taken out, and back. */
void summary_to_msgpack(const struct summary *s, struct pack *p);
void summary_removed_to_msgpack(const struct summary *s, struct pack *p);
int summary_from_msgpack(struct summary *ret, struct mp map);
int summary_removed_from_msgpack(struct summary *ret, struct mp map);
