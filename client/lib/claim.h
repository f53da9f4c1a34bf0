/* A file of the journal or spool directory gets its name once it is locked and has its header: so
 * one that has its name and no lock has a dead owner. */
#pragma once

#include "proto/journal.h"

/* Makes new_path, readable to the daemon's group whatever the umask. The fd, or -errno. */
int claim_open(const char *new_path);
/* Locks fd, writes the header and renames it to path. 0; -errno: new_path is unlinked. */
int claim_finish(int fd, const char *new_path, const char *path,
		 const uint8_t header[JOURNAL_HEADER]);
