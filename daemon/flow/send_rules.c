/* See send_rules.h. */
#include "daemon/flow/send_rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	EVERY_MAX = 1000000,
	DAY_MINUTES = 24 * 60
};

/* The rest behind the word and a blank; NULL: it begins otherwise. */
static const char *behind(const char *text, const char *word)
{
	size_t len = strlen(word);

	return strncmp(text, word, len) == 0 && text[len] == ' ' ? text + len + 1 : NULL;
}

int send_tables_parse(const char *text, struct send_tables_rule *ret)
{
	static const struct {
		const char *word;
		enum send_tables what;
	} words[] = {{"auto", SEND_AUTO}, {"all", SEND_ALL}, {"none", SEND_NONE}};
	struct send_tables_rule rule = {.what = SEND_EVERY};
	const char *number = behind(text, "every");
	char *end = NULL;
	long long n;

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i].word) == 0) {
			*ret = (struct send_tables_rule){.what = words[i].what};
			return 0;
		}
	}
	if (number != NULL) {
		n = strtoll(number, &end, 10);
		if (end == number || *end != '\0' || n < 1 || n > EVERY_MAX)
			return -EINVAL;
		rule.every = (uint32_t)n;
		*ret = rule;
		return 0;
	}
	number = behind(text, "sample");
	if (number == NULL)
		return -EINVAL;
	rule.what = SEND_SAMPLE;
	rule.sample = strtod(number, &end);
	if (end == number || *end != '\0' || !(rule.sample >= 0 && rule.sample <= 1))
		return -EINVAL;
	*ret = rule;
	return 0;
}

bool send_tables_goes(const struct send_tables_rule *rule, int64_t nth, uint32_t dice)
{
	switch (rule->what) {
	case SEND_AUTO:
	case SEND_ALL: return true;
	case SEND_EVERY: return nth % rule->every == 0;
	case SEND_SAMPLE: return dice < rule->sample * 4294967296.0;
	case SEND_NONE: return false;
	}
	return true;
}

/* "22:00", two digits each. -1: it is none. */
static int parse_minute(const char *text)
{
	int minute = 0;

	if (strspn(text, "0123456789") != 2 || text[2] != ':' ||
	    strspn(text + 3, "0123456789") != 2)
		return -1;
	minute = ((text[0] - '0') * 10 + text[1] - '0') * 60 + (text[3] - '0') * 10 + text[4] - '0';
	return text[3] > '5' || minute > DAY_MINUTES ? -1 : minute;
}

int send_hours_parse(const char *text, struct send_hours *ret)
{
	int from;
	int to;

	if (text[0] == '\0') {
		*ret = (struct send_hours){.from = 0, .to = 0};
		return 0;
	}
	if (strlen(text) != 11 || text[5] != '-')
		return -EINVAL;
	from = parse_minute(text);
	to = parse_minute(text + 6);
	if (from < 0 || to < 0)
		return -EINVAL;
	*ret = (struct send_hours){.from = from, .to = to};
	return 0;
}

bool send_hours_have(const struct send_hours *hours, int minute)
{
	if (hours->from == hours->to)
		return true;
	if (hours->from < hours->to)
		return minute >= hours->from && minute < hours->to;
	return minute >= hours->from || minute < hours->to;
}
