/* See encode.h. Exact types first: they are nearly all of what trainers log. Depth is bounded, so a
 * circle ends as a text. */
#include "client/python/encode_values.h"

#include "proto/base/mem.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	DEPTH_MAX = RECORD_DEPTH_MAX - 4,
	HEAD_BYTES = 5,
	MAP32 = 0xdf,
	ARRAY32 = 0xdd,
	/* of a traced call */
	TRACE_TEXT_MAX = 64 << 10,      /* a longer one stands apart ... */
	TRACE_HEAD_BYTES = 1024,        /* ... but for its beginning */
	TRACE_APART_MAX = 14,           /* texts apart in one value */
	TRACE_CONTAINERS_MAX = 1 << 17, /* lists and dicts in one value */
	TRACE_OBJECTS_MAX = 10000       /* objects in one value that the hook is asked about */
};

/* Of a traced call's value. */
struct encode_trace {
	PyObject *path[RECORD_DEPTH_MAX]; /* containers around what is being encoded; borrowed */
	unsigned path_len;
	unsigned containers;
	unsigned objects;
};

static PyObject *hook_for_others;
static PyObject *hook_for_traces;

void encode_set_hook(PyObject *hook)
{
	Py_INCREF(hook);
	Py_XDECREF(hook_for_others);
	hook_for_others = hook;
}

void encode_set_trace_hook(PyObject *hook)
{
	Py_INCREF(hook);
	Py_XDECREF(hook_for_traces);
	hook_for_traces = hook;
}

/* A head whose count is put in later: a dict may change while its values are encoded. */
static size_t open_head(struct encoder *e)
{
	static const uint8_t room[HEAD_BYTES] = {0};
	size_t at = e->out->len;

	(void)buf_add(e->out, room, sizeof(room)); /* the buf remembers */
	return at;
}

static int close_head(struct encoder *e, size_t at, uint8_t form, uint32_t count)
{
	uint8_t *head;

	if (e->out->error != 0)
		return e->out->error;
	head = e->out->data + at;
	head[0] = form;
	for (unsigned i = 0; i < 4; i++)
		head[1 + i] = (uint8_t)(count >> (24 - 8 * i));
	return 0;
}

/* So many bytes of it are whole characters. */
static size_t cut_at(struct span text, size_t max)
{
	if (text.len <= max)
		return text.len;
	while (max > 0 && (text.at[max] & 0xc0) == 0x80)
		max--;
	return max;
}

/* A long text of a traced call: its bytes are a blob. */
static int put_text_apart(struct encoder *e, struct span text)
{
	struct span head = {.at = text.at, .len = cut_at(text, TRACE_HEAD_BYTES)};
	struct wbx_map *value = wbx_list_new();
	struct wbx_map *map = e->map;
	struct buf bytes;
	int r = -ENOMEM;

	if (value == NULL)
		return r;
	buf_init(&bytes, (size_t)BLOB_MAX);
	Py_BEGIN_ALLOW_THREADS /* a copy and a digest of what may be megabytes */
		r = buf_add(&bytes, text.at, text.len);
	if (r == 0)
		r = map_put_apart(map, value, "text", &bytes, head);
	Py_END_ALLOW_THREADS if (r == 0) pack_raw(e->p, buf_span(&value->bytes));
	buf_done(&bytes);
	wbx_map_free(value);
	return r < 0 ? r : e->out->error;
}

static int put_text(struct encoder *e, struct span text)
{
	if (e->trace != NULL && text.len > TRACE_TEXT_MAX && e->map->table_count < TRACE_APART_MAX)
		return put_text_apart(e, text);
	pack_str(e->p, text);
	return e->out->error;
}

/* UTF-8; a lone surrogate as the three bytes that UTF-8 would have for it (the daemon writes it as
 * \udxxx). */
static int encode_text(struct encoder *e, PyObject *text)
{
	Py_ssize_t len;
	const char *utf8 = PyUnicode_AsUTF8AndSize(text, &len);
	PyObject *bytes;
	char *raw;
	int r;

	if (utf8 != NULL)
		return put_text(e, (struct span){.at = (const uint8_t *)utf8, .len = (size_t)len});
	PyErr_Clear();
	bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
	if (bytes == NULL || PyBytes_AsStringAndSize(bytes, &raw, &len) < 0) {
		PyErr_Clear();
		Py_XDECREF(bytes);
		pack_text(e->p, "<text that cannot be encoded>");
		return e->out->error;
	}
	r = put_text(e, (struct span){.at = (const uint8_t *)raw, .len = (size_t)len});
	Py_DECREF(bytes);
	return r;
}

/* A traced call's arguments are not asked: a text of theirs may
 * be long, slow, or hold secrets. */
int encode_description(struct encoder *e, PyObject *o)
{
	PyObject *text = e->trace == NULL ? PyObject_Str(o) : PyObject_Str((PyObject *)Py_TYPE(o));
	int r;

	if (text == NULL) {
		PyErr_Clear();
		pack_text(e->p, "<object without a text>");
		return e->out->error;
	}
	r = encode_text(e, text);
	Py_DECREF(text);
	return r;
}

static int encode_int(struct encoder *e, PyObject *o)
{
	int overflow = 0;
	long long value = PyLong_AsLongLongAndOverflow(o, &overflow);

	if (overflow == 0) {
		pack_int(e->p, value);
	} else {
		unsigned long long wide = overflow > 0 ? PyLong_AsUnsignedLongLong(o) : 0;

		if (overflow > 0 && !PyErr_Occurred()) {
			pack_uint(e->p, wide);
		} else { /* beyond 64 bits: near enough as a double, as JSON readers take it anyway
			  */
			double real;

			PyErr_Clear();
			real = PyLong_AsDouble(o);
			if (PyErr_Occurred()) {
				PyErr_Clear();
				return encode_description(e, o);
			}
			pack_double(e->p, real);
		}
	}
	return e->out->error;
}

/* Keys of a traced call may be anything, and keep the daemon's bound. */
static int encode_trace_key(struct encoder *e, PyObject *key)
{
	PyObject *text = PyObject_Str(key); /* mostly itself */
	PyObject *bytes =
		text == NULL ? NULL : PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
	struct span s = SPAN_LITERAL("<key>");
	Py_ssize_t len;
	char *raw;

	if (bytes != NULL && PyBytes_AsStringAndSize(bytes, &raw, &len) == 0)
		s = (struct span){.at = (const uint8_t *)raw, .len = (size_t)len};
	PyErr_Clear();
	s.len = cut_at(s, KEY_MAX);
	pack_str(e->p, s);
	Py_XDECREF(bytes);
	Py_XDECREF(text);
	return e->out->error;
}

static int encode_key(struct encoder *e, PyObject *key)
{
	Py_ssize_t len;
	const char *utf8;

	if (e->trace != NULL) {
		utf8 = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, &len) : NULL;
		if (utf8 == NULL || len > KEY_MAX) {
			PyErr_Clear();
			return encode_trace_key(e, key);
		}
		pack_str(e->p, (struct span){.at = (const uint8_t *)utf8, .len = (size_t)len});
		return e->out->error;
	}
	if (PyUnicode_Check(key))
		return encode_text(e, key);
	return encode_description(e, key);
}

int encode_pairs(struct encoder *e, PyObject *dict, uint32_t *ret_count)
{
	PyObject *key;
	PyObject *value;
	Py_ssize_t at = 0;
	uint32_t count = 0;
	int r = 0;

	while (r == 0 && PyDict_Next(dict, &at, &key, &value)) {
		Py_INCREF(key); /* a hook may change the dict */
		Py_INCREF(value);
		r = encode_key(e, key);
		if (r == 0)
			r = encode_object(e, value);
		Py_DECREF(key);
		Py_DECREF(value);
		count++;
	}
	*ret_count = count;
	return r;
}

static int encode_map(struct encoder *e, PyObject *dict)
{
	size_t at = open_head(e);
	uint32_t count = 0;
	int r = encode_pairs(e, dict, &count);

	return r < 0 ? r : close_head(e, at, MAP32, count);
}

int encode_iterable(struct encoder *e, PyObject *o)
{
	PyObject *iterator = PyObject_GetIter(o);
	size_t at = open_head(e);
	uint32_t count = 0;
	PyObject *item;
	int r = 0;

	if (iterator == NULL) {
		PyErr_Clear();
		return close_head(e, at, ARRAY32, 0);
	}
	while (r == 0 && (item = PyIter_Next(iterator)) != NULL) {
		r = encode_object(e, item);
		Py_DECREF(item);
		count++;
	}
	Py_DECREF(iterator);
	PyErr_Clear(); /* an iterator that raised ends the list */
	return r < 0 ? r : close_head(e, at, ARRAY32, count);
}

static int encode_bytes(struct encoder *e, PyObject *o)
{
	PyObject *text = PyUnicode_FromEncodedObject(o, "utf-8", "replace");
	int r;

	if (text == NULL) {
		PyErr_Clear();
		return encode_description(e, o);
	}
	r = encode_text(e, text);
	Py_DECREF(text);
	return r;
}

/* --- everything else --- */

static PyObject *attribute(PyObject *o, const char *name)
{
	PyObject *value = PyObject_GetAttrString(o, name);

	if (value == NULL)
		PyErr_Clear();
	return value;
}

/* numpy's and torch's truth values are 0 and 1 to whoever asks for a number. */
static bool is_bool_like(PyObject *o, double number)
{
	double off = fabs(number - 0.5);
	bool may_be = !isless(off, 0.5) && !isgreater(off, 0.5); /* most are neither 0 nor 1 */
	PyObject *type = may_be ? attribute(o, "dtype") : NULL;
	PyObject *name = type == NULL ? NULL : PyObject_Str(type);
	const char *text = name == NULL ? NULL : PyUnicode_AsUTF8AndSize(name, NULL);
	size_t len = text == NULL ? 0 : strlen(text);
	bool is_bool = len >= 4 && strcmp(text + len - 4, "bool") == 0; /* bool, torch.bool */

	PyErr_Clear();
	Py_XDECREF(name);
	Py_XDECREF(type);
	return is_bool;
}

static int encode_real_like(struct encoder *e, PyObject *o, double number)
{
	if (is_bool_like(o, number))
		pack_bool(e->p, number > 0.5);
	else
		pack_double(e->p, number);
	return e->out->error;
}

static int encode_index_like(struct encoder *e, PyObject *o, PyObject *number)
{
	int overflow = 0;
	long value = PyLong_AsLongAndOverflow(number, &overflow);

	if (overflow != 0 || !is_bool_like(o, (double)value))
		return encode_int(e, number);
	pack_bool(e->p, value != 0);
	return e->out->error;
}

/* numpy's and torch's numbers, without importing either: what says that it is an index is an
 * integer, what turns into a float is one. */
static bool encode_number_like(struct encoder *e, PyObject *o, int *ret)
{
	PyObject *number = PyIndex_Check(o) ? PyNumber_Index(o) : NULL;

	PyErr_Clear();
	if (number != NULL) {
		*ret = encode_index_like(e, o, number);
		Py_DECREF(number);
		return true;
	}
	if (PyObject_HasAttrString(o, "__float__")) {
		number = PyNumber_Float(o);
		PyErr_Clear();
		if (number != NULL) {
			*ret = encode_real_like(e, o, PyFloat_AsDouble(number));
			Py_DECREF(number);
			return true;
		}
	}
	return false;
}

/* What the package makes of an object; NULL: nothing. */
static PyObject *ask_hook(const struct encoder *e, PyObject *o)
{
	bool too_many = e->trace != NULL && e->trace->objects++ >= TRACE_OBJECTS_MAX;
	PyObject *hook = e->trace == NULL ? hook_for_others : hook_for_traces;
	PyObject *plain =
		hook == NULL || too_many ? NULL : PyObject_CallFunctionObjArgs(hook, o, NULL);

	PyErr_Clear();
	return plain;
}

/* A time in a cell. True when the hook's text is one. */
static bool encode_time(struct encoder *e, PyObject *plain, int *ret)
{
	PyObject *ms = e->tables == TABLES_IN_CELL && PyUnicode_Check(plain)
			       ? PyObject_GetAttrString(plain, "_wbx_ms")
			       : NULL;
	const char *text = ms == NULL ? NULL : PyUnicode_AsUTF8AndSize(plain, NULL);
	bool is_time = text != NULL && PyLong_Check(ms);

	if (is_time)
		*ret = encode_time_cell(e, PyLong_AsLongLong(ms), text);
	PyErr_Clear();
	Py_XDECREF(ms);
	return is_time;
}

static int encode_with_hook(struct encoder *e, PyObject *o)
{
	PyObject *plain = ask_hook(e, o);
	int r;

	if (plain == NULL)
		return encode_description(e, o);
	e->depth++;
	if (!encode_time(e, plain, &r))
		r = encode_object(e, plain); /* it is of an exact type, or deeper */
	e->depth--;
	Py_DECREF(plain);
	return r;
}

/* May it be gone into? Else *ret_why says why not. */
static bool trace_enter(struct encode_trace *t, PyObject *o, const char **ret_why)
{
	*ret_why = "<more than can be traced>";
	if (t->containers >= TRACE_CONTAINERS_MAX || t->path_len == array_len(t->path))
		return false;
	*ret_why = "<contains itself>";
	for (unsigned i = 0; i < t->path_len; i++) {
		if (t->path[i] == o)
			return false;
	}
	t->containers++;
	t->path[t->path_len++] = o;
	return true;
}

/* A list of files that W&B has one value for. False: it has not, or the list is another. */
static bool encode_batch(struct encoder *e, PyObject *list, int *ret)
{
	PyObject *first;
	PyObject *plain = NULL;
	bool is_batch = false;

	if (e->tables != TABLES_APART || !(PyList_Check(list) || PyTuple_Check(list)) ||
	    PySequence_Size(list) < 1)
		return false;
	first = PySequence_GetItem(list, 0);
	if (first != NULL && encode_is_media(first))
		plain = ask_hook(e, list);
	is_batch = plain != NULL && encode_is_media(plain);
	if (is_batch)
		*ret = encode_media(e, plain);
	PyErr_Clear();
	Py_XDECREF(plain);
	Py_XDECREF(first);
	return is_batch;
}

static int encode_container(struct encoder *e, PyObject *o)
{
	const char *why;
	int r;

	if (e->trace != NULL && !trace_enter(e->trace, o, &why)) {
		pack_text(e->p, why);
		return e->out->error;
	}
	e->depth++;
	if (PyDict_Check(o))
		r = encode_map(e, o);
	else if (!encode_batch(e, o, &r))
		r = encode_iterable(e, o);
	e->depth--;
	if (e->trace != NULL)
		e->trace->path_len--;
	return r;
}

static int encode_other(struct encoder *e, PyObject *o)
{
	int r = 0;

	if (encode_is_table(o))
		return encode_table(e, o);
	if (encode_is_media(o))
		return encode_media(e, o);
	if (e->trace == NULL && (PyBytes_Check(o) || PyByteArray_Check(o)))
		return encode_bytes(e, o);
	if (PyAnySet_Check(o))
		return encode_container(e, o);
	if (encode_number_like(e, o, &r))
		return r;
	return encode_with_hook(e, o);
}

int encode_object(struct encoder *e, PyObject *o)
{
	if (e->depth >= DEPTH_MAX) {
		pack_text(e->p, "<nested too deep>");
		return e->out->error;
	}
	if (o == Py_None)
		pack_nil(e->p);
	else if (o == Py_True || o == Py_False)
		pack_bool(e->p, o == Py_True);
	else if (PyFloat_Check(o))
		pack_double(e->p, PyFloat_AsDouble(o));
	else if (PyLong_Check(o))
		return encode_int(e, o);
	else if (PyUnicode_Check(o))
		return encode_text(e, o);
	else if (PyDict_Check(o) || PyList_Check(o) || PyTuple_Check(o))
		return encode_container(e, o);
	else
		return encode_other(e, o);
	return e->out->error;
}

int encode_dict(struct wbx_map *m, PyObject *dict, enum encode_tables tables)
{
	struct encoder e = {.p = &m->p, .out = &m->bytes, .map = m, .tables = tables};
	int r = encode_pairs(&e, dict, &m->levels[0].count);

	m->error = r;
	return r;
}

int encode_value(struct wbx_map *list, PyObject *value)
{
	struct encoder e = {
		.p = &list->p, .out = &list->bytes, .map = list, .tables = TABLES_APART};
	int r = encode_object(&e, value);

	list->error = r;
	list->levels[0].count = 1;
	return r;
}

int encode_trace_dict(struct wbx_map *m, PyObject *dict)
{
	struct encode_trace trace = {.path = {dict}, .path_len = 1};
	struct encoder e = {
		.p = &m->p, .out = &m->bytes, .map = m, .tables = TABLES_INLINE, .trace = &trace};

	m->error = encode_pairs(&e, dict, &m->levels[0].count);
	return m->error;
}

int encode_trace_value(struct wbx_map *list, PyObject *value)
{
	struct encode_trace trace = {.path_len = 0};
	struct encoder e = {.p = &list->p,
			    .out = &list->bytes,
			    .map = list,
			    .tables = TABLES_INLINE,
			    .trace = &trace};

	list->error = encode_object(&e, value);
	list->levels[0].count = 1;
	return list->error;
}
