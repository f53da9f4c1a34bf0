/* See allow_list.h. */
#include "daemon/flow/allow_list.h"

#include <errno.h>

static bool has(const uint32_t *numbers, size_t count, uint32_t n)
{
	for (size_t i = 0; i < count; i++) {
		if (numbers[i] == n)
			return true;
	}
	return false;
}

static int add(uint32_t numbers[ALLOW_MAX], size_t *count, uint32_t n)
{
	if (has(numbers, *count, n))
		return 0;
	if (*count == ALLOW_MAX)
		return -E2BIG;
	numbers[(*count)++] = n;
	return 0;
}

bool allow_has_uid(const struct allow_list *l, uint32_t uid)
{
	return !l->is_limited || has(l->uids, l->uid_count, uid);
}

bool allow_has_gid(const struct allow_list *l, uint32_t gid)
{
	return !l->is_limited || has(l->gids, l->gid_count, gid);
}

int allow_add_uid(struct allow_list *l, uint32_t uid)
{
	return add(l->uids, &l->uid_count, uid);
}

int allow_add_gid(struct allow_list *l, uint32_t gid)
{
	return add(l->gids, &l->gid_count, gid);
}
