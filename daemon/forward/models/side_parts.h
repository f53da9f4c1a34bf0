/* The inside of a struct side, for side.c and side_take.c alone. */
#pragma once

#include "daemon/forward/models/side.h"

/* --- side.c --- */
/* s->text is a line of the file. 0, -ENOMEM. */
int side_add_line(struct side *s, struct changes *changes, enum side_file file, int64_t offset);
/* This line of the console has ended. 0, -ENOMEM. */
int side_end_line(struct side *s, struct changes *changes, size_t line);

/* --- side_take.c --- */
/* The alert is not to be repeated for a while. 0, -ENOMEM. */
int side_note_alert(struct side *s, struct span title, int64_t time_us);
