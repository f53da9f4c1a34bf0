/* Which users of the machine may hand over records: daemon.allow. Names were looked up when settings
 * were read; here are numbers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ALLOW_MAX = 1024
};

struct allow_list {
	bool is_limited; /* false: everybody may */
	uint32_t uids[ALLOW_MAX];
	size_t uid_count;
	uint32_t gids[ALLOW_MAX];
	size_t gid_count;
};

bool allow_has_uid(const struct allow_list *l, uint32_t uid);
bool allow_has_gid(const struct allow_list *l, uint32_t gid);
/* 0, or -E2BIG. */
int allow_add_uid(struct allow_list *l, uint32_t uid);
int allow_add_gid(struct allow_list *l, uint32_t gid);
