/* The text of wbxctl status: one screen, the verdict first. Pure. */
#pragma once

#include "client/ctl/judge.h"

/* has_colour: the dot is green, yellow or red; nothing else needs colour. Errors stay in out. */
/* "models: 20 requests/s, no limit of bytes"; errors stay in out. */
void limits_add(struct buf *out, const struct sink_facts *s);
void screen_add(struct buf *out, const struct facts *f, const struct judgement *j, bool has_colour);
