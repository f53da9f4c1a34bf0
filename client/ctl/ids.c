/* See ids.h. */
#include "client/ctl/ids.h"

#include "proto/base/mem.h"

int ids_add(struct ids *list, uint64_t id)
{
	int r = mem_room(list->at, list->count, list->cap);

	if (r == 0)
		list->at[list->count++] = id;
	return r;
}

void ids_done(struct ids *list)
{
	list->at = mem_free(list->at);
	list->count = 0;
	list->cap = 0;
}
