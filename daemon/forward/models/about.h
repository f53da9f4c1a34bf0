/* What W&B is told about a run besides its rows: names, tags, config. Built up from `run`,
 * `config`, `tags` and `define` records; what changed and was not sent yet is a set of bits. One
 * owner at a time. */
#pragma once

#include "daemon/forward/models/metric.h"
#include "daemon/forward/models/shared.h"
#include "daemon/forward/models/wire_about.h"

enum about_text {
	ABOUT_NAME,
	ABOUT_GROUP,
	ABOUT_JOB_TYPE,
	ABOUT_NOTES,
	ABOUT_HOST,
	ABOUT_PROGRAM,
	ABOUT_PYTHON, /* this and the next stand in the config's `_wandb` */
	ABOUT_SDK,
	ABOUT_TEXTS
};

enum about_dirt { /* beside bit 1 << enum about_text */
	ABOUT_CONFIG = 1 << ABOUT_TEXTS,
	ABOUT_TAGS = 2 << ABOUT_TEXTS,
	ABOUT_ALL = (4 << ABOUT_TEXTS) - 1,
};

struct about {
	char *texts[ABOUT_TEXTS]; /* NULL: not given */
	struct tree config;
	struct tree tags;            /* top-level keys are tags that are to be there */
	struct tree no_tags;         /* ... that are not to be there */
	struct tree no_config;       /* top-level keys that were taken out, until that is sent */
	unsigned dirty;              /* bits, see above */
	const struct shared *shared; /* borrowed, of the same plan; NULL: an ordinary run */
};

int about_init(struct about *a); /* 0, -errno */
void about_done(struct about *a);

/* All: 0; -ENOMEM; -E2BIG: the config has more keys than are taken; -EBADMSG. */
int about_run(struct about *a, struct mp body);
int about_config(struct about *a, struct mp body);
int about_tags(struct about *a, struct mp body);

/* {"key": {"value": ...}, ..., "_wandb": {"value": {...}}}, as upsertBucket takes it; the whole
 * config every time, for there is no patch (research: wire/wandb-models 2). Keys that only W&B has
 * (server, may be NULL) stay as they are there. */
void about_config_to_json(const struct about *a, const struct metrics *m,
			  const struct wire_about *server, struct json *j);
/* The config as {"key": value, ...}, for people. */
void about_values_to_json(const struct about *a, const struct wire_about *server, struct json *j);
/* Is it to go, as far as was said here? */
bool about_drops_tag(const struct about *a, struct span tag);
/* W&B has what `what` (bits of enum about_dirt) says. */
void about_is_sent(struct about *a, unsigned what);

/* State: a map, and back. */
void about_to_msgpack(const struct about *a, struct pack *p);
int about_from_msgpack(struct about *ret, struct mp map);
