/* See gather.h. */
#include "daemon/forward/models/gather.h"

#include "proto/base/mem.h"

#include <errno.h>

/* FNV-1a. Whoever finds two keys of one hash gets two rows. */
static uint64_t hash_of(struct span s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ s.at[i]) * 0x100000001b3u;
	return h;
}

/* --- keys --- */

static int keys_add(struct row_keys *k, struct row_key key)
{
	int e = mem_room(k->items, k->count, k->cap);

	if (e == 0)
		k->items[k->count++] = key;
	return e;
}

int row_keys_of(struct mp data, const struct metrics *m, struct row_keys *ret)
{
	struct mp_value head;

	if (mp_read(&data, &head) < 0 || head.type != MP_MAP)
		return -EBADMSG;
	for (uint32_t left = head.count; left > 0; left--) {
		struct row_key key = {.value = 0};
		struct mp peek = data;
		struct mp_value name;
		struct span whole;
		struct span value;

		if (mp_read(&peek, &name) < 0 || mp_take(&data, &whole) < 0 ||
		    mp_take(&data, &value) < 0)
			return -EBADMSG;
		key.name = hash_of(name.type == MP_STR ? name.bytes : whole);
		if (name.type == MP_STR && metrics_is_step(m, name.bytes))
			key.value = hash_of(value) | 1;
		if (keys_add(ret, key) < 0)
			return -ENOMEM;
	}
	return 0;
}

void row_keys_done(struct row_keys *k)
{
	(void)mem_free(k->items);
	*k = (struct row_keys){.items = NULL};
}

/* --- the row --- */

void gather_clear(struct gather *g)
{
	g->keys.count = g->calls = 0;
	g->call_us = g->due_us = 0;
}

void gather_done(struct gather *g)
{
	row_keys_done(&g->keys);
	gather_clear(g);
}

static const struct row_key *find_key(const struct row_keys *k, uint64_t name)
{
	for (size_t i = 0; i < k->count; i++) {
		if (k->items[i].name == name)
			return &k->items[i];
	}
	return NULL;
}

bool gather_takes(const struct gather *g, const struct row_keys *keys, int64_t call_us)
{
	uint64_t from = (uint64_t)g->call_us;
	uint64_t to = (uint64_t)call_us; /* a trainer may say any time */
	uint64_t apart_us = call_us > g->call_us ? to - from : from - to;
	bool same_step = false;

	if (g->due_us == INT64_MAX)
		return true;
	if (g->calls >= GATHER_KEYS_MAX || keys->count > GATHER_KEYS_MAX - g->keys.count)
		return false;
	for (size_t i = 0; i < keys->count; i++) {
		const struct row_key *there = find_key(&g->keys, keys->items[i].name);

		if (there == NULL)
			continue;
		if (there->value == 0 || there->value != keys->items[i].value)
			return false;
		same_step = true;
	}
	return same_step || apart_us < (uint64_t)GATHER_US;
}

int gather_add(struct gather *g, const struct gather_call *call, int64_t merge_max_us)
{
	bool is_full = call->keys->count > GATHER_KEYS_MAX - g->keys.count;
	int64_t wait_us = GATHER_US;

	for (size_t i = 0; !is_full && i < call->keys->count; i++) {
		const struct row_key *key = &call->keys->items[i];

		if (find_key(&g->keys, key->name) == NULL && keys_add(&g->keys, *key) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < g->keys.count; i++) {
		if (g->keys.items[i].value != 0)
			wait_us = merge_max_us;
	}
	g->calls = is_full ? GATHER_KEYS_MAX : g->calls + 1;
	g->call_us = call->call_us;
	g->due_us = call->is_open ? INT64_MAX : call->stored_us + wait_us;
	return 0;
}

/* --- state --- */

void gather_pack(const struct gather *g, struct pack *p)
{
	pack_uint(p, g->calls);
	pack_int(p, g->call_us);
	pack_int(p, g->due_us);
	pack_array(p, g->keys.count * 2);
	for (size_t i = 0; i < g->keys.count; i++) {
		pack_uint(p, g->keys.items[i].name);
		pack_uint(p, g->keys.items[i].value);
	}
}

static int read_uint(struct mp *at, uint64_t *ret)
{
	struct mp_value v;

	if (mp_read(at, &v) < 0 || v.type != MP_UINT)
		return -EBADMSG;
	*ret = v.natural;
	return 0;
}

static int read_keys(struct row_keys *ret, struct mp *at)
{
	struct mp_value head;

	if (mp_read(at, &head) < 0 || head.type != MP_ARRAY || head.count % 2 != 0)
		return -EBADMSG;
	for (uint32_t left = head.count; left > 0; left -= 2) {
		struct row_key key;

		if (read_uint(at, &key.name) < 0 || read_uint(at, &key.value) < 0)
			return -EBADMSG;
		if (keys_add(ret, key) < 0)
			return -ENOMEM;
	}
	return ret->count > GATHER_KEYS_MAX ? -EBADMSG : 0;
}

int gather_read(struct gather *ret, struct mp *at)
{
	struct mp_value call;
	struct mp_value due;
	uint64_t calls;

	if (read_uint(at, &calls) < 0 || mp_read(at, &call) < 0 ||
	    !mp_to_int64(&call, &ret->call_us) || mp_read(at, &due) < 0 ||
	    !mp_to_int64(&due, &ret->due_us))
		return -EBADMSG;
	ret->calls = calls;
	return read_keys(&ret->keys, at);
}
