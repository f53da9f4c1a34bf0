/* wbxctl artifact: what big artifacts a process of this user logged and did not hand over before its end.
 * They wait in his own directory, which the daemon cannot read. */
#include "client/lib/artifact.h"

#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "proto/base/json.h"

#include <errno.h>
#include <string.h>

struct listing {
	struct call *c;
	const char *run; /* of which; NULL: all */
	const char *name;
	char dir[STAGE_PATH_MAX]; /* the one that is wanted */
	unsigned count;
	bool is_busy;
};

static void add_json(struct buf *out, const struct handover_info *i)
{
	struct json j;

	json_init(&j, out);
	json_open_object(&j);
	json_put_key_text(&j, "run");
	json_put_text(&j, i->run);
	json_put_key_text(&j, "name");
	json_put_text(&j, i->name);
	json_put_key_text(&j, "bytes");
	json_put_int(&j, i->bytes);
	json_put_key_text(&j, "under_way");
	json_put_bool(&j, i->is_busy);
	json_put_key_text(&j, "dir");
	json_put_text(&j, i->dir);
	json_close_object(&j);
	(void)buf_add_byte(out, '\n'); /* looked at when it is printed */
}

static int on_listed(void *arg, const struct handover_info *i)
{
	struct listing *l = arg;

	l->count++;
	if (call_has(l->c, OPT_JSON))
		add_json(&l->c->out, i);
	else
		(void)buf_printf(&l->c->out, "%s  %s  %s%s\n", i->run, i->name,
				 word_size((uint64_t)i->bytes).text,
				 i->is_busy ? "  a process is at it" : "");
	return 0;
}

int artifact_list_run(struct call *c)
{
	struct listing l = {.c = c};
	int r = handover_list(on_listed, &l);

	if (r < 0)
		return say_errno("artifact list", r);
	if (l.count == 0 && !call_has(c, OPT_JSON))
		(void)buf_add_text(&c->out, "no artifact waits here\n"); /* as above */
	return call_print(c);
}

static int on_wanted(void *arg, const struct handover_info *i)
{
	struct listing *l = arg;

	if (strcmp(i->run, l->run) != 0 || strcmp(i->name, l->name) != 0)
		return 0;
	l->count++;
	l->is_busy = i->is_busy;
	(void)snprintf(l->dir, sizeof(l->dir), "%s", i->dir); /* it was made to fit */
	return i->is_busy ? 0 : 1;
}

int artifact_send_run(struct call *c)
{
	struct listing l = {.c = c, .run = c->words[0], .name = c->words[1]};
	uint64_t count = 0;
	int r;

	while ((r = handover_list(on_wanted, &l)) == 1) { /* there may be several versions */
		r = handover_send(l.dir);
		if (r == -ETIMEDOUT) {
			say("artifact send: the daemon did not take it in time; it waits here");
			return CODE_LATER;
		}
		if (r == -EIO || r == -ENOENT) {
			say("artifact send: a file of %s is not as it was when it was logged; what "
			    "waits "
			    "stands in %s",
			    l.name, l.dir);
			return CODE_DATA;
		}
		if (r < 0)
			return say_errno(l.name, r);
		count++;
	}
	if (r < 0)
		return say_errno("artifact send", r);
	if (count == 0 && l.is_busy)
		say("artifact send: a process is handing it over right now");
	else if (count == 0)
		say("artifact send: no artifact of that name and run waits here: wbxctl artifact "
		    "list");
	if (count == 0)
		return l.is_busy ? CODE_LATER : CODE_DATA;
	call_print_count(c, "artifacts handed over", count);
	return call_print(c);
}
