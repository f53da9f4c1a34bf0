/* Which files are sent, and when: the settings [tables] and [artifacts]. Pure. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum send_tables {
	SEND_AUTO,  /* all; while they are far behind, the newest first */
	SEND_ALL,   /* all, one after the other */
	SEND_EVERY, /* of each key the first, and then every so-many-th */
	SEND_SAMPLE,
	SEND_NONE
};

struct send_tables_rule {
	enum send_tables what;
	uint32_t every; /* SEND_EVERY: 1 and more */
	double sample;  /* SEND_SAMPLE: the part that goes, 0 to 1 */
};
/* "auto", "all", "every 10", "sample 0.2", "none". 0, -EINVAL. */
int send_tables_parse(const char *text, struct send_tables_rule *ret);
/* Whether the table goes that is the nth (from 0) of its key; dice: 32 bits that follow from its bytes, so
 * that it is always the same one. */
bool send_tables_goes(const struct send_tables_rule *rule, int64_t nth, uint32_t dice);

/* Hours of the day in minutes since midnight; from > to goes over midnight, from == to is always. */
struct send_hours {
	int from;
	int to;
};
/* "22:00-06:30", or "": always. 0, -EINVAL. */
int send_hours_parse(const char *text, struct send_hours *ret);
bool send_hours_have(const struct send_hours *hours, int minute);
