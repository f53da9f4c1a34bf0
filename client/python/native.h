/* What the files of wbx._native know of one another. With the GIL. */
#pragma once

#include "client/python/encode.h"

/* The handle behind a Run, or a Client, borrowed from it; NULL with an exception: it is none, or the
 * client is closed. */
struct wbx_run *native_run(PyObject *run);
struct wbx *native_client(PyObject *client);
/* A new Run that keeps the client open. */
PyObject *native_wrap(PyObject *client, struct wbx_run *run);
