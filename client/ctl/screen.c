/* See screen.h. */
#include "client/ctl/screen.h"

#include "client/ctl/format.h"
#include "client/ctl/grid.h"
#include "client/ctl/outside.h"
#include "client/ctl/page.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <string.h>

enum {
	LINE_MAX_BYTES = 4096,
	NOTABLE_SHOWN = 4,
	NEARLY_FULL = 80 /* percent: from here on it is told how full the store is */
};

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

static struct word age_of(const struct facts *f, uint64_t then_us)
{
	return word_age_short(then_us != 0 && then_us < f->time_us ? (f->time_us - then_us) / 1000
								   : 0);
}

/* The finished line under its label. */
static void add_line(struct buf *out, const char *label, const struct buf *line)
{
	page_add(out, label, buf_span(line));
	if (line->error == -ENOMEM && out->error == 0)
		out->error = -ENOMEM; /* a cut line (-EMSGSIZE) is fine */
}

/* --- head --- */

static void add_dot(struct buf *out, enum health health, bool has_colour)
{
	static const char *const colours[HEALTHS] = {"32", "33", "33", "33", "31", "31"};
	const char *dot = health == HEALTH_NOT_RUNNING ? "○" : "●";

	if (has_colour)
		(void)buf_printf(out, "\x1b[%sm%s\x1b[0m", colours[health], dot); /* errors stay */
	else
		(void)buf_add_text(out, dot);
}

static void add_head(struct buf *out, const struct facts *f, const struct judgement *j,
		     bool has_colour)
{
	add_dot(out, j->health, has_colour);
	if (!f->running) {
		(void)buf_add_text(out, f->control[0] != '\0' ? " wbxd is not running on "
							      : " wbxd was not asked; read on ");
		outside_add_text(out, f->host);
		(void)buf_add_byte(out, '\n');
		return;
	}
	(void)buf_add_text(out, " wbxd ");
	outside_add_text(out, f->version);
	(void)buf_add_text(out, " on ");
	outside_add_text(out, f->host);
	(void)buf_printf(out, ", pid %lld, up %s\n", (long long)f->pid, word_age(f->up_ms).text);
}

static void add_verdict(struct buf *out, const struct judgement *j)
{
	auto_buf struct buf line = {0};

	buf_init(&line, (size_t)2 * LINE_MAX_BYTES);
	(void)buf_add_text(&line, health_name(j->health));
	for (size_t i = 0; i < j->count; i++) {
		const struct reason *r = &j->reasons[i];

		if (i > 0) {
			buf_clear(&line);
			(void)buf_add_text(&line, health_name(r->health));
		}
		(void)buf_add_text(&line, " - ");
		(void)buf_add(&line, r->headline.data, r->headline.len);
		add_line(out, i == 0 ? "state" : "also", &line);
		if (i > 0)
			continue;
		page_add(out, "status", buf_span(&r->text));
		page_add(out, "action", buf_span(&r->action));
		page_add(out, "see", span_of_text(r->see));
	}
	if (j->count == 0)
		add_line(out, "state", &line);
}

/* --- facts --- */

static void add_store(struct buf *out, const struct store_facts *s)
{
	auto_buf struct buf line = {0};
	double part = s->limit_bytes == 0 ? 0 : (double)s->used_bytes / (double)s->limit_bytes;

	buf_init(&line, LINE_MAX_BYTES);
	(void)buf_printf(&line, "%s of %s", word_size(s->used_bytes).text,
			 word_size(s->limit_bytes).text);
	if (part * 100 >= NEARLY_FULL)
		(void)buf_printf(&line, " (%s)", word_percent(part).text);
	if (s->dead_bytes != 0)
		(void)buf_printf(&line, " (dead letters %s)", word_size(s->dead_bytes).text);
	(void)buf_add_text(&line, s->disk_total_bytes != 0 ? "; disk " : "; in ");
	outside_add_text(&line, s->dir);
	if (s->disk_total_bytes != 0)
		(void)buf_printf(
			&line, " %s free (%s)", word_size(s->disk_free_bytes).text,
			word_percent((double)s->disk_free_bytes / (double)s->disk_total_bytes)
				.text);
	add_line(out, "store", &line);
}

static void add_refused(struct buf *line, const struct ingest_facts *i)
{
	uint64_t bulk = i->refused_metrics + i->refused_bulk + i->refused_rest;

	if (i->refused_per_s > 0)
		(void)buf_printf(line, "; refused %s rec/s%s", word_rate(i->refused_per_s).text,
				 bulk == 0 ? " (traces only)" : "");
	else
		(void)buf_printf(line, "; %s refused", word_count(bulk + i->refused_traces).text);
}

static void add_ingest(struct buf *out, const struct ingest_facts *i)
{
	auto_buf struct buf line = {0};

	buf_init(&line, LINE_MAX_BYTES);
	(void)buf_printf(&line, "%s rec/s from %s client%s of %s user%s",
			 word_rate(i->records_per_s).text, word_count(i->clients).text,
			 plural(i->clients), word_count(i->users).text, plural(i->users));
	if (i->ack_p50_ms > 0 && !(i->refused_per_s > 0))
		(void)buf_printf(&line, "; durable in %s p50, %s p99", word_ms(i->ack_p50_ms).text,
				 word_ms(i->ack_p99_ms).text);
	add_refused(&line, i);
	add_line(out, "ingest", &line);
}

void limits_add(struct buf *out, const struct sink_facts *s)
{
	outside_add_text(out, s->name);
	if (s->requests_per_s > 0)
		(void)buf_printf(out, ": %s requests/s", word_rate(s->requests_per_s).text);
	else
		(void)buf_add_text(out, ": no limit of requests"); /* errors stay in out */
	if (s->bytes_per_s > 0)
		(void)buf_printf(out, ", %s/s", word_size((uint64_t)s->bytes_per_s).text);
	else
		(void)buf_add_text(out, ", no limit of bytes");
}

static uint64_t last_accepted(const struct facts *f)
{
	uint64_t last = 0;

	for (size_t i = 0; i < f->sink_count; i++)
		last = f->sinks[i].last_ok_us > last ? f->sinks[i].last_ok_us : last;
	return last;
}

static void add_key_line(struct buf *line, const struct facts *f, const char *tail,
			 const char *user, uint64_t last_us)
{
	(void)buf_add_text(line, "key …"); /* errors stay in line */
	outside_add_text(line, tail);
	if (user[0] != '\0') {
		(void)buf_add_text(line, " of user ");
		outside_add_text(line, user);
	}
	(void)buf_add_text(line, " at ");
	outside_add_text(line, f->base_url);
	if (last_us != 0)
		(void)buf_printf(line, ", last accepted %s ago", age_of(f, last_us).text);
	else
		(void)buf_add_text(line, ", not tried yet");
}

/* One key, or each with the sink that it is of. */
static void add_account(struct buf *out, const struct facts *f)
{
	auto_buf struct buf line = {0};
	size_t keys = 0;

	buf_init(&line, LINE_MAX_BYTES);
	for (size_t i = 0; i < f->sink_count; i++)
		keys += f->sinks[i].key_tail[0] != '\0';
	for (size_t i = 0; i < f->sink_count && keys > 1; i++) {
		const struct sink_facts *s = &f->sinks[i];

		if (s->key_tail[0] == '\0')
			continue;
		outside_add_text(&line, s->title);
		(void)buf_add_text(&line, ": ");
		add_key_line(&line, f, s->key_tail, s->user, s->last_ok_us);
		(void)buf_add_byte(&line, '\n');
	}
	if (keys < 2 && f->key_tail[0] != '\0')
		add_key_line(&line, f, f->key_tail, f->user, last_accepted(f));
	if (line.len > 0)
		add_line(out, "account", &line);
}

static void add_spools(struct buf *out, const struct facts *f)
{
	auto_buf struct buf line = {0};

	if (f->spool_producers == 0)
		return;
	buf_init(&line, LINE_MAX_BYTES);
	(void)buf_printf(&line, "%s process%s ended and left %s to be read in",
			 word_count(f->spool_producers).text, f->spool_producers == 1 ? "" : "es",
			 word_size(f->spool_bytes).text);
	if (f->spool_oldest_us != 0)
		(void)buf_printf(&line, ", the oldest %s ago", age_of(f, f->spool_oldest_us).text);
	add_line(out, "spools", &line);
}

/* --- sinks --- */

enum column {
	COLUMN_SINK,
	COLUMN_STATE,
	COLUMN_WAITING,
	COLUMN_BYTES,
	COLUMN_IN_FLIGHT,
	COLUMN_OLDEST,
	COLUMN_NEXT,
	COLUMN_SENT,
	COLUMN_LAST_OK,
	COLUMN_RETRIES,
	COLUMN_TRIES,
	COLUMN_SPACING,
	COLUMN_DEAD,
	COLUMN_ERROR,
	COLUMNS,
};

/* What is wide keeps its place while numbers change: --watch is read by eye. */
static const struct grid_column columns[COLUMNS] = {
	[COLUMN_SINK] = {"SINK", false, 9, 12},
	[COLUMN_STATE] = {"STATE", false, 8, 14},
	[COLUMN_WAITING] = {"WAITING", true, 7, 0},
	[COLUMN_BYTES] = {"SIZE", true, 8, 0},
	[COLUMN_IN_FLIGHT] = {"IN FLIGHT", true, 9, 0},
	[COLUMN_OLDEST] = {"OLDEST", true, 6, 0},
	[COLUMN_NEXT] = {"NEXT TRY", true, 8, 0},
	[COLUMN_SENT] = {"SENT/s", true, 7, 0},
	[COLUMN_LAST_OK] = {"LAST OK", true, 7, 0},
	[COLUMN_RETRIES] = {"RETRIES/s", true, 9, 0},
	[COLUMN_TRIES] = {"TRIES", true, 5, 0},
	[COLUMN_SPACING] = {"SPACING", true, 7, 0},
	[COLUMN_DEAD] = {"DEAD", true, 4, 0},
	[COLUMN_ERROR] = {"LAST ERROR", false, 0, 0},
};

struct column_set {
	size_t count;
	enum column of[GRID_COLUMNS_MAX];
};

static const struct column_set usual_set = {9,
					    {COLUMN_SINK, COLUMN_STATE, COLUMN_WAITING,
					     COLUMN_IN_FLIGHT, COLUMN_OLDEST, COLUMN_SENT,
					     COLUMN_LAST_OK, COLUMN_RETRIES, COLUMN_DEAD}};
static const struct column_set error_set = {8,
					    {COLUMN_SINK, COLUMN_STATE, COLUMN_WAITING,
					     COLUMN_IN_FLIGHT, COLUMN_OLDEST, COLUMN_NEXT,
					     COLUMN_TRIES, COLUMN_ERROR}};
static const struct column_set limited_set = {9,
					      {COLUMN_SINK, COLUMN_STATE, COLUMN_WAITING,
					       COLUMN_IN_FLIGHT, COLUMN_OLDEST, COLUMN_NEXT,
					       COLUMN_SENT, COLUMN_SPACING, COLUMN_DEAD}};
static const struct column_set stored_set = {
	6, {COLUMN_SINK, COLUMN_WAITING, COLUMN_BYTES, COLUMN_OLDEST, COLUMN_LAST_OK, COLUMN_DEAD}};

static bool has_error(const struct sink_facts *s)
{
	return s->state == SINK_LINK_DOWN || s->state == SINK_KEY_REFUSED ||
	       s->state == SINK_SERVER_ERROR;
}

static const struct column_set *choose_set(const struct facts *f)
{
	const struct column_set *set = &usual_set;

	if (!f->running)
		return &stored_set;
	for (size_t i = 0; i < f->sink_count; i++) {
		if (has_error(&f->sinks[i]))
			return &error_set;
		if (f->sinks[i].state == SINK_RATE_LIMITED)
			set = &limited_set;
	}
	return set;
}

/* Tables and files go out under the key of models, and stop with it. */
static const char *error_of(const struct facts *f, const struct sink_facts *s)
{
	const struct sink_facts *models = &f->sinks[0];

	if (has_error(s) && s != models && strcmp(s->name, "artifacts") == 0 &&
	    strcmp(models->name, "models") == 0 && models->state == s->state)
		return "(shares models' breaker)";
	return s->error[0] == '\0' ? "-" : s->error;
}

static struct word next_try(const struct sink_facts *s)
{
	if (s->next_try_ms < 0)
		return (struct word){"-"};
	return s->next_try_ms == 0 ? (struct word){"now"} : word_rough((uint64_t)s->next_try_ms);
}

static const char *state_of(const struct facts *f, const struct sink_facts *s)
{
	return sink_is_paused(f, s) ? "paused" : s->state_name;
}

static void add_cell(struct grid *g, const struct facts *f, const struct sink_facts *s,
		     enum column column)
{
	static const struct word none = {"-"};
	struct word w = none;

	switch (column) {
	case COLUMN_SINK: grid_add_text(g, s->title); return;
	case COLUMN_STATE: grid_add_text(g, state_of(f, s)); return;
	case COLUMN_ERROR: grid_add_text(g, error_of(f, s)); return;
	case COLUMN_WAITING: w = word_count(s->waiting); break;
	case COLUMN_BYTES: w = word_size(s->waiting_bytes); break;
	case COLUMN_IN_FLIGHT: w = word_count(s->in_flight); break;
	case COLUMN_OLDEST: w = s->oldest_us == 0 ? none : age_of(f, s->oldest_us); break;
	case COLUMN_NEXT: w = next_try(s); break;
	case COLUMN_SENT: w = word_rate(s->sent_per_s); break;
	case COLUMN_LAST_OK: w = s->last_ok_us == 0 ? none : age_of(f, s->last_ok_us); break;
	case COLUMN_RETRIES: w = word_rate(s->retries_per_s); break;
	case COLUMN_TRIES: w = word_count(s->tries); break;
	case COLUMN_SPACING: w = s->spacing_ms == 0 ? none : word_ms((double)s->spacing_ms); break;
	case COLUMN_DEAD: w = word_count(s->dead); break;
	case COLUMNS: break;
	}
	grid_add_text(g, w.text);
}

static void add_sinks(struct buf *out, const struct facts *f)
{
	const struct column_set *set = choose_set(f);
	struct grid_column chosen[GRID_COLUMNS_MAX];
	struct grid g;

	for (size_t i = 0; i < set->count; i++)
		chosen[i] = columns[set->of[i]];
	grid_init(&g, chosen, set->count);
	for (size_t i = 0; i < f->sink_count; i++) {
		for (size_t c = 0; c < set->count; c++)
			add_cell(&g, f, &f->sinks[i], set->of[c]);
	}
	(void)buf_add_byte(out, '\n'); /* errors stay in out */
	grid_print(&g, out, PAGE_COLUMNS);
	(void)buf_add_byte(out, '\n');
	grid_done(&g);
}

/* Limits that somebody asked for, so that nobody wonders why it is slow. */
static void add_limits(struct buf *out, const struct facts *f)
{
	const struct sink_facts *s = &f->sinks[0];
	auto_buf struct buf line = {0};

	if (f->sink_count == 0 || !s->limits_are_asked_for)
		return;
	buf_init(&line, LINE_MAX_BYTES);
	limits_add(&line, s);
	(void)buf_add_text(&line, "; wbxctl limit --default takes that back");
	add_line(out, "limit", &line);
}

/* Files that are on their way: how many, how fast, how long yet. */
static void add_files(struct buf *out, const struct facts *f)
{
	auto_buf struct buf line = {0};
	const struct sink_facts *s = NULL;
	double rate;

	for (size_t i = 0; i < f->sink_count && s == NULL; i++) {
		if (strcmp(f->sinks[i].name, "artifacts") == 0)
			s = &f->sinks[i];
	}
	if (s == NULL || s->waiting == 0 || s->sent_bytes_per_s <= 0)
		return;
	rate = s->sent_bytes_per_s;
	buf_init(&line, LINE_MAX_BYTES);
	(void)buf_printf(&line, "%s in %s file%s to go at %s/s", word_size(s->waiting_bytes).text,
			 word_count(s->waiting).text, plural(s->waiting),
			 word_size((uint64_t)rate).text);
	(void)buf_printf(&line, ": %s, if nothing comes in",
			 word_rough((uint64_t)((double)s->waiting_bytes / rate * 1000)).text);
	add_line(out, "uploads", &line);
}

/* --- runs --- */

static bool is_notable(const struct notable_run *run)
{
	return run->parked[0] != '\0' || run->uploads > 0 || run->late > 0;
}

static void add_notable(struct buf *line, const struct notable_run *run)
{
	outside_add_cut(line, span_of_text(run->run), 30);
	(void)buf_add_text(line, " (");
	outside_add_cut(line, span_of_text(run->project), 30);
	(void)buf_add_text(line, ") ");
	if (run->parked[0] != '\0') {
		(void)buf_add_text(line, "parked\n");
	} else if (run->uploads > 0) {
		outside_add_text(line, run->state);
		(void)buf_printf(line, ": %s file%s wait%s\n", word_count(run->uploads).text,
				 plural(run->uploads), run->uploads == 1 ? "s" : "");
	} else {
		(void)buf_printf(line, "%s row%s came late\n", word_count(run->late).text,
				 plural(run->late));
	}
}

static void add_runs(struct buf *out, const struct facts *f)
{
	auto_buf struct buf line = {0};
	unsigned shown = 0;

	buf_init(&line, LINE_MAX_BYTES);
	(void)buf_printf(&line, "%s live, %s finishing, %s done", word_count(f->runs.live).text,
			 word_count(f->runs.finishing).text, word_count(f->runs.done).text);
	if (f->runs.parked != 0)
		(void)buf_printf(&line, ", %s parked", word_count(f->runs.parked).text);
	if (facts_lost(f) == 0)
		(void)buf_add_text(&line, "; nothing lost");
	else
		(void)buf_printf(&line, "; %s record%s rejected, %s refused",
				 word_count(f->ingest.rejected_ever).text,
				 plural(f->ingest.rejected_ever),
				 word_count(f->ingest.refused_ever).text);
	if (f->ingest.lost_ever != 0)
		(void)buf_printf(&line, ", %s given up by clients",
				 word_count(f->ingest.lost_ever).text);
	(void)buf_add_text(&line, " since the store was made\n");
	for (size_t i = 0; i < f->notable_count && shown < NOTABLE_SHOWN; i++) {
		if (!is_notable(&f->notable[i]))
			continue;
		add_notable(&line, &f->notable[i]);
		shown++;
	}
	add_line(out, "runs", &line);
}

static void add_late(struct buf *out, uint64_t late)
{
	auto_buf struct buf line = {0};

	if (late == 0)
		return;
	buf_init(&line, LINE_MAX_BYTES);
	(void)buf_printf(
		&line,
		"%s row%s came after %s step had gone; kept here, not sent (wbxctl late list)",
		word_count(late).text, plural(late), late == 1 ? "its" : "their");
	add_line(out, "late", &line);
}

static void add_held(struct buf *out, uint64_t held)
{
	auto_buf struct buf line = {0};

	if (held == 0)
		return;
	buf_init(&line, LINE_MAX_BYTES);
	(void)buf_printf(&line,
			 "%s table%s not sent, as tables.send in wbxd.conf wants it; kept here",
			 word_count(held).text, plural(held));
	add_line(out, "tables", &line);
}

/* What of the traces went to W&B: its plans count bytes. */
static void add_traces(struct buf *out, const struct facts *f)
{
	auto_buf struct buf line = {0};

	buf_init(&line, LINE_MAX_BYTES);
	for (size_t i = 0; i < f->sink_count; i++) {
		const struct sink_facts *s = &f->sinks[i];

		if (s->month_bytes == 0 && s->held == 0)
			continue;
		(void)buf_printf(&line, "%s%s sent today, %s this month", line.len > 0 ? "; " : "",
				 word_size(s->day_bytes).text, word_size(s->month_bytes).text);
		if (s->held > 0)
			(void)buf_printf(&line, "; %s left out (wbxctl traces --send)",
					 word_count(s->held).text);
	}
	if (line.len > 0)
		add_line(out, "traces", &line);
}

void screen_add(struct buf *out, const struct facts *f, const struct judgement *j, bool has_colour)
{
	add_head(out, f, j, has_colour);
	add_verdict(out, j);
	add_store(out, &f->store);
	if (f->running)
		add_ingest(out, &f->ingest);
	if (f->running && j->health <= HEALTH_PAUSED)
		add_account(out, f);
	add_spools(out, f);
	add_sinks(out, f);
	add_limits(out, f);
	add_files(out, f);
	add_traces(out, f);
	add_runs(out, f);
	add_late(out, f->store.late);
	add_held(out, f->store.tables_held);
}
