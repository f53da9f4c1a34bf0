/* The help, made from the table of commands. Errors stay in out. */
#pragma once

#include "client/ctl/commands.h"
#include "proto/base/buf.h"

void help_add_all(struct buf *out);
void help_add_command(struct buf *out, const struct command *c);
