/* See decode.h. Depth is bounded by who packed it. */
#include "client/python/decode.h"

#include "proto/mp.h"

static PyObject *decode(struct mp *m);

static PyObject *decode_text(struct span text)
{
	return PyUnicode_DecodeUTF8((const char *)text.at, (Py_ssize_t)text.len, "surrogatepass");
}

static PyObject *decode_list(struct mp *m, uint32_t count)
{
	PyObject *list = PyList_New(0);

	for (uint32_t i = 0; list != NULL && i < count; i++) {
		PyObject *item = decode(m);

		if (item == NULL || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

static PyObject *decode_dict(struct mp *m, uint32_t count)
{
	PyObject *dict = PyDict_New();

	for (uint32_t i = 0; dict != NULL && i < count; i++) {
		PyObject *key = decode(m);
		PyObject *value = key == NULL ? NULL : decode(m);

		if (value == NULL || PyDict_SetItem(dict, key, value) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(key);
		Py_XDECREF(value);
	}
	return dict;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as a record, RECORD_DEPTH_MAX */
static PyObject *decode(struct mp *m)
{
	struct mp_value v;

	if (mp_read(m, &v) < 0) {
		PyErr_SetString(PyExc_ValueError, "not msgpack");
		return NULL;
	}
	switch (v.type) {
	case MP_NIL: Py_RETURN_NONE;
	case MP_BOOL: return PyBool_FromLong(v.boolean);
	case MP_INT: return PyLong_FromLongLong(v.integer);
	case MP_UINT: return PyLong_FromUnsignedLongLong(v.natural);
	case MP_FLOAT: return PyFloat_FromDouble(v.real);
	case MP_STR: return decode_text(v.bytes);
	case MP_BIN:
	case MP_EXT:
		return PyBytes_FromStringAndSize((const char *)v.bytes.at, (Py_ssize_t)v.bytes.len);
	case MP_ARRAY: return decode_list(m, v.count);
	case MP_MAP: return decode_dict(m, v.count);
	}
	abort(); /* GCC wants an end here; a value outside the enum is our bug */
}

PyObject *decode_value(struct span value)
{
	struct mp m = mp_of(value);

	return decode(&m);
}
