/* wbx._native: libwbx as Python types. Methods that log return 0 or a negative errno and never
 * raise for what is logged; the package's Python side says what that means. Limited API of 3.10:
 * one binary for every later version. */
#include "client/python/native.h"

#include "client/lib/state.h"
#include "client/python/artifact.h"
#include "client/python/ending.h"
#include "client/python/trace.h"
#include "proto/base/mem.h"

#include <errno.h>

struct client {
	PyObject_HEAD struct wbx *w;
};

struct run {
	PyObject_HEAD struct wbx_run *run; /* w's */
	PyObject *client;                  /* keeps w open */
	struct wbx_map *map;               /* used again for every record */
	bool map_in_use;                   /* a hook that logs while it is asked */
};

static PyTypeObject *client_type;
static PyTypeObject *run_type;

static PyObject *status(int r)
{
	return PyLong_FromLong(r);
}

/* --- maps --- */

/* A map for one record: the run's own when it is free. */
static struct wbx_map *take_map(struct run *self)
{
	struct wbx_map *m = self->map_in_use ? wbx_map_new() : self->map;

	if (m == NULL && !self->map_in_use)
		m = self->map = wbx_map_new();
	if (m == NULL)
		return NULL;
	if (m == self->map) {
		wbx_map_clear(m);
		self->map_in_use = true;
	}
	m->grow = self->run->grow;
	return m;
}

static void give_map(struct run *self, struct wbx_map *m)
{
	if (m == NULL)
		return;
	if (m == self->map) {
		wbx_map_clear(m); /* tables are large */
		self->map_in_use = false;
		if (m->bytes.cap > (1 << 20)) /* one big record should not stay for the whole run */
			buf_done(&m->bytes);
	} else {
		wbx_map_free(m);
	}
}

/* The dict, or None for an empty one, as a new map; NULL with *ret_r set. */
static struct wbx_map *map_of(struct run *self, PyObject *dict, enum encode_tables tables,
			      int *ret_r)
{
	struct wbx_map *m = take_map(self);

	*ret_r = m == NULL ? -ENOMEM : 0;
	if (m != NULL && dict != NULL && dict != Py_None)
		*ret_r = encode_dict(m, dict, tables);
	return m;
}

/* A list of str as a C list that borrows from it; freed with PyMem_Free. NULL with an exception, or
 * for None (*ret_none). */
static const char **texts_of(PyObject *list, bool *ret_none)
{
	Py_ssize_t n;
	const char **texts;

	*ret_none = list == NULL || list == Py_None;
	if (*ret_none)
		return NULL;
	n = PySequence_Size(list);
	if (n < 0)
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

/* --- Run --- */

static void run_dealloc(PyObject *o)
{
	struct run *self = (struct run *)o;
	PyTypeObject *type = Py_TYPE(o);

	wbx_map_free(self->map);
	Py_XDECREF(self->client);
	PyObject_Free(o);
	Py_DECREF(type);
}

static PyObject *run_log(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	PyObject *data;
	PyObject *step_object = Py_None;
	PyObject *commit_object = Py_None;
	enum wbx_commit commit = WBX_COMMIT_AUTO;
	int64_t step = WBX_NO_STEP;
	struct wbx_map *m;
	int r;

	if (!PyArg_ParseTuple(args, "O!|OO", &PyDict_Type, &data, &step_object, &commit_object))
		return NULL;
	if (step_object != Py_None) {
		step = PyLong_AsLongLong(step_object);
		if (PyErr_Occurred())
			return NULL;
	}
	if (commit_object != Py_None)
		commit = PyObject_IsTrue(commit_object) ? WBX_COMMIT_YES : WBX_COMMIT_NO;
	m = map_of(self, data, TABLES_APART, &r);
	if (r == 0 && m->table_count > 0) {
		Py_BEGIN_ALLOW_THREADS /* a copy of megabytes */
			r = wbx_log(self->run, m, step, commit);
		Py_END_ALLOW_THREADS
	} else if (r == 0) {
		r = wbx_log(self->run, m, step, commit);
	}
	give_map(self, m);
	return status(r);
}

static PyObject *log_dict(PyObject *o, PyObject *args, enum encode_tables tables,
			  int (*function)(struct wbx_run *, const struct wbx_map *))
{
	struct run *self = (struct run *)o;
	PyObject *data;
	struct wbx_map *m;
	int r;

	if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &data))
		return NULL;
	m = map_of(self, data, tables, &r);
	if (r == 0) {
		Py_BEGIN_ALLOW_THREADS /* there may be tables */
			r = function(self->run, m);
		Py_END_ALLOW_THREADS
	}
	give_map(self, m);
	return status(r);
}

static PyObject *run_summary(PyObject *o, PyObject *args)
{
	return log_dict(o, args, TABLES_APART, wbx_summary);
}

static PyObject *run_config(PyObject *o, PyObject *args)
{
	return log_dict(o, args, TABLES_INLINE, wbx_config);
}

static PyObject *run_system(PyObject *o, PyObject *args)
{
	return log_dict(o, args, TABLES_INLINE, wbx_system);
}

static PyObject *run_tags(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	PyObject *add = Py_None;
	PyObject *remove = Py_None;
	const char **add_texts;
	const char **remove_texts;
	bool none_add;
	bool none_remove;
	int r = 0;

	if (!PyArg_ParseTuple(args, "|OO", &add, &remove))
		return NULL;
	add_texts = texts_of(add, &none_add);
	remove_texts = texts_of(remove, &none_remove);
	if (!PyErr_Occurred())
		r = wbx_tags(self->run, add_texts, remove_texts);
	PyMem_Free((void *)add_texts);
	PyMem_Free((void *)remove_texts);
	return PyErr_Occurred() ? NULL : status(r);
}

static PyObject *run_define(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	struct wbx_metric metric = {0};
	PyObject *summary = Py_None;
	const char **texts;
	int step_sync = 0;
	int hidden = 0;
	int overwrite = 0;
	bool none;
	int r = 0;

	if (!PyArg_ParseTuple(args, "s|zppOzp", &metric.name, &metric.step_metric, &step_sync,
			      &hidden, &summary, &metric.goal, &overwrite))
		return NULL;
	metric.step_sync = step_sync != 0;
	metric.hidden = hidden != 0;
	metric.overwrite = overwrite != 0;
	texts = texts_of(summary, &none);
	metric.summary = texts;
	if (!PyErr_Occurred())
		r = wbx_define(self->run, &metric);
	PyMem_Free((void *)texts);
	return PyErr_Occurred() ? NULL : status(r);
}

static PyObject *run_output(PyObject *o, PyObject *args)
{
	const char *stream;
	const char *text;
	Py_ssize_t len;

	if (!PyArg_ParseTuple(args, "sy#", &stream, &text, &len))
		return NULL;
	return status(wbx_output_bytes(((struct run *)o)->run, stream, text, (size_t)len));
}

static PyObject *run_alert(PyObject *o, PyObject *args)
{
	const char *title;
	const char *text;
	const char *level = NULL;
	unsigned long long wait_ms = 0;

	if (!PyArg_ParseTuple(args, "ss|zK", &title, &text, &level, &wait_ms))
		return NULL;
	return status(wbx_alert(((struct run *)o)->run, title, text, level, wait_ms));
}

static PyObject *run_mark_preempting(PyObject *o, PyObject *args)
{
	(void)args;
	return status(wbx_mark_preempting(((struct run *)o)->run));
}

/* save(path, bytes, policy) */
static PyObject *run_save(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	const char *path;
	const char *bytes;
	const char *policy;
	Py_ssize_t len;
	int r;

	if (!PyArg_ParseTuple(args, "sy#s", &path, &bytes, &len, &policy))
		return NULL;
	Py_BEGIN_ALLOW_THREADS /* a copy of megabytes */
		r = wbx_save(self->run, path, bytes, (size_t)len, policy);
	Py_END_ALLOW_THREADS return status(r);
}

static PyObject *run_finish(PyObject *o, PyObject *args)
{
	int code = 0;
	int at_exit = 0;

	if (!PyArg_ParseTuple(args, "|ip", &code, &at_exit))
		return NULL;
	return status(at_exit ? wbx_exit(((struct run *)o)->run, code)
			      : wbx_finish(((struct run *)o)->run, code));
}

static PyObject *run_call_start(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	PyObject *inputs = Py_None;
	PyObject *attributes = Py_None;
	struct wbx_call call = {.step = -1};
	struct wbx_map *in;
	struct wbx_map *more = NULL;
	char id[WBX_ID_MAX] = "";
	long long step = -1;
	int r;

	if (!PyArg_ParseTuple(args, "s|OOzzzL", &call.op, &inputs, &attributes, &call.parent_id,
			      &call.trace_id, &call.display_name, &step))
		return NULL;
	call.step = step;
	in = map_of(self, inputs, TABLES_APART, &r);
	call.inputs = in;
	if (r == 0 && attributes != Py_None) {
		more = map_of(self, attributes, TABLES_APART, &r);
		call.attributes = more;
	}
	if (r == 0) {
		Py_BEGIN_ALLOW_THREADS /* there may be tables */
			r = wbx_call_start(self->run, &call, id);
		Py_END_ALLOW_THREADS
	}
	give_map(self, more);
	give_map(self, in);
	return Py_BuildValue("(is)", r, id);
}

static PyObject *run_call_end(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	PyObject *output = Py_None;
	const char *exception = NULL;
	const char *id;
	struct wbx_map *list;
	int r = -ENOMEM;

	if (!PyArg_ParseTuple(args, "s|Oz", &id, &output, &exception))
		return NULL;
	list = wbx_list_new();
	if (list != NULL)
		r = encode_value(list, output);
	if (r == 0) {
		Py_BEGIN_ALLOW_THREADS /* there may be tables */
			r = wbx_call_end(self->run, id, list, exception);
		Py_END_ALLOW_THREADS
	}
	wbx_map_free(list);
	return status(r);
}

static PyObject *run_get_id(PyObject *o, void *closure)
{
	(void)closure;
	return PyUnicode_FromString(wbx_run_id(((struct run *)o)->run));
}

static PyObject *run_info(PyObject *o, PyObject *args)
{
	struct wbx_run_info i;

	(void)args;
	wbx_get_run_info(((struct run *)o)->run, &i);
	return Py_BuildValue(
		"{sssssssssssssOsOsOsOsLsK}", "state", i.state, "entity", i.entity, "project",
		i.project, "name", i.name, "url", i.url, "reason", i.reason, "known",
		i.known ? Py_True : Py_False, "resumed", i.resumed ? Py_True : Py_False, "conflict",
		i.conflict ? Py_True : Py_False, "stopped", i.stopped ? Py_True : Py_False,
		"next_step", (long long)i.next_step, "waiting", (unsigned long long)i.waiting);
}

static PyObject *run_wait(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	int timeout_ms = 0;
	int r;

	if (!PyArg_ParseTuple(args, "i", &timeout_ms))
		return NULL;
	Py_BEGIN_ALLOW_THREADS r = wbx_wait_for_run(self->run, timeout_ms);
	Py_END_ALLOW_THREADS return status(r);
}

static PyObject *run_end_text(PyObject *o, PyObject *args)
{
	struct run *self = (struct run *)o;
	char text[ENDING_TEXT_MAX];
	int timeout_ms = 0;
	bool is_known;

	if (!PyArg_ParseTuple(args, "i", &timeout_ms))
		return NULL;
	Py_BEGIN_ALLOW_THREADS is_known = ending_text(self->run, timeout_ms, text);
	Py_END_ALLOW_THREADS;
	if (!is_known)
		Py_RETURN_NONE;
	return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

/* past(is_summary): JSON text, or None. */
static PyObject *run_past(PyObject *o, PyObject *args)
{
	int is_summary = 0;
	char *text;
	PyObject *result;

	if (!PyArg_ParseTuple(args, "p", &is_summary))
		return NULL;
	text = wbx_get_past(((struct run *)o)->run,
			    is_summary ? WBX_PAST_SUMMARY : WBX_PAST_CONFIG);
	if (text == NULL)
		Py_RETURN_NONE;
	result = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
	free(text);
	return result;
}

static PyObject *run_get_stopped(PyObject *o, void *closure)
{
	(void)closure;
	return PyBool_FromLong(wbx_stopped(((struct run *)o)->run));
}

static PyMethodDef run_methods[] = {
	{"log", run_log, METH_VARARGS, "log(data, step=None, commit=None)"},
	{"summary", run_summary, METH_VARARGS, "summary(data)"},
	{"config", run_config, METH_VARARGS, "config(data)"},
	{"system", run_system, METH_VARARGS, "system(data)"},
	{"tags", run_tags, METH_VARARGS, "tags(add, remove)"},
	{"define", run_define, METH_VARARGS,
	 "define(name, step_metric, step_sync, hidden, summary, goal, overwrite)"},
	{"output", run_output, METH_VARARGS, "output(stream, bytes)"},
	{"alert", run_alert, METH_VARARGS, "alert(title, text, level, wait_ms)"},
	{"save", run_save, METH_VARARGS, "save(path, bytes, policy)"},
	{"mark_preempting", run_mark_preempting, METH_NOARGS, "mark_preempting()"},
	{"finish", run_finish, METH_VARARGS, "finish(exit_code, at_exit)"},
	{"call_start", run_call_start, METH_VARARGS,
	 "call_start(op, inputs, attributes, parent_id, trace_id, display_name, step) -> (r, id)"},
	{"call_end", run_call_end, METH_VARARGS, "call_end(id, output, exception)"},
	{"info", run_info, METH_NOARGS, "info() -> dict: what W&B has answered"},
	{"end_text", run_end_text, METH_VARARGS, "end_text(timeout_ms) -> str | None"},
	{"wait", run_wait, METH_VARARGS, "wait(timeout_ms)"},
	{"past", run_past, METH_VARARGS, "past(is_summary) -> str | None"},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef run_getset[] = {{"id", run_get_id, NULL, NULL, NULL},
				   {"stopped", run_get_stopped, NULL, NULL, NULL},
				   {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot run_slots[] = {
	{Py_tp_dealloc, (void *)run_dealloc},
	{Py_tp_methods, run_methods},
	{Py_tp_getset, run_getset},
	{0, NULL},
};
static PyType_Spec run_spec = {
	.name = "wbx._native.Run",
	.basicsize = sizeof(struct run),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = run_slots,
};

/* --- Client --- */

static PyObject *client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"socket", "daemon", "rank", "world", NULL};
	struct wbx_options options = {0};
	long long rank = 0;
	long long world = 0;
	struct client *self;
	int r;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zzLL", names, &options.socket,
					 &options.daemon, &rank, &world))
		return NULL;
	options.rank = rank;
	options.world = world;
	self = (struct client *)PyType_GenericAlloc(type, 0);
	if (self == NULL)
		return NULL;
	r = wbx_open(&self->w, &options);
	if (r < 0) {
		Py_DECREF(self);
		errno = -r;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	return (PyObject *)self;
}

static void client_dealloc(PyObject *o)
{
	struct client *self = (struct client *)o;
	PyTypeObject *type = Py_TYPE(o);
	struct wbx *w = self->w;

	Py_BEGIN_ALLOW_THREADS(void)
		wbx_close(w, 0); /* what is not acknowledged stays in the journal */
	Py_END_ALLOW_THREADS PyObject_Free(o);
	Py_DECREF(type);
}

static bool is_open(struct client *self)
{
	if (self->w != NULL)
		return true;
	PyErr_SetString(PyExc_ValueError, "the client is closed");
	return false;
}

static PyObject *wrap_run(struct client *self, struct wbx_run *run)
{
	struct run *o = (struct run *)PyType_GenericAlloc(run_type, 0);

	if (o == NULL)
		return NULL;
	o->run = run;
	Py_INCREF(self);
	o->client = (PyObject *)self;
	return (PyObject *)o;
}

struct wbx_run *native_run(PyObject *run)
{
	if (PyObject_TypeCheck(run, run_type))
		return ((struct run *)run)->run;
	PyErr_SetString(PyExc_TypeError, "a run is wanted");
	return NULL;
}

struct wbx *native_client(PyObject *client)
{
	if (!PyObject_TypeCheck(client, client_type))
		PyErr_SetString(PyExc_TypeError, "a client is wanted");
	else if (is_open((struct client *)client))
		return ((struct client *)client)->w;
	return NULL;
}

PyObject *native_wrap(PyObject *client, struct wbx_run *run)
{
	return wrap_run((struct client *)client, run);
}

static PyObject *open_run(PyObject *o, PyObject *args, PyObject *kwargs,
			  int (*function)(struct wbx *, const struct wbx_run_options *,
					  struct wbx_run **))
{
	static char *names[] = {"project",
				"entity",
				"id",
				"name",
				"group",
				"job_type",
				"notes",
				"tags",
				"resume",
				"program",
				"python",
				"merge_rows",
				"label",
				"token",
				"shared",
				"primary",
				"update_finish_state",
				"derived_summary",
				NULL};
	struct client *self = (struct client *)o;
	struct wbx_run_options options = {0};
	struct wbx_run *run = NULL;
	PyObject *tags = Py_None;
	const char **texts;
	int merge_rows = 0;
	int shared = 0;
	int primary = 1;
	int updates_end = 1;
	int derived_summary = 0;
	bool none;
	int r;

	if (!is_open(self) ||
	    !PyArg_ParseTupleAndKeywords(
		    args, kwargs, "s|zzzzzzOzzzpzzpppp", names, &options.project, &options.entity,
		    &options.id, &options.name, &options.group, &options.job_type, &options.notes,
		    &tags, &options.resume, &options.program, &options.python, &merge_rows,
		    &options.label, &options.token, &shared, &primary, &updates_end,
		    &derived_summary))
		return NULL;
	options.merge_rows = merge_rows != 0;
	options.shared = shared != 0;
	options.is_secondary = primary == 0;
	options.leaves_end = updates_end == 0;
	options.derived_summary = derived_summary != 0;
	texts = texts_of(tags, &none);
	if (PyErr_Occurred())
		return NULL;
	options.tags = texts;
	r = function(self->w, &options, &run);
	PyMem_Free((void *)texts);
	if (r < 0) {
		errno = -r;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	return wrap_run(self, run);
}

static PyObject *client_run(PyObject *o, PyObject *args, PyObject *kwargs)
{
	return open_run(o, args, kwargs, wbx_run);
}

static PyObject *client_attach(PyObject *o, PyObject *args, PyObject *kwargs)
{
	return open_run(o, args, kwargs, wbx_attach);
}

static PyObject *client_flush(PyObject *o, PyObject *args)
{
	struct client *self = (struct client *)o;
	int timeout_ms = 0;
	int r;

	if (!is_open(self) || !PyArg_ParseTuple(args, "i", &timeout_ms))
		return NULL;
	Py_BEGIN_ALLOW_THREADS r = wbx_flush(self->w, timeout_ms);
	Py_END_ALLOW_THREADS return status(r);
}

static PyObject *client_stats(PyObject *o, PyObject *args)
{
	struct client *self = (struct client *)o;
	struct wbx_stats s;

	(void)args;
	if (!is_open(self))
		return NULL;
	wbx_get_stats(self->w, &s);
	return Py_BuildValue(
		"{sKsKsKsKsKsKsKsOsO}", "records", (unsigned long long)s.records,
		"acknowledged_seq", (unsigned long long)s.acknowledged_seq, "last_seq",
		(unsigned long long)s.last_seq, "given_up", (unsigned long long)s.given_up,
		"rejected", (unsigned long long)s.rejected, "waiting_bytes",
		(unsigned long long)s.waiting_bytes, "reconnects", (unsigned long long)s.reconnects,
		"connected", s.connected ? Py_True : Py_False, "durable",
		s.durable ? Py_True : Py_False);
}

static PyObject *client_login(PyObject *o, PyObject *args)
{
	struct client *self = (struct client *)o;
	const char *key;
	int timeout_ms;
	int r;

	if (!is_open(self) || !PyArg_ParseTuple(args, "si", &key, &timeout_ms))
		return NULL;
	Py_BEGIN_ALLOW_THREADS r = wbx_login(self->w, key, timeout_ms);
	Py_END_ALLOW_THREADS return PyLong_FromLong(r);
}

static PyObject *client_get_socket(PyObject *o, void *closure)
{
	struct client *self = (struct client *)o;

	(void)closure;
	return is_open(self) ? PyUnicode_FromString(wbx_socket(self->w)) : NULL;
}

static PyMethodDef client_methods[] = {
	{"run", (PyCFunction)(void (*)(void))client_run, METH_VARARGS | METH_KEYWORDS,
	 "run(project, ...) -> Run"},
	{"attach", (PyCFunction)(void (*)(void))client_attach, METH_VARARGS | METH_KEYWORDS,
	 "attach(project, entity, id) -> Run"},
	{"flush", client_flush, METH_VARARGS, "flush(timeout_ms)"},
	{"login", client_login, METH_VARARGS, "login(key, timeout_ms) -> 0 or -errno"},
	{"stats", client_stats, METH_NOARGS, "stats() -> dict"},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef client_getset[] = {{"socket", client_get_socket, NULL, NULL, NULL},
				      {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot client_slots[] = {
	{Py_tp_new, (void *)client_new},
	{Py_tp_dealloc, (void *)client_dealloc},
	{Py_tp_methods, client_methods},
	{Py_tp_getset, client_getset},
	{0, NULL},
};
static PyType_Spec client_spec = {
	.name = "wbx._native.Client",
	.basicsize = sizeof(struct client),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = client_slots,
};

/* --- the module --- */

static PyObject *set_hooks(PyObject *module, PyObject *args)
{
	PyObject *hook;
	PyObject *table;
	PyObject *media;

	(void)module;
	if (!PyArg_ParseTuple(args, "OO!O!", &hook, &PyType_Type, &table, &PyType_Type, &media))
		return NULL;
	encode_set_hook(hook);
	encode_set_types(table, media);
	Py_RETURN_NONE;
}

/* Runs stay open until the process ends, which is soon, and get its status. The client and they are
 * never freed. */
static PyObject *finish_at_exit(PyObject *module, PyObject *args)
{
	struct ending ending = {.runs = NULL};
	PyObject *client;
	PyObject *runs;
	int alone;
	Py_ssize_t told;
	Py_ssize_t count;

	(void)module;
	if (!PyArg_ParseTuple(args, "OO!niizp", &client, &PyList_Type, &runs, &told,
			      &ending.timeout_ms, &ending.text_ms, &ending.forget, &alone))
		return NULL;
	count = PyList_Size(runs);
	ending.w = ((struct client *)client)->w;
	ending.told = (size_t)(told < count ? told : count);
	ending.may_close = alone != 0;
	ending.runs = mem_alloc(((size_t)count + 1) * sizeof(struct wbx_run *));
	if (ending.forget != NULL)
		ending.forget = mem_strdup(ending.forget);
	if (ending.runs == NULL)
		return PyErr_NoMemory();
	for (; ending.count < (size_t)count; ending.count++)
		ending.runs[ending.count] =
			((struct run *)PyList_GetItem(runs, (Py_ssize_t)ending.count))->run;
	if (!ending_set(&ending))
		return PyErr_NoMemory();
	Py_INCREF(client);
	Py_INCREF(runs);
	Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
	{"finish_at_exit", finish_at_exit, METH_VARARGS,
	 "finish_at_exit(client, runs, told, timeout_ms, text_ms, forget, alone)"},
	{"set_hooks", set_hooks, METH_VARARGS, "set_hooks(plain, table_type, media_type)"},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "wbx._native",
	.m_size = -1,
	.m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__native(void)
{
	PyObject *m = PyModule_Create(&module);
	PyObject *client_object = PyType_FromSpec(&client_spec);
	PyObject *run_object = PyType_FromSpec(&run_spec);

	client_type = (PyTypeObject *)client_object;
	run_type = (PyTypeObject *)run_object;
	if (m == NULL || client_object == NULL || run_object == NULL ||
	    PyModule_AddObject(m, "Client", client_object) < 0 ||
	    PyModule_AddStringConstant(m, "version", WBX_VERSION) < 0 || trace_add_to(m) < 0 ||
	    artifact_add_to(m) < 0)
		return NULL;
	return m;
}
