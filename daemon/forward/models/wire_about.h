/* What W&B has of a run besides its rows. Config, tags and summary go to it whole, there is no
 * patch: so what somebody else put there is read before they are written, and goes back as it was,
 * byte for byte (research: wire/wandb-models 2 and 3.3). One owner at a time. */
#pragma once

#include "daemon/forward/models/tree.h"

struct wire_about {
	struct tree tags;    /* top-level keys */
	struct tree config;  /* top-level leaves: the value's JSON text, without `_wandb` */
	struct tree wandb;   /* the same of what is in `_wandb` */
	struct tree summary; /* the same of the summary */
	struct buf defines;  /* msgpack array of `define` bodies: the metrics defined there */
};

int wire_about_init(struct wire_about *a); /* 0, -errno */
void wire_about_done(struct wire_about *a);
void wire_about_clear(struct wire_about *a);

/* What its writers' client noted in `_wandb`: it was opened by a client at all, and in shared mode. */
bool wire_about_is_written(const struct wire_about *a);
bool wire_about_is_shared(const struct wire_about *a);

/* From an answer's fields; text that cannot be read counts as empty. 0, -ENOMEM, -E2BIG. */
int wire_about_tag(struct wire_about *a, struct span tag);
int wire_about_config(struct wire_about *a, struct span text);
int wire_about_summary(struct wire_about *a, struct span text);
