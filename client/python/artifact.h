/* wbx._native.Artifact: files on their way into an artifact. Its methods return 0 or a negative errno. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

int artifact_add_to(PyObject *module); /* -1 with an exception */
