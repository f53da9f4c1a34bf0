/* See trace.h. A call's inputs are packed when it begins, so that nothing of them is kept alive and
 * what the function does to them later does not show. Its record waits: when the call ends before
 * anything was said about it, one record holds all of it. A call inside it, or a second (tell_calls),
 * makes a record of its start.
 *
 *   NEW --told--> TOLD --end--> ENDED
 *    `------------end-----------^        (one record)
 */
#include "client/python/trace.h"

#include "client/lib/map.h"
#include "client/python/decode.h"
#include "client/python/remark.h"
#include "proto/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

enum call_state {
	CALL_NEW,
	CALL_TOLD,
	CALL_ENDED
};

struct call {
	PyObject_HEAD struct call *next; /* those that are new, in any order */
	struct call *prev;
	PyObject *run; /* a native run */
	PyObject *op;
	PyObject *display_name; /* str or NULL, as those that follow */
	PyObject *thread_id;
	PyObject *turn_id;
	PyObject *source;
	PyObject *source_sha256;    /* bytes or NULL */
	struct wbx_map *inputs;     /* packed; freed with the call */
	struct wbx_map *attributes; /* NULL: none */
	enum call_state state;
	unsigned forks; /* of the process that began it */
	int64_t step;
	uint64_t started_us;
	char id[WBX_ID_MAX];
	char trace_id[WBX_ID_MAX];
	char parent_id[WBX_ID_MAX]; /* "": a root */
};

static PyTypeObject *call_type;
static struct call *new_calls;
static unsigned forks;

/* In a forked child: the calls that it has inherited are its parent's. */
static void on_fork(void)
{
	forks++;
	new_calls = NULL;
}

static bool is_own(const struct call *c)
{
	return c->forks == forks;
}

static void call_move(struct call *c, enum call_state to)
{
	assert(to > c->state);
	if (c->state == CALL_NEW && is_own(c)) {
		if (c->prev != NULL)
			c->prev->next = c->next;
		else
			new_calls = c->next;
		if (c->next != NULL)
			c->next->prev = c->prev;
		c->next = c->prev = NULL;
	}
	c->state = to;
}

/* --- records --- */

static const char *text_of(PyObject *text)
{
	const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, NULL);

	PyErr_Clear(); /* lone surrogates: the Python side has seen to them */
	return utf8;
}

static bool is_large(const struct wbx_map *m)
{
	return m != NULL && (m->table_count > 0 || m->bytes.len > (64 << 10));
}

/* Without the GIL when it takes long; not else: who lets go of it may have to wait for others. */
static int emit_record(struct call *c, const struct wbx_call_record *record)
{
	struct wbx_run *run = native_run(c->run);
	int r;

	if (!is_large(record->inputs) && !is_large(record->output) &&
	    !is_large(record->attributes) && !is_large(record->summary))
		return wbx_call(run, record);
	Py_BEGIN_ALLOW_THREADS r = wbx_call(run, record);
	Py_END_ALLOW_THREADS return r;
}

/* What the record says of the beginning. */
static struct wbx_call_record describe_start(const struct call *c)
{
	return (struct wbx_call_record){
		.phase = "start",
		.id = c->id,
		.trace_id = c->trace_id,
		.parent_id = c->parent_id[0] == '\0' ? NULL : c->parent_id,
		.op = text_of(c->op),
		.display_name = text_of(c->display_name),
		.thread_id = text_of(c->thread_id),
		.turn_id = text_of(c->turn_id),
		.source = text_of(c->source),
		.source_sha256 = c->source_sha256 == NULL
					 ? NULL
					 : (const uint8_t *)PyBytes_AsString(c->source_sha256),
		.started_us = c->started_us,
		.step = c->step,
		.inputs = c->inputs,
		.attributes = c->attributes,
	};
}

static int call_tell(struct call *c)
{
	struct wbx_call_record record;

	if (c->state != CALL_NEW || !is_own(c))
		return 0;
	record = describe_start(c);
	call_move(c, CALL_TOLD);
	return emit_record(c, &record);
}

/* --- the type --- */

static PyObject *text_or_null(PyObject *o)
{
	if (o == Py_None || !PyUnicode_Check(o))
		return NULL;
	Py_INCREF(o);
	return o;
}

static struct wbx_map *map_of_dict(PyObject *dict)
{
	struct wbx_map *m = wbx_map_new();

	if (m != NULL && encode_trace_dict(m, dict) < 0) {
		wbx_map_free(m);
		m = NULL;
	}
	return m;
}

static int set_ids(struct call *c, PyObject *parent, const char *parent_id, const char *trace_id)
{
	int r = wbx_new_call_id(c->id);

	if (r == 0 && parent != Py_None) {
		const struct call *above = (const struct call *)parent;

		memcpy(c->parent_id, above->id, WBX_ID_MAX);
		memcpy(c->trace_id, above->trace_id, WBX_ID_MAX);
		return 0;
	}
	if (parent_id != NULL)
		(void)strncat(c->parent_id, parent_id, WBX_ID_MAX - 1);
	if (trace_id != NULL)
		(void)strncat(c->trace_id, trace_id, WBX_ID_MAX - 1);
	return r == 0 && trace_id == NULL ? wbx_new_call_id(c->trace_id) : r;
}

struct call_args {
	PyObject *run;
	PyObject *op;
	PyObject *inputs;
	PyObject *parent;
	PyObject *attributes;
	PyObject *display_name;
	PyObject *thread_id;
	PyObject *turn_id; /* True: this call is the turn */
	PyObject *source;
	PyObject *source_sha256;
	const char *parent_id;
	const char *trace_id;
	long long step;
	unsigned long long started_us;
};

static int call_fill(struct call *c, const struct call_args *a)
{
	int r = set_ids(c, a->parent, a->parent_id, a->trace_id);

	Py_INCREF(a->run);
	c->run = a->run;
	Py_INCREF(a->op);
	c->op = a->op;
	c->display_name = text_or_null(a->display_name);
	c->thread_id = text_or_null(a->thread_id);
	c->turn_id = a->turn_id == Py_True ? PyUnicode_FromString(c->id) : text_or_null(a->turn_id);
	c->source = text_or_null(a->source);
	if (PyBytes_Check(a->source_sha256) && PyBytes_Size(a->source_sha256) == DIGEST_BYTES) {
		Py_INCREF(a->source_sha256);
		c->source_sha256 = a->source_sha256;
	}
	c->step = a->step;
	c->started_us = a->started_us != 0 ? a->started_us : clock_wall_us();
	c->inputs = map_of_dict(a->inputs);
	if (a->attributes != Py_None)
		c->attributes = map_of_dict(a->attributes);
	return r < 0 || c->inputs == NULL ? -ENOMEM : 0;
}

/* Call(run, op, inputs, parent, attributes, display_name, thread_id, turn_id, step, source,
 * source_sha256, started_us, parent_id, trace_id). Subclasses have no __init__. */
static PyObject *call_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct call_args a = {.parent = Py_None,
			      .attributes = Py_None,
			      .display_name = Py_None,
			      .thread_id = Py_None,
			      .turn_id = Py_None,
			      .source = Py_None,
			      .source_sha256 = Py_None,
			      .step = -1};
	struct call *c;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "OUO!|OOOOOLOOKzz", &a.run, &a.op, &PyDict_Type, &a.inputs,
			      &a.parent, &a.attributes, &a.display_name, &a.thread_id, &a.turn_id,
			      &a.step, &a.source, &a.source_sha256, &a.started_us, &a.parent_id,
			      &a.trace_id) ||
	    native_run(a.run) == NULL)
		return NULL;
	if ((a.parent != Py_None && !PyObject_TypeCheck(a.parent, call_type)) ||
	    (a.attributes != Py_None && !PyDict_Check(a.attributes))) {
		PyErr_SetString(PyExc_TypeError, "parent is a Call, attributes a dict");
		return NULL;
	}
	c = (struct call *)PyType_GenericAlloc(type, 0);
	if (c == NULL)
		return NULL;
	c->state = CALL_ENDED; /* until it is whole */
	c->forks = forks;
	if (call_fill(c, &a) < 0) {
		Py_DECREF(c);
		return PyErr_NoMemory();
	}
	if (a.parent != Py_None)
		(void)call_tell((struct call *)a.parent); /* counted when it failed */
	c->state = CALL_NEW;
	c->next = new_calls;
	if (new_calls != NULL)
		new_calls->prev = c;
	new_calls = c;
	return (PyObject *)c;
}

/* One that nobody ended is told of all the same. */
static void call_dealloc(PyObject *o)
{
	struct call *c = (struct call *)o;
	PyTypeObject *type = Py_TYPE(o);
	freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);

	if (c->state == CALL_NEW) {
		(void)call_tell(c);
		if (c->state == CALL_NEW)
			call_move(c, CALL_ENDED); /* the parent process's */
	}
	wbx_map_free(c->inputs);
	wbx_map_free(c->attributes);
	Py_XDECREF(c->run);
	Py_XDECREF(c->op);
	Py_XDECREF(c->display_name);
	Py_XDECREF(c->thread_id);
	Py_XDECREF(c->turn_id);
	Py_XDECREF(c->source);
	Py_XDECREF(c->source_sha256);
	free_object(o);
	Py_DECREF(type);
}

/* --- its end --- */

static int emit_end_of(struct call *c, struct wbx_call_record *record)
{
	if (c->state == CALL_NEW) {
		struct wbx_call_record start = describe_start(c);

		start.phase = "complete";
		start.ended_us = record->ended_us;
		start.output = record->output;
		start.exception = record->exception;
		start.summary = record->summary;
		if (record->display_name != NULL)
			start.display_name = record->display_name;
		*record = start;
	}
	call_move(c, CALL_ENDED);
	return emit_record(c, record);
}

/* end(output, exception, summary, display_name, ended_us): 0 or -errno. A second one says nothing, nor
 * does one in a forked child. */
static PyObject *call_end(PyObject *o, PyObject *args)
{
	struct call *c = (struct call *)o;
	struct wbx_call_record record = {.phase = "end", .id = c->id, .step = -1};
	PyObject *output = Py_None;
	PyObject *summary = Py_None;
	struct wbx_map *list = NULL;
	struct wbx_map *more = NULL;
	unsigned long long ended_us = 0;
	int r = 0;

	if (!PyArg_ParseTuple(args, "|OzOzK", &output, &record.exception, &summary,
			      &record.display_name, &ended_us))
		return NULL;
	if (c->state == CALL_ENDED || !is_own(c))
		return PyLong_FromLong(0);
	record.ended_us = ended_us != 0 ? ended_us : clock_wall_us();
	list = wbx_list_new();
	r = list == NULL ? -ENOMEM : encode_trace_value(list, output);
	if (r == 0 && PyDict_Check(summary)) {
		more = map_of_dict(summary);
		r = more == NULL ? -ENOMEM : 0;
	}
	record.output = list;
	record.summary = more;
	if (r == 0 && c->state != CALL_ENDED) /* a hook may have ended it */
		r = emit_end_of(c, &record);
	wbx_map_free(more);
	wbx_map_free(list);
	return PyLong_FromLong(r);
}

static PyObject *call_start(PyObject *o, PyObject *args)
{
	(void)args;
	return PyLong_FromLong(call_tell((struct call *)o));
}

/* The inputs as they were recorded. */
static PyObject *call_recorded(PyObject *o, PyObject *args)
{
	struct call *c = (struct call *)o;
	uint8_t head[MAP_HEAD_BYTES];
	PyObject *result;
	struct buf all;

	(void)args;
	if (c->inputs == NULL)
		Py_RETURN_NONE;
	buf_init(&all, MAP_BYTES_MAX);
	map_head(c->inputs, head);
	if (buf_add(&all, head, sizeof(head)) < 0 ||
	    buf_add(&all, c->inputs->bytes.data, c->inputs->bytes.len) < 0)
		result = PyErr_NoMemory();
	else
		result = decode_value(buf_span(&all));
	buf_done(&all);
	return result;
}

static PyObject *call_get_id(PyObject *o, void *closure)
{
	(void)closure;
	return PyUnicode_FromString(((struct call *)o)->id);
}

static PyObject *call_get_trace_id(PyObject *o, void *closure)
{
	(void)closure;
	return PyUnicode_FromString(((struct call *)o)->trace_id);
}

static PyObject *call_get_parent_id(PyObject *o, void *closure)
{
	const struct call *c = (const struct call *)o;

	(void)closure;
	if (c->parent_id[0] == '\0')
		Py_RETURN_NONE;
	return PyUnicode_FromString(c->parent_id);
}

static PyObject *new_ref(PyObject *o)
{
	if (o == NULL)
		o = Py_None;
	Py_INCREF(o);
	return o;
}

static PyObject *call_get_op(PyObject *o, void *closure)
{
	(void)closure;
	return new_ref(((struct call *)o)->op);
}

static PyObject *call_get_run(PyObject *o, void *closure)
{
	(void)closure;
	return new_ref(((struct call *)o)->run);
}

static PyObject *call_get_thread_id(PyObject *o, void *closure)
{
	(void)closure;
	return new_ref(((struct call *)o)->thread_id);
}

static PyObject *call_get_turn_id(PyObject *o, void *closure)
{
	(void)closure;
	return new_ref(((struct call *)o)->turn_id);
}

static PyObject *call_get_step(PyObject *o, void *closure)
{
	(void)closure;
	return PyLong_FromLongLong(((struct call *)o)->step);
}

static PyObject *call_get_started(PyObject *o, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct call *)o)->started_us);
}

static PyMethodDef call_methods[] = {
	{"end", call_end, METH_VARARGS, "end(output, exception, summary, display_name, ended_us)"},
	{"start", call_start, METH_NOARGS, "start(): its start gets a record of its own, now"},
	{"recorded", call_recorded, METH_NOARGS, "recorded() -> dict: the inputs"},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef call_getset[] = {{"id", call_get_id, NULL, NULL, NULL},
				    {"trace_id", call_get_trace_id, NULL, NULL, NULL},
				    {"parent_id", call_get_parent_id, NULL, NULL, NULL},
				    {"op_name", call_get_op, NULL, NULL, NULL},
				    {"_native_run", call_get_run, NULL, NULL, NULL},
				    {"thread_id", call_get_thread_id, NULL, NULL, NULL},
				    {"turn_id", call_get_turn_id, NULL, NULL, NULL},
				    {"step", call_get_step, NULL, NULL, NULL},
				    {"_started_us", call_get_started, NULL, NULL, NULL},
				    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot call_slots[] = {
	{Py_tp_new, (void *)call_new},
	{Py_tp_dealloc, (void *)call_dealloc},
	{Py_tp_methods, call_methods},
	{Py_tp_getset, call_getset},
	{0, NULL},
};
static PyType_Spec call_spec = {
	.name = "wbx._native.Call",
	.basicsize = sizeof(struct call),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = call_slots,
};

/* --- functions of the module --- */

static struct call *find_older(uint64_t before_us)
{
	struct call *c = new_calls;

	while (c != NULL && c->started_us > before_us)
		c = c->next;
	return c;
}

/* tell_calls(older_than_us): the starts of calls that began before are told; are there others? */
static PyObject *tell_calls(PyObject *module, PyObject *args)
{
	unsigned long long age_us = 0;
	uint64_t now = clock_wall_us();
	struct call *c;

	(void)module;
	if (!PyArg_ParseTuple(args, "K", &age_us))
		return NULL;
	while ((c = find_older(now - age_us)) != NULL) {
		Py_INCREF(c);       /* the GIL may be let go of */
		(void)call_tell(c); /* counted when it failed; it is new no more */
		Py_DECREF(c);
	}
	return PyBool_FromLong(new_calls != NULL);
}

static PyObject *set_trace_hook(PyObject *module, PyObject *hook)
{
	(void)module;
	encode_set_trace_hook(hook);
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
	{"tell_calls", tell_calls, METH_VARARGS, "tell_calls(older_than_us) -> left"},
	{"set_trace_hook", set_trace_hook, METH_O, "set_trace_hook(describe)"},
	{NULL, NULL, 0, NULL},
};

int trace_add_to(PyObject *module)
{
	PyObject *type = PyType_FromSpec(&call_spec);

	call_type = (PyTypeObject *)type;
	if (type == NULL || pthread_atfork(NULL, NULL, on_fork) != 0)
		return -1;
	if (PyModule_AddFunctions(module, functions) < 0 || remark_add_to(module) < 0)
		return -1;
	Py_INCREF(type);
	return PyModule_AddObject(module, "Call", type);
}
