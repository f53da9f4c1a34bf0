/* See ids.h. */
#include "client/ctl/ids.h"

#include "proto/base/mem.h"

#include <errno.h>

enum {
	IDS_FIRST_CAP = 64
};

int ids_add(struct ids *list, uint64_t id)
{
	if (list->count == list->cap) {
		size_t cap = list->cap == 0 ? IDS_FIRST_CAP : list->cap * 2;
		uint64_t *at = mem_realloc(list->at, cap * sizeof(*at));

		if (at == NULL)
			return -ENOMEM;
		list->at = at;
		list->cap = cap;
	}
	list->at[list->count++] = id;
	return 0;
}

void ids_done(struct ids *list)
{
	list->at = mem_free(list->at);
	list->count = 0;
	list->cap = 0;
}
