/* msgpack to Python objects. With the GIL. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "proto/base/buf.h"

/* The one value in `value`, which this process has packed. New; NULL with an exception. */
PyObject *decode_value(struct span value);
