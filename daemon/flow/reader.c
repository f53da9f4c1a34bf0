/* See reader.h: what can be asked of an answer. The reader itself is the store's. */
#include "daemon/flow/reader.h"

#include <stdio.h>

const char *run_entity(const struct run_info *run)
{
	return run->server_entity[0] != '\0' ? run->server_entity : run->entity;
}

const char *run_project(const struct run_info *run)
{
	return run->server_project[0] != '\0' ? run->server_project : run->project;
}

bool run_is_called(const struct run_info *run, struct span text)
{
	char whole[3 * NAME_MAX_BYTES + 4];

	if (span_is(text, run->name))
		return true;
	(void)snprintf(whole, sizeof(whole), "%s/%s/%s", run_entity(run), run_project(run),
		       run->name); /* fits */
	return span_is(text, whole);
}
