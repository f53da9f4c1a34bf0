/* See remark.h. */
#include "client/python/remark.h"

#include "client/lib/map.h"

#include <errno.h>

static struct wbx_map *payload_of(PyObject *dict)
{
	struct wbx_map *m = wbx_map_new();

	if (m != NULL && encode_trace_dict(m, dict) < 0) {
		wbx_map_free(m);
		m = NULL;
	}
	return m;
}

static PyObject *feedback(PyObject *module, PyObject *args)
{
	struct wbx_feedback f = {.call_id = NULL};
	char id[WBX_ID_MAX] = "";
	struct wbx_map *payload;
	struct wbx_run *run;
	PyObject *run_object;
	PyObject *dict;
	int r = -ENOMEM;

	(void)module;
	if (!PyArg_ParseTuple(args, "OssO!|zz", &run_object, &f.call_id, &f.type, &PyDict_Type,
			      &dict, &f.op, &f.scorer_call_id))
		return NULL;
	run = native_run(run_object);
	if (run == NULL)
		return NULL;
	payload = payload_of(dict);
	f.payload = payload;
	if (payload != NULL)
		r = wbx_feedback(run, &f, id);
	wbx_map_free(payload);
	return Py_BuildValue("(is)", r, id);
}

static PyObject *publish(PyObject *module, PyObject *args)
{
	const char *name;
	const char *type;
	struct wbx_map *data;
	struct wbx_run *run;
	PyObject *run_object;
	PyObject *dict;
	int r = -ENOMEM;

	(void)module;
	if (!PyArg_ParseTuple(args, "OssO!", &run_object, &name, &type, &PyDict_Type, &dict))
		return NULL;
	run = native_run(run_object);
	if (run == NULL)
		return NULL;
	data = payload_of(dict);
	if (data != NULL) {
		Py_BEGIN_ALLOW_THREADS r = wbx_publish(run, name, type, data);
		Py_END_ALLOW_THREADS
	}
	wbx_map_free(data);
	return PyLong_FromLong(r);
}

static PyObject *cost(PyObject *module, PyObject *args)
{
	const char *model;
	const char *provider = NULL;
	double prompt = 0;
	double completion = 0;
	struct wbx_run *run;
	PyObject *run_object;

	(void)module;
	if (!PyArg_ParseTuple(args, "Osdd|z", &run_object, &model, &prompt, &completion, &provider))
		return NULL;
	run = native_run(run_object);
	if (run == NULL)
		return NULL;
	return PyLong_FromLong(wbx_cost(run, model, provider, prompt, completion));
}

/* project(client, entity, project) -> a run that is none. */
static PyObject *project(PyObject *module, PyObject *args)
{
	const char *entity;
	const char *name;
	struct wbx_run *run = NULL;
	PyObject *client;
	struct wbx *w;
	int r;

	(void)module;
	if (!PyArg_ParseTuple(args, "Ozs", &client, &entity, &name))
		return NULL;
	w = native_client(client);
	if (w == NULL)
		return NULL;
	r = wbx_project(w, entity, name, &run);
	if (r < 0) {
		errno = -r;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	return native_wrap(client, run);
}

static PyMethodDef functions[] = {
	{"feedback", feedback, METH_VARARGS,
	 "feedback(run, call_id, type, payload, op, scorer_call_id) -> (r, id)"},
	{"publish", publish, METH_VARARGS, "publish(run, name, type, data)"},
	{"cost", cost, METH_VARARGS, "cost(run, model, prompt, completion, provider)"},
	{"project", project, METH_VARARGS, "project(client, entity, project) -> Run"},
	{NULL, NULL, 0, NULL},
};

int remark_add_to(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
