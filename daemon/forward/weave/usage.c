/* See usage.h. */
#include "daemon/forward/weave/usage.h"

#include "proto/base/mem.h"
#include "proto/base/utf8.h"
#include "proto/pack.h"

#include <errno.h>
#include <stdio.h>

void usage_done(struct usage *u)
{
	u->entries = mem_free(u->entries);
	u->count = u->cap = 0;
}

static void keep_text(char *to, size_t size, struct span text)
{
	size_t len = text.len < size - 1 ? text.len : size - 1;

	memcpy(to, text.at, len);
	to[len] = '\0';
}

static int add(struct usage *u, const struct usage_entry *more)
{
	for (size_t i = 0; i < u->count; i++) {
		struct usage_entry *e = &u->entries[i];

		if (strcmp(e->model, more->model) != 0 || strcmp(e->field, more->field) != 0)
			continue;
		if (more->value > 0 && e->value > INT64_MAX - more->value)
			e->value = INT64_MAX;
		else
			e->value += more->value;
		return 0;
	}
	if (u->count == USAGE_ENTRIES_MAX)
		return 0;
	if (mem_room(u->entries, u->count, u->cap) < 0)
		return -ENOMEM;
	u->entries[u->count++] = *more;
	return 0;
}

int usage_add(struct usage *u, const struct usage *more)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < more->count; i++)
		r = add(u, &more->entries[i]);
	return r;
}

/* The numbers of one model. The cursor is at a map. */
static int add_model(struct usage *u, struct span model, struct mp *m)
{
	struct mp_value head;
	int r = mp_read(m, &head);

	for (uint32_t i = 0; r == 0 && i < head.count; i++) {
		struct usage_entry e = {.value = 0};
		struct mp_value key;
		struct mp_value value;
		struct span whole;
		struct mp peek;

		r = mp_read(m, &key);
		if (r < 0)
			return r;
		peek = *m;
		if (mp_take(m, &whole) < 0 || mp_read(&peek, &value) < 0)
			return -EBADMSG;
		if (key.type != MP_STR || !mp_is_number(&value))
			continue;
		if (!mp_to_int64(&value, &e.value)) {
			double real = mp_to_double(&value);

			if (!(real >= 0 && real < 9e15))
				continue;
			e.value = (int64_t)real;
		}
		if (e.value < 0)
			continue;
		keep_text(e.model, sizeof(e.model), model);
		keep_text(e.field, sizeof(e.field), key.bytes);
		r = add(u, &e);
	}
	return r;
}

int usage_add_map(struct usage *u, struct mp map)
{
	struct mp_value head;
	int r = mp_read(&map, &head);

	if (r < 0 || head.type != MP_MAP)
		return 0;
	for (uint32_t i = 0; i < head.count; i++) {
		struct mp_value key;
		struct mp_value value;
		struct span whole;
		struct mp peek;

		if (mp_read(&map, &key) < 0 || key.type != MP_STR)
			return 0;
		peek = map;
		if (mp_take(&map, &whole) < 0 || mp_read(&peek, &value) < 0)
			return 0;
		if (value.type != MP_MAP)
			continue;
		peek = mp_of(whole);
		r = add_model(u, key.bytes, &peek);
		if (r == -ENOMEM)
			return r;
	}
	return 0;
}

/* How many entries from i on are of one model that no entry before i has; 0: an earlier one has it. */
static size_t first_of_model(const struct usage *u, size_t i)
{
	size_t count = 0;

	for (size_t k = 0; k < i; k++) {
		if (strcmp(u->entries[k].model, u->entries[i].model) == 0)
			return 0;
	}
	for (size_t k = i; k < u->count; k++)
		count += strcmp(u->entries[k].model, u->entries[i].model) == 0;
	return count;
}

void usage_pack(const struct usage *u, struct buf *out)
{
	size_t models = 0;
	struct pack p;

	for (size_t i = 0; i < u->count; i++)
		models += first_of_model(u, i) > 0;
	pack_init(&p, out);
	pack_map(&p, models);
	for (size_t i = 0; i < u->count; i++) {
		size_t count = first_of_model(u, i);

		if (count == 0)
			continue;
		pack_text(&p, u->entries[i].model);
		pack_map(&p, count);
		for (size_t k = i; k < u->count; k++) {
			if (strcmp(u->entries[k].model, u->entries[i].model) == 0)
				pack_pair_uint(&p, u->entries[k].field,
					       (uint64_t)u->entries[k].value);
		}
	}
}

void usage_to_json(const struct usage *u, struct json *j)
{
	json_open_object(j);
	for (size_t i = 0; i < u->count; i++) {
		if (first_of_model(u, i) == 0)
			continue;
		json_put_key_text(j, u->entries[i].model);
		json_open_object(j);
		for (size_t k = i; k < u->count; k++) {
			if (strcmp(u->entries[k].model, u->entries[i].model) != 0)
				continue;
			json_put_key_text(j, u->entries[k].field);
			json_put_int(j, u->entries[k].value);
		}
		json_close_object(j);
	}
	json_close_object(j);
}
