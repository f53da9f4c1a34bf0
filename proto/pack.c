/* See pack.h. The packer's own return values are dropped: its only failure is the buf's, which
 * keeps it. */
#include "proto/pack.h"

#include <string.h>

static int on_pack_write(void *data, const char *bytes, size_t len)
{
	return buf_add(data, bytes, len);
}

void pack_init(struct pack *p, struct buf *out)
{
	p->out = out;
	msgpack_packer_init(&p->to, out, on_pack_write);
}

void pack_map(struct pack *p, size_t pairs)
{
	(void)msgpack_pack_map(&p->to, pairs);
}

void pack_array(struct pack *p, size_t values)
{
	(void)msgpack_pack_array(&p->to, values);
}

void pack_nil(struct pack *p)
{
	(void)msgpack_pack_nil(&p->to);
}

void pack_bool(struct pack *p, bool value)
{
	(void)(value ? msgpack_pack_true(&p->to) : msgpack_pack_false(&p->to));
}

void pack_int(struct pack *p, int64_t value)
{
	(void)msgpack_pack_int64(&p->to, value);
}

void pack_uint(struct pack *p, uint64_t value)
{
	(void)msgpack_pack_uint64(&p->to, value);
}

void pack_double(struct pack *p, double value)
{
	(void)msgpack_pack_double(&p->to, value);
}

void pack_str(struct pack *p, struct span text)
{
	(void)msgpack_pack_str(&p->to, text.len);
	(void)buf_add(p->out, text.at, text.len);
}

void pack_text(struct pack *p, const char *text)
{
	if (text == NULL)
		pack_nil(p);
	else
		pack_str(p, span_of_text(text));
}

void pack_bin(struct pack *p, struct span bytes)
{
	(void)msgpack_pack_bin(&p->to, bytes.len);
	(void)buf_add(p->out, bytes.at, bytes.len);
}

void pack_raw(struct pack *p, struct span whole_value)
{
	(void)buf_add(p->out, whole_value.at, whole_value.len);
}

void pack_pair_text(struct pack *p, const char *key, const char *value)
{
	pack_text(p, key);
	pack_text(p, value);
}

void pack_pair_str(struct pack *p, const char *key, struct span value)
{
	pack_text(p, key);
	pack_str(p, value);
}

void pack_pair_uint(struct pack *p, const char *key, uint64_t value)
{
	pack_text(p, key);
	pack_uint(p, value);
}

void pack_pair_int(struct pack *p, const char *key, int64_t value)
{
	pack_text(p, key);
	pack_int(p, value);
}

void pack_pair_double(struct pack *p, const char *key, double value)
{
	pack_text(p, key);
	pack_double(p, value);
}

void pack_pair_bool(struct pack *p, const char *key, bool value)
{
	pack_text(p, key);
	pack_bool(p, value);
}

void pack_pair_bin(struct pack *p, const char *key, struct span value)
{
	pack_text(p, key);
	pack_bin(p, value);
}
