/* See config_users.h. */
#include "daemon/config_users.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_number(const char *text)
{
	return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* The highest stands for nobody. */
static int read_number(const char *text, uint32_t *ret)
{
	unsigned long long n = strtoull(text, NULL, 10);

	if (strlen(text) > 10 || n >= UINT32_MAX)
		return -ENOENT;
	*ret = (uint32_t)n;
	return 0;
}

/* 0, or -ENOENT. */
static int find_user(const char *name, uint32_t *ret)
{
	const struct passwd *user;

	if (is_number(name))
		return read_number(name, ret);
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

/* The group, and those who are in it beside others; whose primary one it is, the kernel knows. 0,
 * -ENOENT, -E2BIG. */
static int add_group(struct allow_list *list, const char *name)
{
	const struct group *group;
	uint32_t gid;
	int r;

	if (is_number(name))
		return read_number(name, &gid) < 0 ? -ENOENT : allow_add_gid(list, gid);
	group = getgrnam(name);
	if (group == NULL)
		return -ENOENT;
	r = allow_add_gid(list, group->gr_gid);
	for (char **member = group->gr_mem; r == 0 && *member != NULL; member++) {
		const struct passwd *user = getpwnam(*member);

		if (user != NULL)
			r = allow_add_uid(list, user->pw_uid);
	}
	return r;
}

static int add_allowed(struct allow_list *list, const char *name)
{
	uint32_t uid;

	if (name[0] == '@')
		return add_group(list, name + 1);
	return find_user(name, &uid) < 0 ? -ENOENT : allow_add_uid(list, uid);
}

int config_read_allow(struct allow_list *ret, const char *text, const char **ret_why)
{
	int r = 0;

	*ret = (struct allow_list){.is_limited = text[0] != '\0'};
	while (r == 0 && *text != '\0') {
		char name[256];
		size_t len;

		text += strspn(text, " ,");
		len = strcspn(text, " ,");
		if (len == 0)
			break;
		(void)snprintf(name, sizeof(name), "%.*s", (int)len, text); /* cut: no such name */
		r = add_allowed(ret, name);
		text += len;
	}
	if (r == -E2BIG)
		*ret_why = "names more users than there is room for";
	else if (r < 0)
		*ret_why = "names a user or a @group that is not there";
	return r < 0 ? -EINVAL : 0;
}
