/* wbxctl doctor: looks at what the daemon needs, one check after the other, and says what to do. What
 * only the daemon may see it asks of the daemon; without one it looks at what there is. */
#include "client/ctl/call.h"
#include "client/ctl/finding.h"
#include "client/ctl/format.h"
#include "client/ctl/hello.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "client/ctl/reach.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>

enum {
	ASK_TIMEOUT_MS = 120000,
	SHARED_DIR_MODE = 03733,
	CODE_WARN = 1,
	CODE_FAIL = 2,
	HELLO_SLOW_MS = 1000,
};

struct doctor {
	struct call *call;
	bool is_running;  /* a daemon answers */
	struct buf probe; /* its answer about W&B; empty: not asked, or it failed */
	char probe_error[FINDING_TEXT_MAX];
	enum finding_level worst;
};

/* --- asking --- */

static int keep_item(void *arg, struct span body)
{
	struct buf *to = arg;

	buf_clear(to);
	return buf_add(to, body.at, body.len) < 0 ? CODE_ERROR : CODE_OK;
}

/* The answer's map in ret, empty when there is none: why has been said. */
static void ask(struct call *c, enum verb verb, struct buf *ret)
{
	struct control_answer answer;
	struct request q;

	buf_init(ret, CONTROL_REPLY_MAX);
	request_init(&q, verb);
	q.timeout_ms = ASK_TIMEOUT_MS;
	if (call_ask(c, &q, keep_item, ret, &answer) != CODE_OK)
		buf_clear(ret);
	else if (ret->len == 0)
		(void)buf_add(ret, answer.body.at, answer.body.len); /* then it stays empty */
	request_done(&q);
}

static const char *start_action(const struct call *c)
{
	return c->kind == DAEMON_SYSTEM ? "start it: systemctl start wbxd" : "start it: man 8 wbxd";
}

static bool is_running(struct call *c)
{
	struct control *control = NULL;

	if (c->store_only || control_open(&control, c->place.control, c->kind == DAEMON_OWN) < 0)
		return false;
	(void)control_close(control);
	return true;
}

/* True when the daemon has told how it reaches W&B; else f says why not. */
static bool has_probe(struct doctor *d, struct finding *f)
{
	if (d->is_running && d->probe.max == 0)
		ask(d->call, VERB_PROBE, &d->probe);
	if (d->probe.len > 0)
		return true;
	if (d->is_running)
		finding_say(f, FINDING_FAIL, "wbxctl status", "the daemon could not ask W&B");
	else
		finding_say(f, FINDING_WARN, start_action(d->call),
			    "no daemon runs that could ask W&B");
	return false;
}

/* --- checks --- */

/* models.base_url, as the store's reader has it; "": not known. */
static void find_base_url(struct call *c, char ret[512])
{
	struct control_answer answer;
	struct span account;
	struct span url = {.at = NULL};
	struct request q;

	request_init(&q, VERB_STATUS);
	if (call_ask(c, &q, NULL, NULL, &answer) == CODE_OK &&
	    mp_find_span(mp_of(answer.body), "account", &account) == 0)
		url = mp_get_str(mp_of(account), "base_url");
	request_done(&q);
	(void)snprintf(ret, 512, "%.*s", (int)url.len,
		       (const char *)url.at); /* a cut one is none */
}

/* Without a daemon: as far as this process can see, which may have another proxy and other rights. */
static void check_way(const struct doctor *d, struct finding *f)
{
	char url[512];
	struct reach way;

	find_base_url(d->call, url);
	if (reach_host(url, &way) < 0)
		return;
	if (way.error[0] != '\0')
		finding_say(
			f, FINDING_FAIL,
			way.name_failed
				? "look at DNS on this machine, models.base_url and models.proxy"
				: "look at the firewall, the route and models.base_url",
			"no daemon runs; %s: %s", url, way.error);
	else
		finding_say(f, FINDING_WARN, start_action(d->call),
			    "no daemon runs that could ask W&B; %s: name %s, TCP %s", url,
			    word_ms((double)way.name_ms).text,
			    word_ms((double)way.connect_ms).text);
}

static void check_net(struct doctor *d, struct finding *f)
{
	if (has_probe(d, f))
		finding_net(f, mp_of(buf_span(&d->probe)));
	else if (!d->is_running)
		check_way(d, f);
}

static void check_key(struct doctor *d, struct finding *f)
{
	if (has_probe(d, f))
		finding_key(f, mp_of(buf_span(&d->probe)));
}

static void check_clock(struct doctor *d, struct finding *f)
{
	static const uint8_t nothing[] = {0x80}; /* an empty map */
	struct timex state = {.modes = 0};
	bool is_synced = adjtimex(&state) != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
	struct span probe = {.at = nothing, .len = sizeof(nothing)};

	if (has_probe(d, f))
		probe = buf_span(&d->probe);
	finding_clock(f, mp_of(probe), (int64_t)(clock_wall_us() / 1000000), is_synced);
}

static void check_disk(struct doctor *d, struct finding *f)
{
	auto_buf struct buf disk = {0};

	ask(d->call, VERB_DISK, &disk);
	if (disk.len > 0)
		finding_disk(f, mp_of(buf_span(&disk)));
	else
		finding_say(f, FINDING_FAIL, "wbxctl status",
			    "the store's disk could not be looked at");
}

static void check_store(struct doctor *d, struct finding *f)
{
	auto_buf struct buf check = {0};

	ask(d->call, VERB_CHECK, &check);
	if (check.len > 0)
		finding_store(f, mp_of(buf_span(&check)));
	else
		finding_say(
			f, FINDING_WARN,
			"ask root, the daemon's user or a member of group wbx-admin; wbxctl status",
			"the store could not be looked at");
}

/* A directory that every user may put files into and none may list. False: f says what is wrong. */
static bool check_shared_dir(struct finding *f, const char *path, uid_t owner, const struct call *c)
{
	const char *action =
		c->kind == DAEMON_SYSTEM
			? "systemd-tmpfiles --create wbx.conf && systemctl restart wbxd"
			: "the daemon makes it when it starts";
	struct stat st;

	if (stat(path, &st) < 0) {
		finding_say(f, FINDING_FAIL, action,
			    "%s: %s; clients keep in memory what the daemon does "
			    "not take at once",
			    path, strerror(errno));
		return false;
	}
	if ((st.st_mode & 07777) == SHARED_DIR_MODE && st.st_uid == owner)
		return true;
	finding_say(f, FINDING_FAIL, action,
		    "%s has mode %04o and owner %u, not %04o and the daemon's %u", path,
		    (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid, (unsigned)SHARED_DIR_MODE,
		    (unsigned)owner);
	return false;
}

static void check_socket(struct doctor *d, struct finding *f)
{
	const struct place *p = &d->call->place;
	uint64_t took_ms = 0;
	uid_t owner = 0;
	int r = hello_say(p->socket, &took_ms, &owner);

	if (r < 0) {
		finding_say(f, FINDING_FAIL,
			    r == -ENOENT || r == -ECONNREFUSED
				    ? start_action(d->call)
				    : "wbxctl status; journalctl -u wbxd",
			    "%s: %s; what is logged stays in journals and spools", p->socket,
			    r == -EBADMSG ? "what listens there does not speak as wbxd does"
					  : strerror(-r));
		return;
	}
	if (!check_shared_dir(f, p->journal_dir, owner, d->call) ||
	    !check_shared_dir(f, p->spool_dir, owner, d->call))
		return;
	finding_say(f, took_ms > HELLO_SLOW_MS ? FINDING_WARN : FINDING_OK,
		    took_ms > HELLO_SLOW_MS
			    ? "the disk or the processor is busy: wbxctl doctor disk"
			    : "",
		    "%s: welcome after %s; journal and spool directories are as they should be",
		    p->socket, word_ms((double)took_ms).text);
}

static const struct {
	const char *name;
	void (*check)(struct doctor *d, struct finding *f);
} checks[] = {
	{"net", check_net},     {"disk", check_disk},     {"key", check_key},
	{"clock", check_clock}, {"socket", check_socket}, {"store", check_store},
};

/* --- printing --- */

static void print_json(struct call *c, const char *name, const struct finding *f)
{
	auto_buf struct buf line = {0};
	struct json j;

	buf_init(&line, 64 << 10);
	json_init(&j, &line);
	json_open_object(&j);
	json_pair_text(&j, "check", name);
	json_pair_text(&j, "result", finding_level_name(f->level));
	json_pair_text(&j, "found", f->found);
	if (f->level == FINDING_OK)
		json_pair_null(&j, "action");
	else
		json_pair_text(&j, "action", f->action);
	json_close_object(&j);
	json_line(&c->out, &line);
}

static void print(struct call *c, const char *name, const struct finding *f)
{
	if (call_has(c, OPT_JSON)) {
		print_json(c, name, f);
		return;
	}
	(void)buf_printf(&c->out, "%-4s  %s: ", finding_level_name(f->level),
			 name); /* call_print() looks */
	outside_add_text(&c->out, f->found);
	(void)buf_add_byte(&c->out, '\n');
	if (f->level == FINDING_OK)
		return;
	(void)buf_add_text(&c->out, "      ");
	outside_add_text(&c->out, f->action);
	(void)buf_add_byte(&c->out, '\n');
}

int doctor_run(struct call *c)
{
	static const int codes[] = {CODE_OK, CODE_WARN, CODE_FAIL};
	struct doctor d = {.call = c};
	bool is_known = c->word_count == 0;
	int r = CODE_OK;

	for (size_t i = 0; i < array_len(checks); i++)
		is_known |= c->word_count > 0 && strcmp(c->words[0], checks[i].name) == 0;
	if (!is_known)
		return say_usage(c->command, "there is no such check");
	d.is_running = is_running(c);
	for (size_t i = 0; r == CODE_OK && i < array_len(checks); i++) {
		struct finding f = {.level = FINDING_OK};

		if (c->word_count > 0 && strcmp(c->words[0], checks[i].name) != 0)
			continue;
		checks[i].check(&d, &f);
		print(c, checks[i].name, &f);
		r = call_print(c);
		d.worst = f.level > d.worst ? f.level : d.worst;
	}
	buf_done(&d.probe);
	return r == CODE_OK ? codes[d.worst] : r;
}
