/* Cases of judge.h: the daemon, its store, and what waits there for a person. */
#include "client/ctl/format.h"
#include "client/ctl/judge_words.h"
#include "client/ctl/outside.h"
#include "client/ctl/page.h"

#include <string.h>

enum {
	SHOWN_MAX = 4, /* dead letter groups, parked runs: the rest is counted */
	LINE_COLUMNS = PAGE_COLUMNS - PAGE_INDENT,
};

static void say_start(struct buf *b, const struct facts *f)
{
	const char *slash = strrchr(f->control, '/');

	switch (f->kind) {
	case DAEMON_SYSTEM:
		(void)buf_add_text(b,
				   "systemctl start wbxd; systemctl status wbxd says why it ended");
		return;
	case DAEMON_OWN:
		(void)buf_add_text(b, "None: the next process that logs starts one.");
		return;
	case DAEMON_ELSEWHERE: break;
	}
	(void)buf_add_text(b, "wbxd --dir ");
	outside_add(b,
		    (struct span){.at = (const uint8_t *)f->control,
				  .len = slash == NULL ? 0 : (size_t)(slash - f->control)},
		    OUTSIDE_LINE);
}

void judge_running(const struct facts *f, struct judgement *j)
{
	struct reason *r;
	uint64_t waiting;
	uint64_t bytes;

	if (f->running)
		return;
	r = reason_add(j, HEALTH_NOT_RUNNING, "not_running", NULL);
	r->see = "man 8 wbxd, NOT RUNNING";
	facts_sum(f, SINK_STATES, &waiting, &bytes);
	if (f->control[0] == '\0') {
		(void)buf_add_text(&r->headline, "read from the store alone; no daemon was asked");
		say_waiting(&r->text, waiting, bytes);
		return;
	}
	(void)buf_add_text(&r->headline, "no daemon answers at ");
	outside_add_text(&r->headline, f->control);
	if (waiting > 0) {
		say_waiting(&r->text, waiting, bytes);
		(void)buf_add_byte(&r->text, ' ');
	}
	(void)buf_add_text(&r->text, "Training is not affected: what it logs is kept in journals "
				     "and spools until a daemon takes it.");
	say_start(&r->action, f);
}

void judge_fault(const struct facts *f, struct judgement *j)
{
	struct reason *r;

	if (f->store.fault[0] == '\0')
		return;
	r = reason_add(j, HEALTH_CRITICAL, "store_error", NULL);
	r->see = "man 8 wbxd, STORE FAULT";
	(void)buf_add_text(&r->headline, "the store does not take records");
	outside_add_text(&r->text, f->store.fault);
	(void)buf_add_text(&r->text,
			   "\nTraining goes on: what it logs is kept in journals and spools, and "
			   "nothing that was stored is overwritten.");
	(void)buf_add_text(&r->action,
			   "Look at the disk (dmesg; the daemon's log says more), then:\n");
	if (f->kind == DAEMON_SYSTEM)
		(void)buf_add_text(&r->action, "systemctl restart wbxd");
	else
		(void)buf_printf(&r->action, "end process %lld and start it again",
				 (long long)f->pid);
}

static void say_refused(struct buf *b, const struct facts *f)
{
	const struct ingest_facts *i = &f->ingest;

	if (i->refused_since_us == 0)
		return;
	(void)buf_printf(b, "\nRefused since %s: %s traces, %s tables and files, %s metrics",
			 word_clock(i->refused_since_us, f->time_us).text,
			 word_count(i->refused_traces).text, word_count(i->refused_bulk).text,
			 word_count(i->refused_metrics).text);
	if (i->refused_rest != 0)
		(void)buf_printf(b, ", %s others", word_count(i->refused_rest).text);
	(void)buf_add_text(b, ". Each refusal was told to its client, and the clients counted it; "
			      "training was not blocked.");
}

void judge_space(const struct facts *f, struct judgement *j)
{
	const struct store_facts *s = &f->store;
	bool is_disk = s->disk_total_bytes != 0 && s->disk_free_bytes < s->reserve_bytes;
	bool is_full = s->space == STORE_FULL;
	struct reason *r;
	uint64_t waiting;
	uint64_t bytes;

	if (s->space == STORE_FINE)
		return;
	r = reason_add(j, HEALTH_CRITICAL, is_disk ? "disk_reserve" : "store_limit", NULL);
	r->see = "man 8 wbxd, DISK FULL";
	(void)buf_printf(&r->headline, "%s %s",
			 is_disk ? "the disk of the store is" : "the store is",
			 is_full ? "full: records wait unread" : "almost full");
	outside_add_text(&r->text, s->dir);
	(void)buf_printf(&r->text, ": %s free of %s, the reserve is %s. The store is %s of %s",
			 word_size(s->disk_free_bytes).text, word_size(s->disk_total_bytes).text,
			 word_size(s->reserve_bytes).text, word_size(s->used_bytes).text,
			 word_size(s->limit_bytes).text);
	facts_sum(f, SINK_STATES, &waiting, &bytes);
	(void)buf_printf(&r->text, ", of that %s undelivered.", word_size(bytes).text);
	if (is_full)
		(void)buf_add_text(&r->text, " What is logged now stays in journals and spools.");
	say_refused(&r->text, f);
	(void)buf_add_text(
		&r->action,
		is_disk ? "Free space on that disk; records are taken again by themselves."
			: "Raise store.limit in wbxd.conf(5), or let what waits be delivered "
			  "(is a sink paused?).");
}

/* "8a940daa (grpo-demo)" */
static void say_run(struct buf *b, const struct notable_run *run)
{
	outside_add_cut(b, span_of_text(run->run), 30);
	(void)buf_add_text(b, " (");
	outside_add_cut(b, span_of_text(run->project), 30);
	(void)buf_add_text(b, ")");
}

static const struct notable_run *say_parked(struct buf *b, const struct facts *f)
{
	const struct notable_run *first = NULL;
	uint64_t shown = 0;

	for (size_t i = 0; i < f->notable_count && shown < SHOWN_MAX; i++) {
		const struct notable_run *run = &f->notable[i];

		if (run->parked[0] == '\0')
			continue;
		first = first == NULL ? run : first;
		say_run(b, run);
		(void)buf_add_text(b, ": ");
		outside_add_text(b, run->parked);
		(void)buf_add_byte(b, '\n');
		shown++;
	}
	if (f->runs.parked > shown)
		(void)buf_printf(b, "%s %s.\n", word_count(f->runs.parked - shown).text,
				 shown == 0 ? "of another user" : "more, see wbxctl runs");
	return first;
}

/* One reason, of the asker himself if he is among them: to him it is bad, to others a thing to decide.
 */
void judge_users(const struct facts *f, struct judgement *j)
{
	const struct user_over *u = &f->over[0];
	bool is_mine;
	struct reason *r;

	if (f->over_count == 0)
		return;
	for (size_t i = 0; i < f->over_count; i++)
		u = f->over[i].uid == f->asker ? &f->over[i] : u;
	is_mine = u->uid == f->asker;
	r = reason_add(j, is_mine ? HEALTH_CRITICAL : HEALTH_ATTENTION, "user_limit", NULL);
	r->see = "man 8 wbxd, DISK FULL";
	if (is_mine)
		(void)buf_add_text(&r->headline, "more of yours waits than one user may have");
	else
		(void)buf_printf(&r->headline, "more of user %lld waits than one user may have",
				 (long long)u->uid);
	(void)buf_printf(
		&r->text,
		"%s wait; the limit is %s. Tables, files and judge calls of that user are refused; "
		"rows of plain values are taken up to %s. Nobody else is affected.",
		word_size(u->bytes).text, word_size(f->user_limit_bytes).text,
		word_size(f->user_limit_bytes + f->user_limit_bytes / 4).text);
	(void)buf_add_text(&r->action,
			   "Let it be delivered (wbxctl status, wbxctl backlog --by run), or "
			   "raise store.user_limit");
}

void judge_parked(const struct facts *f, struct judgement *j)
{
	const struct notable_run *first;
	struct reason *r;

	if (f->runs.parked == 0)
		return;
	r = reason_add(j, HEALTH_ATTENTION, "parked", NULL);
	r->see = "man 8 wbxd, PARKED RUNS";
	(void)buf_printf(&r->headline, "%s run%s parked until somebody looks at %s",
			 word_count(f->runs.parked).text, f->runs.parked == 1 ? " is" : "s are",
			 f->runs.parked == 1 ? "it" : "them");
	first = say_parked(&r->text, f);
	(void)buf_add_text(&r->text, "Other runs go on. What is parked is kept, and still taken.");
	(void)buf_add_text(&r->action, "wbxctl retry --run ");
	outside_add_text(&r->action, first == NULL ? "RUN" : first->run);
	(void)buf_add_text(&r->action, "   when the cause is gone");
}

static size_t columns_from(const struct buf *b, size_t from)
{
	return b->error != 0
		       ? 0
		       : text_columns((struct span){.at = b->data + from, .len = b->len - from});
}

/* "14 of sink artifacts: HTTP 400 "..." (run 8fk2p1aa)" on one line; the colon where the widest
 * neighbour has it. */
static void say_dead_group(struct buf *b, const struct dead_group *g, size_t width)
{
	auto_buf struct buf run = {0};
	size_t from = b->len;
	size_t used;

	buf_init(&run, (size_t)LINE_COLUMNS * 8);
	if (g->run[0] != '\0') {
		(void)buf_add_text(&run, " (run ");
		outside_add_cut(&run, span_of_text(g->run), 24);
		(void)buf_add_byte(&run, ')');
	}
	(void)buf_printf(b, "%s of sink ", word_count(g->count).text);
	outside_add_cut(b, span_of_text(g->sink), 20);
	(void)buf_add_byte(b, ':');
	used = columns_from(b, from);
	(void)buf_printf(b, "%*s", (int)(used < width ? width - used : 0), "");
	if (g->status != 0)
		(void)buf_printf(b, " HTTP %lld", (long long)g->status);
	(void)buf_add_text(b, " \"");
	used = columns_from(b, from) + text_columns(buf_span(&run)) + 1;
	outside_add_cut(b, span_of_text(g->reason), used < LINE_COLUMNS ? LINE_COLUMNS - used : 0);
	(void)buf_add_byte(b, '"');
	(void)buf_add(b, run.data, run.len);
	(void)buf_add_byte(b, '\n');
}

static void say_dead_groups(struct buf *b, const struct facts *f)
{
	size_t shown = f->dead_count < SHOWN_MAX ? f->dead_count : SHOWN_MAX;
	uint64_t told = 0;
	size_t width = 0;

	for (size_t i = 0; i < shown; i++) {
		size_t w = strlen(word_count(f->dead[i].count).text) + strlen(f->dead[i].sink) + 10;

		width = w > width ? w : width;
		told += f->dead[i].count;
	}
	for (size_t i = 0; i < shown; i++)
		say_dead_group(b, &f->dead[i], width < 40 ? width : 40);
	if (f->store.dead > told)
		(void)buf_printf(b, "%s%s, see wbxctl dead list\n",
				 word_count(f->store.dead - told).text, told > 0 ? " more" : "");
}

void judge_dead(const struct facts *f, struct judgement *j)
{
	struct reason *r;

	if (f->store.dead == 0)
		return;
	r = reason_add(j, HEALTH_ATTENTION, "dead_letters", NULL);
	r->see = "man 8 wbxd, DEAD LETTERS";
	(void)buf_printf(&r->headline, "%s record%s refused for good by W&B and set aside",
			 word_count(f->store.dead).text, f->store.dead == 1 ? " was" : "s were");
	say_dead_groups(&r->text, f);
	(void)buf_add_text(&r->text, "The rest of the stream goes on. The bytes are kept on disk "
				     "until you decide.");
	(void)buf_add_text(
		&r->action,
		"wbxctl dead list         show them      wbxctl dead show ID   one, with "
		"the answer\n"
		"wbxctl dead retry --all  after a fix    wbxctl dead drop ID   give it up");
}

void judge_spools(const struct facts *f, struct judgement *j)
{
	uint64_t count = f->spool_bad + f->spool_unreadable;
	struct reason *r;

	if (count == 0)
		return;
	r = reason_add(j, HEALTH_ATTENTION, "journals_unread", NULL);
	r->see = "man 8 wbxd, FILES";
	(void)buf_printf(&r->headline, "%s journal%s or spool%s cannot be read in",
			 word_count(count).text, plural(count), plural(count));
	if (f->spool_bad != 0)
		(void)buf_printf(&r->text,
				 "%s held what is no stream of records and lies aside as *.bad in "
				 "the journal or spool directory.\n",
				 word_count(f->spool_bad).text);
	if (f->spool_unreadable != 0)
		(void)buf_printf(
			&r->text,
			"%s may not be opened by the daemon's user; what is in them waits.\n",
			word_count(f->spool_unreadable).text);
	(void)buf_add_text(&r->action, "Files that may not be opened: chgrp or chmod them for the "
				       "daemon. Files named *.bad: keep "
				       "them for a report, or remove them.");
}
