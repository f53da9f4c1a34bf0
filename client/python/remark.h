/* What is said about traced calls and is none: feedback, published objects, costs; and the projects
 * that all this belongs to when there is no run. With the GIL. */
#pragma once

#include "client/python/native.h"

/* Adds the functions to the module. 0, or -1 with an exception. */
int remark_add_to(PyObject *module);
