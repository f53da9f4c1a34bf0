/* Where a person looks at a run in the browser. Any thread. */
#pragma once

#include "daemon/flow/reader.h"

/* Adds https://.../ENTITY/PROJECT/runs/ID; nothing while W&B has not said whose the run is.
 * base_url: of the API. The app's address from it as in the SDK's util.api_to_app_url(). Errors
 * stay in out. */
void run_url_add(struct buf *out, const struct run_info *run, const char *base_url);
