/* The encoder's parts, for one another. */
#pragma once

#include "client/python/encode.h"

/* What is left when nothing else helps: the object's text. */
int encode_description(struct encoder *e, PyObject *o);
/* Anything that can be walked, as an array with a head of 5 bytes. */
int encode_iterable(struct encoder *e, PyObject *o);
/* A dict's pairs without a head. */
int encode_pairs(struct encoder *e, PyObject *dict, uint32_t *ret_count);

bool encode_is_table(PyObject *o);
int encode_table(struct encoder *e, PyObject *o);
bool encode_is_media(PyObject *o);
int encode_media(struct encoder *e, PyObject *o);
/* A time in a table's cell: milliseconds since 1970, and how it reads. */
int encode_time_cell(struct encoder *e, int64_t ms, const char *text);
