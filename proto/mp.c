/* See mp.h. The head byte decides everything; multi-byte numbers are big-endian. */
#include "proto/mp.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct mp mp_of(struct span s)
{
	return (struct mp){.at = s.at, .end = s.len == 0 ? s.at : s.at + s.len};
}

static uint64_t big_endian(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

/* How the bytes after a head byte of 0xc0..0xdf are laid out. */
struct mp_form {
	uint8_t type; /* enum mp_type, or FORM_BAD */
	uint8_t size; /* bytes of the number or of the length */
	uint8_t kind; /* below */
};
enum {
	FORM_BAD = 0xff
};
enum {
	FORM_NUMBER,
	FORM_SIGNED,
	FORM_REAL,
	FORM_BYTES,
	FORM_EXT,
	FORM_FIXEXT,
	FORM_COUNT,
	FORM_CONST
};

static const struct mp_form forms[32] = {
	{MP_NIL, 0, FORM_CONST},   {FORM_BAD, 0, 0},          {MP_BOOL, 0, FORM_CONST},
	{MP_BOOL, 1, FORM_CONST},  {MP_BIN, 1, FORM_BYTES},   {MP_BIN, 2, FORM_BYTES},
	{MP_BIN, 4, FORM_BYTES},   {MP_EXT, 1, FORM_EXT},     {MP_EXT, 2, FORM_EXT},
	{MP_EXT, 4, FORM_EXT},     {MP_FLOAT, 4, FORM_REAL},  {MP_FLOAT, 8, FORM_REAL},
	{MP_UINT, 1, FORM_NUMBER}, {MP_UINT, 2, FORM_NUMBER}, {MP_UINT, 4, FORM_NUMBER},
	{MP_UINT, 8, FORM_NUMBER}, {MP_INT, 1, FORM_SIGNED},  {MP_INT, 2, FORM_SIGNED},
	{MP_INT, 4, FORM_SIGNED},  {MP_INT, 8, FORM_SIGNED},  {MP_EXT, 1, FORM_FIXEXT},
	{MP_EXT, 2, FORM_FIXEXT},  {MP_EXT, 4, FORM_FIXEXT},  {MP_EXT, 8, FORM_FIXEXT},
	{MP_EXT, 16, FORM_FIXEXT}, {MP_STR, 1, FORM_BYTES},   {MP_STR, 2, FORM_BYTES},
	{MP_STR, 4, FORM_BYTES},   {MP_ARRAY, 2, FORM_COUNT}, {MP_ARRAY, 4, FORM_COUNT},
	{MP_MAP, 2, FORM_COUNT},   {MP_MAP, 4, FORM_COUNT},
};

static int take_bytes(struct mp *m, const uint8_t *at, uint64_t len, struct mp_value *ret,
		      enum mp_type type)
{
	if (len > (uint64_t)(m->end - at))
		return -ENODATA;
	*ret = (struct mp_value){.type = type, .bytes = {.at = at, .len = (size_t)len}};
	m->at = at + len;
	return 0;
}

static int take_ext(struct mp *m, const uint8_t *at, uint64_t len, struct mp_value *ret)
{
	int8_t ext_type;
	int r;

	if (at == m->end)
		return -ENODATA;
	memcpy(&ext_type, at, 1);
	r = take_bytes(m, at + 1, len, ret, MP_EXT);
	if (r == 0)
		ret->ext_type = ext_type;
	return r;
}

static double real_of(const uint8_t *p, unsigned bytes)
{
	uint64_t bits = big_endian(p, bytes);
	double d;
	float f;
	uint32_t half = (uint32_t)bits;

	if (bytes == 4) {
		memcpy(&f, &half, sizeof(f));
		return (double)f;
	}
	memcpy(&d, &bits, sizeof(d));
	return d;
}

static struct mp_value signed_value(uint64_t raw, unsigned bytes)
{
	unsigned shift = 56 - (bytes - 1) % 8 * 8;    /* bytes is 1 to 8 */
	int64_t v = (int64_t)(raw << shift) >> shift; /* the sign of the narrow number spreads (gcc
							 and clang shift arithmetically) */

	if (v >= 0)
		return (struct mp_value){.type = MP_UINT, .natural = (uint64_t)v};
	return (struct mp_value){.type = MP_INT, .integer = v};
}

static int read_form(struct mp *m, const struct mp_form *f, uint8_t head, struct mp_value *ret)
{
	const uint8_t *at = m->at + 1;
	size_t left = (size_t)(m->end - at);
	uint64_t number;

	switch (f->kind) {
	case FORM_CONST:
		*ret = (struct mp_value){.type = (enum mp_type)f->type, .boolean = head == 0xc3};
		m->at = at;
		return 0;
	case FORM_FIXEXT: return take_ext(m, at, f->size, ret);
	default: break;
	}
	if (f->size > left)
		return -ENODATA;
	number = big_endian(at, f->size);
	switch (f->kind) {
	case FORM_BYTES: return take_bytes(m, at + f->size, number, ret, (enum mp_type)f->type);
	case FORM_EXT: return take_ext(m, at + f->size, number, ret);
	case FORM_REAL:
		*ret = (struct mp_value){.type = MP_FLOAT, .real = real_of(at, f->size)};
		break;
	case FORM_SIGNED: *ret = signed_value(number, f->size); break;
	case FORM_COUNT:
		*ret = (struct mp_value){.type = (enum mp_type)f->type, .count = (uint32_t)number};
		break;
	default: *ret = (struct mp_value){.type = MP_UINT, .natural = number}; break;
	}
	m->at = at + f->size;
	return 0;
}

int mp_read(struct mp *m, struct mp_value *ret)
{
	uint8_t head;

	if (m->at == m->end)
		return -ENODATA;
	head = *m->at;
	if (head <= 0x7f)
		*ret = (struct mp_value){.type = MP_UINT, .natural = head};
	else if (head >= 0xe0)
		*ret = (struct mp_value){.type = MP_INT, .integer = (int64_t)head - 256};
	else if (head <= 0x8f)
		*ret = (struct mp_value){.type = MP_MAP, .count = head & 0x0f};
	else if (head <= 0x9f)
		*ret = (struct mp_value){.type = MP_ARRAY, .count = head & 0x0f};
	else if (head <= 0xbf)
		return take_bytes(m, m->at + 1, head & 0x1f, ret, MP_STR);
	else if (forms[head - 0xc0].type == FORM_BAD)
		return -EBADMSG;
	else
		return read_form(m, &forms[head - 0xc0], head, ret);
	m->at++;
	return 0;
}

/* One open array or map while skipping. */
struct level {
	uint64_t left; /* values still to come, keys included */
	bool is_map;
};

static bool key_too_long(const struct level *open, const struct mp_value *v,
			 const struct mp_limits *l)
{
	bool is_key = open->is_map && open->left % 2 == 0;

	return is_key && (v->type == MP_STR || v->type == MP_BIN || v->type == MP_EXT) &&
	       v->bytes.len > l->key_bytes;
}

static bool holds_values(const struct mp_value *v)
{
	return v->type == MP_ARRAY || v->type == MP_MAP;
}

static struct level level_of(const struct mp_value *v)
{
	bool is_map = v->type == MP_MAP;

	return (struct level){.left = is_map ? (uint64_t)v->count * 2 : v->count, .is_map = is_map};
}

int mp_skip(struct mp *m, const struct mp_limits *limits)
{
	static const struct mp_limits lenient = {MP_DEPTH_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX};
	const struct mp_limits *l = limits != NULL ? limits : &lenient;
	struct level open[MP_DEPTH_MAX + 1] = {{.left = 1}};
	struct mp walk = *m;
	size_t items = 0;
	size_t keys = 0;
	unsigned depth = 0;

	assert(l->depth <= MP_DEPTH_MAX);
	for (;;) {
		struct mp_value v;
		int r;

		while (depth > 0 && open[depth].left == 0)
			depth--;
		if (open[depth].left == 0)
			break;
		r = mp_read(&walk, &v);
		if (r < 0)
			return r;
		if (++items > l->items || key_too_long(&open[depth], &v, l))
			return -E2BIG;
		open[depth].left--;
		if (!holds_values(&v))
			continue;
		if (depth == l->depth)
			return -E2BIG;
		open[++depth] = level_of(&v);
		keys += open[depth].is_map ? v.count : 0;
		if (keys > l->keys)
			return -E2BIG;
	}
	*m = walk;
	return 0;
}

int mp_take(struct mp *m, struct span *ret)
{
	const uint8_t *from = m->at;
	int r = mp_skip(m, NULL);

	if (r < 0)
		return r;
	*ret = (struct span){.at = from, .len = (size_t)(m->at - from)};
	return 0;
}

int mp_find_span(struct mp map, const char *key, struct span *ret)
{
	struct span want = span_of_text(key);
	struct mp_value head;

	if (mp_read(&map, &head) < 0 || head.type != MP_MAP)
		return -EBADMSG;
	for (uint32_t i = 0; i < head.count; i++) {
		struct span name;
		struct span value;
		struct mp_value k;
		struct mp key_at;

		if (mp_take(&map, &name) < 0 || mp_take(&map, &value) < 0)
			return -EBADMSG;
		key_at = mp_of(name);
		if (mp_read(&key_at, &k) == 0 && k.type == MP_STR && span_equal(k.bytes, want)) {
			*ret = value;
			return 0;
		}
	}
	return -ENOENT;
}

int mp_find(struct mp map, const char *key, struct mp_value *ret_value)
{
	struct span value;
	struct mp at;
	int r = mp_find_span(map, key, &value);

	if (r < 0)
		return r;
	at = mp_of(value);
	return mp_read(&at, ret_value);
}

static struct span get_bytes(struct mp map, const char *key, enum mp_type type)
{
	struct mp_value v;

	if (mp_find(map, key, &v) < 0 || v.type != type)
		return (struct span){0};
	return v.bytes;
}

struct span mp_get_str(struct mp map, const char *key)
{
	return get_bytes(map, key, MP_STR);
}

struct span mp_get_bin(struct mp map, const char *key)
{
	return get_bytes(map, key, MP_BIN);
}

uint64_t mp_get_uint(struct mp map, const char *key, uint64_t fallback)
{
	struct mp_value v;

	return mp_find(map, key, &v) == 0 && v.type == MP_UINT ? v.natural : fallback;
}

int64_t mp_get_int(struct mp map, const char *key, int64_t fallback)
{
	struct mp_value v;
	int64_t n;

	return mp_find(map, key, &v) == 0 && mp_to_int64(&v, &n) ? n : fallback;
}

bool mp_get_bool(struct mp map, const char *key, bool fallback)
{
	struct mp_value v;

	return mp_find(map, key, &v) == 0 && v.type == MP_BOOL ? v.boolean : fallback;
}

bool mp_is_number(const struct mp_value *v)
{
	return v->type == MP_INT || v->type == MP_UINT || v->type == MP_FLOAT;
}

double mp_to_double(const struct mp_value *v)
{
	if (v->type == MP_FLOAT)
		return v->real;
	return v->type == MP_INT ? (double)v->integer : (double)v->natural;
}

bool mp_to_int64(const struct mp_value *v, int64_t *ret)
{
	if (v->type == MP_INT) {
		*ret = v->integer;
		return true;
	}
	if (v->type != MP_UINT || v->natural > INT64_MAX)
		return false;
	*ret = (int64_t)v->natural;
	return true;
}
