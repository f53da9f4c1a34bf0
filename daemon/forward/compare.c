/* See compare.h. */
#include "daemon/forward/compare.h"

#include "proto/base/json.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

/* The bare words that no JSON reader takes become texts. */
static const struct json_word words[] = {
	{"NaN", "\"NaN\""}, {"-Infinity", "\"-Infinity\""}, {"Infinity", "\"Infinity\""}};

static int read_object(struct span text, json_t **ret)
{
	struct buf clean;
	int r;

	buf_init(&clean, 2 * text.len + 64);
	json_replace_words(&clean, text, words, array_len(words));
	r = clean.error;
	if (r == 0) {
		*ret = text.len == 0 ? json_object()
				     : json_loadb((const char *)clean.data, clean.len,
						  JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
		r = json_is_object(*ret) ? 0 : -EBADMSG;
	}
	buf_done(&clean);
	return r;
}

static void put_value(struct pack *p, const char *key, const json_t *value)
{
	char *text = value == NULL ? NULL
				   : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT |
							       JSON_REAL_PRECISION(15));

	if (text != NULL && strlen(text) > DIFFERENT_TEXT_MAX)
		text[DIFFERENT_TEXT_MAX] = '\0'; /* half a character is escaped where it is shown */
	pack_pair_text(p, key, text);
	free(text);
}

static void add_difference(struct differences *d, const char *what, const char *key,
			   const json_t *here, const json_t *there)
{
	d->count++;
	if (d->told == DIFFERENCES_MAX)
		return;
	d->told++;
	pack_map(&d->to, 4);
	pack_pair_text(&d->to, "what", what);
	pack_pair_text(&d->to, "key", key);
	put_value(&d->to, "here", here);
	put_value(&d->to, "there", there);
}

static void compare_all(struct differences *d, const char *what, json_t *here, const json_t *there)
{
	const char *key;
	json_t *value;

	json_object_foreach(here, key, value)
	{
		const json_t *other = json_object_get(there, key);

		if (key[0] == '_')
			continue;
		d->keys++;
		if (other == NULL || !json_equal(value, other))
			add_difference(d, what, key, value, other);
	}
}

int compare_objects(struct differences *d, const char *what, struct span here, struct span there)
{
	json_t *ours = NULL;
	json_t *theirs = NULL;
	int r = read_object(here, &ours);

	if (r == 0)
		r = read_object(there, &theirs);
	if (r == 0)
		compare_all(d, what, ours, theirs);
	json_decref(ours);
	json_decref(theirs);
	return r == 0 ? d->to.out->error : r;
}
