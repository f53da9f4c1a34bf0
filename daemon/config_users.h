/* What wbxd.conf says about users of the machine, by number or by name. Names are looked up here,
 * while settings are read, and nowhere else. Main thread. */
#pragma once

#include "daemon/flow/allow_list.h"
#include "daemon/flow/user_rules.h"

/* A line of [users]: "1001", "alice" or "*", and where that user may write under the site's key. 0,
 * or -EINVAL with what is wrong in ret_why (borrowed: static). */
int config_add_user(struct user_rules *rules, const char *name, const char *patterns,
		    const char **ret_why);
/* "alice, 1001, @trainers": users and groups, by name or number; empty: everybody. The same errors. */
int config_read_allow(struct allow_list *ret, const char *text, const char **ret_why);
