/* Writes JSON into a buf, with the three tokens that W&B takes beyond the standard: NaN, Infinity,
 * -Infinity (research: wire/wandb-models 4.1). Commas and colons come by themselves; the first
 * error stays in the buf. Reading JSON is not ours: jansson does it where it is needed. */
#pragma once

#include "proto/base/buf.h"

enum {
	JSON_DEPTH_MAX = 64
};

/* Embeddable; `out` is borrowed for the life of the writer. */
struct json {
	struct buf *out;
	unsigned depth;
	bool comma; /* the next value needs one */
};

void json_init(struct json *j, struct buf *out);

void json_open_object(struct json *j);
void json_close_object(struct json *j);
void json_open_array(struct json *j);
void json_close_array(struct json *j);

void json_put_key(struct json *j, struct span key);
void json_put_key_text(struct json *j, const char *key);

void json_put_null(struct json *j);
void json_put_bool(struct json *j, bool value);
void json_put_int(struct json *j, int64_t value);
void json_put_uint(struct json *j, uint64_t value);
/* The shortest of %.15g %.16g %.17g that reads back equal; whole numbers without a point, as W&B's
 * own client prints them. */
void json_put_double(struct json *j, double value);
/* Escapes quotes, backslashes and control characters; other text stays as it is. Bytes that are not
 * UTF-8 become U+FFFD each. */
void json_put_string(struct json *j, struct span text);
void json_put_text(struct json *j, const char *text);
/* Text that is already JSON, one value. */
void json_put_raw(struct json *j, struct span json_value);

/* --- JSON that is there already; what it says is jansson's affair --- */

/* Bytes of the string at the start of s, with its quotes; 0: it does not end. */
size_t json_string_len(struct span s);
/* A bare word that is no JSON, and the text that stands for it. */
struct json_word {
	const char *word;
	const char *stands_for;
};
/* Appends the text with such words replaced, those inside of strings not: before a reader that takes
 * standard JSON only. The first word that fits counts. */
void json_replace_words(struct buf *out, struct span text, const struct json_word *words,
			size_t count);

/* Room for the longest double and a NUL. */
enum {
	JSON_DOUBLE_MAX = 32
};
size_t json_format_double(char ret_text[JSON_DOUBLE_MAX], double value);

/* The escaped text without the quotes around it. */
void json_escape(struct buf *out, struct span text);
