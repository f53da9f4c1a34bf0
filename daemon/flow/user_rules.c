/* See user_rules.h. */
#include "daemon/flow/user_rules.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

enum {
	PATTERN_MAX = 1024
};

/* The next of what stands between separators, without blanks around it; *rest goes behind it. False
 * at the end. */
static bool next_part(struct span *rest, char separator, struct span *ret)
{
	const uint8_t *end;

	if (rest->at == NULL)
		return false;
	end = memchr(rest->at, separator, rest->len);
	*ret = (struct span){.at = rest->at,
			     .len = end == NULL ? rest->len : (size_t)(end - rest->at)};
	*rest = end == NULL ? (struct span){NULL, 0}
			    : (struct span){.at = end + 1, .len = rest->len - ret->len - 1};
	while (ret->len > 0 && ret->at[0] == ' ') {
		ret->at++;
		ret->len--;
	}
	while (ret->len > 0 && ret->at[ret->len - 1] == ' ')
		ret->len--;
	return true;
}

static bool is_pattern(struct span p)
{
	const uint8_t *slash = memchr(p.at, '/', p.len);

	if (p.len == 0 || p.len >= PATTERN_MAX || memchr(p.at, ' ', p.len) != NULL)
		return false;
	if (slash == NULL)
		return true;
	return slash > p.at && slash + 1 < p.at + p.len &&
	       memchr(slash + 1, '/', (size_t)(p.at + p.len - slash - 1)) == NULL;
}

int user_rules_add(struct user_rules *r, int64_t uid, const char *patterns)
{
	size_t len = strlen(r->text);
	struct span rest = span_of_text(patterns);
	struct span one;
	int n;

	while (patterns[0] != '\0' && next_part(&rest, ',', &one)) {
		if (!is_pattern(one))
			return -EINVAL;
	}
	if (strchr(patterns, '\n') != NULL)
		return -EINVAL;
	n = uid == USER_RULES_ALL
		    ? snprintf(r->text + len, sizeof(r->text) - len, "* %s\n", patterns)
		    : snprintf(r->text + len, sizeof(r->text) - len, "%lld %s\n", (long long)uid,
			       patterns);
	if (n < 0 || (size_t)n >= sizeof(r->text) - len) {
		r->text[len] = '\0';
		return -E2BIG;
	}
	return 0;
}

/* The patterns of the last line that begins with this word. False: there is none. */
static bool find_word(const struct user_rules *r, const char *word, struct span *ret)
{
	struct span rest = span_of_text(r->text);
	size_t len = strlen(word);
	struct span line;
	bool is_there = false;

	while (next_part(&rest, '\n', &line)) {
		if (line.len < len || memcmp(line.at, word, len) != 0 ||
		    (line.len > len && line.at[len] != ' '))
			continue;
		*ret = (struct span){.at = line.at + len, .len = line.len - len};
		is_there = true;
	}
	return is_there;
}

struct span user_rules_find(const struct user_rules *r, uint32_t uid)
{
	struct span found = {NULL, 0};
	char word[16];

	if (r->text[0] == '\0')
		return SPAN_LITERAL("*");
	(void)snprintf(word, sizeof(word), "%u", uid); /* fits */
	if (!find_word(r, word, &found))
		(void)find_word(r, "*", &found); /* then nobody but the listed may */
	return found;
}

bool user_rules_match(struct span patterns, const char *entity, const char *project)
{
	struct span one;

	while (next_part(&patterns, ',', &one)) {
		char pattern[PATTERN_MAX];
		char *slash;

		(void)snprintf(pattern, sizeof(pattern), "%.*s", (int)one.len,
			       (const char *)one.at); /* fits: it was looked at */
		slash = strchr(pattern, '/');
		if (slash != NULL)
			*slash = '\0';
		if (fnmatch(pattern, entity, 0) == 0 &&
		    (slash == NULL || fnmatch(slash + 1, project, 0) == 0))
			return true;
	}
	return false;
}
