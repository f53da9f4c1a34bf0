/* See record.h. */
#include "proto/record.h"

#include "proto/base/utf8.h"
#include "proto/limits.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum {
	FRAME_DEPTH = 2
}; /* the array and the body map are open around every field */

static const struct mp_limits field_limits = {
	.depth = RECORD_DEPTH_MAX - FRAME_DEPTH,
	.items = RECORD_ITEMS_MAX,
	.keys = RECORD_KEYS_MAX,
	.key_bytes = KEY_MAX,
};

static int __attribute__((format(printf, 3, 4)))
fault(struct record_fault *f, const char *code, const char *format, ...)
{
	va_list args;

	f->code = code;
	va_start(args, format);
	(void)vsnprintf(f->text, sizeof(f->text), format, args); /* a cut text is still a text */
	va_end(args);
	return -EBADMSG;
}

static int fault_of_error(struct record_fault *f, int r, const char *where)
{
	if (r == -E2BIG)
		return fault(f, "too_big",
			     "%s: deeper than %d, more than %d keys, or a key above %d bytes",
			     where, RECORD_DEPTH_MAX, RECORD_KEYS_MAX, KEY_MAX);
	return fault(f, "malformed", "%s: not msgpack, or cut off", where);
}

static unsigned type_bit(const struct mp_value *v)
{
	switch (v->type) {
	case MP_NIL: return FIELD_NIL;
	case MP_BOOL: return FIELD_BOOL;
	case MP_INT: return FIELD_INT;
	case MP_UINT: return FIELD_UINT;
	case MP_FLOAT: return FIELD_FLOAT;
	case MP_STR: return FIELD_STR;
	case MP_BIN: return FIELD_BIN;
	case MP_EXT: return 0;
	case MP_ARRAY: return FIELD_ARRAY;
	case MP_MAP: return FIELD_MAP;
	}
	return 0;
}

static const char *type_words(unsigned types)
{
	switch (types & ~(unsigned)FIELD_NIL) {
	case FIELD_STR: return "a string";
	case FIELD_BIN: return "bytes (bin)";
	case FIELD_UINT: return "a whole number, not negative";
	case FIELD_UINT | FIELD_INT: return "a whole number";
	case FIELD_BOOL: return "true or false";
	case FIELD_MAP: return "a map";
	case FIELD_ARRAY: return "an array";
	default: return "of another type";
	}
}

/* -1 when the kind has no such field. */
static int field_index(const struct kind_info *info, struct span name)
{
	for (int i = 0; i < KIND_FIELDS_MAX && info->fields[i].name != NULL; i++) {
		if (span_is(name, info->fields[i].name))
			return i;
	}
	return -1;
}

static int check_name(const struct kind_info *info, const char *field, struct span text,
		      struct record_fault *f)
{
	if (text.len == 0 || text.len > NAME_MAX_BYTES || !utf8_valid(text))
		return fault(f, "bad_field", "%s: `%s` must be 1 to %d bytes of UTF-8", info->name,
			     field, NAME_MAX_BYTES);
	return 0;
}

static int check_blobs(struct span value, const struct kind_info *info, struct record_fault *f)
{
	struct mp m = mp_of(value);
	struct mp_value v;

	if (mp_read(&m, &v) < 0 || v.count > RECORD_BLOBS_MAX)
		return fault(f, "too_big", "%s: `blobs` names more than %d blobs", info->name,
			     RECORD_BLOBS_MAX);
	for (uint32_t left = v.count; left > 0; left--) {
		if (mp_read(&m, &v) < 0 || v.type != MP_BIN || v.bytes.len != DIGEST_BYTES)
			return fault(f, "bad_field",
				     "%s: `blobs` holds SHA-256 digests, 32 bytes each",
				     info->name);
	}
	return 0;
}

/* Keeps what every reader needs, in passing. */
static int note_field(struct record *r, const char *name, const struct mp_value *v,
		      struct span whole, const struct kind_info *info, struct record_fault *f)
{
	if (span_is(SPAN_LITERAL("run"), name) && v->type == MP_STR) {
		r->run = v->bytes;
		return check_name(info, name, v->bytes, f);
	}
	if (span_is(SPAN_LITERAL("t"), name) && v->type == MP_UINT)
		r->time_us = v->natural;
	if (span_is(SPAN_LITERAL("blobs"), name)) {
		r->blobs = whole;
		return check_blobs(whole, info, f);
	}
	return 0;
}

static int parse_field(struct mp *m, struct record *r, uint32_t *seen, struct record_fault *f)
{
	const struct kind_info *info = kind_info(r->kind);
	struct mp_value key;
	struct mp_value head;
	struct mp peek;
	struct span whole;
	int at;
	int e = mp_read(m, &key);

	if (e < 0)
		return fault_of_error(f, e, info->name);
	if (key.type != MP_STR)
		return fault(f, "malformed", "%s: the body's keys must be strings", info->name);
	if (key.bytes.len > KEY_MAX)
		return fault_of_error(f, -E2BIG, info->name);
	whole.at = m->at;
	peek = *m;
	e = mp_read(&peek, &head);
	if (e == 0)
		e = mp_skip(m, &field_limits);
	if (e < 0)
		return fault_of_error(f, e, info->name);
	whole.len = (size_t)(m->at - whole.at);
	at = field_index(info, key.bytes);
	if (at < 0)
		return 0; /* from a newer client */
	*seen |= 1u << at;
	if ((type_bit(&head) & info->fields[at].types) == 0)
		return fault(f, "bad_field", "%s: `%s` must be %s", info->name,
			     info->fields[at].name, type_words(info->fields[at].types));
	return note_field(r, info->fields[at].name, &head, whole, info, f);
}

static int check_required(const struct record *r, uint32_t seen, struct record_fault *f)
{
	const struct kind_info *info = kind_info(r->kind);

	for (int i = 0; i < KIND_FIELDS_MAX && info->fields[i].name != NULL; i++) {
		if (info->fields[i].required && (seen & 1u << i) == 0)
			return fault(f, "missing_field", "%s: `%s` is missing", info->name,
				     info->fields[i].name);
	}
	return 0;
}

static int parse_body(struct mp *m, struct record *r, struct record_fault *f)
{
	struct mp_value head;
	uint32_t seen = 0;
	int e;

	r->body.at = m->at;
	e = mp_read(m, &head);
	if (e < 0)
		return fault_of_error(f, e, kind_info(r->kind)->name);
	if (head.type != MP_MAP)
		return fault(f, "malformed", "%s: the body must be a map",
			     kind_info(r->kind)->name);
	for (uint32_t i = 0; i < head.count; i++) {
		e = parse_field(m, r, &seen, f);
		if (e < 0)
			return e;
	}
	r->body.len = (size_t)(m->at - r->body.at);
	return check_required(r, seen, f);
}

enum reader {
	DAEMON,
	CLIENT,
	STORE
};

static bool is_for(const struct kind_info *info, enum reader reader)
{
	switch (reader) {
	case DAEMON: return info->to_daemon;
	case CLIENT: return !info->to_daemon && !info->stored;
	case STORE: return info->stored;
	}
	return false;
}

/* Array head, kind and seq; *ret_extra is how many values follow the body. */
static int parse_head(struct mp *m, enum reader reader, struct record *r, uint32_t *ret_extra,
		      struct record_fault *f)
{
	struct mp_value array;
	struct mp_value kind;
	struct mp_value seq;

	if (mp_read(m, &array) < 0 || array.type != MP_ARRAY || array.count < 3 ||
	    mp_read(m, &kind) < 0 || kind.type != MP_STR || mp_read(m, &seq) < 0 ||
	    seq.type != MP_UINT)
		return fault(f, "malformed",
			     "a frame holds [kind (string), seq (not negative), body (map)]");
	r->seq = seq.natural;
	r->kind = kind_by_name(kind.bytes);
	*ret_extra = array.count - 3;
	if (r->kind != KIND_UNKNOWN && is_for(kind_info(r->kind), reader))
		return 0;
	r->kind = KIND_UNKNOWN;
	return fault(f, "unknown_kind", "this %s does not take records of kind \"%.*s\"",
		     reader == CLIENT ? "client" : "daemon",
		     kind.bytes.len > 40 ? 40 : (int)kind.bytes.len, (const char *)kind.bytes.at);
}

static int parse(struct span payload, enum reader reader, struct record *ret,
		 struct record_fault *ret_fault)
{
	struct mp m = mp_of(payload);
	uint32_t extra = 0;
	int r;

	*ret = (struct record){.kind = KIND_UNKNOWN, .payload = payload};
	*ret_fault = (struct record_fault){.code = ""};
	if (payload.len > RECORD_MAX)
		return fault(ret_fault, "too_big",
			     "a record is at most %d bytes; send more as a blob", RECORD_MAX);
	r = parse_head(&m, reader, ret, &extra, ret_fault);
	if (r < 0)
		return r;
	r = parse_body(&m, ret, ret_fault);
	if (r < 0)
		return r;
	for (; extra > 0; extra--) { /* a later version may add values */
		r = mp_skip(&m, &field_limits);
		if (r < 0)
			return fault_of_error(ret_fault, r, kind_info(ret->kind)->name);
	}
	if (mp_left(&m) != 0)
		return fault(ret_fault, "malformed", "%s: bytes after the record",
			     kind_info(ret->kind)->name);
	return 0;
}

int record_parse(struct span payload, struct record *ret, struct record_fault *ret_fault)
{
	return parse(payload, DAEMON, ret, ret_fault);
}

int record_parse_answer(struct span payload, struct record *ret, struct record_fault *ret_fault)
{
	return parse(payload, CLIENT, ret, ret_fault);
}

int record_parse_stored(struct span payload, struct record *ret, struct record_fault *ret_fault)
{
	return parse(payload, STORE, ret, ret_fault);
}

int record_field(const struct record *r, const char *key, struct mp_value *ret)
{
	return mp_find(mp_of(r->body), key, ret);
}

uint32_t record_blob_count(const struct record *r)
{
	struct mp m = mp_of(r->blobs);
	struct mp_value v;

	return r->blobs.at != NULL && mp_read(&m, &v) == 0 ? v.count : 0;
}

bool record_blob(const struct record *r, uint32_t i, struct span *ret)
{
	struct mp m = mp_of(r->blobs);
	struct mp_value v;

	if (i >= record_blob_count(r) || mp_read(&m, &v) < 0)
		return false;
	for (; i > 0; i--)
		(void)mp_read(&m, &v); /* checked by record_parse() */
	if (mp_read(&m, &v) < 0)
		return false;
	*ret = v.bytes;
	return true;
}
