/* Numbers for people: counts in thin groups, sizes, rates, ages. A word is a value, so it may stand
 * in the arguments of a printf: word_count(n).text. Pure, but for word_clock(): the time zone. */
#pragma once

#include <stdint.h>

/* Never longer: a test walks the extremes. */
struct word {
	char text[40];
};

struct word word_count(uint64_t n);          /* 7, 1 284, 9 812 440, 81.2 M */
struct word word_rate(double per_s);         /* 0, 0.4, 410, 1 190 */
struct word word_size(uint64_t bytes);       /* 512 B, 1.24 GiB, 50 GiB */
struct word word_age(uint64_t ms);           /* 4 s, 33 min, 2 h 14 min, 3 d 04 h */
struct word word_age_short(uint64_t ms);     /* for columns: 2 h 14 m */
struct word word_rough(uint64_t ms);         /* for forecasts: 41 s, 33 min, 28 h, 12 d */
struct word word_ms(double ms);              /* 3.1 ms, 12 ms, 1.2 s */
struct word word_percent(double part);       /* 78 %, 0.4 %; part is 0 .. 1 */
struct word word_fixed(double n, int point); /* point digits behind the point */
/* 14:02:11, with the date before it when that is another day than now. Local time. */
struct word word_clock(uint64_t wall_us, uint64_t now_us);
/* 14:02:11.123, local time. */
struct word word_time(uint64_t wall_us);
/* 2026-11-22T10:55:00.123Z */
struct word word_stamp(uint64_t wall_us);

/* "30m", "90", "2h": 0 and *ret_ms; -EINVAL. Units s, m, h, d; without one, seconds. */
int duration_read(const char *text, uint64_t *ret_ms);
/* "4096", "512K", "2M", "1G", powers of 1024: 0 and *ret, or -EINVAL. */
int bytes_read(const char *text, uint64_t *ret);
/* Digits only, at most max: 0 and *ret, or -EINVAL. */
int number_read(const char *text, uint64_t max, uint64_t *ret);
