/* wbxctl store: gives room back. prune removes what W&B has, without waiting for retention; compact
 * gives the database's free pages to the disk. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/mpjson.h"
#include "proto/base/clock.h"
#include "proto/mp.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum {
	FIRST_POLL_MS = 20,
	LAST_POLL_MS = 1000,
	PRUNE_WAIT_MS = 600000,
};

struct amount {
	uint64_t records;
	uint64_t bytes;
};

static int on_amount(void *arg, struct span body)
{
	struct amount *a = arg;

	a->records = mp_get_uint(mp_of(body), "records", 0);
	a->bytes = mp_get_uint(mp_of(body), "bytes", 0);
	return CODE_OK;
}

static int ask_amount(struct call *c, uint64_t before_us, struct amount *ret)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_PRUNABLE);
	request_uint(&q, "before_us", before_us);
	r = call_ask(c, &q, on_amount, ret, &answer);
	request_done(&q);
	return r;
}

/* On a terminal; elsewhere --yes has to say it. */
static int confirm(struct call *c, const struct amount *a)
{
	char line[16];

	if (call_has(c, OPT_YES))
		return CODE_OK;
	if (!isatty(STDIN_FILENO))
		return say_usage(c->command, "it cannot be undone: say --yes");
	(void)fprintf(stderr, "remove %s delivered records, %s? [y/N] ",
		      word_count(a->records).text, word_size(a->bytes).text);
	if (fgets(line, sizeof(line), stdin) == NULL || (line[0] != 'y' && line[0] != 'Y')) {
		say("nothing was removed");
		return CODE_LATER;
	}
	return CODE_OK;
}

static int order_prune(struct call *c, uint64_t before_us)
{
	uint64_t count;
	struct request q;
	int r;

	request_init(&q, VERB_PRUNE);
	request_uint(&q, "before_us", before_us);
	r = call_order(c, &q, &count);
	request_done(&q);
	return r;
}

/* Until nothing is left of what was there before that time. */
static int await_pruned(struct call *c, uint64_t before_us, struct amount *left)
{
	uint64_t until_ms = clock_mono_ms() + PRUNE_WAIT_MS;
	int wait_ms = FIRST_POLL_MS;

	for (;;) {
		int r = ask_amount(c, before_us, left);

		if (r != CODE_OK || left->records == 0)
			return r;
		if (clock_mono_ms() >= until_ms)
			return CODE_LATER;
		(void)poll(NULL, 0, wait_ms); /* a wait */
		wait_ms = wait_ms * 2 < LAST_POLL_MS ? wait_ms * 2 : LAST_POLL_MS;
	}
}

static void print_pruned(struct call *c, const struct amount *all, const struct amount *left)
{
	uint64_t records =
		all->records - (left->records < all->records ? left->records : all->records);
	uint64_t bytes = all->bytes - (left->bytes < all->bytes ? left->bytes : all->bytes);
	auto_buf struct buf line = {0};
	struct json j;

	if (!call_has(c, OPT_JSON)) {
		(void)buf_printf(
			&c->out,
			"removed %s delivered records, %s; their pages are used again, wbxctl "
			"store compact gives them to the disk\n",
			word_count(records).text, word_size(bytes).text); /* call_print() looks */
		return;
	}
	buf_init(&line, 256);
	json_init(&j, &line);
	json_open_object(&j);
	json_pair_uint(&j, "records", records);
	json_pair_uint(&j, "bytes", bytes);
	json_close_object(&j);
	json_line(&c->out, &line);
}

int store_prune_run(struct call *c)
{
	uint64_t before_us = clock_wall_us();
	struct amount all = {0};
	struct amount left = {0};
	uint64_t age_ms = 0;
	int r;

	if (call_has(c, OPT_OLDER_THAN) == call_has(c, OPT_ALL_DELIVERED))
		return say_usage(c->command, "say --older-than or --all-delivered");
	if (call_has(c, OPT_OLDER_THAN) && duration_read(c->values[OPT_OLDER_THAN], &age_ms) < 0)
		return say_usage(c->command, "--older-than wants a time, such as 12h or 2d");
	if (age_ms >= before_us / 1000)
		return say_usage(c->command, "--older-than goes back before 1970");
	before_us -= age_ms * 1000;
	r = ask_amount(c, before_us, &all);
	if (r == CODE_OK && c->is_offline) {
		say("%s delivered records, %s, could go; only a daemon that runs removes them",
		    word_count(all.records).text, word_size(all.bytes).text);
		return CODE_AWAY;
	}
	if (r == CODE_OK && all.records > 0)
		r = confirm(c, &all);
	if (r == CODE_OK && all.records > 0)
		r = order_prune(c, before_us);
	if (r == CODE_OK && all.records > 0)
		r = await_pruned(c, before_us, &left);
	if (r == CODE_LATER && left.records > 0)
		say("%s records are left; the daemon goes on, between commits",
		    word_count(left.records).text);
	if (r == CODE_OK)
		print_pruned(c, &all, &left);
	return r;
}

/* --- compact --- */

/* The pages can only be given back by writing the database anew, for which nobody else may have it. */
int store_compact_run(struct call *c)
{
	struct control *control = NULL;
	int r = -ENOENT;

	if (!c->store_only)
		r = control_open(&control, c->place.control, c->kind == DAEMON_OWN);
	if (r == 0) {
		(void)control_close(control);
		say("the daemon has the store open. Stop it, say this again and start it; until "
		    "then clients "
		    "keep what they log in their journals and spools: %s",
		    c->kind == DAEMON_SYSTEM
			    ? "systemctl stop wbxd.socket wbxd && wbxctl store compact; systemctl "
			      "start wbxd.socket wbxd"
			    : "wbxd(8) tells how one is stopped");
		return CODE_LATER;
	}
	if (access(c->store, R_OK | W_OK | X_OK) < 0) {
		r = -errno;
		(void)say_errno(c->store, r);
		return r == -ENOENT ? CODE_UNREACHABLE : CODE_NOT_ALLOWED;
	}
	r = control_compact_store(c->store);
	if (r == -ENOENT)
		say("there is no wbxd in PATH that could do it");
	else if (r < 0)
		(void)say_errno("wbxd --compact", r);
	return r < 0 ? CODE_ERROR : r;
}
