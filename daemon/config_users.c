/* See config_users.h. */
#include "daemon/config_users.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

static bool is_number(const char *text)
{
	return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* 0, or -ENOENT. */
static int find_user(const char *name, uint32_t *ret)
{
	const struct passwd *user;

	if (is_number(name)) {
		unsigned long long uid = strtoull(name, NULL, 10);

		/* the highest stands for nobody */
		if (strlen(name) > 10 || uid >= UINT32_MAX)
			return -ENOENT;
		*ret = (uint32_t)uid;
		return 0;
	}
	user = getpwnam(name);
	if (user == NULL)
		return -ENOENT;
	*ret = user->pw_uid;
	return 0;
}

int config_add_user(struct user_rules *rules, const char *name, const char *patterns,
		    const char **ret_why)
{
	uint32_t uid = 0;
	int r;

	if (strcmp(name, "*") != 0 && find_user(name, &uid) < 0) {
		*ret_why = "there is no user of that name or number";
		return -EINVAL;
	}
	r = user_rules_add(rules, strcmp(name, "*") == 0 ? USER_RULES_ALL : (int64_t)uid, patterns);
	if (r < 0)
		*ret_why = r == -E2BIG ? "there are too many lines of users"
				       : "must be entities, or entity/project, between commas";
	return r < 0 ? -EINVAL : 0;
}
