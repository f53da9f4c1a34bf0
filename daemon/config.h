/* Settings of wbxd: the file /etc/wbx/wbxd.conf, then the environment (WBXD_SECTION_KEY), then the
 * command line
 * (--section.key=value), the later one wins. One table in config.c says what there is; wbxd.conf(5)
 * describes it. */
#pragma once

#include "daemon/flow/sample_rules.h"
#include "daemon/flow/user_rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CONFIG_TEXT_MAX = 1024,
	CONFIG_ERROR_MAX = 512
};

struct config {
	/* [daemon] */
	char socket[CONFIG_TEXT_MAX];
	char control[CONFIG_TEXT_MAX];
	char journal_dir[CONFIG_TEXT_MAX];
	char spool_dir[CONFIG_TEXT_MAX];
	char log_level[CONFIG_TEXT_MAX];
	char admin_group[CONFIG_TEXT_MAX];
	char allow[CONFIG_TEXT_MAX];
	char metrics[CONFIG_TEXT_MAX];
	char metrics_file[CONFIG_TEXT_MAX];
	int64_t socket_mode;
	int64_t gone_after_ms;
	int64_t idle_exit_ms;
	/* [store] */
	char store_dir[CONFIG_TEXT_MAX];
	int64_t store_limit;
	int64_t store_reserve;
	int64_t store_user_limit;
	int64_t store_keep;
	int64_t store_keep_age_ms;
	int64_t store_stuck_ms;
	/* [models] */
	char base_url[CONFIG_TEXT_MAX];
	char weave_url[CONFIG_TEXT_MAX]; /* "": as base_url has it */
	char key_file[CONFIG_TEXT_MAX];
	char ca_file[CONFIG_TEXT_MAX];
	char proxy[CONFIG_TEXT_MAX];
	int64_t interval_ms;
	int64_t heartbeat_ms;
	int64_t merge_max_ms;
	int64_t self_report_ms;
	int64_t connect_timeout_ms;
	int64_t stall_timeout_ms;
	int64_t backoff_max_ms;
	int64_t requests_per_s;
	int64_t bytes_per_s;
	int64_t body_max;
	/* [tables] */
	char tables_send[CONFIG_TEXT_MAX];
	char tables_artifact[CONFIG_TEXT_MAX]; /* always, last, never */
	/* [artifacts] */
	char artifacts_hours[CONFIG_TEXT_MAX];
	int64_t artifacts_bytes_per_s;
	/* [sampling] */
	struct sample_rules sampling;
	/* [users] */
	struct user_rules users;
};

/* The defaults of the service; with dir not NULL those of a daemon whose files are all below dir.
 */
void config_defaults(struct config *ret, const char *dir);
/* Reads the file over what is in c. 0; -ENOENT there is none; -EINVAL with "file:line: section.key:
 * what is wrong" in ret_error, c then holds what came before; -errno. */
int config_read_file(struct config *c, const char *path, char ret_error[CONFIG_ERROR_MAX]);
/* The environment. 0, or -EINVAL with a sentence. */
int config_read_environment(struct config *c, char ret_error[CONFIG_ERROR_MAX]);
/* One "section.key=value". 0, or -EINVAL with a sentence. */
int config_set(struct config *c, const char *assignment, char ret_error[CONFIG_ERROR_MAX]);
/* After a reload: the first key that counts at start only and is not what it was then; NULL: all
 * are. */
const char *config_start_change(const struct config *fresh, const struct config *used);
