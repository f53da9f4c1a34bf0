/* See artifact.h. */
#include "client/python/artifact.h"

#include "client/lib/artifact.h"
#include "client/python/native.h"

struct artifact {
	PyObject_HEAD struct wbx_artifact *a;
};

static PyObject *status(int r)
{
	return PyLong_FromLong(r);
}

static struct wbx_artifact *inner(PyObject *o)
{
	return ((struct artifact *)o)->a;
}

static PyObject *artifact_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	const char *name;
	const char *kind;
	struct artifact *self;
	int r;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "ss", &name, &kind))
		return NULL;
	self = (struct artifact *)PyType_GenericAlloc(type, 0);
	if (self == NULL)
		return NULL;
	r = wbx_artifact_new(&self->a, name, kind);
	if (r < 0) {
		Py_DECREF(self);
		errno = -r;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	return (PyObject *)self;
}

static void artifact_dealloc(PyObject *o)
{
	PyTypeObject *type = Py_TYPE(o);

	wbx_artifact_free(inner(o));
	PyObject_Free(o);
	Py_DECREF(type);
}

static PyObject *add_bytes(PyObject *o, PyObject *args)
{
	const char *path;
	const char *bytes;
	Py_ssize_t len;

	if (!PyArg_ParseTuple(args, "sy#", &path, &bytes, &len))
		return NULL;
	return status(wbx_artifact_add_bytes(inner(o), path, bytes, (size_t)len));
}

static PyObject *add_file(PyObject *o, PyObject *args)
{
	const char *path;
	const char *local;
	int r;

	if (!PyArg_ParseTuple(args, "ss", &path, &local))
		return NULL;
	Py_BEGIN_ALLOW_THREADS /* it may be copied */
		r = wbx_artifact_add_file(inner(o), path, local);
	Py_END_ALLOW_THREADS return status(r);
}

static PyObject *expect(PyObject *o, PyObject *args)
{
	long long bytes;

	if (!PyArg_ParseTuple(args, "L", &bytes))
		return NULL;
	artifact_expect(inner(o), bytes);
	Py_RETURN_NONE;
}

static PyObject *add_reference(PyObject *o, PyObject *args)
{
	const char *path;
	const char *uri;
	const char *digest = NULL;
	long long size = -1;

	if (!PyArg_ParseTuple(args, "ss|zL", &path, &uri, &digest, &size))
		return NULL;
	return status(wbx_artifact_add_reference(inner(o), path, uri, digest, size));
}

/* The bytes of the table's blob, as a row would have it, become the entry. */
static int take_table(struct wbx_artifact *a, const char *path, const struct wbx_map *m)
{
	struct artifact_entry *e = NULL;
	int r = m->table_count != 1 ? -EINVAL : artifact_add(a, path, &e);

	if (r == 0)
		r = buf_add(&e->bytes, m->tables[0].bytes.data, m->tables[0].bytes.len);
	if (r < 0)
		return r;
	e->is_table = true;
	e->size = (int64_t)e->bytes.len;
	a->total += e->size;
	return 0;
}

static PyObject *add_table(PyObject *o, PyObject *args)
{
	const char *path;
	PyObject *table;
	PyObject *dict;
	struct wbx_map *m;
	int r = -ENOMEM;

	if (!PyArg_ParseTuple(args, "sO", &path, &table))
		return NULL;
	dict = Py_BuildValue("{sO}", "t", table);
	if (dict == NULL)
		return NULL;
	m = wbx_map_new();
	if (m != NULL)
		r = encode_dict(m, dict, TABLES_APART);
	if (r == 0)
		r = take_table(inner(o), path, m);
	wbx_map_free(m);
	Py_DECREF(dict);
	return status(r);
}

/* A list of str as a C list that borrows from it; freed with PyMem_Free. NULL with an exception, or for
 * None. */
static const char **texts_of(PyObject *list)
{
	Py_ssize_t n = list == Py_None ? 0 : PySequence_Size(list);
	const char **texts;

	if (list == Py_None || n < 0)
		return NULL;
	texts = PyMem_Malloc(((size_t)n + 1) * sizeof(*texts));
	if (texts == NULL) {
		(void)PyErr_NoMemory();
		return NULL;
	}
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *item = PySequence_GetItem(list, i);

		texts[i] = item == NULL ? NULL : PyUnicode_AsUTF8AndSize(item, NULL);
		Py_XDECREF(item); /* the list holds it */
		if (texts[i] == NULL) {
			PyMem_Free((void *)texts);
			return NULL;
		}
	}
	texts[n] = NULL;
	return texts;
}

static int log_it(struct wbx_run *run, struct wbx_artifact *a, struct wbx_artifact_options *options,
		  PyObject *metadata)
{
	struct wbx_map *m = wbx_map_new();
	int r = m == NULL ? -ENOMEM : 0;

	if (r == 0 && metadata != Py_None)
		r = encode_dict(m, metadata, TABLES_INLINE);
	options->metadata = m;
	if (r == 0) {
		Py_BEGIN_ALLOW_THREADS /* there may be megabytes */
			r = wbx_log_artifact(run, a, options);
		Py_END_ALLOW_THREADS
	}
	wbx_map_free(m);
	return r;
}

static PyObject *log_artifact(PyObject *o, PyObject *args)
{
	struct wbx_artifact_options options = {0};
	PyObject *run_object;
	PyObject *metadata;
	PyObject *aliases;
	PyObject *tags;
	const char **alias_texts;
	const char **tag_texts;
	struct wbx_run *run;
	long long step = 0;
	int r = 0;

	if (!PyArg_ParseTuple(args, "OzOOOL", &run_object, &options.description, &metadata,
			      &aliases, &tags, &step))
		return NULL;
	run = native_run(run_object);
	if (run == NULL)
		return NULL;
	alias_texts = texts_of(aliases);
	tag_texts = PyErr_Occurred() ? NULL : texts_of(tags);
	options.aliases = alias_texts;
	options.tags = tag_texts;
	options.step = step;
	if (!PyErr_Occurred())
		r = log_it(run, inner(o), &options, metadata);
	PyMem_Free((void *)alias_texts);
	PyMem_Free((void *)tag_texts);
	return PyErr_Occurred() ? NULL : status(r);
}

static PyMethodDef methods[] = {
	{"add_bytes", add_bytes, METH_VARARGS, "add_bytes(path, bytes)"},
	{"expect", expect, METH_VARARGS, "expect(bytes): of files that will come"},
	{"add_file", add_file, METH_VARARGS, "add_file(path, local_path)"},
	{"add_table", add_table, METH_VARARGS, "add_table(path, table)"},
	{"add_reference", add_reference, METH_VARARGS, "add_reference(path, uri, digest, size)"},
	{"log", log_artifact, METH_VARARGS, "log(run, description, metadata, aliases, tags, step)"},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
	{Py_tp_new, artifact_new},
	{Py_tp_dealloc, artifact_dealloc},
	{Py_tp_methods, methods},
	{0, NULL},
};
static PyType_Spec spec = {
	.name = "wbx._native.Artifact",
	.basicsize = sizeof(struct artifact),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};

int artifact_add_to(PyObject *module)
{
	PyObject *type = PyType_FromSpec(&spec);

	return type == NULL ? -1 : PyModule_AddObject(module, "Artifact", type);
}
