#include "client/ctl/report.h"
#include "client/ctl/screen.h"
#include "tests/lib/suite.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GIB ((uint64_t)1 << 30)
#define NOW ((uint64_t)1795345200000000) /* 2026-11-22 11:00:00 UTC */
#define S   ((uint64_t)1000000)
#define H   ((uint64_t)3600 * S)

static void set(char *field, const char *text)
{
	(void)snprintf(field, FACTS_TEXT_MAX, "%s", text);
}

static void set_state(struct sink_facts *s, const char *state)
{
	set(s->state_name, state);
	s->state = sink_state_by_name(state);
}

static struct sink_facts sink(const char *name, const char *state)
{
	struct sink_facts s = {.next_try_ms = -1, .state_ms = -1, .uid = -1};

	set(s.name, name);
	set(s.title, name);
	set_state(&s, state);
	return s;
}

/* The facts of the first text in the design's models. */
static struct facts healthy(void)
{
	struct facts f = {
		.running = true,
		.time_us = NOW,
		.pid = 2113,
		.up_ms = (uint64_t)(3 * 24 + 4) * 3600 * 1000,
		.store = {.used_bytes = GIB / 100 * 124,
			  .limit_bytes = 50 * GIB,
			  .reserve_bytes = 2 * GIB,
			  .disk_free_bytes = 412 * GIB,
			  .disk_total_bytes = 528 * GIB},
		.ingest = {.records_per_s = 1284,
			   .clients = 64,
			   .users = 2,
			   .ack_p50_ms = 3.1,
			   .ack_p99_ms = 9.8},
		.runs = {.live = 3, .finishing = 1, .done = 27},
		.sink_count = 3,
		.asker = -1,
	};

	set(f.host, "gpu07");
	set(f.version, "1.0.0");
	set(f.base_url, "https://api.wandb.ai");
	set(f.user, "wbx-bot");
	set(f.key_tail, "a91f");
	set(f.control, "/run/wbx/ctl/ctl.sock");
	set(f.store.dir, "/var/lib/wbx");
	f.sinks[0] = sink("models", "ok");
	set(f.sinks[0].user, "wbx-bot");
	set(f.sinks[0].key_tail, "a91f");
	f.sinks[0].waiting = 212;
	f.sinks[0].waiting_bytes = 41000;
	f.sinks[0].in_flight = 212;
	f.sinks[0].oldest_us = NOW - 4 * S;
	f.sinks[0].sent_per_s = 1190;
	f.sinks[0].last_ok_us = NOW - 2 * S;
	f.sinks[1] = sink("artifacts", "stored only");
	f.sinks[2] = sink("weave", "stored only");
	f.sinks[2].waiting = 1044;
	f.sinks[2].waiting_bytes = 3 << 20;
	f.sinks[2].oldest_us = NOW - 8 * S;
	return f;
}

static void set_link_down(struct sink_facts *s)
{
	set_state(s, "link down");
	s->waiting = 9640112;
	s->waiting_bytes = 36 * GIB / 10;
	s->state_ms = 8040000;
	s->oldest_us = NOW - 8040 * S;
	s->tries = 37;
	s->next_try_ms = 41000;
	s->in_flight = 0;
	set(s->error, "connect: timed out after 10 s");
}

static struct notable_run run(const char *id, const char *project)
{
	struct notable_run r = {.run = ""};

	(void)snprintf(r.run, sizeof(r.run), "%s", id);
	(void)snprintf(r.project, sizeof(r.project), "%s", project);
	set(r.state, "finishing");
	return r;
}

static struct dead_group group(uint64_t count, int status, const char *sink_name,
			       const char *reason)
{
	struct dead_group g = {.count = count, .status = status, .run = "8fk2p1aa"};

	set(g.sink, sink_name);
	set(g.reason, reason);
	return g;
}

/* The screen of the facts; the caller's buf. */
static const char *screen(const struct facts *f, struct buf *out, int exit_code)
{
	struct judgement j;

	(void)setenv("TZ", "UTC", 1);
	tzset();
	buf_init(out, 1 << 20);
	ck_assert_int_eq(judge(f, &j), 0);
	ck_assert_int_eq(health_exit_code(j.health), exit_code);
	screen_add(out, f, &j, false);
	judgement_done(&j);
	ck_assert_int_eq(out->error, 0);
	return buf_text(out);
}

static void check_screen(const struct facts *f, int exit_code, const char *want)
{
	auto_buf struct buf out = {0};
	const char *got = screen(f, &out, exit_code);
	unsigned lines = 0;

	if (strcmp(got, want) != 0)
		(void)fprintf(stderr, "--- wanted\n%s--- got\n%s---\n", want, got);
	ck_assert_str_eq(got, want);
	for (const char *at = got; *at != '\0'; at++)
		lines += *at == '\n';
	ck_assert_uint_le(lines, 24);
}

#define TITLE_LINE "● wbxd 1.0.0 on gpu07, pid 2113, up 3 d 04 h\n"
#define STORE_LINE "   store: 1.24 GiB of 50 GiB; disk /var/lib/wbx 412 GiB free (78 %)\n"
#define INGEST_LINE                                                                                \
	"  ingest: 1 284 rec/s from 64 clients of 2 users; durable in 3.1 ms p50, 9.8 ms p99; 0 "  \
	"refused\n"
#define RUNS_LINE "    runs: 3 live, 1 finishing, 27 done; nothing lost since the store was made\n"

/* What is to be printed, as it is printed. clang-format would cut the lines. */
/* clang-format off */
static const char text_of_healthy[] =
	TITLE_LINE
	"   state: HEALTHY\n"
	STORE_LINE
	INGEST_LINE
	" account: key …a91f of user wbx-bot at https://api.wandb.ai, last accepted 2 s ago\n"
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     ok               212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0     0\n"
	"weave      stored only    1 044          0     8 s        0        -          0     0\n"
	"\n"
	RUNS_LINE;

static const char text_of_no_key[] =
	TITLE_LINE
	"   state: BEHIND - no key: everything waits on disk\n"
	"  status: Training is not affected and nothing is lost: 212 records (40 KiB) wait on disk. At\n"
	"          1.61 GiB/h the limit of the store is reached in 30 h.\n"
	"  action: Put the key of a W&B account into /etc/wbx/wandb-api-key, mode 0600, then:\n"
	"          systemctl restart wbxd\n"
	"     see: man 8 wbxd, KEYS\n"
	STORE_LINE
	INGEST_LINE
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     no key           212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0     0\n"
	"weave      stored only    1 044          0     8 s        0        -          0     0\n"
	"\n"
	RUNS_LINE;

static const char text_of_link_down[] =
	TITLE_LINE
	"   state: BEHIND - no answer from api.wandb.ai for 2 h 14 min\n"
	"  status: Training is not affected and nothing is lost: 9 640 112 records (3.6 GiB) wait on disk. At\n"
	"          1.61 GiB/h the limit of the store is reached in 30 h.\n"
	"          The last error: connect: timed out after 10 s\n"
	"  action: None, if the link comes back: delivery goes on by itself. To try it at once: wbxctl retry\n"
	"     see: man 8 wbxd, LINK DOWN\n"
	STORE_LINE
	INGEST_LINE
	"\n"
	"SINK       STATE          WAITING  IN FLIGHT    OLDEST  NEXT TRY  TRIES  LAST ERROR\n"
	"models     link down    9 640 112          0  2 h 14 m      41 s     37  connect: timed out after 1…\n"
	"artifacts  stored only          0          0         -         -      0  -\n"
	"weave      stored only      1 044          0       8 s         -      0  -\n"
	"\n"
	RUNS_LINE;

static const char text_of_many_reasons[] =
	TITLE_LINE
	"   state: ATTENTION - 2 runs are parked until somebody looks at them\n"
	"  status: 8a940daa (grpo-demo): the run was deleted (HTTP 404)\\x1b[2J\n"
	"          1 more, see wbxctl runs.\n"
	"          Other runs go on. What is parked is kept, and still taken.\n"
	"  action: wbxctl retry --run 8a940daa   when the cause is gone\n"
	"     see: man 8 wbxd, PARKED RUNS\n"
	"    also: BEHIND - no answer from api.wandb.ai for 2 h 14 min\n"
	STORE_LINE
	INGEST_LINE
	"\n"
	"SINK       STATE          WAITING  IN FLIGHT    OLDEST  NEXT TRY  TRIES  LAST ERROR\n"
	"models     link down    9 640 112          0  2 h 14 m      41 s     37  connect: timed out after 1…\n"
	"artifacts  link down            0          0         -         -      0  (shares models' breaker)\n"
	"weave      stored only      1 044          0       8 s         -      0  -\n"
	"\n"
	"    runs: 3 live, 1 finishing, 27 done, 2 parked; nothing lost since the store was made\n"
	"          8a940daa (grpo-demo) parked\n";

static const char text_of_rate_limit[] =
	TITLE_LINE
	"   state: BEHIND - api.wandb.ai limits the rate of sink models (HTTP 429)\n"
	"  status: Training is not affected and nothing is lost: 98 810 records (40 KiB) wait on disk. The\n"
	"          last answer asked for a pause of 37 s. Requests are spaced at 1 in 14 s.\n"
	"  action: None. If the backlog grows: log fewer keys, or give other jobs of this key less to do\n"
	"          (limits count for the whole account, and other nodes share it).\n"
	"     see: man 8 wbxd, RATE LIMITS; wbxctl backlog --by run\n"
	STORE_LINE
	INGEST_LINE
	"\n"
	"SINK       STATE         WAITING  IN FLIGHT  OLDEST  NEXT TRY   SENT/s  SPACING  DEAD\n"
	"models     rate limited   98 810        212     4 s      12 s    1 190     14 s     0\n"
	"artifacts  stored only         0          0       -         -        0        -     0\n"
	"weave      stored only     1 044          0     8 s         -        0        -     0\n"
	"\n"
	RUNS_LINE;

static const char text_of_refused_key[] =
	TITLE_LINE
	"   state: ATTENTION - W&B refused the key …a91f (HTTP 401)\n"
	"  status: Training is not affected and nothing is lost: 212 records (40 KiB) wait on disk. The key\n"
	"          is probed again in 4 min.\n"
	"          The last error: HTTP 401: user is not logged in\n"
	"  action: Put a valid key into /etc/wbx/wandb-api-key, mode 0600, then:\n"
	"          systemctl restart wbxd\n"
	"     see: man 8 wbxd, KEYS\n"
	STORE_LINE
	INGEST_LINE
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST  NEXT TRY  TRIES  LAST ERROR\n"
	"models     key refused      212        212     4 s     4 min      0  HTTP 401: user is not logged in\n"
	"artifacts  stored only        0          0       -         -      0  -\n"
	"weave      stored only    1 044          0     8 s         -      0  -\n"
	"\n"
	RUNS_LINE;

static const char text_of_dead_letters[] =
	TITLE_LINE
	"   state: ATTENTION - 17 records were refused for good by W&B and set aside\n"
	"  status: 14 of sink artifacts: HTTP 400 \"manifest entry path contains '..'\" (run 8fk2p1aa)\n"
	"          2 of sink weave:      HTTP 413 \"call of 31 MiB\" (run 8fk2p1aa)\n"
	"          1 more, see wbxctl dead list\n"
	"          The rest of the stream goes on. The bytes are kept on disk until you decide.\n"
	"  action: wbxctl dead list         show them      wbxctl dead show ID   one, with the answer\n"
	"          wbxctl dead retry --all  after a fix    wbxctl dead drop ID   give it up\n"
	"     see: man 8 wbxd, DEAD LETTERS\n"
	"   store: 1.24 GiB of 50 GiB (dead letters 71 MiB); disk /var/lib/wbx 412 GiB free (78 %)\n"
	INGEST_LINE
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     ok               212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0    14\n"
	"weave      stored only    1 044          0     8 s        0        -          0     2\n"
	"\n"
	RUNS_LINE;

static const char text_of_tight_disk[] =
	TITLE_LINE
	"   state: CRITICAL - the disk of the store is almost full\n"
	"  status: /var/lib/wbx: 1.9 GiB free of 528 GiB, the reserve is 2 GiB. The store is 46.1 GiB of\n"
	"          50 GiB, of that 45.8 GiB undelivered.\n"
	"          Refused since 10:00:00: 1 204 traces, 0 tables and files, 0 metrics. Each refusal was told\n"
	"          to its client, and the clients counted it; training was not blocked.\n"
	"  action: Free space on that disk; records are taken again by themselves.\n"
	"     see: man 8 wbxd, DISK FULL\n"
	"   store: 46.1 GiB of 50 GiB (92 %); disk /var/lib/wbx 1.9 GiB free (0.4 %)\n"
	"  ingest: 1 284 rec/s from 64 clients of 2 users; refused 31 rec/s (traces only)\n"
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     ok               212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0     0\n"
	"weave      stored only    1 044          0     8 s        0        -          0     0\n"
	"\n"
	"    runs: 3 live, 1 finishing, 27 done; 0 records rejected, 1 204 refused since the store was made\n";

static const char text_of_full_store[] =
	TITLE_LINE
	"   state: CRITICAL - the store is full: records wait unread\n"
	"  status: /var/lib/wbx: 412 GiB free of 528 GiB, the reserve is 2 GiB. The store is 50 GiB of\n"
	"          50 GiB, of that 3.04 MiB undelivered. What is logged now stays in journals and spools.\n"
	"  action: Raise store.limit in wbxd.conf(5), or let what waits be delivered (is a sink paused?).\n"
	"     see: man 8 wbxd, DISK FULL\n"
	"   store: 50 GiB of 50 GiB (100 %); disk /var/lib/wbx 412 GiB free (78 %)\n"
	INGEST_LINE
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     ok               212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0     0\n"
	"weave      stored only    1 044          0     8 s        0        -          0     0\n"
	"\n"
	RUNS_LINE;

static const char text_of_fault[] =
	TITLE_LINE
	"   state: CRITICAL - the store does not take records\n"
	"  status: fsync of wbx.db-wal: Input/output error\n"
	"          Training goes on: what it logs is kept in journals and spools, and nothing that was stored\n"
	"          is overwritten.\n"
	"  action: Look at the disk (dmesg; the daemon's log says more), then:\n"
	"          systemctl restart wbxd\n"
	"     see: man 8 wbxd, STORE FAULT\n"
	STORE_LINE
	INGEST_LINE
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     ok               212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0     0\n"
	"weave      stored only    1 044          0     8 s        0        -          0     0\n"
	"\n"
	RUNS_LINE;

static const char text_of_pause[] =
	TITLE_LINE
	"   state: PAUSED - sink models is paused until 11:30:00\n"
	"  status: Training is not affected: 212 records (40 KiB) wait on disk.\n"
	"  action: wbxctl unpause models\n"
	"     see: man 8 wbxd, PAUSED\n"
	STORE_LINE
	INGEST_LINE
	" account: key …a91f of user wbx-bot at https://api.wandb.ai, last accepted 2 s ago\n"
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     paused           212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0     0\n"
	"weave      stored only    1 044          0     8 s        0        -          0     0\n"
	"\n"
	RUNS_LINE;

static const char text_of_no_daemon[] =
	"○ wbxd is not running on gpu07\n"
	"   state: NOT RUNNING - no daemon answers at /run/wbx/ctl/ctl.sock\n"
	"  status: 1 256 records (3.04 MiB) wait on disk. Training is not affected: what it logs is kept in\n"
	"          journals and spools until a daemon takes it.\n"
	"  action: systemctl start wbxd; systemctl status wbxd says why it ended\n"
	"     see: man 8 wbxd, NOT RUNNING\n"
	STORE_LINE
	"\n"
	"SINK       WAITING      SIZE  OLDEST  LAST OK  DEAD\n"
	"models         212    40 KiB     4 s      2 s     0\n"
	"artifacts        0       0 B       -        -     0\n"
	"weave        1 044     3 MiB     8 s        -     0\n"
	"\n"
	RUNS_LINE;

static const char text_of_notable[] =
	TITLE_LINE
	"   state: HEALTHY\n"
	STORE_LINE
	INGEST_LINE
	" account: key …a91f of user wbx-bot at https://api.wandb.ai, last accepted 2 s ago\n"
	"  spools: 2 processes ended and left 3 MiB to be read in, the oldest 4 min ago\n"
	"\n"
	"SINK       STATE        WAITING  IN FLIGHT  OLDEST   SENT/s  LAST OK  RETRIES/s  DEAD\n"
	"models     ok               212        212     4 s    1 190      2 s          0     0\n"
	"artifacts  stored only        0          0       -        0        -          0     0\n"
	"weave      stored only    1 044          0     8 s        0        -          0     0\n"
	"\n"
	"    runs: 3 live, 1 finishing, 27 done; 1 record rejected, 0 refused since the store was made\n"
	"          8a940daa (grpo-demo) finishing: 11 files wait\n"
	"          r2 (p) 12 rows came late\n"
	"    late: 12 rows came after their step had gone; kept here, not sent (wbxctl late list)\n";
/* clang-format on */

START_TEST(a_healthy_daemon_is_told_in_twelve_lines)
{
	struct facts f = healthy();

	check_screen(&f, 0, text_of_healthy);
}
END_TEST

START_TEST(without_a_key_everything_waits_and_the_action_says_where_to_put_one)
{
	struct facts f = healthy();

	set_state(&f.sinks[0], "no key");
	f.key_tail[0] = '\0';
	f.ingest.bytes_per_s = 480000;
	check_screen(&f, 1, text_of_no_key);
}
END_TEST

START_TEST(a_dead_link_says_since_when_and_how_long_the_disk_lasts)
{
	struct facts f = healthy();

	set_link_down(&f.sinks[0]);
	f.ingest.bytes_per_s = 480000;
	check_screen(&f, 1, text_of_link_down);
}
END_TEST

START_TEST(the_worst_reason_leads_and_the_others_have_a_line_each)
{
	struct facts f = healthy();

	set_link_down(&f.sinks[0]);
	set_state(&f.sinks[1], "link down");
	f.runs.parked = 2;
	f.notable[0] = run("8a940daa", "grpo-demo");
	set(f.notable[0].parked, "the run was deleted (HTTP 404)\x1b[2J");
	f.notable_count = 1;
	check_screen(&f, 1, text_of_many_reasons);
}
END_TEST

START_TEST(a_rate_limit_says_what_was_asked_for)
{
	struct facts f = healthy();

	set_state(&f.sinks[0], "rate limited");
	f.sinks[0].retry_after_ms = 37000;
	f.sinks[0].spacing_ms = 14000;
	f.sinks[0].next_try_ms = 12000;
	f.sinks[0].waiting = 98810;
	check_screen(&f, 1, text_of_rate_limit);
}
END_TEST

START_TEST(a_refused_key_is_named_by_its_tail)
{
	struct facts f = healthy();

	set_state(&f.sinks[0], "key refused");
	f.sinks[0].http = 401;
	f.sinks[0].next_try_ms = 290000;
	set(f.sinks[0].error, "HTTP 401: user is not logged in");
	check_screen(&f, 1, text_of_refused_key);
}
END_TEST

START_TEST(dead_letters_are_grouped_by_reason)
{
	struct facts f = healthy();

	f.store.dead = 17;
	f.store.dead_bytes = 71 << 20;
	f.dead[0] = group(14, 400, "artifacts", "manifest entry path contains '..'");
	f.dead[1] = group(2, 413, "weave", "call of 31 MiB");
	f.dead_count = 2;
	f.sinks[1].dead = 14;
	f.sinks[2].dead = 2;
	check_screen(&f, 1, text_of_dead_letters);
}
END_TEST

START_TEST(a_disk_that_is_nearly_full_counts_what_was_refused)
{
	struct facts f = healthy();

	f.store.space = STORE_TIGHT;
	f.store.disk_free_bytes = 19 * GIB / 10;
	f.store.used_bytes = 461 * GIB / 10;
	f.sinks[0].waiting_bytes = 458 * GIB / 10;
	f.ingest.refused_since_us = NOW - 1 * H;
	f.ingest.refused_traces = 1204;
	f.ingest.refused_per_s = 31;
	f.ingest.refused_ever = 1204;
	check_screen(&f, 2, text_of_tight_disk);
}
END_TEST

START_TEST(a_store_at_its_limit_reads_nothing_more)
{
	struct facts f = healthy();

	f.store.space = STORE_FULL;
	f.store.used_bytes = 50 * GIB;
	check_screen(&f, 2, text_of_full_store);
}
END_TEST

START_TEST(a_fault_of_the_store_is_quoted)
{
	struct facts f = healthy();

	set(f.store.fault, "fsync of wbx.db-wal: Input/output error");
	check_screen(&f, 2, text_of_fault);
}
END_TEST

START_TEST(a_paused_sink_says_until_when)
{
	struct facts f = healthy();

	set_state(&f.sinks[0], "paused");
	f.sinks[0].paused_until_us = (int64_t)(NOW + H / 2);
	check_screen(&f, 1, text_of_pause);
}
END_TEST

START_TEST(without_a_daemon_the_store_tells_what_waits)
{
	struct facts f = healthy();

	f.running = false;
	check_screen(&f, 3, text_of_no_daemon);
}
END_TEST

START_TEST(what_is_notable_but_not_bad_has_a_line)
{
	struct facts f = healthy();

	f.spool_producers = 2;
	f.spool_bytes = 3 << 20;
	f.spool_oldest_us = NOW - 240 * S;
	f.store.late = 12;
	f.notable[0] = run("8a940daa", "grpo-demo");
	f.notable[0].uploads = 11;
	f.notable[1] = run("r2", "p");
	f.notable[1].late = 12;
	f.notable_count = 2;
	f.ingest.rejected_ever = 1;
	check_screen(&f, 0, text_of_notable);
}
END_TEST

/* The first lines, without what stands below the verdict. */
static void check_verdict(const struct facts *f, int exit_code, const char *want)
{
	auto_buf struct buf out = {0};
	const char *got = strchr(screen(f, &out, exit_code), '\n') + 1;

	ck_assert_msg(strncmp(got, want, strlen(want)) == 0, "wanted\n%s\ngot\n%s", want, got);
}

START_TEST(a_server_that_fails_is_named_with_its_status)
{
	struct facts f = healthy();

	set_state(&f.sinks[0], "server error");
	f.sinks[0].http = 503;
	f.sinks[0].state_ms = 180000;
	check_verdict(&f, 1, "   state: BEHIND - api.wandb.ai answers with HTTP 503 for 3 min\n");
}
END_TEST

START_TEST(a_sink_that_answers_may_be_behind)
{
	struct facts f = healthy();

	f.sinks[0].oldest_us = NOW - 2 * H; /* the row of an open step alone: no reason */
	check_verdict(&f, 0, "   state: HEALTHY\n   store:");
	f.sinks[0].waiting = 5000000;
	check_verdict(&f, 1, "   state: BEHIND - sink models is 2 h 00 min behind\n");
}
END_TEST

START_TEST(sinks_that_are_not_sent_or_not_tried_are_healthy)
{
	struct facts f = healthy();

	set_state(&f.sinks[0], "untried");
	f.sinks[2].waiting = 1000000;
	f.sinks[2].oldest_us = NOW - 100 * H;
	f.sinks[2].paused_until_us = -1;
	check_verdict(&f, 0, "   state: HEALTHY\n   store:");
}
END_TEST

START_TEST(a_word_of_a_newer_daemon_is_shown_as_it_is)
{
	auto_buf struct buf out = {0};
	struct facts f = healthy();

	set_state(&f.sinks[0], "asleep\x1b[0m");
	ck_assert_int_eq(f.sinks[0].state, SINK_UNKNOWN);
	ck_assert_ptr_nonnull(strstr(screen(&f, &out, 0), "models     asleep\\x1b[0m"));
}
END_TEST

START_TEST(a_pause_without_an_end_waits_for_somebody)
{
	struct facts f = healthy();

	f.sinks[0].paused_until_us = -1;
	check_verdict(&f, 1,
		      "   state: PAUSED - sink models is paused until somebody unpauses it\n");
	f.sinks[0].paused_until_us = (int64_t)NOW - 1; /* is over */
	check_verdict(&f, 0, "   state: HEALTHY\n   store:");
}
END_TEST

START_TEST(how_a_daemon_is_started_depends_on_whose_it_is)
{
	static const struct {
		enum daemon_kind kind;
		const char *action;
	} cases[] = {
		{DAEMON_SYSTEM, "  action: systemctl start wbxd;"},
		{DAEMON_OWN, "  action: None: the next process that logs starts one.\n"},
		{DAEMON_ELSEWHERE, "  action: wbxd --dir /run/wbx/ctl\n"},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		auto_buf struct buf out = {0};
		struct facts f = healthy();

		f.running = false;
		f.kind = cases[i].kind;
		ck_assert_ptr_nonnull(strstr(screen(&f, &out, 3), cases[i].action));
	}
}
END_TEST

START_TEST(a_store_that_was_asked_alone_blames_no_daemon)
{
	struct facts f = healthy();

	f.running = false;
	f.control[0] = '\0';
	check_verdict(&f, 3,
		      "   state: NOT RUNNING - read from the store alone; no daemon was asked\n"
		      "  status: 1 256 records (3.04 MiB) wait on disk.\n     see:");
}
END_TEST

START_TEST(the_dot_has_a_colour_and_nothing_else_has)
{
	auto_buf struct buf out = {0};
	struct facts f = healthy();
	struct judgement j;

	buf_init(&out, 1 << 20);
	ck_assert_int_eq(judge(&f, &j), 0);
	screen_add(&out, &f, &j, true);
	judgement_done(&j);
	ck_assert_int_eq(strncmp(buf_text(&out), "\x1b[32m●\x1b[0m wbxd ", 18), 0);
	ck_assert_ptr_null(strchr(buf_text(&out) + 18, '\x1b'));
}
END_TEST

static int judge_and_print(const struct facts *f)
{
	auto_buf struct buf out = {0};
	struct judgement j;
	int r = judge(f, &j);

	buf_init(&out, 1 << 20);
	if (r == 0) {
		screen_add(&out, f, &j, false);
		report_add(&out, f, &j);
		r = out.error;
	}
	judgement_done(&j);
	return r;
}

START_TEST(judging_and_printing_survive_every_allocation_failure)
{
	struct facts f = healthy();

	set_link_down(&f.sinks[0]);
	f.store.dead = 1;
	f.dead[0] = group(1, 0, "models", "too odd");
	f.dead_count = 1;
	f.store.late = 1;
	f.spool_producers = 1;
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(judge_and_print(&f), (void)0), 0);
}
END_TEST

/* --- JSON --- */

static json_t *report(const struct facts *f)
{
	auto_buf struct buf out = {0};
	struct judgement j;
	json_t *json;

	buf_init(&out, 1 << 20);
	ck_assert_int_eq(judge(f, &j), 0);
	report_add(&out, f, &j);
	judgement_done(&j);
	ck_assert_int_eq(out.error, 0);
	ck_assert_uint_eq(out.data[out.len - 1], '\n');
	json = json_loadb((const char *)out.data, out.len, 0, NULL);
	ck_assert_ptr_nonnull(json);
	return json;
}

/* Every name of the list, between spaces, is a key of the object. */
static void check_keys(const json_t *object, const char *names)
{
	while (*names != '\0') {
		size_t len = strcspn(names, " ");

		ck_assert_msg(json_object_getn(object, names, len) != NULL, "%.*s is missing",
			      (int)len, names);
		names += len + (names[len] == ' ');
	}
}

START_TEST(the_json_has_the_keys_of_its_schema)
{
	struct facts f = healthy();
	json_t *json = report(&f);

	check_keys(json, "schema time host version pid uptime_s state reasons store ingest account "
			 "sinks runs lost_records_total");
	check_keys(json_object_get(json, "store"),
		   "path bytes wal_bytes limit_bytes disk_free_bytes disk_total_bytes "
		   "reserve_bytes last_commit_status");
	check_keys(json_object_get(json, "ingest"),
		   "clients users records_per_s bytes_per_s records_total refused_total ack_ms");
	check_keys(json_object_get(json, "account"), "base_url user key_tail last_accepted_s");
	check_keys(json_array_get(json_object_get(json, "sinks"), 0),
		   "name state waiting waiting_bytes in_flight dead oldest_s next_try_s tries "
		   "sent_per_s last_ok_s last_error");
	ck_assert_str_eq(json_string_value(json_object_get(json, "state")), "healthy");
	ck_assert_str_eq(json_string_value(json_object_get(json, "time")),
			 "2026-11-22T11:00:00.000Z");
	ck_assert_uint_eq(json_array_size(json_object_get(json, "reasons")), 0);
	json_decref(json);
}
END_TEST

START_TEST(the_json_tells_code_sink_text_and_action_of_every_reason)
{
	struct facts f = healthy();
	const char *code;
	const char *name;
	const char *text;
	const char *action;
	const char *state;
	json_t *json;

	set_link_down(&f.sinks[0]);
	json = report(&f);
	ck_assert_int_eq(json_unpack(json, "{s:[{s:s, s:s, s:s, s:s}], s:[{s:s}]}", "reasons",
				     "code", &code, "sink", &name, "text", &text, "action", &action,
				     "sinks", "state", &state),
			 0);
	ck_assert_str_eq(code, "link_down");
	ck_assert_str_eq(name, "models");
	ck_assert_str_eq(text, "no answer from api.wandb.ai for 2 h 14 min");
	ck_assert_int_eq(strncmp(action, "None, if the link", 17), 0);
	ck_assert_str_eq(state, "link_down");
	json_decref(json);
}
END_TEST

SUITE_MAIN("ctl_judge", a_healthy_daemon_is_told_in_twelve_lines,
	   without_a_key_everything_waits_and_the_action_says_where_to_put_one,
	   a_dead_link_says_since_when_and_how_long_the_disk_lasts,
	   the_worst_reason_leads_and_the_others_have_a_line_each,
	   a_rate_limit_says_what_was_asked_for, a_refused_key_is_named_by_its_tail,
	   dead_letters_are_grouped_by_reason, a_disk_that_is_nearly_full_counts_what_was_refused,
	   a_store_at_its_limit_reads_nothing_more, a_fault_of_the_store_is_quoted,
	   a_paused_sink_says_until_when, without_a_daemon_the_store_tells_what_waits,
	   what_is_notable_but_not_bad_has_a_line, a_server_that_fails_is_named_with_its_status,
	   a_sink_that_answers_may_be_behind, sinks_that_are_not_sent_or_not_tried_are_healthy,
	   a_word_of_a_newer_daemon_is_shown_as_it_is, a_pause_without_an_end_waits_for_somebody,
	   how_a_daemon_is_started_depends_on_whose_it_is,
	   a_store_that_was_asked_alone_blames_no_daemon, the_dot_has_a_colour_and_nothing_else_has,
	   judging_and_printing_survive_every_allocation_failure,
	   the_json_has_the_keys_of_its_schema,
	   the_json_tells_code_sink_text_and_action_of_every_reason)
