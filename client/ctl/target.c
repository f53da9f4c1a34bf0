/* See target.h. */
#include "client/ctl/target.h"

#include "proto/mp.h"

#include <stdio.h>
#include <string.h>

static void copy(char ret[NAME_MAX_BYTES + 1], struct span text)
{
	(void)snprintf(ret, NAME_MAX_BYTES + 1, "%.*s", (int)text.len,
		       text.at == NULL ? "" : (const char *)text.at); /* names fit */
}

static int on_item(void *arg, struct span body)
{
	struct target *t = arg;

	t->found++;
	copy(t->entity, mp_get_str(mp_of(body), "entity"));
	copy(t->project, mp_get_str(mp_of(body), "project"));
	copy(t->id, mp_get_str(mp_of(body), "run"));
	return CODE_OK;
}

/* entity/project/id. False: it is a run's id alone. */
static bool split(const char *text, struct target *ret)
{
	const char *first = strchr(text, '/');
	const char *second = first == NULL ? NULL : strchr(first + 1, '/');

	if (second == NULL)
		return false;
	copy(ret->entity,
	     (struct span){.at = (const uint8_t *)text, .len = (size_t)(first - text)});
	copy(ret->project,
	     (struct span){.at = (const uint8_t *)first + 1, .len = (size_t)(second - first - 1)});
	copy(ret->id, span_of_text(second + 1));
	return ret->project[0] != '\0' && ret->id[0] != '\0';
}

int target_find(struct call *c, struct target *ret)
{
	struct control_answer answer;
	struct request q;
	int r;

	*ret = (struct target){.found = 0};
	if (split(c->words[0], ret))
		return CODE_OK;
	request_init(&q, VERB_RUNS);
	request_text(&q, "run", c->words[0]);
	r = call_ask(c, &q, on_item, ret, &answer);
	request_done(&q);
	if (r != CODE_OK)
		return r;
	if (ret->found == 1)
		return CODE_OK;
	say(ret->found == 0
		    ? "there is no run %s here that is yours; entity/project/id names one that "
		      "only W&B has"
		    : "there are several runs %s; name one by entity/project/id",
	    c->words[0]);
	return CODE_DATA;
}
