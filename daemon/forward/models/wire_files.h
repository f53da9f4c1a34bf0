/* Asking W&B for places of run files: the body of createRunFiles, and what it answers. Pure. Facts:
 * research, wire/wandb-models.md section 5. */
#pragma once

#include "daemon/forward/models/wire.h"

void wire_run_files(struct buf *ret, const struct wire_name *name, const struct span *paths,
		    size_t count);

/* The answer: calls on_header for each header that goes with every file ("Name:value"), then on_file
 * for each file in the order in which they were asked for. url empty: W&B wants no bytes of it. All
 * borrowed. 0; as the other answers (wire.h), and -EBADMSG when they are not as many as were asked
 * for; what a callback says. */
struct wire_files {
	int (*on_header)(void *arg, struct span header);
	int (*on_file)(void *arg, size_t which, struct span url);
	void *arg;
};
int wire_read_run_files(struct span body, size_t count, const struct wire_files *files);
