/* See map.h. Heads are written in their 32-bit forms, so that counts can be put in when they are
 * known. */
#include "client/lib/map.h"

#include "proto/base/mem.h"
#include "proto/mp.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

enum {
	MAP32 = 0xdf,
	ARRAY32 = 0xdd
};

static void write_head(uint8_t *at, bool is_list, uint32_t count)
{
	at[0] = is_list ? ARRAY32 : MAP32;
	at[1] = (uint8_t)(count >> 24);
	at[2] = (uint8_t)(count >> 16);
	at[3] = (uint8_t)(count >> 8);
	at[4] = (uint8_t)count;
}

static struct wbx_map *map_new(bool is_list)
{
	struct wbx_map *m = mem_zalloc(sizeof(*m));

	if (m == NULL)
		return NULL;
	buf_init(&m->bytes, MAP_BYTES_MAX);
	pack_init(&m->p, &m->bytes);
	m->levels[0].is_list = is_list;
	return m;
}

struct wbx_map *wbx_map_new(void)
{
	return map_new(false);
}

struct wbx_map *wbx_list_new(void)
{
	return map_new(true);
}

static void drop_tables(struct wbx_map *m)
{
	for (size_t i = 0; i < m->table_count; i++)
		buf_done(&m->tables[i].bytes);
	m->tables = mem_free(m->tables);
	m->table_count = 0;
}

void wbx_map_free(struct wbx_map *m)
{
	if (m == NULL)
		return;
	drop_tables(m);
	buf_done(&m->bytes);
	(void)mem_free(m);
}

void wbx_map_clear(struct wbx_map *m)
{
	drop_tables(m);
	buf_clear(&m->bytes);
	m->levels[0].count = 0;
	m->depth = 0;
	m->error = 0;
}

void map_head(const struct wbx_map *m, uint8_t ret[MAP_HEAD_BYTES])
{
	write_head(ret, m->levels[0].is_list, m->levels[0].count);
}

int map_check(const struct wbx_map *m)
{
	if (m->error != 0)
		return m->error;
	if (m->bytes.error != 0)
		return m->bytes.error;
	return m->depth == 0 ? 0 : -EINVAL;
}

static int fail(struct wbx_map *m, int error)
{
	if (m->error == 0)
		m->error = error;
	return m->error;
}

/* Room in the open level, and its key. */
static int before_value(struct wbx_map *m, const char *key)
{
	struct map_level *level = &m->levels[m->depth];
	size_t len;

	if (m->error != 0 || m->bytes.error != 0)
		return fail(m, m->bytes.error);
	if (level->is_list != (key == NULL) || level->count == UINT32_MAX)
		return fail(m, -EINVAL);
	level->count++;
	if (key == NULL)
		return 0;
	len = strlen(key);
	if (len > KEY_MAX)
		return fail(m, -EMSGSIZE);
	pack_str(&m->p, (struct span){.at = (const uint8_t *)key, .len = len});
	return 0;
}

static int after_value(struct wbx_map *m)
{
	return m->bytes.error != 0 ? fail(m, m->bytes.error) : 0;
}

int wbx_put_double(struct wbx_map *m, const char *key, double value)
{
	int r = before_value(m, key);

	if (r < 0)
		return r;
	pack_double(&m->p, value);
	return after_value(m);
}

int wbx_put_int(struct wbx_map *m, const char *key, int64_t value)
{
	int r = before_value(m, key);

	if (r < 0)
		return r;
	pack_int(&m->p, value);
	return after_value(m);
}

int wbx_put_bool(struct wbx_map *m, const char *key, bool value)
{
	int r = before_value(m, key);

	if (r < 0)
		return r;
	pack_bool(&m->p, value);
	return after_value(m);
}

int wbx_put_null(struct wbx_map *m, const char *key)
{
	int r = before_value(m, key);

	if (r < 0)
		return r;
	pack_nil(&m->p);
	return after_value(m);
}

int wbx_put_bytes_as_text(struct wbx_map *m, const char *key, const void *text, size_t len)
{
	int r = before_value(m, key);

	if (r < 0)
		return r;
	if (len > UINT32_MAX)
		return fail(m, -EMSGSIZE);
	pack_str(&m->p, (struct span){.at = text, .len = len});
	return after_value(m);
}

int wbx_put_text(struct wbx_map *m, const char *key, const char *value)
{
	return value == NULL ? wbx_put_null(m, key)
			     : wbx_put_bytes_as_text(m, key, value, strlen(value));
}

int wbx_put_msgpack(struct wbx_map *m, const char *key, const void *bytes, size_t len)
{
	static const struct mp_limits limits = {.depth = RECORD_DEPTH_MAX - 3,
						.items = SIZE_MAX,
						.keys = SIZE_MAX,
						.key_bytes = KEY_MAX};
	struct mp check = mp_of((struct span){.at = bytes, .len = len});
	int r = mp_skip(&check, &limits);

	if (r < 0 || mp_left(&check) != 0)
		return fail(m, r == -E2BIG ? -EMSGSIZE : -EINVAL);
	r = before_value(m, key);
	if (r < 0)
		return r;
	pack_raw(&m->p, (struct span){.at = bytes, .len = len});
	return after_value(m);
}

static int begin(struct wbx_map *m, const char *key, bool is_list)
{
	static const uint8_t room[MAP_HEAD_BYTES] = {0};
	int r = before_value(m, key);

	if (r < 0)
		return r;
	if (m->depth + 1 == MAP_DEPTH_MAX)
		return fail(m, -EMSGSIZE);
	m->levels[++m->depth] = (struct map_level){.head_at = m->bytes.len, .is_list = is_list};
	(void)buf_add(&m->bytes, room, sizeof(room)); /* after_value() looks */
	return after_value(m);
}

int wbx_begin_map(struct wbx_map *m, const char *key)
{
	return begin(m, key, false);
}

int wbx_begin_list(struct wbx_map *m, const char *key)
{
	return begin(m, key, true);
}

int wbx_end(struct wbx_map *m)
{
	const struct map_level *level = &m->levels[m->depth];

	if (m->error != 0)
		return m->error;
	if (m->depth == 0)
		return fail(m, -EINVAL);
	write_head(m->bytes.data + level->head_at, level->is_list, level->count);
	m->depth--;
	return 0;
}

/* --- blobs --- */

static const struct map_table *find_blob(const struct wbx_map *m,
					 const uint8_t digest[DIGEST_BYTES])
{
	for (size_t i = 0; i < m->table_count; i++) {
		if (memcmp(m->tables[i].digest, digest, DIGEST_BYTES) == 0)
			return &m->tables[i];
	}
	return NULL;
}

int map_add_blob(struct wbx_map *m, struct buf *bytes, const uint8_t *digest,
		 uint8_t ret_digest[DIGEST_BYTES])
{
	struct map_table *t;

	if (bytes->error != 0)
		return bytes->error;
	if (digest != NULL)
		memcpy(ret_digest, digest, DIGEST_BYTES);
	else if (EVP_Digest(bytes->data, bytes->len, ret_digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	if (find_blob(m, ret_digest) != NULL) {
		buf_done(bytes);
		return 0;
	}
	if (m->table_count == RECORD_BLOBS_MAX)
		return -E2BIG;
	if (m->tables == NULL)
		m->tables = mem_alloc(RECORD_BLOBS_MAX * sizeof(*m->tables));
	if (m->tables == NULL)
		return -ENOMEM;
	t = &m->tables[m->table_count++];
	memcpy(t->digest, ret_digest, DIGEST_BYTES);
	t->bytes = *bytes;
	buf_init(bytes, bytes->max);
	return 0;
}

int map_fail(struct wbx_map *m, int error)
{
	return fail(m, error);
}

int map_put_digest(struct wbx_map *m, const char *key, const uint8_t digest[DIGEST_BYTES])
{
	int r = before_value(m, key);

	if (r < 0)
		return r;
	pack_bin(&m->p, (struct span){.at = digest, .len = DIGEST_BYTES});
	return after_value(m);
}

int map_put_apart(struct wbx_map *m, struct wbx_map *value, const char *type, struct buf *bytes,
		  struct span head)
{
	int64_t len = (int64_t)bytes->len;
	uint8_t digest[DIGEST_BYTES];
	int r = map_add_blob(m, bytes, NULL, digest);

	if (r < 0)
		return fail(m, r);
	(void)wbx_begin_map(value, NULL); /* the last one tells of any failure */
	(void)wbx_put_text(value, "_type", type);
	(void)wbx_put_int(value, "size", len);
	if (head.at != NULL)
		(void)wbx_put_bytes_as_text(value, "head", head.at, head.len);
	r = map_put_digest(value, "blob", digest);
	return r == 0 ? wbx_end(value) : fail(m, r);
}
