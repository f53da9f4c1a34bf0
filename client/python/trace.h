/* wbx._native.Call, a traced call, and what is said about calls: feedback, objects, costs. With the
 * GIL. */
#pragma once

#include "client/python/native.h"

/* Adds the type and its functions to the module. 0, or -1 with an exception. */
int trace_add_to(PyObject *module);
