/* See log_entry.h. */
#include "daemon/base/log_entry.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* key=value or key="a value" at the beginning of a text. */
struct pair {
	const char *key;
	size_t key_len;
	const char *value;
	size_t value_len;
	size_t len; /* with the blank behind it */
};

static bool take_pair(const char *text, struct pair *ret)
{
	size_t key_len = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
	const char *value = text + key_len + 1;
	bool is_quoted;
	const char *end;

	if (key_len == 0 || text[0] == '_' || text[key_len] != '=')
		return false;
	is_quoted = value[0] == '"' && strchr(value + 1, '"') != NULL;
	value += is_quoted;
	end = value + strcspn(value, is_quoted ? "\"" : " ");
	*ret = (struct pair){.key = text,
			     .key_len = key_len,
			     .value = value,
			     .value_len = (size_t)(end - value)};
	end += is_quoted;
	end += *end == ' ';
	ret->len = (size_t)(end - text);
	return true;
}

static size_t add_pair(char *ret, size_t room, const struct pair *pair)
{
	int n = snprintf(ret, room, "WBX_%.*s=%.*s\n", (int)pair->key_len, pair->key,
			 (int)pair->value_len, pair->value);

	if (n < 0 || (size_t)n >= room)
		return 0;
	for (char *c = ret + 4; *c != '='; c++)
		*c = (char)(*c == '_' ? '_' : *c - 'a' + 'A');
	return (size_t)n;
}

size_t log_entry(char ret[LOG_ENTRY_MAX], int priority, const char *area, const char *text)
{
	struct pair pair;
	int n = snprintf(ret, LOG_ENTRY_MAX,
			 "PRIORITY=%d\nSYSLOG_IDENTIFIER=wbxd\nWBX_AREA=%.32s\n"
			 "MESSAGE=%.32s: %.2048s\n",
			 priority, area, area, text);
	size_t len = n < 0 ? 0 : (size_t)n; /* fits */

	while (take_pair(text, &pair)) {
		len += add_pair(ret + len, LOG_ENTRY_MAX - len, &pair);
		text += pair.len;
	}
	return len;
}
