/* What doctor finds: one line, and unless all is well one line of what to do. The judges are pure: from
 * what the daemon measured (an item's map) to words. Texts of outside are escaped when they are shown. */
#pragma once

#include "proto/mp.h"

enum finding_level {
	FINDING_OK,
	FINDING_WARN,
	FINDING_FAIL
};

enum {
	FINDING_TEXT_MAX = 640
};

struct finding {
	enum finding_level level;
	char found[FINDING_TEXT_MAX];
	char action[FINDING_TEXT_MAX];
};

const char *finding_level_name(enum finding_level level); /* OK, WARN, FAIL */

/* A finding whose sentences may be cut. */
void finding_say(struct finding *f, enum finding_level level, const char *action,
		 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* probe: the daemon's answer about W&B. */
void finding_net(struct finding *f, struct mp probe);
void finding_key(struct finding *f, struct mp probe);
/* is_synced: what the kernel says of the clock. */
void finding_clock(struct finding *f, struct mp probe, int64_t now_s, bool is_synced);
void finding_disk(struct finding *f, struct mp disk);
void finding_store(struct finding *f, struct mp check);
