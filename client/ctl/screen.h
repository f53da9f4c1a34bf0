/* The text of wbxctl status: one screen, the verdict first. Pure. */
#pragma once

#include "client/ctl/judge.h"

/* has_colour: the dot is green, yellow or red; nothing else needs colour. Errors stay in out. */
void screen_add(struct buf *out, const struct facts *f, const struct judgement *j, bool has_colour);
