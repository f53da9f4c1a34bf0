/* Python objects to msgpack. With the GIL. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "client/lib/map.h"

/* What an encoding writes to. Tables found on the way are sent as blobs of `run` and named in
 * `map`. */
struct encoder {
	struct pack *p;
	struct buf *out;
	struct wbx_run *run; /* NULL: tables become a text */
	struct wbx_map *map;
	unsigned depth;
};

/* Called with an object that has no form of its own; returns one that has. Owned here until
 * replaced. */
void encode_set_hook(PyObject *hook);
/* A table: an instance has `columns` (list of str) and `rows` (list of lists). Owned here. */
void encode_set_table_type(PyObject *type);

/* Never raises and never fails for what the object is: what cannot be encoded becomes a text that
 * says so. 0, or what the buf or the library says (-ENOMEM, -EMSGSIZE, -ENOBUFS). */
int encode_object(struct encoder *e, PyObject *o);
/* A dict's pairs into a map that is empty. */
int encode_dict(struct wbx_run *run, struct wbx_map *m, PyObject *dict);
