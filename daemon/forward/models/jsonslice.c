/* See jsonslice.h. */
#include "daemon/forward/models/jsonslice.h"

#include "proto/base/json.h"

#include <errno.h>
#include <string.h>

static void advance(struct span *s, size_t n)
{
	s->at += n;
	s->len -= n;
}

static bool is_one_of(uint8_t c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

static void skip_space(struct span *s)
{
	while (s->len > 0 && is_one_of(s->at[0], " \t\r\n"))
		advance(s, 1);
}

/* Bytes of a number or a bare word. */
static size_t word_len(struct span s)
{
	size_t n = 0;

	while (n < s.len && !is_one_of(s.at[n], ",:]}[{\" \t\r\n"))
		n++;
	return n;
}

/* Which brackets are open, as the characters that close them. */
struct nesting {
	uint8_t ends[JSONSLICE_DEPTH_MAX];
	size_t depth;
};

/* False: it closes what is not open, or is too deep. */
static bool take_bracket(struct nesting *n, uint8_t c)
{
	if (c == '{' || c == '[') {
		if (n->depth == JSONSLICE_DEPTH_MAX)
			return false;
		n->ends[n->depth++] = c == '{' ? '}' : ']';
		return true;
	}
	return n->depth > 0 && n->ends[--n->depth] == c;
}

/* Bytes of the object or array at s; 0: it does not end, or too deep. */
static size_t container_len(struct span s)
{
	struct nesting n = {.depth = 0};
	size_t i = 0;

	while (i < s.len) {
		uint8_t c = s.at[i];
		size_t len =
			c == '"' ? json_string_len((struct span){.at = s.at + i, .len = s.len - i})
				 : 1;

		if (len == 0 || (is_one_of(c, "{}[]") && !take_bracket(&n, c)))
			return 0;
		i += len;
		if (n.depth == 0)
			return i;
	}
	return 0;
}

static size_t value_len(struct span s)
{
	if (s.len == 0)
		return 0;
	if (s.at[0] == '"')
		return json_string_len(s);
	return s.at[0] == '{' || s.at[0] == '[' ? container_len(s) : word_len(s);
}

int jsonslice_open(struct span text, struct span *ret_rest)
{
	skip_space(&text);
	if (text.len == 0 || text.at[0] != '{')
		return -EBADMSG;
	advance(&text, 1);
	skip_space(&text);
	*ret_rest = text;
	return 0;
}

int jsonslice_next(struct span *rest, struct span *ret_key, struct span *ret_value)
{
	if (rest->len > 0 && rest->at[0] == '}')
		return 0;
	ret_key->at = rest->at;
	ret_key->len = rest->len > 0 && rest->at[0] == '"' ? json_string_len(*rest) : 0;
	if (ret_key->len == 0)
		return -EBADMSG;
	advance(rest, ret_key->len);
	skip_space(rest);
	if (rest->len == 0 || rest->at[0] != ':')
		return -EBADMSG;
	advance(rest, 1);
	skip_space(rest);
	ret_value->at = rest->at;
	ret_value->len = value_len(*rest);
	if (ret_value->len == 0)
		return -EBADMSG;
	advance(rest, ret_value->len);
	skip_space(rest);
	if (rest->len > 0 && rest->at[0] == ',') {
		advance(rest, 1);
		skip_space(rest);
		return rest->len > 0 && rest->at[0] == '"' ? 1 : -EBADMSG;
	}
	return rest->len > 0 && rest->at[0] == '}' ? 1 : -EBADMSG;
}

int jsonslice_find(struct span object, const char *key, struct span *ret_value)
{
	struct span rest;
	struct span name;
	struct span value;
	size_t len = strlen(key);
	int r = jsonslice_open(object, &rest);

	while (r == 0 && (r = jsonslice_next(&rest, &name, &value)) == 1) {
		r = 0;
		if (name.len == len + 2 && memcmp(name.at + 1, key, len) == 0) {
			*ret_value = value;
			return 0;
		}
	}
	return r == 0 ? -ENOENT : r;
}

bool jsonslice_text(struct span object, const char *key, char ret[JSONSLICE_TEXT_MAX])
{
	struct span value = {0};

	if (jsonslice_find(object, key, &value) < 0 || value.at == NULL ||
	    value.len >= JSONSLICE_TEXT_MAX)
		return false;
	memcpy(ret, value.at, value.len);
	ret[value.len] = '\0';
	return true;
}
