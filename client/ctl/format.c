/* See format.h. */
#include "client/ctl/format.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	SECOND_MS = 1000,
	MINUTE_MS = 60 * SECOND_MS,
	HOUR_MS = 60 * MINUTE_MS,
	DAY_MS = 24 * HOUR_MS
};
#define FULL_COUNT_MAX ((uint64_t)10000000) /* from here on three digits say enough */

static struct word __attribute__((format(printf, 1, 2))) word_of(const char *format, ...)
{
	struct word w = {""};
	va_list args;

	va_start(args, format);
	(void)vsnprintf(w.text, sizeof(w.text), format, args); /* a test shows that all fit */
	va_end(args);
	return w;
}

/* Three significant digits, without zeros behind the point: 1.24, 3.6, 50, 412. */
static struct word three_digits(double v)
{
	struct word w = word_of("%.*f", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v);
	size_t len = strlen(w.text);

	if (strchr(w.text, '.') == NULL)
		return w;
	while (w.text[len - 1] == '0')
		w.text[--len] = '\0';
	if (w.text[len - 1] == '.')
		w.text[len - 1] = '\0';
	return w;
}

/* Divides until v prints below 1000; which unit that is. */
static size_t scale(double *v, double by, size_t units)
{
	size_t unit = 0;

	while (*v >= 999.5 && unit + 1 < units) {
		*v /= by;
		unit++;
	}
	return unit;
}

static struct word grouped(uint64_t n)
{
	if (n < 1000)
		return word_of("%u", (unsigned)n);
	if (n < 1000000)
		return word_of("%u %03u", (unsigned)(n / 1000), (unsigned)(n % 1000));
	return word_of("%u %03u %03u", (unsigned)(n / 1000000), (unsigned)(n / 1000 % 1000),
		       (unsigned)(n % 1000));
}

struct word word_count(uint64_t n)
{
	static const char *const units[] = {"M", "G", "T", "P"};
	double v = (double)n / 1e6;
	size_t unit;

	if (n < FULL_COUNT_MAX)
		return grouped(n);
	unit = scale(&v, 1000, 4);
	return word_of("%s %s", three_digits(v).text, units[unit]);
}

struct word word_rate(double per_s)
{
	if (!(per_s > 0)) /* NaN too */
		return word_of("0");
	if (per_s < 9.95)
		return word_of("%.1f", per_s < 0.1 ? 0.1 : per_s); /* something is not 0.0 */
	return word_count(per_s < 1e18 ? (uint64_t)(per_s + 0.5) : UINT64_MAX);
}

struct word word_size(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	size_t unit = scale(&v, 1024, 7);

	return word_of("%s %s", three_digits(v).text, units[unit]);
}

/* Two units, so that an age never reads rounder than it is. */
static struct word age(uint64_t ms, const char *minute)
{
	uint64_t days = ms / DAY_MS;

	if (ms < (uint64_t)2 * MINUTE_MS)
		return word_of("%u s", (unsigned)(ms / SECOND_MS));
	if (ms < HOUR_MS)
		return word_of("%u %s", (unsigned)(ms / MINUTE_MS), minute);
	if (days == 0)
		return word_of("%u h %02u %c%s", (unsigned)(ms / HOUR_MS),
			       (unsigned)(ms % HOUR_MS / MINUTE_MS), minute[0], minute + 1);
	if (days >= 1000)
		return word_of("%s d", word_count(days).text);
	return word_of("%u d %02u h", (unsigned)days, (unsigned)(ms % DAY_MS / HOUR_MS));
}

struct word word_age(uint64_t ms)
{
	return age(ms, "min");
}

struct word word_age_short(uint64_t ms)
{
	return age(ms, ms < HOUR_MS ? "min" : "m");
}

struct word word_rough(uint64_t ms)
{
	if (ms < (uint64_t)2 * MINUTE_MS)
		return word_of("%u s", (unsigned)(ms / SECOND_MS));
	if (ms < (uint64_t)2 * HOUR_MS)
		return word_of("%u min", (unsigned)(ms / MINUTE_MS));
	if (ms < (uint64_t)3 * DAY_MS)
		return word_of("%u h", (unsigned)(ms / HOUR_MS));
	return word_of("%s d", word_count(ms / DAY_MS).text);
}

struct word word_ms(double ms)
{
	if (ms >= 999.5)
		return word_of("%s s", three_digits(ms / 1000).text);
	return word_of("%.*f ms", ms < 9.95 ? 1 : 0, ms);
}

struct word word_percent(double part)
{
	double percent = part * 100;

	return word_of("%.*f %%", percent > 0 && percent < 0.95 ? 1 : 0, percent);
}

struct word word_fixed(double n, int point)
{
	return word_of("%.*f", point, n);
}

static struct tm local_time(uint64_t wall_us)
{
	time_t seconds = (time_t)(wall_us / 1000000);
	struct tm tm = {0};

	(void)localtime_r(&seconds, &tm); /* a year beyond int stays 1900 */
	return tm;
}

struct word word_clock(uint64_t wall_us, uint64_t now_us)
{
	struct tm at = local_time(wall_us);
	struct tm now = local_time(now_us);
	bool today = at.tm_year == now.tm_year && at.tm_yday == now.tm_yday;
	struct word w = {""};

	(void)strftime(w.text, sizeof(w.text), today ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S",
		       &at); /* fits */
	return w;
}

struct word word_time(uint64_t wall_us)
{
	struct tm at = local_time(wall_us);

	return word_of("%02d:%02d:%02d.%03u", at.tm_hour, at.tm_min, at.tm_sec,
		       (unsigned)(wall_us / 1000 % 1000));
}

struct word word_stamp(uint64_t wall_us)
{
	time_t seconds = (time_t)(wall_us / 1000000);
	struct word day = {""};
	struct tm tm = {0};

	(void)gmtime_r(&seconds, &tm);                                        /* as above */
	(void)strftime(day.text, sizeof(day.text), "%Y-%m-%dT%H:%M:%S", &tm); /* fits */
	return word_of("%.30s.%03uZ", day.text, (unsigned)(wall_us / 1000 % 1000));
}

/* --- reading --- */

static int digits_read(const char *text, const char **ret_end, uint64_t *ret)
{
	uint64_t n = 0;

	*ret_end = text;
	for (; **ret_end >= '0' && **ret_end <= '9'; (*ret_end)++) {
		uint64_t digit = (uint64_t)(**ret_end - '0');

		if (n > (UINT64_MAX - digit) / 10)
			return -EINVAL;
		n = n * 10 + digit;
	}
	*ret = n;
	return *ret_end == text ? -EINVAL : 0;
}

int number_read(const char *text, uint64_t max, uint64_t *ret)
{
	const char *end;
	uint64_t n;
	int r = digits_read(text, &end, &n);

	if (r < 0 || *end != '\0' || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

int bytes_read(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	const char *end;
	const char *unit;
	unsigned shift = 0;
	uint64_t n;

	if (digits_read(text, &end, &n) < 0)
		return -EINVAL;
	if (*end != '\0') {
		unit = strchr(units, *end);
		if (unit == NULL || end[1] != '\0')
			return -EINVAL;
		shift = 10 * ((unsigned)(unit - units) + 1);
	}
	if (n > (uint64_t)INT64_MAX >> shift)
		return -EINVAL;
	*ret = n << shift;
	return 0;
}

int duration_read(const char *text, uint64_t *ret_ms)
{
	static const char units[] = "smhd";
	static const uint64_t factors[] = {SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS};
	const char *end;
	const char *unit;
	uint64_t n;

	if (digits_read(text, &end, &n) < 0)
		return -EINVAL;
	unit = *end == '\0' ? units : strchr(units, *end);
	if (unit == NULL || (*end != '\0' && end[1] != '\0') ||
	    n > (uint64_t)1000000 * DAY_MS / factors[unit - units])
		return -EINVAL;
	*ret_ms = n * factors[unit - units];
	return 0;
}
