/* Who may send under the site's key, and to which entities and projects: [users] of wbxd.conf. Plain
 * bytes, so that settings that hold them can be copied. */
#pragma once

#include "proto/base/buf.h"

enum {
	USER_RULES_MAX = 16 << 10
};

/* Lines of a uid, or * for everybody else, and patterns: "1001 team-a,team-b/x-*". No line at all:
 * everybody may write everywhere. */
struct user_rules {
	char text[USER_RULES_MAX];
};

static const int64_t USER_RULES_ALL = -1; /* in place of a uid */

/* patterns: ENTITY or ENTITY/PROJECT between commas, each a glob of fnmatch(3). A later rule about
 * the same uid takes the place of an earlier one. 0; -EINVAL: they are none; -E2BIG: too many rules. */
int user_rules_add(struct user_rules *r, int64_t uid, const char *patterns);
/* The patterns for this uid, borrowed; empty: it may not use the site's key. */
struct span user_rules_find(const struct user_rules *r, uint32_t uid);
bool user_rules_match(struct span patterns, const char *entity, const char *project);
