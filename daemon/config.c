/* See config.h. A key is a row of the table; there is no other place to add one. */
#include "daemon/config.h"

#include "daemon/config_users.h"
#include "daemon/flow/send_rules.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_type {
	TYPE_TEXT,
	TYPE_PATH,     /* absolute; with min 1 there has to be one */
	TYPE_USERS,    /* users and groups, see config_users.h */
	TYPE_LEVEL,    /* of the log */
	TYPE_WHICH,    /* always, last, never */
	TYPE_LOCAL,    /* where to listen: a path, or a port of this machine's loopback */
	TYPE_URL,      /* of a server */
	TYPE_BYTES,    /* 50G, 512M, 4096 */
	TYPE_DURATION, /* 5s, 250ms, 10m, 24h, 7d; kept in ms */
	TYPE_NUMBER,
	TYPE_MODE,   /* octal */
	TYPE_TABLES, /* which are sent (flow/send_rules.h) */
	TYPE_HOURS,  /* of the day */
};

struct option {
	const char *name; /* section.key */
	size_t offset;
	enum option_type type;
	bool at_start_only;
	int64_t min;
	int64_t max;
	const char *fallback;
	const char *below_dir; /* the default below --dir; NULL: the same */
};

#define AT(field) offsetof(struct config, field)
#define DAY_MS    ((int64_t)86400000)

static const struct option options[] = {
	{"daemon.socket", AT(socket), TYPE_PATH, true, 1, 0, "/run/wbx/ingest/wbx.sock",
	 "wbx.sock"},
	{"daemon.control", AT(control), TYPE_PATH, true, 1, 0, "/run/wbx/ctl/ctl.sock", "ctl.sock"},
	{"daemon.journal_dir", AT(journal_dir), TYPE_PATH, true, 1, 0, "/run/wbx/journal",
	 "journal"},
	{"daemon.spool_dir", AT(spool_dir), TYPE_PATH, true, 1, 0, "/var/spool/wbx", "spool"},
	{"daemon.socket_mode", AT(socket_mode), TYPE_MODE, true, 0600, 0777, "0666", "0600"},
	{"daemon.log_level", AT(log_level), TYPE_LEVEL, false, 0, 0, "info", NULL},
	{"daemon.admin_group", AT(admin_group), TYPE_TEXT, true, 0, 0, "wbx-admin", ""},
	{"daemon.allow", AT(allow), TYPE_USERS, true, 0, 0, "", NULL},
	{"daemon.gone_after", AT(gone_after_ms), TYPE_DURATION, true, 0, DAY_MS, "60s", NULL},
	{"daemon.idle_exit", AT(idle_exit_ms), TYPE_DURATION, true, 0, 365 * DAY_MS, "0", NULL},
	{"daemon.metrics", AT(metrics), TYPE_LOCAL, true, 0, 0, "", NULL},
	{"daemon.metrics_file", AT(metrics_file), TYPE_PATH, true, 0, 0, "", NULL},
	{"store.dir", AT(store_dir), TYPE_PATH, true, 1, 0, "/var/lib/wbx", "store"},
	{"store.limit", AT(store_limit), TYPE_BYTES, true, 64 << 20, INT64_MAX, "50G", NULL},
	{"store.reserve", AT(store_reserve), TYPE_BYTES, true, 0, INT64_MAX, "2G", NULL},
	{"store.user_limit", AT(store_user_limit), TYPE_BYTES, true, 0, INT64_MAX, "0", NULL},
	{"store.keep", AT(store_keep), TYPE_BYTES, true, 0, INT64_MAX, "20G", NULL},
	{"store.keep_age", AT(store_keep_age_ms), TYPE_DURATION, true, 0, 3650 * DAY_MS, "7d",
	 NULL},
	{"store.stuck_after", AT(store_stuck_ms), TYPE_DURATION, true, 1000, DAY_MS, "5m", NULL},
	{"models.base_url", AT(base_url), TYPE_URL, false, 0, 0, "https://api.wandb.ai", NULL},
	{"models.key_file", AT(key_file), TYPE_PATH, false, 0, 0, "/etc/wbx/wandb-api-key",
	 "wandb-api-key"},
	{"models.ca_file", AT(ca_file), TYPE_PATH, false, 0, 0, "", NULL},
	{"models.proxy", AT(proxy), TYPE_TEXT, false, 0, 0, "", NULL},
	{"models.interval", AT(interval_ms), TYPE_DURATION, false, 50, 3600000, "5s", NULL},
	{"models.heartbeat", AT(heartbeat_ms), TYPE_DURATION, false, 500, 60000, "30s", NULL},
	{"models.merge_max", AT(merge_max_ms), TYPE_DURATION, false, 0, DAY_MS, "120s", NULL},
	{"models.self_report", AT(self_report_ms), TYPE_DURATION, false, 0, DAY_MS, "60s", NULL},
	{"models.connect_timeout", AT(connect_timeout_ms), TYPE_DURATION, false, 100, 600000, "10s",
	 NULL},
	{"models.stall_timeout", AT(stall_timeout_ms), TYPE_DURATION, false, 100, 3600000, "60s",
	 NULL},
	{"models.backoff_max", AT(backoff_max_ms), TYPE_DURATION, false, 100, 3600000, "60s", NULL},
	{"models.requests_per_s", AT(requests_per_s), TYPE_NUMBER, false, 0, 100000, "20", NULL},
	{"models.bytes_per_s", AT(bytes_per_s), TYPE_BYTES, false, 0, INT64_MAX, "0", NULL},
	{"models.body_max", AT(body_max), TYPE_BYTES, false, 1 << 16, 10 << 20, "10M", NULL},
	{"tables.send", AT(tables_send), TYPE_TABLES, false, 0, 0, "auto", NULL},
	{"artifacts.hours", AT(artifacts_hours), TYPE_HOURS, false, 0, 0, "", NULL},
	{"artifacts.bytes_per_s", AT(artifacts_bytes_per_s), TYPE_BYTES, false, 0, INT64_MAX, "0",
	 NULL},
	{"weave.base_url", AT(weave_url), TYPE_URL, false, 0, 0, "", NULL},
	{"tables.artifact", AT(tables_artifact), TYPE_WHICH, false, 0, 0, "always", NULL},
};
enum {
	OPTIONS = sizeof(options) / sizeof(options[0])
};

static int say(char *ret_error, const char *name, const char *what)
{
	(void)snprintf(ret_error, CONFIG_ERROR_MAX, "%s: %s", name, what); /* short texts */
	return -EINVAL;
}

/* --- values --- */

static int take_number(const char *text, int base, char **ret_end, int64_t *ret)
{
	errno = 0;
	*ret = strtoll(text, ret_end, base);
	return *ret_end == text || errno != 0 || *ret < 0 ? -EINVAL : 0;
}

static int times(int64_t *value, int64_t factor)
{
	if (*value > INT64_MAX / factor)
		return -EINVAL;
	*value *= factor;
	return 0;
}

static int take_unit(const char *unit, const char *const names[], const int64_t factors[],
		     size_t count, int64_t *value)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(unit, names[i]) == 0)
			return times(value, factors[i]);
	}
	return -EINVAL;
}

static int take_bytes(const char *text, int64_t *ret)
{
	static const char *const names[] = {"", "K", "M", "G", "T"};
	static const int64_t factors[] = {1, 1 << 10, 1 << 20, 1 << 30, (int64_t)1 << 40};
	char *end;
	int r = take_number(text, 10, &end, ret);

	return r < 0 ? r : take_unit(end, names, factors, 5, ret);
}

static int take_duration(const char *text, int64_t *ret)
{
	static const char *const names[] = {"ms", "s", "m", "h", "d"};
	static const int64_t factors[] = {1, 1000, 60000, 3600000, DAY_MS};
	char *end;
	int r = take_number(text, 10, &end, ret);

	if (r < 0 || (*ret == 0 && *end == '\0'))
		return r;
	return take_unit(end, names, factors, 5, ret);
}

static const char *expected(enum option_type type)
{
	switch (type) {
	case TYPE_TEXT: return "a text of at most 1023 bytes";
	case TYPE_PATH: return "an absolute path";
	case TYPE_USERS: return "users and @groups between commas";
	case TYPE_LEVEL: return "debug, info, warn or error";
	case TYPE_WHICH: return "always, last or never";
	case TYPE_LOCAL: return "127.0.0.1:PORT, [::1]:PORT or an absolute path";
	case TYPE_URL: return "https://... (or http://... for a server on this machine)";
	case TYPE_BYTES: return "bytes, such as 512M or 50G";
	case TYPE_DURATION: return "a duration, such as 250ms, 5s, 10m, 24h or 7d";
	case TYPE_NUMBER: return "a whole number";
	case TYPE_MODE: return "an octal mode, such as 0666";
	case TYPE_TABLES: return "auto, all, every N, sample R (0 to 1) or none";
	case TYPE_HOURS: return "hours, such as 22:00-06:00, or empty";
	}
	return "";
}

static bool is_text(enum option_type type)
{
	return type == TYPE_TEXT || type == TYPE_USERS || type == TYPE_PATH || type == TYPE_LEVEL ||
	       type == TYPE_WHICH || type == TYPE_LOCAL || type == TYPE_URL ||
	       type == TYPE_TABLES || type == TYPE_HOURS;
}

static bool is_which(const char *value)
{
	return strcmp(value, "always") == 0 || strcmp(value, "last") == 0 ||
	       strcmp(value, "never") == 0;
}

static bool is_level(const char *value)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"};

	for (size_t i = 0; i < 4; i++) {
		if (strcmp(value, levels[i]) == 0)
			return true;
	}
	return false;
}

static bool is_rule(enum option_type type, const char *value)
{
	struct send_tables_rule tables;
	struct send_hours hours;

	if (type == TYPE_TABLES)
		return send_tables_parse(value, &tables) == 0;
	return send_hours_parse(value, &hours) == 0;
}

static bool is_local(const char *value)
{
	size_t host = strncmp(value, "127.0.0.1:", 10) == 0 ? 10
		      : strncmp(value, "[::1]:", 6) == 0    ? 6
							    : 0;
	size_t digits = strspn(value + host, "0123456789");

	if (value[0] == '/' || value[0] == '\0')
		return true;
	return host > 0 && digits > 0 && digits <= 5 && value[host + digits] == '\0' &&
	       strtol(value + host, NULL, 10) <= UINT16_MAX;
}

/* NULL, or what is wrong with it. The value is not repeated: somebody may have put a secret there.
 */
static const char *text_fault(const struct option *o, const char *value)
{
	static char what[96]; /* main thread only, and the next */
	static struct allow_list allow;
	const char *why = NULL;
	bool fits = strlen(value) < CONFIG_TEXT_MAX;

	if (o->type == TYPE_URL && strchr(value, '@') != NULL)
		return "must not hold a user or a key; that is what models.key_file is for";
	if (o->type == TYPE_USERS && config_read_allow(&allow, value, &why) < 0)
		return why;
	if (o->type == TYPE_PATH)
		fits = fits && (value[0] == '/' || (value[0] == '\0' && o->min == 0));
	else if (o->type == TYPE_LEVEL)
		fits = is_level(value);
	else if (o->type == TYPE_WHICH)
		fits = is_which(value);
	else if (o->type == TYPE_TABLES || o->type == TYPE_HOURS)
		fits = fits && is_rule(o->type, value);
	else if (o->type == TYPE_LOCAL)
		fits = fits && is_local(value);
	else if (o->type == TYPE_URL)
		fits = fits &&
		       (strncmp(value, "https://", 8) == 0 || strncmp(value, "http://", 7) == 0 ||
			(value[0] == '\0' && o->fallback[0] == '\0'));
	if (fits)
		return NULL;
	(void)snprintf(what, sizeof(what), "must be %s", expected(o->type)); /* fits */
	return what;
}

static int take_text(const struct option *o, char *field, const char *value, char *ret_error)
{
	const char *fault = text_fault(o, value);

	if (fault != NULL)
		return say(ret_error, o->name, fault);
	(void)snprintf(field, CONFIG_TEXT_MAX, "%s", value); /* fits */
	return 0;
}

static int take_value(struct config *c, const struct option *o, const char *value, char *ret_error)
{
	char *field = (char *)c + o->offset;
	char what[160];
	int64_t number = 0;
	char *end = NULL;
	int r = 0;

	switch (o->type) {
	case TYPE_TEXT:
	case TYPE_PATH:
	case TYPE_USERS:
	case TYPE_LEVEL:
	case TYPE_WHICH:
	case TYPE_LOCAL:
	case TYPE_TABLES:
	case TYPE_HOURS:
	case TYPE_URL: return take_text(o, field, value, ret_error);
	case TYPE_BYTES: r = take_bytes(value, &number); break;
	case TYPE_DURATION: r = take_duration(value, &number); break;
	case TYPE_NUMBER:
	case TYPE_MODE:
		r = take_number(value, o->type == TYPE_MODE ? 8 : 10, &end, &number);
		if (r == 0 && *end != '\0')
			r = -EINVAL;
		break;
	}
	if (r < 0) {
		(void)snprintf(what, sizeof(what), "\"%.60s\" is not %s", value, expected(o->type));
		return say(ret_error, o->name, what);
	}
	if (number < o->min || number > o->max) {
		(void)snprintf(what, sizeof(what),
			       "\"%.60s\" is outside what is allowed (wbxd.conf(5) says what)",
			       value);
		return say(ret_error, o->name, what);
	}
	memcpy(field, &number, sizeof(number));
	return 0;
}

static const struct option *find_option(const char *name)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

/* [users] has a key for each user. */
static const char *user_of(const char *name)
{
	return strncmp(name, "users.", 6) == 0 ? name + 6 : NULL;
}

static int take_user(struct config *c, const char *name, const char *patterns, char *ret_error)
{
	const char *why = "";
	int r = config_add_user(&c->users, user_of(name), patterns, &why);

	return r < 0 ? say(ret_error, name, why) : 0;
}

/* [sampling] has a key for each pattern. */
static const char *pattern_of(const char *name)
{
	return strncmp(name, "sampling.", 9) == 0 ? name + 9 : NULL;
}

static int take_sampling(struct config *c, const char *name, const char *words, char *ret_error)
{
	const char *why = "";
	int r = sample_rules_add(&c->sampling, pattern_of(name), words, &why);

	return r < 0 ? say(ret_error, name, why) : 0;
}

static bool is_setting(const char *name)
{
	return user_of(name) != NULL || pattern_of(name) != NULL || find_option(name) != NULL;
}

static int take_setting(struct config *c, const char *name, const char *value, char *ret_error)
{
	const struct option *o = find_option(name);

	if (user_of(name) != NULL)
		return take_user(c, name, value, ret_error);
	if (pattern_of(name) != NULL)
		return take_sampling(c, name, value, ret_error);
	return o == NULL ? say(ret_error, name, "is no setting of wbxd")
			 : take_value(c, o, value, ret_error);
}

/* --- sources --- */

void config_defaults(struct config *ret, const char *dir)
{
	char error[CONFIG_ERROR_MAX];

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *o = &options[i];
		char path[CONFIG_TEXT_MAX];

		(void)take_value(
			ret, o, o->fallback,
			error); /* the table's own values are right: a test reads them all */
		if (dir == NULL || o->below_dir == NULL)
			continue;
		if (o->type == TYPE_PATH)
			(void)snprintf(path, sizeof(path), "%s/%s", dir,
				       o->below_dir); /* too long: does not open, and says so */
		else
			(void)snprintf(path, sizeof(path), "%s", o->below_dir);
		(void)take_value(ret, o, path, error);
	}
}

struct file_read {
	struct config *config;
	FILE *file;
	const char *path;
	char *error;
	int line;     /* being read */
	int bad_line; /* of the first mistake */
};

static void note_fault(struct file_read *f, const char *why)
{
	if (f->bad_line != 0)
		return; /* the first one is told */
	f->bad_line = f->line;
	(void)snprintf(f->error, CONFIG_ERROR_MAX, "%.200s:%d: %s", f->path, f->line, why);
}

/* One line for inih, which counts lines, but tells its handler only when built so (Debian's is
 * not), takes the rest of a line that is too long for another line, and an indented line for more
 * of the value above it. */
static char *on_ini_read(char *ret_line, int size, void *stream)
{
	struct file_read *f = stream;
	int len = 0;
	int seen = 0;
	bool is_cut = false;
	int c;

	f->line++;
	while ((c = fgetc(f->file)) != EOF && c != '\n') {
		seen++;
		if (len == 0 && (c == ' ' || c == '\t'))
			continue;
		if (len < size - 1)
			ret_line[len++] = (char)c;
		else
			is_cut = true;
	}
	ret_line[len] = '\0';
	if (is_cut) {
		char why[64];

		(void)snprintf(why, sizeof(why), "the line is longer than %d bytes", size - 1);
		note_fault(f, why);
	}
	return c == EOF && seen == 0 ? NULL : ret_line;
}

static int on_ini_pair(void *user, const char *section, const char *key, const char *value)
{
	struct file_read *f = user;
	char name[128];
	char why[CONFIG_ERROR_MAX];

	(void)snprintf(name, sizeof(name), "%s.%s", section, key); /* a cut name is unknown too */
	if (section[0] == '\0')
		(void)say(why, name, "stands before the first [section]");
	else if (take_setting(f->config, name, value, why) == 0)
		return 1;
	note_fault(f, why);
	return 0;
}

int config_read_file(struct config *c, const char *path, char ret_error[CONFIG_ERROR_MAX])
{
	struct file_read f = {.config = c, .path = path, .error = ret_error};
	bool failed;
	int line;

	f.file = fopen(path, "re");
	if (f.file == NULL) {
		int r = -errno;

		(void)snprintf(ret_error, CONFIG_ERROR_MAX, "%s: %s", path, strerror(errno));
		return r;
	}
	line = ini_parse_stream(on_ini_read, &f, on_ini_pair, &f); /* the first bad one, or 0 */
	failed = ferror(f.file) != 0;
	(void)fclose(f.file); /* read only */
	if (failed) {
		(void)snprintf(ret_error, CONFIG_ERROR_MAX, "%s: cannot be read", path);
		return -EIO;
	}
	if (line != 0 && (f.bad_line == 0 || line < f.bad_line)) {
		(void)snprintf(ret_error, CONFIG_ERROR_MAX,
			       "%s:%d: neither [section] nor key = value", path, line);
		return -EINVAL;
	}
	return f.bad_line != 0 ? -EINVAL : 0;
}

/* "store.keep_age" is WBXD_STORE_KEEP_AGE */
static void environment_name(const char *name, char ret[128])
{
	size_t len = (size_t)snprintf(ret, 128, "WBXD_%s", name); /* our names are short */

	for (size_t i = 0; i < len; i++)
		ret[i] = (char)(ret[i] == '.' ? '_' : toupper((unsigned char)ret[i]));
}

int config_read_environment(struct config *c, char ret_error[CONFIG_ERROR_MAX])
{
	for (size_t i = 0; i < OPTIONS; i++) {
		char variable[128];
		const char *value;
		char why[CONFIG_ERROR_MAX];

		environment_name(options[i].name, variable);
		value = getenv(variable);
		if (value == NULL)
			continue;
		if (take_value(c, &options[i], value, why) < 0) {
			(void)snprintf(ret_error, CONFIG_ERROR_MAX, "environment %s: %.300s",
				       variable, why);
			return -EINVAL;
		}
	}
	return 0;
}

int config_set(struct config *c, const char *assignment, char ret_error[CONFIG_ERROR_MAX])
{
	size_t len = strcspn(assignment, "=");
	char name[128];
	char why[CONFIG_ERROR_MAX];

	(void)snprintf(name, sizeof(name), "%.*s", (int)len,
		       assignment); /* a cut name is unknown too */
	if (assignment[len] == '\0' && is_setting(name))
		(void)say(why, name, "needs a value: --section.key=value");
	else if (take_setting(c, name, assignment + len + 1, why) == 0)
		return 0;
	(void)snprintf(ret_error, CONFIG_ERROR_MAX, "command line: %.400s", why);
	return -EINVAL;
}

const char *config_start_change(const struct config *fresh, const struct config *used)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *o = &options[i];
		const char *old = (const char *)used + o->offset;
		const char *new = (const char *)fresh + o->offset;
		bool same = is_text(o->type) ? strcmp(old, new) == 0
					     : memcmp(old, new, sizeof(int64_t)) == 0;

		if (o->at_start_only && !same)
			return o->name;
	}
	return NULL;
}
