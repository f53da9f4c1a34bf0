/* Scripts that complete wbxctl's command lines, made from the table of commands. */
#pragma once

#include "proto/base/buf.h"

/* Errors stay in out. */
void completion_add_bash(struct buf *out);
void completion_add_zsh(struct buf *out);
