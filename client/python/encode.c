/* See encode.h. Exact types first: they are nearly all of what trainers log. Depth is bounded, so a
 * circle ends as a text. */
#include "client/python/encode.h"

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
static PyObject *table_type;

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

void encode_set_table_type(PyObject *type)
{
	Py_INCREF(type);
	Py_XDECREF(table_type);
	table_type = type;
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

/* What is left when nothing else helps. A traced call's arguments are not asked: a text of theirs may
 * be long, slow, or hold secrets. */
static int encode_description(struct encoder *e, PyObject *o)
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

static int encode_pairs(struct encoder *e, PyObject *dict, uint32_t *ret_count)
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

/* Anything that can be walked. */
static int encode_iterable(struct encoder *e, PyObject *o)
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

/* --- tables --- */

static PyObject *attribute(PyObject *o, const char *name)
{
	PyObject *value = PyObject_GetAttrString(o, name);

	if (value == NULL)
		PyErr_Clear();
	return value;
}

/* The count stands in the head of what was written at `at`. */
static uint32_t array_count(const struct buf *out, size_t at)
{
	const uint8_t *head = out->data + at;

	return (uint32_t)head[1] << 24 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 8 | head[4];
}

static int encode_cells(struct buf *out, struct pack *p, unsigned depth, PyObject *list,
			uint32_t *ret_count)
{
	struct encoder e = {.p = p, .out = out, .tables = TABLES_AS_TEXT, .depth = depth};
	size_t at = out->len;
	int r = encode_iterable(&e, list);

	if (r == 0)
		*ret_count = array_count(out, at);
	return r;
}

static int put_apart(struct encoder *e, struct buf *bytes, struct map_table_size size)
{
	/* the value itself is put together in a map of its own and copied from there */
	struct wbx_map *value = wbx_list_new();
	struct wbx_map *map = e->map;
	int r = -ENOMEM;

	if (value == NULL)
		return r;
	Py_BEGIN_ALLOW_THREADS /* digest of megabytes */
		r = map_put_table(map, value, NULL, bytes, size);
	Py_END_ALLOW_THREADS if (r == 0) pack_raw(e->p, buf_span(&value->bytes));
	wbx_map_free(value);
	return r < 0 ? r : e->out->error;
}

static int encode_apart(struct encoder *e, PyObject *columns, PyObject *rows)
{
	struct map_table_size size = {0};
	struct buf bytes;
	struct pack p;
	int r;

	map_table_begin(&bytes, &p);
	r = encode_cells(&bytes, &p, e->depth, columns, &size.columns);
	if (r == 0) {
		map_table_data(&p);
		r = encode_cells(&bytes, &p, e->depth, rows, &size.rows);
	}
	if (r == 0)
		r = put_apart(e, &bytes, size);
	buf_done(&bytes);
	return r;
}

static int encode_inline(struct encoder *e, PyObject *columns, PyObject *rows)
{
	uint32_t count;
	int r;

	pack_map(e->p, 3);
	pack_pair_text(e->p, "_type", "table");
	pack_text(e->p, "columns");
	r = encode_cells(e->out, e->p, e->depth, columns, &count);
	if (r < 0)
		return r;
	pack_text(e->p, "data");
	return encode_cells(e->out, e->p, e->depth, rows, &count);
}

static int encode_table(struct encoder *e, PyObject *o)
{
	PyObject *columns = attribute(o, "columns");
	PyObject *rows = attribute(o, "data");
	int r;

	if (columns == NULL || rows == NULL || e->tables == TABLES_AS_TEXT)
		r = encode_description(e, o);
	else if (e->tables == TABLES_INLINE)
		r = encode_inline(e, columns, rows);
	else
		r = encode_apart(e, columns, rows);
	Py_XDECREF(columns);
	Py_XDECREF(rows);
	return r;
}

/* --- everything else --- */

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

static int encode_with_hook(struct encoder *e, PyObject *o)
{
	bool too_many = e->trace != NULL && e->trace->objects++ >= TRACE_OBJECTS_MAX;
	PyObject *hook = e->trace == NULL ? hook_for_others : hook_for_traces;
	PyObject *plain =
		hook == NULL || too_many ? NULL : PyObject_CallFunctionObjArgs(hook, o, NULL);
	int r;

	if (plain == NULL) {
		PyErr_Clear();
		return encode_description(e, o);
	}
	e->depth++;
	r = encode_object(e, plain); /* what comes of it is of an exact type, or deeper */
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

static int encode_container(struct encoder *e, PyObject *o)
{
	const char *why;
	int r;

	if (e->trace != NULL && !trace_enter(e->trace, o, &why)) {
		pack_text(e->p, why);
		return e->out->error;
	}
	e->depth++;
	r = PyDict_Check(o) ? encode_map(e, o) : encode_iterable(e, o);
	e->depth--;
	if (e->trace != NULL)
		e->trace->path_len--;
	return r;
}

static int encode_other(struct encoder *e, PyObject *o)
{
	int r = 0;

	if (table_type != NULL && PyObject_IsInstance(o, table_type) == 1)
		return encode_table(e, o);
	PyErr_Clear();
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
