/* Tables and files as values (PROTOCOL.md section 9). The package's classes say what they are by _wbx():
 * a table (columns, rows, types or None, log mode or None, increment or None, rows in all), a file
 * (dict with _type and ext first, bytes). */
#include "client/python/encode_values.h"

#include "client/lib/table.h"

#include <errno.h>
#include <string.h>

static PyTypeObject *table_type;
static PyTypeObject *media_type;

void encode_set_types(PyObject *table, PyObject *media)
{
	Py_INCREF(table);
	Py_INCREF(media);
	Py_XDECREF(table_type);
	Py_XDECREF(media_type);
	table_type = (PyTypeObject *)table;
	media_type = (PyTypeObject *)media;
}

bool encode_is_table(PyObject *o)
{
	return table_type != NULL && PyType_IsSubtype(Py_TYPE(o), table_type);
}

bool encode_is_media(PyObject *o)
{
	return media_type != NULL && PyType_IsSubtype(Py_TYPE(o), media_type);
}

/* What _wbx() says, a tuple of so many; NULL: it raised, or is none. */
static PyObject *ask(PyObject *o, Py_ssize_t size)
{
	PyObject *said = PyObject_CallMethod(o, "_wbx", NULL);

	if (said != NULL && (!PyTuple_Check(said) || PyTuple_Size(said) != size)) {
		Py_DECREF(said);
		said = NULL;
	}
	PyErr_Clear();
	return said;
}

/* --- tables --- */

/* The count stands in the head of what was written at `at`. */
static uint32_t array_count(const struct buf *out, size_t at)
{
	const uint8_t *head = out->data + at;

	return (uint32_t)head[1] << 24 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 8 | head[4];
}

static int encode_cells(struct buf *out, struct pack *p, unsigned depth, PyObject *list,
			uint32_t *ret_count)
{
	struct encoder e = {.p = p, .out = out, .tables = TABLES_IN_CELL, .depth = depth};
	size_t at = out->len;
	int r = encode_iterable(&e, list);

	if (r == 0)
		*ret_count = array_count(out, at);
	return r;
}

static int put_apart(struct encoder *e, struct table_draft *d, const struct table_says *says)
{
	/* the value itself is put together in a map of its own and copied from there */
	struct wbx_map *value = wbx_list_new();
	struct wbx_map *map = e->map;
	int r = -ENOMEM;

	if (value == NULL)
		return r;
	Py_BEGIN_ALLOW_THREADS /* digest of megabytes */
		r = map_put_table(map, value, NULL, d, says);
	Py_END_ALLOW_THREADS if (r == 0) pack_raw(e->p, buf_span(&value->bytes));
	wbx_map_free(value);
	return r < 0 ? r : e->out->error;
}

static int draft_table(struct encoder *e, PyObject *said, struct table_draft *d)
{
	PyObject *types = PyTuple_GetItem(said, 2);
	bool has_types = PyDict_Check(types);
	struct encoder inner = {.p = &d->p, .out = &d->bytes, .tables = TABLES_IN_CELL};
	int r;

	table_draft_begin(d, has_types);
	r = encode_cells(&d->bytes, &d->p, e->depth, PyTuple_GetItem(said, 0), &d->columns);
	if (r == 0 && has_types) {
		pack_text(&d->p, "types");
		r = encode_object(&inner, types);
	}
	if (r < 0)
		return r;
	table_draft_rows(d);
	return encode_cells(&d->bytes, &d->p, e->depth, PyTuple_GetItem(said, 1), &d->rows);
}

static int encode_apart(struct encoder *e, PyObject *said)
{
	PyObject *increment = PyTuple_GetItem(said, 4);
	struct table_says says = {.log_mode = NULL};
	struct table_draft d;
	int r = draft_table(e, said, &d);

	if (PyUnicode_Check(PyTuple_GetItem(said, 3)))
		says.log_mode = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(said, 3), NULL);
	says.has_increment = PyLong_Check(increment);
	if (says.has_increment)
		says.increment = PyLong_AsUnsignedLongLong(increment);
	says.rows_in_all = PyLong_AsUnsignedLongLong(PyTuple_GetItem(said, 5));
	PyErr_Clear();
	if (r == 0)
		r = put_apart(e, &d, &says);
	table_draft_done(&d);
	return r;
}

static int encode_inline(struct encoder *e, PyObject *said)
{
	uint32_t count;
	int r;

	pack_map(e->p, 3);
	pack_pair_text(e->p, "_type", "table");
	pack_text(e->p, "columns");
	r = encode_cells(e->out, e->p, e->depth, PyTuple_GetItem(said, 0), &count);
	if (r < 0)
		return r;
	pack_text(e->p, "data");
	return encode_cells(e->out, e->p, e->depth, PyTuple_GetItem(said, 1), &count);
}

int encode_table(struct encoder *e, PyObject *o)
{
	PyObject *said = e->tables == TABLES_IN_CELL ? NULL : ask(o, 6);
	int r;

	if (said == NULL)
		r = encode_description(e, o);
	else if (e->tables == TABLES_INLINE)
		r = encode_inline(e, said);
	else
		r = encode_apart(e, said);
	Py_XDECREF(said);
	return r;
}

int encode_time_cell(struct encoder *e, int64_t ms, const char *text)
{
	struct wbx_map *value = wbx_list_new();
	int r = value == NULL ? -ENOMEM : wbx_put_time(value, NULL, ms, text);

	if (r == 0)
		pack_raw(e->p, buf_span(&value->bytes));
	else if (r == -EINVAL) /* its text is too long to be one */
		pack_text(e->p, text);
	wbx_map_free(value);
	return r == -ENOMEM ? r : e->out->error;
}

/* --- files --- */

/* A file is a map whose count is known when its pairs are: room for its head is left. */
static int encode_file_pairs(struct encoder *e, PyObject *dict, uint32_t more)
{
	size_t at = e->out->len;
	static const uint8_t room[TABLE_ARRAY_HEAD] = {0};
	uint32_t count = 0;
	int r;

	(void)buf_add(e->out, room, sizeof(room)); /* the buf remembers */
	e->depth++;
	r = encode_pairs(e, dict, &count);
	e->depth--;
	if (r < 0 || e->out->error != 0)
		return r < 0 ? r : e->out->error;
	table_array_head(e->out->data + at, count + more);
	e->out->data[at] = 0xdf; /* a map */
	return 0;
}

static int add_blob(struct encoder *e, struct span bytes, uint8_t ret_digest[DIGEST_BYTES])
{
	struct wbx_map *map = e->map;
	struct buf copy;
	int r;

	buf_init(&copy, (size_t)BLOB_MAX);
	Py_BEGIN_ALLOW_THREADS /* digest of megabytes */
		r = buf_add(&copy, bytes.at, bytes.len);
	if (r == 0)
		r = map_add_blob(map, &copy, NULL, ret_digest);
	Py_END_ALLOW_THREADS buf_done(&copy);
	return r;
}

static int encode_file(struct encoder *e, PyObject *dict, struct span bytes)
{
	uint8_t digest[DIGEST_BYTES];
	int r = encode_file_pairs(e, dict, e->tables == TABLES_IN_CELL ? 1 : 2);

	if (r < 0)
		return r;
	if (e->tables == TABLES_IN_CELL) {
		if (bytes.len > UINT32_MAX)
			return -EMSGSIZE;
		pack_pair_bin(e->p, "data", bytes);
		return e->out->error;
	}
	r = add_blob(e, bytes, digest);
	if (r < 0)
		return r;
	pack_pair_uint(e->p, "size", bytes.len);
	pack_pair_bin(e->p, "blob", (struct span){.at = digest, .len = DIGEST_BYTES});
	return e->out->error;
}

int encode_media(struct encoder *e, PyObject *o)
{
	PyObject *said = e->tables == TABLES_INLINE ? NULL : ask(o, 2);
	PyObject *dict = said == NULL ? NULL : PyTuple_GetItem(said, 0);
	PyObject *bytes = said == NULL ? NULL : PyTuple_GetItem(said, 1);
	char *at = NULL;
	Py_ssize_t len = 0;
	int r;

	if (bytes != NULL && bytes != Py_None && PyBytes_AsStringAndSize(bytes, &at, &len) < 0)
		bytes = NULL;
	PyErr_Clear();
	if (bytes == NULL || !PyDict_Check(dict))
		r = encode_description(e, o);
	else if (bytes == Py_None) /* a value made of others, or of plain ones */
		r = encode_object(e, dict);
	else
		r = encode_file(e, dict,
				(struct span){.at = (const uint8_t *)at, .len = (size_t)len});
	Py_XDECREF(said);
	return r;
}
