/* Python objects to msgpack. With the GIL. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "client/lib/map.h"

/* What becomes of a table. */
enum encode_tables {
	TABLES_IN_CELL, /* inside a table: a table is a text there, a file has its bytes with it */
	TABLES_INLINE,  /* its cells stand in the record, which must hold them; a file is a text */
	TABLES_APART,   /* `map` has it as a blob */
};

/* What an encoding writes to. */
struct encoder {
	struct pack *p;
	struct buf *out;
	struct wbx_map *map;
	enum encode_tables tables;
	unsigned depth;
	struct encode_trace *trace; /* NULL: a row, not a value of a traced call */
};

/* Called with an object that has no form of its own; returns one that has. Owned here until
 * replaced. */
void encode_set_hook(PyObject *hook);
/* The package's classes of tables and of files. Owned here until replaced. */
void encode_set_types(PyObject *table, PyObject *media);

/* The same for values of traced calls; its hook says in short what an object is. */
void encode_set_trace_hook(PyObject *hook);

/* Never raises and never fails for what the object is: what cannot be encoded becomes a text that
 * says so. 0, or what the buf or the library says (-ENOMEM, -EMSGSIZE, -ENOBUFS). */
int encode_object(struct encoder *e, PyObject *o);
/* A dict's pairs into a map that is empty. */
int encode_dict(struct wbx_map *m, PyObject *dict, enum encode_tables tables);
/* One value into a list that is empty. */
int encode_value(struct wbx_map *list, PyObject *value);

/* As encode_dict() and encode_value(), for traced calls, whose arguments are anything: nothing is
 * asked for its text, circles end where they close, what is endless is cut, and long texts stand
 * apart (PROTOCOL.md section 4). */
int encode_trace_dict(struct wbx_map *m, PyObject *dict);
int encode_trace_value(struct wbx_map *list, PyObject *value);
