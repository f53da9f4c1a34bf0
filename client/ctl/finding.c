/* See finding.h. */
#include "client/ctl/finding.h"

#include "client/ctl/format.h"
#include "proto/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	CLOCK_WARN_S = 5,
	SYNC_WARN_US = 100000, /* every commit waits for one */
	LIMIT_TIGHT_PERCENT = 95,
	TEXT_MAX = 200,
};
#define WAL_WARN_BYTES ((uint64_t)1 << 30)

const char *finding_level_name(enum finding_level level)
{
	static const char *const names[] = {"OK", "WARN", "FAIL"};

	return names[level];
}

void finding_say(struct finding *f, enum finding_level level, const char *action,
		 const char *format, ...)
{
	va_list args;

	f->level = level;
	va_start(args, format);
	(void)vsnprintf(f->found, sizeof(f->found), format, args); /* may be cut */
	va_end(args);
	(void)snprintf(f->action, sizeof(f->action), "%s", action);
}

/* A text field, as a C string that may be cut. */
struct text {
	char at[TEXT_MAX];
};

static struct text text_of(struct mp m, const char *key)
{
	struct span s = mp_get_str(m, key);
	struct text t;

	(void)snprintf(t.at, sizeof(t.at), "%.*s", (int)s.len, (const char *)s.at);
	return t;
}

static struct word ms_between(struct mp m, const char *from, const char *to)
{
	int64_t us = mp_get_int(m, to, 0) - (from == NULL ? 0 : mp_get_int(m, from, 0));

	return word_ms(us > 0 ? (double)us / 1000 : 0);
}

/* --- the way --- */

/* How far it got, by the times that are there. */
static const char *net_action(struct mp p)
{
	if (mp_get_int(p, "name_us", 0) == 0)
		return "look at DNS on this machine (resolvectl query, /etc/resolv.conf), "
		       "models.base_url "
		       "and models.proxy";
	if (mp_get_int(p, "connect_us", 0) == 0)
		return "nobody answers at that address: look at the firewall, the route, "
		       "models.base_url "
		       "and models.proxy";
	if (mp_get_int(p, "first_us", 0) == 0)
		return "look at the proxy, the certificates (models.ca_file) and the server's log";
	return "the way breaks now and then; the daemon tries again by itself";
}

void finding_net(struct finding *f, struct mp p)
{
	struct text url = text_of(p, "url");
	struct text failure = text_of(p, "failure");
	uint64_t status = mp_get_uint(p, "status", 0);
	bool has_tls = mp_get_int(p, "tls_us", 0) > 0;

	if (failure.at[0] != '\0') {
		finding_say(f, FINDING_FAIL, net_action(p), "%s: %s (%s) after %s", url.at,
			    failure.at, text_of(p, "error").at,
			    word_ms((double)mp_get_uint(p, "took_ms", 0)).text);
		return;
	}
	if (status == 0 || status >= 500 || (status < 300 && !mp_get_bool(p, "is_wandb", false))) {
		finding_say(f, FINDING_WARN,
			    status >= 500 ? "nothing: the daemon tries again by itself"
					  : "something else than W&B answers there: look at "
					    "models.base_url, models.proxy and captive portals",
			    "%s: HTTP %llu %s", url.at, (unsigned long long)status,
			    text_of(p, "reason").at);
		return;
	}
	finding_say(f, FINDING_OK, "", "%s: name %s, TCP %s, TLS %s, answer %s (HTTP %llu)", url.at,
		    ms_between(p, NULL, "name_us").text,
		    ms_between(p, "name_us", "connect_us").text,
		    has_tls ? ms_between(p, "connect_us", "tls_us").text : "none",
		    ms_between(p, has_tls ? "tls_us" : "connect_us", "first_us").text,
		    (unsigned long long)status);
}

void finding_key(struct finding *f, struct mp p)
{
	struct text key = text_of(p, "key");
	struct text source = text_of(p, "key_source");
	struct text tail = text_of(p, "key_tail");

	if (strcmp(key.at, "none") == 0) {
		finding_say(f, FINDING_WARN, "give it one: wbxctl key set (man 8 wbxd, KEYS)",
			    "there is none%s%s", text_of(p, "key_error").at[0] == '\0' ? "" : ": ",
			    text_of(p, "key_error").at);
	} else if (strcmp(key.at, "refused") == 0) {
		finding_say(f, FINDING_FAIL,
			    "replace it; what waits is sent with the new one: man 8 wbxd, KEYS",
			    "W&B refuses the key that ends with %s, from %s: HTTP %llu %s", tail.at,
			    source.at, (unsigned long long)mp_get_uint(p, "status", 0),
			    text_of(p, "reason").at);
	} else if (strcmp(key.at, "accepted") == 0) {
		finding_say(f, FINDING_OK, "",
			    "W&B takes the key that ends with %s, from %s: user %s", tail.at,
			    source.at, text_of(p, "user").at);
	} else {
		finding_say(f, FINDING_WARN, "wbxctl doctor net",
			    "W&B could not be asked about the key that ends with %s, from %s",
			    tail.at, source.at);
	}
}

void finding_clock(struct finding *f, struct mp p, int64_t now_s, bool is_synced)
{
	static const char ntp[] = "let the clock follow a time server: timedatectl set-ntp true";
	int64_t date_s = mp_get_int(p, "date_s", -1);
	long long off_s = (long long)(now_s - date_s);

	if (date_s < 0)
		finding_say(f, FINDING_WARN, is_synced ? "wbxctl doctor net" : ntp,
			    "%s; it could not be compared with W&B's",
			    is_synced ? "in step with a time server"
				      : "no time server is followed");
	else if (llabs(off_s) > CLOCK_WARN_S)
		finding_say(f, FINDING_WARN, ntp,
			    "%lld s %s W&B's; times of rows and certificates are off by as much",
			    llabs(off_s), off_s > 0 ? "before" : "behind");
	else if (!is_synced)
		finding_say(f, FINDING_WARN, ntp,
			    "within %d s of W&B's, but no time server is followed", CLOCK_WARN_S);
	else
		finding_say(f, FINDING_OK, "", "within %d s of W&B's, in step with a time server",
			    CLOCK_WARN_S);
}

/* --- the disk --- */

static double real_of(struct mp m, const char *key)
{
	struct mp_value v;

	return mp_find(m, key, &v) == 0 && mp_is_number(&v) ? mp_to_double(&v) : 0;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* How long room lasts at the present rate, as words behind a comma. */
static struct text lasts(struct mp d)
{
	uint64_t disk = less(mp_get_uint(d, "free_bytes", 0), mp_get_uint(d, "reserve_bytes", 0));
	uint64_t store = less(mp_get_uint(d, "limit_bytes", 0), mp_get_uint(d, "used_bytes", 0));
	double rate = real_of(d, "bytes_per_s");
	struct text t = {""};

	if (rate >= 1)
		(void)snprintf(
			t.at, sizeof(t.at), ", lasts %s at the present %s/s",
			word_rough((uint64_t)((double)(disk < store ? disk : store) / rate * 1000))
				.text,
			word_size((uint64_t)rate).text); /* fits */
	return t;
}

void finding_disk(struct finding *f, struct mp d)
{
	uint64_t room = mp_get_uint(d, "free_bytes", 0);
	uint64_t reserve = mp_get_uint(d, "reserve_bytes", 0);
	uint64_t limit = mp_get_uint(d, "limit_bytes", 0);
	uint64_t used = mp_get_uint(d, "used_bytes", 0);
	uint64_t sync_us = mp_get_uint(d, "sync_us", 0);
	struct text kind = text_of(d, "filesystem");
	struct text error = text_of(d, "sync_error");
	enum finding_level level = FINDING_OK;
	const char *action = "";

	if (error.at[0] != '\0' || mp_get_bool(d, "is_read_only", false)) {
		finding_say(f, FINDING_FAIL,
			    "look at dmesg and mount; journals and spools of clients take what "
			    "they log",
			    "%s: a file cannot be written: %s", text_of(d, "dir").at,
			    error.at[0] == '\0' ? "read-only" : error.at);
		return;
	}
	if (sync_us > SYNC_WARN_US) {
		level = FINDING_WARN;
		action = "the disk is slow or busy: iostat -x 1; flush() waits for it, log calls "
			 "do not";
	}
	if (strcmp(kind.at, "tmpfs") == 0) {
		level = FINDING_WARN;
		action = "it is gone with the next restart of the machine: set store.dir to a disk";
	}
	if (room < reserve || used >= limit / 100 * LIMIT_TIGHT_PERCENT) {
		level = FINDING_WARN;
		action = "tables, files and traces are refused: make room, raise store.limit, or "
			 "wbxctl store prune --all-delivered";
	}
	if (room < reserve / 2 || used >= limit) {
		level = FINDING_FAIL;
		action = "records are not taken any more: make room, raise store.limit, or "
			 "wbxctl store prune --all-delivered";
	}
	finding_say(f, level, action,
		    "%s: %s, %s free of %s (reserve %s), store %s of %s, a sync takes %s%s",
		    text_of(d, "dir").at, kind.at, word_size(room).text,
		    word_size(mp_get_uint(d, "total_bytes", 0)).text, word_size(reserve).text,
		    word_size(used).text, word_size(limit).text,
		    word_ms((double)sync_us / 1000).text, lasts(d).at);
}

/* --- the store --- */

void finding_store(struct finding *f, struct mp c)
{
	struct text damage = text_of(c, "damage");
	uint64_t sums = mp_get_uint(c, "wrong_sums", 0);
	uint64_t cursors = mp_get_uint(c, "wrong_cursors", 0);
	uint64_t wal = mp_get_uint(c, "wal_bytes", 0);
	struct text part = {""};

	if (!mp_get_bool(c, "is_whole", true) || mp_get_uint(c, "tables_cut", 0) > 0)
		(void)snprintf(part.at, sizeof(part.at), " (of about %s, in the time there was)",
			       word_count(mp_get_uint(c, "all_records", 0)).text); /* fits */
	if (damage.at[0] != '\0') {
		finding_say(
			f, FINDING_FAIL,
			"stop wbxd, move the store away and keep it; the daemon begins a new one",
			"wbx.db is damaged: %s", damage.at);
		return;
	}
	if (sums > 0 || cursors > 0) {
		finding_say(
			f, FINDING_FAIL,
			"stop wbxd, copy the store and report it; counts of what waits are wrong",
			"%s sums and %s cursors do not say what the records do, of %s records%s",
			word_count(sums).text, word_count(cursors).text,
			word_count(mp_get_uint(c, "records", 0)).text, part.at);
		return;
	}
	finding_say(f, wal > WAL_WARN_BYTES ? FINDING_WARN : FINDING_OK,
		    wal > WAL_WARN_BYTES
			    ? "another process keeps wbx.db open and reading: fuser -v wbx.db"
			    : "",
		    "%s records agree with their sums%s; database %s, of that free %s, log %s; %s "
		    "delivered "
		    "could go",
		    word_count(mp_get_uint(c, "records", 0)).text, part.at,
		    word_size(mp_get_uint(c, "database_bytes", 0)).text,
		    word_size(mp_get_uint(c, "free_bytes", 0)).text, word_size(wal).text,
		    word_size(mp_get_uint(c, "prunable_bytes", 0)).text);
}
