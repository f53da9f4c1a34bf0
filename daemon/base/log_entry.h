/* A line of the log as the journal takes it natively (systemd.io/JOURNAL_NATIVE_PROTOCOL): the line
 * itself, its priority, and each key=value before its sentence as a field of its own. Pure. */
#pragma once

#include <stddef.h>

enum {
	LOG_ENTRY_MAX = 4096
};

/* "run=r1 http=503 no room" of area "models" with priority 4 becomes
 *
 *     PRIORITY=4
 *     SYSLOG_IDENTIFIER=wbxd
 *     WBX_AREA=models
 *     MESSAGE=models: run=r1 http=503 no room
 *     WBX_RUN=r1
 *     WBX_HTTP=503
 *
 * A value with blanks stands in "quotes", which the field does not hold. text has no control
 * characters. Returns the length; fields that do not fit are left out, the message is cut. */
size_t log_entry(char ret[LOG_ENTRY_MAX], int priority, const char *area, const char *text);
