/* Records of the kind `file` become uploads of files that nothing names. Pure but for reading; what is
 * planned is committed before anything of it is sent. One owner at a time. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"
#include "proto/record.h"

/* Adds what the record says to changes; a record that says nothing sensible becomes a dead letter. is_over:
 * the run has ended, so that what waits for that is due. 0; -ENOMEM, what the disk says. */
int file_take(struct reader *reader, struct changes *changes, const struct stored_record *stored,
	      const struct record *record, int64_t run, bool is_over);
