/* One line of JSON to what libwbx logs: a row, a summary, a part of the config, or
 * system metrics. Pure. */
#pragma once

#include "client/lib/wbx.h"
#include "proto/base/buf.h"

enum row_kind {
	ROW_LOG,
	ROW_SUMMARY,
	ROW_CONFIG,
	ROW_SYSTEM,
};

struct json_row {
	enum row_kind kind;
	int64_t step; /* WBX_NO_STEP: none */
	enum wbx_commit commit;
};

enum {
	JSONROW_ERROR_MAX = 200
};

/* Reads the line, an object, into *ret and the emptied `values`. Its keys are those of the row, but
 * for _step (a whole number), _commit (true or false) and _kind (log, summary, config). The numbers
 * NaN, Infinity and -Infinity, which Python writes, are taken. 0; -EINVAL with a reason in
 * ret_error; -ENOMEM (jansson takes a want of memory for
 * bad JSON now and then). */
int jsonrow_read(struct span line, struct wbx_map *values, struct json_row *ret,
		 char ret_error[JSONROW_ERROR_MAX]);
