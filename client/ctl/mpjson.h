/* msgpack to JSON text: what records hold becomes one line for programs. NaN and the infinities
 * become the strings "NaN", "Infinity", "-Infinity", because JSON has no numbers for them; bytes
 * become hex. Pure. */
#pragma once

#include "proto/base/json.h"

/* Writes the one value in `value`. Errors stay in j->out; -EBADMSG: not msgpack, or nested deeper
 * than JSON_DEPTH_MAX allows, and then what was written is not JSON. */
int json_add_mp(struct json *j, struct span value);

void json_pair_text(struct json *j, const char *key, const char *text);
void json_pair_str(struct json *j, const char *key, struct span text);
void json_pair_uint(struct json *j, const char *key, uint64_t n);
void json_pair_int(struct json *j, const char *key, int64_t n);
void json_pair_bool(struct json *j, const char *key, bool value);
/* The finite ones as numbers. */
void json_pair_real(struct json *j, const char *key, double n);
void json_pair_null(struct json *j, const char *key);
/* Milliseconds as seconds; below zero: null. */
void json_pair_seconds(struct json *j, const char *key, int64_t ms);
/* Bytes that are text as text, others as hex under key_hex. */
void json_pair_bytes(struct json *j, const char *key, const char *key_hex, struct span bytes);

/* Appends a finished JSON text as a line, safe for a terminal. */
void json_line(struct buf *out, const struct buf *json);
